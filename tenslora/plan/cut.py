"""The rank that the update of one site can have, from the smallest cut between input and output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tenslora.spec import Network, Term, slot_size

__all__ = ["cut_rank", "cut_sides", "mode_rank"]


def cut_rank(network: Network, sizes: Mapping[str, int]) -> int:
    """Bound the rank of W at one site by cutting the network between input and output.

    The cores of a term are divided in two; the rank is at most the product of the sizes of the
    indices that stand on both sides, where the rows belong to one and the columns to the other. The
    smallest such product bounds a term, and the sum over the terms bounds W. At values drawn at
    random the bound is reached, but where a core is repeated or a middle core is too thin for it.

    Parameters
    ----------
    network : the equation.
    sizes : the size of every index.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = B[out r] D[layer r] A[r in]")
    >>> cut_rank(n, {"layer": 12, "out": 64, "in": 32, "r": 4})
    4
    """
    full = min(slot_size(network.output, sizes), slot_size(network.input, sizes))
    return min(full, sum(_term_cut(network, term, sizes)[0] for term in network.terms))


def cut_sides(network: Network, term: Term, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Say on which side of a smallest cut each core of a term stands: 0 output, 1 input.

    A core ``ones``, a product of vectors, which joins nothing, is counted to the input's side.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = B[out s] D[layer s r] A[r in]")
    >>> cut_sides(n, n.terms[0], {"layer": 12, "out": 64, "in": 32, "r": 4, "s": 8})
    (0, 0, 1)
    """
    _, sides = _term_cut(network, term, sizes)
    left = iter(sides)
    return tuple(1 if core.name == "ones" else next(left) for core in term.cores)


def mode_rank(network: Network, sizes: Mapping[str, int], mode: str) -> int:
    """Bound the rank of all updates together, unfolded along one index of the target.

    The network, sites included, is cut between that index and the others of the target, as
    :func:`cut_rank` cuts it between output and input.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = B[out s] D[layer c] G[s c r] A[r in]")
    >>> sizes = {"layer": 12, "out": 64, "in": 32, "s": 8, "c": 2, "r": 4}
    >>> [mode_rank(n, sizes, mode) for mode in ("layer", "out", "in")]
    [2, 8, 4]
    """
    others = frozenset(network.target.indices) - {mode}
    full = min(sizes[mode], math.prod(sizes[index] for index in others))
    found = 0
    for term in network.terms:
        cores = [frozenset(core.indices) for core in term.cores if core.name != "ones"]
        cores.sort(key=lambda core: -math.prod(sizes[index] for index in core))
        ends = [(frozenset({mode}), 0), (others, 1)]
        found += _search(ends, cores, sizes, (full, ()))[0]
    return min(full, found)


def _term_cut(
    network: Network, term: Term, sizes: Mapping[str, int]
) -> tuple[int, tuple[int, ...]]:
    """The size of a smallest cut, and the side of each core but ``ones``."""
    sites = set(network.sites)
    # ones is a product of vectors, which join nothing.
    cores = [frozenset(core.indices) - sites for core in term.cores if core.name != "ones"]
    # Rows and columns are two more cores, on fixed sides; the biggest cores first prune best.
    ends = [(frozenset(network.output), 0), (frozenset(network.input), 1)]
    order = sorted(range(len(cores)), key=lambda n: -math.prod(sizes[i] for i in cores[n]))
    best = math.prod(sizes[i] for i in network.output), (1,) * len(cores)
    value, found = _search(ends, [cores[n] for n in order], sizes, best)
    return value, tuple(found[order.index(n)] for n in range(len(cores)))


def _search(
    placed: Sequence[tuple[frozenset[str], int]],
    left: Sequence[frozenset[str]],
    sizes: Mapping[str, int],
    best: tuple[int, tuple[int, ...]],
) -> tuple[int, tuple[int, ...]]:
    """Branch on the side of each core; what is cut can only grow."""
    first: frozenset[str] = frozenset().union(*(core for core, side in placed if side == 0))
    second: frozenset[str] = frozenset().union(*(core for core, side in placed if side == 1))
    value = math.prod(sizes[index] for index in first & second)
    if value >= best[0]:
        return best
    if not left:
        return value, tuple(side for _, side in placed[2:])
    for side in (0, 1):
        best = _search([*placed, (left[0], side)], left[1:], sizes, best)
    return best
