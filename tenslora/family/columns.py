"""Text in columns: names on the left, numbers on the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["columns", "reasons"]


def columns(rows: Sequence[Sequence[str]], *, words_last: bool = False) -> list[str]:
    """Set rows in columns, the first on the left and the others on the right.

    ``words_last`` leaves the last column on the left, as long as it comes.

    >>> columns([["family", "parameters", "ranks"], ["lora", "8", "r=2"]], words_last=True)
    ['family  parameters  ranks', 'lora             8  r=2']
    """
    aligned = len(rows[0]) - words_last
    widths = [max(len(row[n]) for row in rows) for n in range(aligned)]
    lines = []
    for first, *others in rows:
        words = [others.pop()] if words_last else []
        numbers = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *numbers, *words]).rstrip())
    return lines


def reasons(left_out: Mapping[str, str]) -> list[str]:
    """Lines that say what a table does not have, and why; none where it has everything."""
    if not left_out:
        return []
    return ["", "left out", *(f"  {name}: {reason}" for name, reason in left_out.items())]
