"""Alternating least squares, made from the equation: each core is linear given the others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tenslora.decompose.problem import Array, Arrays, Operand, Problem, contract

__all__ = ["Sweeps", "alternate", "linear_cores"]

_LARGEST_MATRIX = 1200  # unknowns of one system that are solved directly
_FLOOR = 1e-14  # an error of rounding


@dataclass(frozen=True)
class Sweeps:
    """What an iteration found.

    Attributes
    ----------
    cores : the trained cores.
    error : their relative error.
    count : the number of sweeps.
    converged : whether it stopped because nothing was gained any more.
    """

    cores: dict[str, Array]
    error: float
    count: int
    converged: bool


def linear_cores(problem: Problem) -> tuple[str, ...]:
    """The trained cores that stand at most once in every term: W is linear in each of them."""
    twice = {
        name
        for factors in problem.terms
        for name, n in Counter(f.name for f in factors).items()
        if n > 1
    }
    return tuple(name for name in problem.shapes if name not in twice)


def alternate(
    problem: Problem, cores: Arrays, *, sweeps: int, gain: float, goal: float = _FLOOR
) -> Sweeps:
    """Solve for one core after the other, until a sweep gains too little.

    Parameters
    ----------
    problem : what to fit.
    cores : where to begin.
    sweeps : how many at most.
    gain : stop where a sweep lowers the error by less than this part of it.
    goal : stop at this error.
    """
    held = dict(cores)
    names = linear_cores(problem)
    before = problem.error(held)
    for count in range(1, sweeps + 1):
        for name in names:
            held[name] = solve(problem, held, name)
        error = problem.error(held)
        if error <= max(goal, _FLOOR) or before - error <= gain * before:
            return Sweeps(held, error, count, True)
        before = error
    return Sweeps(held, before, sweeps, False)


def solve(problem: Problem, cores: Arrays, name: str) -> Array:
    """Return the core that fits best while the others stay."""
    places = [
        (t, n)
        for t, factors in enumerate(problem.terms)
        for n, factor in enumerate(factors)
        if factor.name == name
    ]
    if not places:
        return np.asarray(cores[name])
    if len(places) == 1 and _unknowns(problem, *places[0]) <= _LARGEST_MATRIX:
        return _direct(problem, cores, *places[0])
    return _iterate(problem, cores, name)


def _unknowns(problem: Problem, term: int, place: int) -> int:
    factor = problem.terms[term][place]
    return math.prod(problem.sizes[i] for i in factor.indices if i not in problem.indices)


def _direct(problem: Problem, cores: Arrays, term: int, place: int) -> Array:
    """Solve the normal equations: one small matrix for each value of the shared target indices."""
    factor, sizes = problem.terms[term][place], problem.sizes
    others = problem.operands(term, cores, place)
    elsewhere = {i for _, indices in others for i in indices}
    alone = [i for i in factor.indices if i in problem.indices and i not in elsewhere]
    shared = [i for i in factor.indices if i in problem.indices and i in elsewhere]
    bonds = [i for i in factor.indices if i not in problem.indices]
    target = problem.target
    for t in range(len(problem.terms)):
        if t != term:
            target = target - contract(problem.operands(t, cores), problem.indices, sizes)
    right = contract([(target, problem.indices), *others], [*shared, *bonds, *alone], sizes)
    gram = _gram(problem, others, shared, bonds)
    gram = gram * _repeats(problem, factor.indices, elsewhere)
    batch, unknown = _count(shared, sizes), _count(bonds, sizes)
    found = _solve(gram.reshape(batch, unknown, unknown), right.reshape(batch, unknown, -1))
    order = [*shared, *bonds, *alone]
    array = found.reshape([sizes[i] for i in order])
    array = array.transpose([order.index(i) for i in factor.indices])
    return array.reshape(problem.shapes[factor.name])


def _gram(
    problem: Problem, others: Sequence[Operand], shared: Sequence[str], bonds: Sequence[str]
) -> Array:
    """Multiply what surrounds a core with itself, summed over the rest of the target."""
    known = set(problem.indices)
    twin = [
        (array, tuple(i if i in known else f"{i}'" for i in indices)) for array, indices in others
    ]
    output = [*shared, *bonds, *(f"{i}'" for i in bonds)]
    sizes = {**problem.sizes, **{f"{i}'": problem.sizes[i] for i in bonds}}
    return contract([*others, *twin], output, sizes)


def _repeats(problem: Problem, mine: Sequence[str], elsewhere: set[str]) -> int:
    """How often one value of W stands in the target: over the sites that no core carries."""
    return _count(set(problem.indices) - elsewhere - set(mine), problem.sizes)


def _count(indices: Collection[str], sizes: Mapping[str, int]) -> int:
    return math.prod(sizes[i] for i in indices)


def _solve(gram: Array, right: Array) -> Array:
    """Solve symmetric systems; directions that nothing depends on get zero."""
    values, vectors = np.linalg.eigh(gram)
    least = values[:, -1:] * gram.shape[-1] * np.finfo(np.float64).eps
    inverse = np.where(values > np.maximum(least, 0.0), 1.0, 0.0)
    inverse = np.divide(inverse, values, out=inverse, where=inverse > 0)
    turned = vectors.swapaxes(1, 2) @ right
    return np.asarray(vectors @ (inverse[:, :, None] * turned))


def _iterate(problem: Problem, cores: Arrays, name: str, steps: int = 50) -> Array:
    """Improve a core by conjugate gradients on the least squares problem (CGLS)."""
    core = np.array(cores[name])
    rest = {**cores, name: np.zeros_like(core)}
    constant = problem.value(rest)  # what does not depend on the core
    residual = problem.residual({**cores, name: core})
    slope = problem.gradient(cores, residual, [name])[name]
    direction, size = slope, float(np.vdot(slope, slope))
    first = size
    for _ in range(steps):
        if size <= 1e-28 * max(first, 1e-300):
            break
        image = problem.value({**cores, name: direction}) - constant
        length = float(np.vdot(image, image))
        if length <= 0.0:
            break
        step = size / length
        core = core + step * direction
        residual = residual - step * image
        slope = problem.gradient(cores, residual, [name])[name]
        new = float(np.vdot(slope, slope))
        direction, size = slope + (new / size) * direction, new
    return core
