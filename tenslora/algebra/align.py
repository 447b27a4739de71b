"""Two networks over one target: sites in one order, features split alike, equal names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product

from tenslora.algebra.edit import units_with
from tenslora.algebra.modify import rename, split, squeeze
from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Slot, format_slot

__all__ = ["align", "assigned", "assignments", "chosen", "impossible"]


def align(special: Network, general: Network) -> tuple[Network, Network, tuple[str, ...]]:
    """Return both networks over one target, and what was done, one line a step.

    An inclusion of the results is one of the originals: a site or a feature that is split has any
    size still, the parts having any sizes with that product, 1 included. That the results are no
    inclusion says nothing of the originals where ``general`` has parts whose sizes can be chosen:
    see :func:`~tenslora.algebra.align.assignments`.

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


def assignments(special: Network, general: Network) -> Iterator[dict[str, Slot]]:
    """Yield each way to size the parts of ``general``: what of ``special`` each of them is.

    ``special`` is a special case of ``general`` where for all sizes of ``special`` there are sizes
    of the parts of ``general``: LoRA is LoKr with a first part of 1. They can be chosen where a
    feature has two parts or more there, or where one site of ``special`` is several. A part is then
    a group of parts of ``special`` that follow each other, or 1. At sizes that are one prime or 1
    there are no other ways (``chosen`` says of what): where each is refuted, so is the claim.

    Nothing is yielded where no size can be chosen; sites of one name are one site. Parts that both
    name alike, such as the heads, are that in the first ways; in others they may be chosen too: an
    order would not be transitive without (TeRA in LoRA in LoKr, where both ends have an ``o1``).

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> lora = parse("W[layer out in] = B[layer out r] A[layer r in]")
    >>> lokr = parse("W[layer (o1 o2) in] = C[layer o1] B[layer o2 r] A[layer r in]")
    >>> list(assignments(lora, lokr))
    [{'o1': (), 'o2': ('out',)}, {'o1': ('out',), 'o2': ()}]
    """
    free = _free(special, general)
    for ways in product(*(_compositions(few, many) for few, many in free)) if free else ():
        yield {part: group for way in ways for part, group in way.items()}


def chosen(special: Network, general: Network) -> frozenset[str]:
    """Return the indices of ``special`` that the parts of ``general`` share out among them."""
    return frozenset(index for few, _ in _free(special, general) for index in few)


def impossible(general: Network, parts: Mapping[str, Slot]) -> bool:
    """Whether no sizes above 1 of the smaller network can be had in this way to size the parts.

    An ``eye`` of ``general`` makes another index of the target 1 where a part of it is 1.

    >>> from tenslora.spec import parse
    >>> tied = parse("W[(o1 o2) (i1 i2)] = eye[o1 i1] R[o2 i2]")
    >>> parts = {"o1": (), "o2": ("out",), "i1": ("in",), "i2": ()}
    >>> impossible(tied, parts), impossible(tied, {**parts, "i1": (), "i2": ("in",)})
    (True, False)
    """
    gone = {part for part, group in parts.items() if not group}
    return not gone.issuperset(units_with(general, gone) - set(general.bonds))


def _free(special: Network, general: Network) -> list[tuple[Slot, Slot]]:
    """Return what is one thing in both, in the indices of each, where ``general`` has several."""
    own, others = _apart(special, general)
    pairs = [(special.output, general.output), (special.input, general.input)]
    pairs += [(own, others)] if len(own) == 1 else []
    return [(few, many) for few, many in pairs if len(many) > 1]


def _compositions(few: Slot, many: Slot) -> Iterator[dict[str, Slot]]:
    """Give each of ``many`` a group of ``few`` in their order, or nothing.

    First come those that leave what both name alike as it is, then those with few nothings.
    """
    found = []
    for cuts in combinations(range(len(few) + len(many) - 1), len(many) - 1):
        ends = [cut - n for n, cut in enumerate(cuts)]
        bounds = zip([0, *ends], [*ends, len(few)], strict=True)
        found.append([few[start:end] for start, end in bounds])

    def order(groups: list[Slot]) -> tuple[int, int]:
        moved = (part in few and group != (part,) for part, group in zip(many, groups, strict=True))
        return sum(moved) if len(few) > 1 else 0, groups.count(())

    for groups in sorted(found, key=order):
        yield dict(zip(many, groups, strict=True))


def assigned(
    special: Network, general: Network, parts: Mapping[str, Slot]
) -> tuple[Network, Network, tuple[str, ...]]:
    """Write the parts of ``general`` as groups of indices of ``special``; as :func:`align`.

    Raises
    ------
    SpecError
        E123 where a core would have no index left, or an ``eye`` would make other indices 1 too;
        E120 where a name is taken.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> lora = parse("W[layer out in] = B[layer out r] A[layer r in]")
    >>> lokr = parse("W[layer (o1 o2) in] = C[layer o1] B[layer o2 r] A[layer r in]")
    >>> _, general, steps = assigned(lora, lokr, {"o1": (), "o2": ("out",)})
    >>> print(general, steps)
    W[layer out in] = C[layer] B[layer out r] A[layer r in] ('o1 is 1', 'o2 is out')
    """
    gone = [part for part, group in parts.items() if not group]
    network = squeeze(general, *gone) if gone else general
    kept = [part for part, group in parts.items() if group]
    apart: dict[str, str] = {}
    for part in kept:  # names of their own, while one part may get the name of another
        apart[part] = _fresh(f"{part}_", network, (*special.indices, *apart.values()))
    pair = [special, rename(network, **apart)]
    steps = [f"{part} is {format_slot(group) if group else 1}" for part, group in parts.items()]
    for part in kept:
        _into(pair, 1, apart[part], parts[part], [])
    one, two, more = align(*pair)
    return one, two, (*steps, *more)


def _apart(special: Network, general: Network) -> tuple[Slot, Slot]:
    """Return the sites that only the one has, and those that only the other has."""
    own = tuple(site for site in special.sites if site not in general.sites)
    return own, tuple(site for site in general.sites if site not in special.sites)


def _sites(pair: list[Network], steps: list[str]) -> None:
    one, two = _apart(*pair)
    if not one and not two:
        return
    if len(one) == 1 and two:
        _into(pair, 0, one[0], two, steps)
    elif len(two) == 1 and one:
        _into(pair, 1, two[0], one, steps)
    else:
        what = f"{pair[0].target} and {pair[1].target} have different sites"
        only = [
            f"the {nth} has {' '.join(sites)}, which the {other} has not"
            for nth, other, sites in (("first", "second", one), ("second", "first", two))
            if sites
        ]
        advice = f"{'; '.join(only)[:1].upper()}{'; '.join(only)[1:]}: split or restrict one."
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
