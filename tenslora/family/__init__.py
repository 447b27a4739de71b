"""The object that a user holds: an equation with its starts, scale and ranks."""

from __future__ import annotations

from tenslora.family.bound import Bound
from tenslora.family.family import Family, family
from tenslora.family.ranks import parse_ranks
from tenslora.family.registry import register, registered, resolve
from tenslora.family.scale import Scale, parse_scale

__all__ = [
    "Bound",
    "Family",
    "Scale",
    "family",
    "parse_ranks",
    "parse_scale",
    "register",
    "registered",
    "resolve",
]
