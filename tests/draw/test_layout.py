"""Pictures of random networks and of every shape: nothing overlaps, nothing is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tenslora as tl
from tenslora.draw import layout, to_svg, to_text, to_tikz
from tenslora.testing import networks

ZOO = {
    name.strip(): equation.strip()
    for name, _, equation in (
        line.partition(";")
        for line in Path(__file__).with_name("zoo.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    )
}
EQUATIONS = {**{name: f.equation for name, f in tl.registered().items()}, **ZOO}


@pytest.mark.parametrize("name", EQUATIONS)
def test_nothing_overlaps_and_every_leg_is_there(name, faults_of):
    network = tl.parse(EQUATIONS[name])
    assert faults_of(layout(network), network) == []


@settings(max_examples=150, deadline=None)
@given(network=networks(max_cores=7))
def test_random_networks_are_drawn_whole(faults_of, network):
    assert faults_of(layout(network), network) == []


@settings(max_examples=40, deadline=None)
@given(network=networks())
def test_the_same_equation_gives_the_same_bytes(network):
    again = tl.parse(str(network))
    for ink in (to_svg, to_text, to_tikz):
        assert ink(layout(network)) == ink(layout(again))


@pytest.mark.parametrize("change", ["move a box", "drop a wire", "move a word"])
def test_the_judge_of_pictures_sees_faults(change, faults_of):
    network = tl.parse("W[layer out in] = B[layer out r] A[layer r in]")
    scene = layout(network)
    one, two = scene.boxes
    wrong = {
        "move a box": replace(scene, boxes=(one, replace(two, x=one.x + 1))),
        "drop a wire": replace(scene, wires=scene.wires[1:]),
        "move a word": replace(
            scene, labels=(replace(scene.labels[0], x=one.x, y=one.y), *scene.labels[1:])
        ),
    }
    assert faults_of(wrong[change], network)


def box(scene, text):
    return next(b for b in scene.boxes if b.text == text)


def test_a_row_goes_from_the_input_to_the_output():
    scene = layout(tl.parse("W[out in] = U[in a] V[out b] G[b a]"))
    columns = [box(scene, name).x for name in "UGV"]
    assert columns == sorted(columns)
    assert len({box(scene, name).y for name in "UGV"}) == 1


def test_site_legs_hang_down_dotted_and_inner_features_go_up_and_down():
    scene = layout(tl.parse("W[layer (o p) (i j)] = A[o a] B[a p layer b] C[b i c] D[c j]"))
    ends = {wire.index: (wire.points[0][1], wire.points[-1][1]) for wire in scene.wires}
    dotted = {wire.index for wire in scene.wires if wire.dotted}
    assert dotted == {"layer"}
    assert ends["layer"][1] > ends["layer"][0]
    assert ends["p"][1] < ends["p"][0]
    assert ends["i"][1] > ends["i"][0]
    assert ends["o"][0] == ends["o"][1]
    assert ends["j"][0] == ends["j"][1]


def test_a_vector_rides_above_its_wire_on_a_dot():
    scene = layout(tl.parse("W[out in] = B[out r] d[r] A[r in]"))
    (dot,) = scene.dots
    assert dot.index == "r"
    assert dot.x == box(scene, "d").x
    assert box(scene, "d").bottom < dot.y == box(scene, "A").y
    assert box(scene, "A").right < dot.x < box(scene, "B").left


def test_a_tucker_core_stands_between_inputs_outputs_and_sites():
    scene = layout(tl.resolve("tenslora.att_qkv_depth").network)
    core = box(scene, "G")
    assert box(scene, "U").right < core.left
    assert all(box(scene, name).left > core.right for name in "VH")
    assert all(box(scene, name).top > core.bottom for name in "PD")


def test_a_ring_goes_round():
    scene = layout(tl.parse(ZOO["ring6"]))
    assert {box(scene, f"G{n}").y for n in (1, 2, 3)} != {box(scene, f"G{n}").y for n in (4, 5, 6)}
    assert len({b.y for b in scene.boxes}) == 2


def test_terms_are_stacked_with_a_plus():
    scene = layout(tl.parse(ZOO["sum"]))
    (plus,) = [label for label in scene.labels if label.text == "+"]
    assert box(scene, "A").bottom < plus.y < box(scene, "D").top


@st.composite
def trees(draw):
    """Draw an equation whose cores are a tree: inputs at the first, outputs at the last."""
    count = draw(st.integers(3, 8))
    legs: list[list[str]] = [[] for _ in range(count)]
    for core in range(1, count):
        parent = draw(st.integers(0, core - 1))
        for end in (parent, core):
            legs[end].append(f"b{core}")
    riders = [
        f"v{core}[{draw(st.sampled_from(['', 'layer ']))}b{core}]"
        for core in range(1, count)
        if draw(st.integers(0, 5)) == 0
    ]
    legs[0].append("in")
    legs[-1].append("out")
    for core in legs:
        core += draw(st.lists(st.sampled_from(["layer", "expert"]), unique=True))
    cores = [f"A{n}[{' '.join(core)}]" for n, core in enumerate(legs)]
    return tl.parse(f"W[layer expert out in] = {' '.join([*cores, *riders])}")


@settings(max_examples=150, deadline=None)
@given(network=trees())
def test_trees_are_drawn_whole(faults_of, network):
    assert faults_of(layout(network), network) == []
