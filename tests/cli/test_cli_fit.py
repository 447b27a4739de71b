"""``tenslora fit``: stacks of updates, and what fine-tuning changed, as files that load."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertModel

import tenslora as tl

GENERATOR = np.random.default_rng(0)
#: 2 layers x 2 projections of 12 x 10 with one pair of factors of rank 3.
STACK = np.einsum(
    "lpab,oa,ib->lpoi",
    *(GENERATOR.standard_normal(shape) for shape in ((2, 2, 3, 3), (12, 3), (10, 3))),
)
CONFIG = BertConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, vocab_size=20
)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(10, 12), nn.Linear(10, 12)


@pytest.fixture
def model():
    made = nn.Module()
    made.layers = nn.ModuleList(Block() for _ in range(2))
    return made


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "stack.npy", STACK)
    save_file({"updates": STACK}, tmp_path / "stack.safetensors")
    named = {f"layers.{n}.{p}.weight": STACK[n, "qk".index(p)] for n in range(2) for p in "qk"}
    save_file(
        {name: np.ascontiguousarray(w) for name, w in named.items()}, tmp_path / "named.safetensors"
    )
    return tmp_path


PATHS = ("--paths", "layers.{layer}.{proj}", "--labels", "proj=q,k")


@pytest.mark.parametrize(
    ("source", "words"),
    [("stack.npy", PATHS), ("stack.safetensors", PATHS), ("named.safetensors", ())],
)
def test_a_stack_becomes_a_file_that_loads_on_the_model(cli, model, files, source, words):
    out = str(files / "out.safetensors")
    choice = ("--family", "lotr", "--ranks", "3", *words)
    if source != "named.safetensors":  # LoTR has a pair for each projection: rank 3 is enough
        assert cli("fit", str(files / source), out, *choice).code == 0
    found = cli("fit", str(files / source), out, *choice, "--json").data
    assert found["error"] < 1e-6
    assert found["before"] is None
    adapter = tl.load(model, out)
    for n in range(2):
        for p, proj in enumerate("qk"):
            update = adapter.delta(f"layers.{n}.{proj}").detach().numpy()
            np.testing.assert_allclose(update, STACK[n, p], atol=1e-4)


def test_the_error_of_each_update_is_said(cli, files):
    words = ("--family", "W[layer proj out in] = B[out r] A[r in]", "--ranks", "2")
    found = cli("fit", str(files / "stack.npy"), str(files / "o.safetensors"), *words, "--json")
    mean = STACK.mean(axis=(0, 1))
    u, s, vt = np.linalg.svd(mean)
    best = (u[:, :2] * s[:2]) @ vt[:2]
    error = np.linalg.norm(STACK[1, 0] - best) / np.linalg.norm(STACK[1, 0])
    assert found.data["errors"]["layer.1.proj.0"] == pytest.approx(error)
    total = np.linalg.norm(STACK - best) / np.linalg.norm(STACK)
    assert found.data["error"] == pytest.approx(total)
    text = cli("fit", str(files / "stack.npy"), str(files / "o.safetensors"), *words).out
    assert text.startswith("44 parameters; relative error ")
    assert "of 4 weights: layer." in text


@pytest.fixture
def pair(tmp_path):
    """A model without a head, and a classifier that was trained from it on all its weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tuned = BertForSequenceClassification(CONFIG)
        base = BertModel(CONFIG)
        base.load_state_dict(copy.deepcopy(tuned.bert.state_dict()), strict=True)
        with torch.no_grad():
            for name, parameter in tuned.bert.named_parameters():
                if name.endswith(("query.weight", "value.weight")):
                    a, b = torch.randn(16, 1), torch.randn(1, 16)
                    parameter.add_(0.1 * a @ b)
            tuned.bert.pooler.dense.weight.add_(0.01)
    base.save_pretrained(tmp_path / "base")
    tuned.save_pretrained(tmp_path / "tuned")
    return base, tuned, tmp_path


def test_what_fine_tuning_changed(cli, pair):
    base, tuned, folder = pair
    out = str(folder / "out.safetensors")
    sources = (str(folder / "base"), str(folder / "tuned"), out)
    words = ("--targets", "query", "value", "--train", "classifier")
    choice = ("--family", "lora", "--ranks", "1")
    found = cli("fit", *sources, *words, *choice, "--json").data
    assert found["error"] < 1e-5
    changed = {
        name: float(((new - base.state_dict()[name]) ** 2).sum())
        for name, new in tuned.bert.state_dict().items()
    }
    inside = sum(v for k, v in changed.items() if "query" in k or "value" in k)
    assert found["covered"] == pytest.approx(inside / sum(changed.values()), rel=1e-4)
    assert "% of what was changed" in cli("fit", *sources, *words, *choice).out
    fresh = BertForSequenceClassification(CONFIG)
    fresh.bert.load_state_dict(base.state_dict())
    adapter = tl.load(fresh, out)
    assert torch.equal(fresh.classifier.weight, tuned.classifier.weight)
    for site in adapter.sites:
        key = site.path.removeprefix("bert.") + ".weight"
        wanted = tuned.bert.state_dict()[key] - base.state_dict()[key]
        torch.testing.assert_close(adapter.delta(site).detach(), wanted, rtol=1e-3, atol=1e-5)


def test_heads_are_those_of_the_model(cli, pair):
    _, _, folder = pair
    sources = (str(folder / "base"), str(folder / "tuned"), str(folder / "out.safetensors"))
    words = ("--targets", "query", "--family", "lorta", "--ranks", "2")
    assert cli("fit", *sources, *words).code == 0


def test_mistakes_are_one_line_and_write_nothing(refused, files, pair):
    _, _, folder = pair
    stack, out = str(files / "stack.npy"), str(files / "out.safetensors")
    both = (str(folder / "base"), str(folder / "tuned"), out)
    ranks = ("--family", "lotr", "--ranks", "2")
    (files / "bad.npy").write_bytes(b"\x93NUMPY no")
    (files / "bad.safetensors").write_bytes(b"no")
    np.save(files / "flat.npy", STACK[0, 0])
    broken = STACK.copy()
    broken[1, 0, 2, 3] = np.inf
    np.save(files / "nan.npy", broken)
    np.save(files / "words.npy", np.array(["a"]))
    save_file({"a": STACK, "b": STACK[0, 0].copy()}, files / "two.safetensors")
    cases = {
        ("fit", str(files / "no.npy"), out, *ranks): "E610: there is no file",
        ("fit", str(files / "bad.npy"), out, *ranks): "E610: ",
        ("fit", str(files / "bad.safetensors"), out, *ranks): "E610: ",
        ("fit", str(files), out, *ranks): "E610: there is no file",
        ("fit", str(files / "flat.npy"), out, *ranks): "E901: the stack has 2 axes (12, 10), and",
        ("fit", str(files / "nan.npy"), out, *ranks): "E902: the target has 1 numbers that are not",
        ("fit", str(files / "words.npy"), out, *ranks): "E902: the target is no array of real",
        ("fit", str(files / "two.safetensors"), out, *ranks): "E613: ",
        ("fit", stack, out, *ranks, "--paths", "layers.{layer}"): "E503: paths='layers.{layer}' do",
        ("fit", stack, out, *ranks, "--labels", "proj=a"): "E503: labels names 1 of proj, and the",
        ("fit", stack, out, *ranks, "--labels", "proj"): "E803: ",
        ("fit", stack, out, *ranks, "--train", "x"): "E801: --train belongs to two models",
        ("fit", stack, out, "--family", "lotr", "--params", "9"): "E207: params=9 is below",
        ("fit", stack, out, "--family", "lotr"): "E801: no ranks are chosen",
        ("fit", stack, stack, out, *ranks): "E801: 2 sources are given",
        ("fit", out, *ranks): "E801: 0 sources are given",
        ("fit", *both, *ranks, "--targets", "quarry"): "E501: ",
        ("fit", *both, *ranks, "--targets", "query", "--paths", "x"): "E801: --paths belongs to a",
        ("fit", both[0], f"{both[1]}x/", out, *ranks, "--targets", "query"): "E707: ",
        ("fit", *both, *ranks, "--targets", "classifier"): "E707: ",
    }
    for words, text in cases.items():
        assert text in refused(*words), words
    assert not (files / "out.safetensors").exists()


def test_models_of_two_shapes_are_refused():
    from tenslora.errors import AttachError
    from tenslora.integrations import fit_models

    one, other = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 5))
    before = copy.deepcopy(one.state_dict())
    with pytest.raises(AttachError) as info:
        fit_models(one, other, "lora", targets="0", ranks=1)
    assert str(info.value) == (
        "E503: the two models differ in 0.weight: (4, 4) and (5, 4)\n"
        "  Give a model and one that was trained from it."
    )
    assert list(one.state_dict()) == list(before)
