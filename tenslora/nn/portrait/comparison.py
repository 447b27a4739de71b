"""Two adapters of the same weights, before and after."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tenslora.errors import DataError
from tenslora.nn.portrait.measured import Grid, Portrait, make_grid
from tenslora.nn.portrait.measures import norm
from tenslora.nn.portrait.values import Piece

if TYPE_CHECKING:
    from tenslora.figure import Picture

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """What :meth:`Portrait.compare` returns; ``print`` shows it in characters.

    Attributes
    ----------
    before, after : the portraits.
    norms_before, norms_after : of the weights that both cover.
    change : the norm of the difference over the norm before; infinite where that is zero.
    cosine : between the updates as vectors, NaN where one of them is zero.
    total : the change of all weights together.
    alone : how many weights one of the two covers alone.

    Examples
    --------
    >>> import torch, tenslora as tl
    >>> model = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(2)))
    >>> adapter = tl.attach(model, "lora", targets="all-linear", ranks=2)
    >>> with torch.no_grad():
    ...     _ = [core.fill_(1.0) for core in adapter.parameters()]
    >>> before = tl.portrait(adapter)
    >>> with torch.no_grad():
    ...     _ = [core.mul_(2.0) for core in adapter.parameters()]
    >>> found = tl.portrait(adapter).compare(before)  # both cores twice as large: W four times
    >>> round(found.total, 4), found.change.values.round(4).tolist()
    (3.0, [[3.0], [3.0]])
    >>> adapter.detach()
    """

    before: Portrait
    after: Portrait
    norms_before: Grid
    norms_after: Grid
    change: Grid
    cosine: Grid
    total: float
    alone: int

    def text(self) -> str:
        """Return the norms, the change and the spectra side by side."""
        from tenslora.nn.portrait.text import comparison_text

        return comparison_text(self)

    def plot(self, what: str = "comparison") -> Picture:
        """Draw it with matplotlib.

        Parameters
        ----------
        what : ``"comparison"``, the norms and the change; or ``"spectra"``, both in each panel.

        Raises
        ------
        DataError
            E710 where matplotlib is not installed, E716 for another picture.
        """
        from tenslora.nn.portrait.figures import draw_compared

        return draw_compared(self, what)

    def to_dict(self) -> dict[str, Any]:
        """Return every number as plain data."""
        grids = {"norms_before": self.norms_before, "norms_after": self.norms_after}
        grids |= {"change": self.change, "cosine": self.cosine}
        return {
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            **{name: grid.to_dict() for name, grid in grids.items()},
            "total_change": self.total if math.isfinite(self.total) else None,
            "weights_of_one": self.alone,
        }

    def __repr__(self) -> str:
        return self.text()


def compare(before: Portrait, after: Portrait) -> Comparison:
    """Measure what became of each weight; see :meth:`Portrait.compare`."""
    first, second = _pieces(before), _pieces(after)
    both = [key for key in second if key in first]
    fitting = [k for k in both if first[k].site.shape == second[k].site.shape]
    if not fitting:
        what = f"{before.label} and {after.label} have no weight of one name and shape in common"
        raise DataError("E716", what, advice="Compare adapters of the same model.")
    pairs = [(first[key], second[key]) for key in fitting]
    old, new = [norm(one) for one, _ in pairs], [norm(other) for _, other in pairs]
    apart = [one.factors.distance(other.factors) for one, other in pairs]
    inner = [float(((one.b.T @ other.b) * (one.a @ other.a.T)).sum()) for one, other in pairs]
    pieces = [other for _, other in pairs]

    def grid(values: list[float]) -> Grid:
        return make_grid(zip(pieces, values, strict=True))

    cosines = [_over(i, m * n, math.nan) for i, m, n in zip(inner, old, new, strict=True)]
    changes = [_over(d, m, math.inf if d else 0.0) for d, m in zip(apart, old, strict=True)]
    lost, had = float(np.linalg.norm(apart)), float(np.linalg.norm(old))
    return Comparison(
        before,
        after,
        grid(old),
        grid(new),
        grid(changes),
        grid(cosines),
        _over(lost, had, math.inf if lost else 0.0),
        len(first) + len(second) - 2 * len(fitting),
    )


def _over(part: float, whole: float, otherwise: float) -> float:
    return part / whole if whole else otherwise


def _pieces(portrait: Portrait) -> dict[tuple[object, ...], Piece]:
    return {piece.key: piece for stack in portrait.stacks for piece in stack.pieces}
