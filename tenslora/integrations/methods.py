"""The rows of a comparison: families with their ranks, and the head alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tenslora.errors import DataError
from tenslora.family import Family, Wrapped, Wrapper, parse_ranks, unwrap
from tenslora.integrations.config import HEAD, CompareConfig, FinetuneConfig, parse_family

__all__ = ["HEAD_ALONE", "Method", "method_of", "methods_of"]

#: What the head alone is called in tables.
HEAD_ALONE = "head alone"
_REFERENCE = "lora:8"


@dataclass(frozen=True)
class Method:
    """A row of a comparison: a family with its ranks, or the head alone (``family=None``)."""

    name: str
    family: Family | None
    ranks: int | Mapping[str, int] | None = None
    like: Family | None = None
    params: int | None = None
    lr: float | None = None
    wrapper: Wrapper | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object; :meth:`from_json` reads it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {k: v.to_json() if isinstance(v, Family) else v for k, v in values.items()}
        return {**plain, "wrapper": None if self.wrapper is None else str(self.wrapper)}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Method:
        """Read what :meth:`to_json` wrote."""
        values = dict(obj)
        for name in ("family", "like"):
            if values[name] is not None:
                values[name] = Family.from_json(values[name])
        if values["wrapper"] is not None:
            values["wrapper"] = Wrapper.parse(values["wrapper"])
        return cls(**values)


def method_of(config: FinetuneConfig) -> Method:
    """Return the method of a fine-tuning run.

    Raises
    ------
    TensloraError
        An unknown family, ranks that cannot be read.
    """
    if config.family == HEAD:
        return Method(HEAD_ALONE, None)
    family, wrapper = unwrap(config.family)
    like = None if config.like is None else _with_ranks(config.like)[1]
    ranks = parse_ranks(config.ranks)
    if ranks is None and like is None and config.params is None and not family.ranks:
        ranks = 8
    sizes = dict(config.sizes)
    return Method(
        _name(config.family), family, ranks, like, config.params, wrapper=wrapper, sizes=sizes
    )


def methods_of(config: CompareConfig) -> list[Method]:
    """Return the rows of a comparison in order: head alone, the reference, the families.

    Raises
    ------
    TensloraError
        An unknown family; E709 for names that are given twice or a reference without ranks.
    """
    like = None
    if config.ranks is not None:
        reference = Method("lora", parse_family("lora")[0], config.ranks)
    else:
        name, like = _with_ranks(config.like or _REFERENCE)
        reference = Method(name, like)
    found = [Method(HEAD_ALONE, None)] if config.head else []
    found.append(reference)
    for text in config.families:
        family, wrapper = unwrap(text)
        name, given = _name(text), bool(family.ranks)
        plain = family.name == "lora" and wrapper is None
        if name == reference.name or (plain and not given):
            continue
        if given:
            found.append(Method(name, family, wrapper=wrapper))
        else:
            found.append(Method(name, family, config.ranks, like, wrapper=wrapper))
    names = [method.name for method in found]
    for name in [*names, *config.lrs]:
        if names.count(name) != 1:
            what = f"{name!r} is given twice" if name in names else f"lrs names {name!r}, no row"
            raise DataError("E709", what, advice=f"The rows are {', '.join(dict.fromkeys(names))}.")
    return [replace(m, lr=config.lrs.get(m.name)) for m in found]


def _name(value: str | Family | Wrapped) -> str:
    return value if isinstance(value, str) else value.label


def _with_ranks(text: str | Family) -> tuple[str, Family]:
    family, given = parse_family(text)
    name = text if isinstance(text, str) else family.label
    if not given:
        what = f"like={name!r} has no ranks"
        raise DataError("E709", what, advice=f"Write {name}:8, or {name}:r=8.")
    return name, family
