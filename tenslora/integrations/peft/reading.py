"""The tensors of a checkpoint: what they are, and their numbers where they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from peft.config import PeftConfig
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tenslora.errors import StateError
from tenslora.integrations.peft.loading import Loading

__all__ = ["FLOATS", "Told", "opened", "tell"]

_FILE, _PICKLED = "adapter_model.safetensors", "adapter_model.bin"

#: The dtypes that cores may have, by their names in safetensors.
_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
FLOATS = frozenset(_NAMES.values())


@dataclass(frozen=True)
class Told:
    """A tensor of a checkpoint; ``read`` gives its numbers."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Tensor]


def tell(tensors: Mapping[str, Tensor]) -> dict[str, Told]:
    """What is told of tensors that are there."""
    return {
        name: Told(tuple(value.shape), str(value.dtype).removeprefix("torch."), value.detach)
        for name, value in tensors.items()
    }


@contextmanager
def opened(loading: Loading, *, pickles: bool) -> Iterator[tuple[str, dict[str, Told]] | None]:
    """Where the tensors are and what is told of them, which can be read inside a ``with`` block.

    ``None`` for a pickled file with ``pickles``: it is not opened, and PEFT reads it later.

    Raises
    ------
    StateError
        E610 for a file that is not there, pickled, or not whole.
    """
    if loading.tensors is not None:
        yield "the state dict", tell(loading.tensors)
        return
    path = _locate(loading, pickles=pickles)
    if path is None:
        yield None
        return
    try:
        file = safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        what = f"{path} is no whole safetensors file: {error}"
        raise StateError("E610", what, advice="Copy or save it again.") from None
    with file:
        yield path, {name: _tell_slice(file, name) for name in file.keys()}  # noqa: SIM118


def _tell_slice(file: Any, name: str) -> Told:
    held = file.get_slice(name)
    dtype = held.get_dtype()
    return Told(tuple(held.get_shape()), _NAMES.get(dtype, dtype), lambda: file.get_tensor(name))


def _locate(loading: Loading, *, pickles: bool) -> str | None:
    """The path of the file; of the hub's, PEFT and transformers read the same copy later."""
    assert loading.name is not None  # tensors were not given
    options = PeftConfig._split_kwargs(dict(loading.options))[0]
    folder = Path(loading.name, options.get("subfolder") or "")
    whole, pickled = folder / _FILE, folder / _PICKLED
    if whole.is_file() and not (loading.pickled and pickled.is_file()):
        return str(whole)
    if pickled.is_file():
        if pickles:
            return None
        raise _pickled(pickled)
    if Path(loading.name).is_dir():
        what = f"there is no file {whole}"
        raise StateError("E610", what, advice="Give the folder that save_pretrained wrote.")
    try:
        return str(hf_hub_download(loading.name, _FILE, **options))
    except (OSError, ValueError) as error:
        if pickles:
            return None
        told = str(error).strip().partition("\n")[0]
        what = f"{loading.name} has no {_FILE} that can be had: {type(error).__name__}: {told}"
        advice = (
            "Give a folder or a repository of the hub that has one; pickled files are not read."
        )
        raise StateError("E610", what, advice=advice) from error


def _pickled(path: Path) -> StateError:
    advice = (
        "Save the adapter with save_pretrained(..., safe_serialization=True), or write its tensors "
        f"to {_FILE} with safetensors.torch.save_file."
    )
    return StateError("E610", f"{path} is pickled, and no pickled file is read", advice=advice)
