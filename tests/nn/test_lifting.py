"""A trained adapter becomes one of a larger family that has the same update."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaModel

import tenslora as tl

TARGETS = ["query", "key", "value"]


def bert():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=32, max_position_embeddings=16, num_labels=2,
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


def trained(model, family, **options):
    options = {"targets": TARGETS, "ranks": 2, "dtype": torch.float64, **options}
    adapter = tl.attach(model, family, **options)
    generator = torch.Generator().manual_seed(1)
    for parameter in adapter.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return adapter


TOKENS = torch.arange(1, 9).reshape(2, 4)

PAIRS = [
    ("lora", "tenslora.qkv_depth"),
    ("lora", "tenslora.att_qkv_depth"),
    ("lora", "fact_tt"),
    ("lotr", "tenslora.depth"),
    ("lotr", "lora"),
    ("fact_tt", "lotr"),
    ("fact_tk", "tenslora.qkv_depth"),
    ("lorta", "tenslora.att_qkv_depth"),
    ("metatt4", "lotr"),
    ("vera", "tied_lora"),
    ("loha", "lora"),
    ("tenslora.att_qkv_depth", "lora"),
]


@pytest.mark.parametrize(("special", "general"), PAIRS)
def test_the_update_is_the_same(special, general):
    model = bert().double()
    adapter = trained(model, special, alpha=3.0)
    wanted = {site: adapter.delta(site).detach() for site in adapter.sites}
    with torch.no_grad():
        logits = model(TOKENS).logits
    made = adapter.lift(general)
    assert made.family == tl.resolve(general)
    assert not adapter.attached
    assert made.attached
    for site, delta in wanted.items():
        torch.testing.assert_close(made.delta(site).detach(), delta, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS).logits, logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("general", ["vera", "pissa", "tera"])
def test_frozen_cores_that_a_witness_chose_are_saved(general, tmp_path):
    """They are not those of the seed: a checkpoint has to hold them."""
    model = bert().double()
    made = trained(model, "lora").lift(general)
    with torch.no_grad():
        logits = model(TOKENS).logits
    made.save(tmp_path / "a.safetensors")
    made.detach()
    tl.load(model, tmp_path / "a.safetensors")
    with torch.no_grad():
        assert torch.equal(model(TOKENS).logits, logits)


def test_it_trains_saves_loads_and_detaches(tmp_path):
    model = bert()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grads = {name: p.requires_grad for name, p in model.named_parameters()}
    adapter = trained(model, "lora", dtype=None, train="classifier")
    head = model.classifier.weight.detach().clone()
    made = adapter.lift("tenslora.qkv_depth")
    assert torch.equal(model.classifier.weight, head)
    optimizer = torch.optim.SGD(made.parameters(), lr=1e-3)
    loss = model(TOKENS, labels=torch.tensor([0, 1])).loss
    loss.backward()
    assert all(p.grad is not None for p in made.parameters())
    optimizer.step()
    with torch.no_grad():
        logits = model(TOKENS).logits
    made.save(tmp_path / "a.safetensors")
    made.detach()
    assert {n: p.requires_grad for n, p in model.named_parameters()} == grads
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    tl.load(model, tmp_path / "a.safetensors")
    with torch.no_grad():
        assert torch.equal(model(TOKENS).logits, logits)


def test_each_shape_is_lifted():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    model = LlamaModel(config).eval().double()
    adapter = trained(model, "lora", targets=["q_proj", "k_proj", "v_proj"])
    wanted = {site: adapter.delta(site).detach() for site in adapter.sites}
    made = adapter.lift("tenslora.att_qkv_depth")
    assert len(made.banks) == 2
    for site, delta in wanted.items():
        torch.testing.assert_close(made.delta(site).detach(), delta, rtol=1e-10, atol=1e-10)


def test_other_adapters_stay_as_they_are():
    model = bert()
    first = trained(model, "lora", name="first", dtype=None)
    second = trained(model, "lotr", name="second", dtype=None)
    first.activate(only=False)
    made = first.lift("tenslora.qkv_depth")
    assert made.name == "first"
    assert second.attached
    assert made.active
    assert second.active


def test_a_proof_may_be_given():
    model = bert().double()
    adapter = trained(model, "lotr")
    wanted = {site: adapter.delta(site).detach() for site in adapter.sites}
    made = adapter.lift("tenslora.depth", proof=tl.embeds("lotr", "tenslora.depth", free=True))
    for site, delta in wanted.items():
        torch.testing.assert_close(made.delta(site).detach(), delta, rtol=1e-10, atol=1e-10)


class Plain(torch.nn.Module):
    """Two layers of attention's matrices, and no config that tells the heads."""

    def __init__(self):
        super().__init__()
        make = {n: torch.nn.Linear(12, 8, dtype=torch.float64) for n in ("query", "key", "value")}
        self.layer = torch.nn.ModuleList(torch.nn.ModuleDict(make) for _ in range(2))
        self.layer[1] = torch.nn.ModuleDict(
            {n: torch.nn.Linear(12, 8, dtype=torch.float64) for n in make}
        )


def test_heads_of_a_model_without_a_config():
    model = Plain()
    adapter = trained(model, "lora", alpha=3.0)
    wanted = {site: adapter.delta(site).detach() for site in adapter.sites}
    with pytest.raises(tl.TensloraError, match="E506") as info:
        adapter.lift("tenslora.att_qkv_depth")
    assert 'sizes={"head": ...}' in str(info.value)
    with pytest.raises(tl.TensloraError, match="E506"):
        adapter.lift("tenslora.att_qkv_depth", sizes={"head": 3})
    with pytest.raises(tl.TensloraError, match="E506: sizes: heads=4"):
        adapter.lift("tenslora.att_qkv_depth", sizes={"heads": 4})
    with pytest.raises(tl.TensloraError, match=r"E517: sizes: in=13, and .* has to have in=12"):
        adapter.lift("tenslora.att_qkv_depth", sizes={"in": 13, "head": 4})
    assert adapter.attached
    made = adapter.lift("tenslora.att_qkv_depth", sizes={"head": 4})
    (bound,) = made.bounds.values()
    assert (bound.sizes["head"], bound.sizes["head_dim"]) == (4, 2)
    for site, delta in wanted.items():
        torch.testing.assert_close(made.delta(site).detach(), delta, rtol=1e-10, atol=1e-10)


DEPTH = tl.resolve("tenslora.depth").network
PROOFS = {
    "a text": (lambda: "x", "E517: the proof is no proof: x"),
    "a refutation": (lambda: tl.embeds("lora", "lora_xs"), "E517: the proof is no proof: "),
    "chosen sizes": (lambda: tl.embeds("lora", "lokr"), "E517: the proof is about .* Its general"),
    "other equation": (  # the cores have the same names
        lambda: tl.embeds("W[layer proj out in] = B[out r] A[r in]", "tenslora.depth"),
        "E517: the proof is about .* Its special case",
    ),
    "other general": (
        lambda: tl.embeds("lora", str(DEPTH).replace("D[proj", "D[").replace("U[proj", "U[")),
        "E517: the proof is about .* Its general case",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROOFS)
def test_a_proof_of_something_else(name):
    make, text = PROOFS[name]
    adapter = trained(bert(), "lora", dtype=None)
    with pytest.raises(tl.TensloraError, match=f"(?s){text}"):
        adapter.lift("tenslora.depth", proof=make())
    assert adapter.attached


def test_a_proof_of_other_frozen_cores():
    adapter = trained(bert(), "lora", dtype=None)
    free = tl.family(tl.resolve("tenslora.depth").network, init={"G": "zeros"})
    proof = tl.embeds("lora", free)
    held = tl.freeze(free, "U")
    with pytest.raises(
        tl.TensloraError, match=r"E517: the proof holds no core frozen; .* U frozen"
    ):
        adapter.lift(held, proof=proof)
    assert adapter.lift(free, proof=proof).attached


def test_refused_and_nothing_changed():
    model = bert()
    adapter = trained(model, "lora", dtype=None)
    with torch.no_grad():
        logits = model(TOKENS).logits
    with pytest.raises(tl.TensloraError, match="E517: lora is not known to be a special case"):
        adapter.lift("lora_xs")
    with pytest.raises(tl.TensloraError, match="E517: the proof is about"):
        adapter.lift("tenslora.depth", proof=tl.embeds("lotr", "tenslora.depth"))
    with pytest.raises(tl.TensloraError, match="E306"):
        adapter.lift("no such family")
    assert adapter.attached
    with torch.no_grad():
        assert torch.equal(model(TOKENS).logits, logits)
    adapter.merge()
    with pytest.raises(tl.TensloraError, match="E511"):
        adapter.lift("tenslora.qkv_depth")


@pytest.mark.parametrize(("general", "sizes"), [("lokr", {"o1": 1, "i1": 1}), ("c3a", {"o": 1})])
def test_sizes_that_a_proof_chooses_are_taken(general, sizes):
    """LoRA is LoKr with o1 = i1 = 1, and C3A with blocks of 1 by 1."""
    model = Plain()
    adapter = trained(model, "lora", alpha=3.0)
    wanted = {site: adapter.delta(site).detach() for site in adapter.sites}
    with pytest.raises(
        tl.TensloraError, match=f"E517: sizes: .* {general} has to have .* to hold lora"
    ):
        adapter.lift(general, sizes=dict.fromkeys(sizes, 2))
    proof = tl.embeds("lora", general)
    made = adapter.lift(general, proof=proof)
    for site, delta in wanted.items():
        torch.testing.assert_close(made.delta(site).detach(), delta, rtol=1e-10, atol=1e-10)
    assert all(group.bound.sizes[i] == n for group in made.design.groups for i, n in sizes.items())


def parted(out, *, name):
    """A factor for the first part of the output, as many parts as there are names."""
    first, *rest = out.split()
    return tl.family(
        f"W[layer proj ({out}) in] = C[layer proj {first}] B[layer proj {' '.join(rest)} r]"
        f" A[layer proj r in]",
        init={"B": "zeros"},
        name=name,
    )


def dense(bound, cores):
    """W of :func:`parted` by numpy, (layer proj out in)."""
    c, b, a = (cores[name].detach().double().numpy() for name in "CBA")
    shape = (*c.shape[:2], -1, a.shape[-1])
    b = b.reshape(*b.shape[:2], -1, b.shape[-1])
    return bound.scale * np.einsum("lpo,lpqr,lpri->lpoqi", c, b, a).reshape(shape)


OURS = parted("o1 o2", name="ours")
PARTS = {
    "other names": (parted("p1 p2", name="other"), {"p1": 2, "p2": 8}, {}),
    "a name of the other part": (parted("p1 o1", name="other"), {"p1": 2, "o1": 8}, {}),
    "heads that the caller says": (
        parted("head head_dim", name="other"), {"head": 2, "head_dim": 8}, {"head": 2},
    ),
    "the size is given and right": (parted("p1 p2", name="other"), {"p1": 2}, {"p1": 2}),
    "three parts": (
        tl.family(
            "W[layer proj (p1 p2 p3) in] = B[layer proj p1 p2 p3 r] A[layer proj r in]",
            init={"B": "zeros"}, name="other",
        ), {"p1": 2, "p2": 2, "p3": 4}, {"p2": 2},
    ),
    "one part": ("lora", {"out": 16}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", PARTS)
def test_parts_have_the_sizes_of_the_adapter(case):
    general, sizes, given = PARTS[case]
    model = bert().double()
    adapter = trained(model, OURS, sizes={"o1": 2}, alpha=3.0)
    (bound,) = adapter.bounds.values()
    (bank,) = adapter.banks.values()
    wanted = dense(bound, bank.cores())
    with torch.no_grad():
        logits = model(TOKENS).logits
    made = adapter.lift(general, sizes=given)
    (bound,) = made.bounds.values()
    assert {name: bound.sizes[name] for name in sizes} == sizes
    for n, site in enumerate(made.sites):
        found = made.delta(site).detach().numpy()
        np.testing.assert_allclose(found, wanted[divmod(n, 3)], rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS).logits, logits, rtol=1e-10, atol=1e-10)


def test_a_part_of_the_adapter_is_several_of_a_smaller_number():
    """(o1 o2 o3) is (p1 p2): p1 is o1, and p2 is (o2 o3)."""
    model = bert().double()
    three = parted("o1 o2 o3", name="three")
    adapter = trained(model, three, sizes={"o1": 2, "o2": 2})
    wanted = dense(*adapter.bounds.values(), next(iter(adapter.banks.values())).cores())
    made = adapter.lift(parted("p1 p2", name="two"))
    (bound,) = made.bounds.values()
    assert (bound.sizes["p1"], bound.sizes["p2"]) == (2, 8)
    for n, site in enumerate(made.sites):
        found = made.delta(site).detach().numpy()
        np.testing.assert_allclose(found, wanted[divmod(n, 3)], rtol=1e-10, atol=1e-10)


def test_a_part_that_is_no_head_of_the_model():
    adapter = trained(bert(), OURS, sizes={"o1": 2}, dtype=None)
    with pytest.raises(tl.TensloraError) as info:
        adapter.lift(parted("head head_dim", name="theirs"))
    assert str(info.value) == (
        "E517: the model has head=4, and theirs has to have head=2 to hold ours, where head is o1\n"
        '  sizes={"head": 2} takes it so. Or lift to a family without it.'
    )
    with pytest.raises(tl.TensloraError, match=r"E517: sizes: head=4, and theirs .* head=2"):
        adapter.lift(parted("head head_dim", name="theirs"), sizes={"head": 4})
    with pytest.raises(tl.TensloraError) as info:
        adapter.lift(parted("p1 p2", name="theirs"), sizes={"p1": 4})
    assert str(info.value) == (
        "E517: sizes: p1=4, and theirs has to have p1=2 to hold ours, where p1 is o1\n"
        "  Give p1=2, or lift to a larger family."
    )
    assert adapter.attached


def test_heads_that_were_given_stay():
    """A family with heads, attached with two where the config says four."""
    model = bert().double()
    adapter = trained(model, parted("head head_dim", name="ours"), sizes={"head": 2})
    wanted = dense(*adapter.bounds.values(), next(iter(adapter.banks.values())).cores())
    larger = tl.family(
        "W[layer proj (head head_dim) in] = "
        "C[layer proj head s] B[layer proj s head_dim r] A[layer proj r in]",
        init={"B": "zeros"},
    )
    made = adapter.lift(larger)
    assert next(iter(made.bounds.values())).sizes["head"] == 2
    for n, site in enumerate(made.sites):
        found = made.delta(site).detach().numpy()
        np.testing.assert_allclose(found, wanted[divmod(n, 3)], rtol=1e-10, atol=1e-10)


def test_a_head_that_a_proof_chooses_is_said_by_the_caller():
    """All of the output is one head there, and the model has four."""
    model = bert().double()
    adapter = trained(model, "lora")
    wanted = {site: adapter.delta(site).detach() for site in adapter.sites}
    theirs = parted("head head_dim", name="theirs")
    with pytest.raises(
        tl.TensloraError, match=r"E517: the model has head=4, .* head=1 to hold lora\n"
    ):
        adapter.lift(theirs)
    made = adapter.lift(theirs, sizes={"head": 1})
    for site, delta in wanted.items():
        torch.testing.assert_close(made.delta(site).detach(), delta, rtol=1e-10, atol=1e-10)


SITE = tl.family("W[site out in] = B[site out r] A[site r in]", init={"B": "zeros"}, name="each")
BY_LAYER = tl.family(
    "W[layer proj out in] = D[layer proj] B[proj out r] A[proj r in]",
    init={"B": "zeros"},
    name="scaled",
)


def test_sites_that_a_proof_chooses_are_not_those_of_a_model():
    adapter = trained(bert(), SITE, dtype=None)
    assert tl.embeds(SITE, BY_LAYER).parts == {"layer": (), "proj": ("site",)}
    with pytest.raises(tl.TensloraError) as info:
        adapter.lift(BY_LAYER)
    assert str(info.value) == (
        "E517: the proof that scaled holds each chooses sites, layer is 1, proj is site; those of "
        "a model are counted: layer=2 proj=3\n"
        "  Lift to a family with the sites of the adapter, site; or attach one with those of "
        "scaled, layer proj."
    )
    assert adapter.attached


def test_sites_that_a_proof_chooses_and_the_model_has():
    model = bert().double()
    adapter = trained(model, SITE, layers=[0])
    wanted = {site: adapter.delta(site).detach() for site in adapter.sites}
    made = adapter.lift(BY_LAYER)
    for site, delta in wanted.items():
        torch.testing.assert_close(made.delta(site).detach(), delta, rtol=1e-10, atol=1e-10)


def test_sites_of_another_name_and_number():
    adapter = trained(bert(), SITE, dtype=None)
    tied = tl.family("W[layer out in] = B[layer out r] A[layer r in]", init={"B": "zeros"})
    with pytest.raises(
        tl.TensloraError, match=r"E517: the adapter has the sites site=6, .* would have layer=2\n"
    ):
        adapter.lift(tied)
    assert adapter.attached


def test_sizes_that_do_not_join_are_told_by_name():
    """A proof that was changed by hand, whose rank is not the number of layers."""
    adapter = trained(bert(), "lora", dtype=None)
    eyed = tl.family(
        "W[layer proj out in] = eye[layer y] eye[y z] B[z proj out r] A[layer proj r in]",
        init={"B": "zeros"}, name="eyed",
    )  # fmt: skip
    proof = tl.embeds("lora", eyed)
    wrong = replace(proof, ranks={**proof.ranks, "y": ("proj",)})
    with pytest.raises(
        tl.TensloraError, match=r"(?s)E517: eyed with layer=2 .* does not hold the adapter: .*eye"
    ):
        adapter.lift(eyed, proof=wrong)
    assert adapter.lift(eyed, proof=proof).attached
