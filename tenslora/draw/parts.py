"""What a term is made of, as a drawing sees it: ties, riders and connected components."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from tenslora.spec import Core, Network, Term

__all__ = ["Parts", "Tie", "take_apart"]


@dataclass(frozen=True)
class Tie:
    """An index that is no site, and the cores of the term that it joins, by their places.

    Attributes
    ----------
    index, role : its name, and ``bond``, ``input`` or ``output``.
    ends : the cores that it holds together; a feature has one more end, outside.
    riders : vectors over this index alone that multiply it on its way; drawn above its wire.
    """

    index: str
    role: str
    ends: tuple[int, ...]
    riders: tuple[int, ...]

    @property
    def is_plain(self) -> bool:
        """Whether it is a feature with one end in the picture and nothing on its way."""
        return self.role != "bond" and len(self.ends) == 1 and not self.riders


@dataclass(frozen=True)
class Parts:
    """A term, taken apart.

    Attributes
    ----------
    cores : in the order of the equation.
    names : what is written in each.
    sites : the site indices of each core, in the target's order.
    ties : every index that is no site, in the network's order.
    components : the places of cores joined by bonds; riders are in none.
    """

    cores: tuple[Core, ...]
    sites: tuple[tuple[str, ...], ...]
    ties: tuple[Tie, ...]
    components: tuple[tuple[int, ...], ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What is written in each box."""
        return tuple(core.name for core in self.cores)

    def inside(self, component: Collection[int]) -> list[Tie]:
        """Return the bonds of a component."""
        return [t for t in self.ties if t.role == "bond" and t.ends and t.ends[0] in component]

    def features(self, core: int, role: str) -> list[Tie]:
        """Return the features of that role of a core, in the target's order."""
        return [t for t in self.ties if t.role == role and core in t.ends]


def take_apart(network: Network, term: Term) -> Parts:
    """Sort a term into ties, riders and components.

    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = b[out] B[out r] d[r] A[r in]")
    >>> parts = take_apart(n, n.terms[0])
    >>> [(tie.index, tie.ends, tie.riders) for tie in parts.ties], parts.components
    ([('out', (1,), (0,)), ('in', (3,), ()), ('r', (1, 3), (2,))], ((1, 3),))
    """
    linked = [tuple(i for i in core.indices if network.role(i) != "site") for core in term.cores]
    ties = [
        _tie(index, network.role(index), linked)
        for index in (*network.features, *network.bonds)
        if any(index in held for held in linked)
    ]
    riding = {core for tie in ties for core in tie.riders}
    standing = [n for n in range(len(term.cores)) if n not in riding]
    bonds = [tie.ends for tie in ties if tie.role == "bond"]
    return Parts(
        cores=term.cores,
        sites=tuple(tuple(s for s in network.sites if s in core.indices) for core in term.cores),
        ties=tuple(ties),
        components=tuple(_components(standing, bonds)),
    )


def _tie(index: str, role: str, linked: list[tuple[str, ...]]) -> Tie:
    holders = [n for n, held in enumerate(linked) if index in held]
    least = 2 if role == "bond" else 1
    vectors = [n for n in holders if linked[n] == (index,)]
    ends = [n for n in holders if n not in vectors]
    if role == "bond" and len(ends) > 2:
        ends, vectors = holders, []
    while vectors and len(ends) < least:
        ends.append(vectors.pop(0))
    return Tie(index, role, tuple(sorted(ends)), tuple(vectors))


def _components(places: Iterable[int], bonds: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    group = {n: {n} for n in places}
    for ends in bonds:
        joined = set().union(*(group[n] for n in ends))
        group.update(dict.fromkeys(joined, joined))
    return [tuple(sorted(group[n])) for n in group if n == min(group[n])]
