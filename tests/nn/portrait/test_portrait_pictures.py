"""The pictures: the same bytes every time, labels in them, no meaning in a colour alone."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest
import torch

import tenslora as tl
from tenslora.errors import DataError

matplotlib = pytest.importorskip("matplotlib", reason="needs the plot extra")
pytestmark = pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")

_SVG = "{http://www.w3.org/2000/svg}"


def words(svg):
    return ["".join(node.itertext()).strip() for node in ET.fromstring(svg).iter(_SVG + "text")]


@pytest.fixture
def heads(attached):
    return attached("tenslora.att_qkv_depth", sizes={"head": 2})


def test_a_picture_of_norms_has_each_number(heads):
    found, shown = heads.portrait(), words(heads.plot().svg())
    for value in found.norms.values.ravel():
        assert f"{value:.2g}" in shown
    assert {"layer", "q", "k", "0", "1", "2"} <= set(shown)
    assert "tenslora.att_qkv_depth: norm of the update" in shown


def test_a_picture_of_spectra_marks_the_ranks(heads):
    shown = words(heads.plot(what="spectra").svg())
    titles = ["layer of 3", "proj of 2", "head of 2", "head_dim of 4", "in of 6"]
    assert [word for word in shown if word in titles] == titles
    assert shown.count("rank 2") == 6  # and the cut of one weight


def test_a_picture_of_heads_has_parts_of_the_largest(heads):
    shown = words(heads.plot(what="heads").svg())
    assert shown.count("100") == 2
    assert shown.count("head") == 2


def test_before_and_after_differ_by_mark_and_dash(heads, attached):
    other = attached("lora", seed=2)
    figure = heads.plot(against=other).figure
    first, second = figure.axes[0].lines
    assert first.get_marker() != second.get_marker()
    assert first.get_linestyle() != second.get_linestyle()
    shown = words(heads.plot(against=other, what="spectra").svg())
    assert "before: rank 2" in shown
    assert "after: rank 2" in shown


def test_every_norm_lies_inside_its_panel(heads):
    """The panels share an axis; one was closed before the largest norm was drawn."""
    with torch.no_grad():
        next(v for name, v in heads.model.named_parameters() if name.endswith(".P"))[1] *= 50
    found = heads.plot(against=heads)
    panels = [axes for axes in found.figure.axes if axes.lines]
    assert len(panels) == 2
    for axes in panels:
        low, high = axes.get_ylim()
        values = [y for line in axes.lines for y in line.get_ydata()]
        assert low == 0 < max(values) < high


def test_the_same_picture_has_the_same_bytes_and_no_date(heads, tmp_path):
    for what in ("norms", "heads", "spectra"):
        one, other = heads.plot(what=what).svg(), heads.plot(what=what).svg()
        assert one == other
        assert not re.search(r"\d{4}-\d\d-\d\d", one)
    heads.plot(tmp_path / "a" / "norms.png")
    assert (tmp_path / "a" / "norms.png").read_bytes()[:4] == b"\x89PNG"
    heads.plot(tmp_path / "norms.svg")
    text = (tmp_path / "norms.svg").read_text()
    assert text == heads.plot().svg()
    assert heads.plot()._repr_svg_() in text


@pytest.mark.parametrize("what", ["heads", "colours"])
def test_what_cannot_be_drawn_is_told(what, attached):
    with pytest.raises(DataError, match=rf"E716: '{what}' cannot be drawn here"):
        attached("lora").plot(what=what)


def test_an_ending_that_is_no_picture(heads, tmp_path):
    with pytest.raises(DataError, match=r"E711: .* has no ending of a picture"):
        heads.plot(tmp_path / "norms.txt")


def test_without_matplotlib_the_text_stays_and_the_picture_says_what_to_install(heads, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "norm of the update" in heads.portrait().text()
    with pytest.raises(DataError, match=r"E710: matplotlib.*\n.*tenslora\[plot\]"):
        heads.plot()


def test_matplotlibs_state_is_as_it_was(tmp_path):
    code = (
        "import sys, torch, matplotlib as mpl, tenslora as tl\n"
        "mpl.rcParams['backend'] = 'agg'\n"  # to look for one imports pyplot
        "before = dict(mpl.rcParams)\n"
        "model = torch.nn.Sequential(torch.nn.Linear(4, 4))\n"
        "adapter = tl.attach(model, 'lora', targets='0', ranks=1)\n"
        "adapter.plot(sys.argv[1])\n"
        "print('matplotlib.pyplot' in sys.modules, dict(mpl.rcParams) == before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "norms.svg")]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert out == "False True\n"


def test_weights_without_a_layer_are_drawn():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 4), "b": torch.nn.Linear(4, 4)})
    family = "W[proj out in] = B[proj out r] A[r in]"
    adapter = tl.attach(model, family, targets=["a", "b"], ranks=1)
    assert {"a", "b", "-"} <= set(words(adapter.plot(against=adapter).svg()))
