"""Which modules a target names, in which place, and what is said when there is none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tenslora as tl
from tenslora.errors import AttachError
from tenslora.nn.grid import group_by_shape, make_grid
from tenslora.nn.sites import Site, find_sites, resolve_sites
from tenslora.nn.sizes import heads
from tenslora.spec import balanced

LORA = "W[layer proj out in] = B[layer proj out r] A[layer proj r in]"


def coords(sites):
    return [tuple(dict(site.coords).values()) for site in sites]


@pytest.mark.parametrize(
    ("kind", "targets", "projs"),
    [
        ("bert", ["query", "key", "value"], ["query", "key", "value"]),
        ("roberta", ["self.query", "self.value"], ["query", "value"]),
        ("vit", r".*\.(q|v)_proj", ["q_proj", "v_proj"]),
        ("gpt2", "c_attn", ["q", "k", "v"]),
        ("gpt2", ["c_attn.q", "c_attn.v"], ["q", "v"]),
        ("gpt2", r"transformer\.h\.\d+\.attn\.c_attn\.k", ["k"]),
        ("llama", ["q_proj", "o_proj"], ["q_proj", "o_proj"]),
        ("plain", "q", ["q"]),
    ],
)
def test_layers_and_projections(kind, targets, projs, make_case):
    sites = find_sites(make_case(kind).model, targets)
    assert coords(sites) == [(layer, proj) for layer in range(2) for proj in projs]


def test_fused_rows_and_transposed_weights(make_case):
    sites = find_sites(make_case("gpt2").model, ["c_attn", "c_fc"])
    assert [(s.rows, s.shape, s.transposed) for s in sites[:4]] == [
        ((0, 12), (12, 12), True),
        ((12, 24), (12, 12), True),
        ((24, 36), (12, 12), True),
        (None, (48, 12), True),
    ]
    assert str(sites[1]) == "transformer.h.0.attn.c_attn[12:24]"


def test_cross_attention_of_gpt2_holds_keys_and_values():
    transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")
    config = transformers.GPT2Config(
        n_embd=8, n_layer=1, n_head=2, vocab_size=9, add_cross_attention=True
    )
    sites = find_sites(transformers.GPT2Model(config), "crossattention.c_attn")
    assert coords(sites) == [(0, "k"), (0, "v")]


def test_all_linear_is_every_linear_layer_in_a_numbered_layer(make_case):
    sites = find_sites(make_case("bert").model, "all-linear")
    assert [str(site.coord("proj")) for site in sites if site.coord("layer") == 0] == [
        "query",
        "key",
        "value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ]
    assert [site.path for site in find_sites(make_case("llama").model, "all-linear")][-1] == (
        "model.layers.1.mlp.down_proj"
    )
    sequential = find_sites(
        nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4)), "all-linear"
    )
    assert coords(sequential) == [(0, "linear"), (2, "linear")]


def test_two_stacks_of_layers_have_layers_of_their_own():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.ModuleList(nn.ModuleDict({"q": nn.Linear(2, 2)}) for _ in range(2))
            self.decoder = nn.ModuleList(nn.ModuleDict({"q": nn.Linear(2, 2)}) for _ in range(1))

    assert coords(find_sites(Pair(), ["q"])) == [
        ("encoder.0", "q"),
        ("encoder.1", "q"),
        ("decoder.0", "q"),
    ]


def test_chosen_layers(make_case):
    model = make_case("bert").model
    assert coords(find_sites(model, ["query"], layers=[1])) == [(1, "query")]
    assert coords(find_sites(model, ["query"], layers=0)) == [(0, "query")]


def test_sites_written_by_hand(make_case):
    sites = resolve_sites(
        make_case("gpt2").model,
        [
            Site("transformer.h.0.attn.c_attn", {"expert": 3}, rows=(0, 24)),
            Site("transformer.h.1.mlp.c_fc", {"expert": 5}, rows=(24, 48)),
        ],
    )
    assert [site.shape for site in sites] == [(24, 12), (24, 12)]
    grid = make_grid(tl.parse("W[expert out in] = B[expert out r] A[r in]"), sites)
    assert grid.labels == {"expert": (3, 5)}
    assert grid.positions == ({"expert": 0}, {"expert": 1})


def test_a_module_under_two_names_is_one_target():
    shared = nn.Linear(2, 2)
    model = nn.ModuleDict({"a": shared, "b": shared})
    with pytest.raises(AttachError, match="one module under two names"):
        tl.attach(model, "W[out in] = B[out r] A[r in]", targets=["a", "b"], ranks=1)
    assert [s.path for s in find_sites(model, ["b"])] == ["b"]


ERRORS = {
    "one of two patterns": (
        "plain",
        {"targets": ["q", "qq"]},
        "E501: target 'qq' matches no module of Plain\n"
        "  Did you mean q? Linear layers: q, k, v, o, head.",
    ),
    "older names": ("vit", {"targets": ["query"]}, "Linear layers: q_proj, k_proj, v_proj, o_proj"),
    "a typo": ("llama", {"targets": ["q_prj"]}, "Did you mean q_proj"),
    "no linear layer": (
        "bert",
        {"targets": ["self"]},
        "matches bert.encoder.layer.0.attention.self, a BertSelfAttention, and no linear layer",
    ),
    "regex": ("bert", {"targets": r".*\.quer[0-9]"}, "matches no module"),
    "broken regex": ("bert", {"targets": "(query"}, "E503: targets='(query' is not a regular"),
    "regex in a list": ("bert", {"targets": [".*query"]}, "Give a regular expression alone"),
    "empty": ("bert", {"targets": []}, "E503: targets=[] names no module"),
    "neither": ("bert", {}, "E503: neither targets nor sites is given"),
    "both": ("bert", {"targets": "query", "sites": []}, "E503: targets and sites are both given"),
    "no such layer": (
        "bert",
        {"targets": "query", "layers": [1, 7]},
        "no target lies in layer 7\n  The targets lie in layers 0 to 1.",
    ),
    "layers with sites": (
        "plain",
        {"sites": [Site("head")], "layers": 1},
        "E503: layers goes with targets",
    ),
    "empty sites": ("plain", {"sites": []}, "E503: sites is empty"),
    "unknown path": ("plain", {"sites": [Site("heed")]}, "Did you mean head?"),
    "rows outside": ("plain", {"sites": [Site("head", rows=(2, 9))]}, "outside its 3 outputs"),
    "overlap": (
        "plain",
        {"sites": [Site("head", rows=(0, 2)), Site("head", rows=(1, 3))]},
        "the sites head[0:2] and head[1:3] cover the same rows",
    ),
    "wrong shape": ("plain", {"sites": [Site("head", out_features=5)]}, "the module has (3, 12)"),
    "no number": (
        "plain",
        {"targets": "head"},
        "E504: the site index 'layer' of the equation has no value for head",
    ),
    "ragged": ("llama", {"targets": ["q_proj", "k_proj"], "ragged": "error"}, "2 shapes: 16x16"),
    "policy": ("plain", {"targets": "q", "ragged": "pad"}, "Policies: group, error, prefix"),
    "unknown size": ("plain", {"targets": "q", "sizes": {"heads": 2}}, "E506: sizes: heads=2"),
    "counted size": (
        "plain",
        {"targets": "q", "sizes": {"layer": 7}},
        "and the targets have layer",
    ),
    "wrong size": ("plain", {"targets": "q", "sizes": {"out": 7}}, "does not give the 12 output"),
    "name": ("plain", {"targets": "q", "name": "a.b"}, "E508: 'a.b' cannot be the name"),
    "method": ("plain", {"targets": "q", "name": "keys"}, "no name of a method"),
    "train": ("plain", {"targets": "q", "train": "hed"}, "E514: train names 'hed'"),
    "trained target": (
        "plain",
        {"targets": "q", "train": "blocks.0"},
        "blocks.0.q in it is a target",
    ),
    "dropout": ("plain", {"targets": "q", "dropout": 1.0}, "E515: dropout=1.0 is no probability"),
    "dtype": ("plain", {"targets": "q", "dtype": torch.int32}, "no floating-point type"),
    "rank": ("plain", {"targets": "q", "ranks": 0}, "E206"),
    "bond": ("plain", {"targets": "q", "ranks": {"s": 2}}, "no bond"),
    "budget": ("plain", {"targets": "q", "params": 5, "ranks": None}, "(for blocks.0.q)"),
}


@pytest.mark.parametrize(("kind", "options", "text"), ERRORS.values(), ids=list(ERRORS))
def test_errors_say_what_to_do_and_leave_the_model_alone(kind, options, text, make_case, snapshot):
    model = make_case(kind).model
    before = snapshot(model)
    with pytest.raises(tl.TensloraError) as caught:
        tl.attach(model, LORA, **{"ranks": 2, **options})
    assert text in str(caught.value)
    assert caught.value.advice
    before.check(model)


def test_an_incomplete_grid_names_what_is_missing():
    model = nn.Sequential(
        nn.ModuleDict({"q": nn.Linear(2, 2), "k": nn.Linear(2, 2)}),
        nn.ModuleDict({"q": nn.Linear(2, 2)}),
    )
    with pytest.raises(AttachError, match=r"E505.*there is no layer=1, proj=k"):
        tl.attach(model, LORA, targets=["q", "k"], ranks=1)
    sliced = tl.attach(
        model, "W[site out in] = B[out r] S[site r] A[r in]", targets=["q", "k"], ranks=1
    )
    assert sliced.bounds["2x2"].sizes["site"] == 3


def test_modules_that_never_call_their_weight_are_refused():
    model = nn.TransformerEncoderLayer(4, 2)
    with pytest.raises(AttachError, match=r"E502: self_attn\.out_proj cannot carry an adapter"):
        tl.attach(model, "W[out in] = B[out r] A[r in]", targets="out_proj", ranks=1)
    lazy = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(AttachError, match="not known before its first call"):
        tl.attach(lazy, "W[out in] = B[out r] A[r in]", targets="0", ranks=1)
    with pytest.raises(AttachError, match="it is the model itself"):
        tl.attach(nn.Linear(2, 2), "W[out in] = B[out r] A[r in]", sites=[Site("")], ranks=1)


def test_names_of_cores_that_torch_takes(make_case, snapshot):
    model = make_case("plain").model
    before = snapshot(model)
    with pytest.raises(AttachError, match="E509: a core cannot be called 'train'"):
        tl.attach(model, "W[out in] = train[out r] A[r in]", targets="q", ranks=1)
    before.check(model)


def test_a_model_with_an_attribute_of_the_same_name(make_case):
    model = make_case("plain").model
    model.tenslora = 3
    with pytest.raises(AttachError, match="E509: Plain has an attribute 'tenslora' of its own"):
        tl.attach(model, "W[out in] = B[out r] A[r in]", targets="q", ranks=1)


def test_heads_have_to_be_the_models(make_case):
    equation = "W[layer (head head_dim) in] = B[layer head head_dim r] A[layer r in]"
    with pytest.raises(AttachError, match="no heads of BertConfig"):
        tl.attach(make_case("bert").model, equation, targets="intermediate.dense", ranks=1)
    with pytest.raises(AttachError, match="the model has no config"):
        tl.attach(make_case("plain").model, equation, targets="q", ranks=1)
    with pytest.raises(AttachError, match="head=5"):
        tl.attach(make_case("plain").model, equation, targets="q", ranks=1, sizes={"head": 5})
    adapter = tl.attach(
        make_case("bert").model, equation, targets="intermediate.dense", ranks=1, sizes={"head": 5}
    )
    assert adapter.bounds["20x12"].sizes["head_dim"] == 4


def test_heads_from_configs():
    class Config:
        num_attention_heads, num_key_value_heads, hidden_size = 9, 3, 576

    assert (heads(Config(), 576), heads(Config(), 192), heads(Config(), 1536)) == (9, 3, None)
    assert heads(object(), 12) is None
    with_width = Config()
    with_width.head_dim = 128
    assert (heads(with_width, 1152), heads(with_width, 576)) == (9, None)


@pytest.mark.parametrize("total", [1, 2, 7, 12, 64, 97, 360, 768, 1024, 3072])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_balanced_factors(total, count):
    import itertools
    import math

    factors = balanced(total, count)
    divisors = [d for d in range(1, total + 1) if total % d == 0]
    best = min(
        sum(found)
        for found in itertools.combinations_with_replacement(divisors, count)
        if math.prod(found) == total
    )
    assert math.prod(factors) == total
    assert list(factors) == sorted(factors)
    assert sum(factors) == best


def test_groups_of_shapes(make_case):
    sites = find_sites(make_case("llama").model, ["q_proj", "k_proj", "down_proj"])
    groups = group_by_shape(sites, "group")
    assert {name: len(held) for name, held in groups.items()} == {
        "16x16": 2,
        "8x16": 2,
        "16x20": 2,
    }
