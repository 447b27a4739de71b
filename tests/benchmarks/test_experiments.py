"""Every experiment runs at tiny sizes, writes its result, and the tables can be made from it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import benchmarks.results
from benchmarks import figures, tables
from benchmarks.__main__ import EXPERIMENTS, main

ROOT = Path(__file__).parents[2]
MEASURING = [name for name in EXPERIMENTS if name != "tables"]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run them all once; sides are compared before they are timed, a difference raises."""
    folder = tmp_path_factory.mktemp("results")
    for name in MEASURING:
        device = ["--device", "cpu"] if name == "gpu" else []
        assert main([name, "--smoke", "--out", str(folder), *device]) == 0
    return folder


@pytest.mark.parametrize("name", MEASURING)
def test_results_say_how_they_were_made(results, name):
    kept = json.loads((results / name / "result.json").read_text(encoding="utf-8"))
    assert kept["command"].startswith(f"python -m benchmarks {name} --smoke")
    assert kept["machine"]["threads"] == 1 or name == "gpu"
    assert {"torch", "transformers", "peft", "tenslora"} <= kept["versions"].keys()
    assert kept["rows"]


def test_tables_are_made_from_results(results, monkeypatch):
    monkeypatch.setattr(benchmarks.results, "RESULTS", results)
    text = tables.report()
    assert "Not measured yet" not in text
    for title in ("Counters", "The q, k, v group of one layer", "Whole models", "Memory"):
        assert f"## {title}" in text
    assert "| tenslora.qkv_depth, d = 64, 16 tokens | 3 |" in text
    for side in ("floor compiled", "PEFT compiled", "tenslora compiled"):
        assert f"| lora, 16 tokens | 3 | {side} |" in text
    known = {figure.key: found for figure, found, _ in figures.reached()}
    kept = json.loads((results / "handling" / "result.json").read_text(encoding="utf-8"))
    assert known["merged"].value == 1.0
    assert known["import"].value == kept["rows"][0]["milliseconds"]


def test_the_page_is_what_the_kept_results_say():
    old = tables.README.read_text(encoding="utf-8")
    assert tables.write_region(old) == old, "run: python -m benchmarks tables"


def test_reasons_are_of_figures_that_are_missed():
    missed = {
        figure.key
        for figure, found, _ in figures.reached()
        if found is not None and not figure.met(found)
    }
    assert missed == figures.REASONS.keys()


def test_a_goal_is_met_as_it_is_written():
    figure = next(f for f in figures.FIGURES if f.key == "group")
    assert figure.met(figures.Reached(0.354, ""))
    assert not figure.met(figures.Reached(0.356, ""))
    times = next(f for f in figures.FIGURES if f.key == "rebuild")
    assert not times.met(figures.Reached(99.0, ""))


def test_the_gpu_command_says_that_there_is_none(capsys):
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert main(["gpu"]) == 2
    assert "--device cpu" in capsys.readouterr().out


def test_tables_need_no_tensor_library():
    """The documentation imports them."""
    code = "import sys, benchmarks.tables as t; t.report(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
