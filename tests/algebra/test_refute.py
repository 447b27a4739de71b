"""Counterexamples: none is seen where numbers do not tell, and none is looked for at any cost."""

from __future__ import annotations

import time

import numpy as np
import pytest

import tenslora as tl
from tenslora.algebra import Refutation, Undecided
from tenslora.family import limits_of
from tenslora.testing import dense

#: W = K X + L X with L = -K: 0 up to rounding, which has any rank.
CANCELS = tl.family(
    "W[layer out in] = K[out r] A[r s] B[s q] C[q layer in] + C[q layer in] L[out r] B[s q] A[r s]",
    init={"K": "normal(1)", "L": "-copy(K)"},
    frozen=("K", "L"),
    starts_nonzero=True,
)


@pytest.mark.parametrize(
    "general",
    [
        "W[layer out in] = b[out] a[layer in]",
        "W[layer out in] = b[out] a[in]",
        "W[layer out in] = b[out] a[in layer] + c[out layer] d[in]",
    ],
)
def test_what_rounding_leaves_of_a_sum_that_vanishes_is_no_counterexample(general):
    sizes = dict.fromkeys(CANCELS.network.indices, 3)
    cores = CANCELS.bind(sizes).arrays(seed=1)
    w = dense(CANCELS.network, cores, sizes)
    assert np.abs(w).max() < 1e-14
    assert isinstance(tl.embeds(CANCELS, general), Undecided)


def test_what_is_left_of_a_sum_may_be_told():
    """W = K X + 2 K X."""
    init = {"K": "normal(1)", "L": "copy(K)", "two": "const(2)"}
    tripled = tl.family(
        "W[out in] = K[out r] A[r in] + L[out r] two[r] A[r in]",
        init=init,
        frozen=tuple(init),
        starts_nonzero=True,
    )
    assert isinstance(tl.embeds(tripled, "W[out in] = b[out] a[in]"), Refutation)


def train(parts):
    """A matrix in tensor-train form, of as many pairs of an output and an input."""
    pairs = [f"o{n} i{n}" for n in range(parts)]
    bonds = ["", *(f"r{n}" for n in range(1, parts)), ""]
    cores = (f"G{n}[{bonds[n]} {pairs[n]} {bonds[n + 1]}]" for n in range(parts))
    outputs, inputs = (" ".join(f"{side}{n}" for n in range(parts)) for side in "oi")
    return f"W[({outputs}) ({inputs})] = {' '.join(cores)}"


BONDS = [f"a{n}" for n in range(16)]
STAR = f"W[out in] = G[{' '.join(BONDS)}] " + " ".join(
    f"U{n}[{bond} {'out' if n % 2 else 'in'}]" for n, bond in enumerate(BONDS)
)


EDGES = [(one, two) for two in range(10) for one in range(two)]
WHOLE = "W[out in] = " + " ".join(
    f"K{n}[{'out ' if n == 0 else 'in ' if n == 1 else ''}"
    f"{' '.join(f'e{one}{two}' for one, two in EDGES if n in (one, two))}]"
    for n in range(10)
)


@pytest.mark.parametrize("special", [train(8), STAR, WHOLE])
@pytest.mark.parametrize("general", ["W[out in] = b[out] a[in]", "the frozen"])
def test_networks_of_many_indices_take_no_time(special, general):
    """3 ** 16 entries, or singular values of a matrix of 6561 by 6561, were made before.

    Where each of ten cores has a bond with each other, so many are made on the way.
    """
    if general == "the frozen":
        general = tl.family(
            "W[out in] = U[out s] R[s r] V[r in]", frozen=("U", "V"), start="svd(U, V)",
            starts_nonzero=True,
        )  # fmt: skip
    start = time.process_time()
    assert not tl.embeds(special, general)
    assert time.process_time() - start < 10


def test_a_rank_that_weights_bound_is_another_at_larger_sizes(monkeypatch):
    """What a family cannot have at 9 by 3 it may have at 9 by 9, where it has nine vectors."""
    from tenslora.algebra import embed

    columns = iter([3, 3, 2, 3])

    def refute(special, general, **known):
        sizes = {**dict.fromkeys(special.indices, 3), "in": next(columns)}
        return Refutation(special, general, "parts", "at these sizes", sizes, 0)

    monkeypatch.setattr(embed, "refute_networks", refute)
    general = tl.family(
        "W[layer (o1 o2) in] = U[layer o1 o2 s] R[s r] V[layer r in]", frozen=("U", "V"),
        start="svd(U, V)", starts_nonzero=True,
    )  # fmt: skip
    special = "W[layer out in] = T[layer out in]"
    assert set(limits_of(general).words(general.network)) == {"s", "r"}
    assert isinstance(tl.embeds(special, general), Refutation)
    assert isinstance(tl.embeds(special, general), Undecided)


def test_more_indices_than_numpy_has_letters_for():
    count = 60
    ends = ["out", *(f"r{n}" for n in range(1, count)), "in"]
    cores = [f"A{n}[{ends[n]} {ends[n + 1]}]" for n in range(count)]
    proof = tl.embeds(f"W[out in] = {' '.join(cores)}", "W[out in] = T[out in]")
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    found = tl.lift({f"A{n}": turn for n in range(count)}, proof)["T"]
    np.testing.assert_allclose(found, np.linalg.matrix_power(turn, count), atol=1e-12)
    assert not tl.embeds(f"W[out in] = {' '.join(cores)}", "W[out in] = b[out] ones[in]")
