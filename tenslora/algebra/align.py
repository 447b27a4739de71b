"""Two networks over one target: sites in one order, features split alike, equal names."""

from __future__ import annotations

from tenslora.algebra.modify import rename, split
from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Slot, format_slot

__all__ = ["align"]


def align(special: Network, general: Network) -> tuple[Network, Network, tuple[str, ...]]:
    """Return both networks over one target, and what was done, one line a step.

    An inclusion of the results is one of the originals: a site or a feature that is split has any
    size still, the parts having any sizes with that product, 1 included.

    Rules: sites that only one name differs in are the same site, or one of them is split into those
    of the other; sites are taken by name, in the order of ``special``. Outputs and inputs are taken
    by place; where one has fewer parts, its last part is split.

    Raises
    ------
    SpecError
        E130 where sites of the one have nothing to correspond to in the other.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> a, b, steps = align(
    ...     parse("W[site out in] = V[out r] S[site r] U[in r]"),
    ...     parse("W[layer proj (head head_dim) in] = T[layer proj (head head_dim) in]"),
    ... )
    >>> str(a)
    'W[layer proj (head head_dim) in] = V[(head head_dim) r] S[(layer proj) r] U[in r]'
    >>> steps
    ('site is (layer proj)', 'out is (head head_dim)')
    """
    pair = [special, general]
    steps: list[str] = []
    _sites(pair, steps)
    for side in (-2, -1):
        _feature(pair, side, steps)
    order = pair[0].sites
    if pair[1].sites != order:
        slots = tuple((site,) for site in order) + pair[1].target.slots[-2:]
        pair[1] = Network(Core(pair[1].target.name, slots), pair[1].terms)
    return pair[0], pair[1], tuple(steps)


def _sites(pair: list[Network], steps: list[str]) -> None:
    one, two = (
        tuple(site for site in pair[n].sites if site not in pair[1 - n].sites) for n in range(2)
    )
    if not one and not two:
        return
    if len(one) == 1 and two:
        _into(pair, 0, one[0], two, steps)
    elif len(two) == 1 and one:
        _into(pair, 1, two[0], one, steps)
    else:
        what = f"{pair[0].target} and {pair[1].target} have different sites"
        first, second = " ".join(one) or "none", " ".join(two) or "none"
        advice = f"Only the first has {first}, only the second {second}: split or restrict one."
        raise SpecError("E130", what, advice=advice)


def _feature(pair: list[Network], side: int, steps: list[str]) -> None:
    short = 0 if len(pair[0].target.slots[side]) <= len(pair[1].target.slots[side]) else 1
    few, many = pair[short].target.slots[side], pair[1 - short].target.slots[side]
    if few == many:
        return
    for name, other in zip(few[:-1], many, strict=False):
        _into(pair, short, name, (other,), steps)
    _into(pair, short, few[-1], many[len(few) - 1 :], steps)


def _into(pair: list[Network], which: int, index: str, parts: Slot, steps: list[str]) -> None:
    """Write ``index`` of one network as ``parts``, with bonds of these names out of the way."""
    if parts == (index,):
        return
    network = pair[which]
    clash = {bond: _fresh(bond, network, parts) for bond in network.bonds if bond in parts}
    network = rename(network, **clash) if clash else network
    if len(parts) == 1:
        network = rename(network, **{index: parts[0]})
    else:
        network = split(network, index, *parts)
    pair[which] = network
    steps.append(f"{index} is {format_slot(parts)}")


def _fresh(bond: str, network: Network, parts: Slot) -> str:
    while bond in network.indices or bond in parts:
        bond += "_"
    return bond
