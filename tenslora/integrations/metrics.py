"""Scores of predictions, written out: accuracy, F1, Matthews' correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tenslora.integrations.data import Task

__all__ = ["LABELS", "choose_metric", "score"]

#: How a metric is called in tables.
LABELS = {"accuracy": "accuracy", "f1": "F1", "matthews": "Matthews correlation"}
_OF_TASK = {"cola": "matthews", "mrpc": "f1", "glue-cola": "matthews", "glue-mrpc": "f1"}


def choose_metric(metric: str, task: Task) -> str:
    """Return the metric of a task: the one asked for, GLUE's for CoLA and MRPC, or accuracy."""
    return _OF_TASK.get(task.name.lower(), "accuracy") if metric == "auto" else metric


def score(predicted: Sequence[int], labels: Sequence[int], classes: int) -> dict[str, float]:
    """Return every metric of predictions.

    F1 is that of class 1 where there are two classes, and the mean over classes (macro) otherwise;
    Matthews' correlation is Gorodkin's for several classes. Each is 0 where it is not defined.

    >>> {k: round(v, 3) for k, v in score([1, 1, 0, 1], [1, 0, 0, 1], 2).items()}
    {'accuracy': 0.75, 'f1': 0.8, 'matthews': 0.577}
    """
    table = np.zeros((classes, classes))
    np.add.at(table, (np.asarray(labels), np.asarray(predicted)), 1)
    f1 = _f1(table)
    return {
        "accuracy": float(np.trace(table) / table.sum()),
        "f1": float(f1[1] if classes == 2 else f1.mean()),
        "matthews": _matthews(table),
    }


def _f1(table: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = table.sum(0) + table.sum(1)
    return 2 * np.diag(table) / np.where(sums == 0, 1, sums)


def _matthews(table: NDArray[np.float64]) -> float:
    total, right = table.sum(), np.trace(table)
    true, said = table.sum(1), table.sum(0)
    width = np.sqrt(total**2 - said @ said) * np.sqrt(total**2 - true @ true)
    return float((right * total - true @ said) / width) if width > 0 else 0.0
