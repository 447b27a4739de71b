"""Adapters on disk: one safetensors file, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from tenslora.errors import AttachError, StateError
from tenslora.nn import install
from tenslora.nn.attaching import build
from tenslora.nn.files import write_whole
from tenslora.nn.finite import check_finite
from tenslora.nn.record import Record, describe, make_design, read_record
from tenslora.nn.registry import check_name, check_nesting, registry_of
from tenslora.nn.shards import put, reshard, whole

if TYPE_CHECKING:
    from tenslora.nn.adapter import Adapter
    from tenslora.nn.bank import Bank

__all__ = ["describe", "load", "load_into", "read_file", "save", "set_tensors", "tensors_of"]

_KEY = "tenslora"


def save(adapter: Adapter, path: str | Path, *, write: bool = True) -> None:
    """Write an adapter's file: equal adapters give equal bytes.

    Tensors that FSDP2 has cut into parts are gathered, in which every process has to take part;
    ``write=False`` takes part and leaves the file to another.

    Raises
    ------
    StateError
        E616 where it cannot be written; E613 for cores on the meta device, which have no values.
    """
    reshard(adapter.model)
    tensors = {name: _plain(tensor, name) for name, tensor in _own_tensors(adapter).items()}
    if not write:
        return
    record = describe(adapter)
    record["digests"] = {name: _digest(tensor) for name, tensor in tensors.items()}
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    _write(Path(path), to_bytes(tensors, {_KEY: text}))


def load(
    model: nn.Module,
    path: str | Path,
    *,
    name: str | None = None,
    any_dtype: bool = False,
    plan: Mapping[str, Any] | None = None,
    recompute: bool = False,
) -> Adapter:
    """Attach an adapter that was saved, with its numbers.

    Everything is checked before anything is changed: the record, the exact set of tensors, their
    shapes, dtypes and digests, that the cores are finite, and that the model has the weights that
    the adapter was made on.

    Parameters
    ----------
    model : the base, as before :func:`tenslora.attach`.
    path : a file that :meth:`Adapter.save` wrote.
    name : the name on the model; by default the one it was saved with.
    any_dtype : accept a base whose weights have another dtype than the one it was made on.
    plan : for which machine, as in :func:`tenslora.attach`; the file says nothing of it.
    recompute : keep next to nothing for the backward pass, as in :func:`tenslora.attach`; the file
        says nothing of it either.

    Raises
    ------
    StateError
        The file is missing, broken, or belongs to another model.
    AttachError
        E503 for an option that the planner does not have, E508 for a name that is taken, E514 for a
        trained module that another adapter trains.
    PlanError
        E411 and E412 for a plan that cannot be made.

    Examples
    --------
    >>> import tempfile, torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 4))
    >>> adapter = tl.attach(model, "W[out in] = B[out r] A[r in]", targets="all-linear", ranks=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     adapter.save(f"{folder}/adapter.safetensors")
    ...     adapter.detach()
    ...     tl.load(model, f"{folder}/adapter.safetensors")
    <Adapter 'default' W[out in] = B[out r] A[r in]: 2 sites, 52 parameters, attached>
    """
    if not isinstance(model, nn.Module):
        what = f"the model is a {type(model).__name__}, no torch.nn.Module"
        raise AttachError("E503", what, advice="Load the base model first.")
    check_nesting(model)
    with _open(path) as file:
        record = _record(file, path)
        check_name(record.name if name is None else name, registry_of(model))
        design = make_design(model, record, any_dtype=any_dtype)
        _check_train(model, design.train)
        expected = _expected(
            {group.name: design.shapes(group) for group in design.groups},
            install.trained_tensors(model, design.train),
        )
        dtype = _check_header(file, expected, path)
        tensors = _read(file, record, expected, path)
    chosen = record.name if name is None else name
    adapter = build(
        model, design, chosen, seed=None, dtype=dtype, real=True, plan=plan, recompute=recompute
    )
    _fill(adapter.banks.values(), tensors)
    install.attach(adapter, _trained_values(tensors))
    return adapter


def load_into(adapter: Adapter, path: str | Path) -> None:
    """Read values into an attached adapter of the same design."""
    if adapter.merged:
        what = f"adapter {adapter.name!r} is merged"
        raise AttachError("E511", what, advice="Unmerge it before loading other values.")
    with _open(path) as file:
        record = _record(file, path)
        make_design(adapter.model, record, any_dtype=True)
        mine = describe(adapter)
        for key, other in (("groups", list(record.groups)), ("train", list(record.train))):
            if json.loads(json.dumps(mine[key])) != other:
                what = f"{path} holds an adapter with other {key} than {adapter.name!r}"
                raise StateError("E617", what, advice="tenslora.load attaches it as it is.")
        if (record.family.network, record.wrapper) != (adapter.family.network, adapter.wrapper):
            held = " in ".join(map(str, filter(None, (record.family.equation, record.wrapper))))
            what = f"{path} holds {held}, not {adapter.design.label}"
            raise StateError("E617", what, advice="tenslora.load attaches it as it is.")
        expected = _expected(
            {group.name: adapter.design.shapes(group) for group in adapter.design.groups},
            install.trained_tensors(adapter.model, adapter.design.train),
        )
        _check_header(file, expected, path)
        tensors = _read(file, record, expected, path)
    reshard(adapter.model)
    _fill(adapter.banks.values(), tensors)
    install.set_trained(adapter, _trained_values(tensors))


def read_file(path: str | Path) -> tuple[Record, dict[str, Tensor]]:
    """Read a file's record, and the tensors of modules that were trained whole, without a model."""
    with _open(path) as file:
        record = _record(file, path)
        names = [name for name in file.keys() if name.startswith("train.")]  # noqa: SIM118
        return record, _trained_values({name: file.get_tensor(name) for name in names})


_DESIGN = "design"


def tensors_of(adapter: Adapter) -> dict[str, Tensor]:
    """See :meth:`tenslora.Adapter.state_dict`."""
    copies = {name: tensor.detach().clone() for name, tensor in _own_tensors(adapter).items()}
    return {**copies, _DESIGN: _design_digest(adapter)}


def set_tensors(adapter: Adapter, values: Mapping[str, Tensor]) -> None:
    """See :meth:`tenslora.Adapter.load_state_dict`."""
    own = _own_tensors(adapter)
    if adapter.merged:
        what = f"adapter {adapter.name!r} is merged"
        raise AttachError("E511", what, advice="Unmerge it before loading other values.")
    odd = sorted(values.keys() ^ {*own, _DESIGN})
    if odd:
        what = f"the state dict has missing or unknown tensors {', '.join(odd[:4])}"
        raise StateError("E612", what, advice="It belongs to another adapter.")
    for name, tensor in own.items():
        if values[name].shape != tensor.shape:
            what = f"{name} has shape {tuple(values[name].shape)}, and {tuple(tensor.shape)} is due"
            raise StateError("E613", what, advice="It belongs to another adapter.")
    if not torch.equal(values[_DESIGN].cpu(), _design_digest(adapter)):
        what = f"the state dict belongs to an adapter of another design than {adapter.name!r}"
        raise StateError("E617", what, advice="Family, sizes, scale and sites have to be equal.")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(values[name])


def _design_digest(adapter: Adapter) -> Tensor:
    """What the numbers mean, in 32 bytes: a tensor, so that no checkpoint has to pickle it."""
    record = describe(adapter)
    parts = {key: record[key] for key in ("groups", "train")}
    words = [str(word) for word in (adapter.family.network, adapter.wrapper) if word is not None]
    text = json.dumps([*words, parts], sort_keys=True)
    return torch.tensor(list(hashlib.sha256(text.encode()).digest()), dtype=torch.uint8)


def _own_tensors(adapter: Adapter) -> dict[str, Tensor]:
    cores = {
        f"cores.{group}.{name}": core
        for group, bank in adapter.banks.items()
        for name, core in bank.tensors().items()
    }
    trained = install.trained_tensors(adapter.model, adapter.design.train)
    return {**cores, **{f"train.{name}": tensor for name, tensor in trained.items()}}


def _trained_values(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("train."): t for k, t in tensors.items() if k.startswith("train.")}


def _fill(banks: Iterable[Bank], tensors: Mapping[str, Tensor]) -> None:
    for bank in banks:
        for name, core in bank.tensors().items():
            put(core, tensors[f"cores.{bank.group}.{name}"])


def _plain(tensor: Tensor, name: str) -> Tensor:
    if tensor.is_meta:
        what = f"{name} is on the meta device: it has no values to save"
        raise StateError("E613", what, advice="Move the adapter to a device and draw or load it.")
    return whole(tensor).cpu().contiguous().clone()


def _digest(tensor: Tensor) -> str:
    flat = tensor.reshape(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy()).hexdigest()


def _write(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror or error}"
        advice = "Give a file in a folder that exists and can be written."
        raise StateError("E616", what, advice=advice) from error


def _open(path: str | Path) -> Any:
    if not Path(path).is_file():
        what = f"there is no file {path}"
        raise StateError("E610", what, advice="Give the file that Adapter.save wrote.")
    try:
        return safe_open(str(path), framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        what = f"{path} is no whole safetensors file: {error}"
        raise StateError("E610", what, advice="Copy or save it again.") from None


def _record(file: Any, path: str | Path) -> Record:
    metadata = file.metadata() or {}
    if set(metadata) != {_KEY}:
        what = f"{path} is a safetensors file, but no adapter of tenslora"
        raise StateError("E611", what, advice="Give the file that Adapter.save wrote.")
    return read_record(metadata[_KEY])


def _check_train(model: nn.Module, paths: Iterable[str]) -> None:
    registry = registry_of(model)
    taken = {p for e in (registry.entries.values() if registry else ()) for p in e.design.train}
    for path in paths:
        if path in taken:
            what = f"{path} is trained by another adapter already"
            raise AttachError("E514", what, advice="Detach that adapter first.")


def _expected(
    shapes: Mapping[str, Mapping[str, tuple[int, ...]]], trained: Mapping[str, Tensor]
) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor that the file has to hold."""
    cores = {
        f"cores.{group}.{name}": shape
        for group, held in shapes.items()
        for name, shape in held.items()
    }
    return {**cores, **{f"train.{n}": tuple(t.shape) for n, t in trained.items()}}


_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def _check_header(
    file: Any,
    expected: Mapping[str, tuple[int, ...]],
    path: str | Path,
) -> torch.dtype:
    """Check names, shapes and dtypes before any tensor is read, and return the cores' dtype."""
    found = set(file.keys())
    if found != set(expected):
        parts = [
            f"{word} {', '.join(sorted(names)[:4])}"
            for word, names in (
                ("unknown tensors", found - set(expected)),
                ("missing tensors", set(expected) - found),
            )
            if names
        ]
        what = f"{path} has {' and '.join(parts)}"
        raise StateError("E612", what, advice="It belongs to another adapter or was changed.")
    dtypes = set()
    for name, shape in expected.items():
        held = file.get_slice(name)
        if tuple(held.get_shape()) != shape:
            what = f"{path}: {name} has shape {tuple(held.get_shape())}, and {shape} is due"
            raise StateError("E613", what, advice="It belongs to another adapter or was changed.")
        if name.startswith("cores."):
            dtypes.add(held.get_dtype())
    if len(dtypes) != 1 or not dtypes <= set(_DTYPES):
        what = f"{path}: cores of {', '.join(sorted(dtypes))}"
        raise StateError("E613", what, advice=f"All cores have one of {', '.join(_DTYPES)}.")
    return _DTYPES[dtypes.pop()]


def _read(
    file: Any, record: Record, expected: Iterable[str], path: str | Path
) -> dict[str, Tensor]:
    if set(record.digests) != set(expected):
        what = f"{path}: the record has digests of other tensors than the file"
        raise StateError("E614", what, advice="The file is broken: copy or save it again.")
    tensors = {name: file.get_tensor(name) for name in expected}
    for name, tensor in tensors.items():
        if _digest(tensor) != record.digests[name]:
            what = f"{path}: {name} has not the digest that it was saved with"
            raise StateError("E614", what, advice="The file is broken: copy or save it again.")
        if name.startswith("cores."):
            check_finite(path, name, tensor)
    return tensors
