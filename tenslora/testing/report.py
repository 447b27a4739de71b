"""How a law says that it does not hold: the equation, the sizes, and the first difference."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from tenslora.family import Bound

__all__ = ["agree", "equal", "fail"]


def fail(law: str, bound: Bound, what: str) -> NoReturn:
    """Raise ``AssertionError`` with everything that is needed to see the failure again."""
    sizes = " ".join(f"{name}={size}" for name, size in bound.sizes.items())
    name = f"{bound.family.name}: " if bound.family.name else ""
    raise AssertionError(f"law {law} does not hold: {what}\n  {name}{bound.network}\n  {sizes}")


def equal(law: str, bound: Bound, what: str, found: object, expected: object) -> None:
    """Compare two values that are no arrays."""
    if found != expected:
        fail(law, bound, f"{what}: {found!r} is not {expected!r}")


def agree(
    law: str, bound: Bound, what: str, found: Any, expected: Any, tolerance: Any = 0.0
) -> None:
    """Compare two arrays: their shapes, and each entry to within ``tolerance`` (broadcast)."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        fail(law, bound, f"{what}: shape {found.shape} is not {expected.shape}")
    wrong = ~(np.abs(found - expected) <= tolerance)  # NaN is wrong as well
    if wrong.any():
        at = tuple(int(n) for n in np.argwhere(wrong)[0])
        where = f"entry {at} is {found[at]}, not {expected[at]}"
        fail(law, bound, f"{what}: {where} ({wrong.sum()} of {wrong.size} entries differ)")
