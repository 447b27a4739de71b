"""Sizes without numbers: which indices are bound to have the same size, whatever it is."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

from tenslora.spec import Network

__all__ = ["Sorts"]


class Sorts:
    """Classes of names of equal size, over the indices of one network.

    An index of the network stands for its own size; two of them have the same size for all sizes
    only where one core has them in the same slot, or an ``eye`` joins them.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> sorts = Sorts(parse("W[out in] = M[out r] M[r s] A[s in]"))
    >>> sorts.join("x", "s"), sorts.of("x"), sorts.join("x", "in"), sorts.of("y")
    (True, 'out', False, None)
    """

    def __init__(self, network: Network) -> None:
        self._above: dict[str, str] = {}
        self._named: dict[str, str] = {}
        for index in network.indices:
            self._named[self._root(_own(index))] = index
        for one, two in _equal_slots(network):
            self._merge(_own(one), _own(two))

    def _root(self, name: str) -> str:
        path = [name]
        while (above := self._above.setdefault(path[-1], path[-1])) != path[-1]:
            path.append(above)
        for passed in path:
            self._above[passed] = path[-1]
        return path[-1]

    def _merge(self, one: str, two: str) -> None:
        first, second = self._root(one), self._root(two)
        if first != second:
            self._above[second] = first
            if second in self._named:
                self._named.setdefault(first, self._named[second])

    def join(self, name: str, index: str) -> bool:
        """Say that ``name`` has the size of the network's ``index``; whether that can be."""
        return self._agree(name, _own(index))

    def agrees(self, name: str, index: str) -> bool:
        """Whether ``name`` could have the size of the network's ``index``; nothing is said."""
        return self.may_link(name, _own(index))

    def may_link(self, one: str, two: str) -> bool:
        """Whether two names could have one size; nothing is said."""
        first, second = self._root(one), self._root(two)
        return first == second or first not in self._named or second not in self._named

    def apart(self, pairs: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
        """Join every name with an index of the network, or none of them.

        Returns the first name that cannot have the size of its index, with the index; ``None``
        where all of them can.
        """
        tried = copy(self)
        tried._above, tried._named = dict(self._above), dict(self._named)
        for name, index in pairs:
            if not tried.join(name, index):
                return tried.of(name) or name, index
        self._above, self._named = tried._above, tried._named
        return None

    def alike(self, one: str, two: str) -> bool:
        """Whether two names are known to have one size."""
        return self._root(one) == self._root(two)

    def equal(self, one: str, two: str) -> bool:
        """Whether two indices of the network have one size for all sizes."""
        return self._root(_own(one)) == self._root(_own(two))

    def link(self, one: str, two: str) -> bool:
        """Say that two names have one size; whether that can be."""
        return self._agree(one, two)

    def _agree(self, one: str, two: str) -> bool:
        if not self.may_link(one, two):
            return False
        self._merge(one, two)
        return True

    def of(self, name: str) -> str | None:
        """Return an index of the network that has the size of ``name``, if that is known."""
        return self._named.get(self._root(name))


def _own(index: str) -> str:
    """The name by which an index of the network itself is kept apart from other names."""
    return f"={index}"


def _equal_slots(network: Network) -> Iterable[tuple[str, str]]:
    for term in network.terms:
        for core in term.cores:
            if core.name == "eye":
                single = [slot[0] for slot in core.slots if len(slot) == 1]
                yield from ((single[0], other) for other in single[1:])
            elif not core.is_constant:
                first = network.cores[core.name]
                for one, two in zip(first.slots, core.slots, strict=True):
                    if len(one) == len(two) == 1:
                        yield one[0], two[0]
