"""What a picture says beyond the equation: which cores are frozen, and which start at zero."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tenslora.draw.scene import Box
from tenslora.spec import Core

__all__ = ["Style"]


@dataclass(frozen=True)
class Style:
    """Names of the cores that are drawn in another way than the trained ones.

    Attributes
    ----------
    frozen : drawn from a seed and not trained.
    zero : zero at the start.
    """

    frozen: Collection[str] = ()
    zero: Collection[str] = ()

    def box(self, core: Core, x: int, y: int, half_width: int, half_height: int) -> Box:
        """Return the box of a core."""
        kind = "constant" if core.is_constant else "trained"
        zero = not core.is_constant and core.name in self.zero
        if kind == "trained" and core.name in self.frozen:
            kind = "frozen"
        told = ", zero at the start" if zero else ""
        return Box(core.name, x, y, half_width, half_height, kind, zero, f"{core}: {kind}{told}")
