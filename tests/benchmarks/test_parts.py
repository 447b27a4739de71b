"""One layer alone and each of several: the least that hooks can do is what is wanted."""

from __future__ import annotations

import pytest
import torch

from benchmarks import parts
from benchmarks.cases import stack_case
from benchmarks.sides import make_side


@pytest.mark.parametrize("family", ["lora", "tenslora.att_qkv_depth", "tenslora.qkv"])
@pytest.mark.parametrize("tokens", [5, 20])
def test_products_in_hooks_are_the_update_and_empty_hooks_are_none(family, tokens):
    case = stack_case(2, 32, tokens, heads=4)
    sides = parts._sides(case, family, 3, train=False)
    with torch.no_grad():
        found = {name: case.run(side.model) for name, side in sides.items()}
    for one, two in zip(found["products in hooks"], found["hand"], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(one, found["floor"][0], atol=1e-2)
    for one, two in zip(found["empty hooks"], found["floor"], strict=True):
        assert torch.equal(one, two)


def test_products_that_differ_end_the_run():
    case = stack_case(1, 32, 5, heads=4)
    hooks = parts._products(case, "lora", 3)
    hooks["layers.0.k"].b.mul_(1.5)
    side, ours = (
        parts._hooked(case, "products in hooks", hooks),
        make_side("tenslora", case, "lora", 3),
    )
    with pytest.raises(AssertionError, match="not close"):
        parts._check_outputs(case, side, ours, 2e-3)


def test_a_row_holds_what_was_measured():
    row = parts.measure(*(4, "lora", 3), train=False, width=32, layers=(1, 3), rounds=5, budget=1.0)
    assert row["layers"] == [1, 3]
    assert {"floor again", "empty hooks", "products in hooks", "PEFT", "tenslora"} <= {
        *row["sides"]
    }
    assert all({"few", "many"} == found.keys() for found in row["sides"].values())
