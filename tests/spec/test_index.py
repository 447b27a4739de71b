"""Slots, cores and terms: what they hold and how they are written."""

from __future__ import annotations

import dataclasses

import pytest

from tenslora.spec import RESERVED, Core, Term
from tenslora.spec.index import format_slot


def test_slots_and_cores_are_written_as_the_language_has_them():
    core = Core("G", (("a",), ("layer", "r"), ("b",)))
    assert [format_slot(slot) for slot in core.slots] == ["a", "(layer r)", "b"]
    assert str(core) == "G[a (layer r) b]"
    assert core.indices == ("a", "layer", "r", "b")


def test_a_term_lists_each_index_once_in_order():
    term = Term((Core("B", (("out",), ("r",))), Core("A", (("r",), ("in",)))))
    assert str(term) == "B[out r] A[r in]"
    assert term.indices == ("out", "r", "in")


def test_constants_are_known_by_their_names():
    assert {"eye", "ones"} == RESERVED
    assert Core("eye", (("a",), ("b",))).is_constant
    assert not Core("Eye", (("a",), ("b",))).is_constant


def test_parts_are_values():
    core = Core("A", (("r",), ("in",)))
    assert core == Core("A", (("r",), ("in",)))
    assert len({core, Core("A", (("r",), ("in",)))}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        core.name = "B"
