"""Which weight matrices a configuration covers on a model: found by name, or read from a file."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from torch import nn

from tenslora.errors import AttachError, StateError
from tenslora.integrations.peft.agreement import check_agreement
from tenslora.integrations.peft.config import TensLoraConfig
from tenslora.nn.design import Budget, Design, check_dropout, make_groups
from tenslora.nn.record import Record, describe_design, make_design
from tenslora.nn.sites import sites_in
from tenslora.nn.sizes import other_heads
from tenslora.nn.targets import Linear, Pattern, find_linears, nearest
from tenslora.nn.tunerfile import read_site_map, to_site_map

__all__ = [
    "check_saved",
    "chosen_modules",
    "no_match",
    "place",
    "site_map",
    "unwrapped",
]

#: Heads that PEFT adds to ``modules_to_save`` by the type of the task, there or not.
_HEADS = ("classifier", "score", "qa_outputs")
#: What to do about sites, in the settings that a configuration has.
_ADVICE = {
    "E504": (
        "Leave the module out with exclude_modules, or take a family whose only site index is "
        "'site'; tenslora.attach takes sites=[Site(path, coords), ...]."
    ),
    "E505": (
        "Choose targets that every layer has, limit them with layers_to_transform, or take a "
        "family whose only site index is 'site'."
    ),
}


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

    Raises
    ------
    AttachError
        E502 for a layer that another method of PEFT has wrapped.
    """
    linears = find_linears(model)
    found: dict[str, frozenset[str] | None] = {}
    wrapped: dict[str, BaseTunerLayer] = {}
    for path, module in model.named_modules():
        if not path:
            continue
        if isinstance(module, BaseTunerLayer):
            wrapped[path] = module
        outer = [p for p in wrapped if f"{path}.".startswith(f"{p}.")]
        if outer:
            if check_target_module_exists(config, path):
                raise _taken(path, wrapped[outer[0]])
            continue
        if check_target_module_exists(config, path):
            found[path] = None
        elif path in linears and linears[path].parts and not isinstance(config.target_modules, str):
            names = linears[path].parts
            parts = {p for p in names if check_target_module_exists(config, f"{path}.{p}")}
            if parts:
                found[path] = frozenset(parts)
    return found


def _taken(path: str, layer: BaseTunerLayer) -> AttachError:
    kind = type(layer)
    names = ", ".join(map(repr, layer._all_available_adapter_names()))
    what = f"Target module {path} has adapters of another method of PEFT already: {names}, in a "
    what += f"{kind.__module__}.{kind.__qualname__}"
    return AttachError(
        "E502", what, advice="merge_and_unload() them first, or leave the target out."
    )


def place(
    config: TensLoraConfig, model: nn.Module, named: Collection[str] | None = None
) -> Design | None:
    """Find the sites and bind the family; ``None`` where nothing was chosen.

    ``named`` are the targets as they were written: each has to name something.

    Raises
    ------
    TensloraError
        As :func:`tenslora.attach` says; E532 where a site map names modules that are not there, and
        E615 where the targets match modules that it does not have.
    """
    if config.site_map is not None:
        return _read(config, model)
    chosen = chosen_modules(config, model)
    if not chosen:
        return None
    linears = find_linears(model)
    if named and not isinstance(named, str):
        _check_targets(named, model, linears)
    for path in chosen:
        if path not in linears:
            kind = type(model.get_submodule(path)).__name__
            what = f"Target module {path} is not supported: it is a {kind}"
            advice = "An adapter stands on torch.nn.Linear and on transformers' Conv1D."
            raise AttachError("E502", what, advice=advice)
    family, wrapper = config.equation, config.wrapper
    modes = family.network.sites if wrapper is None else wrapper.sites(family.network)
    sites = sites_in(model, chosen, block=config.block, modes=modes)
    try:
        groups = make_groups(
            model,
            family,
            sites,
            sizes=config.sizes or {},
            budget=Budget(**config.budget),
            ragged=config.ragged,
            wrapper=wrapper,
        )
    except AttachError as error:
        if error.code in _ADVICE:
            error.advice = _ADVICE[error.code]
        raise
    return Design(family, groups, check_dropout(family, config.dropout), (), wrapper)


def no_match(error: ValueError, config: TensLoraConfig, model: nn.Module) -> ValueError:
    """PEFT's error for targets that match nothing, with the names that are nearest to each."""
    away = _no_layer(config, model)
    if away:
        return type(error)(f"{error}\n  {away}")
    targets = config.target_modules or ""
    names = [targets] if isinstance(targets, str) else sorted(targets)
    linears = find_linears(model)
    told = [nearest(name, linears) for name in names[:4]]
    told = (
        [f"{name}: {text}" for name, text in zip(names, told, strict=False)] if told[1:] else told
    )
    return type(error)("\n  ".join([str(error), *told]))


def _no_layer(config: TensLoraConfig, model: nn.Module) -> str:
    """What to say where the targets are there, and layers_to_transform leaves none of them."""
    if config.layers_to_transform in (None, []):
        return ""
    anywhere, one = copy.copy(config), copy.copy(config)
    anywhere.layers_to_transform = anywhere.layers_pattern = None
    paths = [path for path in find_linears(model) if check_target_module_exists(anywhere, path)]
    if not paths:
        return ""
    there = []
    for number in sorted({int(w) for path in paths for w in path.split(".") if w.isdecimal()}):
        one.layers_to_transform = [number]
        if any(check_target_module_exists(one, path) for path in paths):
            there.append(str(number))
    found = f"are in layers {', '.join(there)}" if there else "are in no numbered layer"
    pattern = f" of layers_pattern={config.layers_pattern!r}" if config.layers_pattern else ""
    what = f"layers_to_transform={config.layers_to_transform} leaves nothing: the {len(paths)} "
    return f"{what}modules that target_modules names {found}{pattern}."


def check_saved(config: TensLoraConfig, model: nn.Module) -> None:
    """Check that each of ``modules_to_save`` names a module, but for heads that PEFT adds itself.

    Raises
    ------
    AttachError
        E531.
    """
    paths = [path for path, _ in model.named_modules() if path]
    for name in config.modules_to_save or ():
        known = config.task_type is not None and name in _HEADS
        if known or any(path.endswith(name) for path in paths):  # as PEFT asks
            continue
        what = (
            f"modules_to_save names {name!r}, which no module of {type(model).__name__} is called"
        )
        last = dict.fromkeys(path.rpartition(".")[2] for path in paths)
        close = difflib.get_close_matches(name.rpartition(".")[2], last, n=3, cutoff=0.6)
        tops = ", ".join(child for child, _ in model.named_children())
        advice = f"Did you mean {' or '.join(close)}? " if close else ""
        raise AttachError("E531", what, advice=f"{advice}Top-level modules: {tops}.")


def _check_targets(names: Collection[str], model: nn.Module, linears: Mapping[str, Linear]) -> None:
    """Check that each target is the ending of a path: of a module, or a part of a fused layer."""
    paths = [path for path, _ in model.named_modules()]
    paths += [f"{path}.{part}" for path, linear in linears.items() for part in linear.parts]
    for name in sorted(names):
        if not any(path == name or path.endswith(f".{name}") for path in paths):
            raise Pattern("ending", name).unmatched(model, linears)


def site_map(model: nn.Module, design: Design) -> dict[str, Any]:
    """Return what ``adapter_config.json`` says about the places of an adapter."""
    return to_site_map(describe_design(model, design, "peft"))


def _read(config: TensLoraConfig, model: nn.Module) -> Design:
    record = read_site_map(config.site_map)
    _check_moved(model, list(record.base))
    _check_more(config, model, record)
    check_agreement(config, record)
    design = make_design(model, record, any_dtype=True)
    _check_heads(config, model, design)
    dropout = record.dropout if config.dropout is None else config.dropout
    return replace(design, dropout=check_dropout(design.family, dropout))


def _check_more(config: TensLoraConfig, model: nn.Module, record: Record) -> None:
    """Refuse a model with more of what was targeted, such as one of more layers."""
    chosen = chosen_modules(config, model) if config.target_modules else ()
    linears = find_linears(model)
    more = [path for path in chosen if path in linears and path not in record.base]
    if not more:
        return
    told = ", ".join(more[:3]) + (f" and {len(more) - 3} more" if len(more) > 3 else "")
    what = (
        f"the adapter was made on {len(record.base)} modules of a {record.model['class']}, and its "
        f"targets match {len(more)} more in this {type(model).__name__}: {told}"
    )
    advice = (
        "Load it on a model of the size it was made on. To use it here on the modules that it has, "
        "read the config, set config.target_modules = list(config.site_map['base']), and load with "
        "config=config."
    )
    raise StateError("E615", what, advice=advice)


def _check_heads(config: TensLoraConfig, model: nn.Module, design: Design) -> None:
    """Refuse a model of equal shapes that is cut into other heads."""
    network = design.family.network
    if set(config.sizes or {}) & {network.output[0], network.input[0]}:
        return
    for group in design.groups:
        other = other_heads(model, network, group.bound.sizes, group.sites)
        if other is not None:
            index, site, found = other
            what = f"the adapter was made with {index}={group.bound.sizes[index]}, and {site} has "
            what += f"{found} heads in this {type(model).__name__}"
            raise StateError("E615", what, advice="Load it on a model of as many heads.")


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
