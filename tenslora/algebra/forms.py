"""The normal form of a network: the same for all networks that differ in names and order alone.

Names of bonds, names of cores, the order of terms and cores, and the order of the slots of a core
say nothing about the set of W. Cores, slots and bonds are told apart by colour refinement, as in
:mod:`tenslora.spec.canonical`, which keeps the names of cores and the order of their slots.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tenslora.algebra.edit import frozen_cores
from tenslora.spec import Core, Network, Term

__all__ = ["normal_form", "same"]

_MAX_LEAVES = 512  # as in spec.canonical: ties that are no symmetry are rare

#: What is coloured: ("bond", name), ("core", name) or ("slot", core, place).
_Node = tuple[str, ...]
_Colours = dict[_Node, int]


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
    leaves: list[Network] = []
    _search(network, _refine(network, colours), leaves)
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


def _search(network: Network, colours: _Colours, leaves: list[Network]) -> None:
    classes: dict[tuple[str, int], list[_Node]] = {}
    for node, colour in colours.items():
        kind = f"slot {node[1]}" if node[0] == "slot" else node[0]
        classes.setdefault((kind, colour), []).append(node)
    tied = [members for members in classes.values() if len(members) > 1]
    if not tied:
        leaves.append(_write(network, colours))
        return
    first = min(tied, key=lambda members: (members[0][0], colours[members[0]]))
    for chosen in first:
        held = set(first)
        split = {n: 2 * c + (n in held and n != chosen) for n, c in colours.items()}
        _search(network, _refine(network, split), leaves)
        if len(leaves) >= _MAX_LEAVES:
            return


def _refine(network: Network, colours: _Colours) -> _Colours:
    while True:
        seen: dict[_Node, list[object]] = {node: [] for node in colours}
        for term in network.terms:
            whole = tuple(sorted(_key(core, colours) for core in term.cores))
            for core in term.cores:
                key = _key(core, colours)
                if not core.is_constant:
                    seen["core", core.name].append((key, whole))
                for s, slot in enumerate(core.slots):
                    place = 0 if core.is_constant else 1 + colours["slot", core.name, str(s)]
                    content = tuple(_index(i, colours) for i in slot)
                    if not core.is_constant:
                        seen["slot", core.name, str(s)].append((content, key, whole))
                    for p, index in enumerate(slot):
                        if ("bond", index) in seen:
                            seen["bond", index].append((place, p, content, key, whole))
        keys = {n: (n[0], colours[n], tuple(sorted(map(repr, seen[n])))) for n in colours}
        ranks = {key: n for n, key in enumerate(sorted(set(keys.values())))}
        finer = {node: ranks[key] for node, key in keys.items()}
        if len(set(finer.values())) == len({(n[0], c) for n, c in colours.items()}):
            return finer
        colours = finer


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


def _write(network: Network, colours: _Colours) -> Network:
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
    return Network(
        network.target,
        tuple(
            Term(
                tuple(
                    Core(c.name, tuple(tuple(bonds.get(i, i) for i in s) for s in c.slots))
                    for c in term.cores
                )
            )
            for term in terms
        ),
    )


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
