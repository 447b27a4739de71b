"""The ways of fitting: which start, which iteration, and how often, for one problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tenslora.decompose.als import Sweeps, alternate, linear_cores
from tenslora.decompose.contraction import Array
from tenslora.decompose.descent import descend, is_small
from tenslora.decompose.methods import eigenvectors, hooi, ring_svd
from tenslora.decompose.problem import Problem
from tenslora.decompose.shape import Shape, find_shape
from tenslora.decompose.starts import along_tree, decomposed, drawn
from tenslora.errors import FitError

__all__ = ["METHODS", "Best", "Settings", "attempt"]

#: Ways of fitting.
METHODS = ("auto", "svd", "hooi", "als", "gradient")

_EXACT = 1e-10  # below this nobody looks for a better start
_TREES = ("matrix", "tucker", "train", "tree")


@dataclass(frozen=True)
class Settings:
    """How hard to try.

    ``wanted`` is an error at which a fit is good enough, and ``patience`` what a sweep has to gain
    where there is no prospect of it: drawn numbers come first then, which come closer far from an
    exact decomposition. Other settings are those of :func:`tenslora.fit`.
    """

    method: str
    tolerance: float | None
    starts: int
    sweeps: int
    seed: int
    finish: bool = True
    wanted: float | None = None
    patience: float | None = None

    @property
    def goal(self) -> float:
        """The error at which no other start is tried."""
        given = [error for error in (self.tolerance, self.wanted) if error is not None]
        return max(given, default=_EXACT)


@dataclass
class Best:
    """The best of several attempts."""

    found: Sweeps | None = None
    method: str = ""

    def offer(self, method: str, found: Sweeps) -> None:
        """Keep it where it is better."""
        if self.found is None or found.error < self.found.error:
            self.found, self.method = found, method


def attempt(problem: Problem, settings: Settings) -> Best:
    """Run the method, start after start, until the goal is met."""
    best = Best()
    if not problem.shapes or problem.norm == 0.0:
        zeros = {name: np.zeros(shape) for name, shape in problem.shapes.items()}
        best.offer("zeros", Sweeps(zeros, problem.error(zeros), 0, True))
        return best
    for method, found in _RUNS[settings.method](problem, settings):
        best.offer(method, found)
        if best.found is not None and best.found.error <= settings.goal:
            break
    return best


Attempts = Iterator[tuple[str, Sweeps]]


def _auto(problem: Problem, settings: Settings) -> Attempts:
    shape = find_shape(problem.network, problem.fixed)
    if shape is None:
        run = _als if len(linear_cores(problem)) == len(problem.shapes) else _gradient
        yield from run(problem, settings)
    elif shape.kind in _TREES:
        yield from _along_tree(problem, shape, settings)
    else:
        for n in range(settings.starts) if settings.wanted is None else (1, 0):
            yield "als", _improve(problem, _start(problem, shape, settings.seed, n), settings)


def _along_tree(problem: Problem, shape: Shape, settings: Settings) -> Attempts:
    """The best cut of a matrix is known; other trees are improved from a start near the best."""
    if shape.kind == "tucker" and len(shape.nodes) > 2:
        yield from _hooi(problem, settings)
        return
    cores = along_tree(problem, shape)
    found = Sweeps(cores, problem.error(cores), 0, True)
    yield "svd", found
    if len(shape.nodes) > 2:
        gained = alternate(problem, cores, sweeps=settings.sweeps, gain=1e-4, goal=settings.goal)
        yield "svd and als", gained


def _start(problem: Problem, shape: Shape, seed: int, number: int) -> dict[str, Array]:
    """What the decomposition gives, then numbers that are drawn."""
    if number == 0:
        generator = np.random.Generator(np.random.Philox(key=seed))
        sizes = problem.sizes
        cores = decomposed(
            problem,
            shape,
            lambda tensor: (
                eigenvectors(shape, tensor, sizes, generator)
                if shape.kind == "cp"
                else ring_svd(shape, tensor, sizes)
            ),
        )
        if cores is not None:
            return cores
    return drawn(problem, seed, number)


def _improve(problem: Problem, cores: Mapping[str, Array], settings: Settings) -> Sweeps:
    """Sweep, and finish small problems by steps in all cores at once."""
    found = alternate(
        problem, cores, sweeps=settings.sweeps, gain=1e-5, goal=settings.goal,
        patience=settings.patience,
    )  # fmt: skip
    if settings.finish and found.error > settings.goal and is_small(problem):
        last = descend(problem, found.cores, steps=settings.sweeps, goal=settings.goal)
        if last.error < found.error:
            return Sweeps(last.cores, last.error, found.count + last.count, last.converged)
    return found


def _als(problem: Problem, settings: Settings) -> Attempts:
    if len(linear_cores(problem)) < len(problem.shapes):
        twice = set(problem.shapes) - set(linear_cores(problem))
        what = f"core {', '.join(sorted(twice))} stands twice in one term: W is not linear in it"
        raise FitError("E903", what, advice="Use method='gradient' or 'auto'.")
    for n in range(settings.starts):
        yield "als", _improve(problem, drawn(problem, settings.seed, n), settings)


def _gradient(problem: Problem, settings: Settings) -> Attempts:
    for n in range(settings.starts):
        start = drawn(problem, settings.seed, n)
        yield "gradient", descend(problem, start, steps=10 * settings.sweeps, goal=settings.goal)


def _svd(problem: Problem, settings: Settings) -> Attempts:
    shape = find_shape(problem.network, problem.fixed)
    if shape is None or shape.kind not in _TREES:
        what = f"the cores of {problem.network} are no tree of trained cores"
        raise FitError("E903", what, advice="Use method='auto' or 'als'.")
    cores = along_tree(problem, shape)
    yield "svd", Sweeps(cores, problem.error(cores), 0, True)


def _hooi(problem: Problem, settings: Settings) -> Attempts:
    shape = find_shape(problem.network, problem.fixed)
    if shape is None or shape.kind != "tucker":
        what = f"{problem.network} is no core with a factor for each of its bonds"
        raise FitError("E903", what, advice="Use method='auto' or 'als'.")
    sizes, sweeps = problem.sizes, settings.sweeps
    cores = decomposed(problem, shape, lambda tensor: hooi(shape, tensor, sizes, sweeps))
    assert cores is not None
    yield "hooi", Sweeps(cores, problem.error(cores), 0, True)


_RUNS: dict[str, Callable[[Problem, Settings], Attempts]] = {
    "auto": _auto,
    "svd": _svd,
    "hooi": _hooi,
    "als": _als,
    "gradient": _gradient,
}
