"""prove and lattice: what they print, for a reader and for a program, and what they refuse."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

import tenslora as tl

PLAIN, FULL = "W[out in] = B[out r] A[r in]", "W[out in] = T[out in]"
WITNESS = "T[out in] = B[out r] A[r in]"
SQUARE = "W[out in] = B[out r] M[r s] M[s t] A[t in]"


def test_a_proof_is_printed_and_can_be_checked_again(cli):
    outcome = cli("prove", "lotr", "tenslora.depth")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.rstrip() == str(tl.embeds("lotr", "tenslora.depth"))
    data = cli("prove", "lotr", "tenslora.depth", "--json").data
    assert data["verdict"] == "proved"
    assert data["ranks"] == {"a": ["r"], "b": ["s"], "c": ["layer"]}
    assert (data["steps"][0]["result"], data["steps"][-1]["result"]) == (
        data["general"],
        data["special"],
    )
    assert tl.check("lotr", "tenslora.depth", data["witness"]).ranks["c"] == ("layer",)


def test_free_ranks_when_asked_for(cli):
    pair = "tenslora.qkv_depth", "tenslora_cp.qkv_depth"
    data = cli("prove", *pair, "--free", "--json").data
    assert data["free"]
    assert set(data["ranks"]["r"]) <= set("abcd")


def test_a_counterexample_and_not_knowing_are_answers(cli):
    data = cli("prove", "lora", "lora_xs", "--json").data
    assert (data["verdict"], data["law"], data["seed"]) == ("refuted", "dimension", 0)
    assert "here W has 8" in data["reason"]
    outcome = cli("prove", PLAIN, SQUARE)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("undecided")
    assert cli("prove", PLAIN, SQUARE, "--json").data["notes"]


def test_a_witness_of_ones_own(cli, tmp_path):
    path = tmp_path / "witness.txt"
    path.write_text(WITNESS.replace(";", "\n"), encoding="utf-8")
    given = cli("prove", PLAIN, FULL, "--witness", WITNESS)
    assert given.code == 0
    assert given.out == cli("prove", PLAIN, FULL, "--witness-file", str(path)).out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["prove", "lora", PLAIN],
            "error: E130: W[layer proj out in] and W[out in] have different sites. "
            "The first has layer proj, which the second has not: split or restrict one.",
        ),
        (
            ["prove", PLAIN, FULL, "--witness", "T[out in] = C[out r] A[r in]"],
            "error: E131: C in T[out in] = C[out r] A[r in] is no core of "
            "W[out in] = B[out r] A[r in]. A value is made of B, A, eye, ones, zeros.",
        ),
        (
            ["prove", PLAIN, FULL, "--witness", "T[out in] = B[out r] A[s in]"],
            "error: E133: index 'r' is free in T[out in] = B[out r] A[s in]: it occurs in one "
            "core only. Put it among the slots on the left, or give it to a second core.",
        ),
        (
            ["prove", PLAIN, FULL, "--witness", "T[out in] = B[out r] ones[r in]"],
            "error: E135: the witness gives another network: A[r in] is missing. It gives "
            "W[out in] = B[out r] ones[in r]; wanted is W[out in] = B[out r] A[r in].",
        ),
        (
            ["prove", PLAIN, FULL, "--witness", WITNESS, "--witness-file", "w.txt"],
            "error: E801: --witness and --witness-file are both given. Give one of them.",
        ),
        (
            ["prove", PLAIN, FULL, "--witness-file", "no such file"],
            "error: E807: no such file cannot be read: No such file or directory. "
            "Give a text file.",
        ),
        (
            ["prove", PLAIN, FULL, "--svg", "no such folder/x.svg"],
            "error: E807: no such folder/x.svg cannot be written: No such file or directory. "
            "Give a file in a folder that exists.",
        ),
        (
            ["lattice", "lora"],
            "error: E801: lora alone has nothing to be compared with. "
            "Name two families or more, or none for all.",
        ),
        (
            ["lattice", "lora", "lora"],
            "error: E801: lora alone has nothing to be compared with. "
            "Name two families or more, or none for all.",
        ),
        (
            ["lattice", "lora", "lotr", "--svg", "no such folder/x.svg"],
            "error: E807: no such folder/x.svg cannot be written: No such file or directory. "
            "Give a file in a folder that exists.",
        ),
    ],
)
def test_a_mistake_is_one_line(cli, words, line):
    outcome = cli(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.rstrip("\n") == line


SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("pair", "headings"),
    [
        (("lotr", "tenslora.depth"), ["special case", "of", "witness"]),
        (("lora", "fourierft"), ["no special case", "of", "counterexample"]),
        ((PLAIN, SQUARE), ["undecided", "of", "searched"]),
    ],
)
def test_a_verdict_as_a_picture(cli, tmp_path, pair, headings):
    """Both pictures are whole, one under the other, and nothing is written outside the page."""
    path = tmp_path / "proof.svg"
    outcome = cli("prove", *pair, "--svg", str(path))
    found = tl.embeds(*pair)
    assert outcome.out == f"{found}\n\npicture: {path}\n"
    root = ET.parse(path).getroot()
    words = [text for text in root.findall(f"{SVG}text") if text.get("class") == "tl-word"]
    assert [word.text for word in words] == headings
    pictures = root.findall(f"{SVG}svg")
    for picture, network in zip(pictures, (found.special, found.general), strict=True):
        assert picture.get("aria-label") == str(network)
    sizes = [[float(n) for n in s.get("viewBox").split()[2:]] for s in (root, *pictures)]
    (wide, high), *inner = sizes
    places = [(float(p.get("x")), float(p.get("y"))) for p in pictures]
    assert all(x + w <= wide for (x, _), (w, _) in zip(places, inner, strict=True))
    assert places[0][1] + inner[0][1] <= places[1][1]
    lines = [text.text for text in root.findall(f"{SVG}text")]
    assert max(float(text.get("y")) for text in root.findall(f"{SVG}text")) < high
    if found:
        assert all(str(line) in lines for line in found.witness.definitions)
    assert cli("prove", *pair, "--svg", str(path), "--json").data["special"] == str(found.special)


def test_the_lattice_as_a_table_as_counts_and_as_data(cli, tmp_path):
    names = ["lora", "tied_lora", PLAIN, "lora_xs"]
    found = tl.lattice(names)
    outcome = cli("lattice", *names, "--ranks")
    assert outcome.out.startswith(found.table())
    assert "tied_lora in lora: r = r" in outcome.out
    assert cli("lattice", *names, "--counts").out.rstrip() == (
        "4 of 6 pairs proved (2 of them = or <), 2 refuted, 0 undecided; "
        "6 more are over different sites"
    )
    path = tmp_path / "order.svg"
    data = cli("lattice", *names, "--json", "--svg", str(path)).data
    assert data["counts"] == found.counts()
    kinds = {(p["special"], p["general"]): p["kind"] for p in data["pairs"]}
    assert kinds["lora", "lora_xs"] == "refuted"
    assert all("witness" in p for p in data["pairs"] if p["verdict"] == "proved")
    assert ET.parse(path).getroot().tag.endswith("svg")


def test_undecided_pairs_are_named(cli):
    assert cli("lattice", PLAIN, SQUARE, "--counts").out.splitlines()[1:] == [
        f"undecided in {SQUARE}: {PLAIN}"
    ]
