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
from tenslora.nn.lora import attach_lora
from tenslora.nn.lorafile import CONFIG, Checkpoint, read_checkpoint
from tenslora.nn.record import Record
from tenslora.nn.spans import within
from tenslora.nn.state import load, read_file
from tenslora.nn.tunerfile import attach_tuned, is_tuned, read_tuner
from tenslora.spec import slot_size

__all__ = ["ADAPTER_FILE", "adapter_file", "load_alone", "stand_in"]

#: The name of an adapter's file in the folder of a run.
ADAPTER_FILE = "adapter.safetensors"


class Linear(nn.Linear):
    """A layer without values; ``told_dtype`` is what the file says of its weight's dtype."""

    def __init__(self, out: int, width: int, dtype: str) -> None:
        super().__init__(width, out, bias=False, device="meta")
        self.told_dtype = dtype


class Conv1D(nn.Module):
    """A layer that keeps its weight as (in, out), known by its name as transformers' is."""

    def __init__(self, width: int, out: int, dtype: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, out, device="meta"))
        self.told_dtype = dtype


def load_alone(path: str | Path) -> Adapter:
    """Read a checkpoint without its base, onto a model that cannot be called.

    Parameters
    ----------
    path : a file of :meth:`tenslora.Adapter.save`; the folder of a run, with
        ``adapter.safetensors``; or a folder of PEFT, with ``adapter_config.json``: of a plain LoRA,
        as :func:`tenslora.load_lora` reads it, or of :class:`tenslora.TensLoraConfig`.

    Raises
    ------
    StateError
        As :func:`tenslora.load` and :func:`tenslora.load_lora` say; E615 for the fused weights of a
        quantised base, whose shape the file does not tell; E612 for frozen cores that follow from
        the weights of the base, and were not saved.

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
    file = adapter_file(Path(path))
    if file is None:
        folder = Path(path)
        if is_tuned(folder):
            tuned = read_tuner(folder)
            return attach_tuned(_stand_in(tuned.record, tuned.others, folder), tuned)
        found = read_checkpoint(folder)
        return attach_lora(_stand_in_of_lora(found), found)
    record, trained = read_file(file)
    return load(_stand_in(record, trained, file), file, any_dtype=True)


def adapter_file(path: Path) -> Path | None:
    """The adapter's file of a path, or of a run's folder; ``None`` for a folder of PEFT.

    Raises
    ------
    StateError
        E610 for a folder of neither.
    """
    if (path / CONFIG).is_file():
        return None
    file = path / ADAPTER_FILE
    if path.is_dir() and not file.is_file():
        what = f"{path} holds neither {ADAPTER_FILE} nor {CONFIG}"
        advice = (
            "Give the file of Adapter.save, or a folder of PEFT: a plain LoRA, or tenslora's own."
        )
        inner = sorted(found.parent.name for found in path.glob(f"*/{CONFIG}"))
        if inner:
            what += f"; adapters are in its folders: {', '.join(inner[:4])}"
            advice = "Give the folder of one adapter."
        raise StateError("E610", what, advice=advice)
    return file if path.is_dir() else path


def _root(kind: str, name: str) -> nn.Module:
    made = type(kind if kind.isidentifier() else "Model", (nn.Module,), {"is_stand_in": True})
    root: Any = made()
    root.config = SimpleNamespace(_name_or_path=name)
    return root  # type: ignore[no-any-return]


def stand_in(
    shapes: Mapping[str, tuple[int, int]],
    *,
    kind: str = "",
    name: str = "",
    transposed: bool = False,
) -> nn.Module:
    """Make a model of linear layers alone, of weights without values and of no known dtype.

    Parameters
    ----------
    shapes : (out, in) by the path of the layer.
    kind, name : the class and the name of the model that it stands for.
    transposed : whether the weights are kept as (in, out).

    Examples
    --------
    >>> [name for name, _ in stand_in({"layers.0.q": (8, 8)}).named_parameters()]
    ['layers.0.q.weight']
    """
    root = _root(kind, name)
    for place, (out, width) in shapes.items():
        layer = Conv1D(width, out, "unknown") if transposed else Linear(out, width, "unknown")
        _put_module(root, place, layer)
    return root


def _stand_in_of_lora(found: Checkpoint) -> nn.Module:
    """The weights that a LoRA's matrices tell of; of what dtype they are, they do not tell."""
    places = sorted(found.pairs, key=_natural)  # tensors of a file come in no order
    sides = {place: found.pairs[place] for place in places}
    shapes = {place: (b.shape[0], a.shape[1]) for place, (b, a) in sides.items()}
    kind, name = found.base
    root = stand_in(shapes, kind=kind, name=name, transposed=found.transposed)
    _put_trained(root, found.others)
    return root


def _natural(path: str) -> list[tuple[int, str]]:
    """Words of a path, with layer 2 before layer 10."""
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in path.split(".")]


def _stand_in(record: Record, trained: Mapping[str, Tensor], path: str | Path) -> nn.Module:
    root = _root(record.model["class"], record.model["name"])
    turned = _transposed(record)
    for place, weight in record.base.items():
        shape = weight["shape"]
        good = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)
        if not good or not any(_fits(record, place, s) for s in (shape, shape[::-1])):
            what = f"{path} does not tell the shape of {place}, whose base is quantised"
            raise StateError("E615", what, advice="Load it on its base, and export it there.")
        conv = turned and (place in turned or shape[0] == shape[1])
        kind = Conv1D if conv else Linear
        _put_module(root, place, kind(shape[0], shape[1], str(weight["dtype"])))
    for group in record.groups:
        for site in group["sites"]:
            root.get_submodule(site["path"]).told_heads = group["sizes"].get("head", 0)
    _put_trained(root, trained)
    return root


def _put_trained(root: nn.Module, trained: Mapping[str, Tensor]) -> None:
    for place, tensor in trained.items():
        owner, _, last = place.rpartition(".")
        holder = _module(root, owner.split("."))
        if tensor.is_floating_point():
            holder.register_parameter(last, nn.Parameter(torch.zeros_like(tensor)))
        else:
            holder.register_buffer(last, torch.zeros_like(tensor))


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
