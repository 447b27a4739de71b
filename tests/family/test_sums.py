"""The scale and the settings of a sum of two families are those of its terms."""

from __future__ import annotations

import numpy as np
import pytest

import tenslora as tl
from tenslora.algebra.compose import apart
from tenslora.testing import dense, numbers, small_sizes

LORA = tl.resolve("lora")


def test_a_sum_of_ratios_over_two_ranks_is_refused():
    """One alpha over r is not alpha over r2: at r=2, r2=4 and alpha=8 it would be 4 for both."""
    with pytest.raises(tl.TensloraError) as info:
        LORA + LORA
    assert str(info.value) == (
        "E310: a sum of lora, scaled by alpha/r, and lora, by alpha/r, over two ranks of their "
        "own\n  tl.add(..., share=['r']) makes them one rank. Or say scale='alpha/r', one factor "
        "for both terms."
    )
    other = tl.rename(LORA, r="s")
    with pytest.raises(tl.TensloraError, match=r"Rename 's' to 'r'; then tl.add"):
        LORA + other
    assert tl.add(LORA, tl.rename(other, s="r"), share="r").bonds == ("r",)
    assert str(tl.add(LORA, LORA, scale="alpha/r").scale) == "alpha/r"
    # a core that both share has one rank
    assert str(tl.add(LORA, LORA, share=["A"]).scale) == "alpha/r"
    with pytest.raises(tl.TensloraError, match="E310: the shared rank r is 2 in lora and 3 in"):
        tl.add(LORA(r=2), LORA(r=3), share=["r"])
    with pytest.raises(tl.TensloraError, match="E120: 'q' is not in both"):
        tl.add(LORA, LORA, share=["q"])


SUMS = {
    "constant": (tl.resolve("tenslora.qkv"), 2.0, []),
    "less": (tl.resolve("tenslora.depth"), 0.25, []),
    "taken away": (tl.resolve("fact_tt"), -1.0, ["r", "s"]),
    "one rank": (LORA, 3.0, ["r"]),
    "one array": (LORA, 3.0, ["A"]),
    "two terms": (tl.resolve("quanta"), 0.5, []),
    "no bond": (tl.resolve("W[layer proj out in] = Q[proj out in]"), 4.0, []),
}


@pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("alpha", [None, 3.0])
def test_sums_of_multiples_are_what_numpy_says(name, alpha):
    f, factor, share = SUMS[name]
    share = [s for s in share if s in f.bonds or s in f.network.cores]
    g = factor * f
    made = tl.add(f, g, share=share)
    sizes = small_sizes(f)
    if alpha is not None and f.scale.kind == "constant":
        alpha = None  # an alpha takes the constant's place
    bound = f.bind(sizes)
    first, second = numbers(f.network, bound.sizes, 1), numbers(f.network, bound.sizes, 2)
    names = apart(f.network, f.network, [s for s in share if s in f.network.cores])[1]
    for core in share:
        if core in first:
            second[core] = first[core]
    known = {**dict.fromkeys(made.bonds, 2), **bound.sizes}
    bonds = dict(zip(f.bonds, made.bonds[len(f.bonds) :], strict=False))
    known.update({new: bound.sizes[old] for old, new in bonds.items()})
    whole = made.bind(known, alpha=alpha)
    cores = {**{names[n]: a for n, a in second.items()}, **first}
    for core, rule in made.init.items():
        if core not in cores:
            assert core in made.frozen
            cores[core] = np.full(whole.shapes[core], rule.value)
    assert set(cores) == set(whole.shapes)
    wanted = f.scale.factor(bound.sizes, alpha) * dense(f.network, first, bound.sizes)
    wanted = wanted + g.scale.factor(bound.sizes, alpha) * dense(f.network, second, bound.sizes)
    found = whole.scale * dense(made.network, cores, whole.sizes)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    for core, rule in made.init.items():  # what is drawn is what was meant
        if rule.kind == "const" and core not in first:
            np.testing.assert_array_equal(whole.arrays()[core], rule.value)


def test_sums_with_equations():
    text = "W[layer proj out in] = Q[out in]"
    f = tl.resolve("tenslora.qkv")
    assert f + text == tl.add(f, text)
    assert text + f == tl.add(text, f)
    assert f @ "W[layer proj out in] = Q[out in]" == tl.compose(f, text)
    assert text @ f == tl.compose(text, f)
    assert sum([f, f, f]) == f + f + f
    with pytest.raises(TypeError):
        f + 1
    with pytest.raises(TypeError):
        1 + f
    with pytest.raises(TypeError):
        f @ 2


def test_scales_that_differ():
    with pytest.raises(tl.TensloraError, match=r"E310: a sum of lora, scaled by alpha/r"):
        tl.add("lora", "tenslora.qkv")
    assert str(tl.add("lora", "tenslora.qkv", scale="constant").scale) == "constant"
    root = tl.family(LORA.network, init={"B": "zeros"}, scale="alpha/sqrt(r)")
    with pytest.raises(tl.TensloraError, match="E310: a product of"):
        tl.hadamard(root, LORA)
    const = tl.family(LORA.network, init={"B": "zeros"}, scale="constant(0.5)")
    assert str(tl.hadamard(const, LORA).scale) == "0.5*alpha/r2"
    assert str(tl.hadamard(LORA, const).scale) == "0.5*alpha/r"


def test_dropouts_that_differ():
    one = tl.family(LORA.network, init={"B": "zeros"}, dropout={"input": 0.1})
    two = tl.family(LORA.network, init={"B": "zeros"}, dropout={"input": 0.2})
    three = tl.family(LORA.network, init={"B": "zeros"})
    assert (one + three).dropout == {"input": 0.1}
    with pytest.raises(tl.TensloraError, match="E310: sum of dropouts"):
        one + two


def test_shared_cores():
    made = tl.add(LORA, LORA, share=["A"])
    assert set(made.network.cores) == {"B", "A", "B2"}
    other = tl.family(LORA.network, init={"B": "zeros", "A": "ones"}, scale="alpha/r")
    with pytest.raises(tl.TensloraError, match="E310: the shared core A is kaiming"):
        tl.add(LORA, other, share=["A"])
