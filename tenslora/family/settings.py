"""The settings of a family beside its equation: what they may be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from tenslora.errors import FamilyError
from tenslora.spec import Network

__all__ = ["check_dropout", "check_lr", "check_mapping", "frozen_cores", "known_cores"]


def check_mapping(network: Network, what: str, values: object) -> None:
    """Refuse one value where each core has its own: E301."""
    if not isinstance(values, Mapping):
        core, value = next(iter(network.cores), "A"), "'zeros'" if what == "init" else "2.0"
        if isinstance(values, (str, int, float)) and values:
            value = repr(values)
        advice = f"Say it of each core: {what}={{{core!r}: {value}}}."
        raise FamilyError("E301", f"{what} is {values!r}, not a mapping of cores", advice=advice)


def frozen_cores(network: Network, frozen: object) -> frozenset[str]:
    """Return the names of frozen cores, or raise E301."""
    if isinstance(frozen, str):
        frozen = (frozen,)
    if isinstance(frozen, Mapping) or not isinstance(frozen, Iterable):
        what, core = f"frozen is {frozen!r}, no names of cores", next(iter(network.cores), "A")
        raise FamilyError(
            "E301", what, advice=f"Name those that are not trained: frozen=[{core!r}]."
        )
    names = list(frozen)
    known_cores(network, "frozen", names)
    return frozenset(names)


def known_cores(network: Network, what: str, names: Iterable[str]) -> None:
    """Refuse names that no core of the network has: E301."""
    for name in names:
        if name not in network.cores:
            known = {core.casefold(): core for core in network.cores}
            found = difflib.get_close_matches(str(name).casefold(), known, n=1, cutoff=0.5)
            close = [known[core] for core in found]
            advice = f"Did you mean {close[0]!r}? " if close else ""
            advice += f"The cores are {', '.join(network.cores) or 'none (constants only)'}."
            raise FamilyError("E301", f"{what} names {name!r}, no core of {network}", advice=advice)


def check_dropout(dropout: Mapping[str, float]) -> dict[str, float]:
    """Return the probabilities as floats, or raise E308."""
    if not isinstance(dropout, Mapping):
        what = f"dropout is {dropout!r}, and says nothing of what is dropped"
        raise FamilyError("E308", what, advice='Write dropout={"input": 0.1}.')
    for point, p in dropout.items():
        number = isinstance(p, (int, float)) and not isinstance(p, bool)
        if point != "input" or not number or not 0.0 <= p < 1.0:
            what = f"dropout {point!r}: {p!r}"
            advice = 'Write dropout={"input": 0.1}; the probability is at least 0 and below 1.'
            raise FamilyError("E308", what, advice=advice)
    return {point: float(p) for point, p in dropout.items()}


def check_lr(lr: Mapping[str, float]) -> dict[str, float]:
    """Return the multipliers as floats, or raise E301."""
    for core, factor in lr.items():
        number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not number or not 0.0 < factor < float("inf"):
            what = f"lr multiplier of {core}: {factor!r} is not a positive number"
            raise FamilyError("E301", what, advice="Freeze a core with frozen=... instead of 0.")
    return {core: float(factor) for core, factor in lr.items()}
