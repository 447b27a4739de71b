"""Two families as one: sums and products of their networks, with starts, frozen cores and scale.

What goes with the networks, as of :mod:`tenslora.family.operators`:

- in a product the first family keeps its zeros and the trained zeros of the second start as
  ``kaiming``, so that one core of each term is zero; ``init=`` says otherwise.
- the scale of a sum is that of the first; where the second has more or less of it, as in
  ``f + 2 * g``, a frozen constant core of its terms says how much. Two ratios want one rank:
  ``share=["r"]``.
- constants of a product are multiplied; two ratios of one kind (``alpha/r`` and ``alpha/s``) leave
  the first, one alpha for the product as in LoHa.
- ``scale=`` says otherwise, and has to where the rules are of different kinds.
- a start from the weights stays in a sum with a family that has none, and in no product.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tenslora.algebra import compose as binary
from tenslora.errors import FamilyError
from tenslora.family.carrying import of_product, of_sum
from tenslora.family.family import Family, family
from tenslora.family.registry import resolve
from tenslora.family.scale import Scale
from tenslora.family.summing import common_scale, scales_differ, weighted
from tenslora.init import InitRule
from tenslora.spec import Network

__all__ = ["add", "compose", "hadamard", "kron"]

_KAIMING = InitRule("kaiming", 5.0**0.5)

#: A family, its name, or an equation.
Like = str | Family


def add(first: Like, second: Like, *, share: Collection[str] = (), **changes: Any) -> Family:
    """Return the family of sums: W = F + G. ``f + g`` is the same.

    Parameters
    ----------
    first, second : families over one target; the cores and bonds of the second get new names where
        the first has them already.
    share : cores that both have and that stay one array, and bonds that stay one rank.
    changes : ``init``, ``scale``, ``name`` and other settings of :func:`tenslora.family`. A scale
        that is given stands before the whole sum, in place of both.

    Raises
    ------
    SpecError
        E121 where the targets differ.
    FamilyError
        E310 where scales or dropouts differ, both have a start from the weights, or a shared core
        starts in two ways.

    Examples
    --------
    >>> from tenslora.families import lora
    >>> add(lora, lora, share=["r"]).equation  # doctest: +NORMALIZE_WHITESPACE
    'W[layer proj out in] = B[layer proj out r] A[layer proj r in]
     + B2[layer proj out r] A2[layer proj r in]'
    >>> two = "W[out in] = B[out r] A[r in]"
    >>> print(add(two, 2 * resolve(two)))
    family: W[out in] = B[out r] A[r in] + k[r2] B2[out r2] A2[r2 in]
      start B zeros, A kaiming, k const(2.0) (frozen), B2 zeros, A2 kaiming; scale constant
    """
    one, two = resolve(first), resolve(second)
    share = (share,) if isinstance(share, str) else share
    network = binary.add(one.network, two.network, share=share)
    cores, bonds = binary.shared_names(one.network, two.network, share)
    scale, more = changes.pop("scale", None), 1.0
    if not scale:
        other, _ = binary.apart(one.network, two.network, cores, bonds)
        names = dict(zip(two.network.bonds, other.bonds, strict=True))
        scale, more = common_scale(one, two, cores, names)
    extra: dict[str, InitRule] = {}
    if more != 1.0:
        network, extra = weighted(network, len(one.network.terms), more)
    if "start" not in changes:
        changes["start"] = of_sum(one, two, _cores(one, two, cores), cores)
    return _joined(one, two, network, cores, scale, "sum", bonds=bonds, constants=extra, **changes)


def hadamard(first: Like, second: Like, *, share: Collection[str] = (), **changes: Any) -> Family:
    """Return the family of elementwise products: W = F * G.

    Parameters and errors are those of :func:`add`.

    Examples
    --------
    >>> from tenslora.families import lora
    >>> loha = hadamard(lora, lora)
    >>> loha.equation  # doctest: +NORMALIZE_WHITESPACE
    'W[layer proj out in] = B[layer proj out r] A[layer proj r in]
     B2[layer proj out r2] A2[layer proj r2 in]'
    """
    one, two = resolve(first), resolve(second)
    network = binary.hadamard(one.network, two.network, share=share)
    return _multiplied(one, two, network, share, "elementwise product", **changes)


def kron(
    first: Like,
    second: Like,
    *,
    out: Sequence[str] | None = None,
    in_: Sequence[str] | None = None,
    share: Collection[str] = (),
    **changes: Any,
) -> Family:
    """Return the family of Kronecker products: ``W[site] = numpy.kron(F[site], G[site])``.

    ``out`` and ``in_`` name the parts of the output and the input; the other parameters and errors
    are those of :func:`add`.

    Examples
    --------
    >>> from tenslora.families import lora
    >>> dense = "W[layer proj out in] = C[layer proj out in]"
    >>> kron(dense, lora, out=("o1", "o2"), in_=("i1", "i2")).equation
    'W[layer proj (o1 o2) (i1 i2)] = C[layer proj o1 i1] B[layer proj o2 r] A[layer proj r i2]'
    """
    one, two = resolve(first), resolve(second)
    network = binary.kron(one.network, two.network, out=out, in_=in_, share=share)
    return _multiplied(one, two, network, share, "Kronecker product", **changes)


def compose(first: Like, second: Like, *, share: Collection[str] = (), **changes: Any) -> Family:
    """Return the family of matrix products: W = F @ G, ``first`` after ``second``; ``f @ g``.

    The bond ``mid`` where they meet is a rank. Parameters and errors are those of :func:`add`.

    Examples
    --------
    >>> from tenslora.families import lora
    >>> compose(lora, lora).bonds
    ('r', 'mid', 'r2')
    """
    one, two = resolve(first), resolve(second)
    network = binary.compose(one.network, two.network, share=share)
    return _multiplied(one, two, network, share, "product", **changes)


def _multiplied(
    one: Family,
    two: Family,
    network: Network,
    share: Collection[str],
    what: str,
    **changes: Any,
) -> Family:
    """Make the family of a product."""
    if "start" not in changes:
        of_product(one, two, what)
    scale = changes.pop("scale", None) or _product_scale(one, two)
    return _joined(one, _started(two, share), network, share, scale, what, **changes)


def _cores(one: Family, two: Family, share: Collection[str]) -> dict[str, str]:
    """Return the new names of the cores of the second."""
    return binary.apart(one.network, two.network, share)[1]


def _joined(
    one: Family,
    two: Family,
    network: Network,
    share: Collection[str],
    scale: Scale | str,
    what: str,
    *,
    bonds: Collection[str] = (),
    constants: Mapping[str, InitRule] | None = None,
    **changes: Any,
) -> Family:
    """Make the family of a sum or product: the second's cores and bonds under their new names."""
    other, cores = binary.apart(one.network, two.network, share, bonds)
    names = dict(zip(two.network.bonds, other.bonds, strict=True))
    _check_shared(one, two, share)
    if isinstance(scale, Scale) and scale.bond is not None and scale.bond not in network.bonds:
        text = f"the scale {scale} refers to a bond that has another name in {network}"
        raise FamilyError("E310", text, advice="Give scale=..., or rename the bond first.")
    init = {**{cores[c]: rule.renamed(cores) for c, rule in two.init.items()}, **one.init}
    lr = {**{cores[c]: rate for c, rate in two.lr.items()}, **one.lr}
    settings: dict[str, Any] = {
        "frozen": one.frozen | {cores[core] for core in two.frozen},
        "scale": scale,
        "lr": lr,
        "ranks": _ranks(one, two, names, network),
        "summary": f"{what} of {one.name} and {two.name}" if one.name and two.name else "",
        "starts_nonzero": one.starts_nonzero if what != "sum" else _any_start(one, two),
        **changes,
    }
    if "dropout" not in changes:
        settings["dropout"] = _common_dropout(one, two, what)
    fixed = constants or {}
    settings["frozen"] = frozenset(settings["frozen"]) | fixed.keys()
    init.update({**fixed, **(settings.pop("init", None) or {})})
    return family(network, init=init, **settings)


def _ranks(one: Family, two: Family, names: Mapping[str, str], network: Network) -> dict[str, int]:
    """Return the default ranks of both; one rank has one default."""
    found = dict(one.ranks)
    for bond, rank in ((names[b], r) for b, r in two.ranks.items()):
        if found.setdefault(bond, rank) != rank:
            what = f"the shared rank {bond} is {found[bond]} in {one.label} and {rank} in "
            advice = f"Give both one default, as in family({bond}={rank})."
            raise FamilyError("E310", f"{what}{two.label}", advice=advice)
    return {bond: rank for bond, rank in found.items() if bond in network.bonds}


def _any_start(one: Family, two: Family) -> bool:
    return one.starts_nonzero or two.starts_nonzero


def _check_shared(one: Family, two: Family, share: Collection[str]) -> None:
    for core in share:
        same = one.init[core] == two.init[core] and (core in one.frozen) == (core in two.frozen)
        same = same and one.lr.get(core, 1.0) == two.lr.get(core, 1.0)
        if not same:
            what = f"the shared core {core} is {_state(one, core)} in {one.label}"
            what += f" and {_state(two, core)} in {two.label}"
            raise FamilyError("E310", what, advice="Give both the same start before sharing it.")


def _state(one: Family, core: str) -> str:
    rate = f", lr {one.lr[core]}" if core in one.lr else ""
    return f"{one.init[core]}{', frozen' if core in one.frozen else ''}{rate}"


def _started(two: Family, share: Collection[str]) -> Family:
    """The second factor of a product, its trained zeros started as kaiming."""
    init = {
        core: _KAIMING
        if rule.kind == "zeros" and core not in two.frozen and core not in share
        else rule
        for core, rule in two.init.items()
    }
    return replace(two, init=init)


def _product_scale(one: Family, two: Family) -> Scale:
    first, second = one.scale, two.scale
    if "features" in (first.kind, second.kind):  # of a product, the input is another one
        scales_differ(one, two, "a product")
    if second.kind == "constant":
        return first.times(second.value)
    if first.kind == "constant":
        bonds = dict(zip(two.network.bonds, _apart_bonds(one, two), strict=True))
        return replace(second, bond=bonds[second.bond or ""]).times(first.value)
    if first.kind != second.kind:
        scales_differ(one, two, "a product")
    return first.times(second.value)


def _apart_bonds(one: Family, two: Family) -> tuple[str, ...]:
    return binary.apart(one.network, two.network)[0].bonds


def _common_dropout(one: Family, two: Family, what: str) -> Mapping[str, float]:
    if one.dropout and two.dropout and dict(one.dropout) != dict(two.dropout):
        text = f"{what} of dropouts {dict(one.dropout)} and {dict(two.dropout)}"
        raise FamilyError("E310", text, advice="Give dropout={'input': ...} for the result.")
    return one.dropout or two.dropout
