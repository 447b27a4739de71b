"""What :func:`fit` is given: checked, and turned into arrays and sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from tenslora.decompose.contraction import Array
from tenslora.errors import FitError
from tenslora.family import Bound
from tenslora.spec import Network, format_slot, is_count

__all__ = ["check_cores", "check_number", "check_target", "complete_from", "refuse_unfit"]


def check_target(target: ArrayLike, what: str = "the target") -> Array:
    """Return an array in float64.

    Raises
    ------
    FitError
        E902 where it holds no real, finite numbers.
    """
    try:
        array = np.asarray(target)
        real = array.dtype.kind in "fiub"
        array = array.astype(np.float64) if real else array
    except (TypeError, ValueError):
        array, real = np.empty(0), False
    if not real:
        advice = "Give an array of real numbers, (*sites, out, in)."
        raise FitError("E902", f"{what} is no array of real numbers", advice=advice)
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        first = tuple(int(n) for n in np.argwhere(~np.isfinite(array))[0])
        text = f"{what} has {bad} numbers that are not finite, the first at {first}"
        raise FitError("E902", text, advice="Find where training diverged; nothing was fitted.")
    return array


def complete_from(network: Network, target: Array, given: Mapping[str, int]) -> dict[str, int]:
    """Read the sizes of the target's indices off its shape.

    Raises
    ------
    FitError
        E901 for a number of axes, or a length, that does not fit the equation.
    """
    slots, indices = network.target.slots, network.target.indices
    if target.ndim == len(indices):
        slots = tuple((index,) for index in indices)
    elif target.ndim != len(slots):
        axes = " ".join(map(format_slot, network.target.slots))
        what = f"the target has {target.ndim} axes {target.shape}, and {network} has [{axes}]"
        raise FitError("E901", what, advice="Give one axis for each of them, or for each index.")
    sizes = {name: size for name, size in given.items() if name not in network.bonds}
    for slot, length in zip(slots, target.shape, strict=True):
        unknown = [i for i in slot if i not in sizes]
        part = math.prod(sizes[i] for i in slot if i in sizes and is_count(sizes[i]))
        if length == 0 or length % part or (not unknown and part != length):
            said = " ".join(f"{i}={sizes[i]}" for i in slot if i in sizes) or "nothing is empty"
            what = f"the axis {format_slot(slot)} of the target has length {length}, but {said}"
            raise FitError("E901", what, advice="Give the target and the sizes of one model.")
        if len(unknown) == 1:
            sizes[unknown[0]] = length // part
        elif unknown:
            what = f"{' and '.join(unknown)} are not known: together they are {length // part}"
            advice = f"Write sizes={{{unknown[0]!r}: ...}}."
            raise FitError("E901", what, advice=advice)
    return {**sizes, **{name: n for name, n in given.items() if name in network.bonds}}


def refuse_unfit(bound: Bound) -> None:
    """Refuse a family in which nothing can be chosen.

    Raises
    ------
    FitError
        E903 where every core is frozen or the scale is zero.
    """
    if bound.trainable_parameters == 0:
        what = f"{bound.family.label} has no trained core: nothing of it can be fitted"
        raise FitError("E903", what, advice="Leave a core out of frozen.")
    if bound.scale == 0.0:
        what = f"{bound.family.label} is multiplied by 0: every update is zero"
        raise FitError("E903", what, advice="Give another alpha or scale.")


def check_cores(bound: Bound, given: Mapping[str, ArrayLike], seed: int) -> dict[str, Array]:
    """Return the frozen cores: as given, or as the seed draws them.

    Raises
    ------
    FitError
        E903 for a core that is not frozen or of another shape.
    """
    frozen = bound.family.frozen
    for name in given:
        if name not in frozen:
            listed = ", ".join(sorted(frozen)) or "none"
            what = f"cores gives {name!r}, no frozen core of {bound.family.label}"
            raise FitError("E903", what, advice=f"The frozen cores are: {listed}.")
    fixed = {}
    for name in frozen:
        if name in given:
            array = check_target(given[name], f"core {name}")
            if array.shape != bound.shapes[name]:
                what = f"core {name} has shape {array.shape}, not {bound.shapes[name]}"
                raise FitError("E903", what, advice="One axis a slot, of the size of its index.")
            fixed[name] = array
    if len(fixed) < len(frozen):
        drawn = bound.arrays(seed)
        fixed.update({name: drawn[name] for name in frozen if name not in fixed})
    return fixed


def check_number(name: str, value: float | None, *, whole: bool = False, least: int = 1) -> None:
    """Refuse a setting that is out of range (E905); ``None`` is a tolerance that is not given."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if whole:
        good = number and isinstance(value, int) and value >= least
        advice = f"Give a whole number of at least {least}."
    else:
        good = value is None or (number and 0.0 < float(value) < math.inf)
        advice = "Give a positive number, such as 1e-3."
    if not good:
        raise FitError("E905", f"{name}={value!r} is out of range", advice=advice)
