"""Options made from the fields of a dataclass, so that a setting is written once.

The metadata of a field says what its option is: ``help``; ``type`` of one value; ``many`` values;
``pairs`` of ``name=value``; ``choices``; ``metavar``.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar

from tenslora.cli.command import Parser
from tenslora.errors import UsageError

__all__ = ["add_config", "read_config"]

_Config = TypeVar("_Config")


def add_config(parser: Parser, kind: type) -> None:
    """Add one option for each field of the dataclass ``kind``; none is set unless it is given.

    Fields that ``kind`` inherits stand in a second group.
    """
    bases = [base for base in kind.__mro__[1:] if is_dataclass(base)]
    inherited = {field.name for base in bases for field in fields(base)}
    first = parser.add_argument_group("what to do")
    second = parser.add_argument_group("how to train")
    for field in fields(kind):
        group = second if field.name in inherited else first
        flag = "--" + field.name.replace("_", "-")
        group.add_argument(
            flag, dest=field.name, default=argparse.SUPPRESS, help=_help(field), **_shape(field)
        )


def _shape(field: Field[Any]) -> dict[str, Any]:
    about = field.metadata
    if about["type"] is bool:
        return {"action": argparse.BooleanOptionalAction}
    shape: dict[str, Any] = {"type": str if about.get("pairs") else about["type"]}
    if about.get("many") or about.get("pairs"):
        shape["nargs"] = "+"
    if "choices" in about:
        shape["choices"] = about["choices"]
    else:
        name = "NAME=VALUE" if about.get("pairs") else about["type"].__name__.upper()
        shape["metavar"] = about.get("metavar", {"STR": "TEXT", "INT": "N"}.get(name, name))
    return shape


def _help(field: Field[Any]) -> str:
    default = field.default
    text = str(field.metadata["help"])
    if isinstance(default, bool):
        text += " (default: on)" if default else ""
    elif default not in (None, "", (), MISSING):
        many = isinstance(default, tuple)
        text += f" (default: {' '.join(map(str, default)) if many else default})"
    return text.replace("%", "%%")


def read_config(args: Namespace, kind: type[_Config], **changed: Any) -> _Config:
    """Return ``kind`` filled with the options that were given, and with ``changed``.

    Raises
    ------
    UsageError
        E803 where an option wants ``name=value`` and has something else.
    DataError
        A value that the dataclass itself refuses.
    """
    given: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if hasattr(args, field.name):
            given[field.name] = _value(field, getattr(args, field.name))
    return kind(**{**given, **changed})


def _value(field: Field[Any], value: Any) -> Any:
    if field.metadata.get("many"):
        return tuple(value)
    if not field.metadata.get("pairs"):
        return value
    if field.default_factory is MISSING:  # one value for all may stand instead of the pairs
        return " ".join(value)
    return dict(_pair(field, word) for word in value)


def _pair(field: Field[Any], word: str) -> tuple[str, Any]:
    name, sign, text = word.rpartition("=")
    try:
        if sign and name:
            return name, field.metadata["type"](text)
    except ValueError:
        pass
    what = f"--{field.name.replace('_', '-')} {word} is not name=value"
    raise UsageError("E803", what, advice="Write lora=0.001, say.")
