"""The numbers of a rule, drawn for one core."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tenslora.errors import FamilyError
from tenslora.init.patterns import circulant, waves
from tenslora.init.rule import InitRule
from tenslora.spec import Core, Network, Slot, core_shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["draw"]


def draw(
    rule: InitRule,
    core: Core,
    network: Network,
    sizes: Mapping[str, int],
    seed: int = 0,
    key: str = "",
) -> Array:
    """Make the first values of a core.

    Parameters
    ----------
    rule : what to draw.
    core, network : the core, and the network that it belongs to (which sites are independent).
    sizes : every index's size.
    seed : a non-negative integer.
    key : tells apart arrays of one core name, such as the shape groups of one adapter.

    Returns
    -------
    numpy.ndarray
        float64, of :func:`~tenslora.spec.core_shape`.

    Examples
    --------
    >>> from tenslora.init import parse_rule
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out r] A[r in]")
    >>> q = draw(parse_rule("orthogonal"), n.cores["B"], n, {"out": 4, "in": 3, "r": 2})
    >>> (q.T @ q).round(12).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        what = f"seed {seed!r} is not a non-negative integer"
        raise FamilyError("E309", what, advice="Give 0, 1, 2, ...")
    if rule.of is not None and rule.base is not None:
        sign = 1.0 if rule.value is None else rule.value
        return sign * draw(rule.base, network.cores[rule.of], network, sizes, seed, key)
    if rule.kind == "circulant":
        return circulant(core, sizes)
    if rule.kind in ("cos", "sin"):
        height = 1.0 if rule.value is None else rule.value
        return waves(rule.kind, height, core, network, sizes, seed)
    return _draw_matrices(rule, core, network, sizes, f"{seed}|{core.name}|{key}")


def _draw_matrices(
    rule: InitRule, core: Core, network: Network, sizes: Mapping[str, int], stream: str
) -> Array:
    """Draw one matrix for each combination of the independent sites."""
    import numpy as np

    digest = hashlib.sha256(stream.encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    shape = core_shape(core, sizes)
    batch, rows, columns = _axes(core, network)
    order = batch + rows + columns
    counts = [math.prod(shape[a] for a in axes) for axes in (batch, rows, columns)]
    meets_input = any(i in network.input for i in core.indices)
    fan_in = counts[1] if meets_input else counts[2]
    values = _DRAWS[rule.kind](generator, (counts[0], counts[1], counts[2]), fan_in, rule.value)
    values = values.reshape([shape[a] for a in order])
    return np.ascontiguousarray(values.transpose(np.argsort(order)))


def _independent(network: Network) -> set[str]:
    """The sites, and of several cores the features, that every core carries."""
    stored = list(network.cores.values())
    held = [set(core.indices) for core in stored] if len(stored) > 1 else []
    everywhere = set.intersection(*held) if held else set()
    return set(network.independent_sites) | (everywhere & set(network.features))


def _axes(core: Core, network: Network) -> tuple[list[int], list[int], list[int]]:
    independent, target = _independent(network), set(network.target.indices)

    def kind(slot: Slot) -> int:
        if all(i in independent for i in slot):
            return 0
        return 1 if any(i in target for i in slot) else 2

    axes: tuple[list[int], list[int], list[int]] = ([], [], [])
    for axis, slot in enumerate(core.slots):
        axes[kind(slot)].append(axis)
    if not axes[1] and axes[2]:
        axes[1].append(axes[2].pop(0))
    return axes


_Shape = tuple[int, int, int]
_Draw = Callable[["np.random.Generator", _Shape, int, "float | None"], "Array"]


def _constant(value: float) -> _Draw:
    def make(g: np.random.Generator, shape: _Shape, fan_in: int, v: float | None) -> Array:
        import numpy as np

        return np.full(shape, value if v is None else v)

    return make


def _mean(g: np.random.Generator, shape: _Shape, fan_in: int, v: float | None) -> Array:
    import numpy as np

    return np.full(shape, 1.0 / shape[1])


def _eye(g: np.random.Generator, shape: _Shape, fan_in: int, v: float | None) -> Array:
    import numpy as np

    return np.broadcast_to(np.eye(shape[1], shape[2]), shape).copy()


def _normal(g: np.random.Generator, shape: _Shape, fan_in: int, v: float | None) -> Array:
    return g.standard_normal(shape) * (v or 0.0)


def _uniform(g: np.random.Generator, shape: _Shape, fan_in: int, v: float | None) -> Array:
    return (2.0 * g.random(shape) - 1.0) * (v or 0.0)


def _kaiming(g: np.random.Generator, shape: _Shape, fan_in: int, v: float | None) -> Array:
    return _uniform(g, shape, fan_in, math.sqrt(6.0 / ((1.0 + (v or 0.0) ** 2) * fan_in)))


def _xavier(g: np.random.Generator, shape: _Shape, fan_in: int, v: float | None) -> Array:
    return _uniform(g, shape, fan_in, math.sqrt(6.0 / (shape[1] + shape[2])))


def _orthogonal(g: np.random.Generator, shape: _Shape, fan_in: int, v: float | None) -> Array:
    import numpy as np

    values = g.standard_normal(shape)
    wide = shape[1] < shape[2]
    q, r = np.linalg.qr(values.swapaxes(1, 2) if wide else values)
    signs = np.sign(np.diagonal(r, axis1=1, axis2=2))
    q = q * np.where(signs == 0, 1.0, signs)[:, None, :]  # makes the draw uniform (Mezzadri 2007)
    return q.swapaxes(1, 2) if wide else q


_DRAWS: dict[str, _Draw] = {
    "zeros": _constant(0.0),
    "ones": _constant(1.0),
    "const": _constant(0.0),
    "mean": _mean,
    "eye": _eye,
    "normal": _normal,
    "uniform": _uniform,
    "kaiming": _kaiming,
    "xavier": _xavier,
    "orthogonal": _orthogonal,
}
