"""Families that start from the weights, by the tuner: as attach has them, and the weights kept."""

from __future__ import annotations

import peft
import pytest
import torch

import tenslora as tl

SETTINGS = {
    "pissa": {},
    "lora_xs": {},
    "tinylora": {},
    "dota": {"sizes": {"o1": 2, "o2": 2, "o3": 3, "i1": 2, "i2": 2, "i3": 3}},
    "craft": {},
}


def prepare(make, config, name):
    base = make("plain")
    before = {n: t.clone() for n, t in base.state_dict().items()}
    chosen = config(family=name, target_modules=["q", "v"], **SETTINGS[name])
    return peft.get_peft_model(base, chosen), before


def cores_of(model):
    (banks,) = model.base_model.shared.adapters.values()
    return {f"{g}.{n}": t.detach() for g, bank in banks.items() for n, t in bank.cores().items()}


def train(model, run):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        run(model, "plain").square().sum().backward()
        optimizer.step()


def test_every_family_with_a_start_from_the_weights_is_here():
    assert {n for n, f in tl.registered().items() if f.start is not None} == set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_start_is_that_of_attach_and_the_weights_come_back(name, make, run, config):
    expected = run(make("plain"), "plain")
    model, before = prepare(make, config, name)
    torch.testing.assert_close(run(model, "plain"), expected, rtol=1e-4, atol=1e-5)
    other = make("plain")
    adapter = tl.attach(other, name, targets=["q", "v"], ranks=2, **SETTINGS[name])
    for group, bank in adapter.banks.items():
        for core, tensor in bank.cores().items():
            assert torch.equal(tensor, cores_of(model)[f"{group}.{core}"])
    train(model, run)
    assert not torch.allclose(run(model, "plain"), expected, rtol=1e-3, atol=1e-3)
    merged = run(model, "plain")
    model.merge_adapter()
    torch.testing.assert_close(run(model, "plain"), merged, rtol=1e-4, atol=1e-4)
    model.unmerge_adapter()
    restored = model.unload()
    assert before.keys() == restored.state_dict().keys()
    assert all(torch.equal(t, before[n]) for n, t in restored.state_dict().items())
    torch.testing.assert_close(run(restored, "plain"), expected, rtol=0, atol=0)


@pytest.mark.parametrize("save_frozen", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_frozen_cores_follow_from_the_weights_of_the_base(
    name, save_frozen, make, run, config, tmp_path
):
    chosen = {**SETTINGS[name], "save_frozen": save_frozen}
    model = peft.get_peft_model(
        make("plain"), config(family=name, target_modules=["q", "v"], **chosen)
    )
    train(model, run)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(make("plain"), tmp_path)
    for core, tensor in cores_of(model).items():
        assert torch.equal(cores_of(again)[core], tensor)
    torch.testing.assert_close(run(again, "plain"), run(model, "plain"), rtol=0, atol=0)
