"""The search for a witness: which core of the larger network holds which of the smaller.

Every core of the special network is hosted by one core of the general one. An index that a hosted
core needs and its host does not have is brought there through bonds, which become groups that hold
it; ``eye`` ties the copies together, and ``ones`` stands for what a core does not depend on. A sum
that does not go term by term is hosted whole, by one core that can hold any array. Of all ways
within the bound, the one with the fewest parameters at ordinary sizes is taken; beside it, where
there is one, the one in which no rank grows with a size.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice, permutations

from tenslora.algebra.constants import eliminate
from tenslora.algebra.hosting import Hosting, best_hostings
from tenslora.algebra.routing import MAX_BONDS, Graph
from tenslora.algebra.whole import as_one_core, filled
from tenslora.algebra.witness import Definition, Witness
from tenslora.spec import Core, Network, Slot, Term

__all__ = ["LIMIT", "Search", "find_witness"]

#: How many ways of hosting the cores of a term are looked at; what a bound excludes counts as one.
LIMIT = 25_000


@dataclass
class Search:
    """What a search found, or how far it looked."""

    witness: Witness | None = None
    free: Witness | None = None
    tried: int = 0
    notes: list[str] = field(default_factory=list)


def find_witness(
    special: Network,
    general: Network,
    *,
    frozen_special: Collection[str] = (),
    frozen_general: Collection[str] = (),
    given: Collection[str] = (),
    limit: int = LIMIT,
) -> Search:
    """Search for a witness that ``special`` is a special case of ``general``.

    The targets have to be the same. The search is deterministic and bounded by ``limit`` ways a
    pair of terms; what it finds still has to be checked. ``given`` are cores of ``general`` that
    have the value of a rule.
    """
    found = Search()
    small, large = eliminate(special), eliminate(general)
    if (note := _unsearched(large, given)) is not None:
        found.notes.append(note)
        return found
    frozen = frozenset(frozen_special), frozenset(frozen_general)
    if len(small.terms) <= len(large.terms):
        _search(small, large, frozen, limit, found)
    else:
        found.notes.append(f"a sum of {len(small.terms)} in one of {len(large.terms)} terms")
    if found.witness is None and len(small.terms) > 1:
        one = as_one_core(small)
        own = frozenset(one.cores) if frozen[0].issuperset(small.cores) else frozenset[str]()
        _search(one, large, (own, frozen[1]), limit, found)
        found.witness = found.witness and filled(found.witness, small)
        found.free = found.free and filled(found.free, small)
    return found


_Frozen = tuple[frozenset[str], frozenset[str]]


def _search(small: Network, large: Network, frozen: _Frozen, limit: int, found: Search) -> None:
    """Put each term of ``small`` into one of ``large``, in the first order that goes."""
    orders = islice(permutations(range(len(large.terms)), len(small.terms)), 24)
    for order in orders:
        if (note := _shared(large, order)) is not None:
            found.notes += [note] if note not in found.notes else []
            continue
        cheap, free = _hosted(small, large, order, frozen, limit, found)
        if cheap is not None:
            found.witness = Witness(tuple(cheap[name] for name in large.cores))
            if free is not None:
                found.free = Witness(tuple(free[name] for name in large.cores))
            return


def _unsearched(general: Network, given: Collection[str]) -> str | None:
    """Say what a network has that the search does not know how to fill."""
    if given:
        return f"the larger network has cores with the value of a rule: {', '.join(given)}"
    for term in general.terms:
        if any(core.is_constant for core in term.cores):
            return "the larger network has constant cores"
        if len({core.name for core in term.cores}) < len(term.cores):
            return "the larger network has one core in two places"
    return None


def _shared(general: Network, order: tuple[int, ...]) -> str | None:
    """Say what two of the terms that are to host something have in common."""
    terms = [general.terms[n] for n in order]
    bonds = [bond for term in terms for bond in term.indices if bond in general.bonds]
    if len(set(bonds)) < len(bonds):
        return "the larger network has one bond in two terms"
    cores = [core.name for term in terms for core in term.cores]
    return "the larger network has one core in two terms" if len(set(cores)) < len(cores) else None


_Definitions = dict[str, Definition]


def _hosted(
    small: Network,
    general: Network,
    order: tuple[int, ...],
    frozen: _Frozen,
    limit: int,
    found: Search,
) -> tuple[_Definitions | None, _Definitions | None]:
    """Define every core: term ``n`` of ``small`` in term ``order[n]``, the other terms zero.

    Returns the cheapest way, and the cheapest in which no rank grows with a size.
    """
    ways: tuple[_Way | None, _Way | None] = _Way(), _Way()
    for own, n in zip(small.terms, order, strict=True):
        graph = Graph(general, general.terms[n])
        if len(graph.bonds) > MAX_BONDS:
            found.notes.append(f"more than {MAX_BONDS} bonds in a term")
            return None, None
        best = best_hostings(small, own, graph, frozen, limit)
        found.tried += best.tried
        if best.tried >= limit:
            found.notes.append(f"stopped after {limit:,}; there are {best.ways:,} ways in all")
        cheap, free = (
            None if way is None or hosting is None else _write(small, own, graph, hosting, way)
            for way, hosting in zip(ways, (best.cheapest, best.free), strict=True)
        )
        ways = cheap, free
    for way in filter(None, ways):
        for n in set(range(len(general.terms))).difference(order):
            _vanish(general, general.terms[n], frozen[1], way)
    cheap, free = ways
    return (
        None if cheap is None else cheap.definitions,
        None if free is None else free.definitions,
    )


@dataclass
class _Way:
    """The definitions so far, and the names that each bond stands for."""

    definitions: _Definitions = field(default_factory=dict)
    groups: dict[str, Slot] = field(default_factory=dict)


def _vanish(general: Network, term: Term, frozen: frozenset[str], way: _Way) -> None:
    """Define the cores of a term that is not needed: one of zeros, and ranks of 1.

    Cores and bonds that a term has in common with one that is needed are what they are there. A
    trained core is taken where there is one; zeros are a constant, so that a frozen one may be.
    """
    known = general.target.indices
    cores = [core for core in term.cores if core.name not in way.definitions]
    first = next((c.name for c in cores if c.name not in frozen), cores[0].name if cores else "")
    for core in cores:
        slots = tuple(
            tuple(name for i in slot for name in ((i,) if i in known else way.groups.get(i, ())))
            for slot in core.slots
        )
        name = "zeros" if core.name == first else "ones"
        value = Core(name, tuple((i,) for slot in slots for i in slot))
        way.definitions[core.name] = Definition(Core(core.name, slots), (Term((value,)),))


def _write(small: Network, term: Term, graph: Graph, hosting: Hosting, way: _Way) -> _Way:
    """Define the cores of ``graph``, which host those of ``term``."""
    groups: dict[str, dict[str, str]] = {bond: {} for bond in graph.bonds}
    taken = {*small.target.indices, *term.indices}
    for index in (i for i in small.indices if i in hosting.routes):
        bonds = hosting.routes[index]
        for bond in bonds:
            alone = len(bonds) == 1 and index in small.bonds
            groups[bond][index] = index if alone else _fresh(f"{index}_{bond}", taken)
    way.groups.update({bond: tuple(group.values()) for bond, group in groups.items()})
    for n, core in enumerate(graph.cores):
        hosted = [c for c, h in zip(term.cores, hosting.hosts, strict=True) if h == n]
        slots = tuple(
            tuple(name for i in slot for name in (groups[i].values() if i in groups else (i,)))
            for slot in core.slots
        )
        value = _value(graph.native[n], [groups[bond] for bond in graph.at[n]], core, hosted)
        way.definitions[core.name] = Definition(Core(core.name, slots), (value,))
    return way


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _value(
    native: frozenset[str], groups: list[dict[str, str]], core: Core, hosted: list[Core]
) -> Term:
    """The hosted cores, ``eye`` between the copies of an index, ``ones`` for what is not used."""
    copies: dict[str, list[str]] = {i: [i] for i in core.indices if i in native}
    for group in groups:
        for index, name in group.items():
            copies.setdefault(index, []).append(name)
    used = {i for c in hosted for i in c.indices}
    cores = [Core(c.name, tuple(_named(slot, copies) for slot in c.slots)) for c in hosted]
    joined = [tuple((name,) for name in names) for names in copies.values() if len(names) > 1]
    cores += [Core("eye", slots) for slots in joined]
    idle = [names[0] for i, names in copies.items() if len(names) == 1 and i not in used]
    if idle or not cores:
        cores.append(Core("ones", tuple((name,) for name in idle)))
    return Term(tuple(cores))


def _named(slot: Slot, copies: Mapping[str, list[str]]) -> Slot:
    return tuple(copies[i][0] if i in copies else i for i in slot)
