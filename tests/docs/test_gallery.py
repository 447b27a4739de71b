"""What the gallery says of a family, against counts, hand-made lists and the prover."""

from __future__ import annotations

import html
import re
import warnings

import facts
import order
import pytest

import tenslora as tl
from tenslora.testing import small_sizes

CATALOGUE = list(tl.registered())

#: By hand, from the papers' pictures.
KINDS = {
    "lora": "matrix",
    "vera": "matrix",
    "tied_lora": "matrix",
    "loha": "hadamard",
    "lokr": "kronecker",
    "lotr": "train",
    "fact_tt": "train",
    "fact_tk": "tucker",
    "lorta": "cp",
    "metatt4": "train",
    "tt_lora": "train",
    "tenslora.att": "tucker",
    "tenslora.att_qkv_depth": "tucker",
    "tenslora_cp.qkv": "cp",
    "W[layer out in] = V[c out a] D[a layer b] U[b in c]": "ring",
    "W[out in] = T[out in]": "other",
    "W[out in] = B[out r] A[r in] + D[out s] C[s in]": "sum",
}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_the_shape_of_a_network(name, kind):
    assert facts.shape_of(tl.resolve(name, any_start=True).network) == kind


def evaluate(formula, sizes):
    """Read the HTML of a formula as arithmetic."""
    text = html.unescape(re.sub(r"<[^>]*>", "", formula)).replace("·", "*")
    return eval(re.sub(r"[A-Za-z_]\w*", lambda m: str(sizes[m.group()]), text))


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_formula_counts_what_is_trained(name):
    family = tl.resolve(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bound = family.bind(small_sizes(family))
    assert evaluate(facts.formula(family), bound.sizes) == bound.trainable_parameters


def test_common_factors_are_written_once_and_equal_products_counted():
    text = re.sub(r"<[^>]*>", "", facts.formula(tl.families.lora))
    assert html.unescape(text) == "layer·proj·r·(out + in)"
    twice = tl.family("W[n m] = A[n r] B[m r] C[n r]", init={"A": "zeros"})
    assert html.unescape(re.sub(r"<[^>]*>", "", facts.formula(twice))) == "r·(2·n + m)"


def test_costs_are_those_of_both_shapes_of_grouped_query_attention():
    found = facts.costs(tl.families.lora, "llama-3-8b")
    assert [cost.rank for cost in found] == [4, 8, 16]
    # 32 layers; q: 4096 -> 4096, k and v: 4096 -> 1024
    assert found[1].parameters == 32 * 8 * ((4096 + 4096) + 2 * (4096 + 1024))


def test_the_order_is_that_of_the_prover_and_is_kept(tmp_path, monkeypatch):
    names = ["lora", "tied_lora", "lokr", "tt_lora"]
    families = {name: tl.resolve(name) for name in names}
    kept = tmp_path / "order.json"
    found = order.order_of(families, kept)
    lattice = tl.lattice(names)
    for pair in lattice.verdicts:
        assert found.kind(*pair) == lattice.kind(*pair), pair
    assert found.classes() == lattice.classes()
    assert found.covers() == lattice.covers()
    monkeypatch.setattr(order, "_decide", None)  # nothing is decided twice
    assert order.order_of(families, kept).verdicts == found.verdicts


def test_families_with_one_equation_are_one_class(tmp_path):
    scaled = tl.family(tl.families.lora.network, init={"B": "zeros"}, name="scaled")
    found = order.order_of({"lora": tl.families.lora, "scaled": scaled}, tmp_path / "order.json")
    assert found.classes() == [("lora", "scaled")]
