"""The operators of the algebra on one family: its network with starts, frozen cores and scale.

The update of a family is ``scale * W``; the operators act on W. Starts, frozen cores, learning
rates and ranks follow their cores and bonds through every renaming, and so does a start from the
weights (``svd(U, V)``) as long as its cores have the shape of the decomposition. Sums and products
of two families are in :mod:`tenslora.family.combining`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tenslora.algebra import modify as unary
from tenslora.errors import FamilyError, SpecError
from tenslora.family.carrying import carried, turned
from tenslora.family.family import Family, family
from tenslora.family.registry import resolve
from tenslora.family.settings import known_cores
from tenslora.init import InitRule
from tenslora.spec import Network

__all__ = [
    "freeze",
    "join",
    "rename",
    "restrict",
    "scaled",
    "split",
    "squeeze",
    "tie",
    "transpose",
    "untie",
]

#: A family, its name, or an equation.
Like = str | Family


def scaled(value: Like, factor: float, **changes: Any) -> Family:
    """Return the family of ``factor * W``; ``factor * f`` is the same.

    Raises
    ------
    FamilyError
        E305 where the factor is no finite number, or 0.

    Examples
    --------
    >>> from tenslora.families import lora, tied_lora
    >>> str(scaled(lora, 0.5).scale)
    '0.5*alpha/r'
    """
    one = resolve(value)
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
        E310 where the scale refers to the input's features, or the start from the weights has its
        singular values on the output's side, and no other is given.
    """
    one = resolve(value)
    if one.scale.kind == "features" and "scale" not in changes:
        what = f"the scale {one.scale} of {one.label} refers to its input, which becomes the output"
        raise FamilyError("E310", what, advice="Give scale=...")
    if "start" not in changes:
        changes["start"] = turned(one)
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
    one = resolve(value)
    return _like(one, unary.tie(one.network, site, cores), **changes)


def untie(value: Like, site: str, cores: Iterable[str] | None = None, **changes: Any) -> Family:
    """Give every core, or the named ones, one array for each value of a site.

    Examples
    --------
    >>> untie("W[layer out in] = B[out r] A[r in]", "layer").equation
    'W[layer out in] = B[layer out r] A[layer r in]'
    """
    one = resolve(value)
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
    one = resolve(value)
    _keep_scale(one, (index,), "is split", changes)
    ranks = {b: r for b, r in one.ranks.items() if b != index}
    network = unary.split(one.network, index, *parts)
    return _like(replace(one, ranks=ranks), network, **changes)


def join(value: Like, *parts: str, into: str, **changes: Any) -> Family:
    """Write several indices as one where every core has them as a group.

    Examples
    --------
    >>> made = split("W[out in] = B[out r] A[r in]", "out", "head", "head_dim")
    >>> join(made, "head", "head_dim", into="out").equation
    'W[out in] = B[out r] A[r in]'
    """
    one = resolve(value)
    _keep_scale(one, parts, "is joined", changes)
    ranks = {b: r for b, r in one.ranks.items() if b not in parts}
    return _like(replace(one, ranks=ranks), unary.join(one.network, *parts, into=into), **changes)


def rename(value: Like, names: Mapping[str, str] | None = None, **named: str) -> Family:
    """Give cores and indices other names.

    Raises
    ------
    SpecError
        E120 for a name that there is not, or one that is taken, reserved or no name.

    Examples
    --------
    >>> rename("W[out in] = B[out r] A[r in]", B="U", r="s").equation
    'W[out in] = U[out s] A[s in]'
    """
    one = resolve(value)
    if names is not None and not isinstance(names, Mapping):
        what = f"rename({one.label}, {names!r}): that is no mapping from old names to new ones"
        raise SpecError("E120", what, advice="Write rename(f, A='U') or rename(f, {'in': 'inp'}).")
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
    one = resolve(value)
    where = ", ".join(f"{site}={at}" for site, at in sites.items())
    summary = f"{one.label} at {where}" if one.name else ""
    network = unary.restrict(one.network, *sites)
    advice = "Take it away first: dataclasses.replace(family, start=None)."
    return _like(one, network, summary=summary, start=carried(one, network, {}, advice))


def squeeze(value: Like, *indices: str, **changes: Any) -> Family:
    """Take away indices of size 1: sites, ranks, or parts of a feature.

    Raises
    ------
    SpecError
        E120 for an unknown index, E123 where a core or a side would have no index, or where an
        ``eye`` makes an index that stays 1 as well.

    Examples
    --------
    >>> from tenslora.families import lokr
    >>> squeeze(lokr, "o1", "i1").equation
    'W[layer proj o2 i2] = C[layer proj] B[layer proj o2 r] A[layer proj r i2]'
    """
    one = resolve(value)
    _keep_scale(one, indices, "goes", changes)
    kept = replace(one, ranks={b: r for b, r in one.ranks.items() if b not in indices})
    return _like(kept, unary.squeeze(one.network, *indices), **changes)


def freeze(value: Like, *cores: str | Iterable[str], **changes: Any) -> Family:
    """Draw these cores once and do not train them; a list of names is as good as the names.

    Raises
    ------
    FamilyError
        E301 for an unknown core, E303 where nothing could train from the start.

    Examples
    --------
    >>> sorted(freeze("W[out in] = B[out r] A[r in]", "A").frozen)
    ['A']
    """
    one = resolve(value)
    names = [n for core in cores for n in _names(core)]
    known_cores(one.network, "freeze", names)
    changes.setdefault("frozen", one.frozen | set(names))
    return _like(one, one.network, **changes)


def _names(cores: object) -> list[Any]:
    return list(cores) if isinstance(cores, (list, tuple, set, frozenset)) else [cores]


def _keep_scale(one: Family, gone: Collection[str], how: str, changes: Mapping[str, Any]) -> None:
    """Refuse to change the bond that the scale refers to, where no other scale is given."""
    if one.scale.bond in gone and "scale" not in changes:
        what = f"the scale {one.scale} of {one.label} refers to {one.scale.bond!r}, which {how}"
        raise FamilyError("E310", what, advice="Give scale=...")


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
    if "start" not in changes:
        changes["start"] = carried(one, network, new)
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
