"""Sizes: checked, completed from totals, and turned into shapes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given

from tenslora.errors import SizeError
from tenslora.spec import complete_sizes, core_shape, is_count, parse, slot_size
from tenslora.testing import sized_networks

LORA = parse("W[out in] = B[out r] A[r in]")
HEADS = parse("W[layer (head head_dim) in] = B[layer (head head_dim) r] A[r in]")


def test_every_index_in_the_networks_order():
    sizes = complete_sizes(HEADS, {"r": 2, "in": 8, "head_dim": 3, "head": 4, "layer": 5})
    assert list(sizes.items()) == [
        ("layer", 5), ("head", 4), ("head_dim", 3), ("in", 8), ("r", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "given_sizes",
    [
        {"out": 12, "head": 4},
        {"out": 12, "head_dim": 3},
        {"head": 4, "head_dim": 3},
        {"out": 12, "head": 4, "head_dim": 3},
    ],
)
def test_a_total_gives_the_missing_member_of_a_group(given_sizes):
    sizes = complete_sizes(HEADS, {"layer": 2, "in": 8, "r": 2, **given_sizes})
    assert sizes == {"layer": 2, "head": 4, "head_dim": 3, "in": 8, "r": 2}


def test_both_totals():
    n = parse("W[(o1 o2) (i1 i2 i3)] = C[o1 i1] B[o2 r] A[r (i2 i3)]")
    sizes = complete_sizes(n, {"out": 6, "in": 30, "o1": 2, "i1": 5, "i3": 2, "r": 1})
    assert sizes == {"o1": 2, "o2": 3, "i1": 5, "i2": 3, "i3": 2, "r": 1}


def test_a_total_of_an_output_with_another_name():
    n = parse("W[rows columns] = B[rows r] A[r columns]")
    assert complete_sizes(n, {"out": 4, "in": 5, "r": 1}) == {"rows": 4, "columns": 5, "r": 1}


def test_a_word_that_is_an_index_is_never_a_total():
    n = parse("W[in (out x)] = B[in out] A[x]")  # whatever the writer meant: names are names
    assert complete_sizes(n, {"in": 4, "out": 5, "x": 2}) == {"in": 4, "out": 5, "x": 2}


def test_ranks_may_be_left_for_later():
    assert complete_sizes(LORA, {"out": 4, "in": 5}, ranks=False) == {"out": 4, "in": 5}
    assert complete_sizes(LORA, {"out": 4, "in": 5, "r": 2}, ranks=False)["r"] == 2


@pytest.mark.parametrize(
    ("network", "sizes", "text"),
    [
        (
            LORA,
            {"out": 4, "in": 5, "q": 2},
            "E201: 'q' is no index of W[out in] = B[out r] A[r in]\n  The indices are out, in, r.",
        ),
        (
            HEADS,
            {"layr": 4},
            "E201: 'layr' is no index of "
            "W[layer (head head_dim) in] = B[layer (head head_dim) r] A[r in]\n"
            "  Did you mean 'layer'? The indices are layer, head, head_dim, in, r.",
        ),
        (
            LORA,
            {"out": 4, "in": 5},
            "E202: missing: rank of r, in W[out in] = B[out r] A[r in]\n"
            "  Give r=...; rank=... sets every bond.",
        ),
        (
            LORA,
            {"in": 5, "r": 2},
            "E202: missing: size of out, in W[out in] = B[out r] A[r in]\n  Give out=....",
        ),
        (
            HEADS,
            {"layer": 2, "in": 8, "out": 12},
            "E202: missing: size of head, head_dim and rank of r, in "
            "W[layer (head head_dim) in] = B[layer (head head_dim) r] A[r in]\n"
            "  Give head=... head_dim=... r=...; rank=... sets every bond.",
        ),
        (
            LORA,
            {"out": 0, "in": 5, "r": 2},
            "E203: size out=0 is not a positive integer\n  Give a whole number of at least 1.",
        ),
        (
            LORA,
            {"out": 4.0, "in": 5, "r": 2},
            "E203: size out=4.0 is not a positive integer\n  Give a whole number of at least 1.",
        ),
        (
            LORA,
            {"out": 4, "in": "5", "r": 2},
            "E203: size in='5' is not a positive integer\n  Give a whole number of at least 1.",
        ),
        (
            LORA,
            {"out": True, "in": 5, "r": 2},
            "E203: size out=True is not a positive integer\n  Give a whole number of at least 1.",
        ),
        *[
            (
                LORA,
                {"out": 4, "in": 5, "r": rank},
                f"E206: rank r={rank!r} is not a positive integer\n  Give a rank of at least 1.",
            )
            for rank in (0, -3, 2.5, "4", None)
        ],
        (
            HEADS,
            {"layer": 2, "in": 8, "out": 12, "head": 4, "head_dim": 4, "r": 1},
            "E205: head=4 x head_dim=4 is 16, but out is 12\n"
            "  Leave out head_dim: it follows from out.",
        ),
        (
            HEADS,
            {"layer": 2, "in": 8, "out": 12, "head": 5, "r": 1},
            "E205: out=12 cannot be split by head=5: it leaves a remainder of 2\n"
            "  Choose sizes whose product divides 12.",
        ),
        (
            parse("W[out in] = eye[out in]"),
            {"out": 4, "in": 5},
            "E204: eye[out in] joins different sizes: out=4, in=5\n"
            "  Every slot of eye has the same size.",
        ),
        (
            parse("W[out (a b)] = B[out r] eye[r (a b)]"),
            {"out": 4, "a": 2, "b": 3, "r": 4},
            "E204: eye[r (a b)] joins different sizes: r=4, (a b)=6\n"
            "  Every slot of eye has the same size.",
        ),
        (
            parse("W[out in] = A[out r] A[in r]"),
            {"out": 4, "in": 5, "r": 2},
            "E204: core A has shape (4, 2) as A[out r] and (5, 2) as A[in r]\n"
            "  The same name is the same array: give equal sizes, or two names.",
        ),
    ],
)
def test_what_is_refused(network, sizes, text):
    with pytest.raises(SizeError) as info:
        complete_sizes(network, sizes)
    assert str(info.value) == text


def test_a_rank_is_refused_even_where_ranks_may_be_missing():
    with pytest.raises(SizeError, match="E206"):
        complete_sizes(LORA, {"out": 4, "in": 5, "r": 0}, ranks=False)


def test_the_same_array_in_groups_of_another_split():
    n = parse("W[out in] = A[(a b) out] A[(c d) in]  B[a b c d]")
    sizes = {"out": 5, "in": 5, "a": 2, "b": 6, "c": 3, "d": 4}
    assert core_shape(n.cores["A"], complete_sizes(n, sizes)) == (12, 5)


@given(sized_networks())
def test_shapes_are_those_of_the_slots(sized):
    network, sizes = sized
    assert complete_sizes(network, sizes) == sizes
    for core in network.cores.values():
        shape = core_shape(core, sizes)
        assert len(shape) == len(core.slots)
        assert math.prod(shape) == slot_size(core.indices, sizes)
    target = core_shape(network.target, sizes)
    assert target == tuple(slot_size(slot, sizes) for slot in network.target.slots)


@given(sized_networks())
def test_one_member_of_each_side_follows_from_its_total(sized):
    network, sizes = sized
    given_sizes = dict(sizes)
    for name, slot in (("out", network.output), ("in", network.input)):
        if name not in network.indices:
            given_sizes[name] = slot_size(slot, sizes)
            del given_sizes[slot[-1]]
    assert complete_sizes(network, given_sizes) == sizes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, True),
        (10**30, True),
        (0, False),
        (-1, False),
        (1.0, False),
        (True, False),
        (None, False),
    ],
)
def test_is_count(value, expected):
    assert is_count(value) is expected
