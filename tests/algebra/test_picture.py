"""The picture of an order: nothing overlaps, no line passes a box, special cases are below."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tenslora as tl
from tenslora.algebra import Lattice, lattice_svg
from tenslora.algebra.layers import make_layers


class Order(Lattice):
    """A lattice of given kinds, without proofs."""

    def kind(self, special, general):
        return "equal" if special == general else self.verdicts.get((special, general), "refuted")


def order(count, seed):
    rng = random.Random(seed)
    names = tuple(f"family{n}" + "x" * rng.randrange(12) for n in range(count))
    level = {name: rng.choice([0, 1, 1, 2, 3]) for name in names}
    return Order(
        names,
        {
            (a, b): "free"
            for a in names
            for b in names
            if level[a] > level[b] and rng.random() < 4 / count
        },
    )


def boxes_and_lines(text):
    root = ET.fromstring(text)
    boxes = {}
    for group in root.iterfind(".//{*}g"):
        rect = group.find("{*}rect")
        box = tuple(float(rect.get(key)) for key in ("x", "y", "width", "height"))
        for name in group.iterfind(".//{*}text"):
            boxes[name.text] = box
            assert box[0] < float(name.get("x"))
            assert float(name.get("x")) + 7.2 * len(name.text) <= box[0] + box[2]
            assert box[1] < float(name.get("y")) < box[1] + box[3]
    lines = [list(points(path.get("d"))) for path in root.iterfind(".//{*}path")]
    return root, boxes, lines


def points(path):
    """Points along a path of M, C and V."""
    x = y = 0.0
    for letter, rest in re.findall(r"([MCV])([^MCV]*)", path):
        n = [float(word) for word in rest.split()]
        if letter == "M":
            x, y = n
        elif letter == "V":
            yield from ((x, y + (n[0] - y) * k / 9) for k in range(10))
            y = n[0]
        else:
            for k in range(21):
                t = k / 20
                weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
                xs, ys = (x, *n[0::2]), (y, *n[1::2])
                yield (
                    sum(w * v for w, v in zip(weights, xs, strict=True)),
                    sum(w * v for w, v in zip(weights, ys, strict=True)),
                )
            x, y = n[-2:]


@pytest.mark.parametrize("count", [2, 7, 25, 60])
@pytest.mark.parametrize("seed", range(3))
def test_a_random_order(count, seed):
    drawn = order(count, seed)
    text = lattice_svg(drawn)
    assert text == lattice_svg(drawn)
    root, boxes, lines = boxes_and_lines(text)
    assert set(boxes) == set(drawn.names)
    assert len(lines) == len(drawn.covers())
    width, height = (float(root.get(key)) for key in ("width", "height"))
    for x, y, w, h in boxes.values():
        assert 0 < x < x + w < width
        assert 0 < y < y + h < height
    for (x1, y1, w1, h1), (x2, y2, w2, h2) in combinations(boxes.values(), 2):
        assert x1 + w1 < x2 or x2 + w2 < x1 or y1 + h1 < y2 or y2 + h2 < y1
    for line in lines:
        for x, y in line:
            assert 0 < x < width
            assert 0 < y < height
            for left, top, w, h in boxes.values():
                assert not (left < x < left + w and top + 0.1 < y < top + h - 0.1)
    for low, high in drawn.covers():
        assert boxes[high[0]][1] + boxes[high[0]][3] < boxes[low[0]][1]


def test_equal_families_share_a_box_and_what_stands_alone_is_below():
    found = tl.lattice(["lora", "loha", "tied_lora", "craft"])
    _, boxes, lines = boxes_and_lines(lattice_svg(found))
    assert boxes["lora"] == boxes["loha"]
    assert boxes["craft"][1] > boxes["lora"][1] + boxes["lora"][3]
    assert len(lines) == 1


def test_names_may_be_links_and_a_line_says_what_it_means():
    found = tl.lattice(["lora", "tied_lora"])
    text = lattice_svg(found, link=lambda name: f"families/{name}.html?a&b")
    root, boxes, lines = boxes_and_lines(text)
    assert [a.get("href") for a in root.iterfind(".//{*}a")] == [
        "families/lora.html?a&b",
        "families/tied_lora.html?a&b",
    ]
    assert [title.text for title in root.iterfind(".//{*}title")] == ["tied_lora in lora"]
    plain = lattice_svg(found)
    assert boxes_and_lines(plain)[1:] == (boxes, lines)
    assert "<a " not in plain


@given(st.integers(0, 12), st.randoms(use_true_random=False))
def test_layers(count, rng):
    edges = [(a, b) for a, b in combinations(range(count), 2) if rng.random() < 0.3]
    layers = make_layers(count, edges)
    layer = {x: n for n, row in enumerate(layers.rows) for x in row}
    assert sorted(x for x in layer if x < count) == list(range(count))
    for (upper, lower), stops in layers.lines.items():
        assert (stops[0], stops[-1]) == (upper, lower)
        assert [layer[x] for x in stops] == list(range(layer[upper], layer[lower] + 1))
    lengths = [float(1 + x % 4) for x in range(count)]
    middles = layers.middles(lengths, 1.0, 0.5)
    for row in layers.rows:
        size = {x: lengths[x] if x < count else 0.5 for x in row}
        for one, two in pairwise(row):
            gap = middles[two] - size[two] / 2 - middles[one] - size[one] / 2
            assert gap > 1.0 - 1e-9


def test_crossings_are_counted_and_fewer_after_untangling():
    assert make_layers(4, [(0, 3), (1, 2)]).crossings() == 0
    assert make_layers(6, [(a, b) for a in (0, 1, 2) for b in (3, 4, 5)]).crossings() == 9
