"""The scale of a sum: one factor before both terms, and a frozen constant where one has more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NoReturn

from tenslora.algebra.edit import fresh
from tenslora.errors import FamilyError
from tenslora.family.family import Family
from tenslora.family.scale import Scale
from tenslora.init import InitRule
from tenslora.spec import Core, Network, Term

__all__ = ["common_scale", "scales_differ", "weighted"]


def common_scale(
    one: Family, two: Family, share: Collection[str], bonds: Mapping[str, str]
) -> tuple[Scale, float]:
    """Return the scale of a sum, and how much more the second family has of it.

    Parameters
    ----------
    one, two : the families.
    share : cores that are one array in the sum.
    bonds : the names that the bonds of the second have in the sum.

    Raises
    ------
    FamilyError
        E310 for rules of different kinds, and for ratios over two ranks.
    """
    first, second = one.scale, two.scale
    if first.kind != second.kind:
        scales_differ(one, two, "a sum")
    if first.bond is not None and second.bond is not None:
        same = bonds[second.bond] == first.bond
        if not same and (first.bond, second.bond) not in _one_size(one.network, two.network, share):
            _ranks_differ(one, two)
    return first, second.value / first.value


def _one_size(first: Network, second: Network, share: Collection[str]) -> set[tuple[str, str]]:
    """Pairs of indices that have one size, since they are one slot of a shared core."""
    pairs = (
        pair
        for core in share
        for pair in zip(first.cores[core].slots, second.cores[core].slots, strict=True)
    )
    return {(a[0], b[0]) for a, b in pairs if len(a) == len(b) == 1}


def _ranks_differ(one: Family, two: Family) -> NoReturn:
    first, second = one.scale, two.scale
    what = f"a sum of {one.label}, scaled by {first}, and {two.label}, by {second}"
    what += ", over two ranks of their own"
    shared = f"tl.add(..., share=[{first.bond!r}]) makes them one rank"
    if first.bond != second.bond:
        shared = f"Rename {second.bond!r} to {first.bond!r}; then {shared}"
    advice = f"{shared}. Or say scale='{first}', one factor for both terms."
    raise FamilyError("E310", what, advice=advice)


def scales_differ(one: Family, two: Family, what: str) -> NoReturn:
    """Raise E310 for two scales that do not go together."""
    text = f"{what} of {one.label}, scaled by {one.scale}, and {two.label}, by {two.scale}"
    advice = "Say which one scale the result has: scale='constant', or 'alpha/r' with r a bond"
    raise FamilyError("E310", text, advice=f"{advice} of the result; their own scales go.")


def weighted(network: Network, count: int, factor: float) -> tuple[Network, dict[str, InitRule]]:
    """Give all terms but the first ``count`` a factor: a constant core on one bond of each.

    A term without a bond has it on the first output index.

    Returns
    -------
    tuple
        The network, and the start of each new core, which has to be frozen.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> two = parse("W[out in] = B[out r] A[r in] + C[out s] D[s in]")
    >>> after, init = weighted(two, 1, 0.5)
    >>> str(after), str(init["k"])
    ('W[out in] = B[out r] A[r in] + k[s] C[out s] D[s in]', 'const(0.5)')
    """
    taken, names = {network.target.name, *network.cores}, dict[str, str]()
    terms = list(network.terms[:count])
    for term in network.terms[count:]:
        index = next((i for i in term.indices if i in network.bonds), network.output[0])
        name = names.get(index) or fresh("k", set(taken), taken)
        names[index] = name
        terms.append(Term((Core(name, ((index,),)), *term.cores)))
    rule = InitRule("const", factor)
    return Network(network.target, tuple(terms)), dict.fromkeys(names.values(), rule)
