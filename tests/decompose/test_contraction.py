"""Products of arrays with named axes, against numpy's sums over every index."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tenslora.decompose.contraction import contract

NAMES = tuple("abcdefg")


@pytest.mark.parametrize("seed", range(150))
def test_any_product_is_the_sum_over_every_index(seed):
    """Lengths of 1, indices on many arrays or on one, outer products and scalars among them."""
    generator = np.random.default_rng(seed)
    longest = 12 if seed % 5 == 0 else 4
    sizes = {name: int(generator.integers(1, longest)) for name in NAMES}
    operands = []
    for _ in range(generator.integers(1, 6)):
        held = tuple(generator.permutation(NAMES)[: generator.integers(0, 5)])
        operands.append((generator.standard_normal([sizes[i] for i in held]), held))
    every = generator.permutation(sorted({i for _, held in operands for i in held}))
    output = tuple(every[: generator.integers(0, len(every) + 1)])
    text = ",".join("".join(held) for _, held in operands) + "->" + "".join(output)
    expected = np.einsum(text, *(array for array, _ in operands))
    found = contract(operands, output, sizes)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_a_diagonal_and_an_index_that_nothing_carries():
    matrix = np.arange(9.0).reshape(3, 3)
    found = contract([(matrix, ("i", "i"))], ("i", "k"), {"k": 2})
    np.testing.assert_array_equal(found, np.repeat(np.diag(matrix)[:, None], 2, axis=1))


def test_no_array_with_every_index_is_written_where_matrices_do():
    """Scaled rows, frozen matrices of a large rank between them: VeRA. All indices: 260 MB."""
    generator, sizes = np.random.default_rng(0), {"l": 4, "o": 64, "r": 2000, "i": 64}
    held = ("lo", "or", "lr", "ri")
    operands = [(generator.standard_normal([sizes[i] for i in h]), tuple(h)) for h in held]
    tracemalloc.start()
    found = contract(operands, "loi", sizes)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30e6
    b, big, d, a = (array for array, _ in operands)
    for n in range(4):
        np.testing.assert_allclose(found[n], (b[n, :, None] * big * d[n]) @ a, rtol=1e-9)
