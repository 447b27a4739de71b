"""What is written down while a model trains: history, times, the best epoch's values."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers
from torch import nn

from tenslora.errors import DataError
from tenslora.integrations.runs import Run

__all__ = ["Recorder", "Watch"]

Watch = Callable[[Mapping[str, Any]], None]


class Recorder(transformers.TrainerCallback):
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
        self.run.step_ms = 1000 * _median(self.wall)
        self.run.step_cpu_ms = 1000 * _median(self.cpu)
        parameters = dict(self.model.named_parameters())
        for name, value in self.kept.items():
            parameters[name].copy_(value)


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else math.nan
