"""The counters as a gate: what an adapter adds to the frozen model, against what PEFT's LoRA
adds.

Counted on the meta device at the published size (12 layers of width 768, 1,576 tokens), so the
numbers are exact and a limit can stand right above them. `python -m benchmarks counters` prints
them all.
"""

from __future__ import annotations

import pytest

from benchmarks.cases import CONSTRUCTIONS, stack_case
from benchmarks.counters import QUANTITIES
from benchmarks.counting import count_step
from benchmarks.figures import SHARING
from benchmarks.sides import make_side
from tenslora.nn import adapters
from tenslora.nn.memory import saved_bound

#: The most that any construction or `lora` takes today, in parts of PEFT's LoRA, by rank. FLOPs may
#: not exceed PEFT's (by more than the hoisted products, which are thin), or seven tenths of them
#: where q, k and v read one input factor.
LIMITS = {
    4: {"flops": 1.01, "calls": 0.42, "nbytes": 0.262, "saved": 1.02},
    16: {"flops": 1.01, "calls": 0.42, "nbytes": 0.29, "saved": 1.10},
}
SHARED_FLOPS = 0.70


@pytest.fixture(scope="module")
def case():
    return stack_case(12, 768, 1576, device="meta")


@pytest.fixture(scope="module")
def floor(case):
    return count_step(case, make_side("floor", case))[0]


@pytest.fixture(scope="module")
def peft(case, floor):
    return {r: count_step(case, make_side("PEFT", case, "lora", r))[0] - floor for r in (4, 16)}


@pytest.mark.parametrize(
    ("family", "rank"),
    [
        *((family, 4) for family in ("lora", *CONSTRUCTIONS)),
        *((family, 16) for family in ("tenslora.att", "tenslora.att_qkv_depth", "lotr")),
    ],
)
def test_no_dearer_than_the_limits(case, floor, peft, family, rank):
    side = make_side("tenslora", case, family, rank)
    extra = count_step(case, side)[0] - floor
    found = {q: getattr(extra, q) / getattr(peft[rank], q) for q in QUANTITIES}
    limits = {**LIMITS[rank], **({"flops": SHARED_FLOPS} if family in SHARING else {})}
    over = {q: round(ratio, 3) for q, ratio in found.items() if ratio > limits[q]}
    assert over == {}, f"limits: {limits}"
    (adapter,) = adapters(side.model).values()
    assert extra.saved <= saved_bound(adapter, 1576)


@pytest.mark.parametrize("family", ["lora", "tenslora.att_qkv_depth", "tenslora_cp.qkv"])
def test_recomputing_saves_next_to_nothing(case, floor, family):
    """The frozen model of the case saves the input of each normalisation, and no more."""
    extra = count_step(case, make_side("tenslora, recompute", case, family, 4))[0] - floor
    assert extra.saved <= 0.02 * floor.saved


def test_peft_is_what_it_was_when_the_goals_were_set(case, floor, peft):
    """Goals in parts of PEFT's LoRA mean something only as long as it does the same work."""
    assert peft[4].calls == pytest.approx(351, rel=0.05)
    assert peft[4].nbytes / floor.nbytes == pytest.approx(1.556, rel=0.05)
