"""The group under `torch.compile`: what is compared, and what is said where nothing compiles."""

from __future__ import annotations

import shutil

import pytest
from torch._dynamo.eval_frame import _debug_get_cache_entry_list

from benchmarks import sections
from benchmarks.cases import Stack, stack_case
from benchmarks.checking import Difference
from benchmarks.compiled import measure

SIDES = ("floor", "floor again", "PEFT", "PEFT again", "tenslora")
COMPILED = ("floor compiled", "floor compiled again", "PEFT compiled", "PEFT compiled again",
            "tenslora compiled")  # fmt: skip
QUICK = {"rounds": 2, "budget": 1.0}


@pytest.fixture
def case():
    return stack_case(1, 48, 40, heads=4)


def test_without_a_compiler_the_rest_is_measured(case, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    row = measure(case, "tenslora.att_qkv_depth", 3, **QUICK)
    assert tuple(row["sides"]) == SIDES
    reason = "no C++ compiler: no-such-compiler is not found"
    assert row["failed"] == dict.fromkeys(COMPILED, reason)
    assert row["differences"].keys() == {"tenslora"}
    text = sections._compiled({"rows": [row]})
    assert f"PEFT compiled (tenslora.att_qkv_depth, r = 3): {reason}" in text


def test_a_compiled_side_that_differs_is_refused(case):
    """A backend that doubles what every graph gives."""

    def wrong(graph, inputs):
        return lambda *args: tuple(2 * out for out in graph(*args))

    with pytest.raises(Difference, match="of floor compiled differs from floor's by"):
        measure(case, "lora", 3, backend=wrong, **QUICK)
    assert not _debug_get_cache_entry_list(Stack.forward.__code__)  # graphs are dropped


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor(case):
    row = measure(case, "lora", 3, **QUICK)
    assert tuple(row["sides"]) == (*SIDES, *COMPILED)
    assert max(row["differences"].values()) < 1e-4
