"""Laws 1 and 2: what is written is read back, and has one canonical form."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tenslora.errors import SizeError
from tenslora.family import Bound, Family
from tenslora.spec import (
    Core,
    Network,
    Slot,
    Term,
    complete_sizes,
    core_shape,
    from_json,
    parse,
    to_json,
)
from tenslora.testing.oracle import dense, numbers
from tenslora.testing.report import agree, equal, fail

__all__ = ["law_canonical", "law_text"]


def law_text(bound: Bound) -> None:
    """Law 1: what is written is read back, as text and as JSON, equation and family.

    Parameters
    ----------
    bound : a family with sizes.

    Examples
    --------
    >>> import tenslora as tl
    >>> lora = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
    >>> law_text(lora.bind({"out": 4, "in": 4}, r=2))
    """
    network, family = bound.network, bound.family
    equal("1", bound, "parse(str(n))", parse(str(network)), network)
    document = json.loads(json.dumps(to_json(network)))
    equal("1", bound, "the network's JSON, read back", from_json(document), network)
    document = json.loads(json.dumps(family.to_json()))
    equal("1", bound, "the family's JSON, read back", Family.from_json(document), family)
    sizes = complete_sizes(network, bound.sizes)
    equal("1", bound, "complete sizes, completed", sizes, dict(bound.sizes))


def law_canonical(bound: Bound, *, seed: int = 0) -> None:
    """Law 2: the canonical form is one for all ways to write an equation, and means the same.

    Bonds are renamed, and cores, terms and the slots of constants are put in another order, at
    random.

    Parameters
    ----------
    bound : a family with sizes.
    seed : of the other way to write it.

    Examples
    --------
    >>> import tenslora as tl
    >>> equation = "W[out in] = B[out r] A[r in] + C[out s] D[s in]"
    >>> two = tl.family(equation, init={"B": "zeros", "C": "zeros"})
    >>> law_canonical(two.bind({"out": 3, "in": 4}, r=2, s=1))  # nothing is said: it holds
    """
    network, cores = bound.network, numbers(bound.network, bound.sizes, seed)
    canonical = network.canonical()
    equal("2", bound, "the canonical form of the canonical form", canonical.canonical(), canonical)
    other, names = _rewritten(network, random.Random(seed))  # noqa: S311
    equal("2", bound, f"the canonical form of {other}", other.canonical(), canonical)
    sizes = {names.get(index, index): size for index, size in bound.sizes.items()}
    expected = dense(network, cores, bound.sizes)
    agree("2", bound, f"W of {other}", dense(other, cores, sizes), expected)
    for sizes in _sizings(canonical, bound):
        if np.array_equal(dense(canonical, cores, sizes), expected):
            return
    fail("2", bound, f"W of the canonical form {canonical} is another one")


def _rewritten(network: Network, chance: random.Random) -> tuple[Network, dict[str, str]]:
    """The same equation in another way, and the new names of the bonds."""
    fresh = [f"z{n}" for n in range(len(network.bonds))]
    chance.shuffle(fresh)
    names = dict(zip(network.bonds, fresh, strict=True))

    def slot(old: Slot) -> Slot:
        return tuple(names.get(index, index) for index in old)

    def core(old: Core) -> Core:
        slots = [slot(s) for s in old.slots]
        return Core(old.name, tuple(_shuffled(slots, chance) if old.is_constant else slots))

    terms = [Term(tuple(_shuffled(map(core, t.cores), chance))) for t in network.terms]
    return Network(network.target, tuple(_shuffled(terms, chance))), names


def _shuffled(values: Any, chance: random.Random) -> list[Any]:
    mixed = list(values)
    chance.shuffle(mixed)
    return mixed


def _sizings(canonical: Network, bound: Bound) -> Iterator[dict[str, int]]:
    """Every way to give the ranks to the renamed bonds so that the cores keep their shapes."""
    start = {index: bound.sizes[index] for index in canonical.target.indices}
    yield from _assign(canonical, bound, start, Counter(bound.ranks.values()))


def _assign(
    canonical: Network, bound: Bound, sizes: Mapping[str, int], left: Counter[int]
) -> Iterator[dict[str, int]]:
    if not _fits(canonical, bound, sizes):
        return
    bond = next((b for b in canonical.bonds if b not in sizes), None)
    if bond is None:
        yield {index: sizes[index] for index in canonical.indices}
        return
    for rank in left:
        if left[rank]:
            yield from _assign(canonical, bound, {**sizes, bond: rank}, left - Counter([rank]))


def _fits(canonical: Network, bound: Bound, sizes: Mapping[str, int]) -> bool:
    try:
        complete_sizes(canonical, sizes, ranks=False)
    except SizeError:
        return False
    known = [c for c in canonical.cores.values() if all(i in sizes for i in c.indices)]
    return all(core_shape(core, sizes) == bound.shapes[core.name] for core in known)
