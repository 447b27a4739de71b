"""The folder that PEFT writes for the tuner of this package, read without PEFT.

The site map in its ``adapter_config.json`` is a record as an adapter's file has it, but for what
the folder tells elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tenslora.errors import StateError
from tenslora.nn import install
from tenslora.nn.adapter import Adapter
from tenslora.nn.attaching import build, draw_cores
from tenslora.nn.design import Design, check_dropout
from tenslora.nn.finite import check_finite
from tenslora.nn.lora import trained_values
from tenslora.nn.lorafile import read_config, read_tensors, trained_paths
from tenslora.nn.record import FORMAT, Record, make_design, read_record
from tenslora.nn.registry import check_name, check_nesting, registry_of
from tenslora.nn.shards import put

__all__ = [
    "HOUSES",
    "METHOD",
    "ROOT",
    "TunerCheckpoint",
    "attach_tuned",
    "core_name",
    "core_names",
    "is_tuned",
    "read_site_map",
    "read_tuner",
    "record_of",
    "to_site_map",
]

#: The name of the method in PEFT, and the value of ``peft_type`` in its folders.
METHOD = "TENSLORA"
#: Where the banks of an adapter may stand.
HOUSES = ("tuner", "first_layer")
#: What the name of every tensor begins with.
ROOT = "base_model."
#: What a record has beside a site map.
_BESIDE: dict[str, Any] = {"format": FORMAT, "name": "peft", "train": [], "digests": {}}
_CHANGED = "It was changed: save the adapter again."


@dataclass(frozen=True)
class TunerCheckpoint:
    """A folder that was read.

    Attributes
    ----------
    path : where it lies.
    record : the family, its sizes and sites, and the paths of modules that were trained whole.
    cores : the tensors in it, by shape group and core; frozen ones where they were saved.
    others : tensors of modules that were trained whole, by full name.
    seed : what frozen cores that were not saved are drawn with.
    """

    path: Path
    record: Record
    cores: Mapping[tuple[str, str], Tensor]
    others: Mapping[str, Tensor]
    seed: int


def core_name(house: str, group: str, path: str, core: str) -> str:
    """The name of a core in a checkpoint, behind ``base_model.``; ``path`` is the first layer's."""
    owner = "" if house == "tuner" else f"model.{path}."
    return f"{owner}tenslora_{group}.{core}"


def to_site_map(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``adapter_config.json`` says of a record as it is written."""
    return {key: value for key, value in record.items() if key not in _BESIDE}


def read_site_map(obj: object) -> Record:
    """Read a site map strictly.

    Raises
    ------
    StateError
        E601 to E603.
    """
    if not isinstance(obj, Mapping):
        what = f"site_map is {type(obj).__name__}, not an object"
        raise StateError("E603", what, advice="Set it to None to look for the targets anew.")
    odd = sorted(obj.keys() & _BESIDE.keys())
    if odd:
        what = f"site_map has {', '.join(map(repr, odd))}, which nothing would be read of"
        raise StateError("E602", what, advice="Take it out: the tuner writes no such key.")
    return read_record(json.dumps({**obj, **_BESIDE}))


def core_names(
    folder: Path, config: Mapping[str, Any], record: Record, house: object
) -> dict[tuple[str, str], str]:
    """The name of each tensor in a folder's file, behind ``base_model.``, by shape group and core.

    What a wrapper trains of its own stands beside the cores.
    """
    if house not in HOUSES:
        what = f"{folder} has bank={str(house)[:60]!r}, none of {', '.join(HOUSES)}"
        raise StateError("E603", what, advice=_CHANGED)
    frozen = () if config.get("save_frozen") else record.family.frozen
    cores = [name for name in record.family.network.cores if name not in frozen]
    cores += () if record.wrapper is None else record.wrapper.own_names
    return {
        (group["name"], core): core_name(str(house), group["name"], group["sites"][0]["path"], core)
        for group in record.groups
        for core in cores
    }


def is_tuned(folder: Path) -> bool:
    """Whether the configuration in a folder of PEFT is of this method."""
    return read_config(folder).get("peft_type") == METHOD


def read_tuner(folder: Path) -> TunerCheckpoint:
    """Read a folder that ``save_pretrained`` wrote.

    Raises
    ------
    StateError
        E610 to E612 for a broken one or one of another method, E601 to E603 for what does not
        belong in its configuration, E620 for trained biases.
    """
    config = read_config(folder)
    record = record_of(folder, config)
    _check_config(folder, config)
    names = core_names(folder, config, record, config.get("bank", HOUSES[0]))
    tensors = read_tensors(folder, ROOT)
    lacking = [name for name in names.values() if name not in tensors]
    if lacking:
        what = f"{folder} has no tensor {ROOT}{lacking[0]}, which its site map tells of"
        raise StateError("E612", what, advice=_CHANGED)
    cores = {key: tensors.pop(name) for key, name in names.items()}
    others = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    trained = trained_paths(folder, others, config.get("modules_to_save") or ())
    dropout = config.get("dropout")
    return TunerCheckpoint(
        folder,
        replace(
            record,
            train=trained,
            dropout=check_dropout(record.family, record.dropout if dropout is None else dropout),
            model=_model(config, record),
        ),
        cores,
        others,
        config.get("seed", 0),
    )


def record_of(folder: Path, config: Mapping[str, Any]) -> Record:
    """Read the site map of a folder.

    Raises
    ------
    StateError
        E611 for another method of PEFT; E601 to E603 as :func:`read_site_map` says.
    """
    if config.get("peft_type") != METHOD:
        what = f"{folder} has peft_type {str(config.get('peft_type'))[:60]!r}, not {METHOD!r}"
        raise StateError("E611", what, advice="Give a folder that PEFT wrote for this method.")
    if config.get("site_map") is None:
        what = f"{folder} has no site_map: its adapter was not on a model when it was saved"
        raise StateError("E603", what, advice="Save the adapter from the model that it is on.")
    return read_site_map(config["site_map"])


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    kinds = {"seed": int, "save_frozen": bool, "modules_to_save": list, "bias": str}
    for key, kind in kinds.items():
        value = config.get(key)
        if value is not None and type(value) is not kind:
            what = f"{folder}: {key} is a {type(value).__name__}, not a {kind.__name__}"
            raise StateError("E603", what, advice="Copy or save it again.")
    if config.get("bias") not in (None, "none"):
        what = f"{folder} has bias={config['bias'][:60]!r}: biases were trained beside the adapter"
        advice = "Load it with PEFT on its base, and merge it there."
        raise StateError("E620", what, advice=advice)


def _model(config: Mapping[str, Any], record: Record) -> Mapping[str, str]:
    told = config.get("base_model_name_or_path")
    name = record.model["name"] or (told if isinstance(told, str) else "")
    return {**record.model, "name": name}


def attach_tuned(model: nn.Module, found: TunerCheckpoint, *, name: str = "default") -> Adapter:
    """Attach a folder that was read, to its base or to a stand-in.

    The cores are what PEFT loads: of float32 at least, frozen ones that were not saved drawn anew.

    Raises
    ------
    StateError
        E612 for frozen cores that follow from the weights of a base that is not at hand; E613 for
        tensors of another shape; E615 for another model.
    AttachError
        E508 for a name that is taken, E514 for a module that another adapter trains.
    """
    check_nesting(model)
    check_name(name, registry_of(model))
    made = make_design(model, replace(found.record, train=()), any_dtype=True)
    train, values = trained_values(
        model, found.path, found.record.train, found.others, list(made.sites)
    )
    design = replace(made, train=train)
    dtype = _check_cores(model, design, found)
    adapter = build(model, design, name, seed=None, dtype=dtype, real=True)
    for group in design.groups:
        if any((group.name, core) not in found.cores for core in group.bound.shapes):
            draw_cores(model, adapter.banks[group.name], found.seed, design.key(group))
    for (name_of, core), value in found.cores.items():
        put(adapter.banks[name_of].tensors()[core], value)
    install.attach(adapter, values)
    return adapter


def _check_cores(model: nn.Module, design: Design, found: TunerCheckpoint) -> torch.dtype:
    """Check the tensors, and return the dtype that they are kept in."""
    dtype = torch.float32
    for group in design.groups:
        for core, shape in design.shapes(group).items():
            tensor = found.cores.get((group.name, core))
            if tensor is None:
                _check_drawn(model, design, found, core)
            elif tuple(tensor.shape) != shape or not tensor.is_floating_point():
                what = f"{found.path}: core {core} of {group.name} is {tensor.dtype} of shape "
                what += f"{tuple(tensor.shape)}, and floating-point numbers of {shape} are due"
                raise StateError("E613", what, advice=_CHANGED)
            else:
                check_finite(found.path, f"core {core} of {group.name}", tensor)
                dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _check_drawn(model: nn.Module, design: Design, found: TunerCheckpoint, core: str) -> None:
    if design.family.start is not None and getattr(model, "is_stand_in", False):
        what = f"{found.path} does not hold the frozen core {core} of {design.family.label}, which "
        what += "follows from the weights of the base"
        advice = (
            "Give the base too: `tenslora import ADAPTER OUT --model BASE`, or export the same."
        )
        raise StateError("E612", what, advice=advice)
