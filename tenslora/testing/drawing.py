"""How a random network is made: valid from the start, so that nothing has to be thrown away."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tenslora.errors import SizeError
from tenslora.spec import Core, Network, Slot, Term, complete_sizes, core_shape, slot_size

__all__ = ["draw_connected", "draw_network", "draw_sizes"]

_SITES = ("layer", "proj", "expert")
_OUTPUTS = ("out",), ("out",), ("head", "head_dim"), ("o1", "o2", "o3")
_INPUTS = ("in",), ("in",), ("i1", "i2"), ("i1", "i2", "i3")
_BONDS = "abcdefgh"
_MOST_ENTRIES = 2_000  # of W: more tests nothing new


@dataclass
class _Dice:
    """Hypothesis's ``draw``, with the few kinds of choice that are made here."""

    draw: Callable[[Any], Any]
    strategies: Any

    @classmethod
    def of(cls, draw: Callable[[Any], Any] | random.Random) -> _Dice:
        if isinstance(draw, random.Random):
            return _Seeded(draw)
        from tenslora.testing.strategies import hypothesis_strategies

        return cls(draw, hypothesis_strategies())

    def number(self, least: int, most: int) -> int:
        value: int = self.draw(self.strategies.integers(least, most))
        return value

    def one_of(self, values: Sequence[Any]) -> Any:
        return self.draw(self.strategies.sampled_from(values))

    def chance(self, percent: int) -> bool:
        """Shrinks towards ``False``: towards what is plain."""
        return self.number(0, 99) >= 100 - percent

    def shuffled(self, values: Sequence[Any]) -> list[Any]:
        return list(self.draw(self.strategies.permutations(values)))


class _Seeded(_Dice):
    """The same choices from a generator of random numbers: a hundred times as fast."""

    def __init__(self, generator: random.Random) -> None:
        self.generator = generator

    def number(self, least: int, most: int) -> int:
        return self.generator.randint(least, most)

    def one_of(self, values: Sequence[Any]) -> Any:
        return self.generator.choice(values)

    def shuffled(self, values: Sequence[Any]) -> list[Any]:
        return self.generator.sample(values, len(values))


def draw_network(
    draw: Callable[[Any], Any] | random.Random,
    *,
    max_cores: int,
    max_terms: int,
    max_size: int,
    constants: bool,
) -> tuple[Network, dict[str, int]]:
    """Draw a network and its sizes; see :func:`tenslora.testing.sized_networks`."""
    dice = _Dice.of(draw)
    common = [n for n in (1, 2, 2, 3, 3, 4, 5, 5) if n <= max_size]
    target, sizes = _target(dice, common)
    ranks = [n for n in (1, 1, 2, 2, 3, 4, 5) if n <= max_size]  # low, as a rank should be
    bonds = {bond: dice.one_of(ranks) for bond in _BONDS[: dice.one_of((0, 1, 2, 2, 3, 3, 4))]}
    terms: list[list[Core]] = []
    left = max_cores
    for t in range(dice.one_of([n for n in (1, 1, 1, 2, 2, 3) if n <= max_terms])):
        if left == 0:
            break
        terms.append(_term(dice, target, list(bonds), f"{'ABC'[t % 3]}{t // 3 or ''}", left))
        left -= len(terms[-1])
    sizes |= bonds
    if constants:
        left = _join(dice, terms, sizes, left)
        _add_ones(dice, terms, sizes, left)
    _share_arrays(dice, terms, sizes)
    network = Network(target, tuple(Term(tuple(term)) for term in terms))
    return network, {index: sizes[index] for index in network.indices}


def draw_connected(draw: Callable[[Any], Any], target: Core) -> Network:
    """Draw a network over a target whose cores are joined to a tree: at some ranks it is any W."""
    dice = _Dice.of(draw)
    count = dice.one_of([n for n in (1, 2, 2, 3, 3, 4) if n <= len(target.indices)])
    held: list[list[str]] = [[] for _ in range(count)]
    for index in target.indices:
        for core in _places(dice, count, 1):
            held[core].append(index)
    for n in range(1, count):
        held[n].append(f"z{n}")
        held[dice.number(0, n - 1)].append(f"z{n}")
    cores = [Core(f"Z{n}", _slots(dice, dice.shuffled(own))) for n, own in enumerate(held) if own]
    return Network(target, (Term(tuple(cores)),))


def draw_sizes(
    draw: Callable[[Any], Any], network: Network, *, max_size: int, bonds: bool
) -> dict[str, int]:
    """Draw sizes that fit; see :func:`tenslora.testing.sizes` and ``ranks``."""
    dice = _Dice.of(draw)
    if bonds:
        return {bond: dice.number(1, max_size) for bond in network.bonds}
    drawn = {index: dice.number(1, max_size) for index in network.indices}
    for candidate in (drawn, dict.fromkeys(drawn, dice.number(1, max_size))):
        with contextlib.suppress(SizeError):  # an equation that ties sizes to each other
            return complete_sizes(network, candidate)
    return dict.fromkeys(drawn, 1)


def _target(dice: _Dice, common: Sequence[int]) -> tuple[Core, dict[str, int]]:
    sites = _SITES[: dice.number(0, 3)]
    output, columns = dice.one_of(_OUTPUTS), dice.one_of(_INPUTS)
    target = Core("W", (*((site,) for site in sites), output, columns))
    sizes: dict[str, int] = {}
    room = _MOST_ENTRIES
    for index in dice.shuffled(target.indices):
        sizes[index] = dice.one_of([n for n in common if n <= room])
        room //= sizes[index]
    return target, sizes


def _term(dice: _Dice, target: Core, bonds: list[str], prefix: str, left: int) -> list[Core]:
    """Give every feature to at least one core, a bond to two or more, a site to any."""
    count = dice.one_of([n for n in (1, 2, 2, 3, 3, 3, 4, 5) if n <= left])
    held: list[list[str]] = [[] for _ in range(count)]
    sites = target.indices[: len(target.slots) - 2]
    for index in target.indices:
        for core in _places(dice, count, 0 if index in sites else 1):
            held[core].append(index)
    for bond in bonds if count > 1 else ():
        if dice.chance(85):
            for core in _places(dice, count, 2):
                held[core].append(bond)
    for indices in held:
        if not indices:
            indices.append(dice.one_of(target.indices))
    return [
        Core(f"{prefix}{n}", _slots(dice, dice.shuffled(indices))) for n, indices in enumerate(held)
    ]


def _places(dice: _Dice, count: int, least: int) -> list[int]:
    """Choose cores: mostly as few as may be, now and then more."""
    number = least
    while number < count and dice.chance(50 if number == 0 else 25):
        number += 1
    return dice.shuffled(range(count))[:number] if number else []


def _slots(dice: _Dice, indices: Sequence[str]) -> tuple[Slot, ...]:
    """Join neighbours to groups now and then."""
    slots: list[Slot] = []
    for index in indices:
        if slots and dice.chance(20):
            slots[-1] = (*slots[-1], index)
        else:
            slots.append((index,))
    return tuple(slots)


def _join(dice: _Dice, terms: list[list[Core]], sizes: dict[str, int], left: int) -> int:
    """Put ``eye`` between a slot of a core and the rest of the network, under a new bond."""
    for term in terms:
        if not left or not dice.chance(25):
            continue
        at = dice.number(0, len(term) - 1)
        core = term[at]
        s = dice.number(0, len(core.slots) - 1)
        slot, bond = core.slots[s], f"e{len(sizes)}"
        sizes[bond] = slot_size(slot, sizes)
        term[at] = replace(core, slots=(*core.slots[:s], (bond,), *core.slots[s + 1 :]))
        ends = [slot, (bond,)]
        # a third slot: another index of that size that the eye does not hold yet
        same = [i for i in _indices(term) if sizes[i] == sizes[bond] and i not in {bond, *slot}]
        if same and dice.chance(40):
            ends.append((dice.one_of(same),))
        term.insert(dice.number(0, len(term)), Core("eye", tuple(dice.shuffled(ends))))
        left -= 1
    return left


def _add_ones(dice: _Dice, terms: list[list[Core]], sizes: dict[str, int], left: int) -> None:
    for term in terms:
        if left and dice.chance(15):
            indices = dice.shuffled(_indices(term))[: dice.number(1, 2)]
            term.insert(dice.number(0, len(term)), Core("ones", _slots(dice, indices)))
            left -= 1


def _share_arrays(dice: _Dice, terms: list[list[Core]], sizes: dict[str, int]) -> None:
    """Let two places of one shape hold the same array, in a term or across terms."""
    for _ in range(2):
        pairs = list(_equal_shapes(terms, sizes))
        if pairs and dice.chance(50):
            first, (t, c) = dice.one_of(pairs)
            terms[t][c] = replace(terms[t][c], name=first)


def _equal_shapes(
    terms: Sequence[Sequence[Core]], sizes: dict[str, int]
) -> Iterator[tuple[str, tuple[int, int]]]:
    stored = [
        (core_shape(core, sizes), core.name, (t, c))
        for t, term in enumerate(terms)
        for c, core in enumerate(term)
        if not core.is_constant
    ]
    for n, (shape, _, place) in enumerate(stored):
        for other, name, _ in stored[:n]:
            if other == shape and name != terms[place[0]][place[1]].name:
                yield name, place


def _indices(term: Sequence[Core]) -> list[str]:
    return list(dict.fromkeys(index for core in term for index in core.indices))
