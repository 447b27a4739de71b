"""The counters against numbers worked out by hand."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.cases import stack_case
from benchmarks.counting import CountingMode, SavedBytes, count_step
from benchmarks.sides import make_side

N, D, R = 10, 32, 4


def test_flops_calls_and_bytes_of_known_operations():
    a, b, c = torch.ones(3, 4), torch.ones(4, 5), torch.ones(3, 5)
    with CountingMode() as mode:
        c.addmm_(a, b)
        c.t().unsqueeze(0).reshape(5, 3)
    assert mode.by_name == {"addmm_": 1}
    assert mode.flops == 2 * 3 * 4 * 5
    assert mode.nbytes == 4 * (15 + 12 + 20 + 15)


def test_the_floor_of_one_layer():
    """Forward three products of n d d, backward as many for x; nothing else has a gradient."""
    case = stack_case(1, D, N, heads=4, device="meta")
    counts, names = count_step(case, make_side("floor", case))
    assert counts.flops == 6 * 2 * N * D * D
    assert names == {"addmm": 3, "mm": 3, "add": 2}
    product, bias, x = D * D + 2 * N * D, D, N * D
    assert counts.nbytes == 4 * (3 * (product + bias) + 3 * product + 2 * 3 * x)
    assert counts.saved == 0


def test_lora_by_hand_takes_the_thin_products_only():
    case = stack_case(1, D, N, heads=4, device="meta")
    floor, _ = count_step(case, make_side("floor", case))
    hand, _ = count_step(case, make_side("hand", case, "lora", R))
    # A x and B (A x); back: the gradients of both factors and of both inputs, for each of three
    assert (hand - floor).flops == 3 * 6 * 2 * N * D * R
    peft, _ = count_step(case, make_side("PEFT", case, "lora", R))
    assert (peft - floor).flops == (hand - floor).flops


def test_saved_bytes_count_a_storage_once_and_leave_weights_out():
    weight, x = nn.Parameter(torch.ones(4, 4)), torch.ones(3, 4)
    with SavedBytes([weight, x]) as saved:
        y = x @ weight  # saves x and the weight: both live anyway
        z = y.view(4, 3) * y.detach().clone().requires_grad_().view(4, 3)
    assert z.requires_grad
    assert saved.total == 2 * 4 * 12  # y and its copy


def test_the_stack_is_counted_as_the_whole_model_is():
    """What an adapter adds does not depend on what stands between the projections."""
    from benchmarks.cases import MODELS

    vit = MODELS["tiny"](device="meta", dtype=torch.float32)
    stack = stack_case(2, 64, 197, heads=1, device="meta")
    found = []
    for case in (vit, stack):
        floor, _ = count_step(case, make_side("floor", case))
        found.append(
            count_step(case, make_side("hand", case, "tenslora.att_qkv_depth", R))[0] - floor
        )
    assert found[0].flops == found[1].flops
    assert found[0].calls == found[1].calls
    assert found[0].nbytes == found[1].nbytes
