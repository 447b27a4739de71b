"""Which side of a product is its rows: what is counted as copied is copied, and thin is wide."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

import tenslora as tl
from tenslora.plan import make_plan
from tenslora.plan.orient import copied


def _is_copied(have, groups, sizes):
    """Whether numpy has to copy to merge the axes of each group."""
    array = np.zeros([sizes[i] for i in have])
    order = [have.index(i) for group in groups for i in group]
    merged = [int(np.prod([sizes[i] for i in group], dtype=int)) for group in groups]
    return not np.shares_memory(array.transpose(order).reshape(merged), array)


@pytest.mark.parametrize("seed", range(60))
def test_what_is_counted_as_copied_is_copied(seed):
    draw = random.Random(seed)
    have = "".join(draw.sample("abcde", draw.randint(1, 5)))
    order = draw.sample(have, len(have))
    sizes = {i: draw.choice([1, 2, 3]) for i in have}
    cut = sorted(draw.sample(range(len(have) + 1), min(2, len(have))))
    groups = [order[a:b] for a, b in itertools.pairwise([0, *cut, len(have)])]
    mine = copied(have, groups, sizes) > 0
    if _is_copied(have, groups, sizes):
        assert mine
    elif mine:  # a view that a product of matrices copies: neither of its axes is the last
        last = [i for i in have if sizes[i] > 1][-1]
        assert all(last not in group[-1:] for group in _seen(groups, sizes)[-2:])


def _seen(groups, sizes):
    return [[i for i in group if sizes[i] > 1] for group in groups]


def test_rows_that_are_copied_whole_are_cheaper():
    sizes = dict(zip("abcd", (5, 6, 7, 8), strict=True))
    rows = copied("abcd", ["ba", "cd"], sizes)
    assert rows == 5 * 6 * 7 * 8
    assert rows < copied("abcd", ["ab", "dc"], sizes) < copied("abcd", ["dc", "ba"], sizes)


def _products(source):
    """The shapes (rows, columns) of the results of products, in the text of a program."""
    namespace = {"permute": lambda a, *axes: a.transpose(axes), "broadcast": None}
    found = []

    class Spy(np.ndarray):
        def __matmul__(self, other):
            result = np.matmul(self.view(np.ndarray), other.view(np.ndarray)).view(Spy)
            found.append(result.shape[-2:])
            return result

    exec(source, namespace)
    return found, namespace["factors"], Spy


@pytest.mark.parametrize("name", ["tenslora.att_qkv_depth", "tenslora.qkv_depth", "fact_tk"])
def test_few_projections_are_rows(name):
    """The large core meets three projections: three rows and not three columns."""
    network = tl.resolve(name).network
    known = {"layer": 1, "proj": 3, "site": 3, "in": 64, "out": 64, "head": 4, "head_dim": 16}
    sizes = {i: known.get(i, 8) for i in network.indices}
    plan = make_plan(network, sizes, shared=("proj",) if "proj" in sizes else ())
    found, factors, spy = _products(plan.source("factors"))
    cores = {
        core: np.ones([sizes[i] for i in spec.indices]).view(spy)
        for core, spec in network.cores.items()
    }
    factors(cores, cores["U"])
    assert found
    assert all(columns >= min(rows, 4) for rows, columns in found)


def test_layers_first_is_how_lotr_is_computed():
    """Its B comes out as (proj, layer, rank, out): only whole rows change places."""
    sizes = {"layer": 12, "proj": 3, "in": 64, "out": 64, "r": 4, "s": 4}
    source = make_plan(tl.resolve("lotr").network, sizes, shared=("proj",)).source("factors")
    assert "permute(p0, 1, 0, 2, 3).reshape(36, 4, 64)" in source
