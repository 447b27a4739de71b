"""Ranks as a person types them: ``8``, or ``a=4,b=2``."""

from __future__ import annotations

from collections.abc import Mapping

from tenslora.errors import SizeError

__all__ = ["parse_ranks"]


def parse_ranks(value: str | int | Mapping[str, int] | None) -> int | dict[str, int] | None:
    """Read one rank for every bond, or ``bond=rank`` for each; other values are left as they are.

    >>> parse_ranks("8"), parse_ranks("a=4,b=2"), parse_ranks(None)
    (8, {'a': 4, 'b': 2}, None)

    Raises
    ------
    SizeError
        E206 for text that is neither.
    """
    if value is None or isinstance(value, int):
        return value
    if not isinstance(value, str):
        return dict(value)
    found: dict[str, int] = {}
    for part in value.replace(",", " ").split():
        name, equals, number = part.rpartition("=")
        if not number.isdecimal() or (equals and not name):
            raise _unreadable(value)
        found[name] = int(number)
    if list(found) == [""]:
        return found[""]
    if not found or "" in found:
        raise _unreadable(value)
    return found


def _unreadable(value: str) -> SizeError:
    advice = "Write 8 for every bond, or a=4,b=2."
    return SizeError("E206", f"ranks {value!r} cannot be read", advice=advice)
