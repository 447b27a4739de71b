"""What an equation means, written out: numpy's einsum, core by core, and the product rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tenslora.spec import Core, Network, Term, core_shape

__all__ = ["dense", "gradient", "numbers"]

#: An array of numpy, of any dtype.
Array = np.ndarray[Any, np.dtype[Any]]
_Operand = tuple[Array, tuple[str, ...]]


def dense(network: Network, cores: Mapping[str, Any], sizes: Mapping[str, int]) -> Array:
    r"""Make W by the definition: for each term the sum over bonds of the product of its cores.

    It shares no code with :mod:`tenslora.plan` and :mod:`tenslora.backends`, and takes the cores in
    the order in which they are written.

    Parameters
    ----------
    network : the equation.
    cores : an array for each core, one axis a slot, of any numpy dtype (``object`` for exact
        numbers, ``complex`` for derivatives by a complex step).
    sizes : the size of every index.

    Returns
    -------
    numpy.ndarray
        One axis a slot of the target: (\*sites, out, in).

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = B[out r] A[r in]")
    >>> sizes = {"layer": 2, "out": 2, "in": 3, "r": 1}
    >>> dense(n, {"B": np.array([[1], [2]]), "A": np.array([[3, 4, 5]])}, sizes).tolist()
    [[[3, 4, 5], [6, 8, 10]], [[3, 4, 5], [6, 8, 10]]]
    """
    target = network.target.indices
    total: Any = 0
    for term in network.terms:
        total = total + _einsum(_operands(term, cores, sizes, target), target, sizes)
    return np.asarray(total).reshape(core_shape(network.target, sizes))


def gradient(
    network: Network, cores: Mapping[str, Any], sizes: Mapping[str, int], weights: Any
) -> dict[str, Array]:
    r"""Differentiate ``sum(weights * W)`` with respect to every core, by the product rule.

    Parameters
    ----------
    network, cores, sizes : as for :func:`dense`.
    weights : an array of the shape of W.

    Returns
    -------
    dict
        For each core an array of its shape: the sum, over the places where the core stands, of the
        product of everything else in that term.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n, sizes = parse("W[out in] = B[out] A[in]"), {"out": 2, "in": 2}
    >>> cores = {"B": np.array([1, 2]), "A": np.array([3, 4])}
    >>> {k: g.tolist() for k, g in gradient(n, cores, sizes, np.array([[1, 0], [0, 1]])).items()}
    {'B': [3, 4], 'A': [1, 2]}
    """
    target = network.target.indices
    seed = (np.asarray(weights).reshape([sizes[i] for i in target]), target)
    found: dict[str, Any] = dict.fromkeys(network.cores, 0)
    for term in network.terms:
        operands = _operands(term, cores, sizes, target)
        for at, core in enumerate(term.cores):
            if core.is_constant:
                continue
            others = [seed, *operands[:at], *operands[at + 1 :]]
            partial = _einsum(others, core.indices, sizes)
            found[core.name] = found[core.name] + partial.reshape(core_shape(core, sizes))
    return found


def numbers(
    network: Network, sizes: Mapping[str, int], seed: int = 0
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Draw small whole numbers, none of them zero, for every core, in float64.

    Sums and products of them are exact in any order, so that two ways of contracting can be
    compared with ``==``.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> numbers(parse("W[out in] = A[out in]"), {"out": 2, "in": 3}, seed=1)["A"]
    array([[-1.,  1.,  2.],
           [ 2., -2., -2.]])
    """
    generator = np.random.default_rng(seed)
    pool = np.array([-2.0, -1.0, 1.0, 2.0])
    return {
        name: pool[generator.integers(len(pool), size=core_shape(core, sizes))]
        for name, core in network.cores.items()
    }


def _operands(
    term: Term, cores: Mapping[str, Any], sizes: Mapping[str, int], target: Sequence[str]
) -> list[_Operand]:
    """The arrays of a term with an axis an index, and ones for target indices on no core."""
    found: list[_Operand] = []
    for core in term.cores:
        array = _constant(core, sizes) if core.is_constant else np.asarray(cores[core.name])
        found.append((array.reshape([sizes[i] for i in core.indices]), core.indices))
    tied = tuple(i for i in target if i not in term.indices)
    return [*found, (np.ones([sizes[i] for i in tied], dtype=int), tied)]


def _constant(core: Core, sizes: Mapping[str, int]) -> Array:
    shape = core_shape(core, sizes)
    if core.name == "ones":
        return np.ones(shape, dtype=int)
    return np.prod([np.indices(shape)[0] == axis for axis in np.indices(shape)], axis=0)


def _einsum(operands: Sequence[_Operand], output: Sequence[str], sizes: Mapping[str, int]) -> Array:
    """Multiply one operand after the other; sum an index after the last operand that has it.

    numpy knows 52 labels; each step numbers its own, so that an equation may have more indices.
    """
    value, held = np.ones((), dtype=int), tuple[str, ...]()
    for n, (array, indices) in enumerate(operands):
        label = {index: k for k, index in enumerate(dict.fromkeys((*held, *indices)))}
        later = {*output, *(i for _, others in operands[n + 1 :] for i in others)}
        kept = tuple(index for index in label if index in later)
        arguments = value, [label[i] for i in held], array, [label[i] for i in indices]
        value, held = np.einsum(*arguments, [label[i] for i in kept]), kept
    assert set(held) == set(output)  # a gradient's core has no index of its own
    result: Array = value.transpose([held.index(i) for i in output])
    assert result.size == math.prod(sizes[i] for i in output)
    return result
