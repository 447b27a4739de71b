"""The tensors of a checkpoint, before they are put into a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from tenslora.errors import StateError
from tenslora.integrations.peft.loading import Loading
from tenslora.integrations.peft.reading import FLOATS, Told, opened, tell
from tenslora.nn.bank import Bank
from tenslora.nn.design import Design
from tenslora.nn.finite import check_finite
from tenslora.nn.shards import is_sharded
from tenslora.nn.tunerfile import ROOT, core_name

__all__ = ["check_loading", "check_state"]

_Shapes = Mapping[str, tuple[int, ...]]

_MODEL = f"{ROOT}model."
#: What PEFT and FSDP put into the names of modules that they wrap.
_WRAPPED = (".base_layer", ".original_module", ".modules_to_save", "_fsdp_wrapped_module.")
_ADVICE = "It belongs to another adapter or was changed: save the adapter again."


def check_loading(
    loading: Loading, config: Any, model: nn.Module, design: Design, *, pickles: bool
) -> None:
    """Check what PEFT or transformers is going to read, before the model is changed.

    Raises
    ------
    StateError
        E610 for a file that is missing, pickled or not whole; E612 for missing or unknown tensors;
        E613 for shapes, and for cores that are not of finite floating-point numbers.
    """
    cores = {
        ROOT + core_name(config.bank, group.name, group.sites[0].path, core): shape
        for group in design.groups
        for core, shape in design.shapes(group).items()
        if config.save_frozen or core not in design.family.frozen
    }
    heads = {_MODEL + n: s for n, s in _saved_whole(model, config.modules_to_save or ())}
    others = {**{_MODEL + n: s for n, s in _shapes(model)}, **heads}
    known = cores.keys() | others.keys()
    with opened(loading, pickles=pickles) as source:
        if source is None:
            return
        where, told = source
        found = {_named(name, loading): value for name, value in told.items()}
        unknown = {name for name in found if _plain(name) not in known}
        _compare(where, found, cores, (cores.keys() | heads.keys()) - found.keys(), unknown)
        if not loading.any_shape:
            plain = {_plain(name): value for name, value in found.items()}
            _check_shapes(where, {n: plain[n] for n in plain.keys() & others.keys()}, others)


def check_state(model: nn.Module, banks: Iterable[Bank], values: Mapping[str, Tensor]) -> None:
    """Check a state dict, with the names of the model, that PEFT is going to load.

    Raises
    ------
    StateError
        E612 for missing or unknown tensors; E613 for shapes, and for cores that are not of finite
        floating-point numbers.
    """
    paths = {module: _plain(path) for path, module in model.named_modules()}
    cores = {
        f"{paths[bank]}.{name}": bank.shapes[name]
        for bank in banks
        if bank in paths
        for name in bank.state_dict()
    }
    found = {_plain(name): value for name, value in tell(values).items()}
    known = {*cores, *dict(_shapes(model))}
    unknown = {n for n in found if n not in known and n.removeprefix(_MODEL) not in known}
    _compare("the state dict", found, cores, cores.keys() - found.keys(), unknown)


def _named(name: str, loading: Loading) -> str:
    """The name of a tensor as PEFT is going to read it; given tensors may have the model's own."""
    if loading.tensors is not None and not name.startswith(ROOT):
        return _MODEL + name
    if not loading.key_mapping:
        return name
    prefix = _MODEL if name.startswith(_MODEL) else ROOT
    rest = name.removeprefix(prefix)
    for pattern, replacement in loading.key_mapping.items():
        made, count = re.subn(pattern, replacement, rest)
        if count:
            return prefix + made
    return name


def _compare(
    where: str,
    found: Mapping[str, Told],
    cores: _Shapes,
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
    _check_shapes(where, {name: found[name] for name in cores}, cores)
    for name in cores:
        _check_numbers(where, name, found[name])


def _check_shapes(where: str, found: Mapping[str, Told], due: _Shapes) -> None:
    for name, value in found.items():
        if value.shape != due[name]:
            what = f"{where}: {name} has shape {value.shape}, and {due[name]} is due"
            raise StateError("E613", what, advice=_ADVICE)


def _check_numbers(where: str, name: str, value: Told) -> None:
    if value.dtype not in FLOATS:
        what = f"{where}: {name} is of {value.dtype}, and floating-point numbers are due"
        raise StateError("E613", what, advice=_ADVICE)
    numbers = value.read()
    if not (numbers.is_meta or is_sharded(numbers)):
        check_finite(where, name, numbers)


def _saved_whole(model: nn.Module, endings: Iterable[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors of `modules_to_save`, which PEFT finds by how their paths end."""
    for path, module in model.named_modules():
        if path.endswith(tuple(endings)) and _plain(path) == path:
            wrapped = isinstance(module, AuxiliaryTrainingWrapper)
            whole: Any = module.original_module if wrapped else module
            for name, value in whole.state_dict(keep_vars=True).items():
                yield f"{path}.{name}", _shape(value)


def _shapes(model: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    for found in (model.named_parameters, model.named_buffers):
        for name, value in found(remove_duplicate=False):
            yield _plain(name), _shape(value)


def _shape(value: Tensor) -> tuple[int, ...]:
    return tuple(getattr(value, "ds_shape", value.shape))  # DeepSpeed leaves an empty one in place


def _plain(name: str) -> str:
    for word in _WRAPPED:
        name = name.replace(word, "")
    return name
