"""The record in a checkpoint's metadata: everything about an adapter but its numbers.

Written as one JSON text, and read as data that somebody else may have written: every key, type and
length is checked, nothing in it is run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from tenslora.errors import FamilyError, StateError, TensloraError
from tenslora.family import Bound, Family, Wrapped, Wrapper
from tenslora.nn.design import Design, Group
from tenslora.nn.grid import make_grid
from tenslora.nn.shards import written_class
from tenslora.nn.site import Site
from tenslora.nn.sites import resolve_sites
from tenslora.nn.sizes import check_prefixes
from tenslora.nn.targets import find_linears
from tenslora.spec import complete_sizes
from tenslora.spec.schema import check_keys, check_schema

if TYPE_CHECKING:
    from tenslora.nn.adapter import Adapter

__all__ = [
    "FORMAT",
    "SCHEMA_VERSION",
    "Record",
    "describe",
    "describe_design",
    "fingerprint",
    "make_design",
    "read_record",
]

#: 2 came with columns, blocks of rows, and the model's name; 1 is read too.
SCHEMA_VERSION = 2
_OLDEST = 1
FORMAT = "tenslora.adapter"

_LONGEST_TEXT = 1 << 26
_LONGEST_NAME = 1024
_MOST_SITES = 1 << 20
_BROKEN = "The file is broken: save the adapter again."


@dataclass(frozen=True)
class Record:
    """A record whose keys and types were checked."""

    name: str
    family: Family
    dropout: float
    groups: tuple[Mapping[str, Any], ...]
    train: tuple[str, ...]
    base: Mapping[str, Mapping[str, Any]]
    digests: Mapping[str, str]
    model: Mapping[str, str]
    wrapper: Wrapper | None = None


def describe(adapter: Adapter) -> dict[str, Any]:
    """Return the record of an adapter, without the digests of its tensors."""
    return describe_design(adapter.model, adapter.design, adapter.name)


def describe_design(model: nn.Module, design: Design, name: str) -> dict[str, Any]:
    """Return the record of a design on a model."""
    return {
        "schema": SCHEMA_VERSION,
        "format": FORMAT,
        "name": name,
        "family": design.family.to_json(),
        **({} if design.wrapper is None else {"wrapper": str(design.wrapper)}),
        "dropout": design.dropout,
        "groups": [_describe_group(group) for group in design.groups],
        "train": list(design.train),
        "base": fingerprint(model, design.sites),
        "model": _name_model(model),
    }


def _name_model(model: nn.Module) -> dict[str, str]:
    """What the model calls itself: its class, and the id or folder that it was loaded from.

    For people: whether an adapter fits is decided by the shapes and dtypes of the weights.
    """
    loaded = getattr(getattr(model, "config", None), "_name_or_path", "")
    name = loaded if isinstance(loaded, str) else ""
    return {"class": written_class(model).__name__, "name": name[:_LONGEST_NAME]}


def _describe_group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "sizes": dict(group.bound.sizes),
        "scale": group.bound.scale,
        "sites": [
            {
                "path": site.path,
                "coords": [list(pair) for pair in dict(site.coords).items()],
                "rows": None if site.rows is None else list(site.rows),
                "columns": None if site.columns is None else list(site.columns),
            }
            for site in group.sites
        ],
    }


def fingerprint(model: nn.Module, sites: tuple[Site, ...]) -> dict[str, dict[str, Any]]:
    """The shape and dtype of each weight that the sites touch, by the path of its module.

    A layer of a stand-in has the dtype that its file tells, ``"unknown"`` where it tells none.
    """
    linears = find_linears(model)
    found = {}
    for path in dict.fromkeys(site.path for site in sites):
        module = linears[path].module
        weight = getattr(module, "weight", None)
        own = str(getattr(weight, "dtype", "unknown")).removeprefix("torch.")
        dtype = getattr(module, "told_dtype", own)
        shape = list(getattr(weight, "shape", ()))
        found[path] = {"shape": shape, "dtype": dtype}
    return found


def read_record(text: str) -> Record:
    """Read a record strictly.

    Raises
    ------
    StateError
        E601 to E603 for versions, keys and types; E611 for text that is no JSON or too long.
    """
    if len(text) > _LONGEST_TEXT:
        what = f"the record is {len(text):,} characters long"
        raise StateError("E611", what, advice=f"The limit is {_LONGEST_TEXT:,}.")
    try:
        obj = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = f"the record is no JSON: {type(error).__name__}"
        raise StateError("E611", what, advice=_BROKEN) from None
    data = _renew(check_schema(obj, "adapter", SCHEMA_VERSION, _OLDEST))
    kinds = {"name": str, "dropout": float, "groups": list, "train": list, "base": dict}
    kinds |= {"digests": dict, "family": dict, "format": str, "model": dict}
    check_keys(data, "adapter", {"schema", *kinds}, frozenset({"wrapper"}))
    _check_kinds(data, kinds, "adapter")
    if data["format"] != FORMAT or not 0 <= data["dropout"] < 1:
        what = f"adapter JSON has format {data['format']!r} and dropout {data['dropout']!r}"
        raise StateError("E603", what, advice=f"The format is {FORMAT!r}, dropout a probability.")
    for group in data["groups"]:
        _check_group(group)
    if not data["groups"] or sum(len(g["sites"]) for g in data["groups"]) > _MOST_SITES:
        raise StateError("E603", "adapter JSON has no sites, or too many", advice="Save it again.")
    for path in data["train"]:
        _check_text(path, "train")
    for path, weight in data["base"].items():
        _check_text(path, "base")
        check_keys(_object(weight, "base"), f"base of {path}", {"shape", "dtype"})
    check_keys(data["model"], "model", {"class", "name"})
    _check_kinds(data["model"], {"class": str, "name": str}, "model")
    return Record(
        data["name"],
        _read_family(data["family"]),
        data["dropout"],
        tuple(data["groups"]),
        tuple(data["train"]),
        data["base"],
        data["digests"],
        data["model"],
        _read_wrapper(data),
    )


def _read_wrapper(data: Mapping[str, Any]) -> Wrapper | None:
    """The wrapper that stands in the record, where one does; it has to fit the family."""
    if "wrapper" not in data:
        return None
    _check_kinds(data, {"wrapper": str}, "adapter")
    try:
        return Wrapped(Wrapper.parse(data["wrapper"]), _read_family(data["family"])).wrapper
    except FamilyError as error:
        what = f"the wrapper in the file is not valid: {error}"
        raise StateError("E603", what, advice=_BROKEN) from error


def _renew(data: dict[str, Any]) -> dict[str, Any]:
    """Bring a record of the first version to the present one."""
    if data["schema"] == SCHEMA_VERSION:
        return data
    if isinstance(data.get("groups"), list):
        for group in data["groups"]:
            for site in group.get("sites", ()) if isinstance(group, dict) else ():
                if isinstance(site, dict):
                    site.setdefault("columns", None)
    return {**data, "model": {"class": "", "name": ""}}


def _read_family(obj: object) -> Family:
    try:
        return Family.from_json(obj)
    except StateError:
        raise
    except (TensloraError, TypeError) as error:
        what = f"the family in the file is not valid: {error}"
        raise StateError("E603", what, advice=_BROKEN) from error


def _check_group(obj: object) -> None:
    group = _object(obj, "group")
    kinds = {"name": str, "sizes": dict, "scale": float, "sites": list}
    check_keys(group, "group", set(kinds))
    _check_kinds(group, kinds, "group")
    if not math.isfinite(group["scale"]):
        raise StateError("E603", f"group JSON: scale {group['scale']!r}", advice="Save it again.")
    for obj in group["sites"]:
        site = _object(obj, "site")
        check_keys(site, "site", {"path", "coords", "rows", "columns"})
        _check_kinds(site, {"path": str, "coords": list}, "site")
        _check_text(site["path"], "site")
        for pair in site["coords"]:
            good = isinstance(pair, list) and len(pair) == 2
            good = good and isinstance(pair[0], str) and type(pair[1]) in (int, str)
            if not good or len(str(pair[1])) > _LONGEST_NAME:
                raise StateError(
                    "E603", f"site JSON: coords {pair!r}", advice="Write [name, label]."
                )
        for name in ("rows", "columns"):
            _check_span(site[name], name)


def _check_span(span: object, name: str) -> None:
    good = isinstance(span, list) and len(span) in (2, 4) and all(type(n) is int for n in span)
    if span is not None and not good:
        advice = "Write [start, stop] or [start, stop, step, width]."
        raise StateError("E603", f"site JSON: {name} {str(span)[:60]}", advice=advice)


def _object(obj: object, what: str) -> dict[str, Any]:
    if not isinstance(obj, dict):
        text = f"{what} JSON is {type(obj).__name__}, not an object"
        raise StateError("E603", text, advice=_BROKEN)
    return obj


def _check_kinds(data: Mapping[str, Any], kinds: Mapping[str, type], what: str) -> None:
    for key, kind in kinds.items():
        good = isinstance(data[key], kind) and not isinstance(data[key], bool)
        if not good:
            text = f"{what} JSON: {key!r} is {type(data[key]).__name__}, not {kind.__name__}"
            raise StateError("E603", text, advice=_BROKEN)


def _check_text(text: object, what: str) -> None:
    if not isinstance(text, str) or not text or len(text) > _LONGEST_NAME:
        advice = f"A name has 1 to {_LONGEST_NAME} characters."
        raise StateError(
            "E603", f"{what} JSON: {str(text)[:60]!r} is no module's name", advice=advice
        )


def make_design(model: nn.Module, record: Record, *, any_dtype: bool) -> Design:
    """Bring a record and a model together.

    Raises
    ------
    StateError
        E615 where the model is not the base that the adapter was made on; E603 where the record
        contradicts itself.
    """
    _check_base(model, record, any_dtype)
    try:
        over = "" if record.wrapper is None else record.wrapper.over
        groups = tuple(_make_group(model, record.family, g, over) for g in record.groups)
    except StateError:
        raise
    except (TensloraError, TypeError, ValueError, KeyError) as error:
        what = f"the record does not fit together: {error}"
        raise StateError("E603", what, advice=_BROKEN) from error
    if set(record.base) != {site.path for group in groups for site in group.sites}:
        what = "the base in the record names other weights than its sites"
        raise StateError("E603", what, advice=_BROKEN)
    modules = dict(model.named_modules())
    for path in record.train:
        if path not in modules:
            what = f"the file holds a trained module {path!r} that {type(model).__name__} has not"
            raise StateError("E615", what, advice="Load it on the class of model it was made on.")
    return Design(record.family, groups, record.dropout, record.train, record.wrapper)


def _make_group(model: nn.Module, family: Family, group: Mapping[str, Any], over: str) -> Group:
    given = [
        Site(
            site["path"],
            tuple((name, label) for name, label in site["coords"]),
            rows=site["rows"],
            columns=site["columns"],
        )
        for site in group["sites"]
    ]
    sites = resolve_sites(model, given)
    grid = make_grid(family.network, sites, over=over)
    sizes = complete_sizes(family.network, group["sizes"])
    bound = Bound(family, sizes, group["scale"])
    product = [
        math.prod(sizes[i] for i in s) for s in (family.network.output, family.network.input)
    ]
    counted = {name: sizes[name] for name in grid.sizes}
    check_prefixes(family.network, sizes, sites)
    if [max(side) for side in zip(*(s.shape for s in sites), strict=True)] != product or (
        counted != grid.sizes
    ):
        what = f"the sizes of group {group['name']} are not those of its sites"
        raise StateError("E603", what, advice=_BROKEN)
    if group["name"] != f"{product[0]}x{product[1]}":
        what = f"group {group['name'][:60]!r} has sites of {product[0]}x{product[1]}"
        raise StateError("E603", what, advice=_BROKEN)
    return Group(group["name"], sites, grid, bound)


def _check_base(model: nn.Module, record: Record, any_dtype: bool) -> None:
    linears = find_linears(model)
    for path, expected in record.base.items():
        what = f"the adapter was made on a weight {path} of {expected['dtype']} {expected['shape']}"
        if path not in linears:
            advice = "Load it on the class of model it was made on."
            raise StateError("E615", f"{what}; {type(model).__name__} has none", advice=advice)
        linear = linears[path]
        site = Site(path, (), None, linear.out_features, linear.in_features)
        found = fingerprint(model, (site,))[path]
        if found["shape"] != expected["shape"]:
            advice = "Load it on a model of the size it was made on."
            raise StateError("E615", f"{what}; here it is {found['shape']}", advice=advice)
        if expected["dtype"] not in (found["dtype"], "unknown") and not any_dtype:
            advice = "Load the base in that dtype, or say load(..., any_dtype=True)."
            raise StateError("E615", f"{what}; here it is {found['dtype']}", advice=advice)
