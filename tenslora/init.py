"""How cores start: rules that are data, and their numbers, the same on every backend.

Numbers are drawn with numpy's Philox, keyed by the seed, the core's name and a key that tells
shape groups apart, so that a seed means the same start with numpy, torch and jax, whatever the
order in which cores are made. No global generator is touched.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenslora.errors import FamilyError
from tenslora.spec import Core, Network, Slot, core_shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["InitRule", "draw", "parse_rule"]

_RULE = re.compile(r"\s*([a-z_]+)\s*(?:\(\s*([^()]*?)\s*\))?\s*")

#: Rule -> its argument's default; ``None``: the rule takes no argument, ``nan``: it must be given.
_ARGUMENT: dict[str, float | None] = {
    "zeros": None,
    "ones": None,
    "eye": None,
    "const": math.nan,
    "normal": math.nan,
    "uniform": math.nan,
    "kaiming": math.sqrt(5.0),
    "xavier": None,
    "orthogonal": None,
}


@dataclass(frozen=True)
class InitRule:
    """A rule for the first values of a core.

    ===============  ==========================================================================
    rule             values
    ===============  ==========================================================================
    ``zeros ones``   the constant
    ``eye``          1 where row and column agree, else 0
    ``const(v)``     v
    ``normal(std)``  Gaussian with mean 0
    ``uniform(b)``   uniform in [-b, b]
    ``kaiming(a)``   uniform in [-b, b], b = sqrt(6 / ((1 + a^2) fan_in)); a = sqrt(5) when left
                     out, the start of LoRA's A in ``torch.nn.Linear``'s manner (He et al. 2015)
    ``xavier``       uniform in [-b, b], b = sqrt(6 / (rows + columns)) (Glorot and Bengio 2010)
    ``orthogonal``   orthonormal columns, or rows where the core is wide (Saxe et al. 2013)
    ===============  ==========================================================================

    A core is read as one matrix for each combination of the sites that *every* core of the network
    carries. Its rows are the slots that hold another target index, its columns the bonds; a core of
    bonds only has its first slot as rows. ``fan_in`` is the number of rows of a core that meets the
    input, else the number of columns.

    >>> str(InitRule("normal", 0.02)), InitRule("zeros").is_zero
    ('normal(0.02)', True)
    """

    kind: str
    value: float | None = None

    @property
    def is_zero(self) -> bool:
        """Whether every number that it makes is zero."""
        zero = self.value is not None and self.value == 0.0
        return self.kind == "zeros" or (self.kind in ("const", "normal", "uniform") and zero)

    def __str__(self) -> str:
        if self.value is None or self.value == _ARGUMENT[self.kind]:
            return self.kind
        return f"{self.kind}({self.value!r})"


def parse_rule(text: str | InitRule) -> InitRule:
    """Read a rule such as ``zeros``, ``normal(0.02)`` or ``kaiming``.

    Raises
    ------
    FamilyError
        E302 for an unknown rule or a wrong argument.

    >>> parse_rule("normal(0.02)")
    InitRule(kind='normal', value=0.02)
    """
    if isinstance(text, InitRule):
        return parse_rule(str(text))
    match = _RULE.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[1] not in _ARGUMENT:
        close = difflib.get_close_matches(str(text).split("(")[0], _ARGUMENT, n=1)
        advice = (f"Did you mean {close[0]}? " if close else "") + f"Rules: {', '.join(_ARGUMENT)}."
        raise FamilyError("E302", f"unknown initialisation rule {text!r}", advice=advice)
    kind, argument = match[1], match[2]
    default = _ARGUMENT[kind]
    if argument is None or argument == "":
        if default is not None and math.isnan(default):
            what = f"the rule {kind} needs an argument"
            raise FamilyError("E302", what, advice=f"Write {kind}(0.02), say.")
        return InitRule(kind, default)
    if default is None:
        advice = f"Write {kind} alone."
        raise FamilyError("E302", f"the rule {kind} takes no argument, got {text!r}", advice=advice)
    return InitRule(kind, _number(kind, argument))


def _number(kind: str, argument: str) -> float:
    try:
        value = float(argument)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (kind in ("normal", "uniform") and value < 0):
        what = f"the argument of {kind}({argument}) is not a usable number"
        advice = "Give a finite number" + (" of at least 0." if kind != "const" else ".")
        raise FamilyError("E302", what, advice=advice)
    return value


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
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out r] A[r in]")
    >>> q = draw(parse_rule("orthogonal"), n.cores["B"], n, {"out": 4, "in": 3, "r": 2})
    >>> (q.T @ q).round(12).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    import numpy as np

    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        what = f"seed {seed!r} is not a non-negative integer"
        raise FamilyError("E309", what, advice="Give 0, 1, 2, ...")
    digest = hashlib.sha256(f"{seed}|{core.name}|{key}".encode()).digest()
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


def _axes(core: Core, network: Network) -> tuple[list[int], list[int], list[int]]:
    independent, target = set(network.independent_sites), set(network.target.indices)

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
    "eye": _eye,
    "normal": _normal,
    "uniform": _uniform,
    "kaiming": _kaiming,
    "xavier": _xavier,
    "orthogonal": _orthogonal,
}
