"""The tensors of a checkpoint, before they are put into a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tenslora.errors import StateError
from tenslora.nn.bank import Bank
from tenslora.nn.design import Design

__all__ = ["check_file", "check_state", "core_name"]

_FILE = "adapter_model.safetensors"
_ROOT, _MODEL = "base_model.", "base_model.model."
#: What PEFT and FSDP put into the names of modules that they wrap.
_WRAPPED = (".base_layer", ".original_module", ".modules_to_save", "_fsdp_wrapped_module.")
_ADVICE = "It belongs to another adapter or was changed: save the adapter again."


def core_name(house: str, group: str, path: str, core: str) -> str:
    """The name of a core in a checkpoint, behind ``base_model.``; ``path`` is the first layer's."""
    owner = "" if house == "tuner" else f"model.{path}."
    return f"{owner}tenslora_{group}.{core}"


def check_file(config: Any, model: nn.Module, design: Design) -> None:
    """Check the file that PEFT is going to read, where the configuration was read beside it.

    The shape of a module that was saved whole is left to PEFT, which may be told to ignore it.

    Raises
    ------
    StateError
        E610 for a file that is not whole; E612 for missing or unknown tensors; E613 for shapes.
    """
    path = _locate(config.source)
    if path is None or config.site_map is None:
        return
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        what = f"{path} is no whole safetensors file: {error}"
        raise StateError("E610", what, advice="Copy or save it again.") from None
    cores = {
        _ROOT + core_name(config.bank, group.name, group.sites[0].path, core): shape
        for group in design.groups
        for core, shape in group.bound.shapes.items()
        if config.save_frozen or core not in design.family.frozen
    }
    heads = {_MODEL + name for name in _saved_whole(model, config.modules_to_save or ())}
    base = {_MODEL + name for name in _names(model)}
    unknown = {name for name in found if _plain(name) not in cores.keys() | heads | base}
    _compare(path, found, cores, (cores.keys() | heads) - found.keys(), unknown)


def check_state(model: nn.Module, banks: Iterable[Bank], values: Mapping[str, Tensor]) -> None:
    """Check a state dict, with the names of the model, that PEFT is going to load.

    Raises
    ------
    StateError
        E612 for missing or unknown tensors; E613 for shapes.
    """
    paths = {module: _plain(path) for path, module in model.named_modules()}
    cores = {
        f"{paths[bank]}.{name}": bank.bound.shapes[name]
        for bank in banks
        if bank in paths
        for name in bank.state_dict()
    }
    found = {_plain(name): tuple(value.shape) for name, value in values.items()}
    known = {*cores, *_names(model)}
    unknown = {n for n in found if n not in known and n.removeprefix(_MODEL) not in known}
    _compare("the state dict", found, cores, cores.keys() - found.keys(), unknown)


def _compare(
    where: str,
    found: Mapping[str, tuple[int, ...]],
    cores: Mapping[str, tuple[int, ...]],
    missing: AbstractSet[str],
    unknown: AbstractSet[str],
) -> None:
    parts = [
        f"{word} {', '.join(sorted(names)[:4])}"
        for word, names in (("unknown tensors", unknown), ("missing tensors", missing))
        if names
    ]
    if parts:
        raise StateError("E612", f"{where} has {' and '.join(parts)}", advice=_ADVICE)
    for name, shape in cores.items():
        if found[name] != shape:
            what = f"{where}: {name} has shape {found[name]}, and {shape} is due"
            raise StateError("E613", what, advice=_ADVICE)


def _locate(source: tuple[str, str | None, dict[str, Any]] | None) -> str | None:
    """The file of tensors beside a configuration; of the hub's, PEFT reads the same copy later."""
    if source is None:
        return None
    name, subfolder, options = source
    if Path(name).is_dir():
        path = Path(name, subfolder or "", _FILE)
        return str(path) if path.is_file() else None
    try:
        found: Any = hf_hub_download(name, _FILE, subfolder=subfolder, **options)
    except (OSError, ValueError):  # PEFT looks for other files, and tells what it cannot find
        return None
    return str(found)


def _saved_whole(model: nn.Module, endings: Iterable[str]) -> Iterator[str]:
    """The names of the tensors of `modules_to_save`, which PEFT finds by how their paths end."""
    for path, module in model.named_modules():
        if path.endswith(tuple(endings)) and _plain(path) == path:
            wrapped = isinstance(module, AuxiliaryTrainingWrapper)
            whole: Any = module.original_module if wrapped else module
            yield from (f"{path}.{name}" for name in whole.state_dict())


def _names(model: nn.Module) -> Iterator[str]:
    for found in (model.named_parameters, model.named_buffers):
        yield from (_plain(name) for name, _ in found(remove_duplicate=False))


def _plain(name: str) -> str:
    for word in _WRAPPED:
        name = name.replace(word, "")
    return name
