"""Which weight matrices an adapter covers: the site map and how it is read from a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from torch import nn

from tenslora.errors import AttachError
from tenslora.nn.targets import Linear, Pattern, find_linears, parse_targets

__all__ = ["Label", "Site", "find_sites", "resolve_sites"]

#: A coordinate of a site: a layer's number, a projection's name, ...
Label = int | str


@dataclass(frozen=True)
class Site:
    """One weight matrix: a module of the model, or some of the rows of one.

    Attributes
    ----------
    path : the module's name in ``model.named_modules()``.
    coords : the site's place, such as ``{"layer": 3, "proj": "q_proj"}``; kept as pairs. The names
        are the site indices of the equation.
    rows : the half-open range of output features, where one module holds several matrices; ``None``
        for all of them.
    out_features, in_features : the shape of the matrix, filled in from the module.
    transposed : whether the module keeps its weight as (in, out), as transformers' Conv1D does.

    Examples
    --------
    >>> site = Site("h.3.attn.c_attn", {"layer": 3, "proj": "k"}, rows=(768, 1536))
    >>> str(site), site.coord("proj")
    ('h.3.attn.c_attn[768:1536]', 'k')
    """

    path: str
    coords: tuple[tuple[str, Label], ...] | Mapping[str, Label] = ()
    rows: tuple[int, int] | None = None
    out_features: int = 0
    in_features: int = 0
    transposed: bool = False

    def __post_init__(self) -> None:
        pairs = self.coords.items() if isinstance(self.coords, Mapping) else self.coords
        object.__setattr__(self, "coords", tuple((str(name), label) for name, label in pairs))
        if self.rows is not None:
            object.__setattr__(self, "rows", tuple(self.rows))

    def coord(self, name: str) -> Label:
        """Return the label of the site index ``name`` (``KeyError`` where the site has none)."""
        return dict(self.coords)[name]

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return self.out_features, self.in_features

    def __str__(self) -> str:
        return self.path if self.rows is None else f"{self.path}[{self.rows[0]}:{self.rows[1]}]"


@dataclass(frozen=True)
class _Found:
    """A linear layer, or one part of a fused one, with its path taken apart at the layer."""

    linear: Linear
    part: str | None
    rows: tuple[int, int] | None
    prefix: str  # before the layer's number
    layer: int | None
    rest: tuple[str, ...]  # after it, and the part


def find_sites(
    model: nn.Module,
    targets: str | Sequence[str],
    layers: int | Iterable[int] | None = None,
) -> tuple[Site, ...]:
    """Find the sites that ``targets`` names, in the model's order.

    Parameters
    ----------
    model : any module.
    targets : endings of module paths (``["query", "value"]``, ``"attn.c_attn"``, a part of a fused
        module such as ``"c_attn.q"``), a regular expression that has to match a whole path, or
        ``"all-linear"``: every linear layer inside a numbered layer.
    layers : keep these layers only.

    Returns
    -------
    tuple of Site
        With the coordinates ``layer`` (the first number in the path; with the words before it where
        the model has several stacks of layers) and ``proj`` (the shortest ending of the path that
        tells the targets of one layer apart).

    Raises
    ------
    AttachError
        E501 for a pattern that matches nothing, E502 for a module that cannot carry an adapter.
    """
    linears = find_linears(model)
    found = _select(model, linears, parse_targets(targets))
    found = _keep_layers(found, layers)
    prefixes = {f.prefix for f in found if f.layer is not None}
    names = _short_names(found)
    sites = []
    for item in found:
        coords: dict[str, Label] = {}
        if item.layer is not None:
            coords["layer"] = item.layer if len(prefixes) == 1 else f"{item.prefix}.{item.layer}"
        coords["proj"] = names[item.rest] or (item.prefix.rpartition(".")[2] or "linear")
        sites.append(_site(item.linear, coords, item.rows))
    return tuple(sites)


def _site(linear: Linear, coords: Mapping[str, Label], rows: tuple[int, int] | None) -> Site:
    out = linear.out_features if rows is None else rows[1] - rows[0]
    return Site(linear.path, coords, rows, out, linear.in_features, linear.transposed)


def _take_apart(path: str) -> tuple[str, int | None, tuple[str, ...]]:
    words = path.split(".")
    prefix = list(takewhile(lambda word: not word.isdecimal(), words))
    if len(prefix) == len(words):
        return "", None, tuple(words)
    return ".".join(prefix), int(words[len(prefix)]), tuple(words[len(prefix) + 1 :])


def _parts(linear: Linear) -> list[_Found]:
    prefix, layer, rest = _take_apart(linear.path)
    if not linear.parts:
        return [_Found(linear, None, None, prefix, layer, rest)]
    size = linear.out_features // len(linear.parts)
    return [
        _Found(linear, part, (n * size, (n + 1) * size), prefix, layer, (*rest, part))
        for n, part in enumerate(linear.parts)
    ]


def _select(
    model: nn.Module, linears: Mapping[str, Linear], patterns: Sequence[Pattern]
) -> list[_Found]:
    chosen: dict[tuple[str, str | None], _Found] = {}
    candidates = [part for linear in linears.values() for part in _parts(linear)]
    for pattern in patterns:
        hits = [c for c in candidates if pattern.matches(c.linear.path, c.part, c.layer)]
        if not hits:
            raise pattern.unmatched(model, linears)
        chosen.update({(c.linear.path, c.part): c for c in hits})
    found = [c for c in candidates if (c.linear.path, c.part) in chosen]
    for item in found:
        item.linear.check()
    return found


def _keep_layers(found: list[_Found], layers: int | Iterable[int] | None) -> list[_Found]:
    if layers is None:
        return found
    wanted = [layers] if isinstance(layers, int) else list(layers)
    there = {f.layer for f in found if f.layer is not None}
    missing = [n for n in wanted if n not in there]
    if missing or not wanted:
        what = (
            f"layers={wanted}: no target lies in layer {', '.join(map(str, missing)) or '(none)'}"
        )
        span = (
            f"The targets lie in layers {_ranges(there)}." if there else "No target has a number."
        )
        raise AttachError("E501", what, advice=span)
    return [f for f in found if f.layer in wanted]


def _ranges(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    whole = ordered == list(range(ordered[0], ordered[-1] + 1)) and len(ordered) > 1
    return f"{ordered[0]} to {ordered[-1]}" if whole else ", ".join(map(str, ordered))


def _short_names(found: Sequence[_Found]) -> dict[tuple[str, ...], str]:
    """Give each distinct rest of a path its shortest ending that no other one has."""
    rests = list(dict.fromkeys(f.rest for f in found))
    names = {}
    for rest in rests:
        others = [r for r in rests if r != rest]
        length = next(
            (n for n in range(1, len(rest)) if all(r[-n:] != rest[-n:] for r in others)), len(rest)
        )
        names[rest] = ".".join(rest[-length:]) if rest else ""
    return names


def resolve_sites(model: nn.Module, sites: Iterable[Site]) -> tuple[Site, ...]:
    """Check sites that were written by hand, and fill in their shapes from the model.

    Raises
    ------
    AttachError
        E501 for a path that the model does not have, E502 for a module that cannot carry an
        adapter, E503 for rows outside the module or sites that overlap.
    """
    linears, sites, resolved = find_linears(model), tuple(sites), []
    for site in sites:
        if not isinstance(site, Site):
            what = f"sites holds a {type(site).__name__}"
            raise AttachError("E503", what, advice="Give tenslora.Site values.")
        if site.path not in linears:
            raise Pattern.exact(site.path).unmatched(model, linears)
        linear = linears[site.path]
        linear.check()
        _check_rows(site, linear)
        resolved.append(_site(linear, dict(site.coords), site.rows))
    if not resolved:
        raise AttachError("E503", "sites is empty", advice="Name at least one site.")
    _check_overlaps(resolved)
    for given, made in zip(sites, resolved, strict=True):
        if given.shape not in ((0, 0), made.shape):
            what = f"site {given} is said to be {given.shape}, and the module has {made.shape}"
            advice = "Leave out_features and in_features out: they are read from the module."
            raise AttachError("E503", what, advice=advice)
    return tuple(resolved)


def _check_rows(site: Site, linear: Linear) -> None:
    if site.rows is None:
        return
    start, stop = site.rows
    if not 0 <= start < stop <= linear.out_features:
        what = f"rows {start}:{stop} of {site.path} lie outside its {linear.out_features} outputs"
        raise AttachError("E503", what, advice="Rows are a half-open range (start, stop).")


def _check_overlaps(sites: Sequence[Site]) -> None:
    seen: dict[str, list[Site]] = {}
    for site in sites:
        for other in seen.setdefault(site.path, []):
            a, b = site.rows, other.rows
            if a is None or b is None or (a[0] < b[1] and b[0] < a[1]):
                what = f"the sites {other} and {site} cover the same rows of one module"
                raise AttachError("E503", what, advice="Give each row to one site.")
        seen[site.path].append(site)
