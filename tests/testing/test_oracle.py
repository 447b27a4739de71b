"""The dense truth is checked against one einsum of numpy, and against formulas written by hand."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given

from tenslora.spec import core_shape, parse
from tenslora.testing import dense, gradient, numbers, sized_networks


def literal(network, cores, sizes):
    """One call of numpy.einsum a term, by letters."""
    letters = dict(zip(network.indices, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ", strict=False))
    total = 0
    for term in network.terms:
        operands, inputs = [], []
        for core in term.cores:
            shape = core_shape(core, sizes)
            if core.name == "ones":
                array = np.ones(shape)
            elif core.name == "eye":
                array = np.zeros(shape)
                for n in range(shape[0]):
                    array[(n,) * len(shape)] = 1
            else:
                array = cores[core.name]
            operands.append(array.reshape([sizes[i] for i in core.indices]))
            inputs.append("".join(letters[i] for i in core.indices))
        absent = [i for i in network.target.indices if i not in term.indices]
        operands.append(np.ones([sizes[i] for i in absent]))
        inputs.append("".join(letters[i] for i in absent))
        output = "".join(letters[i] for i in network.target.indices)
        total = total + np.einsum(",".join(inputs) + "->" + output, *operands)
    return total.reshape(core_shape(network.target, sizes))


@given(sized_networks(max_size=3, max_cores=4))
def test_dense_is_one_einsum_a_term(sized):
    network, sizes = sized
    assume(math.prod(sizes.values()) < 10**6)  # one einsum without an order takes them all at once
    cores = numbers(network, sizes)
    assert np.array_equal(dense(network, cores, sizes), literal(network, cores, sizes))


def test_tenslora_by_hand():
    n = parse(
        "W[layer proj (head head_dim) in] = "
        "U[in a] V[head_dim b] H[head c] P[proj d] D[layer e] G[a b c d e]"
    )
    sizes = dict(layer=2, proj=3, head=2, head_dim=3, a=2, b=3, c=2, d=2, e=1, **{"in": 4})
    core = numbers(n, sizes)
    w = dense(n, core, sizes)
    assert w.shape == (2, 3, 6, 4)
    for layer, proj, h, k, i in np.ndindex(2, 3, 2, 3, 4):
        expected = sum(
            core["U"][i, a] * core["V"][k, b] * core["H"][h, c] * core["P"][proj, d]
            * core["D"][layer, e] * core["G"][a, b, c, d, e]
            for a, b, c, d, e in np.ndindex(2, 3, 2, 2, 1)
        )  # fmt: skip
        assert w[layer, proj, h * 3 + k, i] == expected  # the head varies slowest


def test_more_indices_than_numpy_has_labels():
    count = 60
    bonds = [f"r{n}" for n in range(count)]
    middle = " ".join(f"M{n}[{bonds[n]} {bonds[n + 1]}]" for n in range(count - 1))
    n = parse(f"W[out in] = B[out r0] {middle} A[r{count - 1} in]")
    sizes = {"out": 2, "in": 2, **dict.fromkeys(bonds, 2)}
    cores = {name: np.array([[1, 1], [0, 1]], dtype=object) for name in n.cores}
    assert dense(n, cores, sizes).tolist() == [[1, len(n.cores)], [0, 1]]


def test_exact_and_complex_numbers():
    n, sizes = parse("W[out in] = B[out r] A[r in]"), {"out": 1, "in": 1, "r": 2}
    thirds = np.array([[Fraction(1, 3), Fraction(2, 3)]], dtype=object)
    assert dense(n, {"B": thirds, "A": thirds.T}, sizes)[0, 0] == Fraction(5, 9)
    i = np.array([[1j, 2]])
    assert dense(n, {"B": i, "A": i.T}, sizes)[0, 0] == 3


@given(sized_networks(max_size=3))
def test_gradient_is_the_slope_of_dense(sized):
    network, sizes = sized
    cores, steps = numbers(network, sizes, 1), numbers(network, sizes, 2)
    shape = core_shape(network.target, sizes)
    weights = np.random.default_rng(3).integers(-3, 4, shape)
    slopes = gradient(network, cores, sizes, weights)
    assert list(slopes) == list(network.cores)
    for name, step in steps.items():
        assert slopes[name].shape == cores[name].shape
        moved = {**cores, name: cores[name] + 1e-20j * step}
        found = (dense(network, moved, sizes) * weights).sum().imag / 1e-20
        assert found == pytest.approx((slopes[name] * step).sum(), rel=1e-12, abs=1e-9)


def test_numbers_are_small_whole_and_never_zero():
    n = parse("W[out in] = B[out r] A[r in]")
    cores = numbers(n, {"out": 50, "in": 50, "r": 3}, seed=4)
    for array in cores.values():
        assert array.dtype == np.float64
        assert set(np.unique(array)) == {-2.0, -1.0, 1.0, 2.0}
    assert np.array_equal(numbers(n, {"out": 50, "in": 50, "r": 3}, seed=4)["A"], cores["A"])


def test_the_oracle_knows_nothing_of_plans():
    source = Path(sys.modules["tenslora.testing.oracle"].__file__).read_text(encoding="utf-8")
    imports = [line for line in source.splitlines() if line.startswith(("import", "from"))]
    assert not [line for line in imports if "plan" in line or "backends" in line]
