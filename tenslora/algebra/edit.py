"""What operators on networks are made of: changing every core, new names, and one error."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping

from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Term

__all__ = [
    "check_name",
    "fresh",
    "frozen_cores",
    "map_network",
    "map_terms",
    "renamed",
    "units_with",
    "unknown",
]


def map_network(network: Network, change: Callable[[Core], Core]) -> Network:
    """Change the target and every core."""
    return Network(change(network.target), map_terms(network.terms, change))


def map_terms(terms: Iterable[Term], change: Callable[[Core], Core | None]) -> tuple[Term, ...]:
    """Change every core; cores that become ``None`` go."""
    changed = (tuple(map(change, term.cores)) for term in terms)
    return tuple(Term(tuple(c for c in cores if c is not None)) for cores in changed)


def renamed(core: Core, cores: Mapping[str, str], indices: Mapping[str, str]) -> Core:
    """Give a core and its indices other names; constants keep theirs."""
    name = core.name if core.is_constant else cores.get(core.name, core.name)
    return Core(name, tuple(tuple(indices.get(i, i) for i in slot) for slot in core.slots))


def fresh(name: str, avoid: Collection[str], taken: set[str]) -> str:
    """Return ``name``, or with a number behind where it is in ``avoid``; note it in ``taken``."""
    stem, n = name.rstrip("0123456789") or name, 2
    if name in avoid:
        while f"{stem}{n}" in taken or f"{stem}{n}" in avoid:
            n += 1
        name = f"{stem}{n}"
    taken.add(name)
    return name


def units_with(network: Network, indices: Collection[str]) -> frozenset[str]:
    """Return the indices that are 1 where these are: an ``eye`` with a slot of 1 has no other.

    >>> from tenslora.spec import parse
    >>> lokr = parse("W[(o1 o2) (i1 i2)] = eye[o1 i1 z] R[z o2] C[z i2]")
    >>> sorted(units_with(lokr, {"o1"}))
    ['i1', 'o1', 'z']
    """
    found = set(indices)
    eyes = [core for term in network.terms for core in term.cores if core.name == "eye"]
    for _ in eyes:  # each pass takes up one eye more, or none
        for core in eyes:
            if any(found.issuperset(slot) for slot in core.slots):
                found.update(core.indices)
    return frozenset(found)


def check_name(name: object, what: str) -> None:
    """Refuse a name that no core or index can have: E120.

    ``what`` says what it would stand for.
    """
    if not isinstance(name, str):
        advice = "Give a name in quotes, such as 'A'."
        raise SpecError("E120", f"{name!r} for {what} is no name", advice=advice)
    if name in ("eye", "ones"):
        advice = "eye and ones are constants of the language: choose another name."
        raise SpecError("E120", f"{what} would become the constant {name!r}", advice=advice)
    if not (name.isascii() and name.isidentifier()):
        advice = "Use letters, digits and _, with no digit in front."
        raise SpecError("E120", f"{name!r} for {what} is no name", advice=advice)


def frozen_cores(network: Network, frozen: Collection[str]) -> frozenset[str]:
    """Return the names of frozen cores as a set; one name may stand alone.

    Raises
    ------
    SpecError
        E120 for a name that is no core.
    """
    names = frozenset([frozen] if isinstance(frozen, str) else frozen)
    for name in sorted(names - network.cores.keys(), key=str):
        raise unknown(network, name, "core", network.cores)
    return names


def unknown(network: Network, name: object, kind: str, known: Iterable[str]) -> SpecError:
    """Return the error for a name that a network does not have (E120)."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    advice = f"Did you mean {close[0]!r}? " if close else ""
    advice += f"It has {', '.join(sorted(known)) or 'none'}."
    return SpecError("E120", f"{name!r} is no {kind} of {network}", advice=advice)
