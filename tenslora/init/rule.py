"""The rules for first values: what they are called, how they are read and written."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tenslora.errors import FamilyError
from tenslora.spec import Core, Network

__all__ = ["InitRule", "parse_rule", "resolve_copies"]

_RULE = re.compile(r"\s*(-?)\s*([a-z_]+)\s*(?:\(\s*([^()]*?)\s*\))?\s*")
_COPY = "copy"

#: Rule -> its argument's default; ``None``: the rule takes no argument, ``nan``: it must be given.
_ARGUMENT: dict[str, float | None] = {
    "zeros": None,
    "ones": None,
    "mean": None,
    "eye": None,
    "const": math.nan,
    "normal": math.nan,
    "uniform": math.nan,
    "kaiming": math.sqrt(5.0),
    "xavier": None,
    "orthogonal": None,
    "circulant": None,
    "cos": 1.0,
    "sin": 1.0,
}


@dataclass(frozen=True)
class InitRule:
    """A rule for the first values of a core.

    ================  =========================================================================
    rule              values
    ================  =========================================================================
    ``zeros ones``    the constant
    ``mean``          1 over the number of rows
    ``eye``           1 where row and column agree, else 0
    ``const(v)``      v
    ``normal(std)``   Gaussian with mean 0
    ``uniform(b)``    uniform in [-b, b]
    ``kaiming(a)``    uniform in [-b, b], b = sqrt(6 / ((1 + a^2) fan_in)); a = sqrt(5) when left
                      out, the start of LoRA's A in ``torch.nn.Linear``'s manner (He et al. 2015)
    ``xavier``        uniform in [-b, b], b = sqrt(6 / (rows + columns)) (Glorot and Bengio 2010)
    ``orthogonal``    orthonormal columns, or rows where the core is wide (Saxe et al. 2013)
    ``circulant``     three slots: 1 where the second index minus the first is the third, modulo
                      the size of the third, else 0 (C3A)
    ``cos(v)``        waves over the features of the input or the output, v / features of height,
                      1 when left out, one wave for each value of the core's bond. Their pairs of
                      frequencies are drawn without repetition, once for all cores (FourierFT)
    ``sin(v)``        the same with the sine
    ``copy(B)``       the first values of core B; ``-copy(B)`` is minus them
    ================  =========================================================================

    A core is read as one matrix for each combination of the sites that *every* core of the network
    carries, and of the features (the blocks of GraLoRA). Its rows are the slots that hold another
    target index, its columns the bonds; a core of bonds only has its first slot as rows. ``fan_in``
    is the number of rows of a core that meets the input, else the number of columns.

    Attributes
    ----------
    kind, value : the name and the argument; of a copy, 1 or -1.
    of, base : of a copy, the core and its rule.

    >>> str(InitRule("normal", 0.02)), InitRule("zeros").is_zero
    ('normal(0.02)', True)
    """

    kind: str
    value: float | None = None
    of: str | None = None
    base: InitRule | None = None

    @property
    def is_zero(self) -> bool:
        """Whether every number that it makes is zero."""
        if self.base is not None:
            return self.base.is_zero
        zero = self.value is not None and self.value == 0.0
        return self.kind == "zeros" or (self.kind in _ARGUMENT and self.kind != "kaiming" and zero)

    def renamed(self, names: Mapping[str, str]) -> InitRule:
        """Return the rule where cores have other names."""
        return self if self.of is None else replace(self, of=names.get(self.of, self.of))

    def __str__(self) -> str:
        if self.of is not None:
            return f"{'-' if self.value == -1.0 else ''}{_COPY}({self.of})"
        if self.value is None or self.value == _ARGUMENT[self.kind]:
            return self.kind
        return f"{self.kind}({self.value!r})"


def parse_rule(text: str | InitRule) -> InitRule:
    """Read a rule such as ``zeros``, ``normal(0.02)``, ``kaiming`` or ``-copy(B)``.

    Raises
    ------
    FamilyError
        E302 for an unknown rule or a wrong argument.

    >>> parse_rule("normal(0.02)").value
    0.02
    """
    if isinstance(text, InitRule):
        return parse_rule(str(text))
    match = _RULE.fullmatch(text) if isinstance(text, str) else None
    if match is not None and match[2] == _COPY:
        return _copy(match[1], match[3])
    if match is None or match[1] or match[2] not in _ARGUMENT:
        close = difflib.get_close_matches(str(text).split("(")[0], _ARGUMENT, n=1)
        advice = f"Did you mean {close[0]}? " if close else ""
        advice += f"Rules: {', '.join(_ARGUMENT)}, copy(CORE)."
        raise FamilyError("E302", f"unknown initialisation rule {text!r}", advice=advice)
    kind, argument = match[2], match[3]
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


def _copy(sign: str, core: str | None) -> InitRule:
    if not core:
        raise FamilyError("E302", "the rule copy needs a core", advice="Write copy(B), say.")
    return InitRule(_COPY, -1.0 if sign else 1.0, core)


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


def resolve_copies(rules: Mapping[str, InitRule], network: Network) -> dict[str, InitRule]:
    """Give every copy the rule of the core that it copies.

    Raises
    ------
    FamilyError
        E302 where there is no such core, it is a copy itself, or it has other slots.

    >>> from tenslora.spec import parse
    >>> two = parse("W[out in] = B[out in] + N[out in]")
    >>> rules = resolve_copies({"B": parse_rule("xavier"), "N": parse_rule("-copy(B)")}, two)
    >>> rules["N"].base.kind
    'xavier'
    """
    return {core: _resolved(core, rule, rules, network) for core, rule in rules.items()}


def _resolved(
    core: str, rule: InitRule, rules: Mapping[str, InitRule], network: Network
) -> InitRule:
    if rule.of is None:
        return rule
    of = rules.get(rule.of)
    mine, other = network.cores[core], network.cores.get(rule.of)
    if of is None or other is None:
        what = f"core {core} starts as {rule}, and there is no core {rule.of}"
        raise FamilyError("E302", what, advice=f"The cores are {', '.join(network.cores)}.")
    if of.of is not None:
        what = f"core {core} starts as {rule}, and {rule.of} is a copy itself"
        raise FamilyError("E302", what, advice=f"Copy {of.of}.")
    if mine.slots != other.slots:
        what = f"core {core} starts as {rule}, and {other} has other slots than {mine}"
        advice = f"A copy has the slots of its core: {Core(core, other.slots)}."
        raise FamilyError("E302", what, advice=advice)
    return replace(rule, base=of)
