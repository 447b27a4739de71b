"""PEFT's own layers with the same numbers: equal outputs and gradients."""

from __future__ import annotations

import copy

import pytest
import torch

import tenslora as tl

peft = pytest.importorskip("peft", reason="PEFT is not installed")

LORA = tl.family(
    "W[layer proj out in] = B[layer proj out r] A[layer proj r in]",
    init={"B": "zeros"},
    scale="alpha/r",
)
RSLORA = tl.family(str(LORA.network), init={"B": "zeros"}, scale="alpha/sqrt(r)")
LOHA = tl.family(
    "W[layer proj out in] = "
    "B1[layer proj out r] A1[layer proj r in] B2[layer proj out s] A2[layer proj s in]",
    init={"B2": "zeros"},
    scale="alpha/r",
)
LOKR = tl.family(
    "W[layer proj (o1 o2) (i1 i2)] = C[layer proj o1 i1] B[layer proj o2 r] A[layer proj r i2]",
    init={"C": "zeros"},
    scale="alpha/r",
)
VERA = tl.family(
    "W[layer proj out in] = b[layer proj out] B[out r] d[layer proj r] A[r in]",
    init={"b": "zeros", "d": "const(0.1)"},
    frozen=("A", "B"),
)
KINDS = ["bert", "vit", "llama", "gpt2"]


def sites_of(adapter):
    """For every site: its module's path, and each core at its place."""
    for bank in adapter.banks.values():
        for site, place in zip(bank.sites, bank.grid.positions, strict=True):
            at = tuple(place[name] for name in adapter.family.network.sites)

            def local(name, bank=bank, at=at, grad=False):
                core = bank.cores()[name]
                value = core.grad if grad else core.detach()
                carries = "layer" in adapter.family.network.cores[name].indices
                return value[at] if carries else value

            yield site.path, local


def compare(case, adapter, peft_model, pairs):
    """Copy the cores into PEFT's model, then compare outputs and gradients.

    ``pairs``: core -> function from PEFT's layer to its parameter, and whether it is transposed.
    """
    layers = {
        name.removeprefix("base_model.model."): module
        for name, module in peft_model.named_modules()
        if isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer)
    }
    found = list(sites_of(adapter))
    assert sorted(layers) == sorted(path for path, _ in found)
    with torch.no_grad():
        for path, local in found:
            for core, get in pairs.items():
                target = get(layers[path])
                target.copy_(local(core).reshape(target.shape))
    ours, theirs = case.run(), case.run(peft_model)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    compared = 0
    for path, local in found:
        for core, get in pairs.items():
            expected = get(layers[path]).grad
            if expected is None:
                continue
            grad = local(core, grad=True).reshape(expected.shape)
            torch.testing.assert_close(grad, expected, rtol=1e-8, atol=1e-10)
            compared += 1
    assert compared


@pytest.mark.parametrize("kind", [*KINDS])
@pytest.mark.parametrize("rank_stabilised", [False, True], ids=["lora", "rslora"])
def test_lora(kind, rank_stabilised, make_case, randomized):
    case = make_case(kind)
    base = copy.deepcopy(case.model)
    family = RSLORA if rank_stabilised else LORA
    targets = ["c_proj", "c_fc"] if kind == "gpt2" else case.targets
    adapter = tl.attach(case.model, family, targets=targets, ranks=3, alpha=5.0)
    randomized(adapter)
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, use_rslora=rank_stabilised)
    theirs = peft.get_peft_model(base, config).double().eval()
    compare(
        case,
        adapter,
        theirs,
        {
            "A": lambda layer: layer.lora_A["default"].weight,
            "B": lambda layer: layer.lora_B["default"].weight,
        },
    )


@pytest.mark.parametrize("kind", ["bert", "vit", "llama"])
def test_loha(kind, make_case, randomized):
    case = make_case(kind)
    base = copy.deepcopy(case.model)
    adapter = tl.attach(case.model, LOHA, targets=case.targets, ranks=3, alpha=6.0)
    randomized(adapter)
    config = peft.LoHaConfig(r=3, alpha=6, target_modules=case.targets)
    theirs = peft.get_peft_model(base, config).double().eval()
    compare(
        case,
        adapter,
        theirs,
        {
            "B1": lambda layer: layer.hada_w1_a["default"],
            "A1": lambda layer: layer.hada_w1_b["default"],
            "B2": lambda layer: layer.hada_w2_a["default"],
            "A2": lambda layer: layer.hada_w2_b["default"],
        },
    )


@pytest.mark.parametrize("kind", ["bert", "vit", "llama"])
def test_lokr(kind, make_case, randomized):
    """The sizes o1, o2, i1, i2 are balanced by both, the larger last."""
    case = make_case(kind)
    base = copy.deepcopy(case.model)
    adapter = tl.attach(case.model, LOKR, targets=case.targets, ranks=1, alpha=2.0)
    randomized(adapter)
    config = peft.LoKrConfig(r=1, alpha=2, target_modules=case.targets)
    theirs = peft.get_peft_model(base, config).double().eval()
    compare(
        case,
        adapter,
        theirs,
        {
            "C": lambda layer: layer.lokr_w1["default"],
            "B": lambda layer: layer.lokr_w2_a["default"],
            "A": lambda layer: layer.lokr_w2_b["default"],
        },
    )


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_vera(kind, make_case, randomized):
    case = make_case(kind)
    base = copy.deepcopy(case.model)
    adapter = tl.attach(case.model, VERA, targets=case.targets, ranks=4)
    randomized(adapter)
    config = peft.VeraConfig(r=4, target_modules=case.targets)
    theirs = peft.get_peft_model(base, config).double().eval()
    compare(
        case,
        adapter,
        theirs,
        {
            "A": lambda layer: layer.vera_A["default"],
            "B": lambda layer: layer.vera_B["default"],
            "d": lambda layer: layer.vera_lambda_d["default"],
            "b": lambda layer: layer.vera_lambda_b["default"],
        },
    )


def test_merged_weights_are_those_of_peft(make_case, randomized):
    case = make_case("bert")
    base = copy.deepcopy(case.model)
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=3, alpha=5.0)
    randomized(adapter)
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=case.targets)
    theirs = peft.get_peft_model(base, config).double().eval()
    pairs = {
        "A": lambda layer: layer.lora_A["default"].weight,
        "B": lambda layer: layer.lora_B["default"].weight,
    }
    compare(case, adapter, theirs, pairs)
    adapter.merge()
    merged = theirs.merge_and_unload()
    for name, weight in merged.named_parameters():
        torch.testing.assert_close(case.model.get_parameter(name), weight, rtol=1e-12, atol=1e-12)
