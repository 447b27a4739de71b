"""Adapters as plain LoRA checkpoints, the form that PEFT and servers such as vLLM load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save as to_bytes
from torch import nn

from tenslora.errors import AttachError, SizeError
from tenslora.family import WRAPPERS
from tenslora.nn import install
from tenslora.nn.factors import Factors, module_factors
from tenslora.nn.files import write_new
from tenslora.nn.record import describe
from tenslora.nn.shards import whole
from tenslora.nn.targets import Linear, find_linears
from tenslora.nn.wrappers.dora import row_lengths
from tenslora.spec import is_count

if TYPE_CHECKING:
    from tenslora.nn.adapter import Adapter

__all__ = ["APART", "SERVED_RANKS", "Exported", "export_lora"]

#: The ranks for which servers make room (vLLM's ``max_lora_rank``, but for 1).
SERVED_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)

#: The file of modules that were trained whole, where they are kept apart.
APART = "trained_modules.safetensors"

_PREFIX = "base_model.model."

#: PEFT's task types, by the ending of a class name of transformers.
_TASKS = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}

#: Modules that PEFT takes for trained, and wants in the checkpoint, for a task of theirs.
_HEADS = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}


@dataclass(frozen=True)
class Exported:
    """What :meth:`tenslora.Adapter.export_lora` wrote.

    Attributes
    ----------
    path : the folder.
    rank : the rank r of every matrix in it, zeros included.
    exact_rank : the lowest rank at which the export is exact.
    error : the largest relative error of an update, in the Frobenius norm, measured on the numbers
        that were written.
    modules : the number of weights.
    parameters : the numbers in its matrices.
    train : the modules that were trained whole and are written too.
    apart : whether these are in a file of their own.

    Examples
    --------
    >>> import tempfile, torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    >>> adapter = tl.attach(model, "lotr", targets="all-linear", ranks={"r": 3, "s": 2})
    >>> with torch.no_grad():  # as if it were trained
    ...     _ = [core.copy_(torch.arange(core.numel()).reshape(core.shape).sin())
    ...          for core in adapter.parameters()]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = adapter.export_lora(f"{folder}/lora", pad=False)
    >>> report.rank, report.exact_rank, report.modules, report.parameters, report.error < 1e-6
    (2, 2, 2, 64, True)
    >>> adapter.detach()
    """

    path: Path
    rank: int
    exact_rank: int
    error: float
    modules: int
    parameters: int
    train: tuple[str, ...] = ()
    apart: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return {**vars(self), "path": str(self.path), "train": list(self.train)}

    def __str__(self) -> str:
        lines = [
            f"LoRA of rank {self.rank} for {self.modules} weights in {self.path}: "
            f"{self.parameters:,} numbers",
            f"exact rank {self.exact_rank}, largest relative error {self.error:.1e}",
        ]
        if self.train and self.apart:
            lines.append(f"trained whole, in {APART}: {', '.join(self.train)}")
        elif self.train:
            lines.append(f"modules_to_save: {', '.join(self.train)} (vLLM refuses these)")
        return "\n".join(lines)


def export_lora(
    adapter: Adapter,
    path: str | Path,
    *,
    rank: int | None = None,
    pad: bool = True,
    dtype: torch.dtype | None = None,
    apart: bool = False,
) -> Exported:
    """Write an adapter as a plain LoRA; see :meth:`tenslora.Adapter.export_lora`."""
    _check_rank(rank, pad=pad)
    _check_wrapper(adapter)
    linears = find_linears(adapter.model)
    updates = module_factors(adapter, linears)
    needed = _exact_ranks(updates)
    exact = max(needed.values())
    if rank is None:
        _check_small(adapter, updates, needed)
    kept = exact if rank is None else rank
    stored = next(r for r in SERVED_RANKS if r >= kept) if pad else max(kept, 1)
    wide = torch.promote_types(_dtype(adapter), torch.float32) if dtype is None else dtype
    written = {name: _fit(full, kept, stored).to(wide) for name, full in updates.items()}
    report = Exported(
        Path(path),
        stored,
        exact,
        max(_error(full, written[name]) for name, full in updates.items()),
        len(written),
        sum(f.b.numel() + f.a.numel() for f in written.values()),
        adapter.design.train,
        apart and bool(adapter.design.train),
    )
    inside = () if apart else adapter.design.train
    config = _config(adapter, linears, updates, stored, inside)
    tensors = {
        f"{_PREFIX}{name}.{kind}.weight": value.contiguous()
        for name, factors in written.items()
        for kind, value in (("lora_A", factors.a), ("lora_B", factors.b))
    }
    trained = {
        name: whole(value).cpu().contiguous().clone()
        for name, value in install.trained_tensors(adapter.model, adapter.design.train).items()
    }
    tensors |= {_PREFIX + name: value for name, value in trained.items() if not apart}
    for name, lengths in row_lengths(adapter, linears).items() if adapter.wrapper else ():
        tensors[f"{_PREFIX}{name}.lora_magnitude_vector"] = lengths.to(wide).contiguous()
    files = {
        "adapter_model.safetensors": to_bytes(tensors, {"format": "pt"}),
        "adapter_config.json": (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
    }
    if report.apart:
        files[APART] = to_bytes(trained, {"format": "pt"})
    write_new(Path(path), files)
    return report


def _check_rank(rank: int | None, *, pad: bool) -> None:
    if rank is not None and not is_count(rank):
        what = f"rank={rank!r} is not a positive integer"
        raise SizeError("E206", what, advice="Give a rank of at least 1.")
    if rank is not None and pad and rank > SERVED_RANKS[-1]:
        what = f"rank={rank} is above {SERVED_RANKS[-1]}, the largest that servers load"
        raise AttachError("E518", what, advice="Give a smaller rank, or pad=False.")


def _check_wrapper(adapter: Adapter) -> None:
    """Refuse a wrapper that PEFT's LoRA does not have: it has DoRA's."""
    if adapter.wrapper is not None and adapter.wrapper.name != "dora":
        what = f"adapter {adapter.name!r} is {adapter.design.label}, which is no LoRA"
        advice = "merge() it and save the model."
        if WRAPPERS[adapter.wrapper.name].routed:
            advice = "A gate for each token has no place in it: save it with adapter.save."
        raise AttachError("E520", what, advice=advice)


def _dtype(adapter: Adapter) -> torch.dtype:
    return next(iter(adapter.banks.values())).dtype


def _exact_ranks(updates: Mapping[str, Factors]) -> dict[str, int]:
    ranks = {}
    for name, factors in updates.items():
        if not bool(torch.isfinite(factors.b).all() & torch.isfinite(factors.a).all()):
            what = f"the update of {name} is not finite"
            raise AttachError("E512", what, advice="Training diverged: there is nothing to export.")
        ranks[name] = len(factors.singular()[1])
    return ranks


def _check_small(
    adapter: Adapter, updates: Mapping[str, Factors], needed: Mapping[str, int]
) -> None:
    """Refuse an exact LoRA that is larger than the matrices that it stands for."""
    thin = sum(needed[name] * (f.b.shape[0] + f.a.shape[1]) for name, f in updates.items())
    dense = sum(f.b.shape[0] * f.a.shape[1] for f in updates.values())
    name = max(needed, key=lambda name: needed[name])
    if needed[name] > SERVED_RANKS[-1] or thin >= dense:
        full = min(updates[name].b.shape[0], updates[name].a.shape[1])
        what = f"{adapter.family.label} has no small LoRA: the update of {name} has rank "
        what += f"{needed[name]} of {full}"
        advice = "Merge it into the model, or give the rank of the nearest LoRA: rank=16, say."
        raise AttachError("E518", what, advice=advice)


def _fit(full: Factors, kept: int, stored: int) -> Factors:
    """The matrices to write: as they are where they are thin enough, else made thinner."""
    return (full if full.columns <= kept else full.thinner(kept)).padded(stored)


def _error(full: Factors, written: Factors) -> float:
    norm = full.norm()
    return full.distance(written.to(torch.float64)) / norm if norm else 0.0


def _config(
    adapter: Adapter,
    linears: Mapping[str, Linear],
    names: Mapping[str, Any],
    rank: int,
    train: tuple[str, ...],
) -> dict[str, Any]:
    """PEFT's ``adapter_config.json``, every key that its loaders ask for."""
    model = describe(adapter)["model"]
    return {
        "peft_type": "LORA",
        "task_type": _task(adapter.model, model["class"], train),
        "base_model_name_or_path": model["name"] or None,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": adapter.design.dropout,
        "target_modules": _targets(adapter.model, list(names)),
        "modules_to_save": _modules_to_save(adapter.model, train) or None,
        "fan_in_fan_out": all(linears[name].transposed for name in names),
        "bias": "none",
        "use_rslora": False,
        "use_dora": adapter.wrapper is not None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _task(model: nn.Module, name: str, train: tuple[str, ...]) -> str | None:
    """PEFT's task; none where it would look for a trained head that this adapter has not."""
    task = next((t for end, t in _TASKS.items() if name.endswith(end)), None)
    heads = _HEADS.get(task or "", ())
    there = [p for p, _ in model.named_modules() if p.endswith(heads)] if heads else []
    trained = [p for p in train if p.endswith(heads)] if heads else []
    return task if not heads or (trained and set(there) <= set(trained)) else None


def _targets(model: nn.Module, names: list[str]) -> list[str]:
    """The last words of the paths, where no other module ends so; else the paths."""
    short = {name.rpartition(".")[2] for name in names}
    ending = {n for n, _ in model.named_modules() if n.rpartition(".")[2] in short}
    alone = ending == set(names) and not getattr(model, "is_stand_in", False)
    return sorted(short) if alone else names


def _modules_to_save(model: nn.Module, train: tuple[str, ...]) -> list[str]:
    """PEFT finds them by their ending, which may be the ending of others too."""
    for path in train:
        for name, module in model.named_modules():
            if name.endswith(path) and name != path and next(module.parameters(), None) is not None:
                what = f"PEFT would take {name} for {path}, which was trained whole"
                raise AttachError("E518", what, advice="Rename the module, or merge the adapter.")
    return list(train)
