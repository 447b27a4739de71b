"""A model that has nothing but the names and shapes that a checkpoint tells of.

It lets an adapter be read where its base is not at hand: to export it, or to look at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tenslora.errors import StateError
from tenslora.nn.adapter import Adapter
from tenslora.nn.record import Record
from tenslora.nn.spans import within
from tenslora.nn.state import load, read_file
from tenslora.spec import slot_size

__all__ = ["load_alone"]


class Conv1D(nn.Module):
    """A layer that keeps its weight as (in, out), known by its name as transformers' is."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, out, device="meta"))


def load_alone(path: str | Path) -> Adapter:
    """Read a checkpoint without its base, onto a model that cannot be called.

    Raises
    ------
    StateError
        As :func:`tenslora.load` says; E615 for the fused weights of a quantised base, whose shape
        the file does not tell.

    Examples
    --------
    >>> import tempfile, torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Linear(6, 8))
    >>> adapter = tl.attach(model, "W[out in] = B[out r] A[r in]", targets="0", ranks=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     adapter.save(f"{folder}/a.safetensors")
    ...     alone = load_alone(f"{folder}/a.safetensors")
    >>> alone.delta("0").shape, type(alone.model).__name__
    (torch.Size([6, 8]), 'Sequential')
    """
    record, trained = read_file(path)
    return load(_stand_in(record, trained, path), path, any_dtype=True)


def _stand_in(record: Record, trained: Mapping[str, Tensor], path: str | Path) -> nn.Module:
    name = record.model["class"]
    kind = type(name if name.isidentifier() else "Model", (nn.Module,), {"is_stand_in": True})
    root: Any = kind()
    root.config = SimpleNamespace(_name_or_path=record.model["name"])
    turned = _transposed(record)
    for place, weight in record.base.items():
        shape = weight["shape"]
        good = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)
        if not good or not any(_fits(record, place, s) for s in (shape, shape[::-1])):
            what = f"{path} does not tell the shape of {place}, whose base is quantised"
            raise StateError("E615", what, advice="Load it on its base, and export it there.")
        if turned and (place in turned or shape[0] == shape[1]):
            layer: nn.Module = Conv1D(*shape)
        else:
            layer = nn.Linear(shape[1], shape[0], bias=False, device="meta")
        _put_module(root, place, layer)
    for place, tensor in trained.items():
        owner, _, last = place.rpartition(".")
        holder = _module(root, owner.split("."))
        if tensor.is_floating_point():
            holder.register_parameter(last, nn.Parameter(torch.zeros_like(tensor)))
        else:
            holder.register_buffer(last, torch.zeros_like(tensor))
    return root  # type: ignore[no-any-return]


def _transposed(record: Record) -> set[str]:
    """The weights that fit their sites as (in, out) alone."""
    return {
        place
        for place, weight in record.base.items()
        if not _fits(record, place, weight["shape"]) and _fits(record, place, weight["shape"][::-1])
    }


def _fits(record: Record, place: str, shape: Iterable[int]) -> bool:
    out, width = shape
    return all(
        _side(span, total, full, shared)
        for spans, sizes, shared in _sites(record, place)
        for span, total, full in zip(spans, (out, width), sizes, strict=True)
    )


def _side(span: Any, total: int, full: int, shared: bool) -> bool:
    if span is not None:
        return within(span, total)
    return total <= full if shared else total == full


def _sites(record: Record, place: str) -> Iterator[tuple[tuple[Any, Any], tuple[int, int], bool]]:
    """Rows and columns, the features of the group, and whether smaller weights share its cores."""
    network = record.family.network
    for group in record.groups:
        sizes = group["sizes"]
        both = slot_size(network.output, sizes), slot_size(network.input, sizes)
        shapes = {tuple(sorted(record.base[s["path"]]["shape"])) for s in group["sites"]}
        whole = all(s["rows"] is None and s["columns"] is None for s in group["sites"])
        for site in group["sites"]:
            if site["path"] == place:
                yield (site["rows"], site["columns"]), both, not whole or len(shapes) > 1


def _module(root: nn.Module, words: list[str]) -> nn.Module:
    for word in words:
        if word not in root._modules:
            root.add_module(word, nn.Module())
        root = root._modules[word]  # type: ignore[assignment]
    return root


def _put_module(root: nn.Module, place: str, module: nn.Module) -> None:
    owner, _, last = place.rpartition(".")
    holder = _module(root, owner.split(".") if owner else [])
    holder.add_module(last, module)
