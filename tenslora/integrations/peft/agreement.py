"""Whether the settings of a saved adapter are those that its site map holds."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tenslora.errors import StateError
from tenslora.family import Family
from tenslora.integrations.peft.config import TensLoraConfig
from tenslora.nn.record import Record

__all__ = ["check_agreement"]

_ADVICE = (
    "The cores were saved as the site map says: give the value of before; or set "
    "config.site_map = None to put a new adapter on the model."
)


def check_agreement(config: TensLoraConfig, record: Record) -> None:
    """Refuse a family, a wrapper, sizes, ranks or alpha that were changed beside the site map.

    Ranks that a budget chose are in the site map alone, and so is what is left out.

    Raises
    ------
    StateError
        E602 with the setting and both values.
    """
    asked, held = config.equation, record.family
    if config.wrapper != record.wrapper:
        pairs = ((asked, config.wrapper), (held, record.wrapper))
        raise _differs("family", *(f"{w}({f.label})" if w else f.label for f, w in pairs))
    if not _same(asked, held, named=isinstance(config.family, str)):
        names = [family.name or str(family.network) for family in (asked, held)]
        if names[0] == names[1]:
            names = [f"{family.network}" for family in (asked, held)]
        raise _differs("family", *names)
    ranks = _ranks(config, asked)
    for group in record.groups:
        sizes = group["sizes"]
        for bond, rank in ranks.items():
            if bond not in held.bonds or type(rank) is bool or sizes.get(bond) != rank:
                own = {name: sizes.get(name) for name in held.bonds}
                raise _differs("ranks", config.ranks if config.ranks is not None else ranks, own)
        own = {name: sizes.get(name) for name in config.sizes or {}}
        if own != dict(config.sizes or {}):
            raise _differs("sizes", config.sizes, own)
        if config.alpha is None:
            continue
        due = held.scale.factor(sizes, config.alpha)
        if not math.isclose(due, group["scale"], rel_tol=1e-9):
            given = f"{config.alpha!r}, a factor of {due:.6g}"
            raise _differs("alpha", given, f"a factor of {group['scale']:.6g}")


def _same(asked: Family, held: Family, *, named: bool) -> bool:
    """Families are the same; of one name, their equations: a later version may start otherwise."""
    if asked == held:
        return True
    return named and asked.name == held.name and asked.network == held.network


def _ranks(config: TensLoraConfig, family: Family) -> Mapping[str, int]:
    if config.like is not None or config.params is not None:
        return {}
    if config.ranks is None:
        return family.ranks
    if isinstance(config.ranks, Mapping):
        return {**family.ranks, **config.ranks}
    return dict.fromkeys(family.bonds, config.ranks)


def _differs(name: str, given: object, held: object) -> StateError:
    what = f"{name} is {str(given)[:90]}, and the site map was saved with {str(held)[:90]}"
    return StateError("E602", what, advice=_ADVICE)
