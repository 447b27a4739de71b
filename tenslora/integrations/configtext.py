"""The settings of a run as JSON, and as the command line that has them."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import Any

from tenslora.family import Family, Wrapped

__all__ = ["as_json", "command_line"]

#: What stands first on a command line.
_FIRST = ("model", "data", "family", "families", "like", "ranks")


def command_line(config: Any) -> str:
    """Return the command whose options are what a dataclass of settings has of its own."""
    words = ["tenslora", type(config).__name__.removesuffix("Config").lower()]
    default = type(config)()
    for f in sorted(fields(config), key=lambda f: f.name not in _FIRST):
        value, flag = getattr(config, f.name), "--" + f.name.replace("_", "-")
        if value == getattr(default, f.name):
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
            continue
        words.append(flag)
        inside = value.family if isinstance(value, Wrapped) else value
        if isinstance(inside, Family) and inside.name is None:
            equation, *rest = _family_words(inside)
            around = isinstance(value, Wrapped)
            words += [f"{value.wrapper}({equation})" if around else equation, *rest]
        elif isinstance(value, dict):
            words += [f"{k}={v}" for k, v in value.items()]
        else:
            many = value if isinstance(value, tuple) else (value,)
            words += [str(_word(one)) for one in many]
    return shlex.join(words)


def _family_words(family: Family) -> list[str]:
    """Return an equation and the options that say the rest of a family made by hand."""
    words = [family.equation]
    for core, rule in family.init.items():
        words += ["--init", f"{core}={rule}"]
    for core in sorted(family.frozen):
        words += ["--frozen", core]
    if str(family.scale) != "constant":
        words += ["--scale", str(family.scale)]
    return words


def as_json(value: Any) -> Any:
    """Return one setting as JSON; a family made by hand with all that it is."""
    if isinstance(value, (Family, Wrapped)):
        return value.to_json()
    return [as_json(one) for one in value] if isinstance(value, tuple) else value


def _word(value: Any) -> Any:
    if isinstance(value, Wrapped):
        return f"{value.wrapper}({_word(value.family)})"
    if isinstance(value, Family):
        ranks = ",".join(f"{bond}={rank}" for bond, rank in value.ranks.items())
        return f"{value.label}:{ranks}" if ranks else value.label
    return value
