"""The factor in front of an update: a constant, alpha over a reference rank, or 1 over features."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tenslora.errors import FamilyError
from tenslora.spec import Network

__all__ = ["Scale", "parse_scale"]

_CONSTANT = re.compile(r"constant(?:\(\s*([^()\s]+)\s*\))?")
_FEATURES = re.compile(r"([^\s*/]+)\s*/\s*in")
_RATIO = re.compile(r"(?:([^\s*]+)\s*\*\s*)?alpha\s*/\s*(?:sqrt\(\s*(\w+)\s*\)|(\w+))")


@dataclass(frozen=True)
class Scale:
    """``constant``: ``value``; ``ratio``: value * alpha / rank; ``root``: with sqrt(rank).

    ``features``: value / the number of input features, times alpha where there is one; ``inputs``
    are their indices. ``bond`` names the reference rank. Without an alpha the ratio is ``value``,
    that is, alpha is taken to be the rank (or its root). An alpha given to a constant scale takes
    the constant's place.

    >>> Scale("ratio", bond="r").factor({"r": 8}, alpha=16)
    2.0
    """

    kind: str
    value: float = 1.0
    bond: str | None = None
    inputs: tuple[str, ...] = ()

    def factor(self, sizes: Mapping[str, int], alpha: float | None = None) -> float:
        """Return the number that multiplies the update, at these sizes and ranks.

        Raises
        ------
        FamilyError
            E305 where alpha is no finite number.
        """
        if alpha is not None and not (
            isinstance(alpha, (int, float)) and not isinstance(alpha, bool) and math.isfinite(alpha)
        ):
            what = f"alpha={alpha!r} is not a finite number"
            raise FamilyError("E305", what, advice="Give a number, such as alpha=16.")
        if self.kind == "features":
            times = 1.0 if alpha is None else float(alpha)
            return self.value * times / math.prod(sizes[index] for index in self.inputs)
        if self.kind == "constant" or self.bond is None:
            return self.value if alpha is None else float(alpha)
        if alpha is None:
            return self.value
        rank = sizes[self.bond]
        return self.value * float(alpha) / (rank if self.kind == "ratio" else math.sqrt(rank))

    def times(self, factor: float) -> Scale:
        """Return the rule that gives ``factor`` times as much.

        >>> str(Scale("ratio", bond="r").times(0.5))
        '0.5*alpha/r'

        Raises
        ------
        FamilyError
            E305 where the factor is no finite number, or 0.
        """
        number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not number or not math.isfinite(factor) or not math.isfinite(self.value * factor):
            what = f"a family times {factor!r}, which is not a finite number"
            raise FamilyError("E305", what, advice="Multiply by a number, such as 0.5.")
        if self.value * factor == 0.0:
            what = f"a family times {factor!r} has no update"
            raise FamilyError("E305", what, advice="Multiply by a number other than 0.")
        return replace(self, value=self.value * float(factor))

    def __str__(self) -> str:
        if self.kind == "constant":
            return "constant" if self.value == 1.0 else f"constant({self.value!r})"
        if self.kind == "features":
            return "1/in" if self.value == 1.0 else f"{self.value!r}/in"
        times = "" if self.value == 1.0 else f"{self.value!r}*"
        rank = self.bond if self.kind == "ratio" else f"sqrt({self.bond})"
        return f"{times}alpha/{rank}"


def parse_scale(text: str | Scale, network: Network) -> Scale:
    """Read ``constant``, ``constant(0.5)``, ``alpha/r`` or ``alpha/sqrt(r)``, with r a bond.

    A ratio may have a factor in front: ``0.5*alpha/r``. ``1/in`` is over the input's features.

    >>> from tenslora.spec import parse
    >>> str(parse_scale("alpha / sqrt(r)", parse("W[out in] = B[out r] A[r in]")))
    'alpha/sqrt(r)'
    """
    scale = _parse(str(text).strip(), network)
    if scale.value == 0.0:
        what = f"the scale {str(text).strip()!r} is 0: there would be no update"
        raise FamilyError("E305", what, advice="Give a factor other than 0.")
    return scale


def _parse(text: str, network: Network) -> Scale:
    match = _CONSTANT.fullmatch(text)
    if match is not None and (value := _number(match[1])) is not None:
        return Scale("constant", value)
    match = _FEATURES.fullmatch(text)
    if match is not None and (value := _number(match[1])) is not None:
        return Scale("features", value, inputs=network.input)
    match = _RATIO.fullmatch(text)
    factor = None if match is None else _number(match[1])
    if match is None or factor is None:
        advice = "Rules: constant, constant(0.5), alpha/r, alpha/sqrt(r), with r a bond, 1/in."
        raise FamilyError("E305", f"unknown scale rule {text!r}", advice=advice)
    bond = match[2] or match[3]
    if bond not in network.bonds:
        what = f"the scale {text!r} refers to {bond!r}, which is no bond of {network}"
        bonds = ", ".join(network.bonds) or "none; use constant"
        raise FamilyError("E305", what, advice=f"The bonds are: {bonds}.")
    return Scale("root" if match[2] else "ratio", factor, bond)


def _number(text: str | None) -> float | None:
    """Read a finite number; nothing at all is 1."""
    try:
        value = float(text or 1.0)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
