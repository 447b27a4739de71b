"""What is computed once a forward, what q, k and v share, and activation checkpointing."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

import tenslora as tl
from tenslora.errors import AttachError
from tenslora.nn.bank import Bank
from tenslora.nn.context import Contexts, SharedInput

EQUATIONS = {
    "lora": "W[layer proj out in] = B[layer proj out r] A[layer proj r in]",
    "tucker": "W[layer proj out in] = U[in a] V[out b] P[proj c] D[layer d] G[a b c d]",
    "sum": "W[layer proj out in] = B[layer out r] A[r in] + C[proj out s] E[s in]",
}
TUCKER = EQUATIONS["tucker"]


def family(equation: str) -> tl.Family:
    return tl.family(equation, starts_nonzero=True)


@pytest.fixture
def counted(monkeypatch):
    """Count hoists, and calls of each stage."""
    counts = {"hoist": 0, "stages": 0}
    hoist, program = Bank.hoist, Bank.program

    def counting_hoist(self, cores=None):
        counts["hoist"] += 1
        return hoist(self, cores)

    class Counting:
        def __init__(self, inner):
            self.inner = inner
            self.chains = tuple(tuple(self.count(s) for s in chain) for chain in inner.chains)

        def __getattr__(self, name):
            return getattr(self.inner, name)

        @staticmethod
        def count(stage):
            def run(h, tensor):
                counts["stages"] += 1
                return stage(h, tensor)

            return run

    made = {}

    def counting_program(self):
        if self not in made:
            made[self] = Counting(program.func(self))
        return made[self]

    monkeypatch.setattr(Bank, "hoist", counting_hoist)
    monkeypatch.setattr(Bank, "program", property(counting_program))
    return counts


def test_hoisted_once_a_forward(make_case, counted):
    case = make_case("bert")
    tl.attach(case.model, family(TUCKER), targets=case.targets, ranks=2)
    for count in (1, 2, 3):
        case.run()
        assert counted["hoist"] == count
    with torch.no_grad():
        case.run()
    assert counted["hoist"] == 4


def test_a_bank_for_each_shape_is_hoisted_once(make_case, counted):
    case = make_case("llama")
    tl.attach(case.model, family(TUCKER), targets=case.targets, ranks=2)
    case.run()
    assert counted["hoist"] == 2


KRONECKER = "W[layer proj (o p) (i j)] = C[o i] B[layer proj p r] A[layer r j]"


def test_query_key_and_value_share_their_first_stages(make_case, counted):
    case = make_case("plain")
    adapter = tl.attach(case.model, family(KRONECKER), targets=case.targets, ranks=2)
    case.run()
    stages = sum(len(chain) for chain in adapter.banks["12x12"].program.chains)
    assert stages > 1
    assert counted["stages"] <= 2 * (3 * (stages - 1) + 1)
    assert counted["stages"] < 2 * 3 * stages


def test_nothing_is_shared_where_inputs_differ(make_case, counted):
    case = make_case("plain")
    adapter = tl.attach(case.model, family(KRONECKER), targets=["q", "o"], ranks=2)
    case.run()
    stages = sum(len(chain) for chain in adapter.banks["12x12"].program.chains)
    assert counted["stages"] == 2 * 2 * stages


def test_an_input_changed_in_place_is_read_again(make_case, randomized):
    case = make_case("plain")
    adapter = tl.attach(case.model, family(TUCKER), targets=["q", "k"], ranks=2)
    randomized(adapter)

    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = case.model

        def forward(self, x):
            block = self.body.blocks[0]
            one = block.q(x)
            x += 1
            return one + block.k(x)

    x = case.inputs["x"]
    block = case.model.blocks[0]
    expected = block.q(x) + block.k(x + 1)
    adapter.detach()
    model = Changing()
    adapter = tl.attach(model, family(TUCKER), targets=["q", "k"], ranks=2)
    randomized(adapter)
    with torch.no_grad():
        torch.testing.assert_close(model(x.clone()), expected, rtol=0, atol=1e-12)


def test_modules_called_outside_the_roots_forward(make_case, randomized):
    case = make_case("bert")
    adapter = tl.attach(case.model, family(TUCKER), targets=case.targets, ranks=2)
    randomized(adapter)
    whole = case.model(**case.inputs, output_hidden_states=True).hidden_states[-1]
    inner = case.model.bert(**case.inputs).last_hidden_state
    assert torch.equal(whole, inner)
    grads = []
    for value in (whole, inner):
        adapter.banks["12x12"].zero_grad()
        value.square().sum().backward()
        grads.append([p.grad.clone() for p in adapter.parameters()])
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_nothing_is_kept_after_a_forward(make_case):
    case = make_case("plain")
    tl.attach(case.model, family(TUCKER), targets=case.targets, ranks=2)
    case.run()
    contexts = case.model.tenslora.contexts
    assert not contexts._stack
    assert not contexts._kept


def test_a_forward_that_raises_closes_its_context(make_case):
    case = make_case("plain")
    tl.attach(case.model, family(TUCKER), targets=case.targets, ranks=2)
    with pytest.raises(RuntimeError):
        case.model(torch.zeros(2, 3, 7, dtype=torch.float64))
    assert not case.model.tenslora.contexts._stack
    case.run()


class Checkpointed(nn.Module):
    """A model that runs each block under activation checkpointing."""

    def __init__(self, body: nn.Module, reentrant: bool | None, p: float = 0.0) -> None:
        super().__init__()
        self.body, self.reentrant, self.p = body, reentrant, p
        self.runs = 0

    def forward(self, x):
        x = x + torch.zeros(1, dtype=x.dtype, requires_grad=True)  # reentrant mode asks for it
        for block in self.body.blocks:
            x = x if self.reentrant is None else x.clone()
            x = block(x) if self.reentrant is None else self.segment(block, x)
        return self.body.head(x)

    def segment(self, block, x):
        def run(value):
            self.runs += 1
            return block(value)

        return checkpoint(run, x, use_reentrant=self.reentrant)


def gradients(case, equation, randomized, reentrant, *, dropout=0.0, train=False):
    model = Checkpointed(case.model, reentrant)
    adapter = tl.attach(
        model, family(equation), targets=["q", "k", "v", "o"], ranks=2, dropout=dropout
    )
    randomized(adapter)
    model.train(train)
    total = 0
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for scale in (1.0, 0.5):  # two steps, so that nothing is left over from the first
            loss = model(scale * case.inputs["x"]).square().sum()
            loss.backward()
            total += loss.item()
    assert model.runs == (0 if reentrant is None else 8)
    return total, [p.grad for p in adapter.parameters()]


@pytest.mark.parametrize("equation", EQUATIONS.values(), ids=list(EQUATIONS))
@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_checkpointing_gives_equal_gradients(
    equation, reentrant, dropout, make_case, randomized, monkeypatch
):
    options = {"dropout": dropout, "train": True}
    if dropout and reentrant:  # q, k and v cannot share a mask there: compare with no sharing
        monkeypatch.setattr(SharedInput, "key_of", staticmethod(lambda *known: None))
        monkeypatch.setattr(Contexts, "here", lambda self: None)
    loss, plain = gradients(make_case("plain"), equation, randomized, None, **options)
    again, found = gradients(make_case("plain"), equation, randomized, reentrant, **options)
    assert loss == again
    for one, two in zip(plain, found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "vit"])
@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
def test_gradient_checkpointing_of_transformers(kind, reentrant, make_case, randomized):
    found = []
    for use in (False, True):
        case = make_case(kind)
        adapter = tl.attach(case.model, family(TUCKER), targets=case.targets, ranks=2)
        randomized(adapter)
        case.model.train()
        for module in case.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        if use:
            case.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            case.model.enable_input_require_grads()
        case.run().square().sum().backward()
        found.append([p.grad for p in adapter.parameters()])
    for one, two in zip(*found, strict=True):
        assert one is not None
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_segments_that_share_one_input(make_case, randomized):
    """q in one segment and k in the next read the same tensor: nothing may cross the border."""

    class Split(nn.Module):
        def __init__(self, body, use):
            super().__init__()
            self.body, self.use = body, use

        def forward(self, x):
            block = self.body.blocks[0]
            parts = [block.q, block.k, block.v]
            if not self.use:
                return sum(part(x) for part in parts)
            return sum(checkpoint(part, x, use_reentrant=False) for part in parts)

    grads = []
    for use in (False, True):
        case = make_case("plain")
        model = Split(case.model, use)
        adapter = tl.attach(model, family(TUCKER), targets=["q", "k", "v"], ranks=2)
        randomized(adapter)
        model(case.inputs["x"]).square().sum().backward()
        grads.append([p.grad for p in adapter.parameters()])
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


def test_the_whole_model_under_checkpointing(make_case, randomized):
    grads = []
    for use in (None, False, True):
        case = make_case("plain")
        adapter = tl.attach(case.model, family(TUCKER), targets=case.targets, ranks=2)
        randomized(adapter)
        x = case.inputs["x"].clone().requires_grad_()
        with adapter.disabled() if use is None else tl.active(case.model, "default"):
            pass
        out = case.model(x) if use is None else checkpoint(case.model, x, use_reentrant=use)
        out.square().sum().backward()
        grads.append([p.grad for p in adapter.parameters()])
    for one, two, three in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(one, three, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", EQUATIONS)
def test_gradients_that_are_switched_on_inside_of_a_forward_without(name):
    """The layers in that part train, as any layer does: what was hoisted before has no graph."""

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(
                nn.ModuleDict({n: nn.Linear(6, 6) for n in "qkv"}) for _ in range(2)
            )

        def forward(self, x):
            first, second = ([layer[n] for n in "qkv"] for layer in self.layers)
            for layer in first:
                x = layer(x)
            with torch.enable_grad():
                for layer in second:
                    x = layer(x)
            return x

    model = Part()
    adapter = tl.attach(model, family(EQUATIONS[name]), targets=["q", "k", "v"], ranks=2)
    x = torch.randn(40, 6)
    with torch.no_grad():
        middle = x
        for n in "qkv":
            middle = model.layers[0][n](middle)
        out = model(x)
    assert out.requires_grad
    out.square().sum().backward()
    found = [core.grad.clone() for core in adapter.parameters()]
    for core in adapter.parameters():
        core.grad = None
    for n in "qkv":
        middle = model.layers[1][n](middle)
    torch.testing.assert_close(out, middle)
    middle.square().sum().backward()
    for one, core in zip(found, adapter.parameters(), strict=True):
        torch.testing.assert_close(one, core.grad)
        assert one.count_nonzero() > 0


@pytest.mark.parametrize("between", ["no_grad", "grad"])
def test_another_forward_between_a_forward_and_its_backward(between, make_case, randomized):
    grads = []
    for use in (None, False):
        case = make_case("plain")
        model = Checkpointed(case.model, use)
        adapter = tl.attach(model, family(TUCKER), targets=["q", "k", "v"], ranks=2)
        randomized(adapter)
        loss = model(case.inputs["x"]).square().sum()
        with torch.set_grad_enabled(between == "grad"):
            other = model(case.inputs["x"] + 1)
        (loss + (other.sum() if between == "grad" else 0)).backward()
        grads.append([p.grad for p in adapter.parameters()])
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


def test_backward_outside_of_the_context_that_the_forward_ran_in(make_case, randomized):
    """The recomputation uses the adapters of the forward, not those of the moment."""
    grads = []
    for use in (None, False, True):
        case = make_case("plain")
        model = Checkpointed(case.model, use)
        a = tl.attach(model, family(TUCKER), targets=["q", "k", "v"], ranks=2, name="a")
        b = tl.attach(model, family(EQUATIONS["lora"]), targets=["q", "o"], ranks=2, name="b")
        randomized(a, 1)
        randomized(b, 2)
        with tl.active(model, ["a"]):
            loss = model(case.inputs["x"]).square().sum()
        loss.backward()
        assert all(p.grad is None for p in b.parameters())
        grads.append([p.grad for p in a.parameters()])
    for one, two, three in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(one, three, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
def test_two_forwards_with_other_adapters_before_one_backward_are_refused(
    reentrant, make_case, randomized
):
    case = make_case("plain")
    model = Checkpointed(case.model, reentrant)
    adapter = tl.attach(model, family(TUCKER), targets=["q", "k", "v"], ranks=2)
    randomized(adapter)
    with adapter.disabled():
        reference = model(case.inputs["x"])
    loss = (model(case.inputs["x"]) - reference).square().sum()
    with pytest.raises(AttachError, match=r"E516: backward runs body\.blocks\.1\.q again"):
        loss.backward()


def test_the_model_under_checkpointing_with_other_adapters_is_refused(make_case, randomized):
    case = make_case("plain")
    adapter = tl.attach(case.model, family(TUCKER), targets=case.targets, ranks=2)
    randomized(adapter)
    x = case.inputs["x"].clone().requires_grad_()
    with adapter.disabled():
        reference = checkpoint(case.model, x, use_reentrant=False)
    loss = checkpoint(case.model, x, use_reentrant=False).sum() - reference.sum()
    with pytest.raises(AttachError, match="E516: backward runs the model again"):
        loss.backward()


class Distilled(nn.Module):
    """A forward under checkpointing, and in it another without gradients: on, or switched off."""

    def __init__(self, body, reentrant, first, off):
        super().__init__()
        self.body, self.reentrant, self.first, self.off = body, reentrant, first, off

    def student(self, x):
        if self.reentrant is None:
            return self.body(x)
        return checkpoint(self.body, x, use_reentrant=self.reentrant)

    def teacher(self, x):
        with torch.no_grad():
            if not self.off:
                return self.body(x)
            with tl.active(self, []):
                return self.body(x)

    def forward(self, x):
        if self.first:
            wanted = self.teacher(x * 1.1)
            return ((self.student(x) - wanted) ** 2).sum()
        found = self.student(x)
        return ((found - self.teacher(x * 1.1)) ** 2).sum()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("off", [True, False])
@pytest.mark.parametrize("targets", [("q", "k", "v"), ("v", "o")])
def test_a_teacher_in_the_forward_of_a_student(first, off, targets, make_case, randomized):
    found = {}
    for reentrant in (None, False, True):
        case = make_case("plain")
        model = Distilled(case.model, reentrant, first, off)
        adapter = tl.attach(model, "lora", targets=list(targets), ranks=2)
        randomized(adapter)
        x = case.inputs["x"].clone().requires_grad_()
        wanted = [x, *adapter.parameters()]
        if reentrant and off:  # a segment cannot be told from what is without gradients
            with pytest.raises(AttachError, match="E516") as error:
                model(x).backward()
            assert "use_reentrant=False" in str(error.value)
            continue
        model(x).backward()
        found[reentrant] = [t.grad for t in wanted]
    for grads in found.values():
        for one, two in zip(grads, found[None], strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


class TeacherInside(nn.Module):
    """A segment in which a part has no gradients, or is a segment of reentrant checkpointing."""

    def __init__(self, body, checkpointed, nested):
        super().__init__()
        self.body, self.checkpointed, self.nested = body, checkpointed, nested

    def first(self, x):
        if self.nested:
            return checkpoint(self.body, x, use_reentrant=True)
        with torch.no_grad():
            return self.body(x)

    def segment(self, x):
        return (self.first(x * 1.1) - self.body(x)).square()

    def forward(self, x):
        return (
            checkpoint(self.segment, x, use_reentrant=False)
            if self.checkpointed
            else (self.segment(x))
        )


@pytest.mark.parametrize("nested", [False, True])
def test_masks_of_dropout_are_drawn_again_in_a_segment(nested, make_case, randomized):
    found = []
    for checkpointed in (False, True):
        case = make_case("plain")
        model = TeacherInside(case.model, checkpointed, nested)
        adapter = tl.attach(model, "lora", targets=["q", "k", "v"], ranks=2, dropout=0.4)
        randomized(adapter)
        model.train()
        x = case.inputs["x"].clone().requires_grad_()
        torch.manual_seed(5)
        model(x).sum().backward()
        found.append([t.grad for t in (x, *adapter.parameters())])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


def test_two_segments_of_one_layer_with_an_adapter_on_and_off(make_case, randomized):
    class Two(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body

        def forward(self, x):
            found = checkpoint(self.body, x, use_reentrant=False)
            with tl.active(self, []):
                return found - checkpoint(self.body, x * 1.1, use_reentrant=False)

    case = make_case("plain")
    model = Two(case.model)
    adapter = tl.attach(model, "lora", targets=["q", "k", "v"], ranks=2)
    randomized(adapter)
    with pytest.raises(AttachError, match=r"E516: .*both on and off") as error:
        model(case.inputs["x"]).sum().backward()
    assert "two segments cannot be told apart" in str(error.value)


@pytest.mark.parametrize("inside", [True, False])
def test_saved_tensors_elsewhere_around_reentrant_segments(inside, make_case, randomized):
    """Whoever stores what is saved elsewhere is no segment; what was switched off stays so."""

    class Stored(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body

        def run(self, x):
            with torch.autograd.graph.save_on_cpu():
                return self.body(x)

        def forward(self, x):
            return checkpoint(self.run if inside else self.body, x, use_reentrant=True)

    case = make_case("plain")
    model = Stored(case.model)
    one = tl.attach(model, "lora", targets=["q", "k", "v"], ranks=2, name="one")
    two = tl.attach(model, "lora", targets=["q", "k", "v"], ranks=2, name="two")
    randomized(one)
    randomized(two)
    x = case.inputs["x"].clone().requires_grad_()
    with tl.active(model, "one"):
        loss = model(x).sum()
    with tl.active(model, "two"), torch.autograd.graph.save_on_cpu():
        loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in one.parameters())
    assert all(p.grad is None for p in two.parameters())


def keep_products(context, op, *args, **kwargs):
    kept = op in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


@pytest.mark.parametrize("mutation", [False, True])
def test_selective_checkpointing(mutation, make_case, randomized):
    """It keeps the outputs of frozen layers, to which nothing may be added in place then."""
    contexts = partial(
        create_selective_checkpoint_contexts, keep_products, allow_cache_entry_mutation=mutation
    )
    found = []
    for selective in (False, True):
        case = make_case("plain")
        body = case.model

        class Model(nn.Module):
            def __init__(self, body=body, selective=selective):
                super().__init__()
                self.body, self.selective = body, selective

            def forward(self, x):
                if not self.selective:
                    return self.body(x)
                return checkpoint(self.body, x, use_reentrant=False, context_fn=contexts)

        model = Model()
        adapter = tl.attach(model, "lora", targets=["q", "k", "v"], ranks=2)
        randomized(adapter)
        x = case.inputs["x"].repeat(1, 12, 1).requires_grad_()
        model(x).square().sum().backward()
        found.append([t.grad for t in (x, *adapter.parameters())])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-10)


def test_segments_in_a_model_that_is_a_reentrant_segment_itself(make_case, randomized):
    found = []
    for outer in (False, True):
        case = make_case("plain")
        model = Checkpointed(case.model, reentrant=False)
        adapter = tl.attach(model, "lora", targets=["q", "k", "v"], ranks=2)
        randomized(adapter)
        x = case.inputs["x"].clone().requires_grad_()
        out = checkpoint(model, x, use_reentrant=True) if outer else model(x)
        out.square().sum().backward()
        found.append([t.grad for t in (x, *adapter.parameters())])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("count", [1, 9])
def test_many_forwards_under_hooks_of_others_before_a_backward(count, make_case, randomized):
    """The first was with another adapter: it is told, however many came since."""
    case = make_case("plain")
    model = Checkpointed(case.model, reentrant=False)
    for name in ("one", "two"):
        randomized(tl.attach(model, "lora", targets=["q", "k", "v"], ranks=2, name=name))
    x = case.inputs["x"]
    losses = []
    for name in ("one", *["two"] * count):
        with tl.active(model, name), torch.autograd.graph.save_on_cpu():
            losses.append(model(x).sum())
    with pytest.raises(AttachError, match="E516"):
        losses[0].backward()


def test_hooks_of_others_that_are_used_in_each_step(make_case, randomized):
    case = make_case("plain")
    model = Checkpointed(case.model, reentrant=False)
    for name in ("one", "two"):
        randomized(tl.attach(model, "lora", targets=["q", "k", "v"], ranks=2, name=name))
    hooks = torch.autograd.graph.save_on_cpu()
    for step in range(4):
        with tl.active(model, ("one", "two")[step % 2]):
            with hooks:
                loss = model(case.inputs["x"]).sum()
            loss.backward()


def test_hooks_on_what_is_saved_that_outlive_a_step(make_case):
    case = make_case("plain")
    adapter = tl.attach(case.model, "lora", targets=["q", "k", "v"], ranks=2)

    def pack(tensor):
        return tensor

    for hooks in ((pack, pack), (torch.Tensor.clone, torch.Tensor.clone)):
        for _ in range(20):
            with torch.autograd.graph.saved_tensors_hooks(*hooks):
                case.run().sum().backward()
        assert len(adapter.registry.contexts._kept) < 12


def test_a_dropped_forward_is_forgotten(make_case, randomized):
    """A graph that nobody keeps does not count as waiting for its backward."""
    case = make_case("plain")
    model = Checkpointed(case.model, reentrant=False)
    adapter = tl.attach(model, family(TUCKER), targets=["q", "k", "v"], ranks=2)
    randomized(adapter)
    with adapter.disabled():
        model(case.inputs["x"])
    model(case.inputs["x"]).square().sum().backward()
    assert all(p.grad is not None for p in adapter.parameters())


@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
def test_threads_that_train_different_adapters_under_checkpointing(
    reentrant, make_case, randomized
):
    case = make_case("plain")
    model = Checkpointed(case.model, reentrant)
    adapters = {}
    for n, name in enumerate("ab"):
        equation = EQUATIONS[["tucker", "lora"][n]]
        adapters[name] = tl.attach(
            model, family(equation), targets=["q", "k", "v"], ranks=2, name=name
        )
        randomized(adapters[name], n)

    def gradients_of(name):
        with tl.active(model, [name]):
            loss = model(case.inputs["x"]).square().sum()
        return torch.autograd.grad(loss, list(adapters[name].parameters()))

    if reentrant:  # torch.autograd.grad does not go with it

        def gradients_of(name):
            adapters[name].module.zero_grad()
            with tl.active(model, [name]):
                loss = model(case.inputs["x"]).square().sum()
            loss.backward()
            return [p.grad.clone() for p in adapters[name].parameters()]

    expected = {name: gradients_of(name) for name in adapters}
    wrong = []

    def work(name):
        for _ in range(10):
            found = gradients_of(name)
            wrong.extend(
                name
                for one, two in zip(found, expected[name], strict=True)
                if not torch.allclose(one, two, rtol=1e-12, atol=1e-14)
            )

    threads = [threading.Thread(target=work, args=(name,)) for name in adapters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_gradient_accumulation_and_double_use(make_case, randomized):
    case = make_case("plain")
    adapter = tl.attach(case.model, family(TUCKER), targets=case.targets, ranks=2)
    randomized(adapter)
    one, two = case.run(), case.model(case.inputs["x"] + 1)
    (one.sum() + two.sum()).backward()
    total = [p.grad.clone() for p in adapter.parameters()]
    adapter.banks["12x12"].zero_grad()
    case.run().sum().backward()
    case.model(case.inputs["x"] + 1).sum().backward()
    for a, p in zip(total, adapter.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad, rtol=1e-11, atol=1e-13)
