"""Pictures byte for byte, and what each ink promises. Renew with TENSLORA_GOLDEN=write."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import tenslora as tl
from tenslora.draw import Drawing, draw, hues, layout, to_html, to_latex, to_svg
from tenslora.draw.colours import DARK, LIGHT

GOLDEN = Path(__file__).with_name("golden")
FAMILIES = (
    "lora",
    "vera",
    "loha",
    "lokr",
    "lorta",
    "tt_lora",
    "tenslora.att_qkv_depth",
    "tenslora_tr.att_qkv_depth",  # a ring of groups
    "tenslora_tr.qkv",  # a ring between input and output
    "hierarchical_tucker",  # a tree
    "pissa",  # a sum, with frozen cores
    "tera",  # a star with vectors on its bonds
    "gralora",  # groups that cores share
    "block_term",  # a copy beside bonds
)
#: And what the catalogue does not have: constants, in a product of matrices that are summed.
CONSTANTS = "W[layer (o p) in] = B[layer o p r] eye[r s t] d[s] A[t in] + b[layer o] ones[p in]"
SIZES = {"layer": 12, "proj": 3, "head": 12, "head_dim": 64, "in": 768}
SVG = "{http://www.w3.org/2000/svg}"


def held(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("TENSLORA_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path.name} is drawn in another way"


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("ink", ["svg", "txt", "tex"])
def test_pictures_are_what_they_were(name, ink, tmp_path):
    path = tmp_path / f"{name}.{ink}"
    tl.resolve(name).draw(path)
    held(path.name, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("ink", ["svg", "txt", "tex"])
def test_a_picture_of_constants_is_what_it_was(ink, tmp_path):
    path = tmp_path / f"constants.{ink}"
    draw(tl.parse(CONSTANTS), zero=["B", "b"], frozen=["A"]).save(path)
    held(path.name, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("ink", ["svg", "txt"])
def test_the_picture_of_a_plan_is_what_it_was(ink, tmp_path):
    path = tmp_path / f"plan.{ink}"
    tl.resolve("tenslora.att_qkv_depth").bind(SIZES, rank=3).draw(path, what="plan")
    held(path.name, path.read_text(encoding="utf-8"))


def test_a_picture_that_changed_is_found(monkeypatch):
    monkeypatch.delenv("TENSLORA_GOLDEN", raising=False)
    with pytest.raises(AssertionError, match=r"lora\.svg is drawn in another way"):
        held("lora.svg", tl.families.lora.draw().svg().replace("#3b5bdb", "#3b5bdc", 1))


def test_a_plan_says_what_is_hoisted_shared_and_what_it_costs():
    bound = tl.resolve("tenslora.att_qkv_depth").bind(SIZES, rank=3)
    plan, text = bound.plan(), bound.draw(what="plan").text()
    assert "once a forward, for all sites" in text
    assert "shared by all proj" in text
    for step in plan.hoisted:
        assert f"{step.flops:,} FLOPs" in text
        assert str(step.result) in text
    for stage in plan.chains[0].stages:
        assert f"{stage.flops:,} FLOPs" in text


def test_an_svg_says_the_equation_to_who_cannot_see_it():
    root = ET.fromstring(draw(tl.parse("W[out in] = B[out r] A[r in]"), zero=["B"]).svg())
    assert root.get("role") == "img"
    assert root.get("aria-label") == "W[out in] = B[out r] A[r in]"
    titles = [element.text for element in root.iter(f"{SVG}title")]
    assert titles == ["A[r in]: trained", "B[out r]: trained, zero at the start"]


def test_trained_frozen_zero_and_constant_cores_differ_in_more_than_colour():
    network = tl.parse("W[out in] = B[out r] A[r s] eye[s t] C[t in]")
    svg = draw(network, zero=["B"], frozen=["A"]).svg()
    assert re.search(r"\.frozen rect\{[^}]*stroke-dasharray", svg)
    kinds = re.findall(r'<g class="(core|frozen|constant|zero)"', svg)
    assert sorted(kinds) == ["constant", "core", "core", "frozen", "zero"]


def test_a_page_with_many_pictures_carries_the_style_once():
    assert "<style>" not in to_svg(layout(tl.resolve("lora").network), style=False)


def test_nothing_in_a_picture_can_run_or_be_fetched():
    svg = tl.resolve("tenslora.att_qkv_depth").draw().svg()
    assert not re.search(r"<script|onload|href=|url\(|@import", svg)


def contrast(one: str, two: str) -> float:
    """The ratio of WCAG 2.1 between two colours."""

    def light(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        red, green, blue = (
            p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((light(one), light(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("colours", "ground"), [(LIGHT, "#ffffff"), (DARK, "#131416")])
def test_every_colour_can_be_read(colours, ground):
    assert min(contrast(colour, ground) for colour in colours) > 4.5
    assert len(set(colours)) == len(colours)


def test_an_index_has_one_colour_in_the_picture_and_in_the_equation():
    network = tl.resolve("lotr").network
    svg, html = to_svg(layout(network), style=False), to_html(network)
    for index in (*network.features, *network.bonds):
        number = hues(network)[index]
        assert f'<span class="h{number}">{index}</span>' in html
        assert re.search(rf'<text class="index h{number}"[^>]*>{index}</text>', svg)


def test_latex_writes_sums_groups_constants_and_long_names():
    network = tl.parse("W[layer (head head_dim) in] = V[head_dim r] H2[head r] eye[r s] A[in s]")
    assert to_latex(network) == (
        r"\Delta W_{\mathrm{layer},\,(\mathrm{head}\,\mathrm{head\_dim}),\,\mathrm{in}} = "
        r"\sum_{r,s} V_{\mathrm{head\_dim}\,r}\, H^{(2)}_{\mathrm{head}\,r}\, \delta_{r\,s}\, "
        r"A_{\mathrm{in}\,s}"
    )


def test_a_notebook_shows_picture_equation_and_cores():
    family = tl.resolve("vera")
    sizes = {"layer": 2, "proj": 3, "out": 8, "in": 8}
    for value in (family, family.bind(sizes, rank=2), family.network):
        html = value._repr_html_()
        assert "<svg" in html
        assert "tenslora-equation" in html
        assert "<details><summary>4 cores</summary>" in html
        assert value._repr_svg_().startswith("<svg")
    page = family.bind(sizes, rank=2)._repr_html_()
    assert "<td>8 x 2</td>" in page
    assert "<td>frozen</td>" in page


def test_a_drawing_prints_as_text_and_saves_by_its_ending(tmp_path):
    drawing = tl.resolve("lora").draw()
    assert isinstance(drawing, Drawing)
    assert str(drawing) == drawing.text() == repr(drawing)
    assert drawing.save(tmp_path / "x.SVG") is drawing
    assert (tmp_path / "x.SVG").read_text("utf-8") == drawing.svg()


def test_an_unknown_ending_and_an_unknown_picture_are_errors():
    with pytest.raises(tl.TensloraError) as caught:
        tl.resolve("lora").draw("x.png")
    assert str(caught.value) == (
        "E320: 'x.png' names no kind of picture\n  End it in .svg, .txt, .tex."
    )
    with pytest.raises(tl.TensloraError, match=r"E320: 'tree' is nothing that can be drawn"):
        tl.resolve("tenslora.att").bind(SIZES, rank=3).draw(what="tree")
