"""Removal of the constant cores ``eye`` and ``ones``, as far as they can be removed.

Laws, for a term that is summed over its bonds:

- *copy*: ``eye[x s]`` with ``x`` a bond makes ``x`` and ``s`` one index: ``x`` is written ``s``.
- *unit*: ``ones[i]`` is a factor of 1 wherever ``i`` stands: it goes when ``i`` has its other ends.
- *prefix*: ``eye[(a b) (a c)]`` is ``eye[b c] ones[a]``; the same at the end of the groups.
- *repeat*: ``eye[s s t]`` is ``eye[s t]``, and ``eye[s]`` is ``ones[s]``.
- *pairs*: ``eye[(a b) (c d)]`` is ``eye[a c] eye[b d]``, where those have equal sizes.
- *tied*: ``eye[s t] A[t]`` is ``eye[s t] A[s]``, which stands for both.

Each keeps the value of the term for all sizes and all values of the other cores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from tenslora.spec import Core, Network, Slot, Term

__all__ = ["eliminate", "eliminate_in_term", "pairwise", "substitute", "tied"]


def eliminate(network: Network) -> Network:
    """Return the network with every ``eye`` and ``ones`` removed that can be.

    W is the same for all sizes and all values of the cores.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> str(eliminate(parse("W[out in] = B[out r] eye[r s] A[s in] ones[r out]")))
    'W[out in] = B[out s] A[s in]'
    >>> str(eliminate(parse("W[layer out in] = B[out r] ones[layer r] ones[in]")))
    'W[layer out in] = B[out r] ones[in r]'
    """
    free, needed = network.target.indices, network.features
    terms = (eliminate_in_term(term, free, needed) for term in network.terms)
    return Network(network.target, tuple(terms))


def eliminate_in_term(term: Term, free: Collection[str], needed: Collection[str] = ()) -> Term:
    """Return one term with its constants removed as far as possible.

    Parameters
    ----------
    term : a product of cores.
    free : the indices that are not summed.
    needed : those of them that some core has to carry, be it ``ones``.
    """
    cores = [core for core in term.cores if not core.is_constant]
    eyes = [core.slots for core in term.cores if core.name == "eye"]
    units = [i for core in term.cores if core.name == "ones" for i in core.indices]
    changed = True
    while changed:
        eyes, more = _tidy(eyes)
        units += more
        changed = False
        for bond, slot in _copies(eyes, set(free)):
            joined, more = _tidy([tuple(_expand(s, bond, slot) for s in slots) for slots in eyes])
            written = [substitute(core, bond, slot) for core in cores]
            if _repeats(core.slots for core in written) or _repeats(joined):
                continue
            cores, eyes = written, joined
            units = [i for unit in units for i in _expand((unit,), bond, slot)] + more
            changed = True
            break
    cores += [Core("eye", slots) for slots in eyes]
    cores += _units(cores, units, set(free), set(needed))
    return Term(tuple(cores or [Core("ones", ())]))


def pairwise(term: Term, alike: Callable[[str, str], bool]) -> Term:
    """Write each ``eye`` between groups as one for each pair of names (law *pairs*).

    ``alike`` says whether two names have one size; without that the groups are equal as a whole
    only, as in ``(a b)`` of 2 x 3 and ``(c d)`` of 3 x 2.

    >>> eyes = Term((Core("eye", (("a", "b"), ("c", "d"))),))
    >>> str(pairwise(eyes, lambda one, two: True))
    'eye[a c] eye[b d]'
    """
    found: list[Core] = []
    for core in term.cores:
        columns = list(zip(*core.slots, strict=False))
        whole = core.name != "eye" or len({len(slot) for slot in core.slots}) != 1
        if whole or not all(alike(names[0], name) for names in columns for name in names[1:]):
            found.append(core)
        else:
            found += [Core("eye", tuple((name,) for name in names)) for names in columns]
    return Term(tuple(found))


def tied(term: Term, free: Sequence[str]) -> Term:
    """Write every core with the first of indices that are not summed and that an ``eye`` ties.

    >>> eye, core = Core("eye", (("s",), ("t",))), Core("A", (("t",), ("r",)))
    >>> str(tied(Term((eye, core)), ["s", "t"]))
    'eye[s t] A[s r]'
    """
    first: dict[str, str] = {}
    for core in (core for core in term.cores if core.name == "eye"):
        held = {slot[0] for slot in core.slots if len(slot) == 1}
        same = [index for index in free if index in held and index not in first]
        first |= dict.fromkeys(same[1:], same[0]) if same else {}

    def written(core: Core) -> Core:
        slots = tuple(tuple(first.get(i, i) for i in slot) for slot in core.slots)
        return core if core.is_constant or _repeats([slots]) else Core(core.name, slots)

    return Term(tuple(map(written, term.cores)))


def substitute(core: Core, bond: str, slot: Slot) -> Core:
    """Return the core with ``bond`` written as ``slot``, inside groups as well.

    >>> str(substitute(Core("B", (("out",), ("layer", "r"))), "r", ("a", "b")))
    'B[out (layer a b)]'
    """
    return Core(core.name, tuple(_expand(old, bond, slot) for old in core.slots))


def _expand(old: Slot, bond: str, slot: Slot) -> Slot:
    return tuple(i for index in old for i in (slot if index == bond else (index,)))


def _repeats(cores: Iterable[tuple[Slot, ...]]) -> bool:
    """Whether an index stands twice in one core."""
    return any(max(Counter(i for s in slots for i in s).values(), default=0) > 1 for slots in cores)


def _copies(eyes: Sequence[tuple[Slot, ...]], free: set[str]) -> Iterator[tuple[str, Slot]]:
    """Every (bond, slot) that some eye makes equal."""
    for slots in eyes:
        for one in slots:
            if len(one) == 1 and one[0] not in free:
                yield from ((one[0], other) for other in slots if one[0] not in other)


def _tidy(eyes: Sequence[tuple[Slot, ...]]) -> tuple[list[tuple[Slot, ...]], list[str]]:
    """Apply *repeat* and *prefix*; return the eyes and the indices of new ``ones``."""
    kept: list[tuple[Slot, ...]] = []
    units: list[str] = []
    for slots in eyes:
        slots = tuple(dict.fromkeys(slots))
        while len(slots) == 2 and slots[0] != slots[1]:
            one, two = slots
            if min(len(one), len(two)) < 2:
                break
            if one[0] == two[0]:
                units.append(one[0])
                slots = one[1:], two[1:]
            elif one[-1] == two[-1]:
                units.append(one[-1])
                slots = one[:-1], two[:-1]
            else:
                break
        if len(set(slots)) == 1:
            units += slots[0]
        else:
            kept.append(slots)
    return kept, units


def _units(
    cores: Sequence[Core], units: Sequence[str], free: set[str], needed: set[str]
) -> list[Core]:
    """Return the ``ones`` that have to stay: every bond keeps two ends, every feature one."""
    ends = Counter(index for core in cores for index in core.indices)
    least = {index: 1 if index in needed else 0 if index in free else 2 for index in units}
    missing = {index: least[index] - ends[index] for index in sorted(least)}
    slots = [tuple((i,) for i, count in missing.items() if count > n) for n in range(2)]
    return [Core("ones", held) for held in slots if held]
