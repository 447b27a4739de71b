"""``fit``: the cores of a family that come closest to given updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tenslora.decompose.als import Sweeps
from tenslora.decompose.apart import join, take_apart
from tenslora.decompose.attempts import METHODS, Best, Settings, attempt
from tenslora.decompose.checking import (
    check_cores,
    check_number,
    check_target,
    complete_from,
    refuse_unfit,
)
from tenslora.decompose.contraction import Array
from tenslora.decompose.problem import Problem, relative
from tenslora.decompose.reduction import Reduction, reduce
from tenslora.errors import FitError
from tenslora.family import Bound, Family, resolve

__all__ = ["Fit", "fit", "fit_until"]


@dataclass(frozen=True, repr=False)
class Fit:
    """What :func:`fit` returns.

    Attributes
    ----------
    bound : the family with every size and rank.
    cores : an array for each core, the frozen ones too, in float64, one axis a slot.
    error : the norm of what is missing over the norm of the target.
    errors : the same for each site, an array with an axis for each site index. A site whose target
        is zero has 0, or infinity where the fit is not zero there.
    method : what found it.
    sweeps : sweeps or steps of the iteration; 0 for a decomposition without one.
    converged : whether the iteration ended by itself.

    Examples
    --------
    >>> import numpy as np, tenslora as tl
    >>> rank_two = np.outer([3.0, 0, 0], [0, 1.0]) + np.outer([0, 0, 4.0], [1.0, 0])
    >>> found = tl.fit("W[out in] = B[out r] A[r in]", rank_two, {"r": 1})
    >>> found.method, round(float(found.error), 6), found.cores["A"].shape
    ('svd', 0.6, (1, 2))
    """

    bound: Bound
    cores: Mapping[str, Array]
    error: float
    errors: Array
    method: str
    sweeps: int = 0
    converged: bool = True

    @property
    def energy(self) -> float:
        """The part of the target's squared norm that is kept: 1 - error^2."""
        return 1.0 - self.error**2

    @property
    def parameters(self) -> int:
        """The trained parameters."""
        return self.bound.trainable_parameters

    def delta(self) -> Array:
        r"""Return scale * W, (\*sites, out, in)."""
        problem = _problem(self.bound, np.zeros(_target_shape(self.bound)), {})
        value = problem.value(self.cores) * self.bound.scale
        return value.reshape(_slots(self.bound))

    def to_dict(self) -> dict[str, Any]:
        """Return all but the arrays as plain data."""
        return {
            "equation": self.bound.family.equation,
            "sizes": dict(self.bound.sizes),
            "parameters": self.parameters,
            "error": self.error,
            "energy": self.energy,
            "errors": self.errors.tolist(),
            "method": self.method,
            "sweeps": self.sweeps,
            "converged": self.converged,
        }

    def __repr__(self) -> str:
        ranks = " ".join(f"{bond}={rank}" for bond, rank in self.bound.ranks.items()) or "no ranks"
        how = self.method + (f", {self.sweeps} sweeps" if self.sweeps else "")
        how += "" if self.converged else ", not converged"
        text = (
            f"<Fit of {self.bound.family.label}: {ranks}, {self.parameters:,} parameters, "
            f"relative error {self.error:.3g} ({how})"
        )
        if self.errors.ndim:
            text += f",\n of sites {self.errors.min():.3g} to {self.errors.max():.3g}"
        return text + ">"


def fit(
    family: Family | str,
    target: ArrayLike,
    ranks: int | Mapping[str, int] | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    params: int | None = None,
    like: Family | None = None,
    alpha: float | None = None,
    cores: Mapping[str, ArrayLike] | None = None,
    method: str = "auto",
    tolerance: float | None = None,
    starts: int = 4,
    sweeps: int = 100,
    seed: int = 0,
    finish: bool = True,
) -> Fit:
    r"""Find the cores of a family whose update comes closest to given updates.

    Parameters
    ----------
    family : the family, its name, or a family made of an equation.
    target : the updates, scale included: (\*sites, out, in), or with an axis for each index.
    ranks, params, like, alpha : as for ``bind``.
    sizes : sizes that the shape of the target does not tell: of the members of a group.
    cores : values for frozen cores; by default those that ``seed`` draws.
    method : ``auto``; ``svd``, nested singular value decompositions of cores that form a tree
        (TT-SVD, HOSVD, the SVD of each matrix); ``hooi``, for a core with factors around it;
        ``als``, alternating least squares from drawn starts; ``gradient``, all cores at once.
    tolerance : the relative error that is wanted; a worse fit is an error.
    starts : how many starts are tried where the best fit is not known to be found; the best counts.
    sweeps : sweeps of an iteration at most.
    seed : of the drawn starts, and of frozen cores.
    finish : whether small problems are finished by Gauss-Newton steps, each of which takes longer
        than a sweep.

    Returns
    -------
    Fit
        With ``auto`` the best of what the shape of the family offers: the SVD of each matrix for
        LoRA, HOOI for Tucker (tensorly), TT-SVD and then sweeps for trains and trees, TR-SVD
        (tensorly) and drawn starts for rings, eigenvectors of slices and drawn starts for CP; for
        every other equation alternating least squares, made from the equation. Small problems are
        finished by Gauss-Newton steps. A fit is never worse than its start.

    Raises
    ------
    FitError
        E901 for a target of another shape, E902 for one that is not finite, E903 for a family that
        cannot be fitted (in this way), E904 where ``tolerance`` is missed, E905 for a setting that
        is out of range.
    SizeError
        Ranks or sizes that do not fit.

    Examples
    --------
    >>> import numpy as np, tenslora as tl
    >>> a, b = np.random.default_rng(0).standard_normal((2, 3, 8, 2))  # three updates of rank 2
    >>> fit("lora", (a @ b.swapaxes(1, 2))[:, None], ranks=2).error < 1e-12
    True
    >>> tied = tl.family("W[layer out in] = B[out r] A[r in]", init={"B": "zeros"})
    >>> print(fit(tied, a @ b.swapaxes(1, 2), ranks=6))
    <Fit of W[layer out in] = B[out r] A[r in]: r=6, 96 parameters, relative error 0.826 (svd),
     of sites 0.78 to 0.908>
    """
    family = resolve(family)
    settings = _settings(method, tolerance, starts, sweeps, seed, finish)
    array = check_target(target)
    known = complete_from(family.network, array, sizes or {})
    bound = family.bind(known, ranks=ranks, params=params, like=like, alpha=alpha)
    return _fit(bound, array, check_cores(bound, cores or {}, seed), settings)


def fit_until(
    family: Family,
    target: Array,
    ranks: Mapping[str, int],
    energy: float,
    *,
    sizes: Mapping[str, int],
    sweeps: int,
    finish: bool,
    patience: float = 1.0,
) -> Fit:
    """Fit until a part of the energy is kept or there is no prospect of it.

    From one start; CP and rings from drawn numbers, then from what a decomposition gives.

    Parameters
    ----------
    family, target, ranks, sizes, sweeps, finish : as for :func:`fit`, checked.
    energy : the part of the squared norm.
    patience : the part of the error that a sweep has to gain where there is no prospect of it.
    """
    wanted = math.sqrt(1.0 - energy)
    settings = Settings("auto", None, 1, sweeps, 0, finish, wanted, patience)
    bound = family.bind(sizes, ranks=ranks)
    return _fit(bound, target, check_cores(bound, {}, 0), settings)


def _fit(bound: Bound, target: Array, fixed: Mapping[str, Array], settings: Settings) -> Fit:
    refuse_unfit(bound)
    problem = _problem(bound, target, fixed)
    return _judge(bound, problem, _solve(problem, settings), settings)


def _solve(problem: Problem, settings: Settings) -> Best:
    """Solve the parts, each in its smallest form, and put them together."""
    reductions = [reduce(part) for part in take_apart(problem)]
    solved = _attempts(reductions, settings)
    if settings.wanted is not None and len(solved) > 1:
        norms = [one.small.norm for one in reductions]
        if _is_open([one for one, _ in solved], norms, settings.wanted):
            solved = _attempts(reductions, replace(settings, wanted=None, patience=None))
    return _together(problem, reductions, solved)


def _attempts(reductions: Sequence[Reduction], settings: Settings) -> list[tuple[Sweeps, str]]:
    solved = []
    for one in reductions:
        best = attempt(one.small, settings)
        assert best.found is not None  # every method tries at least one start
        solved.append((best.found, best.method))
    return solved


def _is_open(found: Sequence[Sweeps], norms: Sequence[float], wanted: float) -> bool:
    """Whether parts miss an error that they might meet together: some stopped where it was met."""
    allowed = sum((wanted * norm) ** 2 for norm in norms)
    missing = [one.error * norm for one, norm in zip(found, norms, strict=True)]
    if sum(x**2 for x in missing) <= allowed:
        return False
    least = 0.0
    for one, norm in zip(found, norms, strict=True):
        if one.error > wanted:
            least += (norm * max(0.0, one.error if one.least is None else one.least)) ** 2
    return least <= allowed


def _together(
    problem: Problem, reductions: Sequence[Reduction], solved: Sequence[tuple[Sweeps, str]]
) -> Best:
    parts = [
        Best(replace(found, cores=one.back(found.cores)), method)
        for one, (found, method) in zip(reductions, solved, strict=True)
    ]
    found = [part.found for part in parts if part.found is not None]
    whole = Sweeps(
        {**join(problem, [one.cores for one in found]), **problem.fixed},
        max(one.error for one in found),
        max(one.count for one in found),
        all(one.converged for one in found),
    )
    return Best(whole, " or ".join(dict.fromkeys(part.method for part in parts)))


def _settings(
    method: str, tolerance: float | None, starts: int, sweeps: int, seed: int, finish: bool
) -> Settings:
    if method not in METHODS:
        what = f"method={method!r} is no way of fitting"
        raise FitError("E905", what, advice=f"The methods are {', '.join(METHODS)}.")
    check_number("tolerance", tolerance)
    for name, value in (("starts", starts), ("sweeps", sweeps)):
        check_number(name, value, whole=True)
    check_number("seed", seed, whole=True, least=0)
    return Settings(method, tolerance, starts, sweeps, seed, finish)


def _target_shape(bound: Bound) -> tuple[int, ...]:
    return tuple(bound.sizes[i] for i in bound.network.target.indices)


def _slots(bound: Bound) -> tuple[int, ...]:
    return tuple(math.prod(bound.sizes[i] for i in slot) for slot in bound.network.target.slots)


def _problem(bound: Bound, target: Array, fixed: Mapping[str, Array]) -> Problem:
    array = target.reshape(_target_shape(bound)) / bound.scale
    return Problem(bound.network, bound.sizes, array, fixed)


def _judge(bound: Bound, problem: Problem, best: Best, settings: Settings) -> Fit:
    """Measure the error on the whole target, and refuse what misses the tolerance."""
    assert best.found is not None
    cores = best.found.cores
    residual = problem.residual(cores)
    lead = len(bound.network.sites)
    axes = tuple(range(lead, residual.ndim))
    missing, norms = (np.sqrt((x**2).sum(axis=axes)) for x in (residual, problem.target))
    errors = np.array([relative(m, n) for m, n in zip(missing.flat, norms.flat, strict=True)])
    error = relative(float(np.linalg.norm(residual)), problem.norm)
    if settings.tolerance is not None and not error <= settings.tolerance:
        ranks = " ".join(f"{bond}={rank}" for bond, rank in bound.ranks.items())
        what = f"{bound.family.label} at {ranks or 'its sizes'} misses {settings.tolerance:g}: "
        what += f"the best relative error found is {error:.3g} ({best.method})"
        raise FitError("E904", what, advice="Raise the ranks, the starts or the tolerance.")
    ordered = {name: cores[name] for name in bound.network.cores}
    shape = tuple(bound.sizes[site] for site in bound.network.sites)
    return Fit(
        bound,
        ordered,
        error,
        errors.reshape(shape),
        best.method,
        best.found.count,
        best.found.converged,
    )
