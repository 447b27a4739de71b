"""The operators of the algebra on families: networks with their starts, frozen cores and scale.

The update of a family is ``scale * W``; the operators act on W. What goes with it:

- starts, frozen cores and learning rates follow their cores through every renaming. In a product
  the first family keeps its zeros and the trained zeros of the second start as ``kaiming``, so that
  one core of each term is zero; ``init=`` says otherwise.
- the scale of a sum is that of both; constants of a product are multiplied; two ratios of one kind
  (``alpha/r`` and ``alpha/s``) leave the first, one alpha for the product as in LoHa. ``scale=``
  says otherwise, and has to where the rules are of different kinds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tenslora.algebra import compose as binary
from tenslora.algebra import modify as unary
from tenslora.errors import FamilyError
from tenslora.family.family import Family, family
from tenslora.family.registry import resolve
from tenslora.family.scale import Scale
from tenslora.init import InitRule
from tenslora.spec import Network

__all__ = [
    "add",
    "compose",
    "freeze",
    "hadamard",
    "join",
    "kron",
    "rename",
    "restrict",
    "scaled",
    "split",
    "squeeze",
    "tie",
    "transpose",
    "untie",
]

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
    one, two = _read(first), _read(second)
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
    one, two = _read(first), _read(second)
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
    one, two = _read(first), _read(second)
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
    one, two = _read(first), _read(second)
    network = binary.compose(one.network, two.network, share=share)
    scale = changes.pop("scale", None) or _product_scale(one, two)
    return _joined(one, _started(two, share), network, share, scale, "product", **changes)


def scaled(value: Like, factor: float, **changes: Any) -> Family:
    """Return the family of ``factor * W``; ``factor * f`` is the same.

    Raises
    ------
    FamilyError
        E305 where the factor is no finite number.

    Examples
    --------
    >>> from tenslora.families import lora, tied_lora
    >>> str(scaled(lora, 0.5).scale)
    '0.5*alpha/r'
    """
    one = _read(value)
    return _like(one, one.network, scale=one.scale.times(factor), **changes)


def transpose(value: Like, **changes: Any) -> Family:
    """Return the family of transposes: ``W[site] = F[site].T``; ``f.T`` is the same.

    Examples
    --------
    >>> transpose("W[out in] = B[out r] A[r in]").equation
    'W[out in] = B[in r] A[r out]'

    Raises
    ------
    FamilyError
        E310 where the scale refers to the input's features and no other is given.
    """
    one = _read(value)
    if one.scale.kind == "features" and "scale" not in changes:
        what = f"the scale {one.scale} of {one.label} refers to its input, which becomes the output"
        raise FamilyError("E310", what, advice="Give scale=...")
    return _like(one, unary.transpose(one.network), **changes)


def tie(value: Like, site: str, cores: Iterable[str] | None = None, **changes: Any) -> Family:
    """Share every core, or the named ones, over a site.

    Raises
    ------
    SpecError
        E120 for an unknown site or core, E123 for a core that has no other index.

    Examples
    --------
    >>> from tenslora.families import lora
    >>> tie(lora, "layer", ["A"]).equation
    'W[layer proj out in] = B[layer proj out r] A[proj r in]'
    """
    one = _read(value)
    return _like(one, unary.tie(one.network, site, cores), **changes)


def untie(value: Like, site: str, cores: Iterable[str] | None = None, **changes: Any) -> Family:
    """Give every core, or the named ones, one array for each value of a site.

    Examples
    --------
    >>> untie("W[layer out in] = B[out r] A[r in]", "layer").equation
    'W[layer out in] = B[layer out r] A[layer r in]'
    """
    one = _read(value)
    return _like(one, unary.untie(one.network, site, cores), **changes)


def split(value: Like, index: str, *parts: str, **changes: Any) -> Family:
    """Write an index as several, the first part slowest: the arrays stay as they are.

    Raises
    ------
    SpecError
        E120 for an unknown index or a name that is taken, E122 for fewer than two parts.

    Examples
    --------
    >>> split("W[out in] = B[out r] A[r in]", "out", "head", "head_dim").equation
    'W[(head head_dim) in] = B[(head head_dim) r] A[r in]'
    """
    one = _read(value)
    bond = index in one.network.bonds
    ranks = {b: r for b, r in one.ranks.items() if b != index}
    if bond and one.scale.bond == index and "scale" not in changes:
        what = f"the scale {one.scale} of {one.label} refers to {index!r}, which is split"
        raise FamilyError("E310", what, advice="Give scale=...")
    network = unary.split(one.network, index, *parts)
    return _like(replace(one, ranks=ranks) if bond else one, network, **changes)


def join(value: Like, *parts: str, into: str, **changes: Any) -> Family:
    """Write several indices as one where every core has them as a group.

    Examples
    --------
    >>> made = split("W[out in] = B[out r] A[r in]", "out", "head", "head_dim")
    >>> join(made, "head", "head_dim", into="out").equation
    'W[out in] = B[out r] A[r in]'
    """
    one = _read(value)
    ranks = {b: r for b, r in one.ranks.items() if b not in parts}
    return _like(replace(one, ranks=ranks), unary.join(one.network, *parts, into=into), **changes)


def rename(value: Like, names: Mapping[str, str] | None = None, **named: str) -> Family:
    """Give cores and indices other names.

    Raises
    ------
    SpecError
        E120 for a name that there is not, or one that is taken.

    Examples
    --------
    >>> rename("W[out in] = B[out r] A[r in]", B="U", r="s").equation
    'W[out in] = U[out s] A[s in]'
    """
    one = _read(value)
    new = {**(names or {}), **named}
    network = unary.rename(one.network, **new)
    moved = replace(one, ranks={new.get(b, b): r for b, r in one.ranks.items()})
    scale = one.scale
    if scale.bond is not None:
        scale = replace(scale, bond=new.get(scale.bond, scale.bond))
    return _like(moved, network, cores=new, scale=scale)


def restrict(value: Like, **sites: object) -> Family:
    """Take the family of one value of each named site: ``restrict(f, proj="q")``.

    The sites go from the target and from every core. The values say which weights are meant and
    stand in the summary.

    Raises
    ------
    SpecError
        E120 for an unknown site, E123 for a core that has no other index.

    Examples
    --------
    >>> from tenslora.families import lora
    >>> restrict(lora, proj="q").equation
    'W[layer out in] = B[layer out r] A[layer r in]'
    """
    one = _read(value)
    where = ", ".join(f"{site}={at}" for site, at in sites.items())
    summary = f"{one.label} at {where}" if one.name else ""
    return _like(one, unary.restrict(one.network, *sites), summary=summary)


def squeeze(value: Like, *indices: str, **changes: Any) -> Family:
    """Take away indices of size 1: sites, ranks, or parts of a feature.

    Raises
    ------
    SpecError
        E120 for an unknown index, E123 where a core or a side would have no index.

    Examples
    --------
    >>> from tenslora.families import lokr
    >>> squeeze(lokr, "o1", "i1").equation
    'W[layer proj o2 i2] = C[layer proj] B[layer proj o2 r] A[layer proj r i2]'
    """
    one = _read(value)
    if one.scale.bond in indices and "scale" not in changes:
        what = f"the scale {one.scale} of {one.label} refers to {one.scale.bond!r}, which goes"
        raise FamilyError("E310", what, advice="Give scale=...")
    kept = replace(one, ranks={b: r for b, r in one.ranks.items() if b not in indices})
    return _like(kept, unary.squeeze(one.network, *indices), **changes)


def freeze(value: Like, *cores: str, **changes: Any) -> Family:
    """Draw these cores once and do not train them.

    Raises
    ------
    FamilyError
        E301 for an unknown core, E303 where nothing could train from the start.

    Examples
    --------
    >>> sorted(freeze("W[out in] = B[out r] A[r in]", "A").frozen)
    ['A']
    """
    one = _read(value)
    changes.setdefault("frozen", one.frozen | set(cores))
    return _like(one, one.network, **changes)


def _read(value: Like) -> Family:
    return resolve(value)


def _like(
    one: Family,
    network: Network,
    *,
    cores: Mapping[str, str] | None = None,
    init: Mapping[str, str | InitRule] | None = None,
    **changes: Any,
) -> Family:
    """Make a family with ``network`` and the settings of ``one``, its cores renamed."""
    new = cores or {}
    settings: dict[str, Any] = {
        "frozen": {new.get(core, core) for core in one.frozen},
        "scale": one.scale,
        "dropout": one.dropout,
        "lr": {new.get(core, core): rate for core, rate in one.lr.items()},
        "ranks": one.ranks,
        "starts_nonzero": one.starts_nonzero,
        **changes,
    }
    starts = {new.get(core, core): rule.renamed(new) for core, rule in one.init.items()}
    return family(network, init={**starts, **(init or {})}, **settings)


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
