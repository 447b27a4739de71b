"""Several adapters, switching them, threads, tasks and copies."""

from __future__ import annotations

import asyncio
import copy
import io
import threading

import pytest
import torch

import tenslora as tl
from tenslora.errors import AttachError

LORA = tl.family(
    "W[layer proj out in] = B[layer proj out r] A[layer proj r in]", starts_nonzero=True
)
CP = tl.family("W[layer proj out in] = B[out r] L[layer r] P[proj r] A[r in]", starts_nonzero=True)


@pytest.fixture
def two(make_case, randomized):
    """A model with adapters a (inactive) and b (active), its case, and outputs by active set."""
    case = make_case("plain")
    outputs = {"": case.run()}
    a = tl.attach(case.model, LORA, targets=["q", "k"], ranks=2, name="a")
    randomized(a, 1)
    outputs["a"] = case.run()
    b = tl.attach(case.model, CP, targets=["q", "v"], ranks=3, name="b")
    randomized(b, 2)
    outputs["b"] = case.run()
    a.activate(only=False)
    outputs["ab"] = case.run()
    b.activate()
    values = list(outputs.values())
    assert not any(torch.equal(x, y) for n, x in enumerate(values) for y in values[:n])
    return case, a, b, outputs


def test_the_newest_is_active_and_others_can_join(two):
    case, a, b, outputs = two
    assert list(tl.adapters(case.model)) == ["a", "b"]
    assert (a.active, b.active) == (False, True)
    assert torch.equal(case.run(), outputs["b"])
    a.activate()
    assert (a.active, b.active) == (True, False)
    assert torch.equal(case.run(), outputs["a"])
    a.deactivate()
    assert torch.equal(case.run(), outputs[""])


def test_both_updates_add_up(two):
    case, _, _, _ = two
    x = case.inputs["x"]
    q = case.model.blocks[0].q
    with tl.active(case.model, []):
        base = q(x)
    parts = []
    for names in (["a"], ["b"], ["a", "b"]):
        with tl.active(case.model, names):
            parts.append(q(x) - base)
    torch.testing.assert_close(parts[0] + parts[1], parts[2], rtol=0, atol=1e-12)


def test_contexts_nest_and_end(two):
    case, a, b, outputs = two
    with b.disabled():
        assert torch.equal(case.run(), outputs[""])
        with tl.active(case.model, ["a", "b"]):
            assert torch.equal(case.run(), outputs["ab"])
            with a.disabled():
                assert torch.equal(case.run(), outputs["b"])
        assert torch.equal(case.run(), outputs[""])
    with pytest.raises(RuntimeError), tl.active(case.model, "a"):
        case.model(torch.zeros(1))
    assert torch.equal(case.run(), outputs["b"])


def test_contexts_hold_for_their_thread_alone(two):
    case, _, _, outputs = two
    names = ["", "a", "b", "ab"] * 2
    barrier = threading.Barrier(len(names))
    wrong = []

    def work(name: str) -> None:
        with tl.active(case.model, list(name)):
            barrier.wait()
            wrong.extend(name for _ in range(20) if not torch.equal(case.run(), outputs[name]))

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert torch.equal(case.run(), outputs["b"])


def test_contexts_hold_for_their_task_alone(two):
    case, _, _, outputs = two

    async def work(name: str) -> bool:
        with tl.active(case.model, list(name)):
            await asyncio.sleep(0)
            good = torch.equal(case.run(), outputs[name])
            await asyncio.sleep(0)
            return good and torch.equal(case.run(), outputs[name])

    async def everyone() -> list[bool]:
        return await asyncio.gather(*(work(name) for name in ["", "a", "b", "ab"]))

    assert all(asyncio.run(everyone()))


def test_a_model_may_switch_inside_its_forward(make_case, randomized):
    case = make_case("plain")

    class Difference(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = case.model

        def forward(self, x):
            with tl.active(self, []):
                base = self.body(x)
            return self.body(x) - base

    model = Difference()
    expected = -case.run()
    adapter = tl.attach(model, LORA, targets=["q", "k"], ranks=2)
    randomized(adapter)
    expected = expected + case.model(**case.inputs)
    torch.testing.assert_close(model(**case.inputs), expected, rtol=0, atol=1e-12)


def test_detaching_one_leaves_the_other(two, snapshot):
    case, a, b, outputs = two
    b.detach()
    assert list(tl.adapters(case.model)) == ["a"]
    a.activate()
    assert torch.equal(case.run(), outputs["a"])
    assert list(case.model.tenslora) == ["a"]
    a.detach()
    assert torch.equal(case.run(), outputs[""])
    assert not hasattr(case.model, "tenslora")


def test_requires_grad_comes_back_when_the_last_goes(make_case):
    case = make_case("plain")
    case.model.blocks[0].o.weight.requires_grad_(False)
    before = [p.requires_grad for p in case.model.parameters()]
    a = tl.attach(case.model, LORA, targets=["q"], ranks=2, name="a", train="head")
    b = tl.attach(case.model, LORA, targets=["q"], ranks=2, name="b")
    assert case.model.head.weight.requires_grad
    with pytest.raises(AttachError, match="E514: head is trained by another adapter"):
        tl.attach(case.model, LORA, targets=["q"], ranks=2, name="c", train="head")
    a.detach()
    assert not case.model.head.weight.requires_grad
    b.detach()
    assert [p.requires_grad for p in case.model.parameters()] == before


def test_a_deep_copy_is_independent(two):
    case, _, _, outputs = two
    twin = copy.deepcopy(case.model)
    theirs = tl.adapters(twin)
    assert list(theirs) == ["a", "b"]
    assert theirs["b"].banks["12x12"] is twin.tenslora["b"]["12x12"]
    with torch.no_grad():
        for core in theirs["b"].banks["12x12"].cores().values():
            core.add_(1)
    assert torch.equal(case.run(), outputs["b"])
    changed = case.run(twin)
    assert not torch.equal(changed, outputs["b"])
    with tl.active(case.model, []):
        assert torch.equal(case.run(twin), changed)
    theirs["b"].detach()
    theirs["a"].detach()
    assert torch.equal(case.run(twin), outputs[""])
    assert torch.equal(case.run(), outputs["b"])
    changed.sum().backward()
    assert all(p.grad is None for p in case.model.parameters())


def test_a_copy_of_a_merged_model(two):
    case, _, b, outputs = two
    b.merge()
    twin = copy.deepcopy(case.model)
    torch.testing.assert_close(case.run(twin), outputs["b"], rtol=0, atol=1e-10)
    tl.adapters(twin)["b"].unmerge()
    assert b.merged
    with tl.active(twin, []):
        assert torch.equal(case.run(twin), outputs[""])


def test_a_model_is_pickled_with_its_adapters(two):
    case, _, _, outputs = two
    file = io.BytesIO()
    torch.save(case.model, file)
    file.seek(0)
    twin = torch.load(file, weights_only=False)
    assert torch.equal(case.run(twin), outputs["b"])
    tl.adapters(twin)["a"].activate()
    assert torch.equal(case.run(twin), outputs["a"])


def test_errors(two, snapshot):
    case, a, _, _ = two
    before = snapshot(case.model)
    with pytest.raises(AttachError, match="E508: the model has an adapter 'a' already"):
        tl.attach(case.model, LORA, targets=["q"], ranks=2, name="a")
    with (
        pytest.raises(AttachError, match="E508: Plain has no adapter 'c'"),
        tl.active(case.model, ["c"]),
    ):
        pass
    before.check(case.model)
    a.detach()
    for use in (a.detach, a.merge, a.unmerge, a.activate, a.deactivate, a.disabled().__enter__):
        with pytest.raises(AttachError, match="E510: adapter 'a' is not on a model any more"):
            use()
    with (
        pytest.raises(AttachError, match="E508: Linear has no adapter 'a'"),
        tl.active(torch.nn.Linear(1, 1), "a"),
    ):
        pass
    assert "detached" in repr(a)


def test_a_part_with_adapters_of_its_own_is_no_base(two, snapshot):
    case, _, _, _ = two
    outer = torch.nn.Sequential(case.model)
    before = snapshot(outer)
    with pytest.raises(AttachError, match="E509: 0 has adapters of its own: a, b"):
        tl.attach(outer, LORA, targets=["q"], ranks=2)
    before.check(outer)


def test_functional_calls_replace_cores(two):
    case, _, b, outputs = two
    values = {
        f"tenslora.b.12x12.{name}": torch.zeros_like(core)
        for name, core in b.banks["12x12"].named_parameters()
    }
    found = torch.func.functional_call(case.model, values, kwargs=case.inputs)
    assert torch.equal(found, outputs[""])
    grads = torch.func.grad(
        lambda v: torch.func.functional_call(case.model, v, kwargs=case.inputs).sum()
    )(dict(b.module.named_parameters(prefix="tenslora.b")))
    case.run().sum().backward()
    for name, parameter in b.module.named_parameters(prefix="tenslora.b"):
        torch.testing.assert_close(grads[name], parameter.grad, rtol=1e-10, atol=1e-12)


def test_a_failure_halfway_leaves_nothing(make_case, snapshot, monkeypatch):
    """Whatever goes wrong while hooks are put on: the model is as before."""
    case = make_case("bert")
    before = snapshot(case.model)
    calls = []
    register = torch.nn.Module.register_forward_hook

    def failing(self, hook, **options):
        calls.append(self)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return register(self, hook, **options)

    monkeypatch.setattr(torch.nn.Module, "register_forward_hook", failing)
    with pytest.raises(KeyboardInterrupt):
        tl.attach(case.model, LORA, targets=case.targets, ranks=2, train="classifier")
    monkeypatch.undo()
    before.check(case.model)
    first = tl.attach(case.model, LORA, targets=case.targets, ranks=2, name="first")
    middle = snapshot(case.model)
    calls.clear()
    monkeypatch.setattr(torch.nn.Module, "register_forward_hook", failing)
    with pytest.raises(KeyboardInterrupt):
        tl.attach(case.model, LORA, targets=case.targets, ranks=2, name="second")
    monkeypatch.undo()
    middle.check(case.model)
    first.detach()
    before.check(case.model)
