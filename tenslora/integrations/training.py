"""One run: a model, an adapter or the head alone, one seed, transformers' Trainer."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from tenslora.errors import DataError
from tenslora.family import wrap
from tenslora.integrations import stamp
from tenslora.integrations.config import TrainingConfig
from tenslora.integrations.data import Task
from tenslora.integrations.distributed import this_process
from tenslora.integrations.methods import Method
from tenslora.integrations.metrics import choose_metric, score
from tenslora.integrations.recording import Recorder, Watch
from tenslora.integrations.resuming import Keeper, read_saved
from tenslora.integrations.runs import Run, write_file
from tenslora.integrations.trainer import make_trainer
from tenslora.integrations.transformers import (
    Loaded,
    default_targets,
    default_train,
    encode,
    load_model,
    quiet,
    random_states_kept,
)
from tenslora.nn import Adapter, attach
from tenslora.nn.shards import whole

__all__ = ["Trained", "attach_method", "train"]


@dataclass(frozen=True)
class Trained:
    """A run with the model as training left it."""

    run: Run
    loaded: Loaded
    adapter: Adapter | None
    train: tuple[str, ...]

    def save(self, path: Path, *, write: bool = True) -> None:
        """Write adapter and head, or the head alone, to a safetensors file.

        Of several processes all call it, and one of them writes.
        """
        if self.adapter is not None:
            self.adapter.save(path, write=write)
            return
        from safetensors.torch import save

        tensors = {
            f"{name}.{key}": whole(value).cpu().contiguous()
            for name in self.train
            for key, value in self.loaded.model.get_submodule(name).state_dict().items()
        }
        if write:
            write_file(path, save(tensors, metadata={"tenslora": "head"}))


def attach_method(
    model: nn.Module, method: Method, config: TrainingConfig, seed: int
) -> tuple[Adapter | None, tuple[str, ...]]:
    """Attach the family of a method, or freeze all but the head; return the adapter and the head.

    Raises
    ------
    TensloraError
        What :func:`tenslora.attach` raises; E514 where ``train`` names no module.
    """
    head = config.train or default_train(model)
    if method.family is None:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        modules = dict(model.named_modules())
        paths = tuple(p for p in modules if any(p == n or p.endswith(f".{n}") for n in head) and p)
        if not paths:
            what = f"train={', '.join(head)} names no module of the model"
            raise DataError(
                "E707", what, advice=f"Its own head: {', '.join(default_train(model))}."
            )
        for path in paths:
            modules[path].requires_grad_(True)
        return None, paths
    family = method.family
    adapter = attach(
        model,
        family if method.wrapper is None else wrap(method.wrapper, family),
        targets=list(config.targets or default_targets(model)),
        ranks=method.ranks,
        like=method.like,
        params=method.params,
        alpha=config.alpha,
        dropout=config.dropout,
        train=head,
        seed=seed,
        sizes=method.sizes,
        plan={"profile": config.profile},
        recompute=config.recompute,
    )
    return adapter, adapter.design.train


def train(
    config: TrainingConfig,
    task: Task,
    method: Method,
    seed: int,
    *,
    watch: Watch | None = None,
    keep: str = "last",
    checkpoint: Path | None = None,
    resume: bool = False,
    shard: bool = False,
) -> Trained:
    """Train and evaluate once.

    Parameters
    ----------
    watch : is called with ``{"event": "step", "step": ..., "steps": ...}`` after each step and with
        an entry of the history and ``"event": "epoch"`` after each epoch.
    keep : leave the model as after the ``last`` epoch, or after the ``best``.
    checkpoint : a file that is to hold the state after the last epoch that was trained.
    resume : go on from that file, where it is there.
    shard : cut the model into parts over the processes, instead of a whole one in each. The
        checkpoint is the same.

    Raises
    ------
    TensloraError
        A model, adapter or head that cannot be made; E712 where training diverges; E714 for a
        checkpoint of another run.
    """
    begin = time.perf_counter()
    settings = {**_settings(config, task, method, seed), "keep": keep}
    saved = None
    if resume and checkpoint is not None and checkpoint.is_file():
        saved = read_saved(checkpoint, settings)
    loaded = load_model(config.model, task, seed=seed)
    adapter, head = attach_method(loaded.model, method, config, seed)
    run = _describe(config, task, method, seed, loaded, adapter, head)
    data = [encode(loaded, split, config.max_length) for split in (task.train, task.evaluation)]
    run.memory_before = stamp.memory()
    recorder = Recorder(run, loaded.model, watch, keep)
    with random_states_kept(seed), tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(config, task, loaded, adapter, data, run, seed, folder, shard)
        trainer.add_callback(recorder)
        if checkpoint is not None:
            trainer.add_callback(Keeper(checkpoint, settings, trainer, recorder))
        with quiet():
            trainer.go_on(recorder, saved)
    loaded.model.eval()
    recorder.finish()
    run.seconds = time.perf_counter() - begin
    run.peak_memory = stamp.peak_memory(run.memory_before)
    return Trained(run, loaded, adapter, head)


def _settings(config: TrainingConfig, task: Task, method: Method, seed: int) -> dict[str, Any]:
    """Return all that decides what a run is, as JSON."""
    names = [f.name for f in fields(TrainingConfig) if f.name != "seeds"]
    found = {name: getattr(config, name) for name in names}
    found |= {"seed": seed, "data": task.fingerprint(), "method": method.to_json()}
    return json.loads(json.dumps(found))


def _describe(
    config: TrainingConfig,
    task: Task,
    method: Method,
    seed: int,
    loaded: Loaded,
    adapter: Adapter | None,
    head: Sequence[str],
) -> Run:
    metric = choose_metric(config.metric, task)
    guess = [task.majority] * len(task.evaluation)
    majority = score(guess, task.evaluation.labels, len(task.classes))[metric]
    run = Run(task.name, method.name, seed, metric, majority, lr=method.lr or config.lr)
    run.processes = this_process().count
    run.head_lr = config.head_lr or run.lr
    if method.family is None:
        run.lr = run.head_lr = method.lr or run.head_lr
    run.head_parameters = sum(
        p.numel() for path in head for p in loaded.model.get_submodule(path).parameters()
    )
    run.versions, run.machine = stamp.versions(), stamp.machine()
    if adapter is not None:
        ranks = {name: dict(bound.ranks) for name, bound in adapter.bounds.items()}
        run.ranks = next(iter(ranks.values())) if len(ranks) == 1 else ranks
        run.scale = next(iter(adapter.bounds.values())).scale
        run.equation = adapter.family.equation
        run.adapter_parameters = adapter.trainable_parameters
    return run
