"""The normal form of a network: the same for all networks that differ in names and order alone.

Names of bonds, names of cores, the order of terms and cores, and the order of the slots of a core
say nothing about the set of W. Cores, slots and bonds are told apart by colour refinement, as in
:mod:`tenslora.spec.canonical`, which keeps the names of cores and the order of their slots.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tenslora.algebra.edit import frozen_cores, map_terms, renamed
from tenslora.spec import Core, Network, Term

__all__ = ["normal_form", "same"]

_MAX_LEAVES = 512  # as in spec.canonical: ties that are no symmetry are rare

#: What is coloured: ("bond", name), ("core", name) or ("slot", core, place).
_Node = tuple[str, ...]
_Colours = dict[_Node, int]
#: What a node is in the written network.
_Labels = dict[_Node, tuple[object, ...]]


def normal_form(network: Network, frozen: Collection[str] = ()) -> Network:
    """Return the network with cores, slots and bonds named and ordered in one fixed way.

    Parameters
    ----------
    network : the equation.
    frozen : its frozen cores, which are told apart from trained ones.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> str(normal_form(parse("W[out in] = B[out r] A[r in]")))
    'W[out in] = C0[in b0] C1[out b0]'
    >>> str(normal_form(parse("W[out in] = U[in s] V[s out]")))
    'W[out in] = C0[in b0] C1[out b0]'
    """
    frozen = frozen_cores(network, frozen)
    colours: _Colours = {("bond", bond): 0 for bond in network.bonds}
    for name, core in network.cores.items():
        colours["core", name] = 1 if name in frozen else 0
        colours.update({("slot", name, str(n)): 0 for n in range(len(core.slots))})
    leaves: dict[Network, _Labels] = {}
    _search(network, _refine(network, colours), (), leaves, [])
    return min(leaves, key=str)


def same(first: Network, second: Network) -> bool:
    """Whether two networks differ in names of bonds and cores, and in order, alone.

    >>> from tenslora.spec import parse
    >>> same(parse("W[out in] = B[out r] A[r in]"), parse("W[out in] = U[in s] V[s out]"))
    True
    """
    return normal_form(first).terms == normal_form(second).terms and (
        first.target.slots == second.target.slots
    )


def _search(
    network: Network,
    colours: _Colours,
    path: tuple[_Node, ...],
    leaves: dict[Network, _Labels],
    symmetries: list[dict[_Node, _Node]],
) -> None:
    """Tell tied nodes apart in every way that no known symmetry makes another (McKay 1981).

    Two ways that write one network give a symmetry. One that keeps the nodes of ``path`` makes the
    ways that follow from two of its nodes the same.
    """
    classes: dict[tuple[str, int], list[_Node]] = {}
    for node, colour in colours.items():
        kind = f"slot {node[1]}" if node[0] == "slot" else node[0]
        classes.setdefault((kind, colour), []).append(node)
    tied = [members for members in classes.values() if len(members) > 1]
    if not tied:
        written, labels = _write(network, colours)
        if written in leaves:
            nodes = {label: node for node, label in leaves[written].items()}
            symmetries.append({node: nodes[label] for node, label in labels.items()})
        leaves.setdefault(written, labels)
        return
    first = min(tied, key=lambda members: (members[0][0], colours[members[0]]))
    done: set[_Node] = set()
    for chosen in first:
        if done & _orbit(chosen, path, symmetries):
            continue
        done.add(chosen)
        held = set(first)
        split = {n: 2 * c + (n in held and n != chosen) for n, c in colours.items()}
        _search(network, _refine(network, split), (*path, chosen), leaves, symmetries)
        if len(leaves) + len(symmetries) >= _MAX_LEAVES:
            return


def _orbit(
    node: _Node, path: tuple[_Node, ...], symmetries: list[dict[_Node, _Node]]
) -> set[_Node]:
    """Where the symmetries that keep every node of ``path`` can bring a node."""
    keeping = [one for one in symmetries if all(one[held] == held for held in path)]
    found, left = {node}, [node]
    while left:
        at = left.pop()
        for one in keeping:
            if one[at] not in found:
                found.add(one[at])
                left.append(one[at])
    return found


def _refine(network: Network, colours: _Colours) -> _Colours:
    while True:
        seen: dict[_Node, list[str]] = {node: [] for node in colours}
        for term in network.terms:
            keys = [_key(core, colours) for core in term.cores]
            whole = repr(tuple(sorted(keys)))
            for core, key in zip(term.cores, keys, strict=True):
                _see(core, f"{key!r}, {whole}", colours, seen)
        known = {n: (n[0], colours[n], tuple(sorted(seen[n]))) for n in colours}
        ranks = {key: n for n, key in enumerate(sorted(set(known.values())))}
        finer = {node: ranks[key] for node, key in known.items()}
        if len(set(finer.values())) == len({(n[0], c) for n, c in colours.items()}):
            return finer
        colours = finer


def _see(
    core: Core, around: str, colours: Mapping[_Node, int], seen: Mapping[_Node, list[str]]
) -> None:
    """Note for a core, its slots and its bonds what stands around them, as text."""
    if not core.is_constant:
        seen["core", core.name].append(f"({around})")
    for s, slot in enumerate(core.slots):
        place = 0 if core.is_constant else 1 + colours["slot", core.name, str(s)]
        content = tuple(_index(i, colours) for i in slot)
        if not core.is_constant:
            seen["slot", core.name, str(s)].append(f"({content!r}, {around})")
        for p, index in enumerate(slot):
            if ("bond", index) in seen:
                seen["bond", index].append(f"({place}, {p}, {content!r}, {around})")


def _index(index: str, colours: Mapping[_Node, int]) -> tuple[int, str, int]:
    node = ("bond", index)
    return (1, "", colours[node]) if node in colours else (0, index, 0)


def _key(core: Core, colours: Mapping[_Node, int]) -> tuple[object, ...]:
    if core.is_constant:
        return (
            core.name,
            0,
            tuple(sorted(tuple(_index(i, colours) for i in s) for s in core.slots)),
        )
    slots = (
        (colours["slot", core.name, str(n)], tuple(_index(i, colours) for i in slot))
        for n, slot in enumerate(core.slots)
    )
    return ("", colours["core", core.name], tuple(sorted(slots)))


def _write(network: Network, colours: _Colours) -> tuple[Network, _Labels]:
    order = {
        name: sorted(range(len(core.slots)), key=lambda n: colours["slot", name, str(n)])
        for name, core in network.cores.items()
    }
    ranked = sorted(network.cores, key=lambda name: colours["core", name])
    names = dict(zip(ranked, _numbered("C", {network.target.name}), strict=False))
    terms = []
    for term in network.terms:
        cores = sorted(term.cores, key=lambda core: _key(core, colours))
        terms.append(Term(tuple(_ordered(core, order, names, colours) for core in cores)))
    terms.sort(key=lambda term: [_plain(core, colours) for core in term.cores])
    found = dict.fromkeys(i for t in terms for i in t.indices if ("bond", i) in colours)
    bonds = dict(zip(found, _numbered("b", set(network.target.indices)), strict=False))
    labels: _Labels = {("bond", old): ("bond", new) for old, new in bonds.items()}
    for name, places in order.items():
        labels["core", name] = ("core", names[name])
        labels.update({("slot", name, str(n)): (names[name], at) for at, n in enumerate(places)})
    written = map_terms(terms, lambda core: renamed(core, {}, bonds))
    return Network(network.target, written), labels


def _plain(core: Core, colours: Mapping[_Node, int]) -> tuple[object, ...]:
    return (core.name, tuple(tuple(_index(i, colours) for i in slot) for slot in core.slots))


def _ordered(
    core: Core, order: Mapping[str, list[int]], names: Mapping[str, str], colours: _Colours
) -> Core:
    if core.is_constant:
        ranked = sorted(core.slots, key=lambda slot: [_index(i, colours) for i in slot])
        return Core(core.name, tuple(ranked))
    return Core(names[core.name], tuple(core.slots[n] for n in order[core.name]))


def _numbered(stem: str, taken: set[str]) -> list[str]:
    return [f"{stem}{n}" for n in range(600) if f"{stem}{n}" not in taken]
