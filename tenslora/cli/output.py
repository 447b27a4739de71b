"""Answers on standard output; errors and warnings as one line each on standard error."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from tenslora.errors import TensloraError, TensloraWarning

__all__ = [
    "one_line",
    "plain",
    "quiet_pipe",
    "say",
    "short_warnings",
    "show_answer",
    "table",
]

_WIDTH = 96


def show_answer(text: str) -> None:
    """Print an answer; a character that the terminal cannot show becomes a question mark."""
    _write(sys.stdout, text)
    sys.stdout.flush()


def say(text: str) -> None:
    """Print one line of talk on standard error."""
    _write(sys.stderr, text)


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding).rstrip("\n") + "\n")


def one_line(error: BaseException) -> str:
    """Return an error as one line, with the place in the text as a character's number.

    >>> from tenslora.errors import SizeError
    >>> one_line(SizeError("E206", "rank r=0 is not a positive integer", advice="Give 1."))
    'E206: rank r=0 is not a positive integer. Give 1.'
    """
    if not isinstance(error, TensloraError):
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    text = f"{error.code}: {error.what}"
    if error.text is not None and error.span is not None:
        start, end = error.span
        part = error.text[start:end].strip()
        text = f"{text.rstrip('.')} (at character {start + 1}{f', {part!r}' if part else ''})"
    if error.advice:
        text = f"{text.rstrip('.')}. {error.advice}"
    return " ".join(text.split())


def plain(value: Any) -> Any:
    """Return ``value`` as what JSON has; a number that is not finite becomes ``null``.

    >>> plain({"loss": float("nan"), "ranks": (1, 2)})
    {'loss': None, 'ranks': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    item = getattr(value, "item", None)  # a number of numpy or torch
    return plain(item()) if callable(item) else str(value)


def to_json(data: Mapping[str, Any]) -> str:
    """Return one JSON object in ASCII; what fits into a line stands in one.

    >>> print(to_json({"sizes": {"in": 8}, "path": "x" * 80}))
    {
      "sizes": {"in": 8},
      "path": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    }
    """
    return _encode(plain(data), 0)


def _encode(value: Any, indent: int) -> str:
    flat = json.dumps(value, allow_nan=False)
    if len(flat) + indent <= _WIDTH or not isinstance(value, (dict, list)):
        return flat
    inner = indent + 2
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {_encode(item, inner)}" for key, item in value.items()]
    else:
        items = [_encode(item, inner) for item in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    lines = ",\n".join(" " * inner + item for item in items)
    return f"{start}\n{lines}\n{' ' * indent}{end}"


def table(rows: list[tuple[str, str]], indent: str = "") -> str:
    """Set names and texts in two columns, one line each: an equation can be copied from it.

    >>> print(table([("in", "768"), ("head_dim", "64")]))
    in        768
    head_dim  64
    """
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{indent}{name:{width}}  {text}".rstrip() for name, text in rows)


@contextmanager
def short_warnings(*, shown: bool = True) -> Iterator[None]:
    """Show each different warning of tenslora once, as one line; or none of them."""
    seen: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", TensloraWarning)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, TensloraWarning):
                usual(message, category, filename, lineno, file, line)
            elif str(message) not in seen:
                seen.add(str(message))
                if shown:
                    say(f"warning: {' '.join(str(message).split())}")

        warnings.showwarning = show
        yield


def quiet_pipe() -> None:
    """Point standard output at nothing, so that Python's last flush does not complain."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    except (OSError, ValueError):  # a stream without a file has nothing to flush
        return
