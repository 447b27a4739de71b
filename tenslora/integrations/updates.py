"""Trained updates from a file: adapters of tenslora, and LoRA checkpoints of PEFT."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenslora.backends import executable, get
from tenslora.decompose import Updates, stack
from tenslora.errors import StateError
from tenslora.family import Bound
from tenslora.nn.grid import make_grid
from tenslora.nn.lorafile import scale_of
from tenslora.nn.naming import take_apart
from tenslora.nn.record import read_record
from tenslora.nn.site import Label, Site
from tenslora.spec import complete_sizes, core_shape

__all__ = ["read_lora", "read_updates"]

_Piece = tuple[Mapping[str, Label], NDArray[np.float64]]
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


def read_updates(path: str | Path, *, heads: int | None = None) -> tuple[Updates, ...]:
    """Read the updates of all weights that an adapter's file holds, without the model.

    Parameters
    ----------
    path : a file of :meth:`tenslora.Adapter.save`; or the folder of a LoRA checkpoint of PEFT, with
        ``adapter_config.json`` and ``adapter_model.safetensors``.
    heads : heads in the output of a weight, where they are wanted; a file of an equation with heads
        says them.

    Returns
    -------
    tuple of Updates
        One for each shape of weights.

    Raises
    ------
    StateError
        E610, E611, E612, E613 for a file that is none of these or lacks something; E603, E620 for a
        scale that is no number, or stands behind a regular expression.
    FitError
        E901 where the layers do not have the same projections.
    """
    place = Path(path)
    if place.is_dir():
        return stack(((coords, array) for _, coords, array in read_lora(place)), heads)
    tensors, metadata = _open(place)
    if "tenslora" not in metadata:
        what = f"{place} is no adapter of tenslora"
        advice = "Give the file that Adapter.save wrote, or the folder of a LoRA checkpoint."
        raise StateError("E611", what, advice=advice)
    record = read_record(metadata["tenslora"])
    found = heads
    for group in record.groups:
        found = found or group["sizes"].get("head")
    pieces = [p for g in record.groups for p in _read_group(record.family, g, tensors, place)]
    return stack(pieces, found)


def _open(path: Path) -> tuple[dict[str, Any], Mapping[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise StateError("E610", f"there is no file {path}", advice="Give an adapter's file.")
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            names = list(file.keys())
            tensors = {name: file.get_tensor(name).double().numpy() for name in names}
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        what = f"{path} is no whole safetensors file: {error}"
        raise StateError("E610", what, advice="Copy or save it again.") from None


def _read_group(
    family: Any, group: Mapping[str, Any], tensors: Mapping[str, Any], path: Path
) -> Iterator[_Piece]:
    network = family.network
    sizes = complete_sizes(network, group["sizes"])
    cores = {}
    for name, core in network.cores.items():
        key = f"cores.{group['name']}.{name}"
        if key not in tensors or tensors[key].shape != core_shape(core, sizes):
            what = f"{path} has no {key} of shape {core_shape(core, sizes)}"
            raise StateError("E612", what, advice="The file is broken: save it again.")
        cores[name] = tensors[key]
    bound = Bound(family, sizes, group["scale"])
    dense = bound.scale * executable(bound.plan(), get("numpy")).delta(cores)
    sites = [Site(s["path"], tuple(map(tuple, s["coords"]))) for s in group["sites"]]
    grid = make_grid(network, sites)
    for site, position in zip(sites, grid.positions, strict=True):
        yield dict(site.coords), dense[tuple(position[s] for s in network.sites)]


def read_lora(folder: Path) -> Iterator[tuple[str, Mapping[str, Label], NDArray[np.float64]]]:
    """Read a LoRA checkpoint of PEFT: for each weight its path, its place and its update.

    Raises
    ------
    StateError
        As :func:`read_updates`.
    """
    config = _config(folder / "adapter_config.json")
    tensors, _ = _open(folder / "adapter_model.safetensors")
    names = [n[: -len(_A)] for n in tensors if n.endswith(_A)]
    if not names:
        what = f"{folder} holds no {_A} of LoRA"
        raise StateError("E612", what, advice="Give a checkpoint of peft_type LORA.")
    for name in names:
        a, b = tensors[name + _A], tensors.get(name + _B)
        if b is None or a.ndim != 2 or b.ndim != 2 or b.shape[1] != a.shape[0]:
            what = f"{folder}: {name} has no pair of matrices that fit"
            raise StateError("E613", what, advice="The checkpoint is broken: save it again.")
        path = name.removeprefix(_PREFIX)
        _, layer, rest = take_apart(path)
        where: dict[str, Label] = {"proj": ".".join(rest), "layer": 0 if layer is None else layer}
        yield path, where, scale_of(folder, config, path, a.shape[0]) * (b @ a)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = f"{path} cannot be read: {error}"
        raise StateError("E610", what, advice="Give the folder that PEFT wrote.") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA" or config.get("use_dora"):
        what = f"{path} is of no plain LoRA"
        raise StateError("E611", what, advice="DoRA and other methods are no sum of two matrices.")
    return config
