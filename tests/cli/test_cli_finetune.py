"""`tenslora finetune` as a whole, on a tiny model and questions made here."""

from __future__ import annotations

import json
import random

import pytest

import tenslora as tl

torch = pytest.importorskip("torch", reason="finetune needs torch")
transformers = pytest.importorskip("transformers", reason="finetune needs transformers")

WORDS = ["red", "green", "blue", "cat", "dog", "owl"]
EQUATION = "W[layer proj out in] = B[layer proj out r] A[r in]"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A BERT of two layers with random weights, and its tokenizer, in a folder."""
    folder = tmp_path_factory.mktemp("model")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A TSV file: is the first word a colour?"""
    chance = random.Random(0)
    folder = tmp_path_factory.mktemp("colours")
    for split, rows in (("train", 48), ("dev", 24)):
        lines = ["text\tlabel"]
        for _ in range(rows):
            words = chance.choices(WORDS, k=4)
            lines.append(f"{' '.join(words)}\t{'colour' if words[0] in WORDS[:3] else 'animal'}")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def words(model, data, tmp_path):
    out = tmp_path / "out"
    return ["--model", str(model), "--data", str(data), "--out", str(out), "--epochs", "1"]


def test_finetune_with_an_equation(cli, words, tmp_path):
    start = ["--init", "A=orthogonal", "--like", "lora:2"]
    outcome = cli("finetune", "--family", EQUATION, *start, *words, "--seeds", "3", "--json")
    assert outcome.data["kind"] == "finetune"
    run = outcome.data["runs"][0]
    assert (run["seed"], run["equation"]) == (3, EQUATION)
    # as many as LoRA of rank 2 at most: 6 x 2 x 16 x 2 = 384 >= r (6 x 16 + 16)
    assert (run["ranks"], run["adapter_parameters"]) == ({"r": 3}, 3 * 7 * 16)
    assert json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["runs"] == [run]
    assert "48 rows to train on" in outcome.err
    file = outcome.data["files"]["adapter"]
    base = transformers.BertForSequenceClassification.from_pretrained(words[1], num_labels=2)
    adapter = tl.load(base, file)
    assert str(adapter.family.init["A"]) == "orthogonal"


@pytest.mark.parametrize(
    ("family", "more", "wrapper", "own"),
    [
        ("dora(lora)", ["--ranks", "2"], "dora", 6 * 16),
        (f"hira({EQUATION}:2)", ["--init", "A=orthogonal"], "hira", 0),
        (
            "router[expert](W[layer proj expert out in] = B[layer proj expert out r] A[r in])",
            ["--ranks", "2", "--sizes", "expert=3"],
            "router[expert]",
            6 * 3 * 16,
        ),
    ],
    ids=["dora", "hira", "router"],
)
def test_finetune_a_family_in_a_wrapper(cli, words, family, more, wrapper, own):
    outcome = cli("finetune", "--family", family, *more, *words, "--json")
    run = outcome.data["runs"][0]
    base = transformers.BertForSequenceClassification.from_pretrained(words[1], num_labels=2)
    adapter = tl.load(base, outcome.data["files"]["adapter"])
    assert str(adapter.wrapper) == wrapper
    cores = sum(bound.trainable_parameters for bound in adapter.bounds.values())
    assert run["adapter_parameters"] == adapter.trainable_parameters == cores + own
    assert wrapper.partition("[")[0] in outcome.data["command"]


def test_finetune_for_a_reader(cli, words):
    outcome = cli("finetune", "--family", "lora", "--ranks", "2", *words)
    assert outcome.code == 0
    assert "lora" in outcome.out
    assert "adapter.safetensors" in outcome.out


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["--data", "nowhere.tsv"], "nowhere.tsv"),
        (["--model", "./nowhere"], "nowhere"),
        (["--targets", "quary"], "quary"),
        (["--family", "lroa"], "Did you mean lora"),
        (["--ranks", "0"], "rank"),
        (["--family", "dora(dora(lora))"], "A family has one wrapper"),
        (["--family", "router[expert](lora)"], "no site index of lora"),
        (["--sizes", "expert=two"], "--sizes expert=two is not name=value"),
        (["--label", "topic"], "topic"),
    ],
    ids=["data", "model", "targets", "family", "ranks", "twice", "router", "sizes", "label"],
)
def test_a_mistake_in_a_setting_is_one_line(cli, words, changed, says):
    outcome = cli("finetune", *words, *changed)
    assert (outcome.code, outcome.out) == (2, "")
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: E")
    assert says in last
    assert "Traceback" not in outcome.err
