"""How indices travel through a network: which bonds have to carry an index from core to core."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from tenslora.spec import Core, Network, Term

__all__ = ["MAX_BONDS", "Graph", "nominal_sizes"]

#: Above this many bonds in a term the routes are not searched.
MAX_BONDS = 10

_SIZES = {"layer": 12, "proj": 3, "head": 12, "head_dim": 64}
_FEATURES, _SITE, _RANK = 768, 4, 8


class Graph:
    """The cores of one term, joined by its bonds.

    Attributes
    ----------
    cores : the cores, in order.
    bonds : the bonds, in order.
    native : for each core the target indices that it carries.
    at : for each core the bonds that it carries.
    """

    def __init__(self, network: Network, term: Term) -> None:
        self.cores: tuple[Core, ...] = term.cores
        known = network.target.indices
        self.bonds = tuple(i for i in term.indices if i not in known)
        self.native = [frozenset(i for i in c.indices if i in known) for c in self.cores]
        self.at = [tuple(i for i in c.indices if i not in known) for c in self.cores]
        self._known: dict[tuple[int, int | None], tuple[str, ...] | None] = {}
        self._needed: dict[tuple[int, int | None], tuple[str, ...]] = {}

    def route(self, ends: int, sources: int | None) -> tuple[str, ...] | None:
        """Return the fewest bonds that bring an index to some cores.

        Parameters
        ----------
        ends : the cores that need it, as a sum of powers of two.
        sources : the cores that have it by themselves, likewise; ``None`` for an index that only
            has to be the same at all ends.

        Returns
        -------
        The bonds, the first such set in order; ``None`` where there is none.
        """
        key = ends, sources
        if key not in self._known:
            self._known[key] = self._find(ends, sources)
        return self._known[key]

    def needed(self, ends: int, sources: int | None) -> tuple[str, ...]:
        """Return the bonds that every route to ``ends`` has, and to any cores beside them.

        As of :meth:`route`, where there is one.

        >>> from tenslora.spec import parse
        >>> network = parse("W[out in] = B[out r] M[r s] A[s in] D[r s]")
        >>> graph = Graph(network, network.terms[0])
        >>> graph.route(0b0001, 0b0100), graph.needed(0b0001, 0b0100)
        (('r', 's'), ('r', 's'))
        >>> graph.route(0b0010, 0b1000), graph.needed(0b0010, 0b1000)
        (('r',), ())
        """
        key = ends, sources
        if key not in self._needed:
            self._needed[key] = tuple(
                bond
                for bond in self.bonds
                if not self._reaches(ends, sources, [b for b in self.bonds if b != bond])
            )
        return self._needed[key]

    def _reaches(self, ends: int, sources: int | None, bonds: Sequence[str]) -> bool:
        part = self.parts(bonds)
        roots = {p for n, p in enumerate(part) if ends >> n & 1}
        if sources is None:
            return len(roots) <= 1
        return roots <= {p for n, p in enumerate(part) if sources >> n & 1}

    def _find(self, ends: int, sources: int | None) -> tuple[str, ...] | None:
        if not self._reaches(ends, sources, self.bonds):
            return None
        for count in range(len(self.bonds) + 1):
            for chosen in combinations(self.bonds, count):
                if self._reaches(ends, sources, chosen):
                    return chosen
        return None

    def parts(self, bonds: Sequence[str]) -> list[int]:
        """Return for each core the first core that ``bonds`` connect it with."""
        part = list(range(len(self.cores)))
        for bond in bonds:
            joined = {part[n] for n, held in enumerate(self.at) if bond in held}
            part = [min(joined) if p in joined else p for p in part]
        return part


def nominal_sizes(network: Network) -> dict[str, int]:
    """Return sizes of an ordinary model, by which the cost of ranks is compared.

    Twelve layers, three projections, 768 features in and out (12 heads of 64), ranks of 8.

    >>> from tenslora.spec import parse
    >>> nominal_sizes(parse("W[layer (o1 o2) in] = B[layer o1 o2 r] A[r in]"))
    {'layer': 12, 'o1': 28, 'o2': 28, 'in': 768, 'r': 8}
    """
    sizes = {site: _SIZES.get(site, _SITE) for site in network.sites}
    for group in (network.output, network.input):
        share = max(2, round(_FEATURES ** (1 / len(group))))
        sizes.update({index: _SIZES.get(index, share) for index in group})
    return {**sizes, **dict.fromkeys(network.bonds, _RANK)}
