"""Whether two sums of products are the same up to names of bonds and order, cores being fixed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from tenslora.algebra.sorts import Sorts
from tenslora.spec import Core, Slot, Term

__all__ = ["Difference", "match"]


@dataclass(frozen=True)
class Difference:
    """The first core that has no counterpart: ``wanted`` in the one, ``found`` in the other.

    Where every core has one and only sizes differ, ``sizes`` are the first two: what is there, and
    what is wanted.
    """

    wanted: Core | None
    found: Core | None
    sizes: tuple[str, str] | None = None

    def __str__(self) -> str:
        if self.sizes is not None:
            return f"the size of {self.sizes[0]!r} is there and that of {self.sizes[1]!r} is wanted"
        if self.wanted is None:
            return f"there is {self.found} too much"
        if self.found is None:
            return f"{self.wanted} is missing"
        return f"{self.wanted} is wanted and {self.found} is there"


def match(
    wanted: Sequence[Term], found: Sequence[Term], free: Collection[str], sizes: Sorts
) -> Difference | None:
    """Compare sums of products; cores keep their names, and indices in ``free`` theirs.

    ``sizes`` are those of the bonds of ``found``, by the indices of ``wanted``. A bond is paired
    with one of its size only; where that was open, an array being read in several ways, the pair
    decides it.

    Returns
    -------
    ``None`` where they are equal up to names of bonds, order of terms, order of cores and order of
    the slots of constants; otherwise the first core of ``wanted`` that has no counterpart.
    """
    left = list(found)
    for term in wanted:
        differences = []
        for other in left:
            difference = _match_term(term, other, frozenset(free), sizes)
            if difference is None:
                left.remove(other)
                break
            differences.append(difference)
        else:
            return max(differences, key=lambda d: d[0])[1] if differences else _first(term)
    return Difference(None, left[0].cores[0]) if left else None


def _first(term: Term) -> Difference:
    return Difference(term.cores[0], None)


def _match_term(
    wanted: Term, found: Term, free: frozenset[str], sizes: Sorts
) -> tuple[int, Difference] | None:
    """Pair the cores of two products; return how far it went and what was missing, or ``None``."""
    furthest: list[tuple[int, Difference]] = []
    cores = _connected(wanted, free)

    def pair(n: int, rest: list[Core], names: dict[str, str]) -> bool:
        if n == len(cores):
            if rest:
                furthest.append((n, Difference(None, rest[0])))
                return False
            apart = sizes.apart((two, one) for one, two in names.items())
            if apart is not None:
                furthest.append((n + 1, Difference(None, None, apart)))
            return apart is None
        core = cores[n]
        for k, other in enumerate(rest):
            if other in rest[:k]:
                continue
            for renamed in _align(core, other, names, free):
                if pair(n + 1, rest[:k] + rest[k + 1 :], renamed):
                    return True
        same = [other for other in rest if other.name == core.name]
        back = {new: old for old, new in names.items()}
        shown = _rename(same[0], back) if same else None
        furthest.append((n, Difference(core, shown)))
        return False

    if pair(0, list(found.cores), {}):
        return None
    return max(furthest, key=lambda entry: entry[0])


def _connected(term: Term, free: frozenset[str]) -> list[Core]:
    """Return the cores in an order in which each has a bond of those before it, where one has.

    Cores that look alike are then told apart at once; in the order in which they are written, as
    many as a dozen would be tried in all their orders.

    >>> from tenslora.spec import parse
    >>> (term,) = parse("W[out in] = a[out r] a[out s] b[in r] b[in s]").terms
    >>> print(*_connected(term, frozenset({"out", "in"})))
    a[out r] b[in r] a[out s] b[in s]
    """
    left, found, known = list(term.cores), list[Core](), set[str]()
    while left:
        core = max(left, key=lambda one: bool(known.intersection(one.indices)))
        left.remove(core)
        found.append(core)
        known.update(index for index in core.indices if index not in free)
    return found


def _align(
    core: Core, other: Core, names: dict[str, str], free: frozenset[str]
) -> Iterator[dict[str, str]]:
    """Every renaming of bonds, beyond ``names``, that makes ``core`` into ``other``."""
    if core.name == other.name and len(core.slots) == len(other.slots):
        yield from _align_slots(core.slots, other.slots, names, free, not core.is_constant)


def _align_slots(
    slots: Sequence[Slot],
    others: Sequence[Slot],
    names: dict[str, str],
    free: frozenset[str],
    ordered: bool,
) -> Iterator[dict[str, str]]:
    if not slots:
        yield names
        return
    for k, other in enumerate(others[:1] if ordered else others):
        renamed = dict(names)
        if len(slots[0]) == len(other) and all(
            _bind(one, two, renamed, free) for one, two in zip(slots[0], other, strict=True)
        ):
            rest = [*others[:k], *others[k + 1 :]]
            yield from _align_slots(slots[1:], rest, renamed, free, ordered)


def _bind(one: str, two: str, renamed: dict[str, str], free: frozenset[str]) -> bool:
    if one in free or two in free:
        return one == two
    if one in renamed:
        return renamed[one] == two
    if two in renamed.values():
        return False
    renamed[one] = two
    return True


def _rename(core: Core, names: dict[str, str]) -> Core:
    return Core(core.name, tuple(tuple(names.get(i, i) for i in slot) for slot in core.slots))
