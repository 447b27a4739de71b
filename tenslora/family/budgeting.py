"""Ranks for what a caller can afford: parameters, bytes, another family, rates of compression."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any

from tenslora.budget import Limits, bonds_of_modes, compressed_ranks, fit_ranks, lora_parameters
from tenslora.budget import isorank as same_rank
from tenslora.budget.limits import check_count, fixed_ranks, make_ranks
from tenslora.errors import SizeError
from tenslora.family.binding import check_rank, count_like
from tenslora.family.family import Family
from tenslora.family.limits import most_ranks
from tenslora.family.registry import resolve
from tenslora.spec import complete_sizes, is_count

__all__ = ["isoparameters", "isorank", "ranks"]


def ranks(
    family: str | Family,
    sizes: Mapping[str, int],
    *,
    params: int | None = None,
    like: str | Family | None = None,
    bytes: int | None = None,  # noqa: A002 - the caller's word for it
    compression: Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
    minimum: int | Mapping[str, int] | None = None,
    maximum: int | Mapping[str, int] | None = None,
    multiple: int | Mapping[str, int] | None = None,
    spread: float = 0.2,
    itemsize: int = 4,
) -> dict[str, int]:
    """Choose ranks by what you can afford: the closest to a budget without going over.

    The search is exact and takes milliseconds: ranks rise together, in proportion to ``weights``,
    and of all choices that leave the proportion by at most ``spread`` the one that spends the most
    of the budget is taken (:func:`tenslora.budget.fit_ranks`).

    Parameters
    ----------
    family : a family, its name, or an equation.
    sizes : the size of every index of the target; ``out`` and ``in`` may be the totals of groups.
    params : so many trained parameters at most.
    like : as many trained parameters as another family has on the same weights: ``"lora:8"`` or
        ``lora(r=8)`` (the paper's isoparameters).
    bytes : so many bytes of cores at most, frozen ones too, of ``itemsize`` bytes a number; the
        record of a checkpoint comes on top.
    compression : for a mode the part of its size that its rank is, such as ``{"in": 0.02, "layer":
        1.0}``; alone where it says every rank, or beside a budget for the others.
    weights : ranks grow in proportion to it; by mode or bond, 1 where not named.
    minimum, maximum, multiple : limits, one for all or by mode or bond; ``multiple=8`` suits GPUs.
        A mode smaller than the multiple is not asked; one for all is not asked of ranks that a rate
        gives.
    spread : how far ranks may leave their proportion, as a fraction; at least one step.
    itemsize : bytes of a number.

    Returns
    -------
    dict
        A rank for each bond, for ``bind(ranks=...)`` and ``attach(ranks=...)``.

    Raises
    ------
    SizeError
        E207 for a budget below the smallest possible, which it names; E208 for several budgets or
        none; E210 for rates that contradict each other; E211 for limits that cannot be met.

    Examples
    --------
    >>> import tenslora as tl
    >>> sizes = {"layer": 12, "proj": 3, "in": 768, "out": 768}
    >>> tl.ranks("tenslora.qkv_depth", sizes, like="lora:8")
    {'a': 91, 'b': 92, 'c': 3, 'd': 12}
    >>> tl.ranks("tenslora.qkv_depth", sizes, compression={"in": 0.02, "layer": 1.0}, params=60_000)
    {'a': 15, 'b': 36, 'c': 3, 'd': 12}
    >>> tl.ranks("tenslora.qkv_depth", sizes, params=200_000, multiple=8, weights={"in": 2})
    {'a': 96, 'b': 40, 'c': 3, 'd': 8}
    """
    found = resolve(family, any_start=True)
    network = found.network
    target = complete_sizes(network, sizes, ranks=False)
    fixed = compressed_ranks(network, target, {} if compression is None else compression)
    target = {name: size for name, size in target.items() if name not in network.bonds}
    budget, frozen = _budget(found, target, params, like, bytes, itemsize, bool(compression))
    pinned = fixed_ranks(network, target)
    lowest = _by_bond(found, minimum, "minimum")
    highest = _by_bond(found, maximum, "maximum")
    steps = _by_bond(found, multiple, "multiple")
    for word, numbers in (("minimum", lowest), ("maximum", highest), ("multiple", steps)):
        for bond, value in numbers.items():
            check_count(word, bond, value)
    named = [
        numbers if isinstance(given, Mapping) else {}
        for numbers, given in ((lowest, minimum), (highest, maximum), (steps, multiple))
    ]
    _check_rates(fixed, *named)
    for bond in fixed.keys() & pinned.keys():
        if fixed[bond] != pinned[bond]:
            what = f"compression gives rank {bond}={fixed[bond]}, and the equation {pinned[bond]}"
            raise SizeError("E210", what, advice="Leave out the rates of its modes.")
    for numbers, by_name in zip((lowest, highest, steps), named, strict=True):
        for bond in pinned.keys() - by_name.keys():  # one number for all is not meant for these
            numbers.pop(bond, None)
    most = {bond: n for bond, n in most_ranks(found, target).items() if bond not in pinned}
    highest = {**most, **{bond: min(n, most.get(bond, n)) for bond, n in highest.items()}}
    limits = Limits(
        minimum={**lowest, **fixed},
        maximum={**highest, **fixed},
        multiple={**steps, **dict.fromkeys(fixed, 1)},
        weights=_by_bond(found, weights, "weights"),
        spread=spread,
    )
    if budget is None:
        make_ranks(network, target, limits)  # refuses what no rank meets
        return _complete(found, {**pinned, **fixed})
    unit = None if bytes is None else itemsize
    return fit_ranks(network, target, budget, frozen=frozen, limits=limits, itemsize=unit)


def _check_rates(
    fixed: Mapping[str, int],
    lowest: Mapping[str, int],
    highest: Mapping[str, int],
    steps: Mapping[str, int],
) -> None:
    """Refuse ranks of rates of compression that limits of their own forbid."""
    for bond, rank in fixed.items():
        what = f"compression gives rank {bond}={rank}, and "
        if rank < lowest.get(bond, 1):
            what += f"minimum asks for {lowest[bond]}"
        elif rank > highest.get(bond, rank):
            what += f"maximum allows {highest[bond]}"
        elif rank % steps.get(bond, 1):
            what += f"multiple asks for one of {steps[bond]}"
        else:
            continue
        raise SizeError("E210", what, advice="Give another rate or another limit.")


def _budget(
    family: Family,
    target: Mapping[str, int],
    params: int | None,
    like: str | Family | None,
    nbytes: int | None,
    itemsize: int,
    compressed: bool,
) -> tuple[int | None, frozenset[str]]:
    """Return the budget in numbers, and the cores that it does not count."""
    given = [n for n, v in (("params", params), ("like", like), ("bytes", nbytes)) if v is not None]
    if len(given) > 1:
        what = f"{' and '.join(f'{name}=' for name in given)} are both given"
        raise SizeError("E208", what, advice="Give one budget.")
    if not given and not compressed:
        advice = "Give params=, like=, bytes= or compression=."
        raise SizeError("E208", f"no budget is given for {family.label}", advice=advice)
    if like is not None:
        return count_like(family.network, target, resolve(like)), family.frozen
    for name, value in (("params", params), ("bytes", nbytes), ("itemsize", itemsize)):
        if value is not None and not is_count(value):
            what = f"{name}={value!r} is not a positive integer"
            raise SizeError("E207", what, advice="Give a whole number of at least 1.")
    if nbytes is not None:
        return max(1, index(nbytes) // itemsize), frozenset()
    return (None if params is None else index(params)), family.frozen


def _complete(family: Family, fixed: Mapping[str, int]) -> dict[str, int]:
    known = {**family.ranks, **fixed}
    missing = [bond for bond in family.bonds if bond not in known]
    if missing:
        owned = bonds_of_modes(family.network)
        modes = [mode for mode, bonds in owned.items() if set(bonds).intersection(missing)]
        what = f"compression says nothing of rank {', '.join(missing)} of {family.label}"
        advice = f"Give a rate for {' or '.join(modes)}, " if modes else "Give a rate, "
        raise SizeError("E210", what, advice=advice + "or a budget for the rest.")
    return {bond: known[bond] for bond in family.bonds}


def _by_bond(family: Family, given: Any, word: str) -> dict[str, Any]:
    """Turn numbers by mode or bond into numbers by bond."""
    if not isinstance(given, Mapping):
        return {} if given is None else dict.fromkeys(family.bonds, given)
    owned = bonds_of_modes(family.network)
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in owned and not owned[name]:
            what = f"{word} names {name}, which has no rank of its own in {family.network}"
            raise SizeError("E211", what, advice=f"Name a bond: {', '.join(family.bonds)}.")
        for bond in owned.get(name, (name,)):
            held = found.setdefault(bond, value)
            if held is not value and held != value:
                what = f"{word} gives rank {bond} two values, {found[bond]!r} and {value!r}"
                raise SizeError("E211", what, advice="One bond serves several modes: name it once.")
    return found


def isorank(family: str | Family, rank: int) -> dict[str, int]:
    """Give every bond the same rank: the paper's comparison at equal rank.

    Examples
    --------
    >>> import tenslora as tl
    >>> tl.isorank("tenslora.qkv", 4)
    {'a': 4, 'b': 4, 'c': 4}
    """
    return same_rank(resolve(family, any_start=True).network, check_rank("rank", rank))


def isoparameters(family: str | Family, sizes: Mapping[str, int], lora_rank: int) -> dict[str, int]:
    """Choose ranks with as many parameters as LoRA of a rank: the paper's isoparameters.

    Parameters and errors are those of :func:`ranks`.

    Examples
    --------
    >>> import tenslora as tl
    >>> sizes = {"layer": 12, "proj": 3, "in": 768, "head": 12, "head_dim": 64}
    >>> tl.isoparameters("tenslora.att", sizes, 8)
    {'a': 12, 'b': 14, 'c': 12}
    """
    chosen = resolve(family, any_start=True)
    target = complete_sizes(chosen.network, sizes, ranks=False)
    budget = lora_parameters(chosen.network, target, check_rank("lora_rank", lora_rank))
    return ranks(chosen, sizes, params=budget)
