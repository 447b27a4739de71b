"""One weight matrix that an adapter covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tenslora.nn.spans import Span, normal, text

__all__ = ["Label", "Site"]

#: A coordinate of a site: a layer's number, a projection's name, ...
Label = int | str


@dataclass(frozen=True)
class Site:
    """One weight matrix: a module of the model, or some of the rows and columns of one.

    Attributes
    ----------
    path : the module's name in ``model.named_modules()``.
    coords : the site's place, such as ``{"layer": 3, "proj": "q_proj"}``; kept as pairs. The names
        are the site indices of the equation.
    rows : the output features, where one module holds several matrices: ``(start, stop)``, or
        ``(start, stop, step, width)`` for blocks of ``width`` rows that begin at every ``step``-th
        row; ``None`` for all of them.
    out_features, in_features : the shape of the matrix, filled in from the module.
    transposed : whether the module keeps its weight as (in, out), as transformers' Conv1D does.
    columns : the input features, written as ``rows`` are.

    Examples
    --------
    >>> site = Site("h.3.attn.c_attn", {"layer": 3, "proj": "k"}, rows=(768, 1536))
    >>> str(site), site.coord("proj")
    ('h.3.attn.c_attn[768:1536]', 'k')

    Rows of the keys where each of 12 heads has its query, key and value together:

    >>> str(Site("layers.0.query_key_value", {}, rows=(64, 64 + 11 * 192 + 64, 192, 64)))
    'layers.0.query_key_value[64:2240:192/64]'

    The second of four blocks of a feed-forward matrix that reads 3072 features:

    >>> str(Site("layers.0.fc2", {}, columns=(768, 1536)))
    'layers.0.fc2[:, 768:1536]'
    """

    path: str
    coords: tuple[tuple[str, Label], ...] | Mapping[str, Label] = ()
    rows: Span | None = None
    out_features: int = 0
    in_features: int = 0
    transposed: bool = False
    columns: Span | None = None

    def __post_init__(self) -> None:
        pairs = self.coords.items() if isinstance(self.coords, Mapping) else self.coords
        object.__setattr__(self, "coords", tuple((str(name), label) for name, label in pairs))
        for name in ("rows", "columns"):
            span = getattr(self, name)
            if span is not None:
                object.__setattr__(self, name, normal(span))

    def coord(self, name: str) -> Label:
        """Return the label of the site index ``name`` (``KeyError`` where the site has none)."""
        return dict(self.coords)[name]

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return self.out_features, self.in_features

    def __str__(self) -> str:
        if self.columns is not None:
            return f"{self.path}[{text(self.rows)}, {text(self.columns)}]"
        return self.path if self.rows is None else f"{self.path}[{text(self.rows)}]"
