"""Words of the command line as numbers, ranks and families."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterable

from tenslora.cli.command import Parser
from tenslora.errors import UsageError
from tenslora.family import Family, family, resolve
from tenslora.init import parse_rule
from tenslora.integrations.config import parse_family
from tenslora.spec import Network

__all__ = [
    "add_family_settings",
    "read_family",
    "read_like",
    "read_pairs",
    "read_sizes",
    "whole_number",
]

_INTEGER = re.compile(r"[+-]?\d[\d_]*")


def whole_number(name: str, text: str) -> int:
    """Return the integer that ``text`` is, or raise E803.

    >>> whole_number("in", "768")
    768
    """
    if not _INTEGER.fullmatch(text):
        what = f"{name}={text} is not a whole number"
        raise UsageError("E803", what, advice=f"Write {name}=8, say.")
    return int(text)


def read_pairs(what: str, words: Iterable[str]) -> dict[str, str]:
    """Return ``name=value`` words as a dict; E803 for another form, E804 for a name given twice.

    >>> read_pairs("a start", ["B=zeros", "A=normal(0.02)"])
    {'B': 'zeros', 'A': 'normal(0.02)'}
    """
    found: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        name, value = name.strip(), value.strip()
        if not (name and sign and value):
            advice = "Write name=value, without spaces; an equation stands in quotes."
            raise UsageError("E803", f"{word!r} is not {what}", advice=advice)
        if found.setdefault(name, value) != value:
            what = f"{name} is given as {found[name]} and as {value}"
            raise UsageError("E804", what, advice="Give it once.")
    return found


def read_sizes(words: Iterable[str]) -> dict[str, int]:
    """Return sizes and ranks.

    >>> read_sizes(["in=768", "rank=4"])
    {'in': 768, 'rank': 4}
    """
    pairs = read_pairs("a size or a rank", words)
    return {name: whole_number(name, value) for name, value in pairs.items()}


def read_like(text: str) -> Family:
    """Return a family with ranks: ``lora:8``, or ``tenslora.qkv:a=22,b=22,c=3``.

    >>> dict(read_like("W[out in] = B[out r] A[r in]:8").ranks)
    {'r': 8}
    """
    found, with_ranks = parse_family(text)
    if not with_ranks:
        what = f"{text!r} is not a family with ranks"
        raise UsageError("E803", what, advice="Write lora:8, or a rank for each bond: NAME:a=4,b=2")
    return found


def add_family_settings(parser: Parser) -> None:
    """Add the options that complete an equation, or change a named family."""
    add = parser.add_argument
    add(
        "--init",
        action="append",
        default=[],
        metavar="CORE=RULE",
        help="how a core starts: zeros, ones, eye, orthogonal, 'normal(0.02)', ...; repeatable",
    )
    add(
        "--frozen",
        action="append",
        default=[],
        metavar="CORE",
        help="a core that is drawn and not trained; repeatable",
    )
    add("--scale", metavar="RULE", help="constant, 'constant(0.5)', alpha/r or 'alpha/sqrt(r)'")


def read_family(args: Namespace, *, any_start: bool) -> Family:
    """Return the family that a command line means.

    Parameters
    ----------
    args : has ``family`` and what :func:`add_family_settings` adds.
    any_start : whether an equation that cannot train from its start is accepted too.
    """
    named = not ("=" in args.family or "[" in args.family)
    if not (args.init or args.frozen or args.scale):
        return resolve(args.family, any_start=any_start)
    base = resolve(args.family, any_start=True)
    given = read_pairs("the start of a core", args.init)
    frozen = {*base.frozen, *args.frozen}
    start = dict(base.init) if named else _first_zero(base.network, given, frozen)
    return family(
        base.network,
        init={**start, **given},
        frozen=frozen,
        scale=args.scale or base.scale,
        dropout=base.dropout,
        lr=base.lr,
        ranks=base.ranks,
        starts_nonzero=any_start or (named and base.starts_nonzero),
    )


def _first_zero(network: Network, given: dict[str, str], frozen: set[str]) -> dict[str, str]:
    """Start the first trained core of each term at zero, where none is said to start there."""
    start: dict[str, str] = {}
    for term in network.terms:
        names = [c.name for c in term.cores if not c.is_constant and c.name not in frozen]
        rules = {**start, **given}
        if names and not any(name in rules and parse_rule(rules[name]).is_zero for name in names):
            start[names[0]] = "zeros"
    return start
