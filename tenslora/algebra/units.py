"""Frozen cores of ones whose ranks cannot be more than 1: the search goes without them."""

from __future__ import annotations

from tenslora.algebra.limits import Limits
from tenslora.algebra.modify import squeeze
from tenslora.algebra.witness import Definition, Witness
from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Slot, Term

__all__ = ["with_units", "without_units"]


def without_units(network: Network, limits: Limits) -> Network:
    """Return the network without its cores of ones that have a rank of 1 only.

    Such are the blocks of a family of circulant blocks at a block size of 1: each is a number, 1.
    """
    ones = limits.ones(network)
    most = limits.most(network, dict.fromkeys(network.target.indices, 2)) if ones else {}
    bonds = {bond for bond, size in most.items() if size == 1}
    gone = {name for name in ones if bonds.issuperset(network.cores[name].indices)}
    terms = tuple(
        Term(tuple(core for core in term.cores if core.name not in gone)) for term in network.terms
    )
    if not gone or not all(term.cores for term in terms):
        return network
    kept = {index for term in terms for core in term.cores for index in core.indices}
    held = [Core("ones", ((bond,),)) for bond in sorted(bonds & kept)]
    whole = tuple(
        Term((*term.cores, *(one for one in held if one.indices[0] in term.indices)))
        for term in terms
    )
    try:
        return squeeze(Network(network.target, whole), *sorted(bonds & kept))
    except SpecError:  # a core would have no index left, or an eye would make more of them 1
        return network


def with_units(witness: Witness, network: Network, small: Network) -> Witness:
    """Write a witness for ``small``, which is ``network`` without its units, as one for that."""
    known = {definition.core.name: definition for definition in witness.definitions}
    gone = set(network.indices).difference(small.indices)
    found = []
    for name, core in network.cores.items():
        if name in known:
            slots = iter(known[name].core.slots)
            header = tuple(() if gone.issuperset(slot) else next(slots) for slot in core.slots)
            found.append(Definition(Core(name, header), known[name].terms))
        else:
            units: tuple[Slot, ...] = ((),) * len(core.slots)
            found.append(Definition(Core(name, units), (Term((Core("ones", ()),)),)))
    return Witness(tuple(found))
