"""Ranks that fall in training: W, the optimiser, training that goes on, checkpoints."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import tenslora as tl
from tenslora.errors import AttachError, DataError, FitError
from tenslora.integrations import RankSchedule, change_ranks

TUCKER = "W[layer out in] = U[in a] V[out b] D[layer c] G[a b c]"
LORA = "W[layer out in] = B[layer out r] A[layer r in]"
TRAIN = "W[layer out in] = B[out b] P[b layer a] A[a in]"


class Net(nn.Module):
    def __init__(self, width: int = 10, depth: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x).tanh()
        return x


def trained(equation, ranks=4, wrapper=None, steps=25, make=torch.optim.AdamW):
    """A model, its adapter, the optimizer after some steps, and one more step."""
    torch.manual_seed(0)
    model = Net()
    x, goal = torch.randn(24, 10), torch.randn(24, 10)
    family = equation if wrapper is None else tl.wrap(wrapper, equation)
    adapter = tl.attach(model, family, targets="all-linear", ranks=ranks)
    optimizer = make(adapter.param_groups(2e-2))

    def step():
        loss = (model(x) - goal).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    losses = [step() for _ in range(steps)]
    assert losses[-1] < losses[0]
    return model, adapter, optimizer, step, x


@pytest.mark.parametrize("equation", [LORA, TUCKER, TRAIN])
def test_training_goes_on_in_place(equation, tmp_path):
    model, adapter, optimizer, step, x = trained(equation)
    groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    w = torch.stack([adapter.delta(site).detach() for site in adapter.sites]).double()
    steps = {int(state["step"]) for state in optimizer.state.values()}
    made = change_ranks(adapter, 2, optimizer=optimizer)
    (bound,) = adapter.bounds.values()
    assert set(bound.ranks.values()) == {2}
    assert made.parameters == adapter.trainable_parameters < 4 * made.parameters
    now = torch.stack([adapter.delta(site).detach() for site in adapter.sites]).double()
    lost = float((w - now).norm() / w.norm())
    assert abs(lost - made.error) < 1e-4
    if equation == LORA:
        values = torch.linalg.svdvals(w)
        assert abs(lost - float(values[:, 2:].norm() / values.norm())) < 1e-4
    # the optimizer trains what stands on the model, with settings and state as they were
    held = [id(p) for g in optimizer.param_groups for p in g["params"]]
    assert held == [id(p) for p in adapter.parameters()]
    assert {id(p) for n, p in model.named_parameters() if n.startswith("tenslora.")} == set(held)
    assert groups == [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    assert {id(p) for p in optimizer.state} == set(held)
    assert {int(state["step"]) for state in optimizer.state.values()} == steps
    for parameter, state in optimizer.state.items():
        assert state["exp_avg"].shape == state["exp_avg_sq"].shape == parameter.shape
        assert (state["exp_avg_sq"] >= 0).all()
        assert state["exp_avg"].abs().max() > 0
    before = step()
    losses = [step() for _ in range(25)]
    assert losses[-1] < before
    adapter.save(tmp_path / "a.safetensors")
    expected = model(x)
    adapter.detach()
    loaded = tl.load(model, tmp_path / "a.safetensors")
    assert loaded.bounds.popitem()[1].ranks == bound.ranks
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


def test_carried_state_takes_the_step_that_the_gauge_says():
    """One step of momentum behind a change that cuts nothing: W moves as it would have."""
    results = []
    for change in (False, True):
        _, adapter, optimizer, _, _ = trained(LORA, make=lambda g: torch.optim.SGD(g, 1e-3, 0.9))
        if change:
            assert change_ranks(adapter, 1e-6, optimizer=optimizer).error < 1e-5
        momentum = {
            name: optimizer.state[p]["momentum_buffer"]
            for bank in adapter.banks.values()
            for name, p in bank.named_parameters()
        }
        (bank,) = adapter.banks.values()
        cores = {n: p.detach() for n, p in bank.named_parameters()}
        # <dL/dW-like, W> is the same in every gauge: B's momentum against B, A's against A
        results.append(torch.stack([(momentum[n] * cores[n]).sum() for n in ("B", "A")]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-5)


def test_state_is_reset_when_asked():
    _, adapter, optimizer, step, _ = trained(TUCKER)
    made = change_ranks(adapter, {"a": 2}, optimizer=optimizer, state="reset")
    assert made.state == "reset"
    assert made.after["10x10"] == {"a": 2, "b": 4, "c": 4}
    assert not optimizer.state
    step()
    assert optimizer.state


def test_a_tolerance_in_place_of_ranks():
    _, adapter, _, _, _ = trained(TRAIN)
    made = change_ranks(adapter, 0.3)
    assert 0 < made.error <= 0.3
    assert made.state == "none"
    assert str(made).startswith("10x10: ")


@pytest.mark.parametrize("wrapper", ["dora", "hira"])
def test_a_wrapper_keeps_what_it_has(wrapper):
    _, adapter, optimizer, step, _ = trained(LORA, wrapper=wrapper)
    own = [p for n, p in adapter.module.named_parameters() if n.endswith("magnitude")]
    change_ranks(adapter, 2, optimizer=optimizer)
    kept = [p for n, p in adapter.module.named_parameters() if n.endswith("magnitude")]
    assert [id(p) for p in own] == [id(p) for p in kept]
    assert {id(p) for p in adapter.parameters()} == {id(p) for p in optimizer.state}
    step()


def test_the_model_is_as_it_was_when_it_is_detached():
    torch.manual_seed(0)
    model = Net()
    before = {n: p.clone() for n, p in model.named_parameters()}
    x = torch.randn(4, 10)
    expected = model(x)
    adapter = tl.attach(model, LORA, targets="all-linear", ranks=4)
    change_ranks(adapter, 2)
    adapter.merge()
    adapter.unmerge()
    adapter.detach()
    assert {n for n, _ in model.named_parameters()} == before.keys()
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    assert not any(m._forward_hooks for m in model.modules())


def test_a_schedule_in_a_loop():
    _, adapter, optimizer, step, _ = trained(LORA)
    schedule = RankSchedule(adapter, {3: 3, 6: {"r": 1}})
    for number in range(1, 9):
        step()
        changed = schedule.step(number, optimizer)
        assert (changed is not None) == (number in schedule.at)
    assert [c.after["10x10"]["r"] for c in schedule.changes] == [3, 1]


def test_a_schedule_in_transformers_trainer(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

    class Loss(Net):
        def forward(self, x, labels):
            out = super().forward(x)
            return {"loss": (out - labels).square().mean(), "out": out}

    torch.manual_seed(0)
    model = Loss()
    adapter = tl.attach(model, TUCKER, targets="all-linear", ranks=4)
    schedule = RankSchedule(adapter, {8: 2})
    rows = [{"x": torch.randn(10), "labels": torch.randn(10)} for _ in range(16)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=20, learning_rate=5e-2, report_to=[], use_cpu=True,
        per_device_train_batch_size=16, save_strategy="no", logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model, arguments, train_dataset=rows, callbacks=[schedule.callback()]
    )
    trainer.train()
    assert len(schedule.changes) == 1
    assert schedule.changes[0].state == "carry"
    held = {id(p) for g in trainer.optimizer.param_groups for p in g["params"]}
    assert held == {id(p) for p in adapter.parameters()}
    steps = {int(s["step"]) for s in trainer.optimizer.state.values()}
    assert steps == {20}
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]


def test_what_cannot_be_done_changes_nothing(monkeypatch):
    model, adapter, *_, x = trained(LORA)
    expected, ids = model(x), [id(p) for p in adapter.parameters()]
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    lion = torch.optim.Adafactor(adapter.parameters())
    model(x).sum().backward()
    lion.step()
    expected = model(x)
    for ranks, options, kind, text in (
        ({"r": 9}, {}, FitError, "E905: the rank r=9"),
        ("2", {}, FitError, "E905: ranks='2' are neither ranks nor an error"),
        (1.5, {}, FitError, "E905: tolerance=1.5"),
        (2, {"state": "keep"}, FitError, "E906: state='keep'"),
        (2, {"optimizer": other}, FitError, "E906: the optimizer trains no core"),
        (2, {"optimizer": lion}, FitError, 'E906: the optimizer keeps .*(?s:.*)state="reset"'),
    ):
        with pytest.raises(kind, match=text):
            change_ranks(adapter, ranks, **options)
        assert [id(p) for p in adapter.parameters()] == ids
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    with pytest.raises(FitError, match="E905: 0 is no number of finished steps"):
        RankSchedule(adapter, {0: 2})
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="E715: ranks are changed in one process"):
        change_ranks(adapter, 2)
    monkeypatch.delenv("WORLD_SIZE")
    adapter.merge()
    with pytest.raises(AttachError, match="E511"):
        change_ranks(adapter, 2)


def test_a_copy_is_left_alone():
    model, adapter, *_, x = trained(LORA)
    copied = copy.deepcopy(model)
    expected = copied(x).detach().numpy()
    change_ranks(adapter, 1)
    np.testing.assert_array_equal(copied(x).detach().numpy(), expected)
