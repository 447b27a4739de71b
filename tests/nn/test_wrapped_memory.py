"""The memory of a family in a wrapper before training, against what autograd saves and trains."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import tenslora as tl
from tenslora.errors import PlanError, SizeError
from tenslora.family import WRAPPERS
from tenslora.family.wrappedmemory import KEPT

TOKENS, WIDTH, LAYERS = 256, 48, 3


class Block(nn.Module):
    """q, k and v of a layer, which read one input."""

    num_heads = 4

    def __init__(self, bias):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH, bias=bias) for _ in range(3))


class Blocks(nn.Module):
    """Layers with an input of their own each."""

    def __init__(self, bias=True):
        super().__init__()
        self.layers = nn.ModuleList(Block(bias) for _ in range(LAYERS))

    def forward(self, inputs):
        pairs = zip(self.layers, inputs, strict=True)
        return [m(x) for block, x in pairs for m in (block.q, block.k, block.v)]


def saved_by(model, run):
    """Bytes of what autograd keeps, each storage once, but for parameters and buffers."""
    held, kept = [], {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        held.append(storage)  # an address is not given away while it is counted
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = run()
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    return out, sum(size for place, size in kept.items() if place not in own)


def measured(family, bias=True, **options):
    """The bank of an adapter, and the bytes of what a step at its sites takes."""
    model = Blocks(bias)
    adapter = tl.attach(model, family, targets=["q", "k", "v"], ranks=3, **options)
    inputs = [torch.randn(TOKENS, WIDTH, requires_grad=True) for _ in range(LAYERS)]
    outputs, activations = saved_by(model, lambda: model(inputs))
    sum(y.square().sum() for y in outputs).backward()
    trained = list(adapter.parameters())
    optimizer = torch.optim.AdamW(trained)
    optimizer.step()
    states = [v for state in optimizer.state.values() for v in state.values() if v.ndim]
    (bank,) = adapter.banks.values()
    return bank, {
        "weights": sum(4 * t.numel() for t in bank.tensors().values()),
        "gradients": sum(4 * p.grad.numel() for p in trained),
        "optimizer": sum(4 * v.numel() for v in states),
        "activations": activations,
    }


def bound_of(wrapped, bank):
    """The same with sizes, as one has it without a model."""
    bonds = bank.bound.network.bonds
    sizes = {name: size for name, size in bank.bound.sizes.items() if name not in bonds}
    return wrapped.bind(sizes, ranks=3, weights=len(bank.weights))


def check(wrapped, **options):
    bank, found = measured(wrapped, **options)
    counted = "site" in bank.bound.network.sites  # then it has to be said who reads one input
    estimated = bound_of(wrapped, bank).memory(TOKENS, inputs=THIRDS if counted else None)
    assert estimated.parts["activations"] == pytest.approx(found["activations"], rel=0.02)
    assert estimated.total == pytest.approx(sum(found.values()), rel=0.02)
    for part in ("weights", "gradients", "optimizer"):
        assert estimated.parts[part] == found[part], part


THIRDS = [n // 3 for n in range(9)]

#: x A B with A of one weight and of all, chains with copies, frozen cores, a train over one index.
FEW = ["lora", "tenslora.qkv_depth", "tenslora.att", "vera", "lora_xs", "loha", "dota", "fact_tt"]
EVERY = [
    name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in tl.registered()
]


@pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("wrapper", ["dora", "hira"])
def test_the_count_without_a_model_is_what_a_step_takes(wrapper, family):
    check(tl.wrap(wrapper, family))


LORA = "W[layer proj expert out in] = B[layer proj expert out r] A[layer proj expert r in]"
EXPERTS = {
    "lora": LORA,
    "one A": "W[layer proj expert out in] = B[layer proj expert out r] A[layer proj r in]",
    "qkv_depth": "W[layer proj expert out in] = U[in a] V[out b] P[proj c] D[layer d] E[expert e] "
    "G[a b c d e]",
    "vera": tl.freeze(
        tl.family(
            "W[layer proj expert out in] = b[layer proj expert out] B[out r] "
            "d[layer proj expert r] A[r in]",
            init={"b": "zeros"},
        ),
        "A",
        "B",
    ),
    "expert first": "W[expert layer proj out in] = B[expert layer proj out r] A[layer r in]",
    "by number": "W[expert site out in] = B[expert site out r] A[site r in]",
    "equal experts": "W[layer proj expert out in] = G[layer o i] V[out o] U[in i]",
}


@pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
@pytest.mark.parametrize("family", EXPERTS)
def test_the_count_of_a_router(family):
    check(tl.router(EXPERTS[family]), sizes={"expert": 4})


@pytest.mark.parametrize("wrapper", ["dora", "hira"])
@pytest.mark.parametrize("family", ["lora", "tenslora.qkv_depth"])
def test_layers_without_bias(wrapper, family):
    check(tl.wrap(wrapper, family), bias=False)


@pytest.mark.parametrize(
    "wrapped", [tl.dora("W[out in] = B[out r] A[r in]"), tl.hira("W[out in] = B[out r] A[r in]"),
                tl.router("W[expert out in] = B[expert out r] A[r in]")],
)  # fmt: skip
def test_tied_weights_keep_their_own(wrapped):
    """Nine weights of one matrix, each with an input of its own."""

    class Row(nn.Module):
        def __init__(self):
            super().__init__()
            self.lines = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(9))

        def forward(self, inputs):
            return [line(x) for line, x in zip(self.lines, inputs, strict=True)]

    model = Row()
    sizes = {"expert": 4} if wrapped.wrapper.over else {}
    adapter = tl.attach(model, wrapped, targets="all-linear", ranks=3, sizes=sizes)
    inputs = [torch.randn(TOKENS, WIDTH, requires_grad=True) for _ in range(9)]
    _, found = saved_by(model, lambda: model(inputs))
    (bank,) = adapter.banks.values()
    estimated = bound_of(wrapped, bank).memory(TOKENS).parts["activations"]
    assert estimated == pytest.approx(found, rel=0.02)


@pytest.mark.parametrize(
    "family", ["dora(lora)", "hira(tenslora.qkv_depth)", f"router[expert]({LORA})"]
)
def test_of_a_model_with_the_adapter(family):
    """``adapter.memory`` tries it out, on two rows of twelve."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, intermediate_size=48,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    sizes = {"expert": 4} if family.startswith("router") else {}
    targets = ["q_proj", "k_proj", "v_proj"]
    adapter = tl.attach(model, family, targets=targets, ranks=3, sizes=sizes)
    whole = torch.randint(0, 100, (12, 40))
    _, found = saved_by(model.train(), lambda: model(input_ids=whole))
    estimated = adapter.memory({"input_ids": whole[:2]}, rows=12)
    assert estimated.parts["activations"] == pytest.approx(found, rel=0.05)
    assert estimated.parts["gradients"] == 4 * adapter.trainable_parameters


#: Equations that do not tell q, k and v apart: x A B, with a core of its own, in chains, in two.
TIED = [
    "W[layer out in] = B[layer out r] A[layer r in]",
    "W[out in] = B[out r] A[r in]",
    "W[layer out in] = V[out b] U[in a] D[layer d] G[a b d]",
    "W[layer out in] = b[layer out] B[out r] d[layer r] A[r in]",
    "W[layer out in] = B[layer out r] A[layer r in] + b[layer out] D[out s] d[s] C[s in]",
    "W[layer (o1 o2) (i1 i2)] = B[layer o1 r] C[o2 r s] A[s i1 i2]",
]


@pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
@pytest.mark.parametrize("equation", TIED)
@pytest.mark.parametrize("wrapper", ["", "dora", "hira", "router[expert]"])
def test_weights_that_are_one_and_read_one_input(wrapper, equation):
    """q, k and v of a layer, which the equation does not tell apart: one input of theirs."""
    sizes = {"o1": 8, "o2": 6, "i1": 6, "i2": 8} if "o1" in equation else {}
    if wrapper == "router[expert]":
        equation = equation.replace("W[", "W[expert ").replace("B[", "B[expert ")
        sizes["expert"] = 4
    family = tl.family(equation, starts_nonzero=True)
    family = tl.wrap(wrapper, family) if wrapper else family
    bank, found = measured(family, sizes=sizes)
    if wrapper:
        bound = bound_of(family, bank)
    else:
        bonds = bank.bound.network.bonds
        bound = family.bind({n: s for n, s in bank.bound.sizes.items() if n not in bonds}, ranks=3)
    estimated = bound.memory(TOKENS, inputs=THIRDS).parts["activations"]
    assert estimated == pytest.approx(found["activations"], rel=0.02)
    assert estimated <= bound.memory(TOKENS, inputs=range(9)).parts["activations"]


def test_every_wrapper_is_counted():
    assert list(KEPT) == list(WRAPPERS)


def test_numbers_of_two_bytes_and_other_optimizers():
    bound = tl.dora("lora").bind({"layer": 2, "proj": 3, "out": 16, "in": 8}, r=4)
    trained = 6 * (16 * 4 + 4 * 8 + 16)
    half = bound.memory(10, itemsize=2, optimizer="momentum").parts
    assert (half["weights"], half["gradients"], half["optimizer"]) == (2 * trained,) * 3
    assert 2 * half["activations"] == bound.memory(10).parts["activations"]
    # by hand: x of two layers, then at six weights x A, W0 x and W x; once s - 1, s and the norms
    assert bound.saved_per_token == 2 * 8 + 6 * (4 + 16 + 16)
    assert half["activations"] == 2 * (10 * bound.saved_per_token + 6 * 3 * 16)


@pytest.mark.parametrize("wrapper", ["dora", "hira"])
def test_weights_that_an_equation_tells_apart_unevenly(wrapper):
    """Three of one layer and one of each other: they cannot be named one by one."""
    wrapped = tl.wrap(wrapper, "W[layer out in] = B[layer out r] A[layer r in]")
    sizes = {"layer": 3, "out": 8, "in": 8}
    three, five, six = (wrapped.bind(sizes, r=2, weights=n) for n in (3, 5, 6))
    assert three.saved_per_token < five.saved_per_token < six.saved_per_token
    totals = [bound.memory(5).parts["activations"] for bound in (three, five, six)]
    assert totals[0] < totals[1] < totals[2]
    with pytest.raises(PlanError, match="E403") as info:
        five.memory(inputs="aaabc")
    assert str(info.value).endswith("Give 3, one for each that it tells apart.")


def test_what_is_refused():
    bound = tl.router(LORA).bind({"layer": 1, "proj": 3, "expert": 2, "out": 8, "in": 8}, r=2)
    assert bound.memory(5, inputs="xxx").total == bound.memory(5).total
    assert bound.memory(5, inputs="xyz").total > bound.memory(5).total
    with pytest.raises(PlanError, match="E403") as info:
        bound.memory(5, inputs="xxxxxx")
    assert "inputs names 6 inputs, and router[expert] has 3 weights\n" in str(info.value)
    tied = tl.dora("W[layer out in] = B[layer out r] A[layer r in]")
    bound = tied.bind({"layer": 2, "out": 8, "in": 8}, r=2, weights=6)
    assert bound.memory(5, inputs="xy").total == bound.memory(5).total
    assert bound.memory(5, inputs="xxxyyy").total < bound.memory(5, inputs="xyzuvw").total
    assert bound.memory(5, inputs="xyzuvw").total == bound.memory(5).total
    with pytest.raises(PlanError, match="E403") as info:
        bound.memory(5, inputs="xxyy")
    assert "dora has 6 weights, of which its equation tells 2 apart" in str(info.value)
    advice = (
        "Give 2, one for each that it tells apart, or 6, those of one that it tells apart together."
    )
    assert advice in str(info.value)
    for inputs, text in ((3, "a int"), ({"x", "y"}, "a set"), ([["x"], ["y"]], "be compared")):
        with pytest.raises(PlanError, match=f"E403: .*{text}"):
            bound.memory(5, inputs=inputs)
    assert bound.memory(5, inputs=iter("xy")).total == bound.memory(5).total
    with pytest.raises(SizeError, match="E212: itemsize=0"):
        bound.memory(itemsize=0)
    with pytest.raises(SizeError, match="E212"):
        bound.memory(0)
    with pytest.raises(SizeError, match="E212"):
        bound.memory(optimizer="lion9")
