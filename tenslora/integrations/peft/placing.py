"""Which weight matrices a configuration covers on a model: found by name, or read from a file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from torch import nn

from tenslora.errors import AttachError, StateError
from tenslora.integrations.peft.config import TensLoraConfig
from tenslora.nn.design import Budget, Design, check_dropout, make_groups
from tenslora.nn.record import FORMAT, Record, describe_design, make_design, read_record
from tenslora.nn.sites import sites_in
from tenslora.nn.targets import find_linears, nearest

__all__ = ["chosen_modules", "no_match", "place", "recorded", "site_map", "unwrapped"]

#: What a record of :mod:`tenslora.nn.record` has beside a site map.
_BESIDE: dict[str, Any] = {"format": FORMAT, "name": "peft", "train": [], "digests": {}}


@contextmanager
def unwrapped(model: nn.Module, kind: type[nn.Module]) -> Iterator[None]:
    """Let the base layers stand in the place of their tuner layers inside a ``with`` block."""
    parents: list[tuple[nn.Module, str, Any]] = [
        (parent, name, child)
        for parent in model.modules()
        if not isinstance(parent, kind)
        for name, child in parent.named_children()
        if isinstance(child, kind)
    ]
    try:
        for parent, name, child in parents:
            parent._modules[name] = child.base_layer
        yield
    finally:
        for parent, name, child in parents:
            parent._modules[name] = child


def chosen_modules(config: TensLoraConfig, model: nn.Module) -> dict[str, frozenset[str] | None]:
    """The paths that ``target_modules`` and its companions choose, as PEFT reads them.

    A target that names a part of a fused layer, such as ``"c_attn.q"``, chooses the layer with that
    part alone; ``None`` stands for all parts.
    """
    linears = find_linears(model)
    found: dict[str, frozenset[str] | None] = {}
    for path, module in model.named_modules():
        if not path or isinstance(module, BaseTunerLayer):
            continue
        if check_target_module_exists(config, path):
            found[path] = None
        elif path in linears and linears[path].parts and not isinstance(config.target_modules, str):
            names = linears[path].parts
            parts = {p for p in names if check_target_module_exists(config, f"{path}.{p}")}
            if parts:
                found[path] = frozenset(parts)
    return found


def place(config: TensLoraConfig, model: nn.Module) -> Design | None:
    """Find the sites and bind the family; ``None`` where nothing was chosen.

    Raises
    ------
    TensloraError
        As :func:`tenslora.attach` says; E532 where a site map names modules that are not there.
    """
    if config.site_map is not None:
        return _read(config, model)
    chosen = chosen_modules(config, model)
    if not chosen:
        return None
    linears = find_linears(model)
    for path in chosen:
        if path not in linears:
            kind = type(model.get_submodule(path)).__name__
            what = f"Target module {path} is not supported: it is a {kind}"
            advice = "An adapter stands on torch.nn.Linear and on transformers' Conv1D."
            raise AttachError("E502", what, advice=advice)
    family = config.equation
    sites = sites_in(model, chosen, block=config.block, modes=family.network.sites)
    groups = make_groups(
        model,
        family,
        sites,
        sizes=config.sizes or {},
        budget=Budget(**config.budget),
        ragged=config.ragged,
    )
    return Design(family, groups, check_dropout(family, config.dropout), ())


def no_match(error: ValueError, config: TensLoraConfig, model: nn.Module) -> ValueError:
    """PEFT's error for targets that match nothing, with the nearest names."""
    targets = config.target_modules or ""
    first = targets if isinstance(targets, str) else min(targets, default="")
    return type(error)(f"{error}\n  {nearest(first, find_linears(model))}")


def site_map(model: nn.Module, design: Design) -> dict[str, Any]:
    """Return what ``adapter_config.json`` says about the places of an adapter."""
    record = describe_design(model, design, "peft")
    return {key: value for key, value in record.items() if key not in _BESIDE}


def recorded(obj: Any) -> Record:
    """Read a site map strictly.

    Raises
    ------
    StateError
        E601 to E603.
    """
    if not isinstance(obj, Mapping):
        what = f"site_map is {type(obj).__name__}, not an object"
        raise StateError("E603", what, advice="Set it to None to look for the targets anew.")
    return read_record(json.dumps({**obj, **_BESIDE}))


def _read(config: TensLoraConfig, model: nn.Module) -> Design:
    record = recorded(config.site_map)
    _check_moved(model, list(record.base))
    design = make_design(model, record, any_dtype=True)
    dropout = record.dropout if config.dropout is None else config.dropout
    return Design(design.family, design.groups, check_dropout(design.family, dropout), ())


def _check_moved(model: nn.Module, paths: list[str]) -> None:
    linears = find_linears(model)
    gone = [path for path in paths if path not in linears]
    if not gone:
        return
    free, near = [path for path in linears if path not in paths], []
    for path in gone[:3]:
        close = difflib.get_close_matches(path, free, n=1, cutoff=0.6)
        near.append(f"{path} (nearest: {close[0]})" if close else path)
    more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
    what = (
        f"{len(gone)} of the {len(paths)} modules of the adapter are no linear layers of this "
        f"{type(model).__name__}: {', '.join(near)}{more}"
    )
    advice = (
        "Load the class and version of model that it was made on. Where they have other names now, "
        "read the config, say config.rename(old, new), and load with config=config."
    )
    raise StateError("E532", what, advice=advice)
