"""Which checkpoint is being loaded while an adapter is put on a model.

PEFT and transformers first let a tuner put the adapter on the model, and read its tensors later,
which the tuner is not told of. So their loading functions are looked for among those that are
running, and the arguments that they were called with are read; nothing of them is changed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from peft import PeftModel
from torch import Tensor

__all__ = ["Loading", "find_loading"]


@dataclass(frozen=True)
class Loading:
    """A checkpoint that is being loaded.

    Attributes
    ----------
    name : a folder, or an id of the hub; ``None`` where the tensors themselves were given.
    options : of a download from the hub, with the subfolder.
    tensors : those that were given.
    key_mapping : how PEFT renames tensors, by regular expressions.
    any_shape : tensors of another shape than the model's are left out, but for the cores.
    pickled : a pickled file is asked for.
    """

    name: str | None
    options: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] | None = None
    key_mapping: Mapping[str, str] = field(default_factory=dict)
    any_shape: bool = False
    pickled: bool = False


def find_loading(adapter_name: str) -> Loading | None:
    """The checkpoint that is being loaded as this adapter; ``None`` where it is a new one."""
    readers = _readers()
    frame = inspect.currentframe()
    while frame is not None:
        read = readers.get(frame.f_code)
        if read is not None and frame.f_locals.get("adapter_name") == adapter_name:
            return read(frame.f_locals)
        frame = frame.f_back
    return None


def _readers() -> dict[CodeType, Callable[[Mapping[str, Any]], Loading]]:
    """How the arguments of each function that loads are read."""
    found: dict[CodeType, Callable[[Mapping[str, Any]], Loading]] = {
        _code(PeftModel.from_pretrained): _of_peft,
        _code(PeftModel.load_adapter): _of_peft,
    }
    mixin = getattr(sys.modules.get("transformers.integrations.peft"), "PeftAdapterMixin", None)
    if mixin is not None:
        found[_code(mixin.load_adapter)] = _of_transformers
    return found


def _code(function: Any) -> CodeType:
    found: CodeType = inspect.unwrap(getattr(function, "__func__", function)).__code__
    return found


def _of_peft(told: Mapping[str, Any]) -> Loading:
    options = {**told.get("kwargs", {}), **told.get("hf_hub_download_kwargs", {})}
    return Loading(
        str(told["model_id"]),
        options,
        key_mapping=told.get("key_mapping") or {},
        any_shape=bool(options.get("ignore_mismatched_sizes")),
    )


def _of_transformers(told: Mapping[str, Any]) -> Loading:
    config, name = told["load_config"], told["peft_model_id"]
    return Loading(
        None if name is None else str(name),
        config.download_kwargs or {},
        told["adapter_state_dict"],
        any_shape=bool(config.ignore_mismatched_sizes),
        pickled=config.use_safetensors is False,
    )
