"""Starts from the weights themselves: singular vectors, tensor trains, Tucker factors.

A family says ``start="svd(U, V)"``; its ``init`` stays what the cores are where there are no
weights. Everything is numpy in float64, on weights stacked in the shape of the equation's target.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenslora.errors import FamilyError
from tenslora.spec import Core, Network, core_shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["WeightStart", "from_weights", "parse_start"]

_TEXT = re.compile(r"\s*(\w+)\s*\(([^()]*)\)\s*")


@dataclass(frozen=True)
class WeightStart:
    """A decomposition of the weights, and the cores that it fills.

    ======================  ===================================================================
    rule                    values
    ======================  ===================================================================
    ``svd(U, V)``           singular vectors of each weight, the singular values on U
    ``root_svd(B, A)``      the same, a root of the singular values on each (PiSSA)
    ``tt_svd(G1, G2, ..)``  a tensor-train matrix of each weight, the last singular values on the
                            last core (Oseledets 2011; DoTA)
    ``hosvd(G, U, V, ..)``  the core and factors of the Tucker tensor of stacked weights, by the
                            singular vectors of its unfoldings (De Lathauwer et al. 2000; CRAFT)
    ======================  ===================================================================

    Examples
    --------
    >>> start = WeightStart("svd", ("U", "V"))
    >>> start.kind, start.cores, str(start)
    ('svd', ('U', 'V'), 'svd(U, V)')
    """

    kind: str
    cores: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(self.cores)})" if self.kind else ""


def parse_start(text: str, network: Network) -> WeightStart | None:
    """Read a start from the weights; an empty text is none.

    Raises
    ------
    FamilyError
        E311 for an unknown rule, or cores that do not have its shape.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> str(parse_start("svd(U,V)", parse("W[out in] = U[out s] R[s r] V[r in]")))
    'svd(U, V)'
    """
    if not text:
        return None
    match = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[1] not in _RULES:
        advice = f"Rules: {', '.join(_RULES)}, as in svd(U, V)."
        raise FamilyError("E311", f"unknown start from the weights {text!r}", advice=advice)
    names = tuple(part.strip() for part in match[2].split(","))
    for name in names:
        if name not in network.cores:
            what = f"the start {text} names {name!r}, no core of {network}"
            raise FamilyError("E311", what, advice=f"The cores are {', '.join(network.cores)}.")
    start = WeightStart(match[1], names)
    _RULES[start.kind][0](start, network)
    return start


def from_weights(
    start: WeightStart, network: Network, sizes: Mapping[str, int], weights: Any
) -> dict[str, Array]:
    """Return the cores that a start fills.

    Parameters
    ----------
    start : from :func:`parse_start`.
    network, sizes : the equation and its sizes.
    weights : an array of the shape of the target.

    Raises
    ------
    FamilyError
        E311 where the weights are not finite or of another shape, or a rank is above what they
        have.

    Examples
    --------
    >>> import numpy as np
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out r] A[r in]")
    >>> w = np.outer([1.0, 2.0], [3.0, 4.0, 5.0])
    >>> start = parse_start("root_svd(B, A)", n)
    >>> cores = from_weights(start, n, {"out": 2, "in": 3, "r": 1}, w)
    >>> np.allclose(cores["B"] @ cores["A"], w)
    True
    """
    import numpy as np

    stacked = np.asarray(weights, dtype=np.float64)
    if stacked.shape != core_shape(network.target, sizes) or not np.isfinite(stacked).all():
        what = f"weights of shape {stacked.shape}, finite or not, do not start {network}"
        advice = f"Give finite weights of shape {core_shape(network.target, sizes)}."
        raise FamilyError("E311", what, advice=advice)
    split = stacked.reshape([sizes[index] for index in network.target.indices])
    found: dict[str, Array] = _RULES[start.kind][1](start, network, sizes, split)
    return found


def _refuse(start: WeightStart, core: Core, wanted: str) -> FamilyError:
    what = f"{start} cannot fill {core}: it needs {wanted}"
    return FamilyError("E311", what, advice="Leave out start=, or name other cores.")


def _check_rank(start: WeightStart, bond: str, size: int, most: int) -> None:
    if size > most:
        what = f"{start} at rank {bond}={size}: the weights have {most}"
        raise FamilyError("E311", what, advice=f"Lower it to {most}.")


def _bonds(core: Core, network: Network) -> list[str]:
    return [index for index in core.indices if index in network.bonds]


def _placed(core: Core, sizes: Mapping[str, int], values: Array, order: Sequence[str]) -> Array:
    """Lay an array with axes ``order`` out as the core has them."""
    import numpy as np

    turned = values.transpose([list(order).index(index) for index in core.indices])
    return np.ascontiguousarray(turned.reshape(core_shape(core, sizes)))


def _check_svd(start: WeightStart, network: Network) -> None:
    if len(start.cores) != 2:
        raise _refuse(start, network.target, "two cores, as in svd(U, V)")
    for name, side in zip(start.cores, (network.output, network.input), strict=True):
        core = network.cores[name]
        if set(core.indices) - set(network.bonds) != {*network.sites, *side}:
            raise _refuse(start, core, "every site, the whole output or input, and one rank")
        if len(_bonds(core, network)) != 1:
            raise _refuse(start, core, "one rank")


def _svd(
    start: WeightStart, network: Network, sizes: Mapping[str, int], weights: Array
) -> dict[str, Array]:
    import numpy as np

    sites, output, inputs = network.sites, network.output, network.input
    outer = [sizes[index] for index in sites]
    rows, columns = ([sizes[index] for index in side] for side in (output, inputs))
    left, values, right = np.linalg.svd(
        weights.reshape(*outer, int(np.prod(rows)), int(np.prod(columns))), full_matrices=False
    )
    root = np.sqrt(values) if start.kind == "root_svd" else values
    left = left * root[..., None, :]
    right = right * (root if start.kind == "root_svd" else np.ones_like(root))[..., :, None]
    first, second = (network.cores[name] for name in start.cores)
    (r,), (s,) = _bonds(first, network), _bonds(second, network)
    for bond in (r, s):
        _check_rank(start, bond, sizes[bond], values.shape[-1])
    left = left[..., : sizes[r]].reshape(*outer, *rows, sizes[r])
    right = right[..., : sizes[s], :].reshape(*outer, sizes[s], *columns)
    return {
        first.name: _placed(first, sizes, left, (*sites, *output, r)),
        second.name: _placed(second, sizes, right, (*sites, s, *inputs)),
    }


def _check_train(start: WeightStart, network: Network) -> None:
    count = len(network.output)
    if not len(start.cores) == count == len(network.input):
        raise _refuse(start, network.target, "as many cores as the output and the input have parts")
    pairs = list(zip(start.cores, network.output, network.input, strict=True))
    for n, (name, out, into) in enumerate(pairs):
        core = network.cores[name]
        if set(core.indices) - set(network.bonds) != {*network.sites, out, into}:
            raise _refuse(start, core, f"every site, {out} and {into}")
        if len(_bonds(core, network)) != (n > 0) + (n < count - 1):
            raise _refuse(start, core, "a rank to each of its neighbours")


def _train(
    start: WeightStart, network: Network, sizes: Mapping[str, int], weights: Array
) -> dict[str, Array]:
    import numpy as np

    sites, cores = network.sites, [network.cores[name] for name in start.cores]
    pairs = list(zip(network.output, network.input, strict=True))
    names = list(network.target.indices)
    order = [*sites, *(index for pair in pairs for index in pair)]
    outer = [sizes[index] for index in sites]
    rest = weights.transpose([names.index(index) for index in order]).reshape(*outer, 1, -1)
    found, before, rank = {}, "", 1
    for core, pair in zip(cores, pairs, strict=True):
        shape = [sizes[index] for index in pair]
        after = next((b for b in _bonds(core, network) if b != before), "")
        if not after:
            found[core.name] = _placed(
                core, sizes, rest.reshape(*outer, rank, *shape), (*sites, before, *pair)
            )
            break
        left, values, right = np.linalg.svd(
            rest.reshape(*outer, rank * int(np.prod(shape)), -1), full_matrices=False
        )
        size = sizes[after]
        _check_rank(start, after, size, values.shape[-1])
        kept = left[..., :size].reshape(*outer, *([rank] if before else []), *shape, size)
        axes = (*sites, *([before] if before else []), *pair, after)
        found[core.name] = _placed(core, sizes, kept, axes)
        rest = values[..., :size, None] * right[..., :size, :]
        before, rank = after, size
    return found


def _check_hosvd(start: WeightStart, network: Network) -> None:
    names = set(start.cores)
    middle, *factors = (network.cores[name] for name in start.cores)
    alone = [s for s in network.sites if all(s in network.cores[n].indices for n in names)]
    modes = [[i for i in f.indices if i not in (*network.bonds, *alone)] for f in factors]
    held = [index for mode in modes for index in mode]
    if sorted([*alone, *held]) != sorted(network.target.indices) or not all(modes):
        raise _refuse(start, network.target, "one factor for each part of the target")
    for factor in factors:
        if len(_bonds(factor, network)) != 1:
            raise _refuse(start, factor, "one rank")
    if len(_bonds(middle, network)) != len(factors) or set(middle.indices) - {
        *alone,
        *network.bonds,
    }:
        raise _refuse(start, middle, "one rank for each factor, in their order")


def _hosvd(
    start: WeightStart, network: Network, sizes: Mapping[str, int], weights: Array
) -> dict[str, Array]:
    import numpy as np

    middle, *factors = (network.cores[name] for name in start.cores)
    alone = [s for s in network.sites if all(s in network.cores[n].indices for n in start.cores)]
    modes = [[i for i in f.indices if i not in (*network.bonds, *alone)] for f in factors]
    names = list(network.target.indices)
    order = [*alone, *(index for mode in modes for index in mode)]
    outer = [sizes[index] for index in alone]
    counts = [int(np.prod([sizes[i] for i in mode])) for mode in modes]
    tensor = weights.transpose([names.index(i) for i in order]).reshape(*outer, *counts)
    found, core = {}, tensor
    for n, (factor, mode) in enumerate(zip(factors, modes, strict=True)):
        axis = len(outer) + n
        (bond,) = _bonds(factor, network)
        unfolded = np.moveaxis(tensor, axis, len(outer)).reshape(*outer, counts[n], -1)
        left = np.linalg.svd(unfolded, full_matrices=False)[0]
        _check_rank(start, bond, sizes[bond], left.shape[-1])
        kept = left[..., : sizes[bond]]
        shaped = kept.reshape(*outer, *(sizes[i] for i in mode), sizes[bond])
        found[factor.name] = _placed(factor, sizes, shaped, (*alone, *mode, bond))
        moved = np.moveaxis(core, axis, len(outer))
        flat = np.swapaxes(kept, -1, -2) @ moved.reshape(*outer, moved.shape[len(outer)], -1)
        shape = (*outer, sizes[bond], *moved.shape[len(outer) + 1 :])
        core = np.moveaxis(flat.reshape(shape), len(outer), axis)
    bonds = _bonds(middle, network)
    if [sizes[b] for b in bonds] != list(core.shape[len(outer) :]):
        what = f"{start}: the ranks of {middle} are not those of its factors"
        raise FamilyError("E311", what, advice="Give both ranks of a square matrix one size.")
    found[middle.name] = _placed(middle, sizes, core, (*alone, *bonds))
    return found


_Check = Callable[[WeightStart, Network], None]
_Fill = Callable[[WeightStart, Network, Mapping[str, int], "Array"], "dict[str, Array]"]

_RULES: dict[str, tuple[_Check, _Fill]] = {
    "svd": (_check_svd, _svd),
    "root_svd": (_check_svd, _svd),
    "tt_svd": (_check_train, _train),
    "hosvd": (_check_hosvd, _hosvd),
}
