"""Pages made from the package itself: errors, kept experiments and benchmarks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import specialcases
from errorindex import error_index

import tenslora
from benchmarks import tables
from tenslora.decompose import Need
from tenslora.families.checks import AROUND, CHECKS, checks_of
from tenslora.families.outside import OUTSIDE
from tenslora.family import WRAPPERS
from tenslora.integrations.comparison import Comparison
from tenslora.testing import abilities


def checked() -> str:
    """Return the table of families and what each is held against."""
    heads = [*dict.fromkeys(check.against for check in CHECKS), "numpy formula"]
    lines = [f"| family | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in tenslora.registered():
        found = checks_of(name)
        marks = ["yes" if head in found or head == heads[-1] else "" for head in heads]
        lines.append(f"| [{name}](families/{name}.md) | {' | '.join(marks)} |")
    return "\n".join(lines) + "\n"


def wrappers() -> str:
    """Return the table of what goes around a family."""
    lines = ["| wrapper | what it does | held against | source |", "|---|---|---|---|"]
    for name, kind in WRAPPERS.items():
        held = "; ".join(f"{c.against}: {c.text}" for c in AROUND if name in c.families)
        formula = f"`{kind.formula}`: it {kind.summary}".replace("|", "\\|")
        lines.append(f"| {name} | {formula} | {held} | {kind.source} |")
    return "\n".join(lines) + "\n"


def outside() -> str:
    """Return the table of methods that are no equation."""
    rows = [
        f"| {o.name} | {o.reason} | {f'`{o.instead}`' if o.instead else ''} | {o.source} |"
        for o in OUTSIDE
    ]
    return "\n".join(["| method | why | instead | source |", "|---|---|---|---|", *rows, ""])


def experiments(results: Path, folder: Path) -> str:
    """Return a section for each kept comparison: tables, picture, and the command that made it."""
    found = sorted(results.glob("*/comparison.json"))
    parts = [_comparison(path, folder) for path in found]
    return "\n".join(parts) or "No comparison has been kept yet.\n"


def _comparison(path: Path, folder: Path) -> str:
    kept = Comparison.from_dict(json.loads(path.read_text(encoding="utf-8")))
    name = path.parent.name
    about = path.with_name("about.md")
    lines = [about.read_text(encoding="utf-8").strip()] if about.exists() else [f"## {name}"]
    lines += [
        "",
        "```console",
        "$ " + kept.command.replace(" --", " \\\n    --"),
        "```",
        "",
        "```text",
        kept.to_text(),
        "```",
        "",
    ]
    picture = path.with_suffix(".png")
    if picture.exists():
        shutil.copyfile(picture, folder / f"{name}.png")
        lines += [f"![Scores and times of {name}](_generated/{name}.png)", ""]
    run = next((run for run in kept.runs if run.status == "done"), None)
    if run is not None:
        machine = ", ".join(f"{key} {value}" for key, value in run.machine.items() if value)
        versions = ", ".join(f"{key} {value}" for key, value in run.versions.items())
        lines += [f"Machine: {machine}. Versions: {versions}.", ""]
    return "\n".join(lines)


def works(kept: Path) -> str:
    """Return the table of what works where, from the outcomes that the tests repeat."""
    return abilities.table(json.loads(kept.read_text("utf-8")))


def spectra(results: Path) -> str:
    """Return, for each kept spectrum, what families need of a trained adapter, and the commands."""
    parts = []
    for about in sorted(results.glob("*-spectrum/about.md")):
        said = about.read_text(encoding="utf-8").strip()
        parts.append(f"{said}\n\n```text\n{_needs(about.parent)!r}\n```\n")
    return "\n".join(parts)


def _needs(folder: Path) -> Need:
    """Put the tables of several commands on one adapter together, in the order of the catalogue."""
    kept = [json.loads(p.read_text(encoding="utf-8"))["needed"] for p in folder.glob("*.json")]
    (energies,) = {tuple(one["energies"]) for one in kept}
    rows, left_out = (
        {
            name: one[part][name]
            for name in tenslora.registered()
            for one in kept
            if name in one[part]
        }
        for part in ("families", "left_out")
    )
    return Need(energies, rows, left_out)


def write_pages(docs: Path) -> None:
    """Write every generated page, where its text has changed."""
    results = docs.parent / "benchmarks" / "results"
    folder = docs / "_generated"
    pages: dict[str, Callable[[], str]] = {
        "errors": error_index,
        "checked": checked,
        "wrappers": wrappers,
        "outside": outside,
        "performance": tables.report,
        "works": lambda: works(docs.parent / "tests" / "testing" / "works.json"),
        "lattice": lambda: specialcases.special_cases(folder),
        "spectra": lambda: spectra(results),
        "experiments": lambda: experiments(results, folder),
    }
    folder.mkdir(exist_ok=True)
    for name, make in pages.items():
        path, text = folder / f"{name}.md", make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
