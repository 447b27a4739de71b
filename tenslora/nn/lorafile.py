"""PEFT's folder for a LoRA, read as data that somebody else may have written.

What PEFT can do beside LoRA and DoRA is refused by name, and so is a key of the configuration that
is not known here and says anything: a later PEFT may mean something by it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tenslora.errors import StateError
from tenslora.nn.finite import check_finite, widened

__all__ = [
    "CONFIG",
    "Checkpoint",
    "read_checkpoint",
    "read_config",
    "read_tensors",
    "trained_paths",
]

#: The name of the file that says what a folder of PEFT is.
CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_PAIR = re.compile(r"(?P<path>.+)\.lora_(?P<kind>[AB])\.weight")
_LENGTHS = re.compile(r"(?P<path>.+)\.lora_magnitude_vector(\.weight)?")
_PLAIN = re.compile(r"\^?[\w.]+")

#: Keys that say how a LoRA was made or found, and nothing about what it is.
_HARMLESS = frozenset(
    [
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "modules_to_save",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_dora",
        "use_rslora",
    ]
)

#: Starts that leave the base as it is; others (pissa, olora, ...) take something out of it.
_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class Checkpoint:
    """A folder that was read and checked.

    Attributes
    ----------
    path : where it lies.
    pairs : B (out, r) and A (r, in) of each module.
    scales : what stands before B A, by module.
    lengths : of DoRA, the lengths of the rows (out,) of each module's weight; none of a LoRA.
    others : tensors of modules that were saved whole, by full name.
    trained : the paths of these modules.
    root : whether the scale is alpha / sqrt(r).
    dropout, dtype : of the LoRA.
    transposed : whether the weights are kept as (in, out), as transformers' Conv1D does.
    base : the class and the name of the base, as far as they are told.
    """

    path: Path
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    scales: Mapping[str, float]
    lengths: Mapping[str, Tensor]
    others: Mapping[str, Tensor]
    trained: tuple[str, ...]
    root: bool
    dropout: float
    dtype: torch.dtype
    transposed: bool
    base: tuple[str, str]


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a folder; E610 to E614 for a broken one, E620 for one that is no plain LoRA."""
    config = read_config(folder)
    _check_plain(folder, config)
    tensors = read_tensors(folder, _PREFIX)
    halves: dict[str, dict[str, Tensor]] = {}
    others, lengths = {}, {}
    for key, tensor in tensors.items():
        match, length = _PAIR.fullmatch(key), _LENGTHS.fullmatch(key)
        if match is not None:
            halves.setdefault(match["path"], {})[match["kind"]] = tensor
        elif length is not None and config.get("use_dora"):
            lengths[length["path"]] = tensor
        elif ".lora_" in key:
            raise _not_plain(folder, f"a tensor {key}")
        else:
            others[key] = tensor
    pairs = {path: _pair(folder, path, half) for path, half in halves.items()}
    if not pairs:
        what = f"{folder} holds no lora_A and lora_B"
        raise StateError("E612", what, advice="Give the folder that PEFT's save_pretrained wrote.")
    if config.get("use_dora"):
        _check_lengths(folder, pairs, lengths)
    kinds = {part.dtype for pair in pairs.values() for part in pair}
    return Checkpoint(
        folder,
        pairs,
        {path: _scale(folder, config, path, b.shape[1]) for path, (b, _) in pairs.items()},
        lengths,
        others,
        trained_paths(folder, others, config.get("modules_to_save") or ()),
        bool(config.get("use_rslora")),
        _number(folder, config, "lora_dropout", 0.0),
        next(iter(kinds)) if len(kinds) == 1 else torch.float32,
        bool(config.get("fan_in_fan_out")),
        _base(config),
    )


def _base(config: Mapping[str, Any]) -> tuple[str, str]:
    told = config.get("auto_mapping")
    kind = told.get("base_model_class") if isinstance(told, dict) else None
    name = config.get("base_model_name_or_path")
    return (kind if isinstance(kind, str) else "", name if isinstance(name, str) else "")


def trained_paths(
    folder: Path, others: Mapping[str, Tensor], names: Sequence[str]
) -> tuple[str, ...]:
    """The modules that were saved whole: the outermost whose path ends in one of the names.

    Raises
    ------
    StateError
        E612 for a tensor that is in none.
    """
    paths: dict[str, None] = {}
    for key in others:
        words = key.split(".")
        inner = [".".join(words[:n]) for n in range(1, len(words))]
        hits = [p for p in inner if p.endswith(tuple(names))]
        if not hits:
            what = f"{folder} has an unknown tensor {key}"
            advice = "Beside the adapter it may hold what modules_to_save names, no more."
            raise StateError("E612", what, advice=advice)
        paths[hits[0]] = None
    return tuple(paths)


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``adapter_config.json``; E610 or E611 where it is missing or no JSON object."""
    path = folder / CONFIG
    if not path.is_file():
        what = f"there is no file {path}"
        raise StateError("E610", what, advice="Give the folder that PEFT's save_pretrained wrote.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        what = f"{path} is no JSON: {type(error).__name__}"
        raise StateError("E611", what, advice="Copy or save it again.") from None
    if not isinstance(config, dict):
        what = f"{path} holds a {type(config).__name__}"
        raise StateError("E611", what, advice="Copy or save it again.")
    return config


def _check_plain(folder: Path, config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise _not_plain(folder, f"peft_type {str(config.get('peft_type'))[:60]!r}")
    if config.get("bias", "none") != "none":
        raise _not_plain(folder, f"bias={str(config['bias'])[:60]!r}")
    start = config.get("init_lora_weights", True)
    if (isinstance(start, (int, float)) and not isinstance(start, bool)) or start not in _STARTS:
        raise _not_plain(folder, f"init_lora_weights={str(start)[:60]!r}, which changes the base")
    for key, value in config.items():
        if key not in _HARMLESS and value:
            raise _not_plain(folder, f"{key[:60]}={str(value)[:60]!r}")
    for key, kind in (("modules_to_save", list), ("alpha_pattern", dict), ("use_dora", bool)):
        if not isinstance(config.get(key) or kind(), kind):
            what = f"{folder}: {key} is a {type(config[key]).__name__}, not a {kind.__name__}"
            raise StateError("E603", what, advice="Copy or save it again.")
    if not all(isinstance(name, str) and name for name in config.get("modules_to_save") or ()):
        what = f"{folder}: modules_to_save holds what is no name"
        raise StateError("E603", what, advice="Copy or save it again.")


def _not_plain(folder: Path, what: str) -> StateError:
    advice = "Merge it with PEFT, or convert it there to a plain LoRA."
    return StateError("E620", f"{folder} is no plain LoRA: it has {what}", advice=advice)


def read_tensors(folder: Path, prefix: str) -> dict[str, Tensor]:
    """Read ``adapter_model.safetensors``, by names without the prefix that all have to have.

    Raises
    ------
    StateError
        E610 for a file that is missing or broken, E612 for a name that begins otherwise.
    """
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        what = f"there is no file {path}"
        advice = "Save it with safe_serialization=True: pickled files are not read."
        raise StateError("E610", what, advice=advice)
    found = {}
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            for key in file.keys():  # noqa: SIM118 - no mapping
                if not key.startswith(prefix):
                    what = f"{path} has a tensor {key}, whose name does not begin with {prefix}"
                    raise StateError("E612", what, advice="Save it with PEFT's save_pretrained.")
                found[key.removeprefix(prefix)] = file.get_tensor(key)
    except (SafetensorError, OSError) as error:
        what = f"{path} is no whole safetensors file: {error}"
        raise StateError("E610", what, advice="Copy or save it again.") from None
    return found


def _pair(folder: Path, path: str, half: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    if set(half) != {"A", "B"}:
        missing = "A" if "B" in half else "B"
        what = f"{folder} has no lora_{missing} of {path}"
        raise StateError("E612", what, advice="Copy or save it again.")
    b, a = half["B"], half["A"]
    if b.ndim != 2 or a.ndim != 2 or b.shape[1] != a.shape[0] or 0 in (*b.shape, *a.shape):
        what = f"{folder}: lora_B {tuple(b.shape)} and lora_A {tuple(a.shape)} of {path} do not fit"
        advice = "A LoRA of convolutions, or of tensors cut into parts, is not read."
        raise StateError("E613", what, advice=advice)
    if not (b.is_floating_point() and a.is_floating_point()):
        what = f"{folder}: the LoRA of {path} is of {b.dtype} and {a.dtype}"
        raise StateError("E613", what, advice="Floating-point numbers are wanted.")
    for name, tensor in (("lora_B", b), ("lora_A", a)):
        check_finite(folder, f"{name} of {path}", tensor)
    return widened(b), widened(a)


def _check_lengths(
    folder: Path, pairs: Mapping[str, tuple[Tensor, Tensor]], lengths: Mapping[str, Tensor]
) -> None:
    """Each module of a DoRA has as many lengths as rows."""
    odd = sorted(pairs.keys() ^ lengths.keys())
    if odd:
        missing = "no" if odd[0] in pairs else "nothing but a"
        what = f"{folder} has {missing} lora_magnitude_vector of {odd[0]}"
        raise StateError("E612", what, advice="Copy or save it again.")
    for path, (b, _) in pairs.items():
        found = lengths[path]
        if found.shape != b.shape[:1] or not found.is_floating_point():
            what = f"{folder}: lora_magnitude_vector of {path} is {found.dtype} of shape "
            what += f"{tuple(found.shape)}, and floating-point numbers of ({b.shape[0]},) are due"
            raise StateError("E613", what, advice="A DoRA of convolutions is not read.")
        check_finite(folder, f"lora_magnitude_vector of {path}", found)


def _scale(folder: Path, config: Mapping[str, Any], path: str, rank: int) -> float:
    """PEFT's scaling of a module; the rank that counts is the matrices' own."""
    ranks = config.get("rank_pattern") or {}
    stated = config.get("r", 8)
    if rank != stated and not ranks:
        what = f"{folder}: the LoRA of {path} has rank {rank}, and the configuration r={stated!r}"
        raise StateError("E613", what, advice="Copy or save it again.")
    alpha = _number(folder, config, "lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if not _PLAIN.fullmatch(pattern):
            what = f"{folder}: alpha_pattern has a regular expression, {pattern[:60]!r}"
            advice = "Expressions from files are not run: name the modules, or merge with PEFT."
            raise StateError("E620", what, advice=advice)
        name = pattern.removeprefix("^")
        if path == name or (path.endswith(f".{name}") and name == pattern):
            alpha = _number(folder, {"alpha_pattern": value}, "alpha_pattern", 0)
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _number(folder: Path, config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        what = f"{folder}: {key} is {str(value)[:60]!r}, not a number"
        raise StateError("E603", what, advice="Copy or save it again.")
    return float(value)
