"""transformers' Trainer over rows of similar length, in one process or several.

Several processes train on the batches of one: each takes its rows of every batch, and losses and
scores are those of all rows, computed here from the logits. (Trainer's own evaluation loss is the
mean of the means of the batches, the last of which may be smaller.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from tenslora.integrations.batches import WEIGHT, Batches, shared_loader
from tenslora.integrations.config import TrainingConfig
from tenslora.integrations.data import Task
from tenslora.integrations.distributed import Process, this_process
from tenslora.integrations.metrics import score
from tenslora.integrations.recording import Recorder
from tenslora.integrations.resuming import Saved, check_fits, restore, restore_random
from tenslora.integrations.runs import Run
from tenslora.integrations.transformers import Features, Loaded
from tenslora.nn import Adapter, shards

__all__ = ["Trainer", "make_groups", "make_trainer"]


def make_trainer(
    config: TrainingConfig,
    task: Task,
    loaded: Loaded,
    adapter: Adapter | None,
    data: Sequence[Features],
    run: Run,
    seed: int,
    folder: str,
    shard: bool = False,
) -> Trainer:
    """Return the trainer of a run, with optimiser and schedule; ``run.steps`` is set."""
    process = this_process()
    arguments = _arguments(config, seed, process, folder)
    if shard:
        _shard(loaded.model, adapter, arguments.device.type)
    run.steps = config.epochs * math.ceil(len(task.train) / config.batch_size)
    groups = make_groups(loaded.model, adapter, run)
    optimizer = torch.optim.AdamW(groups, lr=run.lr, weight_decay=config.weight_decay)
    name = "constant_with_warmup" if config.schedule == "constant" else config.schedule
    schedule = transformers.get_scheduler(
        name, optimizer, math.ceil(config.warmup * run.steps), run.steps
    )
    trainer = Trainer(
        model=loaded.model,
        args=arguments,
        data_collator=data[0].collate,
        train_dataset=data[0].rows,
        eval_dataset=data[1].rows,
        optimizers=(optimizer, schedule),
    )
    trainer.remove_callback(transformers.PrinterCallback)  # it prints
    if shard:  # accelerate then leaves the model to us: without this it wants DDP around it
        trainer.accelerator.prepare_model(
            loaded.model, device_placement=False, evaluation_mode=True
        )
    trainer.process, trainer.features, trainer.classes = process, tuple(data), len(task.classes)
    size = config.batch_size
    trainer.batches = (
        Batches(data[0].lengths, size, seed),
        Batches(data[1].lengths, 4 * size, None),
    )
    return trainer


def _arguments(
    config: TrainingConfig, seed: int, process: Process, folder: str
) -> transformers.TrainingArguments:
    mine = math.ceil(config.batch_size / process.count)
    return transformers.TrainingArguments(
        output_dir=folder,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=mine,
        per_device_eval_batch_size=4 * mine,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        # several processes without an accelerator meet on the CPU only where that is said
        use_cpu=process.count > 1 and not torch.accelerator.is_available(),
        bf16=config.bf16,
        seed=(seed + 7919 * process.rank) % 2**32,  # each process drops out other entries
    )


def _shard(model: nn.Module, adapter: Adapter | None, device: str) -> None:
    """Cut a model into parts, by the layers of the adapter, or of what is frozen beside a head."""
    paths = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    if adapter is not None:
        paths = [site.path for bank in adapter.banks.values() for site in bank.sites]
    shards.shard(model, paths, device)


def make_groups(model: nn.Module, adapter: Adapter | None, run: Run) -> list[dict[str, Any]]:
    """Return the optimiser's groups: the cores with their rates, and the head with its own."""
    cores: set[nn.Parameter] = set()
    if adapter is not None:
        cores = {p for bank in adapter.banks.values() for p in bank.parameters()}
    head = [p for p in model.parameters() if p.requires_grad and p not in cores]
    groups: list[dict[str, Any]] = [{"params": head, "lr": run.head_lr}]
    for group in [] if adapter is None else adapter.param_groups(run.lr):
        kept = [p for p in group["params"] if p in cores]
        if kept:
            groups.append({**group, "params": kept})
    return groups


class Trainer(transformers.Trainer):
    """Trainer whose processes share each batch; made by :func:`make_trainer`."""

    process: Process
    features: tuple[Features, ...]
    batches: tuple[Batches, Batches]
    classes: int
    saved: Saved | None = None
    recorder: Recorder

    def go_on(self, recorder: Recorder, saved: Saved | None) -> None:
        """Train: all epochs, or those after the one that was saved."""
        check_fits(self, saved)
        self.recorder, self.saved = recorder, saved
        if saved is None:
            self.train()
            return
        folder = str(self.args.output_dir)
        begin = transformers.TrainerState(
            global_step=saved.state["step"],
            epoch=float(saved.state["epoch"]),
            train_batch_size=self.args.per_device_train_batch_size,
        )
        begin.save_to_json(str(Path(folder) / "trainer_state.json"))
        self.train(resume_from_checkpoint=folder)

    # What Trainer reads from a folder of its own comes from our file: three steps of its loop.

    def _load_from_checkpoint(self, *_: Any, **__: Any) -> None:
        """Do nothing: values are put in place when model and optimiser are ready."""

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        if self.saved is not None:
            restore(self, self.recorder, self.saved)

    def _load_rng_state(self, checkpoint: Any) -> None:
        if self.saved is not None:
            restore_random(self, self.saved)

    def get_train_dataloader(self) -> DataLoader:
        """Return batches of similar lengths in random order."""
        features, batches = self.features[0], self.batches[0]
        if self.process.count > 1:
            return shared_loader(features, batches, self.process)
        rows: Any = features.rows
        return DataLoader(rows, batch_sampler=batches, collate_fn=features.collate)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the model's own loss, or this process's share of it."""
        if WEIGHT not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs = dict(inputs)
        weights, labels = inputs.pop(WEIGHT), inputs.pop("labels")
        outputs = model(**inputs)
        loss = (weights * cross_entropy(logits_of(outputs), labels)).sum()
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return loss and metrics over the rows of all processes, each counted once."""
        begin = time.perf_counter()
        logits, labels = self._predict(
            shared_loader(self.features[1], self.batches[1], self.process)
        )
        metrics: dict[str, float] = {
            f"eval_{name}": value
            for name, value in score(
                logits.argmax(-1).tolist(), labels.tolist(), self.classes
            ).items()
        }
        metrics["eval_loss"] = float(cross_entropy(logits, labels).double().mean())
        metrics["eval_runtime"] = time.perf_counter() - begin
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    @torch.no_grad()
    def _predict(self, loader: DataLoader) -> tuple[Tensor, Tensor]:
        """Return logits and labels of the rows of all processes, in no order of meaning."""
        model: Any = self.model
        model.eval()
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for batch in loader:
            inputs = self._prepare_inputs(batch)
            weights, labels = inputs.pop(WEIGHT), inputs.pop("labels")
            with self.compute_loss_context_manager():
                logits = logits_of(model(**inputs)).float()
            found.append((logits, labels, weights))
        shards.reshard(model)
        logits, labels, weights = (torch.cat(parts) for parts in zip(*found, strict=True))
        if self.process.count > 1:
            logits, labels, weights = (
                self.accelerator.gather(self.accelerator.pad_across_processes(part.contiguous()))
                for part in (logits, labels, weights)
            )
        counted = weights > 0
        return logits[counted].cpu(), labels[counted].cpu()


def logits_of(outputs: Any) -> Tensor:
    """Return the logits of a model's outputs, an object of transformers or a tuple."""
    if isinstance(outputs, Mapping):
        return outputs["logits"]
    return outputs[0] if isinstance(outputs, tuple) else outputs.logits


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each row, in float32 at least.

    >>> cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor([1.3863, 1.3863])
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    return functional.cross_entropy(logits.to(wide), labels, reduction="none")
