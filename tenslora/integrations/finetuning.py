"""Fine-tune a model on a task: adapter, report and picture in one folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenslora.errors import DataError
from tenslora.integrations import report
from tenslora.integrations.config import FinetuneConfig
from tenslora.integrations.data import load_task
from tenslora.integrations.distributed import check_shard, this_process
from tenslora.integrations.methods import method_of
from tenslora.integrations.metrics import LABELS
from tenslora.integrations.pictures import draw_curves
from tenslora.integrations.progress import Progress
from tenslora.integrations.runs import Run, write_json

__all__ = ["Report", "finetune"]

SCHEMA_VERSION = 1


@dataclass
class Report:
    """What :func:`finetune` returns: one run for each seed, and the files that were written.

    Examples
    --------
    >>> run = Run("news", "lora", 0, "accuracy", majority=0.5, best=0.91, best_epoch=2, last=0.9)
    >>> made = Report({}, "", {"evaluation_rows": 200, "evaluation_split": "dev"}, [run])
    >>> print(made.to_text())
    news: accuracy on 200 rows (dev); majority class .500
    lora: 0 parameters, and 0 in the head
    <BLANKLINE>
            best epoch  last epoch  a step  memory
    seed 0    .910 (2)        .900       -     0 B
    """

    config: dict[str, Any]
    command: str
    task: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as one JSON object."""
        return {
            "schema": SCHEMA_VERSION,
            "kind": "finetune",
            "command": self.command,
            "config": self.config,
            "task": self.task,
            "machine": self.runs[0].machine,
            "versions": self.runs[0].versions,
            "files": self.files,
            "file_sizes": self.sizes,
            "runs": [run.to_dict() for run in self.runs],
        }

    def to_text(self) -> str:
        """Return the scores of each seed, the parameters and the files as text."""
        first = self.runs[0]
        rows = [["", "best epoch", "last epoch", "a step", "memory"]]
        rows += [
            [
                f"seed {run.seed}",
                f"{report.score(run.best)} ({run.best_epoch})",
                report.score(run.last),
                "-" if math.isnan(run.step_ms) else f"{run.step_ms:.0f} ms",
                report.size(run.peak_memory),
            ]
            for run in self.runs
        ]
        ranks = ", ".join(f"{k}={v}" for k, v in first.ranks.items())
        lines = [
            f"{first.task}: {LABELS[first.metric]} on {self.task['evaluation_rows']} rows "
            f"({self.task['evaluation_split']}); majority class {report.score(first.majority)}",
            f"{first.method}: {first.adapter_parameters:,} parameters"
            + (f" ({ranks})" if ranks else "")
            + f", and {first.head_parameters:,} in the head"
            + (f"; {first.processes} processes" if first.processes > 1 else ""),
            "",
            report.table(rows),
            "",
        ]
        lines += [f"{name}: {path}{self._size(name)}" for name, path in self.files.items()]
        return "\n".join(lines)

    def _size(self, name: str) -> str:
        return f" ({report.size(self.sizes[name])})" if name in self.sizes else ""


def finetune(config: FinetuneConfig, *, talk: Callable[[str], None] | None = None) -> Report:
    """Fine-tune a model with one family, once for each seed.

    Writes to ``config.out``: the adapter with its head (``adapter.safetensors``, or one for each
    seed, read by :func:`tenslora.load`), ``report.json`` and ``curves.png``; with
    ``config.checkpoints`` also the state after the last epoch (``checkpoint-seed0.safetensors``),
    from which ``config.resume`` goes on.

    Started by ``torchrun`` or ``accelerate launch``, the processes share every batch, and the first
    alone talks and writes; it alone has ``files`` in its report. Each holds the whole model, or
    with ``config.shard`` a part of it.

    Parameters
    ----------
    config : the settings.
    talk : is given lines about what goes on, and asks for a progress bar on standard error where
        that is a terminal; without it nothing is shown.

    Raises
    ------
    TensloraError
        Data, a model or a family that cannot be used; E712 where training diverges; E717 where
        ``config.shard`` finds one process.

    Examples
    --------
    A run takes minutes, so that it is not run here; the command line does the same:

    >>> config = FinetuneConfig(data="reviews.tsv", family="lotr", like="lora:8")
    >>> print(config.command())
    tenslora finetune --data reviews.tsv --family lotr --like lora:8
    >>> report = finetune(config, talk=print)  # doctest: +SKIP
    >>> print(report.to_text())  # doctest: +SKIP
    """
    from tenslora.integrations.training import train

    leader = this_process().leader
    if config.shard:
        check_shard()
    progress = Progress(talk if leader else None)
    method = method_of(config)
    task = load_task(config.data, text=config.text, label=config.label, max_rows=config.max_rows)
    folder = _folder(config.out)
    found = Report(config.to_dict(), config.command(), task.to_dict())
    progress.say(
        f"{task.name}: {len(task.train)} rows to train on, {len(task.evaluation)} to evaluate, "
        f"{len(task.classes)} classes"
    )
    for seed in config.seeds:

        def watch(event: Mapping[str, Any], seed: int = seed) -> None:
            if event["event"] == "step":
                progress.show(event["step"], event["steps"], f"seed {seed}")
            else:
                progress.say(_said(event, seed))

        file = _checkpoint(config, folder, seed, progress)
        try:
            trained = train(
                config,
                task,
                method,
                seed,
                watch=watch,
                keep=config.keep,
                checkpoint=file,
                resume=config.resume,
                shard=config.shard,
            )
        finally:
            progress.close()
        several = len(config.seeds) > 1
        kind = "head" if trained.adapter is None else "adapter"
        name = f"{kind} seed {seed}" if several else kind
        path = folder / f"{kind}{f'-seed{seed}' if several else ''}.safetensors"
        trained.save(path, write=leader)
        trained.run.file = path.name
        found.runs.append(trained.run)
        if leader:
            found.files[name], found.sizes[name] = str(path), path.stat().st_size
    if leader:
        _finish(found, folder, progress)
    return found


def _checkpoint(config: FinetuneConfig, folder: Path, seed: int, progress: Progress) -> Path | None:
    """Return the file of a seed's state, where it is to be kept, and say whether it is there."""
    if not (config.checkpoints or config.resume):
        return None
    file = folder / f"checkpoint-seed{seed}.safetensors"
    if config.resume:
        words = "goes on from" if file.is_file() else "begins anew: there is no"
        progress.say(f"seed {seed}: {words} {file}")
    return file


def _said(event: Mapping[str, Any], seed: int) -> str:
    losses = f"loss {event['loss']:.3f}, on the evaluation split {event['eval_loss']:.3f}"
    return f"seed {seed}, epoch {event['epoch']}: score {report.score(event['score'])}, {losses}"


def _folder(out: str) -> Path:
    folder = Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"{folder} cannot be made: {error.strerror or error}"
        raise DataError("E711", what, advice="Choose another folder with out=...") from None
    return folder


def _finish(found: Report, folder: Path, progress: Progress) -> None:
    picture, file = folder / "curves.png", folder / "report.json"
    try:
        draw_curves(found.runs, picture)
        found.files["picture"] = str(picture)
    except DataError as error:
        progress.say(f"no picture: {error.what}. {error.advice}")
    found.files["report"] = str(file)
    write_json(file, found.to_dict())
