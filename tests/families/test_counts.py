"""Trained parameters, to the unit, against the figures that the papers and their codes publish."""

from __future__ import annotations

import warnings

import pytest

import tenslora as tl
from tenslora import families
from tenslora.errors import RedundantRankWarning

BASE = {"layer": 12, "proj": 3, "in": 768, "out": 768}  # RoBERTa-base and ViT-base: q, k, v
MINI = {"layer": 6, "proj": 3, "in": 384, "out": 384}
GALILEO = {"layer": 4, "proj": 3, "in": 128, "out": 128}

#: Every rank 4 and every rank 8, by TensLoRA's own predictor.
TUCKER = {
    "att": (123_840, 261_504),
    "qkv": (74_640, 153_888),
    "depth": (18_768, 38_688),
    "att_qkv": (43_728, 130_464),
    "att_depth": (11_040, 32_832),
    "qkv_depth": (6_460, 16_504),
    "att_qkv_depth": (4_460, 39_640),
}
#: Ranks at equal parameters, on MiniLM and on Galileo, chosen by hand.
BY_HAND = {
    "att": [(12, 8, 12), (12, 4, 8)],
    "qkv": [(22, 22, 3), (20, 20, 3)],
    "depth": [(37, 37, 6), (23, 23, 4)],
    "att_qkv": [(18, 32, 6, 3), (19, 8, 8, 3)],
    "att_depth": [(54, 16, 3, 6), (21, 8, 8, 4)],
    "qkv_depth": [(60, 60, 3, 6), (36, 36, 3, 4)],
    "att_qkv_depth": [(15, 32, 12, 3, 6), (27, 8, 8, 3, 4)],
}


def bind(family, sizes, heads=12, **settings):
    if "head" in tl.resolve(family).network.indices:
        sizes = {**sizes, "head": heads}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RedundantRankWarning)
        return tl.resolve(family).bind(sizes, **settings)


def count(family, sizes=BASE, **settings):
    return bind(family, sizes, **settings).trainable_parameters


@pytest.mark.parametrize(("name", "expected"), TUCKER.items())
def test_tenslora_at_equal_ranks(name, expected):
    assert (count(f"tenslora.{name}", rank=4), count(f"tenslora.{name}", rank=8)) == expected


def test_lora():
    assert count("lora", rank=4) == 221_184
    assert count("lora", rank=8) == 442_368
    assert count("lora", MINI, rank=8) == 110_592
    assert count("lora", GALILEO, rank=8) == 24_576


def test_tenslora_cp_att_qkv_depth():
    assert count("tenslora_cp.att_qkv_depth", rank=8) == 6_872


@pytest.mark.parametrize("name", TUCKER)
@pytest.mark.parametrize("rank", [4, 8])
def test_cp_is_tucker_without_its_core(name, rank):
    tucker, cp = (bind(f"{kind}.{name}", BASE, rank=rank) for kind in ("tenslora", "tenslora_cp"))
    assert cp.trainable_parameters == tucker.trainable_parameters - tucker.counts["G"]


def test_vera_on_roberta_base():
    # query and value, rank 1024: the paper's 0.043 M
    bound = bind("vera", {**BASE, "proj": 2}, rank=1024)
    assert bound.trainable_parameters == 43_008
    assert bound.frozen_parameters == 2 * 1024 * 768


def test_lotr_example():
    # its example: one pair over query and value of 12 layers, rank 2: 595,298 - 592,130 parameters
    assert count("lotr", {**BASE, "layer": 24, "proj": 1}, rank=2) == 595_298 - 592_130


@pytest.mark.parametrize("rank", [8, 16, 32])
def test_fact_on_vit_base(rank):
    # 12 x (q k v o, 4 of fc1, 4 of fc2) slices of 768 x 768
    sizes = {"site": 144, "in": 768, "out": 768}
    assert count("fact_tt", sizes, rank=rank) == 2 * 768 * rank + 144 * rank**2
    assert count("fact_tk", sizes, rank=rank) == 2 * 768 * rank + 144 * rank + rank**3


def test_lorta():
    # r (d + d / H + H + L + M)
    assert count("lorta", {**BASE, "proj": 4}, rank=4) == 4 * (768 + 64 + 12 + 12 + 4)


def test_metatt4():
    # 2 D r + (L + M) r^2
    assert count("metatt4", {**BASE, "proj": 2}, rank=8) == 2 * 768 * 8 + 14 * 64


def test_lokr_and_loha():
    sizes = {"layer": 1, "proj": 1, "o1": 24, "o2": 32, "i1": 24, "i2": 32}
    assert count("lokr", sizes, rank=4) == 24 * 24 + 4 * (32 + 32)
    assert count("loha", rank=4) == 2 * count("lora", rank=4)


def test_tied_lora():
    assert count("tied_lora", rank=4) == 2 * 768 * 4 + 36 * (768 + 4)


def test_tt_lora():
    sizes = {"layer": 1, "proj": 1, "o1": 12, "o2": 8, "o3": 8, "i1": 12, "i2": 8, "i3": 8}
    ends, middle = 12 * 5 + 8 * 5, (8 + 8 + 12 + 8) * 5**2
    assert count("tt_lora", sizes, rank=5) == ends + middle


#: q_proj and v_proj of Llama-3.2-3B: the weights of PEFT's method comparison (MetaMathQA).
LLAMA = [{"layer": 28, "proj": 1, "in": 3072, "out": out} for out in (3072, 1024)]


def llama(family, **ranks):
    return sum(count(family, sizes, **ranks) for sizes in LLAMA)


def test_the_figures_of_pefts_method_comparison_on_llama():
    assert llama("lora", rank=32) == 9_175_040
    assert llama("loha", rank=32) == 18_350_080
    assert llama("vera", rank=256) == 129_024


def test_lotr_on_roberta_base():
    # its authors' example: one pair over query and value of all layers, 3,168 more than without
    assert count("lotr", {"layer": 24, "proj": 1, "in": 768, "out": 768}, rank=2) == 3_168


def test_cp_of_a_matrix():
    # Wang et al. 2026: 2048 x 2048 as 32 x 64 x 32 x 64, 193 numbers a component
    sizes = {"layer": 1, "proj": 1, "o1": 32, "o2": 64, "i1": 32, "i2": 64}
    assert count("cp_matrix", sizes, rank=1) == 193
    assert count("cp_matrix", sizes, rank=8) == 8 * 193


def test_fourierft_on_roberta():
    # table 2 of Gao et al. 2024: query and value, n = 1000: 0.024 M and 0.048 M
    assert count("fourierft", {**BASE, "proj": 2}, rank=1000) == 24_000
    large = {"layer": 24, "proj": 2, "in": 1024, "out": 1024}
    assert count("fourierft", large, rank=1000) == 48_000


def test_lora_xs_on_roberta_large():
    # Balazy et al. 2024: query, value, attention's and the block's output, r = 25: 60 K
    square = {"layer": 24, "proj": 3, "in": 1024, "out": 1024}
    output = {"layer": 24, "proj": 1, "in": 4096, "out": 1024}
    assert count("lora_xs", square, rank=25) + count("lora_xs", output, rank=25) == 60_000


def test_gralora_has_as_many_as_lora():
    # Jung et al. 2025, section 3: the same parameters at the same rank r = k s
    sizes = {"layer": 2, "proj": 1, "t": 4, "o": 192, "n": 4, "c": 192}
    lora = {"layer": 2, "proj": 1, "in": 768, "out": 768}
    assert count("gralora", sizes, s=8) == count("lora", lora, rank=32)


def test_quanta():
    # Chen et al. 2024: one gate a pair of axes, of the sizes of both, squared
    axes = {"o1": 16, "o2": 8, "o3": 4, "i1": 16, "i2": 8, "i3": 4}
    gates = (16 * 8) ** 2 + (16 * 4) ** 2 + (8 * 4) ** 2
    sizes = {"layer": 1, "proj": 1, **axes}
    assert count("quanta", sizes, ranks={"p1": 16, "p2": 8, "p3": 4}) == gates


def test_c3a():
    # Chen et al. 2024: d1 d2 / b for blocks of size b; RoBERTa-base, b = 768 / 6: 6 x 768 a weight
    sizes = {"layer": 1, "proj": 1, "m": 6, "o": 128, "n": 6, "i": 128}
    assert count("c3a", sizes, k=128) == 6 * 768 == 768 * 768 // 128


def test_share_lora():
    # Song et al. 2024: A once for a projection, B for each layer
    assert count("share_a", rank=8) == 3 * 8 * 768 + 36 * 8 * 768
    assert count("share_b", rank=8) == count("share_a", rank=8)


def test_randlora_of_full_rank():
    # Albert et al. 2025: r n + n d numbers a weight, n = d / r
    sizes = {"layer": 1, "proj": 1, "in": 768, "out": 768}
    assert count("randlora", sizes, r=32, n=24) == 32 * 24 + 24 * 768


def test_craft_does_not_grow_with_the_model():
    # Dewage et al. 2026: three squares a projection, whatever the width and depth
    ranks = {"a": 100, "x": 100, "b": 100, "y": 100, "c": 12, "z": 12}
    small, large = ({"layer": n, "proj": 2, "in": d, "out": d} for n, d in ((12, 768), (24, 1024)))
    assert count("craft", small, ranks=ranks) == count("craft", large, ranks=ranks)
    assert count("craft", small, ranks=ranks) == 2 * (2 * 100**2 + 12**2)


@pytest.mark.parametrize("name", TUCKER)
@pytest.mark.parametrize(("sizes", "heads"), [(MINI, 12), (GALILEO, 8)], ids=["minilm", "galileo"])
def test_equal_parameters(name, sizes, heads):
    """Within 3 % of LoRA's parameters and never above; the ranks by hand go above in places."""
    budget = count("lora", sizes, rank=8)
    bound = bind(f"tenslora.{name}", sizes, heads, like=families.lora(r=8))
    assert 0.97 * budget <= bound.trainable_parameters <= budget
    by_hand = dict(zip(bound.ranks, BY_HAND[name][sizes is GALILEO], strict=True))
    figure = count(f"tenslora.{name}", sizes, heads=heads, ranks=by_hand)
    assert figure == pytest.approx(budget, rel=0.031)
    shared = [core.indices for n, core in bound.network.cores.items() if n in "PD"]
    for *_, bond in shared:  # projections and layers are carried whole, by hand as here
        assert bound.ranks[bond] == by_hand[bond]


@pytest.mark.parametrize("name", TUCKER)
def test_at_equal_parameters_no_rank_is_redundant(name):
    sizes = {**MINI, "head": 12} if "att" in name else MINI
    with warnings.catch_warnings():
        warnings.simplefilter("error", RedundantRankWarning)
        ranks = tl.resolve(f"tenslora.{name}").bind(sizes, like=families.lora(r=8)).ranks
    network = tl.resolve(f"tenslora.{name}").network
    for core, most in (("P", 3), ("D", 6), ("H", 12)):
        if core in network.cores:
            assert ranks[network.cores[core].indices[-1]] <= most
