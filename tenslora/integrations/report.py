"""How results are written: numbers, sizes, durations, and tables of text."""

from __future__ import annotations

from collections.abc import Sequence

from tenslora.family.columns import columns

__all__ = ["duration", "score", "size", "spread", "table"]

_WIDEST = 36  # columns of a method's name


def score(value: float) -> str:
    """Write a score between -1 and 1 in three digits.

    >>> score(0.8466), score(-0.02)
    ('.847', '-.020')
    """
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and not text.endswith("1.000") else text


def spread(mean: float, deviation: float | None) -> str:
    """Write a mean with its standard deviation, where there is one.

    >>> spread(0.8466, 0.0123), spread(0.5, None)
    ('.847 ± .012', '.500')
    """
    return score(mean) if deviation is None else f"{score(mean)} ± {score(deviation)}"


def size(count: float) -> str:
    """Write a number of bytes.

    >>> size(768536576), size(1200)
    ('733 MB', '1.2 kB')
    """
    for unit, width in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= width:
            number = count / width
            return f"{number:.0f} {unit}" if number >= 100 else f"{number:.1f} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """Write a duration.

    >>> duration(4380), duration(145), duration(12)
    ('1 h 13 min', '2 min 25 s', '12 s')
    """
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Set rows in columns: the first on the left, the others on the right; the first row on top.

    >>> print(table([["", "score"], ["lora:8", ".847"]]))
            score
    lora:8   .847
    """
    return "\n".join(columns([[_shorten(row[0]), *row[1:]] for row in rows]))


def _shorten(name: str) -> str:
    return name if len(name) <= _WIDEST else name[: _WIDEST - 3] + "..."
