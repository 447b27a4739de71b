"""Before anything is timed: do all sides compute the same outputs and gradients?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.cases import Case
from benchmarks.sides import Side

__all__ = ["Difference", "check_equal", "results_of"]


class Difference(AssertionError):  # noqa: N818
    """Two sides that should be equal are not; nothing is timed."""


def results_of(case: Case, side: Side) -> dict[str, Tensor]:
    """Outputs and gradients of one step, by name."""
    case.clear(side.model)
    outputs = case.run(side.model)
    case.step(side.model)
    found = {f"output {n}": out.detach() for n, out in enumerate(outputs)}
    for name, value in case.inputs.items():
        if value.grad is not None:
            found[f"gradient of {name}"] = value.grad.clone()
    for key, cores in side.gradients().items():
        for core, grad in cores.items():
            found[f"gradient of {core} ({key})"] = grad.clone()
    case.clear(side.model)
    return found


def check_equal(case: Case, sides: Sequence[Side], tolerance: float) -> dict[str, float]:
    """Compare each side with the first.

    Parameters
    ----------
    case : what they run.
    sides : of one family, with the same values.
    tolerance : the largest relative difference in the 2-norm of an output or a gradient.

    Returns
    -------
    dict
        The largest difference of each side.

    Raises
    ------
    Difference
        Where one is larger, or a side lacks a gradient.
    """
    reference = results_of(case, sides[0])
    found = {}
    for side in sides[1:]:
        results = results_of(case, side)
        if results.keys() != reference.keys():
            raise Difference(
                f"{side.name} has {sorted(results)}, and {sides[0].name} {sorted(reference)}"
            )
        worst = 0.0
        for name, value in reference.items():
            difference = float(torch.linalg.vector_norm((results[name] - value).float()))
            difference /= max(float(torch.linalg.vector_norm(value.float())), 1e-30)
            if not difference <= tolerance:
                raise Difference(
                    f"{name} of {side.name} differs from {sides[0].name}'s by {difference:.1e} "
                    f"(allowed: {tolerance:.0e}), {case.name}"
                )
            worst = max(worst, difference)
        found[side.name] = worst
    return found
