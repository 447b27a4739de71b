"""Operators on one network: names, transposition, sites shared or not, indices split and joined."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from tenslora.algebra.constants import substitute
from tenslora.algebra.edit import check_name, map_network, map_terms, renamed, units_with, unknown
from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Slot, format_slot

__all__ = ["join", "rename", "restrict", "split", "squeeze", "tie", "transpose", "untie"]


def rename(network: Network, **names: str) -> Network:
    """Give cores and indices other names.

    Raises
    ------
    SpecError
        E120 for a name that the network does not have, or one that is taken, reserved or no name.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> str(rename(parse("W[out in] = B[out r] A[r in]"), B="U", r="s"))
    'W[out in] = U[out s] A[s in]'
    """
    known = {network.target.name, *network.cores, *network.indices}
    for old in names:
        if old not in known:
            raise unknown(network, old, "core or index", known)
        check_name(names[old], f"{old} of {network}")
    for kind in ({network.target.name, *network.cores}, set(network.indices)):
        after = [names.get(name, name) for name in kind]
        twice = [name for name in after if after.count(name) > 1]
        if twice:
            what = f"{twice[0]!r} would stand for two things in {network}"
            raise SpecError("E120", what, advice="Choose a name that is not taken.")
    return map_network(network, lambda core: renamed(core, names, names))


def transpose(network: Network) -> Network:
    """Return the transposed: ``W[site] = F[site].T``.

    An output that is called ``in`` is then called ``out``, and the other way round.

    >>> from tenslora.spec import parse
    >>> str(transpose(parse("W[layer out in] = B[layer out r] A[r in]")))
    'W[layer out in] = B[layer in r] A[r out]'
    """
    names = {"in": "out", "out": "in"}
    if not any(i in network.features for i in names) or any(
        i in network.indices and i not in network.features for i in names
    ):
        names = {}
    slots = (*network.target.slots[:-2], network.input, network.output)
    swapped = Network(Core(network.target.name, slots), network.terms)
    return map_network(swapped, lambda core: renamed(core, {}, names))


def tie(network: Network, site: str, cores: Iterable[str] | None = None) -> Network:
    """Drop a site index from every core, or from the named ones: they are shared over it.

    Raises
    ------
    SpecError
        E120 for an unknown site or core, E123 for a core that has no other index.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> lora = parse("W[layer out in] = B[layer out r] A[layer r in]")
    >>> str(tie(lora, "layer", ["A"]))
    'W[layer out in] = B[layer out r] A[r in]'
    """
    chosen = _chosen(network, site, cores)

    def tied(core: Core) -> Core | None:
        if core.name not in chosen or site not in core.indices:
            return core
        return _without(core, {site}, network)

    _check_places(network, lambda core: [[i == site for i in slot] for slot in core.slots])
    return Network(network.target, map_terms(network.terms, tied))


def untie(network: Network, site: str, cores: Iterable[str] | None = None) -> Network:
    """Give a site index to every core that lacks it, or to the named ones: one for each value.

    Raises
    ------
    SpecError
        E120 for an unknown site or core.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> str(untie(parse("W[layer proj out in] = B[proj out r] A[r in]"), "layer"))
    'W[layer proj out in] = B[layer proj out r] A[layer r in]'
    """
    chosen = _chosen(network, site, cores)
    before = set(network.sites[: network.sites.index(site)])

    def untied(core: Core) -> Core:
        if core.name not in chosen or site in core.indices:
            return core
        at = place(core) if place(core) >= 0 else len(core.slots)
        return Core(core.name, (*core.slots[:at], (site,), *core.slots[at:]))

    def place(core: Core) -> int:
        return next((n for n, s in enumerate(core.slots) if not before.issuperset(s)), -1)

    _check_places(network, lambda core: None if site in core.indices else place(core))
    return Network(network.target, map_terms(network.terms, untied))


def split(network: Network, index: str, *parts: str) -> Network:
    """Write an index as several: a feature as a group, a site as sites, a bond as a group.

    The arrays stay as they are: a slot of a core becomes a group, the first part slowest.

    Raises
    ------
    SpecError
        E120 for an unknown index or a name that is taken, E122 for fewer than two parts.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> str(split(parse("W[out in] = B[out r] A[r in]"), "out", "head", "head_dim"))
    'W[(head head_dim) in] = B[(head head_dim) r] A[r in]'
    """
    if index not in network.indices:
        raise unknown(network, index, "index", network.indices)
    if len(set(parts)) < max(2, len(parts)):
        what = f"{index!r} is split into {', '.join(parts) or 'nothing'}"
        raise SpecError("E122", what, advice="Name two or more parts, each of its own.")
    for part in parts:
        check_name(part, f"a part of {index} of {network}")
        if part in network.indices and part != index:
            what = f"{part!r} is an index of {network} already"
            raise SpecError("E120", what, advice="Choose a name that is not taken.")
    target = substitute(network.target, index, tuple(parts))
    if index in network.sites:
        slots = (
            one
            for slot in network.target.slots
            for one in ([(part,) for part in parts] if slot == (index,) else [slot])
        )
        target = Core(network.target.name, tuple(slots))
    return Network(target, map_terms(network.terms, lambda c: substitute(c, index, tuple(parts))))


def join(network: Network, *parts: str, into: str) -> Network:
    """Write several indices as one, where every core has them as a group: the inverse of split.

    Sites have to follow each other in the target, and stand as a group in the cores.

    Raises
    ------
    SpecError
        E120 for an unknown index or a name that is taken, E122 where they stand in another order or
        apart, or are fewer than two.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[(head head_dim) in] = B[(head head_dim) r] A[r in]")
    >>> str(join(n, "head", "head_dim", into="out"))
    'W[out in] = B[out r] A[r in]'
    """
    if len(set(parts)) < max(2, len(parts)):
        what = f"{', '.join(parts) or 'nothing'} of {network} would be joined into {into!r}"
        raise SpecError("E122", what, advice="Name two or more indices, each once.")
    for part in parts:
        if part not in network.indices:
            raise unknown(network, part, "index", network.indices)
    check_name(into, f"{' '.join(parts)} of {network}")
    if into in network.indices and into not in parts:
        what = f"{into!r} is an index of {network} already"
        raise SpecError("E120", what, advice="Choose a name that is not taken.")
    target = network.target
    if all(part in network.sites for part in parts):
        at = network.sites.index(parts[0]) if parts else 0
        if network.sites[at : at + len(parts)] == parts:
            slots = (*target.slots[:at], tuple(parts), *target.slots[at + len(parts) :])
            target = Core(target.name, slots)

    def joined(core: Core) -> Core:
        return Core(core.name, tuple(_join(core, slot, parts, into) for slot in core.slots))

    return Network(joined(target), map_terms(network.terms, joined))


def restrict(network: Network, *sites: str) -> Network:
    """Take one value of each of these sites: they go from the target and from every core.

    Raises
    ------
    SpecError
        E120 for an unknown site, E123 for a core that has no other index.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> str(restrict(parse("W[layer proj out in] = B[layer proj out r] A[proj r in]"), "proj"))
    'W[layer out in] = B[layer out r] A[r in]'
    """
    for site in sites:
        if site not in network.sites:
            raise unknown(network, site, "site", network.sites)
        for core in (core for term in network.terms for core in term.cores):
            if core.name == "eye" and site in core.indices:
                what = f"{core} ties {site!r} to other indices"
                raise SpecError("E123", what, advice="Take it out by tenslora.algebra first.")
    return squeeze(network, *sites)


def squeeze(network: Network, *indices: str) -> Network:
    """Take away indices of size 1: sites, bonds, or parts of a feature.

    Raises
    ------
    SpecError
        E120 for an unknown index, E123 where a core or a side of the target would have no index, or
        where an ``eye`` makes an index that stays 1 as well.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> lokr = parse("W[layer (o1 o2) (i1 i2)] = C[layer o1 i1] B[layer o2 r] A[layer r i2]")
    >>> str(squeeze(lokr, "o1", "i1"))
    'W[layer o2 i2] = C[layer] B[layer o2 r] A[layer r i2]'
    """
    for index in indices:
        if index not in network.indices:
            raise unknown(network, index, "index", network.indices)
    gone = set(indices)
    for side, slot in (("output", network.output), ("input", network.input)):
        if gone.issuperset(slot):
            what = f"the {side} of {network} would have no index left"
            raise SpecError("E123", what, advice=f"Keep one of {' '.join(slot)}.")
    if more := sorted(units_with(network, gone) - gone):
        what = f"an eye of {network} makes {' '.join(more)} 1 as well as {' '.join(sorted(gone))}"
        raise SpecError("E123", what, advice=f"Take {' '.join(more)} away too.")
    _check_places(network, lambda core: [[i in gone for i in slot] for slot in core.slots])
    slots = tuple(tuple(i for i in slot if i not in gone) for slot in network.target.slots)
    target = Core(network.target.name, tuple(slot for slot in slots if slot))
    return Network(target, map_terms(network.terms, lambda core: _without(core, gone, network)))


def _chosen(network: Network, site: str, cores: Iterable[str] | None) -> set[str]:
    if site not in network.sites:
        raise unknown(network, site, "site", network.sites)
    if cores is not None and not isinstance(cores, Iterable):
        raise unknown(network, cores, "core", network.cores)
    chosen = [cores] if isinstance(cores, str) else list(network.cores if cores is None else cores)
    for name in chosen:
        if name not in network.cores:
            raise unknown(network, name, "core", network.cores)
    return set(chosen)


def _check_places(network: Network, change: Callable[[Core], object]) -> None:
    """Refuse what would change an array in one of the places where it stands and not in another."""
    first: dict[str, Core] = {}
    for core in (core for term in network.terms for core in term.cores if not core.is_constant):
        known = first.setdefault(core.name, core)
        if change(known) != change(core):
            what = f"{known} and {core} in {network} are one array, and would change differently"
            raise SpecError("E123", what, advice="Give the core a name of its own in each place.")


def _without(core: Core, gone: Collection[str], network: Network) -> Core | None:
    slots = tuple(tuple(i for i in slot if i not in gone) for slot in core.slots)
    left = tuple(slot for slot in slots if slot)
    if left == core.slots:
        return core
    if core.is_constant and not left:
        return None
    if not left:
        what = f"{core} of {network} would have no index left"
        raise SpecError("E123", what, advice="Keep one of its indices, or take the core out.")
    return Core(core.name, left)


def _join(core: Core, slot: Slot, parts: Slot, into: str) -> Slot:
    if not set(parts) & set(slot):
        return slot
    at = slot.index(parts[0]) if parts[0] in slot else 0
    if slot[at : at + len(parts)] != tuple(parts):
        what = f"{format_slot(slot)} in {core} does not hold {' '.join(parts)} side by side"
        raise SpecError("E122", what, advice="Only a group that every core has can be joined.")
    return (*slot[:at], into, *slot[at + len(parts) :])
