"""Binding: sizes, ranks and budgets, and what follows from them before any array exists."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tenslora as tl
from tenslora.errors import RedundantRankWarning, SizeError

LORA = tl.family(
    "W[layer proj out in] = B[layer proj out r] A[layer proj r in]",
    init={"B": "zeros"},
    name="test.lora",
)
HEADS = tl.family(
    "W[layer proj (head head_dim) in] = U[in a] V[head_dim b] H[head c] P[proj d] D[layer e] "
    "G[a b c d e]",
    init={"G": "zeros", **dict.fromkeys("UVHPD", "orthogonal")},
    name="test.tucker",
)
BERT = {"layer": 12, "proj": 3, "in": 768, "head": 12, "head_dim": 64}
MINI = {"layer": 6, "proj": 3, "in": 384, "head": 12, "head_dim": 32}


def refused(code, call, *parts):
    with pytest.raises(SizeError) as info:
        call()
    assert info.value.code == code
    for part in parts:
        assert part in str(info.value)


def test_the_papers_count():
    # TensLoRA's official predictor, Att_QKV_Depth at every rank 4 on RoBERTa-base
    with pytest.warns(RedundantRankWarning, match="rank d=4 is above 3"):
        bound = HEADS.bind(BERT, rank=4)
    assert bound.trainable_parameters == 4460
    assert bound.frozen_parameters == 0
    assert bound.nbytes == 4 * 4460


def test_shapes_and_arrays_agree():
    bound = HEADS.bind(MINI, ranks={"a": 5, "b": 4, "c": 3, "d": 2, "e": 2})
    arrays = bound.arrays(seed=3)
    assert {name: value.shape for name, value in arrays.items()} == bound.shapes
    assert sum(value.size for value in arrays.values()) == bound.trainable_parameters
    assert not np.any(arrays["G"])


def test_cut_rank_is_what_numpy_finds():
    bound = HEADS.bind(MINI, ranks={"a": 5, "b": 4, "c": 3, "d": 2, "e": 2})
    rng = np.random.default_rng(0)
    core = {name: rng.standard_normal(shape) for name, shape in bound.shapes.items()}
    w = np.einsum(
        "ia,jb,hc,d,e,abcde->hji", *(core[n] for n in "UVH"), core["P"][0], core["D"][0], core["G"]
    )
    assert bound.cut_rank == np.linalg.matrix_rank(w.reshape(384, 384)) == 5


def test_totals_and_named_sizes():
    sizes = {"layer": 6, "proj": 3, "in": 384, "out": 384, "head": 12}
    assert HEADS.bind(sizes, rank=2).sizes["head_dim"] == 32


@pytest.mark.parametrize(
    ("settings", "code", "parts"),
    [
        ({"ranks": 4, "rank": 4}, "E208", []),
        ({"ranks": {"q": 4}}, "E201", ["The bonds are r."]),
        ({"ranks": {"r": 0}}, "E206", ["r=0"]),
        ({"ranks": "4"}, "E206", []),
        ({"rank": -1}, "E206", ["at least 1"]),
        ({"rank": 2.5}, "E206", []),
        ({"r": 4, "ranks": {"r": 5}}, "E204", ["given as 5 and as 4"]),
        ({}, "E202", ["rank of r", "rank=... sets every bond"]),
        ({"rank": 4, "haed": 2}, "E201", ["'haed'"]),
        ({"rank": 4, "layer": 0}, "E203", ["layer=0"]),
        ({"rank": 4, "like": LORA(r=2)}, "E208", ["Give the ranks or the budget."]),
        ({"params": 100_000, "like": LORA(r=2)}, "E208", []),
        ({"params": 10}, "E207", []),
        ({"params": 2.5}, "E207", []),
        ({"like": "lora"}, "E208", ["like='lora' is not a family", "lora(r=8)"]),
        ({"rank": 10**12}, "E209", ["The limit is"]),
    ],
)
def test_wrong_calls(settings, code, parts):
    sizes = {"layer": 6, "proj": 3, "in": 384, "out": 384}
    named = dict(settings)
    sizes.update({k: named.pop(k) for k in ("layer", "haed") if k in named})
    refused(code, lambda: LORA.bind(sizes, **named), *parts)


def test_missing_sizes_are_named():
    refused("E202", lambda: HEADS.bind({"layer": 6}, rank=2), "proj", "head_dim", "in")


def test_a_split_that_does_not_fit():
    sizes = {"layer": 6, "proj": 3, "in": 384, "out": 384, "head": 7}
    refused("E205", lambda: HEADS.bind(sizes, rank=2), "out=384 cannot be split by head=7")


def test_isoparameters_come_close_from_below():
    bound = HEADS.bind(MINI, like=LORA(r=8))
    assert 0.97 * 110_592 <= bound.trainable_parameters <= 110_592
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a budget never chooses a redundant rank
        HEADS.bind(MINI, like=LORA(r=8))


def test_like_counts_the_same_number_of_sites():
    sliced = tl.family("W[site out in] = V[out b] S[site b a] U[in a]", init={"S": "zeros"})
    bound = sliced.bind({"site": 18, "out": 384, "in": 384}, like=LORA(r=8))
    assert bound.trainable_parameters <= 110_592


def test_redundant_rank_warns_and_the_report_prints():
    with pytest.warns(RedundantRankWarning, match="W201: rank r=50 is above 10"):
        bound = tl.resolve("W[out in] = B[out r] A[r in]").bind({"out": 10, "in": 20}, r=50)
    report = repr(bound)
    widths = {len(line) for line in report.splitlines()}
    assert len(widths) == 1
    for part in ("W[out in] = B[out r] A[r in]", "1,500 trained", "r=50", "rank 10 of 10"):
        assert part in report


def test_to_dict_holds_the_figures():
    figures = LORA.bind({"layer": 2, "proj": 3, "in": 64, "out": 64}, r=2).to_dict()
    assert figures["trainable_parameters"] == 2 * 3 * 2 * 2 * 64
    # x @ A and h @ B for one token: 2 FLOPs a multiply-add, 6 sites
    assert figures["flops_per_token"] == 6 * 2 * (64 * 2 + 2 * 64)
    assert figures["cut_rank"] == 2
    assert figures["bytes"] == 4 * figures["trainable_parameters"]


def test_integers_of_numpy_are_integers():
    sizes = {name: np.int64(size) for name, size in MINI.items()}
    bound = HEADS.bind(sizes, ranks=np.int64(2))
    assert bound.sizes == HEADS.bind(MINI, ranks=2).sizes
    assert {type(size) for size in bound.sizes.values()} == {int}
    assert HEADS.bind(sizes, params=np.int64(5000)).trainable_parameters <= 5000


def test_sizes_have_names():
    refused("E203", lambda: LORA.bind([1, 2], r=2), "not a mapping")


def test_a_rank_on_a_frozen_core_is_not_redundant():
    """A vector over 4 frozen matrices says more than one over 1, for one weight as for many."""
    sizes = {"layer": 1, "proj": 1, "in": 6, "out": 6}
    tl.families.tinylora.bind(sizes, s=2, r=2, u=4)
    tl.families.vera.bind(sizes, r=8)
    with pytest.warns(RedundantRankWarning, match="r=8 is above 6"):
        tl.families.lora.bind(sizes, r=8)
