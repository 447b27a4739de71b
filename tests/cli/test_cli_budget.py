"""``tenslora budget``: a table, one JSON object, a picture, and its mistakes."""

from __future__ import annotations

import pytest

import tenslora as tl


def test_a_table_of_every_family(cli):
    out = cli("budget", "--model", "minilm", "--like", "lora:8").out
    assert out.startswith("minilm: 6 layers x 3 of 384x384; like lora:r=8")
    for name in tl.registered():
        assert name in out


def test_json_and_words(cli):
    words = ["layer=6", "proj=3", "in=384", "out=384", "head=12", "--like", "lora:8", "--json"]
    by_words, by_name = (
        cli("budget", *words).data,
        cli("budget", "--model", "minilm", *words[5:]).data,
    )
    assert by_words["families"] == by_name["families"]
    qkv = next(row for row in by_words["families"] if row["family"] == "tenslora.qkv")
    assert qkv["ranks"] == [{"a": 22, "b": 22, "c": 3}]
    assert qkv["parameters"] == 110_142


def test_rates_multiples_and_some_families(cli):
    found = cli(
        "budget", "--model", "bert-base", "--params", "300000", "--multiple", "8",
        "--compression", "layer=0.5", "--families", "tenslora.qkv_depth", "lora", "--json",
    ).data  # fmt: skip
    assert [row["family"] for row in found["families"]] == ["tenslora.qkv_depth"]
    ranks = found["families"][0]["ranks"][0]
    assert ranks["d"] == 6
    assert ranks["a"] % 8 == ranks["b"] % 8 == 0
    assert "layer has no rank of its own" in found["left_out"]["lora"]


def test_sizes_that_a_family_needs(cli):
    words = ["--model", "minilm", "o1=12", "i1=6", "--families", "lokr", "--rank", "2", "--json"]
    row = cli("budget", *words).data["families"][0]
    assert row["parameters"] == 18 * (12 * 6 + 2 * (32 + 64))


def test_a_picture(cli, tmp_path):
    path = tmp_path / "budget.png"
    families = ["--families", "lora", "lotr"]
    assert (
        cli("budget", "--model", "minilm", "--rank", "4", *families, "--plot", str(path)).code == 0
    )
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--like", "lora:8"], "neither --model nor a shape is given"),
        (["--model", "minilm", "layer=3", "--rank", "2"], "are both given"),
        (["layer=3", "--rank", "2"], "the shape lacks proj, out, in"),
        (["--model", "minilm"], "no budget is given"),
        (["--model", "nowhere", "--rank", "2"], "the config nowhere is not there"),
        (["--model", "minilm", "--params", "1"], "no family can be bound"),
        (["--model", "minilm", "--rank", "2", "--compression", "in=x"], "in=x is not a number"),
        (["layer=1", "proj=1", "in=8", "out=9", "head=4", "--rank", "2"], "head=4 does not divide"),
    ],
)
def test_mistakes(refused, words, text):
    assert text in refused("budget", *words)
