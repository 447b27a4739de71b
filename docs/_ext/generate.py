"""Pages made from the package itself: errors, kept experiments and benchmarks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import specialcases
from errorindex import error_index

from benchmarks import tables
from tenslora.integrations.comparison import Comparison


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
        f"$ {kept.command}",
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


def write_pages(docs: Path) -> None:
    """Write every generated page, where its text has changed."""
    results = docs.parent / "benchmarks" / "results"
    folder = docs / "_generated"
    pages: dict[str, Callable[[], str]] = {
        "errors": error_index,
        "performance": tables.report,
        "lattice": lambda: specialcases.special_cases(folder),
        "experiments": lambda: experiments(results, folder),
    }
    folder.mkdir(exist_ok=True)
    for name, make in pages.items():
        path, text = folder / f"{name}.md", make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
