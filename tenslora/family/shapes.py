"""Families of the usual shapes over any list of modes, with the starts that the field gives them.

Orthogonal factors and a core of zeros for Tucker and for blocks; zeros in the first factor of CP;
zeros in the first core of a train or a ring; zeros at the top of a tree. ``init=`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenslora.algebra import builders
from tenslora.algebra.builders import Modes
from tenslora.family.family import Family, family
from tenslora.spec import Network

__all__ = [
    "block_term",
    "cp",
    "hierarchical_tucker",
    "tensor_ring",
    "tensor_train",
    "tucker",
]


def tucker(
    target: str, modes: Modes = None, *, names: Mapping[str, str] | None = None, **settings: Any
) -> Family:
    """Return a Tucker family: a factor for each mode and a core that joins their bonds.

    Parameters
    ----------
    target : such as ``"W[layer proj (head head_dim) in]"``.
    modes : what gets a factor and a rank of its own: indices, or groups such as
        ``"(layer proj)"``; by default every index. Sites that are not named stand on every core.
    names : names of factors by mode, and of the core as ``"core"``.
    settings : ``init``, ``scale``, ``name`` and others of :func:`tenslora.family`.

    Raises
    ------
    SpecError
        E124 for modes that are not those of the target.

    Examples
    --------
    >>> tucker("W[layer proj out in]", ["in", "out", "layer"])
    family: W[layer proj out in] = U[proj in a] V[proj out b] D[proj layer c] G[proj a b c]
      start U orthogonal, V orthogonal, D orthogonal, G zeros; scale constant
    """
    return _started(builders.tucker(target, modes, names), -1, settings)


def cp(
    target: str,
    modes: Modes = None,
    *,
    names: Mapping[str, str] | None = None,
    weights: bool = False,
    **settings: Any,
) -> Family:
    """Return a CP family: a factor for each mode, all on one bond; ``weights`` adds a vector on it.

    Parameters and errors are those of :func:`tucker`.

    Examples
    --------
    >>> cp("W[layer out in]").equation
    'W[layer out in] = U[in r] V[out r] D[layer r]'
    """
    network = builders.cp(target, modes, names, weights=weights)
    given = {list(network.cores)[-1]: "ones"} if weights else {}
    return _started(network, 0, settings, given)


def tensor_train(
    target: str, modes: Modes = None, *, names: Mapping[str, str] | None = None, **settings: Any
) -> Family:
    """Return a tensor train: a core for each mode, each joined to the next by a bond.

    Parameters and errors are those of :func:`tucker`; the order of the modes is that of the train.

    Examples
    --------
    >>> tensor_train("W[layer proj out in]", ["out", "proj", "layer", "in"]).equation
    'W[layer proj out in] = V[out a] P[a proj b] D[b layer c] U[c in]'
    """
    return _started(builders.tensor_train(target, modes, names), 0, settings)


def tensor_ring(
    target: str, modes: Modes = None, *, names: Mapping[str, str] | None = None, **settings: Any
) -> Family:
    """Return a tensor ring: a train whose ends are joined.

    Parameters and errors are those of :func:`tucker`.

    Examples
    --------
    >>> tensor_ring("W[layer out in]", ["out", "layer", "in"]).equation
    'W[layer out in] = V[c out a] D[a layer b] U[b in c]'
    """
    return _started(builders.tensor_ring(target, modes, names), 0, settings)


def block_term(
    target: str,
    modes: Modes = None,
    *,
    names: Mapping[str, str] | None = None,
    blocks: str = "z",
    **settings: Any,
) -> Family:
    """Return a sum of Tuckers over the bond ``blocks``, which is how many there are.

    Parameters and errors are those of :func:`tucker`.

    Examples
    --------
    >>> block_term("W[layer out in]", ["in", "out"]).equation
    'W[layer out in] = U[layer z in a] V[layer z out b] G[layer z a b]'
    """
    return _started(builders.block_term(target, modes, names, blocks=blocks), -1, settings)


def hierarchical_tucker(
    target: str, modes: Modes = None, *, names: Mapping[str, str] | None = None, **settings: Any
) -> Family:
    """Return a binary tree of cores over the modes.

    Parameters and errors are those of :func:`tucker`.

    Examples
    --------
    >>> hierarchical_tucker("W[layer proj out in]").equation
    'W[layer proj out in] = U[in a] V[out b] G1[a b c] P[proj d] D[layer e] G2[d e f] G[c f]'
    """
    return _started(builders.hierarchical_tucker(target, modes, names), -1, settings)


def _started(
    network: Network, zero: int, settings: dict[str, Any], given: Mapping[str, str] | None = None
) -> Family:
    """Make the family: one core at zero, the others orthogonal."""
    cores = list(network.cores)
    init: dict[str, Any] = dict.fromkeys(cores, "orthogonal")
    init[cores[zero]] = "zeros"
    return family(network, init={**init, **(given or {}), **settings.pop("init", {})}, **settings)
