"""Operators on families: the update is what numpy says, and settings go with their cores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import tenslora as tl
from tenslora.family import Family
from tenslora.testing import (
    dense,
    families,
    law_adapter,
    law_contraction,
    law_text,
    small_sizes,
)

LORA = tl.resolve("lora")
LOTR = tl.resolve("lotr")
SIZES = {"layer": 2, "proj": 3, "out": 4, "in": 5}


def update(family, cores, ranks, sizes=SIZES):
    bound = family.bind(sizes, **{b: ranks.get(b, 2) for b in family.bonds})
    return bound.scale * dense(bound.network, cores, bound.sizes)


def values(family, sizes=SIZES, seed=0):
    bound = family.bind(sizes, rank=2)
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape) for name, shape in bound.shapes.items()}


def test_sum_of_two_families():
    made = tl.add(LORA, LOTR, share=["r"])
    f, g = values(LORA, seed=1), values(LOTR, seed=2)
    names = {"B": "B2", "A": "A2", "G": "G"}
    cores = {**f, **{names[name]: array for name, array in g.items()}}
    wanted = dense(LORA.network, f, {**SIZES, "r": 2})
    wanted = wanted + dense(LOTR.network, g, {**SIZES, "r": 2, "s": 2})
    np.testing.assert_allclose(update(made, cores, {}), wanted)
    assert {c for c, rule in made.init.items() if str(rule) == "zeros"} == {"B"} | {
        names[c] for c, rule in LOTR.init.items() if str(rule) == "zeros"
    }


def test_a_joined_bond_of_the_scale_is_refused():
    two = tl.family("W[out in] = B[out (r s)] A[(r s) in]", init={"B": "zeros"}, scale="alpha/r")
    with pytest.raises(tl.TensloraError, match=r"E310: the scale alpha/r of .* refers to 'r', w"):
        tl.join(two, "r", "s", into="r")


def test_multiples():
    half = 0.5 * LORA
    cores = values(LORA)
    np.testing.assert_allclose(update(half, cores, {}), 0.5 * update(LORA, cores, {}))
    assert str((LORA * 4).scale) == "4.0*alpha/r"
    bound = (LORA * 4).bind(SIZES, r=2, alpha=8)
    assert bound.scale == 16.0
    assert str((3 * tl.resolve("tenslora.qkv")).scale) == "constant(3.0)"
    assert Family.from_json(half.to_json()) == half
    for wrong in (0, -0.0, 1e-320 * 1e-10, float("inf")):
        with pytest.raises(tl.TensloraError, match="E305: a family times"):
            wrong * LORA
    with pytest.raises(
        tl.TensloraError, match=r"E305: .* has no update\n  Multiply by a number oth"
    ):
        0 * LORA
    with pytest.raises(tl.TensloraError, match=r"E305: the scale 'constant\(0\)' is 0"):
        tl.family("W[out in] = B[out in]", init={"B": "zeros"}, scale="constant(0)")
    for wrong in ("2", True, None):
        with pytest.raises(TypeError):
            LORA * wrong
    with pytest.raises(tl.TensloraError, match="E305"):
        LORA * float("nan")


def test_transposed():
    cores = values(LORA, {**SIZES, "out": 5, "in": 4})
    turned = LORA.T
    wanted = np.swapaxes(update(LORA, cores, {}, {**SIZES, "out": 5, "in": 4}), -1, -2)
    np.testing.assert_allclose(update(turned, cores, {}), wanted)
    assert turned.T.network == LORA.network


def test_product_of_matrices():
    made = LORA @ LOTR
    assert "mid" in made.bonds
    assert str(made.scale) == "alpha/r"
    wide = {**SIZES, "in": 2}
    f, g = values(LORA, wide, 1), values(LOTR, {**SIZES, "out": 2}, 2)
    cores = {**f, "B2": g["B"], "G": g["G"], "A2": g["A"]}
    wanted = dense(LORA.network, f, {**wide, "r": 2}) @ dense(
        LOTR.network, g, {**SIZES, "out": 2, "r": 2, "s": 2}
    )
    np.testing.assert_allclose(update(made, cores, {}), wanted)


def test_loha_and_lokr_are_products_of_families():
    loha = tl.rename(tl.hadamard("lora", "lora"), B="B1", A="A1", r2="s")
    assert loha.network.canonical() == tl.resolve("loha").network.canonical()
    assert str(loha.scale) == "alpha/r"
    assert [str(loha.init[c]) for c in ("B1", "B2")] == ["zeros", "kaiming"]
    lokr = tl.kron(
        "W[layer proj out in] = C[layer proj out in]", "lora", out=("o1", "o2"), in_=("i1", "i2")
    )
    assert lokr.network.canonical() == tl.resolve("lokr").network.canonical()
    assert str(lokr.init["C"]) == "zeros"
    assert str(lokr.scale) == "alpha/r"


def test_tie_and_untie():
    shared = tl.tie("lora", "layer", ["A"])
    assert shared.network.cores["A"].indices == ("proj", "r", "in")
    assert tl.untie(shared, "layer", "A").network == LORA.network
    assert shared.scale == LORA.scale


def test_split_join_squeeze_restrict():
    heads = tl.split("lora", "out", "head", "head_dim")
    assert heads.network.output == ("head", "head_dim")
    assert tl.join(heads, "head", "head_dim", into="out").network == LORA.network
    assert tl.squeeze("lokr", "o1", "i1").network.target.slots[-1] == ("i2",)
    q = tl.restrict("lora", proj="q")
    assert q.network.sites == ("layer",)
    assert q.summary == "lora at proj=q"
    with pytest.raises(tl.TensloraError, match=r"E310: the scale alpha/r .* which is split"):
        tl.split("lora", "r", "r1", "r2")
    assert tl.split("lora", "r", "r1", "r2", scale="constant").bonds == ("r1", "r2")
    with pytest.raises(tl.TensloraError, match="E310"):
        tl.squeeze("lora", "r")


def test_rename_moves_everything():
    one = tl.family(
        "W[out in] = B[out r] A[r in]",
        init={"B": "zeros"},
        scale="alpha/r",
        lr={"B": 16.0},
        ranks={"r": 4},
    )
    two = tl.rename(one, {"in": "inp"}, B="U", r="s")
    assert two.equation == "W[out inp] = U[out s] A[s inp]"
    assert (str(two.scale), dict(two.lr), dict(two.ranks)) == ("alpha/s", {"U": 16.0}, {"s": 4})
    assert str(two.init["U"]) == "zeros"


def test_freeze():
    frozen = tl.freeze("lora", "A")
    assert frozen.frozen == {"A"}
    assert frozen.bind(SIZES, r=2).trainable_parameters == 2 * 3 * 4 * 2
    assert tl.freeze("lora", ["A"]) == frozen
    with pytest.raises(tl.TensloraError, match="E301"):
        tl.freeze("lora", "X")
    with pytest.raises(tl.TensloraError, match=r"E30[34]"):
        tl.freeze("lora", "A", "B")


def test_other_targets():
    with pytest.raises(tl.TensloraError, match="E121"):
        LORA + tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
    with pytest.raises(TypeError):
        LORA + 3


@given(families(max_cores=3))
def test_results_are_ordinary_families(family):
    for made in (tl.add(family, family, share=family.bonds), tl.transpose(family), 2 * family):
        assert tl.parse(made.equation) == made.network
        assert Family.from_json(made.to_json()) == made


MADE = {
    "sum": lambda: tl.add(LORA, LOTR, scale="constant"),
    "sum of multiples": lambda: tl.add(LORA, 0.5 * LORA, share=["r"]),
    "multiple": lambda: 0.5 * LOTR,
    "hadamard": lambda: tl.hadamard(LORA, LORA),
    "kron": lambda: tl.kron("W[layer proj out in] = C[layer proj out in]", LORA),
    "compose": lambda: LORA @ LORA,
    "transposed": lambda: tl.resolve("share_a").T,
    "tied": lambda: tl.tie(LORA, "layer", ["A"]),
    "untied": lambda: tl.untie(LOTR, "layer", "B"),
    "split": lambda: tl.split(LORA, "out", "head", "head_dim"),
    "frozen": lambda: tl.freeze(LORA, "A"),
    "renamed": lambda: tl.rename(LORA, B="X", r="s"),
    "restricted": lambda: tl.restrict(LOTR, proj="q"),
    "tucker": lambda: tl.tucker("W[layer proj (o1 o2) in]", ["(o1 o2)", "in", "(layer proj)"]),
    "cp": lambda: tl.cp("W[layer proj out in]", weights=True),
    "train": lambda: tl.tensor_train("W[layer proj out in]", ["out", "layer", "in"]),
    "ring": lambda: tl.tensor_ring("W[layer proj out in]", ["out", "(layer proj)", "in"]),
    "blocks": lambda: tl.block_term("W[layer proj out in]", ["in", "out", "layer"]),
    "tree": lambda: tl.hierarchical_tucker("W[layer proj (head head_dim) in]"),
}


@pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
@pytest.mark.parametrize("name", MADE)
def test_a_result_is_read_planned_attached_merged_and_saved(name):
    pytest.importorskip("torch", reason="adapters are modules of torch")
    family = MADE[name]()
    bound = family.bind(small_sizes(family))
    law_text(bound)
    law_contraction(bound)
    law_adapter(bound)


BUILT = {
    "tenslora.att": (tl.tucker, "W[layer proj (head head_dim) in]", ["in", "head_dim", "head"]),
    "tenslora.qkv": (tl.tucker, "W[layer proj out in]", ["in", "out", "proj"]),
    "tenslora.depth": (tl.tucker, "W[layer proj out in]", ["in", "out", "layer"]),
    "tenslora.att_qkv": (
        tl.tucker,
        "W[layer proj (head head_dim) in]",
        ["in", "head_dim", "head", "proj"],
    ),
    "tenslora.att_depth": (
        tl.tucker,
        "W[layer proj (head head_dim) in]",
        ["in", "head_dim", "head", "layer"],
    ),
    "tenslora.qkv_depth": (tl.tucker, "W[layer proj out in]", None),
    "tenslora.att_qkv_depth": (tl.tucker, "W[layer proj (head head_dim) in]", None),
    "tenslora_cp.att": (tl.cp, "W[layer proj (head head_dim) in]", "in head_dim head"),
    "tenslora_cp.qkv": (tl.cp, "W[layer proj out in]", ["in", "out", "proj"]),
    "tenslora_cp.depth": (tl.cp, "W[layer proj out in]", ["in", "out", "layer"]),
    "tenslora_cp.qkv_depth": (tl.cp, "W[layer proj out in]", None),
    "tenslora_cp.att_qkv_depth": (tl.cp, "W[layer proj (head head_dim) in]", None),
}


@pytest.mark.parametrize("name", BUILT)
def test_builders_give_the_catalogue(name):
    make, target, modes = BUILT[name]
    made, known = make(target, modes), tl.resolve(name)
    assert made.equation == known.equation
    assert made.init == known.init


def test_builders_give_other_shapes():
    fact = tl.tucker("W[site out in]", ["out", "in", "site"], names={"site": "P", "core": "C"})
    assert bool(tl.embeds(fact, "fact_tk", free=True))
    assert bool(tl.embeds("fact_tk", fact, free=True))
    train = tl.tensor_train("W[layer proj out in]", ["out", "proj", "layer", "in"])
    renamed = tl.rename(train, V="B", U="A", a="c", c="a")
    assert renamed.network.canonical() == tl.resolve("metatt4").network.canonical()
    six = tl.tensor_train(
        "W[layer proj (o1 o2 o3) (i1 i2 i3)]",
        ["o1", "o2", "o3", "i1", "i2", "i3"],
        names={m: f"G{n + 1}" for n, m in enumerate(["o1", "o2", "o3", "i1", "i2", "i3"])},
    )
    assert six.network.canonical() == tl.resolve("tt_lora").network.canonical()


@pytest.mark.parametrize(
    "make",
    [tl.tucker, tl.cp, tl.tensor_train, tl.tensor_ring, tl.block_term, tl.hierarchical_tucker],
)
@pytest.mark.parametrize(
    ("target", "modes"),
    [
        ("W[layer proj (head head_dim) in]", None),
        ("W[layer proj (head head_dim) in]", ["(layer proj)", "in", "head", "head_dim"]),
        ("W[layer proj out in]", ["out", "in"]),
        ("W[a out in]", ["out", "in", "a"]),
    ],
)
def test_built_families_bind_and_start(make, target, modes):
    made = make(target, modes)
    sizes = dict.fromkeys(made.network.target.indices, 4)
    bound = made.bind(sizes, rank=2)
    arrays = bound.arrays()
    assert not dense(made.network, arrays, bound.sizes).any()
    assert bool(tl.embeds(made, made))
    assert Family.from_json(made.to_json()) == made


def test_modes_in_one_text():
    target = "W[layer (head head_dim) in]"
    one = tl.cp(target, "in (head head_dim)")
    assert one == tl.cp(target, ["in", "(head head_dim)"])
    assert tl.cp(target, "in head head_dim") == tl.cp(target, ["in", "head", "head_dim"])


ERRORS = {
    "unknown mode": (lambda: tl.tucker("W[out in]", ["out", "x"]), "E124: mode 'x' is no index"),
    "twice": (lambda: tl.cp("W[out in]", ["out", "in", "in"]), "E124: .* stands twice"),
    "names twice": (
        lambda: tl.tucker("W[out in]", names={"in": "A", "out": "A"}),
        "E120: names gives 'A', which is the name of 'in', to 'out' of",
    ),
    "names eye": (
        lambda: tl.tucker("W[out in]", names={"in": "eye"}),
        "E120: the core 'in' of .* would become the constant 'eye'\n  eye and ones are constants",
    ),
    "names target": (
        lambda: tl.tensor_train("W[out in]", names={"in": "W"}),
        "E120: names gives 'W', which is the target",
    ),
    "names number": (lambda: tl.cp("W[out in]", names={"in": 3}), "E120: 3 for the core 'in'"),
    "rename": (lambda: tl.rename("lora", A="eye"), "E120: A of .* would become the constant"),
    "rename number": (lambda: tl.rename("lora", A=3), "E120: 3 for A of .* is no name"),
    "rename list": (lambda: tl.rename("lora", ["A"]), "E120: rename.* is no mapping"),
    "freeze number": (lambda: tl.freeze("lora", 3), "E301: freeze names 3, no core"),
    "modes of numbers": (lambda: tl.cp("W[out in]", [1, 2]), "E124: modes=.* neither a text nor"),
    "modes of tuples": (lambda: tl.cp("W[out in]", [("out", "in")]), "E124: modes=.* neither"),
    "mode number": (lambda: tl.cp("W[out in]", 3), "E124: modes=3 is neither a text nor a list"),
    "missing": (lambda: tl.cp("W[out in]", ["out"]), "E124: feature 'in' .* is in no mode"),
    "equation": (lambda: tl.cp("W[out in] = A[out in]"), "E124: .* is not the target"),
    "names": (lambda: tl.cp("W[out in]", names={"x": "Y"}), "E124: names has 'x'"),
    "target": (lambda: tl.cp("W[out]"), "E106"),
    "ring": (lambda: tl.tensor_ring("W[out in]", ["(out in)"]), "E124: a ring of one core"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_of_builders(name):
    call, text = ERRORS[name]
    with pytest.raises(tl.TensloraError, match=text):
        call()


def test_what_tensorly_says():
    tensorly = pytest.importorskip("tensorly")
    with tensorly.backend_context("numpy"):
        ring = tl.tensor_ring("W[layer out in]", ["out", "layer", "in"])
        bound = ring.bind(layer=2, out=3, **{"in": 4}, a=2, b=3, c=2)
        generator = np.random.default_rng(0)
        cores = {n: generator.normal(size=s) for n, s in bound.shapes.items()}
        full = tensorly.tr_tensor.tr_to_tensor([cores["V"], cores["D"], cores["U"]])
        w = dense(ring.network, cores, bound.sizes)
        np.testing.assert_allclose(w, full.transpose(1, 0, 2))
