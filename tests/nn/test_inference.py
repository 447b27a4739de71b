"""Forwards without gradients: what is hoisted is kept, and never longer than it is true."""

from __future__ import annotations

import copy

import pytest
import torch

import tenslora as tl
from tenslora.nn.halves import Halves

TUCKER = "W[layer proj out in] = U[in a] V[out b] P[proj c] D[layer d] G[a b c d]"
LORA = "W[layer proj out in] = B[layer proj out r] A[layer proj r in]"
KRONECKER = "W[layer proj (o p) (i j)] = C[layer proj o i] B[layer p r] A[proj r j]"


@pytest.fixture
def attached(make_case, randomized):
    def attach(equation=TUCKER):
        case = make_case("plain")
        family = tl.family(equation, starts_nonzero=True)
        adapter = tl.attach(case.model, family, targets=case.targets, ranks=2)
        randomized(adapter)
        return case, adapter

    return attach


@pytest.fixture
def hoists(monkeypatch):
    """How often the normal form is computed."""
    made = []
    init = Halves.__init__
    monkeypatch.setattr(Halves, "__init__", lambda *a: (made.append(1), init(*a))[1])
    return made


def optimizer_step(adapter):
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.5)
    for parameter in adapter.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def fused_step(adapter):
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.5, foreach=True)
    for parameter in adapter.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def copied(adapter):
    with torch.no_grad():
        next(adapter.parameters()).copy_(torch.ones(()))


def data_assigned(adapter):
    for parameter in adapter.parameters():
        parameter.data = parameter.data + 1


def data_changed_in_place(adapter):
    for parameter in adapter.parameters():  # counted by no version
        parameter.data.add_(1)


def through_numpy(adapter):
    next(adapter.parameters()).detach().numpy()[...] = 0.5


def state_loaded(adapter):
    state = {name: value + 1 for name, value in adapter.model.state_dict().items()}
    adapter.model.load_state_dict(state)


def state_assigned(adapter):
    state = {name: value + 1 for name, value in adapter.model.state_dict().items()}
    adapter.model.load_state_dict(state, assign=True)


def cast(adapter):
    adapter.model.float().double()


def replaced(adapter):
    bank = next(iter(adapter.banks.values()))
    name, core = next(bank.named_parameters())
    setattr(bank, name, torch.nn.Parameter(core.detach() * 3))


CHANGES = (
    optimizer_step,
    fused_step,
    copied,
    data_assigned,
    data_changed_in_place,
    through_numpy,
    state_loaded,
    state_assigned,
    cast,
    replaced,
)


EQUATIONS = {"tucker": TUCKER, "lora": LORA, "kronecker": KRONECKER}


@pytest.mark.parametrize("equation", EQUATIONS.values(), ids=list(EQUATIONS))
@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_a_changed_core_is_seen(attached, change, equation):
    case, adapter = attached(equation)
    with torch.no_grad():
        before = case.run()
        assert torch.equal(case.run(), before)
        change(adapter)
        after = case.run()
        fresh = copy.deepcopy(case.model)(**case.inputs)  # a copy has hoisted nothing yet
    assert not torch.equal(after, before)
    assert torch.equal(after, fresh)


@pytest.mark.parametrize(("equation", "after"), [(TUCKER, 2), (LORA, 1)], ids=["tucker", "lora"])
def test_hoisted_once_while_nothing_changes(attached, hoists, equation, after):
    """Where hoisting only looks at the cores in another shape it does so once."""
    case, adapter = attached(equation)
    with torch.no_grad():
        for _ in range(3):
            case.run()
        assert len(hoists) == 1
        optimizer_step(adapter)
        case.run()
        case.run()
    assert len(hoists) == after
    case.run()  # with gradients: a graph of its own
    assert len(hoists) == after + 1


def test_gradients_after_a_forward_without(attached):
    """What is kept has no graph, and no forward that trains may get it."""
    case, adapter = attached()
    expected = torch.autograd.grad(case.run().square().sum(), list(adapter.parameters()))
    with torch.no_grad():
        case.run()
    found = torch.autograd.grad(case.run().square().sum(), list(adapter.parameters()))
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one, two)
    case.run().sum().backward()
    with torch.inference_mode():
        case.run()
    case.run().sum().backward()


def test_autocast_and_transforms_do_not_get_what_was_kept(attached):
    case, _ = attached()
    case.model.float()
    x = case.inputs["x"].float()
    with torch.no_grad():
        plain = case.model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast_once = case.model(x)
        fresh = copy.deepcopy(case.model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(fresh(x), cast_once)
        assert torch.equal(case.model(x), plain)
        many = torch.func.vmap(case.model)(torch.stack([x, x]))
    torch.testing.assert_close(many[0], plain, rtol=1e-4, atol=1e-4)


def test_a_model_whose_adapter_changes_between_forwards(attached):
    case, adapter = attached(KRONECKER)
    other = tl.attach(
        case.model, tl.family(TUCKER, starts_nonzero=True), targets=["q"], ranks=2, name="b"
    )
    with torch.no_grad():
        b = case.run()
        with tl.active(case.model, "default"):
            default = case.run()
        with adapter.disabled(), other.disabled():
            off = case.run()
        assert torch.equal(case.run(), b)
        with tl.active(case.model, "default"):
            assert torch.equal(case.run(), default)
    assert not torch.equal(off, default)


@pytest.mark.parametrize("n", [1, 5, 10])
def test_few_and_many_rows_are_one_update(attached, n, monkeypatch):
    """Up to some number of rows an update is added by plain operations."""
    case, adapter = attached(LORA)
    x = case.inputs["x"].flatten(0, 1)[None, :n].clone().requires_grad_()
    wanted = [x, *adapter.parameters()]
    found = []
    for few in (0, 32):
        monkeypatch.setattr("tenslora.nn.reading.FEW", few)
        out = case.model(x)
        found.append([out, *torch.autograd.grad(out.square().sum(), wanted)])
        with torch.no_grad():
            found[-1].append(case.model(x))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("grad", [True, False])
def test_fake_tensors(attached, grad):
    """Shapes without numbers: nothing may be compared, kept, or read."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    case, _ = attached()
    with torch.set_grad_enabled(grad):
        expected = case.run()
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            found = case.model(mode.from_tensor(case.inputs["x"]))
        assert type(found).__name__ == "FakeTensor"
        assert found.shape == expected.shape
        assert torch.equal(case.run(), expected)
