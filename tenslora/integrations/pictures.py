"""Pictures of runs, drawn by matplotlib without its global state (no pyplot)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenslora.family.columns import columns
from tenslora.figure import BLUE, GREY, MARKS, ORANGE, Picture, make_figure, tidy
from tenslora.integrations.metrics import LABELS
from tenslora.integrations.report import score
from tenslora.integrations.runs import Run

__all__ = [
    "curves",
    "curves_text",
    "draw_budgets",
    "draw_comparison",
    "draw_curves",
    "draw_spectra",
]


def draw_curves(runs: Sequence[Run], path: Path) -> None:
    """Write the picture of :func:`curves`.

    Raises
    ------
    DataError
        E710 where matplotlib is not installed, E711 where the file cannot be written.
    """
    curves(runs).save(path)


def curves(runs: Sequence[Run]) -> Picture:
    """Draw losses and scores over epochs, one line a run, and the majority class.

    Raises
    ------
    DataError
        E710 where matplotlib is not installed.
    """
    figure = make_figure(9, 3.6)
    losses, scores = figure.subplots(1, 2)
    for n, run in enumerate(runs):
        epochs = [entry["epoch"] for entry in run.history]
        style: dict[str, Any] = {"markersize": 4, "alpha": 0.85}
        trained = {"color": BLUE, "marker": "o", **style}
        judged = {"color": ORANGE, "marker": "s", "linestyle": "--", "markerfacecolor": "white"}
        first = n == 0
        loss = [entry["loss"] for entry in run.history]
        held = [entry["eval_loss"] for entry in run.history]
        losses.plot(epochs, loss, label="training" if first else None, **trained)
        losses.plot(epochs, held, label="evaluation" if first else None, **style, **judged)
        values = [entry["score"] for entry in run.history]
        mark = MARKS[n % len(MARKS)]
        scores.plot(epochs, values, color=ORANGE, marker=mark, label=f"seed {run.seed}", **style)
    scores.axhline(runs[0].majority, color=GREY, linestyle="--", label="majority class")
    losses.set(xlabel="epoch", ylabel="loss")
    scores.set(xlabel="epoch", ylabel=LABELS[runs[0].metric])
    for axes in (losses, scores):
        tidy(axes)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{runs[0].task}: {runs[0].method}", fontsize=10)
    return Picture(figure)


def curves_text(runs: Sequence[Run]) -> str:
    """Return the same as a table: losses and score of each epoch.

    >>> history = [{"epoch": 1, "loss": 0.7, "eval_loss": 0.6, "score": 0.75}]
    >>> print(curves_text([Run("questions", "lora:8", 0, "accuracy", history=history)]))
    training on questions with lora:8
    seed  epoch  loss  on evaluation  accuracy
    0         1   0.7            0.6      .750
    """
    rows = [["seed", "epoch", "loss", "on evaluation", LABELS[runs[0].metric]]]
    for run in runs:
        for entry in run.history:
            losses = (f"{entry[name]:.3g}" for name in ("loss", "eval_loss"))
            rows.append([str(run.seed), str(entry["epoch"]), *losses, score(entry["score"])])
    return "\n".join([f"training on {runs[0].task} with {runs[0].method}", *columns(rows)])


def draw_comparison(
    rows: Sequence[Mapping[str, Any]], runs: Sequence[Run], tasks: Mapping[str, Any], path: Path
) -> None:
    """Draw, for each task, every method's scores with their spread.

    Raises
    ------
    DataError
        E710 where matplotlib is not installed, E711 where the file cannot be written.
    """
    shown = {t: [r for r in rows if r["task"] == t and r["seeds"]] for t in tasks}
    shown = {task: found for task, found in shown.items() if found}
    longest = max(len(found) for found in shown.values())
    figure = make_figure(5.2 * len(shown) + 1.5, 1.6 + 0.42 * longest)
    grid = figure.subplots(1, len(shown), squeeze=False)[0]
    for n, (axes, (task, found)) in enumerate(zip(grid, shown.items(), strict=True)):
        _draw_task(axes, found, [r for r in runs if r.task == task and r.status == "done"])
        axes.set_title(task, fontsize=10)
        if n == len(shown) - 1:
            axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    Picture(figure).save(path)


def draw_budgets(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw families by trained parameters and by the rank that an update can have.

    Raises
    ------
    DataError
        E710 where matplotlib is not installed, E711 where the file cannot be written.
    """
    figure = make_figure(9, 6)
    axes = figure.subplots()
    places: dict[tuple[int, int], list[str]] = {}
    for row in rows:
        places.setdefault((row["parameters"], row["cut_rank"]), []).append(row["family"])
    axes.scatter(*zip(*places, strict=True), s=22, color=BLUE, zorder=3)
    for n, (place, names) in enumerate(sorted(places.items(), key=lambda item: item[0][::-1])):
        text = ", ".join(_short(name) for name in names)
        side = (4, 3) if n % 2 == 0 else (4, -8)
        axes.annotate(text, place, xytext=side, textcoords="offset points", fontsize=7)
    axes.set(xscale="log", yscale="log", xlabel="trained parameters", ylabel="in|out cut rank")
    axes.set_title(title, fontsize=9)
    axes.margins(x=0.2)
    tidy(axes)
    Picture(figure).save(path)


def _draw_task(axes: Any, rows: Sequence[Mapping[str, Any]], runs: Sequence[Run]) -> None:
    for kind, color, mark, shift in (("best", BLUE, "s", -0.14), ("last", ORANGE, "o", 0.14)):
        means = [row[f"{kind}_mean"] for row in rows]
        spreads = [row[f"{kind}_spread"] or 0.0 for row in rows]
        heights = [n + shift for n in range(len(rows))]
        points = [
            (getattr(run, kind), n + shift)
            for n, row in enumerate(rows)
            for run in runs
            if run.method == row["method"]
        ]
        axes.scatter(
            *zip(*points, strict=True), s=9, color=color, marker=mark, alpha=0.4, linewidths=0
        )
        label = f"{kind} epoch: mean, deviation, seeds"
        axes.errorbar(
            means, heights, xerr=spreads, fmt=mark, markersize=4, color=color, label=label, zorder=3
        )
    axes.axvline(rows[0]["majority"], color=GREY, linestyle="--", label="majority class")
    names = [f"{_short(r['method'])}\n{r['adapter_parameters']:,}" for r in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel(LABELS[rows[0]["metric"]])
    tidy(axes)


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:25] + "..."


def draw_spectra(spectra: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the energy that ranks of each mode miss, one panel for each shape of weights.

    Raises
    ------
    DataError
        E710 where matplotlib is not installed, E711 where the file cannot be written.
    """
    figure = make_figure(5.2 * len(spectra), 3.8)
    panels = figure.subplots(1, len(spectra), squeeze=False)[0]
    for panel, one in zip(panels, spectra, strict=True):
        for n, (mode, entry) in enumerate(one["modes"].items()):
            energy = [value**2 for value in entry["singular_values"]]
            total = sum(energy) or 1.0
            missed = [sum(energy[rank:]) / total for rank in range(len(energy) + 1)]
            part = [rank / entry["size"] for rank in range(len(missed))]
            shown = [(x, y) for x, y in zip(part, missed, strict=True) if y > 1e-8]
            label = f"{mode} ({entry['size']})"
            panel.plot(
                *zip(*shown, strict=True), label=label, marker=MARKS[n % len(MARKS)], markersize=3
            )
        panel.set_yscale("log")
        panel.set_xlabel("rank, as a part of the mode's size")
        panel.set_ylabel("energy missed")
        panel.set_title(one["name"])
        panel.legend(fontsize=8)
    Picture(figure).save(path)
