"""Every side of the benchmarks computes the same: outputs and gradients, against the dense
update.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.cases import MODELS, resolve, stack_case
from benchmarks.checking import Difference, check_equal, results_of
from benchmarks.counters import FAMILIES
from benchmarks.sides import make_side, sides_of
from tenslora.testing import oracle


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_sides_agree(family):
    case = stack_case(2, 48, 7, heads=4, dtype=torch.float64)
    sides = [make_side(name, case, family, 3) for name in sides_of(family)]
    assert {side.name for side in sides} >= {"tenslora", "einsum", "opt_einsum"}
    check_equal(case, sides, 1e-11)


@pytest.mark.parametrize("family", ["lora", "tenslora.att_qkv_depth", "tenslora_cp.depth"])
def test_sides_agree_where_keys_and_values_are_narrow(family):
    case = stack_case(2, 64, 7, heads=4, narrow=32, dtype=torch.float64)
    names = [name for name in sides_of(family) if name != "rebuild"]
    check_equal(case, [make_side(name, case, family, 3) for name in names], 1e-11)


@pytest.mark.parametrize("family", ["lora", "lokr", "tenslora.att_qkv", "fact_tk"])
def test_the_update_is_that_of_the_equation(family):
    """The difference to the frozen model, against W made by the oracle of the laws."""
    case = stack_case(1, 48, 7, heads=4, dtype=torch.float64)
    bank = case.banks(resolve(family), 3)["48x48"]
    held = {n: v.detach().numpy() for n, v in _values(case, family).items()}
    dense = oracle.dense(bank.bound.network, held, bank.bound.sizes)
    dense = torch.from_numpy(dense).reshape(3, 48, 48) * bank.bound.scale
    x = case.inputs["x"].detach()
    outputs = case.run(make_side("hand", case, family, 3).model)
    frozen = case.run(make_side("floor", case).model)
    for out, base, weight in zip(outputs, frozen, dense, strict=True):
        torch.testing.assert_close(out - base, x @ weight.mT, rtol=1e-10, atol=1e-12)


def _values(case, family):
    from benchmarks.cases import draw_values

    return draw_values(case.banks(resolve(family), 3)["48x48"], "cpu", torch.float64)


def test_a_side_that_differs_is_refused():
    case = stack_case(1, 48, 7, heads=4, dtype=torch.float64)
    sides = [make_side(name, case, "lora", 3) for name in ("hand", "tenslora")]
    with torch.no_grad():
        next(p for p in sides[1].model.parameters() if p.requires_grad).mul_(1.001)
    with pytest.raises(Difference, match="of tenslora differs from hand's by"):
        check_equal(case, sides, 1e-6)


def test_a_side_without_a_gradient_is_refused():
    case = stack_case(1, 48, 7, heads=4, dtype=torch.float64)
    side = make_side("hand", case, "lora", 3)
    without = dataclasses.replace(side, gradients=dict)
    with pytest.raises(Difference, match="gradient of A"):
        check_equal(case, [side, without], 1e-6)


def test_frozen_weights_are_one_set():
    case = stack_case(2, 48, 7, heads=4)
    places = {p.data_ptr() for p in case.model.parameters()}
    for name in ("floor", "PEFT", "tenslora", "hand", "einsum"):
        model = make_side(name, case, "lora", 3).model
        held = {p.data_ptr() for p in model.parameters()}
        assert places <= held, name


@pytest.mark.parametrize("name", ["tiny", "tiny-llama", "tiny-roberta"])
def test_whole_models_agree(name):
    """Through attention and the rest; head and all cores trained."""
    case = MODELS[name](device="cpu", dtype=torch.float64)
    for family in ("lora", "tenslora.att_qkv_depth"):
        names = [n for n in sides_of(family) if n not in ("opt_einsum", "rebuild")]
        sides = [make_side(n, case, family, 2) for n in names]
        check_equal(case, sides, 1e-6 if "llama" in name else 1e-10)  # it normalises in float32


def test_the_floor_pays_every_activation_gradient():
    case = MODELS["tiny"](device="cpu", dtype=torch.float32)
    side = make_side("floor", case)
    trained = {name for name, p in side.model.named_parameters() if p.requires_grad}
    first = {f"{path}.bias" for path in case.groups[0]}
    assert trained == first | {"classifier.weight", "classifier.bias"}
    assert results_of(case, side).keys() == {"output 0"}
    case.step(side.model)
    grads = [p.grad for p in side.model.parameters() if p.requires_grad]
    # a bias of the keys moves every score of a row alike, and so has no effect
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads)
