"""What ranks may be: between a minimum and a maximum, in multiples, in proportion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tenslora.algebra.redundancy import rank_cap
from tenslora.errors import SizeError
from tenslora.spec import Network, is_count

__all__ = ["Limits", "Rank", "check_count", "fixed_ranks", "make_ranks"]

_Numbers = int | Mapping[str, int] | None


@dataclass(frozen=True)
class Limits:
    """What a caller asks of ranks, beside their number of parameters.

    Attributes
    ----------
    minimum, maximum : bounds, for every bond or by bond.
    multiple : ranks are multiples of it (8 suits the matrix units of GPUs), for every bond or by
        bond. A mode that is smaller is not asked.
    weights : ranks grow in proportion to it, by bond; 1 where a bond is not named.
    spread : how far, as a fraction, ranks may leave that proportion to come closer to the budget;
        at least one step.

    Examples
    --------
    >>> from tenslora.budget import fit_ranks
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out a] G[a b] A[b in]")
    >>> fit_ranks(n, {"out": 64, "in": 64}, 2000)
    {'a': 14, 'b': 14}
    >>> fit_ranks(n, {"out": 64, "in": 64}, 2000, limits=Limits(multiple=8))
    {'a': 8, 'b': 8}
    """

    minimum: _Numbers = None
    maximum: _Numbers = None
    multiple: _Numbers = None
    weights: Mapping[str, float] = field(default_factory=dict)
    spread: float = 0.2


@dataclass(frozen=True)
class Rank:
    """One number that is searched for, and the bonds that have it.

    Attributes
    ----------
    bonds : one, or several that the equation makes equal (``eye``, a core in two places).
    low, high : the smallest and the largest value; ``high`` is ``None`` where nothing bounds it.
    step : from one value to the next.
    weight : its share where all grow.
    """

    bonds: tuple[str, ...]
    low: int
    high: int | None
    step: int
    weight: float

    def floor(self, value: float) -> int:
        """The largest value that is not above, at least ``low``."""
        if self.high is not None and value >= self.high:
            return self.high
        return max(self.low, self.low + math.floor((value - self.low) / self.step) * self.step)


def make_ranks(network: Network, sizes: Mapping[str, int], limits: Limits) -> list[Rank]:
    """Return what is to be searched for.

    Raises
    ------
    SizeError
        E211 for limits that no rank meets, or that name no bond; E206 for numbers that are none.
    """
    minimum = _by_bond(network, "minimum", limits.minimum)
    maximum = _by_bond(network, "maximum", limits.maximum)
    multiple = _by_bond(network, "multiple", limits.multiple)
    weights = _weights(network, limits)
    fixed = fixed_ranks(network, sizes)
    found = []
    for bonds in _tied(network):
        caps = [cap for b in bonds if (cap := rank_cap(network, b, sizes)) is not None]
        cap = min(caps) if caps else None
        pinned = fixed.get(bonds[0])
        if pinned is not None:
            _check_fixed(network, limits, bonds, pinned)
            found.append(Rank(bonds, pinned, pinned, 1, 1.0))
            continue
        step = math.lcm(*(multiple.get(b, 1) for b in bonds))
        if cap is not None and cap < step:
            step = 1
        least = max((minimum.get(b, 1) for b in bonds), default=1)
        most = min((maximum[b] for b in bonds if b in maximum), default=None)
        if cap is not None and least > cap:
            what = f"minimum {bonds[0]}={least} is above {cap}, all that its mode can carry"
            raise SizeError("E211", f"{what} in {network}", advice=f"Lower it to {cap}.")
        low = -(-least // step) * step
        bounds = [b for b in (cap, most) if b is not None]
        high = min(bounds) // step * step if bounds else None
        if high is not None and high < low:
            what = f"no rank {bonds[0]} of at least {least} and at most {min(bounds)}"
            what += f" is a multiple of {step}" if step > 1 else " exists"
            raise SizeError("E211", what, advice="Widen minimum and maximum, or lower multiple.")
        found.append(Rank(bonds, low, high, step, max(weights.get(b, 1.0) for b in bonds)))
    return found


def _check_fixed(network: Network, limits: Limits, bonds: Iterable[str], rank: int) -> None:
    """Refuse what is asked by name of bonds that the equation gives another rank."""
    broken: dict[str, Callable[[int], bool]] = {
        "minimum": lambda value: rank < value,
        "maximum": lambda value: rank > value,
        "multiple": lambda value: rank % value != 0,
    }
    for word, is_broken in broken.items():
        given: _Numbers = getattr(limits, word)
        for bond in bonds:
            value = given.get(bond, rank) if isinstance(given, Mapping) else rank
            if is_broken(value):
                what = f"{word} {bond}={value}, and {bond} is {rank} by an eye in {network}"
                raise SizeError("E211", what, advice=f"Leave {bond} out.")


def _by_bond(network: Network, word: str, given: _Numbers) -> dict[str, int]:
    if given is None:
        return {}
    numbers = given if isinstance(given, Mapping) else dict.fromkeys(network.bonds, given)
    for bond, value in numbers.items():
        if bond not in network.bonds:
            what = f"{word} names {bond!r}, no bond of {network}"
            advice = f"The bonds are {', '.join(network.bonds) or 'none'}."
            raise SizeError("E211", what, advice=advice)
        check_count(word, bond, value)
    return {bond: int(value) for bond, value in numbers.items()}


def check_count(word: str, bond: str, value: object) -> None:
    """Refuse a limit of a bond that is no count: E206."""
    if not is_count(value):
        what = f"{word} {bond}={value!r} is not a positive integer"
        raise SizeError("E206", what, advice="Give a number of at least 1.")


def _weights(network: Network, limits: Limits) -> dict[str, float]:
    for bond, weight in limits.weights.items():
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if bond not in network.bonds or not number or not 0 < weight < math.inf:
            what = f"weights: {bond}={weight!r} is no positive number for a bond of {network}"
            advice = f"The bonds are {', '.join(network.bonds) or 'none'}."
            raise SizeError("E211", what, advice=advice)
    if not isinstance(limits.spread, (int, float)) or not limits.spread >= 0:
        what = f"spread={limits.spread!r} is not a number of at least 0"
        raise SizeError("E211", what, advice="0.2 lets ranks leave their proportion by 20 %.")
    return dict(limits.weights)


def _tied(network: Network) -> list[tuple[str, ...]]:
    """Put bonds together that the equation makes equal."""
    leader = {bond: bond for bond in network.bonds}

    def find(bond: str) -> str:
        while leader[bond] != bond:
            bond = leader[bond]
        return bond

    for first, second in _equal(network):
        if first in leader and second in leader:
            leader[find(second)] = find(first)
    groups: dict[str, list[str]] = {}
    for bond in network.bonds:
        groups.setdefault(find(bond), []).append(bond)
    return [tuple(group) for group in groups.values()]


def fixed_ranks(network: Network, sizes: Mapping[str, int]) -> dict[str, int]:
    """The bonds that the equation makes as large as an index of the target, if only by others."""
    known = {}
    for pair in _equal(network):
        for one, other in (pair, pair[::-1]):
            if one in network.bonds and other in sizes and other not in network.bonds:
                known[one] = sizes[other]
    for bonds in _tied(network):
        pinned = [known[bond] for bond in bonds if bond in known]
        if pinned:
            known.update(dict.fromkeys(bonds, pinned[0]))
    return known


def _equal(network: Network) -> list[tuple[str, str]]:
    """Pairs of indices of one size: slots of ``eye``, and of a core that stands in two places."""
    pairs = []
    for term in network.terms:
        for core in term.cores:
            if core.name == "ones":
                continue
            others = core.slots[:1] * len(core.slots)
            if core.name != "eye":
                others = network.cores[core.name].slots
            for slot, other in zip(core.slots, others, strict=True):
                if len(slot) == len(other):
                    pairs += [(a, b) for a, b in zip(slot, other, strict=True) if a != b]
    return pairs
