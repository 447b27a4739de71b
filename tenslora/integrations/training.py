"""One run: a model, an adapter or the head alone, one seed, transformers' Trainer."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.utils.data import DataLoader, Sampler

from tenslora.errors import DataError
from tenslora.integrations import stamp
from tenslora.integrations.config import TrainingConfig
from tenslora.integrations.data import Task
from tenslora.integrations.methods import Method
from tenslora.integrations.metrics import choose_metric, score
from tenslora.integrations.runs import Run
from tenslora.integrations.transformers import (
    Features,
    Loaded,
    default_targets,
    default_train,
    encode,
    load_model,
    quiet,
    random_states_kept,
)
from tenslora.nn import Adapter, attach

__all__ = ["Trained", "attach_method", "train"]

Watch = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Trained:
    """A run with the model as training left it."""

    run: Run
    loaded: Loaded
    adapter: Adapter | None
    train: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write adapter and head, or the head alone, to a safetensors file."""
        if self.adapter is not None:
            self.adapter.save(path)
            return
        from safetensors.torch import save_file

        tensors = {
            f"{name}.{key}": value.detach().cpu().contiguous()
            for name in self.train
            for key, value in self.loaded.model.get_submodule(name).state_dict().items()
        }
        save_file(tensors, path, metadata={"tenslora": "head"})


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
    adapter = attach(
        model,
        method.family,
        targets=list(config.targets or default_targets(model)),
        ranks=method.ranks,
        like=method.like,
        params=method.params,
        alpha=config.alpha,
        dropout=config.dropout,
        train=head,
        seed=seed,
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
) -> Trained:
    """Train and evaluate once.

    Parameters
    ----------
    watch : is called with ``{"event": "step", "step": ..., "steps": ...}`` after each step and with
        an entry of the history and ``"event": "epoch"`` after each epoch.
    keep : leave the model as after the ``last`` epoch, or after the ``best``.

    Raises
    ------
    TensloraError
        A model, adapter or head that cannot be made; E712 where training diverges.
    """
    begin = time.perf_counter()
    loaded = load_model(config.model, task, seed=seed)
    adapter, head = attach_method(loaded.model, method, config, seed)
    run = _describe(config, task, method, seed, loaded, adapter, head)
    data = [encode(loaded, split, config.max_length) for split in (task.train, task.evaluation)]
    run.memory_before = stamp.memory()
    recorder = _Recorder(run, loaded.model, watch, keep)
    with random_states_kept(seed), tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(config, task, loaded, adapter, data, run, seed, folder)
        trainer.add_callback(recorder)
        with quiet():
            trainer.train()
    loaded.model.eval()
    recorder.finish()
    run.seconds, run.peak_memory = time.perf_counter() - begin, stamp.peak_memory()
    return Trained(run, loaded, adapter, head)


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


def _trainer(
    config: TrainingConfig,
    task: Task,
    loaded: Loaded,
    adapter: Adapter | None,
    data: Sequence[Features],
    run: Run,
    seed: int,
    folder: str,
) -> transformers.Trainer:
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=4 * config.batch_size,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        bf16=config.bf16,
        seed=seed,
    )
    run.steps = config.epochs * math.ceil(len(task.train) / config.batch_size)
    groups = _groups(loaded.model, adapter, run)
    optimizer = torch.optim.AdamW(groups, lr=run.lr, weight_decay=config.weight_decay)
    name = "constant_with_warmup" if config.schedule == "constant" else config.schedule
    schedule = transformers.get_scheduler(
        name, optimizer, math.ceil(config.warmup * run.steps), run.steps
    )

    def metrics(found: Any) -> dict[str, float]:
        logits = found.predictions
        logits = logits[0] if isinstance(logits, tuple) else logits
        return score(logits.argmax(-1), found.label_ids, len(task.classes))

    trainer = _Trainer(
        model=loaded.model,
        args=arguments,
        data_collator=data[0].collate,
        train_dataset=data[0].rows,
        eval_dataset=data[1].rows,
        compute_metrics=metrics,
        optimizers=(optimizer, schedule),
    )
    trainer.remove_callback(transformers.PrinterCallback)  # it prints
    size = config.batch_size
    trainer.batches = (
        _Batches(data[0].lengths, size, seed),
        _Batches(data[1].lengths, 4 * size, None),
    )
    return trainer


def _groups(model: nn.Module, adapter: Adapter | None, run: Run) -> list[dict[str, Any]]:
    """Return the optimiser's groups: the cores with their rates, and the head with its own."""
    cores: set[nn.Parameter] = set()
    if adapter is not None:
        cores = {p for bank in adapter.banks.values() for p in bank.parameters()}
    head = [p for p in model.parameters() if p.requires_grad and p not in cores]
    groups: list[dict[str, Any]] = [{"params": head, "lr": run.head_lr}]
    for group in [] if adapter is None else adapter.parameter_groups(run.lr):
        kept = [p for p in group["params"] if p in cores]
        if kept:
            groups.append({**group, "params": kept})
    return groups


class _Trainer(transformers.Trainer):
    """Trainer with batches of rows of similar length."""

    batches: tuple[_Batches, _Batches]

    def get_train_dataloader(self) -> DataLoader:
        """Return batches of similar lengths in random order."""
        return self._loader(self.train_dataset, self.batches[0])

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return batches from the longest rows to the shortest."""
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        return self._loader(data, self.batches[1])

    def _loader(self, data: Any, batches: _Batches) -> DataLoader:
        return DataLoader(data, batch_sampler=batches, collate_fn=self.data_collator)


class _Batches(Sampler[list[int]]):
    """Batches of rows of similar length, so that little is padded.

    With a seed, rows are shuffled, sorted by length within groups of fifty batches, and the batches
    are shuffled again; each pass is another order, the same for every run of that seed. No global
    generator is used. Without a seed: all rows, the longest first.
    """

    def __init__(self, lengths: Sequence[int], size: int, seed: int | None) -> None:
        self.lengths, self.size, self.seed, self.epoch = np.asarray(lengths), size, seed, 0

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.size)

    def __iter__(self) -> Iterator[list[int]]:
        if self.seed is None:
            order = np.argsort(-self.lengths, kind="stable")
            return iter([rows.tolist() for rows in self._cut(order, self.size)])
        generator = np.random.Generator(np.random.Philox(key=[self.seed, self.epoch]))
        self.epoch += 1
        order = generator.permutation(len(self.lengths))
        groups = self._cut(order, 50 * self.size)
        ordered = [group[np.argsort(-self.lengths[group], kind="stable")] for group in groups]
        batches = [rows.tolist() for group in ordered for rows in self._cut(group, self.size)]
        return iter([batches[i] for i in generator.permutation(len(batches))])

    @staticmethod
    def _cut(rows: Any, size: int) -> list[Any]:
        return [rows[i : i + size] for i in range(0, len(rows), size)]


class _Recorder(transformers.TrainerCallback):
    """Keep the history and the times of steps, and stop where the loss is not finite."""

    def __init__(self, run: Run, model: nn.Module, watch: Watch | None, keep: str) -> None:
        self.run, self.model, self.watch, self.keep = run, model, watch, keep
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.loss = math.nan
        self.kept: dict[str, torch.Tensor] = {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clocks."""
        self.started = time.perf_counter(), time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clocks."""
        self.wall.append(time.perf_counter() - self.started[0])
        self.cpu.append(time.process_time() - self.started[1])
        if self.watch is not None:
            self.watch({"event": "step", "step": state.global_step, "steps": state.max_steps})

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Take the mean loss of the epoch."""
        self.loss = (logs or {}).get("loss", self.loss)
        if not math.isfinite(self.loss):
            advice = "Try a smaller lr."
            what = f"the loss is {self.loss} in epoch {len(self.run.history) + 1}"
            raise DataError("E712", f"training diverged: {what}", advice=advice)

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Write one entry of the history."""
        run, metrics = self.run, more["metrics"]
        entry = {"epoch": len(run.history) + 1, "loss": self.loss}
        entry |= {name: metrics[f"eval_{name}"] for name in ("accuracy", "f1", "matthews")}
        entry |= {"eval_loss": metrics["eval_loss"], "eval_seconds": metrics["eval_runtime"]}
        entry["score"] = entry[run.metric]
        run.history.append(entry)
        if not run.best >= entry["score"]:
            run.best, run.best_epoch = entry["score"], len(run.history)
            if self.keep == "best":
                trained = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
                self.kept = {name: p.detach().clone() for name, p in trained}
        run.last = entry["score"]
        if self.watch is not None:
            self.watch({"event": "epoch", **entry})

    @torch.no_grad()
    def finish(self) -> None:
        """Sum up, and put the best epoch's values back where they were kept."""
        self.run.step_ms = 1000 * statistics.median(self.wall)
        self.run.step_cpu_ms = 1000 * statistics.median(self.cpu)
        parameters = dict(self.model.named_parameters())
        for name, value in self.kept.items():
            parameters[name].copy_(value)
