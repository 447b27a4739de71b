"""Batches whose rows use different adapters: ``model(..., adapter_names=[...])``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from tenslora.errors import AttachError
from tenslora.integrations.peft.layers import TensLoraLinear

__all__ = ["adapter_names_passed"]

_BASE = "__base__"


@contextmanager
def adapter_names_passed(tuner: Any, names: Sequence[str], beams: Any) -> Iterator[None]:
    """Tell every layer, inside a ``with`` block, which adapter each row of its input uses.

    Raises
    ------
    AttachError
        E533 in training mode, and for an adapter that the model does not have.
    """
    _check(tuner, names)
    inner = list(names)
    if isinstance(beams, int) and beams > 1:  # beam search repeats the rows, but not the encoder's
        inner = [name for name in names for _ in range(beams)]
    encoder = _encoder(tuner.model)
    outside = set() if encoder is None else set(encoder.modules())
    with ExitStack() as stack:
        for module in tuner.model.modules():
            if isinstance(module, (TensLoraLinear, AuxiliaryTrainingWrapper)):
                rows = list(names) if module in outside else inner
                hook = partial(_pass, names=rows)
                stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        stack.enter_context(tuner.shared.override(set(names) - {_BASE}))
        yield


def _check(tuner: Any, names: Sequence[str]) -> None:
    if tuner.training:
        what = "Cannot pass `adapter_names` when the model is in training mode."
        raise AttachError("E533", what, advice="Call model.eval() first.")
    unknown = sorted(set(names) - {_BASE} - tuner.peft_config.keys())
    if unknown:
        what = f"Trying to infer with non-existing adapter(s): {', '.join(unknown)}"
        raise AttachError("E533", what, advice=f"There are {', '.join(tuner.peft_config)}.")


def _pass(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, names: list[str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, {**kwargs, "adapter_names": names}


def _encoder(model: nn.Module) -> nn.Module | None:
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return None
    get: Any = getattr(model, "get_encoder", None)
    return get() if callable(get) else None
