"""All cores at once: damped Gauss-Newton where it is small, else a quasi-Newton descent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tenslora.decompose.als import Sweeps
from tenslora.decompose.contraction import Array, contract
from tenslora.decompose.problem import Arrays, Problem

__all__ = ["descend", "is_small"]

_MOST_UNKNOWNS, _MOST_NUMBERS = 1200, 4_000_000


def is_small(problem: Problem) -> bool:
    """Whether the matrix of all derivatives is small enough to be held and solved."""
    unknowns = sum(int(np.prod(shape)) for shape in problem.shapes.values())
    return unknowns <= _MOST_UNKNOWNS and unknowns * problem.target.size <= _MOST_NUMBERS


def descend(problem: Problem, cores: Arrays, *, steps: int, goal: float = 1e-14) -> Sweeps:
    """Lower the squared error from a start: by Levenberg and Marquardt's steps, or by L-BFGS."""
    if is_small(problem):
        return _gauss_newton(problem, cores, steps, goal)
    return _quasi_newton(problem, cores, steps)


def _gauss_newton(problem: Problem, cores: Arrays, steps: int, goal: float) -> Sweeps:
    names = list(problem.shapes)
    held = {name: np.array(cores[name]) for name in names}
    residual = problem.residual(held)
    cost, norm = float(np.vdot(residual, residual)), max(problem.norm, 1e-300)
    damping, count = 1e-3, 0
    for count in range(1, steps + 1):
        if cost <= (goal * norm) ** 2:
            break
        slopes = jacobian(problem, held, names)
        gram, right = slopes.T @ slopes, slopes.T @ residual.reshape(-1)
        scale = max(float(gram.trace()) / len(gram), 1e-300)
        for _ in range(12):
            step = _damped(gram, damping * scale, right)
            if step is not None:
                trial = _moved(held, names, step)
                residual_there = problem.residual(trial)
                new = float(np.vdot(residual_there, residual_there))
                if new < cost:
                    break
            damping *= 4.0
        else:
            return Sweeps(held, np.sqrt(cost) / norm, count, True)
        gained = (cost - new) / cost
        held, residual, cost, damping = trial, residual_there, new, max(damping / 8.0, 1e-15)
        if gained < 1e-9:
            return Sweeps(held, np.sqrt(cost) / norm, count, True)
    return Sweeps(held, np.sqrt(cost) / norm, count, cost <= (goal * norm) ** 2)


def _damped(gram: Array, damping: float, right: Array) -> Array | None:
    """Solve the damped equations; ``None`` where the damping is lost in rounding."""
    try:
        return np.asarray(np.linalg.solve(gram + damping * np.eye(len(gram)), right))
    except np.linalg.LinAlgError:
        return None


def _moved(cores: Arrays, names: Sequence[str], step: Array) -> dict[str, Array]:
    moved, start = {}, 0
    for name in names:
        size = cores[name].size
        moved[name] = cores[name] + step[start : start + size].reshape(cores[name].shape)
        start += size
    return moved


def jacobian(problem: Problem, cores: Arrays, names: Sequence[str]) -> Array:
    """The derivative of every entry of W with respect to every number of the cores."""
    columns = []
    for name in names:
        block = np.zeros((problem.target.size, cores[name].size))
        for t, factors in enumerate(problem.terms):
            for n, factor in enumerate(factors):
                if factor.name == name:
                    block += _slope(problem, cores, t, n)
        columns.append(block)
    return np.concatenate(columns, axis=1)


def _slope(problem: Problem, cores: Arrays, term: int, place: int) -> Array:
    """The derivative with respect to a factor: a target index of it becomes a pair that agrees."""
    sizes = problem.sizes
    operands = problem.operands(term, cores, place)
    mine = problem.terms[term][place].indices
    held = {i for _, indices in operands for i in indices}
    output: list[str] = [*problem.indices]
    for index in mine:
        if index in problem.indices:
            operands.append((np.eye(sizes[index]), (index, f"{index}'")))
            output.append(f"{index}'")
        else:
            if index not in held:  # a bond of a lone core: summed
                operands.append((np.ones(sizes[index]), (index,)))
            output.append(index)
    full = contract(operands, output, sizes)
    return full.reshape(problem.target.size, -1)


def _quasi_newton(problem: Problem, cores: Arrays, steps: int) -> Sweeps:
    from scipy.optimize import minimize

    names = list(problem.shapes)
    weight = 1.0 / max(problem.norm, 1e-300) ** 2

    def pack(arrays: Arrays) -> Array:
        return np.concatenate([arrays[name].reshape(-1) for name in names])

    def unpack(flat: Array) -> dict[str, Array]:
        zero = {name: np.zeros(problem.shapes[name]) for name in names}
        return _moved(zero, names, flat)

    def measure(flat: Array) -> tuple[float, Array]:
        held = unpack(flat)
        residual = problem.residual(held)
        slope = problem.gradient(held, residual, names)
        return weight * float(np.vdot(residual, residual)), -2.0 * weight * pack(slope)

    options = {"maxiter": steps, "maxcor": 20, "ftol": 1e-16, "gtol": 1e-14}
    found = minimize(measure, pack(cores), jac=True, method="L-BFGS-B", options=options)
    held = unpack(np.asarray(found.x, dtype=np.float64))
    return Sweeps(held, problem.error(held), int(found.nit), bool(found.success))
