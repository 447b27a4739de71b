"""Without Hugging Face: groups of an optimiser, torch.distributed.checkpoint, a quantised base."""

from __future__ import annotations

import copy

import pytest
import torch

import tenslora as tl
from tenslora.errors import AttachError, FamilyError, StateError

TUCKER = tl.family(
    "W[layer proj out in] = U[in a] V[out b] P[proj c] G[layer a b c]",
    init={"G": "zeros"},
    lr={"U": 2.0},
)


@pytest.fixture
def adapter(make_case, randomized):
    case = make_case("plain")
    made = tl.attach(case.model, TUCKER, targets=case.targets, ranks=2, train="head")
    randomized(made)
    return made


def rates(adapter, **options):
    names = {id(p): n for b in adapter.banks.values() for n, p in b.named_parameters()}
    groups = adapter.param_groups(0.1, **options)
    return {names.get(id(p), "head"): g["lr"] for g in groups for p in g["params"]}


def test_rates_by_core(adapter):
    base = {"U": 0.2, "V": 0.1, "P": 0.1, "G": 0.1, "head": 0.1}
    assert rates(adapter) == base
    assert rates(adapter, core_lr_multiplier=4) == {**base, "P": 0.4, "G": 0.4}
    assert rates(adapter, core_lr_multiplier={"U": 3, "G": 0}) == {**base, "U": 0.1 * 6, "G": 0.0}
    groups = adapter.param_groups(0.1, weight_decay=0.5)
    assert {group["weight_decay"] for group in groups} == {0.5}
    found = [p for group in groups for p in group["params"]]
    assert {id(p) for p in found} == {id(p) for p in adapter.parameters()}
    assert len(found) == len(set(map(id, found)))
    with pytest.raises(FamilyError, match=r"E301: core_lr_multiplier names a core 'X'"):
        adapter.param_groups(0.1, core_lr_multiplier={"X": 2})


def test_a_rate_of_its_own_moves_a_core_as_much_further(adapter):
    """One step of SGD is the gradient times the rate."""
    before = {n: p.detach().clone() for n, p in adapter.banks["12x12"].named_parameters()}
    optimizer = torch.optim.SGD(adapter.param_groups(1e-3, core_lr_multiplier={"G": 5}))
    adapter.model(torch.ones(1, 2, 12, dtype=torch.float64)).square().sum().backward()
    optimizer.step()
    for name, parameter in adapter.banks["12x12"].named_parameters():
        rate = 1e-3 * {"G": 5, "U": 2}.get(name, 1)
        torch.testing.assert_close(parameter.detach(), before[name] - rate * parameter.grad)


def test_distributed_checkpoints(adapter, make_case, tmp_path):
    """Saved by torch.distributed.checkpoint, loaded into an equal adapter, bit for bit."""
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    x = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(1, 2, 12)
    output = adapter.model(x)
    dcp.save({"adapter": adapter}, checkpoint_id=tmp_path / "dcp", no_dist=True)
    case = make_case("plain")
    twin = tl.attach(case.model, TUCKER, targets=case.targets, ranks=2, train="head", seed=3)
    assert not torch.equal(case.model(x), output)
    dcp.load({"adapter": twin}, checkpoint_id=tmp_path / "dcp", no_dist=True)
    assert torch.equal(case.model(x), output)
    assert not any(p.requires_grad for n, p in case.model.named_parameters() if "blocks" in n)


def test_a_state_dict_of_another_adapter_is_refused(adapter, make_case, snapshot):
    case = make_case("plain")
    state = adapter.state_dict()
    twin = tl.attach(case.model, TUCKER, targets=case.targets, ranks=2, train="head")
    before = snapshot(case.model)
    for change, text in (
        (lambda s: s.pop("cores.12x12.G"), "E612: .*cores.12x12.G"),
        (lambda s: s.update(x=torch.ones(1)), "E612: .*x"),
        (lambda s: s.update({"cores.12x12.G": torch.ones(1)}), "E613: cores.12x12.G has shape"),
    ):
        changed = dict(state)
        change(changed)
        with pytest.raises(StateError, match=text):
            twin.load_state_dict(changed)
    before.check(case.model)
    twin.load_state_dict(state)
    twin.merge()
    with pytest.raises(AttachError, match="E511"):
        twin.load_state_dict(state)
    other = make_case("plain")
    layers = tl.attach(other.model, TUCKER, targets=["q", "k", "o"], ranks=2, train="head")
    with pytest.raises(StateError, match=r"E617: .*another design"):
        layers.load_state_dict(state)


def test_a_state_dict_is_a_copy(adapter):
    state = adapter.state_dict()
    kept = copy.deepcopy(state)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(1)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_a_plain_loop_trains_it(adapter):
    x = torch.linspace(-1, 1, 120, dtype=torch.float64).reshape(2, 5, 12).cos()
    wanted = torch.zeros(2, 5, 3, dtype=torch.float64)
    optimizer = torch.optim.Adam(adapter.param_groups(1e-2, core_lr_multiplier=2))
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.mse_loss(adapter.model(x), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
