"""Compression mode by mode: which rank belongs to a mode, and what a rate makes of it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping

from tenslora.errors import SizeError
from tenslora.spec import Core, Network

__all__ = ["bonds_of_modes", "compressed_ranks"]


def bonds_of_modes(network: Network) -> dict[str, dict[str, tuple[str, ...]]]:
    """Find the bonds that belong to each target index, with the modes that share the factor.

    A bond belongs to a mode where a core with that index has this bond alone: the factor of the
    mode. In CP all modes have one bond; in a train the modes inside have none of their own. Sites
    that every core carries are not factorised and have none.

    Returns
    -------
    dict
        For each target index, its bonds, each with the indices of the factor that carries it.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> bonds_of_modes(parse("W[layer out in] = V[out b] D[layer c] G[b a c] U[in a]"))
    {'layer': {'c': ('layer',)}, 'out': {'b': ('out',)}, 'in': {'a': ('in',)}}
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {i: {} for i in network.target.indices}
    for core in network.cores.values():
        modes, bonds = _sorted(network, core)
        if len(bonds) == 1:
            for mode in modes:
                found[mode].setdefault(bonds[0], modes)
    return found


def _sorted(network: Network, core: Core) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The target indices of a core that are factorised, and its bonds."""
    target, still = set(network.target.indices), set(network.independent_sites)
    modes = tuple(i for i in core.indices if i in target and i not in still)
    return modes, tuple(i for i in core.indices if i not in target)


def compressed_ranks(
    network: Network, sizes: Mapping[str, int], rates: Mapping[str, float]
) -> dict[str, int]:
    """Return the ranks that rates of compression mean.

    Parameters
    ----------
    network : the equation.
    sizes : the size of every index of the target.
    rates : for a mode the fraction of its size that its rank is, in (0, 1], rounded down but not
        below 1; a bond's name stands for the mode that it belongs to.

    Returns
    -------
    dict
        A rank for each bond that a rate speaks of.

    Raises
    ------
    SizeError
        E210 for a name that is no mode, a rate outside (0, 1], a mode without a rank of its own,
        and two rates that give one bond two ranks.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = V[out b] D[layer c] G[b a c] U[in a]")
    >>> compressed_ranks(n, {"layer": 12, "out": 768, "in": 768}, {"in": 0.02, "layer": 1.0})
    {'c': 12, 'a': 15}
    """
    if not isinstance(rates, Mapping):
        mode = next(iter(network.target.indices), "in")
        what = f"compression={rates!r} does not say of which mode"
        raise SizeError(
            "E210", what, advice=f"Give a rate for each: compression={{{mode!r}: 0.5}}."
        )
    owned = bonds_of_modes(network)
    ranks: dict[str, int] = {}
    said: dict[str, str] = {}
    for name, rate in rates.items():
        _check_rate(name, rate)
        for bond, size in _sizes_of(network, owned, sizes, name, rate).items():
            rank = max(1, math.floor(rate * size * (1 + 1e-12)))
            if ranks.setdefault(bond, rank) != rank:
                what = (
                    f"the rates {said[bond]} and {name}={rate:g} of compression give rank {bond} "
                    f"two values, {ranks[bond]} and {rank}"
                )
                raise SizeError("E210", what, advice="One bond serves both modes: give one rate.")
            said[bond] = f"{name}={rate:g}"
    return {bond: ranks[bond] for bond in network.bonds if bond in ranks}


def _check_rate(name: str, rate: object) -> None:
    number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    if not number or not 0 < float(rate) <= 1:  # type: ignore[arg-type]
        what = f"the rate of compression {name}={rate!r} is no number in (0, 1]"
        raise SizeError("E210", what, advice="0.02 keeps 2 % of a mode's size as its rank, 1 all.")


def _sizes_of(
    network: Network,
    owned: Mapping[str, Mapping[str, tuple[str, ...]]],
    sizes: Mapping[str, int],
    name: str,
    rate: float,
) -> dict[str, int]:
    """The bonds that a name of the caller's means, each with the size that the rate is of."""
    if name in owned:
        bonds = owned[name]
        if not bonds and rate < 1:
            advice = f"Name a bond instead: {', '.join(network.bonds) or 'there is none'}."
            raise SizeError("E210", f"{name} has no rank of its own in {network}", advice=advice)
        return {bond: math.prod(sizes[m] for m in modes) for bond, modes in bonds.items()}
    if name in network.bonds:
        carried = [math.prod(sizes[m] for m in b[name]) for b in owned.values() if name in b]
        if carried:
            return {name: min(carried)}
        what = f"rank {name} belongs to no mode of {network}, and a rate is of a mode's size"
        raise SizeError("E210", what, advice=f"Give the rank itself: ranks={{{name!r}: ...}}.")
    known = [*owned, *network.bonds]
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    advice = f"Did you mean {close[0]!r}? " if close else ""
    what = f"compression names {name!r}, no mode of {network}"
    raise SizeError("E210", what, advice=f"{advice}The modes are {', '.join(owned)}.")
