"""Which core of the larger network hosts which of the smaller: by branch and bound.

The cores are placed one after the other. A way that is begun is given up as soon as the bonds that
it needs in any case cost as much as the best whole way so far, so that the answer is that of
trying them all, in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tenslora.algebra.routing import Graph, nominal_sizes
from tenslora.spec import Core, Network, Term

__all__ = ["Hosting", "Hostings", "best_hostings"]


@dataclass(frozen=True)
class Hosting:
    """Where each core of the special term lives, and the bonds that carry each index."""

    hosts: tuple[int, ...]
    routes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Hostings:
    """The cheapest way, the cheapest in which no rank grows with a size, and how many there are.

    ``tried`` were looked at, where all ways that were given up together count as one.
    """

    cheapest: Hosting | None
    free: Hosting | None
    tried: int
    ways: int


def best_hostings(
    small: Network,
    term: Term,
    graph: Graph,
    frozen: tuple[frozenset[str], frozenset[str]],
    limit: int,
) -> Hostings:
    """Search for the cheapest ways of hosting the cores of ``term`` in those of ``graph``.

    Parameters
    ----------
    small : the network of ``term``; ordinary sizes give the cost.
    frozen : the frozen cores of the smaller and of the larger network.
    limit : how many ways are looked at.
    """
    search = _Search(small, term, graph, [_candidates(core, graph, frozen) for core in term.cores])
    search.place((), [0] * len(search.needs), limit)
    ways = math.prod(map(len, search.candidates))
    return Hostings(search.best.get(False), search.best.get(True), search.tried, ways)


def _candidates(core: Core, graph: Graph, frozen: tuple[frozenset[str], ...]) -> list[int]:
    """Return the cores that may host ``core``, those first that have most of its indices."""
    free = core.is_constant or core.name in frozen[0]
    hosts = [n for n, c in enumerate(graph.cores) if free or c.name not in frozen[1]]
    return sorted(hosts, key=lambda n: (-len(graph.native[n].intersection(core.indices)), n))


@dataclass(frozen=True)
class _Need:
    """An index of the special term: its weight, who carries it here, who has it there."""

    index: str
    log: float
    held: tuple[int, ...]
    sources: int | None


@dataclass
class _Search:
    small: Network
    term: Term
    graph: Graph
    candidates: list[list[int]]
    tried: int = 0
    best: dict[bool, Hosting] = field(default_factory=dict)  # False: of all; True: of the free
    least: dict[bool, float] = field(default_factory=lambda: {False: math.inf, True: math.inf})

    def __post_init__(self) -> None:
        logs = {index: math.log(size) for index, size in nominal_sizes(self.small).items()}
        self.needs = [self._need(index, logs[index]) for index in self.term.indices]
        self.own = [sum(logs[index] for index in native) for native in self.graph.native]
        numbers = {bond: n for n, bond in enumerate(self.graph.bonds)}
        self.numbers = numbers
        self.at = [[numbers[bond] for bond in held] for held in self.graph.at]
        self.sized = [n for n, need in enumerate(self.needs) if need.sources is not None]
        self.held = [
            [n for n, need in enumerate(self.needs) if core in need.held]
            for core in range(len(self.candidates))
        ]

    def _need(self, index: str, log: float) -> _Need:
        held = tuple(n for n, core in enumerate(self.term.cores) if index in core.indices)
        sources = None
        if index in self.small.target.indices:
            having = (1 << n for n, native in enumerate(self.graph.native) if index in native)
            sources = sum(having)
        return _Need(index, log, held, sources)

    def place(self, hosts: tuple[int, ...], ends: list[int], limit: int) -> None:
        """Place the next core in every way that may still be the best.

        ``ends`` are the hosts that need each index so far, as sums of powers of two.
        """
        placed = len(hosts)
        whole = placed == len(self.candidates)
        routes = self._routes(ends, whole)
        if routes is None or not self._may_win(routes):
            self.tried += 1
        elif whole:
            self.tried += 1
            named = {need.index: route for need, route in zip(self.needs, routes, strict=True)}
            self._keep(Hosting(hosts, named), routes)
        else:
            for host in self.candidates[placed]:
                if self.tried >= limit:
                    return
                more = list(ends)
                for n in self.held[placed]:
                    more[n] |= 1 << host
                self.place((*hosts, host), more, limit)

    def _routes(self, ends: list[int], whole: bool) -> list[tuple[str, ...]] | None:
        """Return the bonds that carry each index; for a part, those that any whole way needs."""
        routes = []
        for need, end in zip(self.needs, ends, strict=True):
            route = self.graph.route(end, need.sources)
            if route is None:
                return None
            routes.append(route if whole else self.graph.needed(end, need.sources))
        return routes

    def _may_win(self, routes: list[tuple[str, ...]]) -> bool:
        cost = self._cost(routes)
        kinds = (False, True) if self._is_free(routes) else (False,)
        return any(cost < self.least[kind] * (1 - 1e-12) for kind in kinds)

    def _is_free(self, routes: list[tuple[str, ...]]) -> bool:
        return not any(routes[n] for n in self.sized)

    def _keep(self, way: Hosting, routes: list[tuple[str, ...]]) -> None:
        cost = self._cost(routes)
        for kind in {self._is_free(routes), False}:
            if cost < self.least[kind] * (1 - 1e-12):
                self.best[kind], self.least[kind] = way, cost

    def _cost(self, routes: list[tuple[str, ...]]) -> float:
        """Return the parameters of the larger network at ordinary sizes."""
        weights = [0.0] * len(self.numbers)
        for need, route in zip(self.needs, routes, strict=True):
            for bond in route:
                weights[self.numbers[bond]] += need.log
        total = 0.0
        for own, held in zip(self.own, self.at, strict=True):
            for n in held:
                own += weights[n]
            total += math.exp(own)
        return total
