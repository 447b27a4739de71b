"""``python -m benchmarks tables``: the tables of README.md and of the documentation, from the JSON.

Knows no tensor library: the documentation imports it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Reached, reached
from benchmarks.results import load
from benchmarks.sections import SECTIONS, table

__all__ = ["main", "report", "write_region"]

README = Path(__file__).parent / "README.md"
START, END = "<!-- tables: written by python -m benchmarks tables -->", "<!-- end of tables -->"


def report(*, level: int = 2) -> str:
    """Every table, as Markdown with headings of this level."""
    parts = [_section(level, "Goals and what was reached", _figures())]
    for name, title, make in SECTIONS:
        kept = load(name)
        if kept is None:
            parts.append(
                _section(level, title, f"Not measured yet: `python -m benchmarks {name}`.")
            )
        else:
            parts.append(_section(level, title, f"{make(kept)}\n\n{_origin(kept)}"))
    return "\n\n".join(parts)


def _section(level: int, title: str, body: str) -> str:
    return f"{'#' * level} {title}\n\n{body}"


def _origin(kept: Mapping[str, Any]) -> str:
    machine, versions = kept["machine"], kept["versions"]
    known = [machine.get("gpu") or machine["processor"], f"{machine['threads']} thread"]
    known += [f"{name} {versions[name]}" for name in ("torch", "transformers", "peft")]
    return f"`{kept['command']}`; {', '.join(known)}."


def _figures() -> str:
    rows, missed, open_ = [], [], []
    for figure, found, reason in reached():
        goal = f"{'<=' if figure.most else '>='} {_written(figure, figure.goal)}"
        if found is None:
            rows.append([figure.quantity, goal, "not measured", "", ""])
            open_.append(figure.quantity)
            continue
        yes = figure.met(found)
        value = _written(figure, found.value)
        rows.append([figure.quantity, goal, value, _noise(figure, found), "yes" if yes else "no"])
        if not yes:
            known = reason or "No reason is known yet."
            where = f" ({found.where})" if found.where else ""
            missed.append(f"- {figure.quantity}: {value}{where}. {known}")
    body = table(["quantity", "goal", "reached", "noise", "met"], rows)
    text = f"{body}\n\nReached is the worst case of what was measured, at equal rank where nothing "
    text += "else is said. Noise is twice the gap between two equal sides in the same run."
    if missed:
        text += "\n\nMissed, with the case that is worst:\n\n" + "\n".join(missed)
    return text


def _written(figure: Figure, value: float) -> str:
    if figure.unit == "%":
        return f"{100 * value:.1f} points"
    if figure.unit == "ms" or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}"


def _noise(figure: Figure, found: Reached) -> str:
    if found.noise is None:
        return ""
    return f"± {100 * found.noise:.1f} points" if figure.unit == "%" else f"± {found.noise:.2f}"


def write_region(text: str) -> str:
    """Put the tables between the marks of README.md."""
    head, _, rest = text.partition(START)
    _, _, tail = rest.partition(END)
    return f"{head}{START}\n\n{report()}\n\n{END}{tail}"


def _differing(old: str, new: str) -> Iterator[str]:
    import difflib

    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    yield from list(lines)[:20]


def main(args: argparse.Namespace) -> int:
    """Write the tables, or with ``--check`` say what would change."""
    old = README.read_text(encoding="utf-8")
    new = write_region(old)
    if args.check:
        print("\n".join(_differing(old, new)) or "README.md is as the results say")
        return int(old != new)
    README.write_text(new, encoding="utf-8")
    return 0
