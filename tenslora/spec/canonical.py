"""One fixed way to write a network: bonds renamed, cores and terms ordered.

Bonds are told apart by colour refinement (Weisfeiler and Leman): a bond's colour is made of the
cores and slots that it stands in and of the colours around it. Where colours tie, each tied bond is
tried in turn and the smallest text is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from tenslora.spec.index import Core, Slot, Term
from tenslora.spec.network import Network

__all__ = ["canonical"]

_MAX_LEAVES = 512  # tied bonds that are no symmetry are rare; beyond this the first is taken

_Key = tuple[object, ...]


def canonical(network: Network) -> Network:
    """Return the canonical form of ``network``; see :meth:`Network.canonical`.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> one = canonical(parse("W[out in] = B[out r] A[r in]"))
    >>> print(one)
    W[out in] = A[b0 in] B[out b0]
    >>> one == canonical(parse("W[out in] = A[rank in] B[out rank]"))
    True
    """
    colours = dict.fromkeys(network.bonds, 0)
    leaves: list[Network] = []
    _search(network, _refine(network, colours), leaves)
    return min(leaves, key=str)


def _search(network: Network, colours: dict[str, int], leaves: list[Network]) -> None:
    classes: dict[int, list[str]] = {}
    for bond, colour in colours.items():
        classes.setdefault(colour, []).append(bond)
    tied = [members for _, members in sorted(classes.items()) if len(members) > 1]
    if not tied:
        leaves.append(_write(network, colours))
        return
    for bond in tied[0]:
        split = {b: 2 * c + (b != bond and c == colours[bond]) for b, c in colours.items()}
        _search(network, _refine(network, split), leaves)
        if len(leaves) >= _MAX_LEAVES:
            return


def _refine(network: Network, colours: dict[str, int]) -> dict[str, int]:
    while True:
        seen: dict[str, list[_Key]] = {bond: [] for bond in colours}
        for term in network.terms:
            whole = tuple(sorted(_core_key(core, colours) for core in term.cores))
            for core in term.cores:
                key = _core_key(core, colours)
                for s, slot in enumerate(core.slots):
                    for p, index in enumerate(slot):
                        if index in seen:
                            seen[index].append((key, 0 if core.is_constant else s, p, whole))
        keys = {bond: (colours[bond], tuple(sorted(seen[bond]))) for bond in colours}
        ranks = {key: n for n, key in enumerate(sorted(set(keys.values())))}
        finer = {bond: ranks[key] for bond, key in keys.items()}
        if len(set(finer.values())) == len(set(colours.values())):
            return finer
        colours = finer


def _slot_key(slot: Slot, colours: Mapping[str, int]) -> _Key:
    return tuple((1, "", colours[i]) if i in colours else (0, i, 0) for i in slot)


def _core_key(core: Core, colours: Mapping[str, int]) -> _Key:
    slots = [_slot_key(slot, colours) for slot in core.slots]
    if core.is_constant:  # eye and ones do not know the order of their slots
        slots.sort()
    return (core.name, tuple(slots))


def _write(network: Network, colours: Mapping[str, int]) -> Network:
    taken, names, n = set(network.target.indices), {}, 0
    terms = []
    for term in network.terms:
        cores = [
            Core(c.name, tuple(sorted(c.slots, key=lambda s: _slot_key(s, colours))))
            if c.is_constant
            else c
            for c in term.cores
        ]
        cores.sort(key=lambda c: _core_key(c, colours))
        terms.append(Term(tuple(cores)))
    terms.sort(key=lambda t: tuple(_core_key(c, colours) for c in t.cores))
    for bond in (i for term in terms for i in term.indices if i in colours):
        if bond not in names:
            while f"b{n}" in taken:
                n += 1
            names[bond], n = f"b{n}", n + 1
    return Network(
        network.target, tuple(Term(tuple(_rename(c, names) for c in t.cores)) for t in terms)
    )


def _rename(core: Core, names: Mapping[str, str]) -> Core:
    return Core(core.name, tuple(tuple(names.get(i, i) for i in slot) for slot in core.slots))
