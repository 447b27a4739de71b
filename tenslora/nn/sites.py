"""Which weight matrices an adapter covers: found by their names, or checked as they were given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from torch import nn

from tenslora.errors import AttachError
from tenslora.nn.naming import Found, coordinates, take_apart
from tenslora.nn.site import Label, Site
from tenslora.nn.spans import Span, collide, normal, size, text, within
from tenslora.nn.targets import Linear, Pattern, find_linears, parse_targets

__all__ = ["Label", "Site", "find_sites", "resolve_sites", "sites_in"]


def find_sites(
    model: nn.Module,
    targets: str | Sequence[str],
    layers: int | Iterable[int] | None = None,
    *,
    block: int | None = None,
    modes: Sequence[str] = (),
) -> tuple[Site, ...]:
    """Find the sites that ``targets`` names, in the model's order.

    Parameters
    ----------
    model : any module.
    targets : endings of module paths (``["query", "value"]``, ``"attn.c_attn"``, a part of a fused
        module such as ``"c_attn.q"``), a regular expression that has to match a whole path, or
        ``"all-linear"``: every linear layer inside a numbered layer.
    layers : keep these layers only.
    block : cut every target into blocks of ``block`` x ``block`` features, each a site of its own,
        as FacT does with feed-forward matrices.
    modes : the site indices that are wanted. With ``"expert"`` among them the number of an expert
        is a coordinate; else it is a part of ``proj``.

    Returns
    -------
    tuple of Site
        With the coordinates ``layer`` (the first number in the path; with the words before it where
        the model has several stacks of layers) and ``proj`` (the shortest ending of the path that
        tells the targets of one layer apart). Attention to another sequence, such as a decoder's to
        its encoder, counts as a layer of its own.

    Raises
    ------
    AttachError
        E501 for a pattern that matches nothing, E502 for a module that cannot carry an adapter,
        E503 for a block that does not divide a target.

    Examples
    --------
    >>> from torch import nn
    >>> names = ("query", "value")
    >>> model = nn.ModuleList(nn.ModuleDict({n: nn.Linear(8, 8) for n in names}) for _ in range(2))
    >>> [(site.path, dict(site.coords)) for site in find_sites(model, ["query", "value"], layers=1)]
    [('1.query', {'layer': 1, 'proj': 'query'}), ('1.value', {'layer': 1, 'proj': 'value'})]
    >>> len(find_sites(model, "all-linear")), len(find_sites(model, "value", block=4))
    (4, 8)
    """
    linears = find_linears(model)
    found = _select(model, linears, parse_targets(targets))
    found = _keep_layers(found, layers)
    return _place(found, block, modes)


def sites_in(
    model: nn.Module,
    modules: Mapping[str, Collection[str] | None],
    *,
    block: int | None = None,
    modes: Sequence[str] = (),
) -> tuple[Site, ...]:
    """Find the sites of modules that were chosen by their paths.

    Parameters
    ----------
    modules : the path of each module, with the wanted parts of a fused one (``None``: all).
    block, modes : as for :func:`find_sites`.

    Raises
    ------
    AttachError
        E501, E502, E503 as :func:`find_sites` says.
    """
    linears = find_linears(model)
    for path in modules:
        if path not in linears:
            raise Pattern.exact(path).unmatched(model, linears)
        linears[path].check()
    found = [
        part
        for path, linear in linears.items()
        if path in modules
        for part in _parts(linear)
        if (wanted := modules[path]) is None or part.part in wanted
    ]
    return _place(found, block, modes)


def _place(found: Sequence[Found], block: int | None, modes: Sequence[str]) -> tuple[Site, ...]:
    if block is not None:
        found = [piece for item in found for piece in _cut(item, block)]
    places = coordinates(found, modes)
    return tuple(
        _site(item.linear, coords, item.rows, item.columns)
        for item, coords in zip(found, places, strict=True)
    )


def _site(
    linear: Linear, coords: Mapping[str, Label], rows: Span | None, columns: Span | None
) -> Site:
    out = linear.out_features if rows is None else size(rows)
    width = linear.in_features if columns is None else size(columns)
    return Site(linear.path, coords, rows, out, width, linear.transposed, columns)


def _parts(linear: Linear) -> list[Found]:
    prefix, layer, rest = take_apart(linear.path)
    if not linear.parts:
        return [Found(linear, None, None, prefix, layer, rest)]
    return [
        Found(linear, part, rows, prefix, layer, (*rest, part))
        for part, rows in linear.parts.items()
    ]


def _cut(item: Found, block: int) -> list[Found]:
    """Cut a matrix into square blocks, row by row; one of that size stays as it is."""
    out = item.linear.out_features if item.rows is None else size(item.rows)
    width = item.linear.in_features
    if isinstance(block, bool) or not isinstance(block, int) or block < 1:
        raise AttachError("E503", f"block={block!r}", advice="Give a positive number of features.")
    if out % block or width % block:
        what = f"block={block} does not divide {item.linear.path}, which is {out} x {width}"
        raise AttachError("E503", what, advice="Give a common divisor of the targets' features.")
    if (out, width) == (block, block):
        return [item]
    pieces: list[Found] = []
    for down in range(0, out, block):
        for across in range(0, width, block):
            rows = None if out == block else _within(item.rows, down, down + block)
            if rows is None and item.rows is not None:
                rows = item.rows
            columns = None if width == block else (across, across + block)
            name = str(len(pieces))
            pieces.append(replace(item, rows=rows, columns=columns, rest=(*item.rest, name)))
    return pieces


def _within(rows: Span | None, start: int, stop: int) -> Span:
    """The features ``start:stop`` of those of ``rows``, as a span of the module."""
    if rows is None:
        return start, stop
    if len(rows) == 2:
        return rows[0] + start, rows[0] + stop
    first, _, step, width = rows
    whole = start % width == 0 and stop % width == 0
    inside = start // width == (stop - 1) // width
    if not (whole or inside):
        what = f"blocks of {stop - start} rows cut through heads of {width}"
        raise AttachError("E503", what, advice=f"Give a block that {width} divides.")
    begin = first + start // width * step + start % width
    if inside:
        return begin, begin + stop - start
    last = first + (stop // width - 1) * step
    return normal((begin, last + width, step, width))


def _select(
    model: nn.Module, linears: Mapping[str, Linear], patterns: Sequence[Pattern]
) -> list[Found]:
    chosen: dict[tuple[str, str | None], Found] = {}
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


def _keep_layers(found: list[Found], layers: int | Iterable[int] | None) -> list[Found]:
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


def resolve_sites(model: nn.Module, sites: Iterable[Site]) -> tuple[Site, ...]:
    """Check sites that were written by hand, and fill in their shapes from the model.

    Raises
    ------
    AttachError
        E501 for a path that the model does not have, E502 for a module that cannot carry an
        adapter, E503 for rows or columns outside the module or sites that overlap.
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
        _check_span(site, "rows", site.rows, linear.out_features, "outputs")
        _check_span(site, "columns", site.columns, linear.in_features, "inputs")
        resolved.append(_site(linear, dict(site.coords), site.rows, site.columns))
    if not resolved:
        raise AttachError("E503", "sites is empty", advice="Name at least one site.")
    _check_overlaps(resolved)
    for given, made in zip(sites, resolved, strict=True):
        if given.shape not in ((0, 0), made.shape):
            what = f"site {given} is said to be {given.shape}, and the module has {made.shape}"
            advice = "Leave out_features and in_features out: they are read from the module."
            raise AttachError("E503", what, advice=advice)
    return tuple(resolved)


def _check_span(site: Site, name: str, span: Span | None, total: int, kind: str) -> None:
    if span is not None and not within(span, total):
        shown = text(span) if len(span) in (2, 4) else repr(span)
        what = f"{name} {shown} of {site.path} lie outside its {total} {kind}"
        advice = f"{name} are a half-open range (start, stop), or (start, stop, step, width)."
        raise AttachError("E503", what, advice=advice.capitalize())


def _check_overlaps(sites: Sequence[Site]) -> None:
    seen: dict[str, list[Site]] = {}
    for site in sites:
        for other in seen.setdefault(site.path, []):
            if collide(site.rows, other.rows) and collide(site.columns, other.columns):
                kind = "entries" if site.columns is not None else "rows"
                what = f"the sites {other} and {site} cover the same {kind} of one module"
                raise AttachError("E503", what, advice="Give each row to one site.")
        seen[site.path].append(site)
