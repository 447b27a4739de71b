"""The cheapest order of pairwise contractions: opt_einsum searches, by a cost of our own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tenslora.plan.cost import Profile

__all__ = ["Contraction", "Order", "find_order", "order_cost", "smallest_peak"]

#: Pairs of numbers: inputs count from 0, and each step's result has the next number.
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Contraction:
    """Arrays that are to be contracted two at a time: what is asked for, not how.

    Attributes
    ----------
    inputs : the indices of each array, each index in two arrays or in the output.
    output : the indices of the result.
    sizes : the size of each index.
    trained : whether each input needs a gradient.
    x : the number of the input that runs site by site; ``None`` where nothing does.
    sites : the indices over which what meets x is computed one by one.
    bounded : whether the result itself is bound by a limit on memory, as what is between is.
    alone : whether nothing is contracted but with what holds x.
    """

    inputs: Sequence[Collection[str]]
    output: Collection[str]
    sizes: Mapping[str, int]
    trained: Sequence[bool]
    x: int | None = None
    sites: Collection[str] = ()
    bounded: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Order:
    """An order of contraction and what it costs."""

    pairs: Pairs
    cost: float


def find_order(
    contraction: Contraction, profile: Profile, limit: int | None = None
) -> Order | None:
    """Find the order with the least cost of a training step.

    An operation costs its FLOPs, the bytes of both arrays and of its result, and its call, in the
    profile's weights: once for the forward, and once more for each side that needs a gradient, as
    the gradient of one side is a contraction of the other, saved, with that of the result. What
    meets x is called once for each site. The search is exact: it goes through all divisions of
    every set of arrays, outer products and indices in any number of arrays included.

    The search does not see names: it is made once for contractions that differ in these alone.

    Parameters
    ----------
    contraction : what is contracted.
    profile : the machine.
    limit : bytes that the largest array between inputs and result may have.

    Returns
    -------
    Order or None
        ``None`` where every order has an array beyond the limit.

    Examples
    --------
    >>> from tenslora.plan.cost import CPU
    >>> sizes = {"n": 512, "i": 64, "r": 4, "o": 64}
    >>> inputs = [("o", "r"), ("r", "i"), ("n", "i")]
    >>> find_order(Contraction(inputs, ("n", "o"), sizes, [True] * 3), CPU).pairs
    ((1, 2), (0, 3))
    """
    nameless, numbers = _forget_names(contraction)
    found = _solve(nameless, profile, limit)
    if found is None:
        return None
    tree, cost = found
    return Order(_pairs(tree, numbers), cost)


def order_cost(pairs: Pairs, contraction: Contraction, profile: Profile) -> float:
    """What an order costs, by the rule that :func:`find_order` minimises.

    Examples
    --------
    >>> from tenslora.plan.cost import Profile
    >>> sizes = {"o": 3, "r": 2, "i": 5}
    >>> product = Contraction([("o", "r"), ("r", "i")], ("o", "i"), sizes, [True, False])
    >>> order_cost(((0, 1),), product, Profile("arithmetic", 0, 4))  # forward, and one gradient
    120.0
    """
    nameless, numbers = _forget_names(contraction)
    sets = _Sets(nameless, profile)
    masks = [1 << numbers.index(n) for n in range(len(numbers))]
    cost = 0.0
    for one, two in pairs:
        cost += sets.cost(masks[one], masks[two])
        masks.append(masks[one] | masks[two])
    return cost


def smallest_peak(contraction: Contraction, profile: Profile) -> int:
    """The least limit in bytes that some order can hold.

    Examples
    --------
    >>> from tenslora.plan.cost import CPU
    >>> sizes = {"n": 512, "i": 64, "r": 4, "o": 64}
    >>> inputs = [("o", "r"), ("r", "i"), ("n", "i")]
    >>> smallest_peak(Contraction(inputs, ("n", "o"), sizes, [True] * 3), CPU)  # 4 (512 x 4)
    8192
    """
    nameless, _ = _forget_names(contraction)
    return int(_Sets(nameless, profile).smallest_peak())


@dataclass(frozen=True)
class _Nameless:
    """A contraction of numbered indices; ``sizes`` by number."""

    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    sizes: tuple[int, ...]
    trained: tuple[bool, ...]
    x: int | None
    sites: tuple[int, ...]
    bounded: bool
    alone: bool


def _forget_names(contraction: Contraction) -> tuple[_Nameless, tuple[int, ...]]:
    """Number arrays and indices by what they are; also the old numbers of the arrays, in order.

    Arrays and indices are told apart by their sizes and by what they are joined to, a few steps
    far. What still looks alike keeps its order: then a search may be made twice.
    """
    c = contraction
    count = Counter(index for indices in c.inputs for index in indices)
    looks: dict[str, Any] = {
        index: (c.sizes[index], times, index in c.output, index in c.sites)
        for index, times in count.items()
    }
    arrays: list[Any] = [(n == c.x, needed) for n, needed in enumerate(c.trained)]
    for _ in range(2):
        arrays = [
            (look, sorted(looks[index] for index in indices))
            for look, indices in zip(arrays, c.inputs, strict=True)
        ]
        looks = {
            index: (look, sorted(arrays[n] for n, names in enumerate(c.inputs) if index in names))
            for index, look in looks.items()
        }
    old = tuple(sorted(range(len(arrays)), key=lambda n: arrays[n]))
    names = {i: None for n in old for i in sorted(c.inputs[n], key=lambda i: (looks[i], i))}
    number = {index: n for n, index in enumerate(names)}
    nameless = _Nameless(
        tuple(tuple(sorted(number[index] for index in c.inputs[n])) for n in old),
        tuple(sorted(number[index] for index in c.output if index in number)),
        tuple(c.sizes[index] for index in number),
        tuple(bool(c.trained[n]) for n in old),
        None if c.x is None else old.index(c.x),
        tuple(sorted(number[index] for index in c.sites if index in number)),
        c.bounded,
        c.alone,
    )
    return nameless, old


class _Sets:
    """What each set of inputs comes to when it is contracted. Sets are bit masks."""

    def __init__(self, contraction: _Nameless, profile: Profile) -> None:
        self._contraction, self._profile = contraction, profile
        self._inputs = [_mask(indices) for indices in contraction.inputs]
        self._output, self._sites = _mask(contraction.output), _mask(contraction.sites)
        self.x = 0 if contraction.x is None else 1 << contraction.x
        self._trained = _mask(n for n, needed in enumerate(contraction.trained) if needed)
        self._weight = profile.flops_per_byte * profile.itemsize
        self._kept: dict[int, int] = {}
        self._volume: dict[int, int] = {}
        self.every = (1 << len(self._inputs)) - 1

    def cost(self, one: int, two: int) -> float:
        """What it costs to contract the results of two sets, backward included."""
        both = one | two
        a, b, kept = self.kept(one), self.kept(two), self.kept(both)
        union = a | b
        size = self.size
        flops = size(union) * (1 if union == kept else 2)
        moved = self._weight * (size(a) + size(b) + size(kept))
        calls = size(union & self._sites) if both & self.x else 1
        passes = 1 + bool(one & self._trained) + bool(two & self._trained)
        return passes * (flops + moved + self._profile.flops_per_call * calls)

    def kept(self, mask: int) -> int:
        """The indices of the result of a set: those that the others or the output need."""
        if mask not in self._kept:
            inside, outside = 0, self._output
            for n, indices in enumerate(self._inputs):
                if mask >> n & 1:
                    inside |= indices
                else:
                    outside |= indices
            self._kept[mask] = inside & outside
        return self._kept[mask]

    def size(self, indices: int) -> int:
        """The product of the sizes of some indices."""
        if indices not in self._volume:
            sizes = self._contraction.sizes
            there = (size for n, size in enumerate(sizes) if indices >> n & 1)
            self._volume[indices] = math.prod(there)
        return self._volume[indices]

    def held_bytes(self, mask: int) -> int:
        """Bytes of the result of a set as far as a limit counts them."""
        if mask == self.every and not self._contraction.bounded:
            return 0
        return self._profile.itemsize * self.size(self.kept(mask))

    def is_made(self, mask: int) -> bool:
        """Whether the result of a set may be made: where x goes alone, only with x in it."""
        return not self._contraction.alone or bool(mask & self.x)

    def smallest_peak(self) -> float:
        """The least that :meth:`held_bytes` of the largest result can be."""
        peaks: dict[int, float] = {1 << n: 0 for n in range(len(self._inputs))}
        for mask in _several(self.every):
            within = min(max(peaks[one], peaks[mask ^ one]) for one in _halves(mask))
            peaks[mask] = max(within, self.held_bytes(mask)) if self.is_made(mask) else math.inf
        return peaks[self.every]


def _mask(numbers: Iterable[int]) -> int:
    return sum(1 << number for number in numbers)


def _several(every: int) -> Iterator[int]:
    """The sets of two arrays and more, each behind all that are in it."""
    return (mask for mask in range(3, every + 1) if mask & (mask - 1))


def _halves(mask: int) -> Iterator[int]:
    """The sets that hold the first array of a set, and not all: each division in two, once."""
    first = mask & -mask
    rest = mask ^ first
    part = rest
    while part:
        part = (part - 1) & rest
        yield first | part


@lru_cache(maxsize=8192)
def _solve(
    contraction: _Nameless, profile: Profile, limit: int | None
) -> tuple[object, float] | None:
    """Let opt_einsum find the best tree; what a set of arrays holds and costs is asked of us.

    To its search every array has one index of its own, so that it divides every set in every way.
    """
    count = len(contraction.inputs)
    if count == 1:
        return 0, 0.0
    from opt_einsum.paths import DynamicProgramming, linear_to_ssa

    sets = _Sets(contraction, profile)
    if limit is not None and sets.smallest_peak() > limit:
        return None  # the search would look for ever
    whole: list[float] = [math.inf]
    alone = [frozenset({str(n)}) for n in range(count)]
    names = frozenset().union(*alone)
    minimize = _rule(sets, limit, whole)
    search = DynamicProgramming(minimize=minimize, cost_cap=False, search_outer=True)
    path = search(alone, names, dict.fromkeys(names, 1))
    trees: list[object] = list(range(count))
    trees += [None] * (count - 1)
    for n, (one, two) in enumerate(linear_to_ssa(path)):
        trees[count + n] = trees[one], trees[two]
    return trees[-1], whole[0]


def _rule(sets: _Sets, limit: int | None, whole: list[float]) -> Callable[..., None]:
    """Make the function that opt_einsum's search calls for each two disjoint sets of arrays.

    Its arguments are those of ``opt_einsum.paths._dp_compare_flops`` in 3.4: no stable interface,
    so a test keeps them in step. The least cost of all arrays goes to ``whole``.
    """

    def compare(
        cost1: float,
        cost2: float,
        union: frozenset[int],
        size_list: Sequence[int],
        cost_cap: float,
        one: int,
        two: int,
        found: dict[int, tuple[frozenset[int], float, Any]],
        group: int,
        every: int,
        arrays: Sequence[frozenset[int]],
        shared: frozenset[int],
        memory_limit: int | None,
        contract1: Any,
        contract2: Any,
    ) -> None:
        both = one | two
        if limit is not None and sets.held_bytes(both) > limit:
            return
        if not sets.is_made(both):
            return
        below = cost1 + cost2
        known = found[both][1] if both in found else math.inf
        if below < known:
            cost = below + sets.cost(one, two)
            if cost < known:
                found[both] = union, cost, (contract1, contract2)
                if both == every:
                    whole[0] = cost

    return compare


def _pairs(tree: object, numbers: Sequence[int]) -> Pairs:
    """The steps of a tree, those of the branch with the first input before the others'."""
    found: list[tuple[int, int]] = []

    def visit(node: object) -> int:
        if isinstance(node, int):
            return node
        ends = [visit(branch) for branch in _branches(node)]
        found.append((min(ends), max(ends)))
        return len(numbers) + len(found) - 1

    visit(_renumbered(tree, numbers)[1])
    return tuple(found)


def _branches(node: object) -> tuple[object, ...]:
    assert isinstance(node, tuple)  # narrows the type
    return node


def _renumbered(tree: object, numbers: Sequence[int]) -> tuple[int, object]:
    """The tree in the numbers of the arrays, the branch with the first of them first; also that."""
    if isinstance(tree, int):
        return numbers[tree], numbers[tree]
    (first, one), (_, two) = sorted(
        (_renumbered(branch, numbers) for branch in _branches(tree)), key=lambda found: found[0]
    )
    return first, (one, two)
