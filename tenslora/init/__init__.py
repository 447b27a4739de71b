"""How cores start: rules that are data, and their numbers, the same on every backend.

Numbers are drawn with numpy's Philox, keyed by the seed, the core's name and a key that tells
shape groups apart, so that a seed means the same start with numpy, torch and jax, whatever the
order in which cores are made. No global generator is touched.
"""

from __future__ import annotations

from tenslora.init.draws import draw
from tenslora.init.rule import InitRule, parse_rule, resolve_copies
from tenslora.init.weights import WeightStart, from_weights, parse_start

__all__ = [
    "InitRule",
    "WeightStart",
    "draw",
    "from_weights",
    "parse_rule",
    "parse_start",
    "resolve_copies",
]
