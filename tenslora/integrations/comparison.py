"""The result of a comparison: runs, the table over seeds, and the picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenslora.integrations import report
from tenslora.integrations.metrics import LABELS
from tenslora.integrations.runs import Run, write_json

__all__ = ["Comparison"]

SCHEMA_VERSION = 1
_SPREAD = "standard deviation over seeds (n - 1)"


@dataclass
class Comparison:
    """Runs of several methods on several tasks.

    Attributes
    ----------
    config, command : the settings, and the command line that has them.
    tasks : what each task was, by name.
    methods : the names of the rows, in order; ``reference`` is the one that times are compared to.
    runs : every run that has ended, failed ones too.
    wanted : the number of runs of the whole comparison.
    folder : where it is kept.
    notes : lines under the table, such as the picture's path.

    Examples
    --------
    >>> scores = {"lora:8": (0.75, 0.85), "lotr": (0.9, 0.8)}
    >>> runs = [Run("news", method, seed, "accuracy", best=score, last=score)
    ...         for method, both in scores.items() for seed, score in enumerate(both)]
    >>> found = Comparison({}, "", {"news": {}}, list(scores), "lora:8", wanted=4, runs=runs)
    >>> [(row["method"], row["seeds"], round(row["best_mean"], 3)) for row in found.rows()]
    [('lora:8', 2, 0.8), ('lotr', 2, 0.85)]
    """

    config: dict[str, Any]
    command: str
    tasks: dict[str, dict[str, Any]]
    methods: list[str]
    reference: str
    wanted: int
    runs: list[Run] = field(default_factory=list)
    folder: Path = Path()
    notes: list[str] = field(default_factory=list)

    def rows(self) -> list[dict[str, Any]]:
        """Return the table: one entry for each task and method.

        Scores are means over seeds of the best epoch (chosen on the evaluation split itself) and of
        the last epoch; times and memory are medians over the runs.
        """
        return [
            row
            for task in self.tasks
            for method in self.methods
            if (row := self._row(task, method)) is not None
        ]

    def _done(self, task: str, method: str) -> list[Run]:
        found = [r for r in self.runs if (r.task, r.method, r.status) == (task, method, "done")]
        return sorted(found, key=lambda run: run.seed)

    def _row(self, task: str, method: str) -> dict[str, Any] | None:
        runs = self._done(task, method)
        failed = [r for r in self.runs if (r.task, r.method, r.status) == (task, method, "failed")]
        if not runs:
            return (
                {"task": task, "method": method, "seeds": 0, "failed": len(failed)}
                if failed
                else None
            )
        reference = self._done(task, self.reference)
        step, cpu = _median(r.step_ms for r in runs), _median(r.step_cpu_ms for r in runs)
        return {
            "task": task,
            "method": method,
            "metric": runs[0].metric,
            "majority": runs[0].majority,
            "seeds": len(runs),
            "failed": len(failed),
            "best_mean": statistics.fmean(r.best for r in runs),
            "best_spread": _spread([r.best for r in runs]),
            "last_mean": statistics.fmean(r.last for r in runs),
            "last_spread": _spread([r.last for r in runs]),
            "adapter_parameters": runs[0].adapter_parameters,
            "head_parameters": runs[0].head_parameters,
            "ranks": runs[0].ranks,
            "lr": runs[0].lr,
            "step_ms": step,
            "step_ratio": step / _median(r.step_ms for r in reference) if reference else None,
            "step_cpu_ms": cpu,
            "step_cpu_ratio": cpu / _median(r.step_cpu_ms for r in reference)
            if reference
            else None,
            "peak_memory": _median(r.peak_memory for r in runs),
            "run_seconds": _median(r.seconds for r in runs),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything as one JSON object."""
        done = [run for run in self.runs if run.status == "done"]
        return {
            "schema": SCHEMA_VERSION,
            "kind": "comparison",
            "command": self.command,
            "config": self.config,
            "machine": done[0].machine if done else {},
            "versions": done[0].versions if done else {},
            "tasks": self.tasks,
            "methods": self.methods,
            "reference": self.reference,
            "wanted_runs": self.wanted,
            "finished_runs": len(done),
            "spread": _SPREAD,
            "table": self.rows(),
            "runs": [run.to_dict() for run in self.runs],
        }

    @classmethod
    def from_dict(cls, obj: Mapping[str, Any]) -> Comparison:
        """Read what :meth:`to_dict` wrote."""
        names = ("config", "command", "tasks", "methods", "reference")
        values = {name: obj[name] for name in names}
        runs = [Run.from_dict(run) for run in obj["runs"]]
        return cls(**values, wanted=obj["wanted_runs"], runs=runs)

    def to_text(self) -> str:
        """Return the table as text, one for each task."""
        parts = [self._text(name, task) for name, task in self.tasks.items()]
        missing = self.wanted - sum(run.status == "done" for run in self.runs)
        if missing:
            parts.append(f"{missing} of {self.wanted} runs are missing; the same command goes on.")
        return "\n\n".join([*parts, *(["\n".join(self.notes)] if self.notes else [])])

    @property
    def clock(self) -> str:
        """The time that the text shows: processor time where every run has one thread of a CPU.

        Other processes do not disturb it; the JSON holds wall-clock times as well.
        """
        done = [run.machine for run in self.runs if run.status == "done"]
        single = all(m.get("threads") == 1 and m.get("gpu") is None for m in done)
        return "step_cpu_ms" if done and single else "step_ms"

    def _text(self, name: str, task: Mapping[str, Any]) -> str:
        rows = [row for row in self.rows() if row["task"] == name]
        done = [row for row in rows if row["seeds"]]
        if not done:
            return f"{name}: no run has ended well yet"
        title = (
            f"{name}: {LABELS[done[0]['metric']]} on {task['evaluation_rows']} rows "
            f"({task['evaluation_split']}); majority class {report.score(done[0]['majority'])}"
        )
        clock = self.clock
        step = "a step" if clock == "step_ms" else "a step, cpu"
        head = ["", "best epoch", "last epoch", "adapter", "head", step, "ratio", "memory"]
        cells = [head, *(_cells(row, clock) for row in rows)]
        return f"{title}\n\n{report.table(cells)}"

    def save(self) -> None:
        """Write ``comparison.json`` to the folder."""
        write_json(self.folder / "comparison.json", self.to_dict())

    def save_picture(self, path: Path | None = None) -> Path:
        """Draw scores with their spread, and times; return the picture's path.

        Raises
        ------
        DataError
            E710 where matplotlib is not installed.
        """
        from tenslora.integrations.pictures import draw_comparison

        target = path or self.folder / "comparison.png"
        draw_comparison(self.rows(), self.runs, self.tasks, target)
        return target


def _cells(row: Mapping[str, Any], clock: str) -> list[str]:
    if not row["seeds"]:
        return [row["method"], "failed", "", "", "", "", "", ""]
    ratio = row[clock.replace("_ms", "_ratio")]
    return [
        row["method"],
        report.spread(row["best_mean"], row["best_spread"]),
        report.spread(row["last_mean"], row["last_spread"]),
        f"{row['adapter_parameters']:,}",
        f"{row['head_parameters']:,}",
        f"{row[clock]:.0f} ms",
        "" if ratio is None else f"{ratio:.2f}x",
        report.size(row["peak_memory"]),
    ]


def _median(values: Iterable[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return statistics.median(known) if known else math.nan


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
