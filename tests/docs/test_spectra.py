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
    about = (folder / "about.md").read_text("utf-8")
    _, _, late = about.partition("minutes of one core:")
    slow = {name.strip(" .\n") for name in late.split(",")} - {""}
    assert not slow & {*needs.rows, *needs.left_out}
    assert {*needs.rows, *needs.left_out, *slow} == {*tl.registered()}
    assert all(needs.left_out.values())


def test_lora_needs_what_the_singular_values_say():
    """The ranks beside 110,592 parameters of rank 8: 13,824 a rank, and never more than rank 8."""
    folder = ROOT / "benchmarks" / "results" / "minilm-spectrum"
    row = generate._needs(folder).rows["lora"]
    assert [cell["parameters"] for cell in row] == [13_824 * c["ranks"][0]["r"] for c in row]
    assert [cell["ranks"][0]["r"] for cell in row] == sorted(c["ranks"][0]["r"] for c in row)
    assert all(part <= cell["energy"] for part, cell in zip((0.9, 0.99, 0.999), row, strict=True))
