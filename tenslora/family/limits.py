"""What the frozen cores of a family can be: drawn freely, given by a rule, or cut from a weight."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tenslora.algebra.limits import Limits
from tenslora.family.family import Family
from tenslora.init import InitRule, draw
from tenslora.spec import Core, Network, format_slot, slot_size

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["limits_of", "most_ranks"]

_DRAWN = frozenset({"normal", "uniform", "kaiming", "xavier", "orthogonal"})
_WAVES = frozenset({"cos", "sin"})


def limits_of(family: Family) -> Limits:
    """Return which frozen cores have the value of a rule, and which ranks are bounded by them.

    - A frozen core that a random rule draws may be any constant, though ``orthogonal`` draws none
      but orthonormal columns: what is proved is about the W that cores can hold. ``normal(0)`` is
      zeros.
    - One with another rule has that value: ``circulant``, ``cos``, ``ones``, a copy of such a core.
    - Of several that are drawn as one, such as ``B`` and ``C`` with ``copy(B)``, one may be any
      constant, and the others are it.
    - One that the family takes from the weights may be any constant too, not singular vectors
      alone, at a rank that weights have: an SVD has no more of them than the smaller side of the
      weight, a tensor train no more than either side of a cut, a HOSVD no more than each mode.

    Examples
    --------
    >>> from tenslora.families import c3a, lora_xs, vera
    >>> limits_of(c3a).given, limits_of(vera).given
    ({'E': 'circulant'}, {})
    >>> limits_of(c3a).words(c3a.network), limits_of(lora_xs).words(lora_xs.network)
    ({'k': 'circulant o i'}, {'s': 'svd', 'r': 'svd'})
    """
    started = set() if family.start is None else set(family.start.cores)
    given = {
        core: "zeros" if rule.is_zero else str(rule)
        for core, rule in family.init.items()
        if core in family.frozen and core not in started and _is_given(rule, started)
    }
    scales = {core: scale for core in given if (scale := _scale(family.init[core])) is not None}
    copies = _copies(family, given.keys(), started)
    given |= {core: str(family.init[core]) for core in copies}

    def value(core: Core, network: Network, sizes: Mapping[str, int]) -> Array:
        return draw(family.init[core.name], core, network, sizes)

    def most(network: Network, sizes: Mapping[str, int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for bond, _, size in _bounds(family, network, sizes):
            found[bond] = min(size, found.get(bond, size))
        return found

    def words(network: Network) -> dict[str, str]:
        found: dict[str, dict[str, None]] = {}
        for bond, word, _ in _bounds(family, network, dict.fromkeys(network.indices, 1)):
            found.setdefault(bond, {})[word] = None
        return {bond: " and ".join(held) for bond, held in found.items()}

    def ones(network: Network) -> frozenset[str]:
        return frozenset(
            core
            for core, rule in given.items()
            if rule == "ones" or (rule == "circulant" and len(network.cores[core].slots) == 1)
        )

    return Limits(given, words, value, most, ones, copies, scales)


def most_ranks(family: Family, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the largest rank of each bond that frozen cores bound, on weights of a size.

    There are no more waves than pairs of frequencies, say, and no more singular vectors than the
    smaller side of a weight.

    Examples
    --------
    >>> from tenslora.families import fourierft, lora
    >>> sizes = {"layer": 2, "proj": 3, "out": 8, "in": 6}
    >>> most_ranks(fourierft, sizes), most_ranks(lora, sizes)
    ({'n': 48}, {})
    """
    return dict(limits_of(family).most(family.network, sizes))


def _is_given(rule: InitRule, started: set[str]) -> bool:
    kind = rule.kind if rule.base is None else rule.base.kind
    return (rule.is_zero or kind not in _DRAWN) and rule.of not in started


def _scale(rule: InitRule) -> float | None:
    """Return the size of the number that is a factor of a rule: of ``const(v)``, or of a wave."""
    rule = rule if rule.base is None else rule.base
    return abs(rule.value) if rule.value and rule.kind in {"const", *_WAVES} else None


def _copies(
    family: Family, given: Collection[str], started: Collection[str]
) -> dict[str, tuple[str, float]]:
    """Return each frozen core that is another one, which may be any constant, and the sign.

    A copy of a trained core is what that core was before training: two of them are one constant.
    """
    first: dict[str, tuple[str, float]] = {}
    found: dict[str, tuple[str, float]] = {}
    for core in (core for core in family.network.cores if core in family.frozen):
        rule = family.init[core]
        copied = rule.of is not None and core not in started
        root = rule.of if copied and rule.of is not None else core
        sign = -1.0 if copied and rule.value is not None and rule.value < 0 else 1.0
        if core in given:
            continue
        if root in first:
            found[core] = first[root][0], sign * first[root][1]
        else:
            first[root] = core, sign
    return found


def _bounds(
    family: Family, network: Network, sizes: Mapping[str, int]
) -> Iterator[tuple[str, str, int]]:
    """Yield bonds with what bounds them and the largest rank; ``network`` may be aligned.

    The words name the indices whose sizes make the bound: a place in the family would be another
    bound in another family.
    """
    rows, columns = (slot_size(slot, sizes) for slot in (network.output, network.input))
    for name in (name for name in network.cores if name in family.frozen):
        core, kind = network.cores[name], family.init[name].kind
        slot = core.slots[-1] if kind == "circulant" else _bonds(core, network)
        if kind == "circulant" and _bonds(core, network) == slot and _only_with(core, network):
            blocks = core.slots[:-1]  # of the target; a side of 1 may have gone
            rows_and_columns = sum(slot_size(s, sizes) for s in blocks) + 2 - len(blocks)
            named = " ".join([kind, *map(format_slot, blocks)])
            yield slot[0], named, rows_and_columns - 1
        elif kind in _WAVES and len(slot) == 1:
            yield slot[0], "waves", rows * columns
    if family.start is not None:
        cores = [network.cores[name] for name in family.start.cores]
        for core, bond, word, size in _STARTS[family.start.kind](cores, network, sizes):
            if core.name in family.frozen:
                yield bond, word, size


def _only_with(core: Core, network: Network) -> bool:
    """Whether the one bond in the last slot of a core stands in no term without the core.

    In another term a larger rank could add something.
    """
    bonds = core.slots[-1]
    return len(bonds) == 1 and all(
        core in term.cores for term in network.terms if bonds[0] in term.indices
    )


#: A core that a start fills, one of its bonds, what bounds it, and the largest rank.
_Bound = tuple[Core, str, str, int]


def _by_svd(cores: list[Core], network: Network, sizes: Mapping[str, int]) -> Iterator[_Bound]:
    most = min(slot_size(slot, sizes) for slot in (network.output, network.input))
    for core in cores:
        for bond in _bonds(core, network):
            yield core, bond, "svd", most


def _by_train(cores: list[Core], network: Network, sizes: Mapping[str, int]) -> Iterator[_Bound]:
    target = set(network.features)
    held = [[i for i in core.indices if i in target] for core in cores]
    for n, (one, two) in enumerate(itertools.pairwise(cores), 1):
        sides = [[i for part in parts for i in part] for parts in (held[:n], held[n:])]
        most = min(math.prod(sizes[i] for i in side) for side in sides)
        for bond in set(_bonds(one, network)).intersection(_bonds(two, network)):
            for core in (one, two):
                yield core, bond, f"train {' '.join(sides[0])}", most


def _by_hosvd(cores: list[Core], network: Network, sizes: Mapping[str, int]) -> Iterator[_Bound]:
    middle, *factors = cores
    alone = {s for s in network.sites if all(s in core.indices for core in cores)}
    each = f" for each {' '.join(s for s in network.sites if s in alone)}" if alone else ""
    for factor, inner in zip(factors, _bonds(middle, network), strict=True):
        held = [i for i in factor.indices if i not in alone and i not in network.bonds]
        most = math.prod(sizes[i] for i in held)
        for core, bond in (*((factor, b) for b in _bonds(factor, network)), (middle, inner)):
            yield core, bond, f"hosvd {' '.join(held)}{each}", most


_STARTS = {"svd": _by_svd, "root_svd": _by_svd, "tt_svd": _by_train, "hosvd": _by_hosvd}


def _bonds(core: Core, network: Network) -> tuple[str, ...]:
    return tuple(index for index in core.indices if index in network.bonds)
