"""The language: parse an equation into a :class:`Network`, print it, size it, store it."""

from __future__ import annotations

from tenslora.spec.canonical import canonical
from tenslora.spec.index import RESERVED, Core, Slot, Term, format_slot
from tenslora.spec.network import Network
from tenslora.spec.parse import parse, parse_definition
from tenslora.spec.schema import SCHEMA_VERSION, from_json, to_json
from tenslora.spec.sizes import balanced, complete_sizes, core_shape, is_count, slot_size

__all__ = [
    "RESERVED",
    "SCHEMA_VERSION",
    "Core",
    "Network",
    "Slot",
    "Term",
    "balanced",
    "canonical",
    "complete_sizes",
    "core_shape",
    "format_slot",
    "from_json",
    "is_count",
    "parse",
    "parse_definition",
    "slot_size",
    "to_json",
]
