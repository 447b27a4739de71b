"""From what a caller says about sizes, ranks and budgets to one size for every index."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from operator import index
from typing import TYPE_CHECKING, SupportsIndex

from tenslora.algebra.redundancy import excess
from tenslora.budget import count_parameters, fit_ranks
from tenslora.errors import RedundantRankWarning, SizeError
from tenslora.spec import Network, complete_sizes, is_count

if TYPE_CHECKING:
    from tenslora.family.family import Family

__all__ = ["MAX_PARAMETERS", "check_rank", "choose"]

#: More parameters than this are refused before any array is made.
MAX_PARAMETERS = 10**12


def check_rank(name: str, value: object) -> int:
    """Return ``value`` as a rank, or raise E206."""
    if not is_count(value):
        what = f"rank {name}={value!r} is not a positive integer"
        raise SizeError("E206", what, advice="Give a rank of at least 1.")
    return index(value)


def choose(
    family: Family,
    given: Mapping[str, int],
    *,
    ranks: int | Mapping[str, int] | None,
    like: Family | None,
    params: int | None,
) -> dict[str, int]:
    """Return complete sizes, ranks chosen by the caller, the family's defaults or a budget."""
    from tenslora.family.limits import most_ranks  # it reads families, which bind by this module

    network = family.network
    sizes, chosen = _take_apart(network, given, ranks)
    if like is not None or params is not None:
        _refuse_both(chosen, like, params)
        target = complete_sizes(network, sizes, ranks=False)
        budgeted = count_like(network, target, like) if like is not None else params
        if not is_count(budgeted):
            what = f"params={params!r} is not a positive integer"
            raise SizeError("E207", what, advice="Give the number of trained parameters.")
        most = most_ranks(family, target)
        chosen = fit_ranks(network, target, index(budgeted), frozen=family.frozen, maximum=most)
    complete = complete_sizes(network, {**sizes, **{**family.ranks, **chosen}})
    _refuse_absurd(network, complete)
    _warn_redundant(network, complete, family.frozen)
    return complete


def _take_apart(
    network: Network, given: Mapping[str, int], ranks: int | Mapping[str, int] | None
) -> tuple[dict[str, int], dict[str, int]]:
    sizes = {n: v for n, v in given.items() if n not in network.bonds}
    named = {n: v for n, v in given.items() if n in network.bonds}
    chosen: dict[str, int] = {}
    every = sizes.pop("rank", None) if "rank" not in network.indices else None
    if every is not None and ranks is not None:
        what = f"rank={every!r} and ranks={ranks!r} are both given"
        raise SizeError("E208", what, advice="Give one of them.")
    if every is None and isinstance(ranks, SupportsIndex):
        every = ranks
    if every is not None:
        chosen = {bond: check_rank("rank", every) for bond in network.bonds}
    if isinstance(ranks, Mapping):
        for bond, value in ranks.items():
            if bond not in network.bonds:
                what = f"ranks names {bond!r}, no bond of {network}"
                advice = f"The bonds are {', '.join(network.bonds) or 'none'}."
                raise SizeError("E201", what, advice=advice)
            if named.get(bond, value) != value:
                what = f"rank {bond} is given as {value!r} and as {named[bond]!r}"
                raise SizeError("E204", what, advice="Give it once.")
            chosen[bond] = check_rank(bond, value)
    elif ranks is not None and not isinstance(ranks, SupportsIndex):
        what = f"ranks={ranks!r} is neither a rank nor a mapping"
        raise SizeError("E206", what, advice="Write ranks=8 or ranks={'r': 8}.")
    return sizes, {**chosen, **named}


def _refuse_both(chosen: Mapping[str, int], like: Family | None, params: int | None) -> None:
    if like is not None and params is not None:
        raise SizeError("E208", "both like= and params= are given", advice="Give one of them.")
    if chosen:
        listed = " ".join(f"{bond}={rank}" for bond, rank in chosen.items())
        what = f"ranks ({listed}) and a parameter budget are both given"
        raise SizeError("E208", what, advice="Give the ranks or the budget.")


def count_like(network: Network, target: Mapping[str, int], like: Family) -> int:
    """Count the trained parameters of ``like`` on the same weights.

    Sites of ``like`` that the network names take its sizes; what is left of the number of sites
    goes to the first other site of ``like``.
    """
    given = {
        "out": math.prod(target[i] for i in network.output),
        "in": math.prod(target[i] for i in network.input),
    }
    for side, slot in (("out", like.network.output), ("in", like.network.input)):
        if side in like.network.indices and slot != (side,):
            del given[side]
        elif len(slot) > 1:
            given.update({i: target[i] for i in slot[:-1] if i in target})
    left = math.prod(target[s] for s in network.sites)
    for site in like.network.sites:
        if site in network.sites:
            given[site] = target[site]
            left //= target[site]
    for site in like.network.sites:
        if site not in given:
            given[site], left = left, 1
    return like.bind(given).trainable_parameters


def _refuse_absurd(network: Network, sizes: Mapping[str, int]) -> None:
    trained, frozen = count_parameters(network, sizes)
    if trained + frozen > MAX_PARAMETERS:
        what = f"{network} has {trained + frozen:,} parameters at these sizes"
        advice = f"The limit is {MAX_PARAMETERS:,}: lower the ranks or share a core over sites."
        raise SizeError("E209", what, advice=advice)


def _warn_redundant(
    network: Network, sizes: Mapping[str, int], frozen: frozenset[str] = frozenset()
) -> None:
    """Warn of a rank that a smaller one could replace."""
    for one in excess(network, sizes, frozen):
        text = (
            f"W201: rank {one.bond}={one.size} is above {one.cap}, all that its mode can carry in "
            f"{network}: the extra parameters are redundant. Lower it to {one.cap}."
        )
        warnings.warn(text, RedundantRankWarning, stacklevel=4)
