"""A machine is measured, and an adapter planned for it: as fast as may be, and the same numbers."""

from __future__ import annotations

import json

import pytest
import torch

import tenslora as tl
from tenslora.errors import AttachError, PlanError
from tenslora.plan import Profile, profile_to_json


def test_what_is_measured_is_possible():
    profile = tl.nn.tune(repeats=2, name="here")
    assert (profile.name, profile.itemsize) == ("here", 4)
    assert 1e8 < profile.flops_per_second < 1e14
    assert 0.01 < profile.flops_per_byte < 1e4
    assert 1e-8 < profile.flops_per_call / profile.flops_per_second < 1e-2


def test_a_device_that_is_not_there():
    with pytest.raises(PlanError, match="cuda-float32 cannot be measured here") as told:
        tl.nn.tune("cuda:99")
    assert told.value.code == "E413"


def made(**options):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Linear(16, 16))
    return model, tl.attach(model, "tied_lora", targets="all-linear", ranks=4, **options)


def test_an_adapter_planned_for_a_file_gives_the_same(tmp_path):
    path = tmp_path / "calls.json"
    calls = Profile("calls", 10.0, 4, 1e9)
    path.write_text(json.dumps(profile_to_json(calls)), encoding="utf-8")
    x = torch.randn(5, 16)
    outputs = []
    for plan in (None, {"profile": path, "tokens": 4}):
        model, adapter = made(plan=plan)
        generator = torch.Generator().manual_seed(1)
        for p in adapter.parameters():
            p.data = torch.randn(p.shape, generator=generator)
        outputs.append(model(x).detach())
        (bank,) = adapter.banks.values()
    assert bank.program.plan.problem.profile == calls
    assert bank.program.plan.problem.tokens == 4
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("plan", "error", "code", "says"),
    [
        ({"machine": "cpu"}, AttachError, "E503", "The options are memory_limit, profile, tokens."),
        ({"profile": "gpu"}, PlanError, "E412", "no profile 'gpu'"),
        ({"memory_limit": 1}, PlanError, "E411", "The least is"),
        ({"tokens": 0}, PlanError, "E403", "tokens=0"),
    ],
)
def test_what_cannot_be_planned_leaves_the_model_alone(plan, error, code, says):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Linear(16, 16))
    before = list(model.state_dict())
    with pytest.raises(error) as told:
        tl.attach(model, "tied_lora", targets="all-linear", ranks=4, plan=plan)
    assert told.value.code == code
    assert says in str(told.value)
    assert list(model.state_dict()) == before
    assert not hasattr(model, "tenslora")
    assert all(not m._forward_hooks for m in model.modules())


def planned(adapter):
    (bank,) = adapter.banks.values()
    problem = bank.program.plan.problem
    return problem.profile.name, problem.tokens


PLAN = {"profile": "h200-bf16", "tokens": 64}


def test_a_loaded_adapter_is_planned_for_this_machine(tmp_path):
    """A file says nothing of a plan."""
    model, adapter = made(plan=PLAN)
    assert planned(adapter) == ("h200-bf16", 64)
    adapter.save(tmp_path / "adapter.safetensors")
    adapter.export_lora(tmp_path / "lora")
    adapter.detach()
    for load, path in ((tl.load, "adapter.safetensors"), (tl.load_lora, "lora")):
        for plan, expected in ((None, ("cpu", 512)), (PLAN, ("h200-bf16", 64))):
            again = load(model, tmp_path / path, plan=plan)
            assert planned(again) == expected
            again.detach()
        with pytest.raises(AttachError, match="E503: plan names 'machine'"):
            load(model, tmp_path / path, plan={"machine": "cpu"})
        assert not hasattr(model, "tenslora")


def test_an_adapter_of_peft_is_planned_for_this_machine(tmp_path):
    peft = pytest.importorskip("peft")

    def wrapped(plan):
        config = tl.TensLoraConfig(
            family="tied_lora", ranks=2, target_modules="all-linear", plan=plan
        )
        return peft.get_peft_model(torch.nn.Sequential(torch.nn.Linear(16, 16)), config)

    def of(model):
        (bank,) = model.base_model.shared.adapters["default"].values()
        return bank.program.plan.problem.profile.name

    model = wrapped(PLAN)
    assert of(model) == "h200-bf16"
    model.save_pretrained(tmp_path)
    assert "plan" not in json.loads((tmp_path / "adapter_config.json").read_text())
    config = tl.TensLoraConfig.from_pretrained(tmp_path)
    for plan, name in ((None, "cpu"), (PLAN, "h200-bf16")):
        config.plan = plan
        base = torch.nn.Sequential(torch.nn.Linear(16, 16))
        assert of(peft.PeftModel.from_pretrained(base, tmp_path, config=config)) == name
    with pytest.raises(PlanError, match="E412: there is no profile 'gpu'"):
        wrapped({"profile": "gpu"})
