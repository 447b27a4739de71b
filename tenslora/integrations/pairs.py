"""A model and one that was fine-tuned from it, loaded as one class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import transformers
from torch import nn

from tenslora.errors import DataError
from tenslora.integrations.transformers import locate, quiet, random_states_kept
from tenslora.nn.sites import find_sites

__all__ = ["load_pair"]


def load_pair(base: str, tuned: str, targets: Sequence[str]) -> tuple[nn.Module, nn.Module]:
    """Load two checkpoints of transformers in the class of the second.

    Parameters
    ----------
    base, tuned : folders or hub ids, or ``minilm``. What the first does not hold, such as the head
        of a task, is taken from the second.
    targets : endings of the names of modules that both have to hold.

    Raises
    ------
    DataError
        E707 where one of them cannot be loaded, they are of two shapes, or the first lacks a
        target.
    """
    where, local = locate(tuned)
    with quiet(), random_states_kept(0):
        try:
            config = transformers.AutoConfig.from_pretrained(where, local_files_only=local)
            names = getattr(config, "architectures", None) or ["AutoModel"]
            kind = getattr(transformers, names[0], transformers.AutoModel)
            second, _ = _load(kind, tuned)
            first, missing = _load(kind, base)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            if isinstance(error, DataError):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            what = f"{base} and {tuned} cannot be loaded as one class: {reason}"
            raise DataError("E707", what, advice="Name two folders of save_pretrained.") from error
    for site in find_sites(first, targets):
        if f"{site.path}.weight" in missing:
            what = f"{base} has no weight {site.path}: there is no difference to fit"
            raise DataError("E707", what, advice="Name targets that both models have.")
    _copy(first, second, missing)
    return first, second


def _load(kind: Any, name: str) -> tuple[nn.Module, tuple[str, ...]]:
    where, local = locate(name)
    model, info = kind.from_pretrained(
        where, dtype="auto", local_files_only=local, output_loading_info=True
    )
    return model, tuple(sorted(info["missing_keys"]))


def _copy(first: nn.Module, second: nn.Module, names: Iterable[str]) -> None:
    own, other = first.state_dict(keep_vars=True), second.state_dict(keep_vars=True)
    with torch.no_grad():
        for name in names:
            if name in own and name in other:
                own[name].copy_(other[name])
