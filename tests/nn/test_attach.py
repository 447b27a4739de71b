"""The attached model against the model whose weights hold the equation's einsum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call

import tenslora as tl

KINDS = ["bert", "roberta", "vit", "gpt2", "llama", "plain"]

EQUATIONS = {
    "lora": "W[layer proj out in] = B[layer proj out r] A[layer proj r in]",
    "tied": "W[out in] = B[out r] A[r in]",
    "per layer": "W[layer out in] = B[layer out r] A[layer r in]",
    "tucker": (
        "W[layer proj (head head_dim) in] = "
        "U[in a] V[head_dim b] H[head c] P[proj d] D[layer e] G[a b c d e]"
    ),
    "cp": "W[layer proj (head head_dim) in] = A[in r] H[head r] B[head_dim r] D[layer r] P[proj r]",
    "train": "W[layer proj out in] = B[out c] P[c proj b] D[b layer a] A[a in]",
    "vera": "W[layer proj out in] = b[layer proj out] B[out r] d[layer proj r] A[r in]",
    "loha": (
        "W[layer proj out in] = "
        "B1[layer proj out r] A1[layer proj r in] B2[layer proj out s] A2[layer proj s in]"
    ),
    "lokr": (
        "W[layer proj (o1 o2) (i1 i2)] = C[layer proj o1 i1] B[layer proj o2 r] A[layer proj r i2]"
    ),
    "sum": "W[layer proj out in] = B[layer out r] A[r in] + C[proj out s] E[s in]",
    "slices": "W[site out in] = V[out b] C[a b c] P[site c] U[a in]",
    "twice": "W[layer proj out in] = B[out r] S[layer proj r s] S[layer proj r s] A[s in]",
    "ones": "W[layer proj out in] = b[layer proj out] ones[in]",
    "grouped core": "W[layer proj out in] = B[(layer proj) out r] A[r in]",
    "other order": "W[proj layer out in] = B[out r layer] A[proj in r]",
}


def make_family(equation: str) -> tl.Family:
    return tl.family(equation, init={}, starts_nonzero=True, scale="constant(0.7)")


def attach(case, equation, **options):
    ranks = {bond: 2 + n % 2 for n, bond in enumerate(tl.parse(equation).bonds)}
    family = make_family(equation)
    options["sizes"] = sizes_of(case, family)
    return tl.attach(case.model, family, targets=case.targets, ranks=ranks, **options)


def sizes_of(case, family):
    """What a model without a config has to be told."""
    told = "head" in family.network.indices and not hasattr(case.model, "config")
    return {"head": 3} if told else {}


def dense_of(adapter, case, literal, lib=np, cores=None):
    """(layer, projection) -> scale * W of the matrix, from the equation alone."""
    kv = len(adapter.banks) > 1
    found = {}
    for group, bank in adapter.banks.items():
        held = {n: c.detach().numpy() for n, c in bank.cores().items()} if cores is None else cores
        held = held[group] if cores is not None else held
        found[group] = 0.7 * literal(bank.bound.network, bank.bound.sizes, held, lib)
    network = adapter.family.network

    def dense(layer: int, proj: int):
        group = next(iter(found)) if not kv or proj == 0 else list(found)[1]
        number = proj if not kv else max(proj - 1, 0)
        width = {True: 1 if proj == 0 else 2, False: 3}[kv]
        place = {"layer": layer, "proj": number, "site": layer * width + number}
        return found[group][tuple(place[name] for name in network.sites)]

    return dense


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("equation", EQUATIONS.values(), ids=list(EQUATIONS))
def test_output_is_that_of_the_dense_formula(
    kind, equation, make_case, literal, add_dense, randomized
):
    case = make_case(kind)
    plain = make_case(kind).model
    adapter = attach(case, equation)
    randomized(adapter)
    expected = case.run(add_dense(case, plain, dense_of(adapter, case, literal)))
    assert (expected - case.run(plain)).abs().max() > 1e-6
    torch.testing.assert_close(case.run(), expected, rtol=0, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(case.run(), expected, rtol=0, atol=1e-10)
    with torch.inference_mode():
        torch.testing.assert_close(case.run().clone(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["plain", "bert", "llama"])
@pytest.mark.parametrize("equation", EQUATIONS.values(), ids=list(EQUATIONS))
def test_gradients_are_those_of_the_dense_formula(kind, equation, make_case, literal, randomized):
    case = make_case(kind)
    plain = make_case(kind).model
    adapter = attach(case, equation)
    randomized(adapter)
    case.run().square().sum().backward()
    leaves = {
        group: {n: c.detach().clone().requires_grad_() for n, c in bank.cores().items()}
        for group, bank in adapter.banks.items()
    }
    dense = dense_of(adapter, case, literal, torch, leaves)
    weights = {
        f"{layer}.{proj}.weight": plain.get_parameter(f"{layer}.{proj}.weight").detach()
        + dense(n, m)
        for n, layer in enumerate(case.layers)
        for m, proj in enumerate(case.projs)
    }
    out = functional_call(plain, weights, kwargs=case.inputs)
    (out if isinstance(out, torch.Tensor) else out[0]).square().sum().backward()
    for group, bank in adapter.banks.items():
        for name, core in bank.named_parameters():
            expected = leaves[group][name].grad
            assert expected.abs().max() > 1e-9, name
            torch.testing.assert_close(core.grad, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_start_leaves_the_output_bit_for_bit(kind, make_case):
    case = make_case(kind)
    before = case.run()
    family = tl.family(EQUATIONS["tucker"], init={"G": "zeros"})
    sizes = sizes_of(case, family)
    tl.attach(case.model, family, targets=case.targets, ranks=2, sizes=sizes)
    assert torch.equal(case.run(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_detach_gives_back_the_model(kind, make_case, snapshot):
    case = make_case(kind)
    before = snapshot(case.model)
    adapter = attach(case, EQUATIONS["tucker"])
    case.run().sum().backward()
    adapter.detach()
    before.check(case.model)
    assert not hasattr(case.model, "tenslora")
    assert tl.adapters(case.model) == {}


def test_attaching_touches_no_generator_and_no_default(make_case):
    case = make_case("bert")
    torch_state, numpy_state = torch.get_rng_state(), str(np.random.get_state())
    torch.set_default_dtype(torch.float64)
    try:
        adapter = attach(case, EQUATIONS["cp"], dtype=torch.float32)
        assert torch.get_default_dtype() is torch.float64
        assert {c.dtype for c in adapter.banks["12x12"].cores().values()} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)
    case.run()
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state()) == numpy_state


def test_heads_of_grouped_query_attention(make_case):
    adapter = attach(make_case("llama"), EQUATIONS["tucker"])
    sizes = {name: bound.sizes for name, bound in adapter.bounds.items()}
    assert list(sizes) == ["16x16", "8x16"]
    assert (sizes["16x16"]["head"], sizes["16x16"]["head_dim"], sizes["16x16"]["proj"]) == (4, 4, 1)
    assert (sizes["8x16"]["head"], sizes["8x16"]["head_dim"], sizes["8x16"]["proj"]) == (2, 4, 2)


def test_the_head_mode_is_the_models_head(make_case, randomized):
    """Zeroing one head's factor makes exactly that head's rows of the update vanish."""
    case = make_case("bert")
    adapter = attach(case, EQUATIONS["tucker"])
    randomized(adapter)
    bank = adapter.banks["12x12"]
    with torch.no_grad():
        bank.H[1] = 0
    update = adapter.delta("bert.encoder.layer.1.attention.self.key").reshape(3, 4, 12)
    assert torch.equal(update[1], torch.zeros(4, 12, dtype=torch.float64))
    assert (update[[0, 2]].abs().amax(-1) > 0).all()


def test_state_dict_keeps_the_bases_keys_and_holds_each_core_once(make_case):
    case = make_case("bert")
    keys = list(case.model.state_dict())
    attach(case, EQUATIONS["tucker"])
    after = list(case.model.state_dict())
    assert [k for k in after if not k.startswith("tenslora.")] == keys
    assert [k for k in after if k.startswith("tenslora.")] == [
        f"tenslora.default.12x12.{name}" for name in "UVHPDG"
    ]


def test_frozen_cores_are_buffers_and_base_parameters_are_frozen(make_case):
    case = make_case("plain")
    vera = tl.family(
        EQUATIONS["vera"], init={"b": "zeros", "d": "const(0.1)"}, frozen=("A", "B"), name="mine"
    )
    adapter = tl.attach(case.model, vera, targets=case.targets, ranks=4, train="head")
    assert [n for n, _ in adapter.banks["12x12"].named_parameters()] == ["b", "d"]
    assert sorted(n for n, _ in adapter.banks["12x12"].named_buffers()) == ["A", "B"]
    trainable = [n for n, p in case.model.named_parameters() if p.requires_grad]
    assert trainable == [
        "head.weight",
        "head.bias",
        "tenslora.default.12x12.b",
        "tenslora.default.12x12.d",
    ]
    assert adapter.trainable_parameters == 2 * 3 * (12 + 4)
    assert sum(p.numel() for p in adapter.parameters()) == 2 * 3 * 16 + 39
    text = adapter.summary()
    assert "frozen" in text
    assert "trained whole: head (39 parameters)" in text


def test_the_same_seed_is_the_same_start_and_groups_differ(make_case):
    equation = EQUATIONS["lora"]
    one, two = (attach(make_case("llama"), equation, seed=3) for _ in range(2))
    other = attach(make_case("llama"), equation, seed=4)
    for group, bank in one.banks.items():
        for name, core in bank.cores().items():
            assert torch.equal(core, two.banks[group].cores()[name])
            assert not torch.equal(core, other.banks[group].cores()[name])


def test_budget_is_shared_among_groups(make_case):
    case = make_case("llama")
    lora = tl.family(EQUATIONS["lora"], init={"B": "zeros"})
    adapter = tl.attach(case.model, lora, targets=case.targets, params=700)
    assert 500 < adapter.trainable_parameters <= 700
    assert {name: b.ranks["r"] for name, b in adapter.bounds.items()} == {"16x16": 4, "8x16": 4}


def test_learning_rate_groups(make_case):
    case = make_case("plain")
    family = tl.family(EQUATIONS["tucker"], init={"G": "zeros"}, lr={"G": 16})
    sizes = {"head": 3}
    adapter = tl.attach(
        case.model, family, targets=case.targets, ranks=2, sizes=sizes, train="head"
    )
    groups = adapter.param_groups(1e-3, weight_decay=0.1)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(1e-3, 0.1), (1.6e-2, 0.1)]
    assert sum(len(g["params"]) for g in groups) == len(list(adapter.parameters()))


def test_delta_of_fused_modules_has_every_row(make_case, literal, randomized):
    case = make_case("gpt2")
    family = make_family(EQUATIONS["lora"])
    adapter = tl.attach(case.model, family, targets=["c_attn.q", "c_attn.v"], ranks=2)
    randomized(adapter)
    dense = dense_of(adapter, case, literal)
    update = adapter.delta("transformer.h.1.attn.c_attn").detach().numpy()
    np.testing.assert_allclose(update[:12], dense(1, 0), atol=1e-12)
    np.testing.assert_allclose(update[24:], dense(1, 1), atol=1e-12)
    assert not update[12:24].any()
    site = adapter.sites[1]
    np.testing.assert_allclose(adapter.delta(site).detach().numpy(), dense(0, 1), atol=1e-12)
    with torch.no_grad():
        plain = make_case("gpt2").model
        for layer in range(2):
            weight = plain.get_submodule(f"transformer.h.{layer}.attn.c_attn").weight
            weight[:, :12] += torch.from_numpy(dense(layer, 0)).T
            weight[:, 24:] += torch.from_numpy(dense(layer, 1)).T
    torch.testing.assert_close(case.run(), case.run(plain), rtol=0, atol=1e-10)


def test_tied_over_what_the_equation_does_not_index(make_case):
    adapter = attach(make_case("bert"), EQUATIONS["per layer"])
    layer = "bert.encoder.layer.0.attention.self."
    assert torch.equal(adapter.delta(layer + "query"), adapter.delta(layer + "value"))
    assert not torch.equal(
        adapter.delta(layer + "query"), adapter.delta(layer.replace("0", "1") + "query")
    )


def test_inputs_given_by_keyword(make_case, randomized):
    case = make_case("plain")
    adapter = attach(case, EQUATIONS["lora"])
    randomized(adapter)
    x, module = case.inputs["x"], case.model.blocks[0].q
    assert torch.equal(module(input=x), module(x))
    assert module(x[:, :0]).shape == (2, 0, 12)
    assert module(x[0, 0]).shape == (12,)


def test_a_sequential_model_is_a_root_too():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4))
    x = torch.ones(2, 4)
    base = model(x)
    equation = "W[layer out in] = B[layer out r] A[layer r in]"
    adapter = tl.attach(model, equation, targets="all-linear", ranks=2)
    assert torch.equal(model(x), base)
    with torch.no_grad():
        adapter.banks["4x4"].B.fill_(1)
    assert not torch.equal(model(x), base)
    adapter.detach()
    assert torch.equal(model(x), base)


def test_summary(make_case):
    adapter = attach(make_case("bert"), EQUATIONS["tucker"], dropout=0.1)
    lines = adapter.summary().splitlines()
    assert lines[0].startswith("adapter default: W[layer proj (head head_dim) in] = ")
    assert lines[1].startswith("  12x12: 6 sites, bert.encoder.layer.0.attention.self.query ... ")
    assert lines[2] == "    sizes layer=2 proj=3 head=3 head_dim=4 in=12"
    assert lines[3] == "    ranks a=2 b=3 c=2 d=3 e=2, scale 0.7, input dropout 0.1"
    assert lines[-1].startswith("  trained: 127 parameters, ")
