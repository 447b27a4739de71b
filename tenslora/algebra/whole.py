"""A sum of products as one core: in a network that holds every array, it is held whole."""

from __future__ import annotations

from collections.abc import Iterator

from tenslora.algebra.witness import Definition, Witness
from tenslora.spec import Core, Network, Term

__all__ = ["as_one_core", "filled"]


def as_one_core(network: Network) -> Network:
    """Return the full tensor over the target of a network, its core named as no core of that one.

    >>> from tenslora.spec import parse
    >>> str(as_one_core(parse("W[out in] = T[out r] A[r in] + d[out] b[in]")))
    'W[out in] = T_[out in]'
    """
    name = "T"
    while name in network.cores or name == network.target.name:
        name += "_"
    core = Core(name, tuple((index,) for index in network.target.indices))
    return Network(network.target, (Term((core,)),))


def filled(witness: Witness, network: Network) -> Witness:
    """Write the terms of ``network`` for the one core of :func:`as_one_core` in a witness.

    >>> from tenslora.algebra.witness import parse_witness
    >>> from tenslora.spec import parse
    >>> two = parse("W[out in] = A[out r] B[r in] + d[out] b[in]")
    >>> print(filled(parse_witness("B[out r] = eye[out r]; A[r in] = T[r in]"), two))
    B[out r] = eye[out r]
    A[r in] = A[r r_] B[r_ in] + d[r] b[in]
    """
    whole = as_one_core(network).terms[0].cores[0]
    return Witness(
        tuple(
            Definition(
                d.core, tuple(t for term in d.terms for t in _terms(d, term, whole, network))
            )
            for d in witness.definitions
        )
    )


def _terms(definition: Definition, term: Term, whole: Core, network: Network) -> Iterator[Term]:
    at = next((n for n, core in enumerate(term.cores) if core.name == whole.name), None)
    if at is None:
        yield term
        return
    known = {*definition.core.indices, *term.indices}
    names = dict(zip(whole.indices, term.cores[at].indices, strict=True))
    for bond in network.bonds:
        names[bond] = bond
        while names[bond] in known:
            names[bond] += "_"
        known.add(names[bond])
    for part in network.terms:
        cores = [
            Core(c.name, tuple(tuple(names[i] for i in slot) for slot in c.slots))
            for c in part.cores
        ]
        tied = [names[i] for i in whole.indices if i not in part.indices]
        cores += [Core("ones", tuple((name,) for name in tied))] if tied else []
        yield Term((*term.cores[:at], *cores, *term.cores[at + 1 :]))
