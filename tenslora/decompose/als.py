"""Alternating least squares, made from the equation: each core is linear given the others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tenslora.decompose.contraction import Array, Operand, contract
from tenslora.decompose.problem import Arrays, Problem

__all__ = ["Sweeps", "alternate", "linear_cores"]

#: Unknowns of one system that are solved directly, and numbers in all such systems of a core.
_LARGEST_MATRIX, _MOST_NUMBERS = 3000, 2**26
#: From here on a system is solved by Cholesky's decomposition where it is far from singular: where
#: the diagonal of the triangle falls by no more than this.
_LARGE, _WELL = 32, 1e-5
_FLOOR = 1e-14  # an error of rounding
_LITTLE = 1e-14  # a step of conjugate gradients that lowers the squared error by less is the last
_SETTLED = 3  # sweeps after which gains tell what is to come


@dataclass(frozen=True)
class Sweeps:
    """What an iteration found.

    Attributes
    ----------
    cores : the trained cores.
    error : their relative error.
    count : the number of sweeps.
    converged : whether it stopped because nothing was gained any more.
    least : what the error might have come to, had every sweep that was left gained as much as the
        last, where the iteration was left for lack of prospects.
    """

    cores: dict[str, Array]
    error: float
    count: int
    converged: bool
    least: float | None = None


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
    problem: Problem,
    cores: Arrays,
    *,
    sweeps: int,
    gain: float,
    goal: float = _FLOOR,
    patience: float | None = None,
) -> Sweeps:
    """Solve for one core after the other, until a sweep gains too little.

    Parameters
    ----------
    problem : what to fit.
    cores : where to begin.
    sweeps : how many at most.
    gain : stop where a sweep lowers the error by less than this part of it.
    goal : stop at this error.
    patience : leave a goal that is out of reach, where the last gain in every sweep that is left
        would not come to it, once a sweep lowers the error by less than this part of it.
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
        least = error - (before - error) * (sweeps - count)
        slow = patience is not None and before - error <= patience * before
        if slow and count >= _SETTLED and least > goal:
            return Sweeps(held, error, count, False, least)
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
    if len(places) == 1 and _is_direct(problem, *places[0]):
        return _direct(problem, cores, *places[0])
    return _iterate(problem, cores, name)


def _is_direct(problem: Problem, term: int, place: int) -> bool:
    """Whether the normal equations of a core are few and small enough to be solved."""
    factors = problem.terms[term]
    mine = factors[place].indices
    elsewhere = {i for n, factor in enumerate(factors) if n != place for i in factor.indices}
    unknowns = _count([i for i in mine if i not in problem.indices], problem.sizes)
    systems = _count([i for i in mine if i in problem.indices and i in elsewhere], problem.sizes)
    return unknowns <= _LARGEST_MATRIX and systems * unknowns**2 <= _MOST_NUMBERS


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
    if gram.shape[-1] >= _LARGE and _is_definite(gram):
        return np.asarray(np.linalg.solve(gram, right))
    values, vectors = np.linalg.eigh(gram)
    least = values[:, -1:] * gram.shape[-1] * np.finfo(np.float64).eps
    inverse = np.where(values > np.maximum(least, 0.0), 1.0, 0.0)
    inverse = np.divide(inverse, values, out=inverse, where=inverse > 0)
    turned = vectors.swapaxes(1, 2) @ right
    return np.asarray(vectors @ (inverse[:, :, None] * turned))


def _is_definite(gram: Array) -> bool:
    try:
        triangle = np.linalg.cholesky(gram)
    except np.linalg.LinAlgError:
        return False
    pivots = np.diagonal(triangle, axis1=-2, axis2=-1)
    return bool((pivots.min(axis=-1) > _WELL * pivots.max(axis=-1)).all())


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
        if step * size <= _LITTLE * float(np.vdot(residual, residual)):
            break
        slope = problem.gradient(cores, residual, [name])[name]
        new = float(np.vdot(slope, slope))
        direction, size = slope + (new / size) * direction, new
    return core
