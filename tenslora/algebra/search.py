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
    limit: int = LIMIT,
) -> Search:
    """Search for a witness that ``special`` is a special case of ``general``.

    The targets have to be the same. The search is deterministic and bounded by ``limit`` ways a
    pair of terms; what it finds still has to be checked.
    """
    found = Search()
    small, large = eliminate(special), eliminate(general)
    if (note := _unsearched(large)) is not None:
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
        cheap, free = _hosted(small, large, order, frozen, limit, found)
        if cheap is not None:
            found.witness = Witness(tuple(cheap[name] for name in large.cores))
            if free is not None:
                found.free = Witness(tuple(free[name] for name in large.cores))
            return


def _unsearched(general: Network) -> str | None:
    """Say what a network has that the search does not know how to fill."""
    cores = [core for term in general.terms for core in term.cores]
    if any(core.is_constant for core in cores):
        return "the larger network has constant cores"
    if len({core.name for core in cores}) < len(cores):
        return "the larger network has one core in two places"
    bonds = [bond for term in general.terms for bond in term.indices if bond in general.bonds]
    if len(set(bonds)) < len(bonds):
        return "the larger network has one bond in two terms"
    return None


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
    ways: tuple[_Definitions | None, _Definitions | None] = {}, {}
    for n, term in enumerate(general.terms):
        if n not in order:
            parts: list[_Definitions | None] = [_vanish(general, term, frozen[1])] * 2
        else:
            graph = Graph(general, term)
            if len(graph.bonds) > MAX_BONDS:
                found.notes.append(f"more than {MAX_BONDS} bonds in a term")
                return None, None
            own = small.terms[order.index(n)]
            best = best_hostings(small, own, graph, frozen, limit)
            found.tried += best.tried
            if best.tried >= limit:
                found.notes.append(f"stopped after {limit:,}; there are {best.ways:,} ways in all")
            ways_here = (best.cheapest, best.free)
            parts = [None if w is None else _write(small, own, graph, w) for w in ways_here]
        cheap, free = (
            None if way is None or part is None else {**way, **part}
            for way, part in zip(ways, parts, strict=True)
        )
        ways = cheap, free
    return ways


def _vanish(general: Network, term: Term, frozen: frozenset[str]) -> dict[str, Definition]:
    """Define the cores of a term that is not needed: ranks of 1, and one core of zeros.

    A trained core is taken where there is one; zeros are a constant, so that a frozen one may be.
    """
    known = general.target.indices
    names = [core.name for core in term.cores]
    first = next((name for name in names if name not in frozen), names[0])
    definitions = {}
    for core in term.cores:
        slots = tuple(tuple(i for i in slot if i in known) for slot in core.slots)
        name = "zeros" if core.name == first else "ones"
        value = Core(name, tuple((i,) for slot in slots for i in slot))
        definitions[core.name] = Definition(Core(core.name, slots), (Term((value,)),))
    return definitions


def _write(small: Network, term: Term, graph: Graph, hosting: Hosting) -> dict[str, Definition]:
    groups: dict[str, dict[str, str]] = {bond: {} for bond in graph.bonds}
    taken = {*small.target.indices, *term.indices}
    for index in (i for i in small.indices if i in hosting.routes):
        bonds = hosting.routes[index]
        for bond in bonds:
            alone = len(bonds) == 1 and index in small.bonds
            groups[bond][index] = index if alone else _fresh(f"{index}_{bond}", taken)
    definitions = {}
    for n, core in enumerate(graph.cores):
        hosted = [c for c, h in zip(term.cores, hosting.hosts, strict=True) if h == n]
        slots = tuple(
            tuple(name for i in slot for name in (groups[i].values() if i in groups else (i,)))
            for slot in core.slots
        )
        value = _value(graph.native[n], [groups[bond] for bond in graph.at[n]], core, hosted)
        definitions[core.name] = Definition(Core(core.name, slots), (value,))
    return definitions


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
