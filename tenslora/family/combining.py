"""Two families as one: sums and products of their networks, with starts, frozen cores and scale.

What goes with the networks, as of :mod:`tenslora.family.operators`:

- in a product the first family keeps its zeros and the trained zeros of the second start as
  ``kaiming``, so that one core of each term is zero; ``init=`` says otherwise.
- the scale of a sum is that of both; constants of a product are multiplied; two ratios of one kind
  (``alpha/r`` and ``alpha/s``) leave the first, one alpha for the product as in LoHa. ``scale=``
  says otherwise, and has to where the rules are of different kinds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tenslora.algebra import compose as binary
from tenslora.errors import FamilyError
from tenslora.family.family import Family, family
from tenslora.family.registry import resolve
from tenslora.family.scale import Scale
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
    first, second : families over one target; the cores of the second get new names where the first
        has them already.
    share : cores that both have and that stay one array.
    changes : ``init``, ``scale``, ``name`` and other settings of :func:`tenslora.family`.

    Raises
    ------
    SpecError
        E121 where the targets differ.
    FamilyError
        E310 where scales or dropouts differ, or a shared core starts in two ways.

    Examples
    --------
    >>> from tenslora.families import lora
    >>> add(lora, lora).equation  # doctest: +NORMALIZE_WHITESPACE
    'W[layer proj out in] = B[layer proj out r] A[layer proj r in]
     + B2[layer proj out r2] A2[layer proj r2 in]'
    """
    one, two = resolve(first), resolve(second)
    network = binary.add(one.network, two.network, share=share)
    scale = changes.pop("scale", None) or _common_scale(one, two, "a sum")
    return _joined(one, two, network, share, scale, "sum", **changes)


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
    scale = changes.pop("scale", None) or _product_scale(one, two)
    return _joined(
        one, _started(two, share), network, share, scale, "elementwise product", **changes
    )


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
    scale = changes.pop("scale", None) or _product_scale(one, two)
    return _joined(one, _started(two, share), network, share, scale, "Kronecker product", **changes)


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
    scale = changes.pop("scale", None) or _product_scale(one, two)
    return _joined(one, _started(two, share), network, share, scale, "product", **changes)


def _joined(
    one: Family,
    two: Family,
    network: Network,
    share: Collection[str],
    scale: Scale | str,
    what: str,
    **changes: Any,
) -> Family:
    """Make the family of a sum or product: the second's cores and bonds under their new names."""
    other, cores = binary.apart(one.network, two.network, share)
    bonds = dict(zip(two.network.bonds, other.bonds, strict=True))
    _check_shared(one, two, share)
    if isinstance(scale, Scale) and scale.bond is not None and scale.bond not in network.bonds:
        text = f"the scale {scale} refers to a bond that has another name in {network}"
        raise FamilyError("E310", text, advice="Give scale=..., or rename the bond first.")
    init = {**{cores[c]: rule.renamed(cores) for c, rule in two.init.items()}, **one.init}
    lr = {**{cores[c]: rate for c, rate in two.lr.items()}, **one.lr}
    settings: dict[str, Any] = {
        "frozen": one.frozen | {cores[core] for core in two.frozen},
        "scale": scale,
        "dropout": _common_dropout(one, two, what),
        "lr": lr,
        "ranks": {
            bond: rank
            for bond, rank in {**{bonds[b]: r for b, r in two.ranks.items()}, **one.ranks}.items()
            if bond in network.bonds
        },
        "summary": f"{what} of {one.name} and {two.name}" if one.name and two.name else "",
        "starts_nonzero": one.starts_nonzero if what != "sum" else _any_start(one, two),
        **changes,
    }
    init.update(settings.pop("init", None) or {})
    return family(network, init=init, **settings)


def _any_start(one: Family, two: Family) -> bool:
    return one.starts_nonzero or two.starts_nonzero


def _check_shared(one: Family, two: Family, share: Collection[str]) -> None:
    for core in share:
        same = one.init[core] == two.init[core] and (core in one.frozen) == (core in two.frozen)
        if not same:
            what = f"the shared core {core} is {_state(one, core)} in {one.label}"
            what += f" and {_state(two, core)} in {two.label}"
            raise FamilyError("E310", what, advice="Give both the same start before sharing it.")


def _state(one: Family, core: str) -> str:
    return f"{one.init[core]}{', frozen' if core in one.frozen else ''}"


def _started(two: Family, share: Collection[str]) -> Family:
    """The second factor of a product, its trained zeros started as kaiming."""
    init = {
        core: _KAIMING
        if rule.kind == "zeros" and core not in two.frozen and core not in share
        else rule
        for core, rule in two.init.items()
    }
    return replace(two, init=init)


def _common_scale(one: Family, two: Family, what: str) -> Scale:
    same = one.scale.kind == two.scale.kind and one.scale.value == two.scale.value
    if not same:
        raise _scales_differ(one, two, what)
    return one.scale


def _product_scale(one: Family, two: Family) -> Scale:
    first, second = one.scale, two.scale
    if "features" in (first.kind, second.kind):  # of a product, the input is another one
        raise _scales_differ(one, two, "a product")
    if second.kind == "constant":
        return first.times(second.value)
    if first.kind == "constant":
        bonds = dict(zip(two.network.bonds, _apart_bonds(one, two), strict=True))
        return replace(second, bond=bonds[second.bond or ""]).times(first.value)
    if first.kind != second.kind:
        raise _scales_differ(one, two, "a product")
    return first.times(second.value)


def _apart_bonds(one: Family, two: Family) -> tuple[str, ...]:
    return binary.apart(one.network, two.network)[0].bonds


def _scales_differ(one: Family, two: Family, what: str) -> FamilyError:
    text = f"{what} of {one.label}, scaled by {one.scale}, and {two.label}, by {two.scale}"
    advice = "Say which scale is meant: scale='constant', or 'alpha/r' with r a bond of the result."
    return FamilyError("E310", text, advice=advice)


def _common_dropout(one: Family, two: Family, what: str) -> Mapping[str, float]:
    if one.dropout and two.dropout and dict(one.dropout) != dict(two.dropout):
        text = f"{what} of dropouts {dict(one.dropout)} and {dict(two.dropout)}"
        raise FamilyError("E310", text, advice="Give dropout={'input': ...} for the result.")
    return one.dropout or two.dropout
