"""Merging into the weights, and taking it out again bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tenslora as tl
from tenslora.errors import AttachError
from tenslora.nn import merge

TUCKER = tl.family(
    "W[layer proj out in] = U[in a] V[out b] P[proj c] D[layer d] G[a b c d]",
    scale="constant(0.5)",
    starts_nonzero=True,
)
LORA = tl.family(
    "W[layer proj out in] = B[layer proj out r] A[layer proj r in]", starts_nonzero=True
)
KINDS = ["bert", "roberta", "vit", "gpt2", "llama", "plain"]


@pytest.mark.parametrize("reversible", [True, False])
def test_of_a_merged_adapter_two_hooks_are_left_and_of_a_detached_one_nothing(
    reversible, make_case, randomized
):
    case = make_case("plain")

    def there():
        hooks = [
            (name, len(m._forward_pre_hooks), len(m._forward_hooks))
            for name, m in case.model.named_modules()
            if m._forward_hooks or m._forward_pre_hooks
        ]
        return [name for name, _ in case.model.named_modules()], hooks

    names, _ = there()
    adapter = tl.attach(case.model, TUCKER, targets=case.targets, ranks=3)
    randomized(adapter)
    adapter.merge(reversible=reversible)
    assert there() == ([*names, "tenslora"], [("", 1, 1)])
    assert not any(case.model.tenslora.children())
    merged = case.run()
    adapter.detach(keep=True)
    assert there() == (names, [])
    assert torch.equal(case.run(), merged)


@pytest.mark.parametrize("kind", KINDS)
def test_merge_then_unmerge(kind, make_case, randomized, snapshot):
    case = make_case(kind)
    keys, base = list(case.model.state_dict()), case.run()
    adapter = tl.attach(case.model, TUCKER, targets=case.targets, ranks=3)
    randomized(adapter)
    before, output = snapshot(case.model), case.run()
    assert not torch.allclose(output, base)
    adapter.merge()
    assert adapter.merged
    assert adapter.active
    assert list(case.model.state_dict()) == keys
    assert not any(m._forward_hooks for n, m in case.model.named_modules() if n)
    torch.testing.assert_close(case.run(), output, rtol=0, atol=1e-10)
    for _ in range(3):
        adapter.unmerge()
        adapter.merge()
    adapter.unmerge()
    assert torch.equal(case.run(), output)
    now = snapshot(case.model)
    for parts in (before.parts, now.parts):  # torch numbers hooks anew
        for key in [key for key in parts if "_hooks" in key]:
            parts[key] = [hook for _, hook in parts[key]]
    assert now.parts == before.parts


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_merging_in_low_precision_rounds_once_and_unmerges_exactly(dtype, make_case, randomized):
    case = make_case("plain")
    case.model.to(dtype)
    weight = case.model.blocks[1].k.weight
    first = weight.detach().clone()
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
    randomized(adapter)
    bank = adapter.banks["12x12"]
    update = bank.B[1, 1].double() @ bank.A[1, 1].double()
    for _ in range(20):
        adapter.merge()
        assert torch.equal(weight, (first.double() + update).to(dtype))
        adapter.unmerge()
    assert torch.equal(weight, first)
    assert weight.dtype == dtype


def test_the_parameter_object_stays(make_case, randomized):
    case = make_case("plain")
    weight = case.model.blocks[0].q.weight
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
    randomized(adapter)
    pointer = weight.data_ptr()
    adapter.merge()
    assert case.model.blocks[0].q.weight is weight
    adapter.unmerge()
    assert weight.data_ptr() == pointer


def test_detach_while_merged(make_case, randomized):
    case = make_case("plain")
    base = case.run()
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
    randomized(adapter)
    output = case.run()
    adapter.merge()
    with pytest.raises(AttachError, match=r"E511.*\n.*unmerge\(\) gives the weights back"):
        adapter.detach()
    adapter.unmerge()
    adapter.detach()
    assert torch.equal(case.run(), base)
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
    randomized(adapter)
    adapter.merge()
    adapter.detach(keep=True)
    torch.testing.assert_close(case.run(), output, rtol=0, atol=1e-10)
    assert not hasattr(case.model, "tenslora")


def test_wrong_order(make_case, randomized, snapshot):
    case = make_case("plain")
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
    with pytest.raises(AttachError, match="E511: adapter 'default' is not merged"):
        adapter.unmerge()
    adapter.merge()
    before = snapshot(case.model)
    for use in (adapter.merge, adapter.deactivate, adapter.disabled().__enter__):
        with pytest.raises(AttachError, match="E511: adapter 'default' is merged"):
            use()
    with (
        pytest.raises(AttachError, match="E511: adapter 'default' is merged"),
        tl.active(case.model, []),
    ):
        pass
    before.check(case.model)


def test_adapters_are_unmerged_in_reverse(make_case, randomized):
    case = make_case("plain")
    base = case.run()
    a = tl.attach(case.model, LORA, targets=["q", "k"], ranks=2, name="a")
    b = tl.attach(case.model, TUCKER, targets=["k", "v"], ranks=2, name="b")
    randomized(a, 1)
    randomized(b, 2)
    a.activate(only=False)
    both = case.run()
    a.merge()
    torch.testing.assert_close(case.run(), both, rtol=0, atol=1e-10)
    b.merge()
    torch.testing.assert_close(case.run(), both, rtol=0, atol=1e-10)
    with pytest.raises(AttachError, match=r"adapter 'b' was merged after 'a', into blocks\.0\.k"):
        a.unmerge()
    b.unmerge()
    a.unmerge()
    with tl.active(case.model, []):
        assert torch.equal(case.run(), base)
    assert list(case.model.tenslora) == ["a", "b"]


def test_a_weight_that_was_changed_meanwhile_is_not_overwritten(make_case):
    case = make_case("plain")
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
    adapter.merge()
    with torch.no_grad():
        case.model.blocks[0].q.weight.mul_(2)
    with pytest.raises(AttachError, match=r"E511: the weight of blocks\.0\.q was changed since"):
        adapter.unmerge()
    adapter.detach(keep=True)


def test_updates_that_are_not_finite(make_case, snapshot):
    case = make_case("plain")
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
    with torch.no_grad():
        adapter.banks["12x12"].A[1, 2, 0, 0] = float("nan")
    before = snapshot(case.model)
    with pytest.raises(AttachError, match=r"E512: the update of blocks\.1\.v is not finite"):
        adapter.merge()
    before.check(case.model)
    adapter.merge(safe=False)
    assert case.model.blocks[1].v.weight.isnan().any()
    adapter.unmerge()
    assert not case.model.blocks[1].v.weight.isnan().any()


def test_overflow_of_the_weights_dtype(make_case):
    case = make_case("plain")
    case.model.half()
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
    with torch.no_grad():
        for core in adapter.parameters():
            core.fill_(1e3)
    with pytest.raises(AttachError, match=r"E512: the merged weight of blocks.* torch\.float16"):
        adapter.merge()


def test_tied_weights_are_refused(make_case, snapshot):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(5, 4)
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
            self.head = nn.Linear(4, 5, bias=False)
            self.head.weight = self.embed.weight
            self.layers[1].weight = nn.Parameter(self.layers[0].weight.detach())  # one storage

    model = Tied()
    head = tl.attach(model, "W[out in] = B[out r] A[r in]", targets="head", ranks=1, name="h")
    body = tl.attach(model, "W[out in] = B[out r] A[r in]", targets="1", ranks=1, name="b")
    before = snapshot(model)
    with pytest.raises(AttachError, match=r"E513: the weight of head is also embed\.weight"):
        head.merge()
    with pytest.raises(AttachError, match=r"the weight of layers\.1 is also layers\.0\.weight"):
        body.merge()
    before.check(model)


def test_weights_that_are_no_plain_matrix(make_case):
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    adapter = tl.attach(model, "W[out in] = B[out r] A[r in]", targets="0", ranks=1)
    with pytest.raises(AttachError, match="E513: the weight of 0 is not a plain"):
        adapter.merge()


def test_autocast_does_not_reach_the_merge(make_case, randomized):
    case = make_case("plain")
    case.model.float()
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
    randomized(adapter)
    adapter.merge()
    expected = case.model.blocks[0].q.weight.detach().clone()
    adapter.unmerge()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adapter.merge()
    assert torch.equal(case.model.blocks[0].q.weight, expected)


def test_merged_and_moved(make_case, randomized):
    """The original weights follow a change of dtype while merged."""
    case = make_case("plain")
    case.model.float()
    first = case.model.blocks[0].q.weight.detach().clone()
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
    randomized(adapter)
    adapter.merge()
    case.model.double()
    adapter.unmerge()
    assert torch.equal(case.model.blocks[0].q.weight, first.double())


@pytest.mark.parametrize("step", ["merge", "unmerge"])
def test_a_failure_halfway_leaves_the_model(step, make_case, randomized, snapshot, monkeypatch):
    case = make_case("plain")
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=2)
    randomized(adapter)
    if step == "unmerge":
        adapter.merge()
    output, before = case.run(), snapshot(case.model)
    calls = []
    swap = merge._swap

    def failing(weights, values):
        if not calls:
            calls.append(1)
            swap(weights, dict(list(values.items())[:2]))
            raise KeyboardInterrupt
        swap(weights, values)

    monkeypatch.setattr(merge, "_swap", failing)
    with pytest.raises(KeyboardInterrupt):
        getattr(adapter, step)()
    assert adapter.merged == (step == "unmerge")
    assert torch.equal(case.run(), output)
    now = snapshot(case.model)
    for parts in (before.parts, now.parts):  # torch numbers hooks anew
        for key in [key for key in parts if "_hooks" in key]:
            parts[key] = [hook for _, hook in parts[key]]
    assert now.parts == before.parts
