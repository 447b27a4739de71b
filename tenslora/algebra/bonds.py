"""Laws about bonds: those of size 1 go, and those that run side by side become one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenslora.algebra.edit import map_terms, units_with
from tenslora.algebra.modify import squeeze
from tenslora.algebra.step import Arrays, Cores, Rewrite
from tenslora.errors import SpecError
from tenslora.spec import Core, Network, complete_sizes, core_shape, slot_size

__all__ = ["drop_unit_bonds", "join_bonds"]


def drop_unit_bonds(network: Network, sizes: Mapping[str, int]) -> Rewrite | None:
    """Remove a bond of size 1.

    Law: a sum over one value is that value. The arrays lose the axis; a core that has no other
    index keeps the bond.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out r] A[r in]")
    >>> print(drop_unit_bonds(n, {"out": 2, "in": 3, "r": 1}))
    unit bond r: W[out in] = B[out] A[in]
    """
    sizes = complete_sizes(network, sizes)
    for bond in network.bonds:
        gone = units_with(network, {bond})
        if sizes[bond] != 1 or not gone.issubset(network.bonds):
            continue
        try:
            after = squeeze(network, *sorted(gone))
        except SpecError as error:
            if error.code != "E123":
                raise
            continue
        left = {i: n for i, n in sizes.items() if i not in gone}
        return Rewrite(
            f"unit bond {bond}",
            network,
            after,
            left,
            _reshaping(after, left),
            _reshaping(network, sizes),
        )
    return None


def _reshaping(network: Network, sizes: Mapping[str, int]) -> Arrays:
    shapes = {name: core_shape(core, sizes) for name, core in network.cores.items()}
    return lambda cores: {name: cores[name].reshape(shape) for name, shape in shapes.items()}


def join_bonds(network: Network, sizes: Mapping[str, int]) -> Rewrite | None:
    """Make one bond of two that stand in the same cores, in slots of their own.

    Law: a sum over r and s is a sum over the pairs (r s), in C order.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out r s] A[s r in]")
    >>> print(join_bonds(n, {"out": 2, "in": 3, "r": 2, "s": 2}))
    join r and s: W[out in] = B[out r] A[r in]
    """
    sizes = complete_sizes(network, sizes)
    for n, first in enumerate(network.bonds):
        for second in network.bonds[n + 1 :]:
            if _parallel(network, first, second):
                after = Network(
                    network.target,
                    map_terms(network.terms, lambda c, s=second: _less(c, s)),  # type: ignore[misc]
                )
                left = {i: size for i, size in sizes.items() if i != second}
                left[first] = sizes[first] * sizes[second]
                return Rewrite(
                    f"join {first} and {second}",
                    network,
                    after,
                    left,
                    _joining(network, (first, second), sizes),
                    _splitting(network, (first, second), sizes),
                )
    return None


def _parallel(network: Network, first: str, second: str) -> bool:
    """Whether two bonds stand in the same cores, alone in their slots, and in no constant."""
    found = False
    for term in network.terms:
        for core in term.cores:
            held = [slot for slot in core.slots if first in slot or second in slot]
            if held and (sorted(held) != sorted([(first,), (second,)]) or core.is_constant):
                return False
            found = found or bool(held)
    places: dict[str, set[tuple[int, ...]]] = {}
    for core in (core for term in network.terms for core in term.cores):
        where = tuple(core.slots.index((i,)) if (i,) in core.slots else -1 for i in (first, second))
        places.setdefault(core.name, set()).add(where)
    return found and all(len(where) == 1 for where in places.values())


def _less(core: Core, bond: str) -> Core:
    return Core(core.name, tuple(slot for slot in core.slots if slot != (bond,)))


def _joining(network: Network, pair: tuple[str, str], sizes: Mapping[str, int]) -> Arrays:
    def forward(cores: Cores) -> dict[str, Any]:
        held = dict(cores)
        for name, core in network.cores.items():
            if (pair[0],) in core.slots:
                one, two = (core.slots.index((bond,)) for bond in pair)
                order = [n for n in range(len(core.slots)) if n != two]
                order.insert(order.index(one) + 1, two)
                shape = core_shape(_less(core, pair[1]), {**sizes, pair[0]: _product(pair, sizes)})
                held[name] = cores[name].transpose(order).reshape(shape)
        return held

    return forward


def _splitting(network: Network, pair: tuple[str, str], sizes: Mapping[str, int]) -> Arrays:
    def back(cores: Cores) -> dict[str, Any]:
        held = dict(cores)
        for name, core in network.cores.items():
            if (pair[0],) in core.slots:
                slots = [slot for slot in core.slots if slot != (pair[1],)]
                slots.insert(slots.index((pair[0],)) + 1, (pair[1],))
                split = cores[name].reshape([slot_size(slot, sizes) for slot in slots])
                held[name] = split.transpose([slots.index(slot) for slot in core.slots])
        return held

    return back


def _product(pair: tuple[str, str], sizes: Mapping[str, int]) -> int:
    return sizes[pair[0]] * sizes[pair[1]]
