"""The page of what a trained adapter needs, from the tables of several commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the pages import the torch half")

import generate

import tenslora as tl

ROOT = Path(__file__).parents[2]


def cell(parameters, found="spectra"):
    return {
        "ranks": [{"r": 1}], "parameters": parameters, "energy": 0.9, "enough": True,
        "found": found,
    }  # fmt: skip


def keep(path, families, left_out):
    needed = {"energies": [0.9], "families": families, "left_out": left_out}
    path.write_text(json.dumps({"spectra": [], "needed": needed}), "utf-8")


def test_tables_on_one_adapter_are_one_in_the_order_of_the_catalogue(tmp_path):
    folder = tmp_path / "small-spectrum"
    folder.mkdir()
    (folder / "about.md").write_text("### What it needs\n", "utf-8")
    keep(folder / "a.json", {"lotr": [cell(12)]}, {"pissa": "it has no updates"})
    keep(folder / "b.json", {"lorta": [cell(7, "search")], "lora": [cell(1234)]}, {})
    page = generate.spectra(tmp_path)
    assert page.startswith("### What it needs\n\n```text\nfamily")
    first = [line.split() for line in page.splitlines() if " r=1" in line]
    assert [row[:2] for row in first] == [["lorta", "*"], ["lora", "1,234"], ["lotr", "12"]]
    assert "pissa: it has no updates" in page


def test_the_kept_table_has_every_family_or_a_reason():
    folder = ROOT / "benchmarks" / "results" / "minilm-spectrum"
    needs = generate._needs(folder)
    _, _, late = (folder / "about.md").read_text("utf-8").partition("Not counted here:")
    todo = {name.strip(" .\n") for name in late.split(",")} - {""}
    assert not todo & {*needs.rows, *needs.left_out}
    assert {*needs.rows, *needs.left_out, *todo} == {*tl.registered()}
    assert all(needs.left_out.values())


def test_the_text_counts_the_families_and_names_every_file():
    folder = ROOT / "benchmarks" / "results" / "minilm-spectrum"
    needs, about = generate._needs(folder), (folder / "about.md").read_text("utf-8")
    assert f"It has {len(needs.rows)} families, {len(needs.left_out)} are left out" in about
    each = {name for line in about.splitlines() for name in _looped(line)}
    files = {path.stem for path in folder.glob("*.json")}
    assert files == each | {name for name in files if f"> {name}.json" in about}


def test_the_texts_say_where_a_search_ends():
    from tenslora.decompose import ranking
    from tenslora.decompose.searching import MOST_FROZEN

    about = (ROOT / "benchmarks" / "results" / "minilm-spectrum" / "about.md").read_text("utf-8")
    page = (ROOT / "docs" / "fitting.md").read_text("utf-8")
    for text in (about, page, ranking.keep_energy.__doc__):
        assert f"frozen cores hold {MOST_FROZEN // 10**6} million numbers" in text


def _looped(line):
    """The families of a loop of the shell, each of which fills the file of its name."""
    start, _, rest = line.partition(" in ")
    return rest.partition(";")[0].split() if start == "$ for family" else ()


def test_what_keeps_more_needs_more():
    folder = ROOT / "benchmarks" / "results" / "minilm-spectrum"
    needs = generate._needs(folder)
    for row in needs.rows.values():
        numbers = [cell["parameters"] for cell in row]
        assert numbers == sorted(numbers)
        for part, cell in zip(needs.energies, row, strict=True):
            assert cell["energy"] >= part or not cell["enough"]


def test_lora_needs_what_the_singular_values_say():
    """The ranks beside 110,592 parameters of rank 8: 13,824 a rank, and never more than rank 8."""
    folder = ROOT / "benchmarks" / "results" / "minilm-spectrum"
    row = generate._needs(folder).rows["lora"]
    assert [cell["parameters"] for cell in row] == [13_824 * c["ranks"][0]["r"] for c in row]
    assert [cell["ranks"][0]["r"] for cell in row] == sorted(c["ranks"][0]["r"] for c in row)
    assert all(part <= cell["energy"] for part, cell in zip((0.9, 0.99, 0.999), row, strict=True))
