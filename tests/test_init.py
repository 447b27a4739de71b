"""Starts: numbers agree with the published formulas, and depend on seed and name alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tenslora.errors import FamilyError
from tenslora.init import InitRule, draw, parse_rule, resolve_copies
from tenslora.spec import parse

LORA = parse("W[layer proj out in] = B[layer proj out r] A[layer proj r in]")
SIZES = {"layer": 3, "proj": 2, "out": 40, "in": 60, "r": 5}


def values(rule: str, core: str, network=LORA, sizes=SIZES, seed=0, key=""):
    return draw(parse_rule(rule), network.cores[core], network, sizes, seed, key)


@pytest.mark.parametrize(
    ("rule", "expected"), [("zeros", 0.0), ("ones", 1.0), ("const(0.1)", 0.1), ("normal(0)", 0.0)]
)
def test_constants(rule, expected):
    assert np.array_equal(values(rule, "B"), np.full((3, 2, 40, 5), expected))


def test_kaiming_default_is_the_start_of_lora_a():
    # torch.nn.init.kaiming_uniform_(A, a=sqrt(5)) on A of shape (r, in): bound 1 / sqrt(in)
    a = values("kaiming", "A")
    bound = 1 / math.sqrt(60)
    assert a.shape == (3, 2, 5, 60)
    assert np.abs(a).max() <= bound
    assert a.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_kaiming_of_a_core_away_from_the_input_counts_its_bonds():
    b = values("kaiming(0)", "B")
    assert b.std() == pytest.approx(math.sqrt(6 / 5) / math.sqrt(3), rel=0.05)


def test_xavier_bound():
    b = values("xavier", "B")
    assert np.abs(b).max() <= math.sqrt(6 / 45)
    assert b.std() == pytest.approx(math.sqrt(6 / 45 / 3), rel=0.05)


def test_normal_and_uniform():
    assert values("normal(0.5)", "A").std() == pytest.approx(0.5, rel=0.05)
    u = values("uniform(0.5)", "A")
    assert np.abs(u).max() <= 0.5
    assert u.std() == pytest.approx(0.5 / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize(("core", "wide"), [("B", False), ("A", False)])
def test_orthogonal_for_each_independent_site(core, wide):
    stack = values("orthogonal", core).reshape(6, *values("orthogonal", core).shape[2:])
    for matrix in stack:
        tall = matrix if matrix.shape[0] > matrix.shape[1] else matrix.T
        assert np.allclose(tall.T @ tall, np.eye(5), atol=1e-12)
    assert not np.allclose(stack[0], stack[1])


def test_a_site_that_is_a_mode_is_a_row_not_a_batch():
    n = parse("W[layer out in] = U[in a] V[out b] D[layer c] G[a b c]")
    d = draw(parse_rule("orthogonal"), n.cores["D"], n, {"layer": 6, "c": 4})
    assert np.allclose(d.T @ d, np.eye(4), atol=1e-12)


def test_eye():
    n = parse("W[layer out in] = B[layer out b] M[b a] A[layer a in]")
    m = draw(parse_rule("eye"), n.cores["M"], n, {"b": 3, "a": 4})
    assert np.array_equal(m, np.eye(3, 4))


def test_the_same_numbers_for_the_same_seed_name_and_key_only():
    base = values("normal(1)", "A")
    assert np.array_equal(base, values("normal(1)", "A"))
    assert not np.allclose(base, values("normal(1)", "A", seed=1))
    assert not np.allclose(base, values("normal(1)", "A", key="8x8"))
    pair = parse("W[out in] = A[out in] + C[out in]")
    sizes = {"out": 3, "in": 4}
    assert not np.allclose(
        values("normal(1)", "A", pair, sizes), values("normal(1)", "C", pair, sizes)
    )


def test_the_global_generator_is_not_touched():
    before = np.random.get_state()[1].copy()
    values("normal(1)", "A")
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize(
    "rule",
    [
        "zeros",
        "normal(0.02)",
        "kaiming",
        "kaiming(1.0)",
        "uniform(0.5)",
        "const(-2.0)",
        "mean",
        "circulant",
        "cos",
        "sin(-1.0)",
        "copy(B)",
        "-copy(B)",
    ],
)
def test_rules_print_and_parse(rule):
    assert str(parse_rule(rule)) == rule
    assert parse_rule(parse_rule(rule)) == parse_rule(rule)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("zeroes", "Did you mean zeros?"),
        ("normal", "the rule normal needs an argument"),
        ("zeros(1)", "the rule zeros takes no argument"),
        ("normal(x)", "not a usable number"),
        ("normal(-1)", "Give a finite number of at least 0."),
        ("const(inf)", "not a usable number"),
        ("-zeros", "unknown initialisation rule"),
        ("copy", "the rule copy needs a core"),
        ("__import__('os')", "unknown initialisation rule"),
    ],
)
def test_wrong_rules(rule, message):
    with pytest.raises(FamilyError, match="E302") as info:
        parse_rule(rule)
    assert message in str(info.value)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "0"])
def test_wrong_seed(seed):
    with pytest.raises(FamilyError, match="E309"):
        draw(InitRule("zeros"), LORA.cores["A"], LORA, SIZES, seed)


def test_mean_is_one_over_the_rows():
    assert np.array_equal(values("mean", "A"), np.full((3, 2, 5, 60), 1 / 60))


def test_circulant_is_scipys():
    linalg = pytest.importorskip("scipy.linalg", reason="scipy is not installed")
    n = parse("W[o i] = c[k] E[o i k]")
    e = values("circulant", "E", n, {"o": 4, "i": 4, "k": 4})
    vector = np.arange(1.0, 5.0)
    assert np.array_equal(np.einsum("k,oik->oi", vector, e), linalg.circulant(vector).T)


def test_waves_are_the_columns_of_an_inverse_fourier_transform():
    n = parse("W[out in] = c[n] C[out n] Q[n in] + c[n] S[out n] T[n in]")
    sizes = {"out": 5, "in": 7, "n": 35}
    C, Q = values("cos", "C", n, sizes), values("cos", "Q", n, sizes)
    S, T = values("sin(-1)", "S", n, sizes), values("sin", "T", n, sizes)
    found = np.einsum("on,ni->noi", C, Q) + np.einsum("on,ni->noi", S, T)
    units = np.eye(35).reshape(35, 5, 7)
    wanted = np.fft.ifft2(units).real
    at = [int(np.argmin(np.abs(wanted - one).max((1, 2)))) for one in found]
    np.testing.assert_allclose(found, wanted[at], atol=1e-15)
    pairs = values("cos", "C", n, {**sizes, "n": 9}, seed=1)
    assert not np.allclose(pairs, C[:, :9])


def test_a_copy_has_the_numbers_of_its_core():
    n = parse("W[out in] = B[out r] A[r in] + N[out r] A[r in]")
    rules = {"B": parse_rule("normal(1)"), "A": parse_rule("eye"), "N": parse_rule("-copy(B)")}
    rules = resolve_copies(rules, n)
    sizes = {"out": 3, "in": 4, "r": 2}
    b, minus = (draw(rules[c], n.cores[c], n, sizes, 3, "key") for c in "BN")
    assert np.array_equal(minus, -b)
    assert not rules["N"].is_zero
    assert str(rules["N"].renamed({"B": "X"})) == "-copy(X)"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("copy(X)", "there is no core X"),
        ("copy(A)", "has other slots than"),
        ("copy(M)", "M is a copy itself"),
    ],
)
def test_wrong_copies(rule, message):
    n = parse("W[out in] = B[out r] A[r in] + N[out r] A[r in] + M[out r] A[r in]")
    rules = dict.fromkeys(n.cores, parse_rule("eye"))
    rules |= {"N": parse_rule(rule), "M": parse_rule("copy(B)")}
    with pytest.raises(FamilyError, match="E302") as info:
        resolve_copies(rules, n)
    assert message in str(info.value)


@pytest.mark.parametrize(
    ("rule", "core", "message"),
    [
        ("circulant", "B", "starts as circulant and has 4 slots"),
        ("cos", "B", "it needs the whole output or input, and a bond"),
    ],
)
def test_patterns_on_other_cores(rule, core, message):
    with pytest.raises(FamilyError, match="E302") as info:
        values(rule, core)
    assert message in str(info.value)


def test_more_waves_than_pairs_of_frequencies():
    n = parse("W[out in] = c[n] C[out n] Q[n in]")
    with pytest.raises(FamilyError, match="there are 12 pairs of frequencies"):
        values("cos", "C", n, {"out": 3, "in": 4, "n": 13})


def test_the_blocks_of_a_grid_are_drawn_apart():
    # PEFT's GraLoRA draws A of each block by kaiming_uniform_ with the block's own inputs
    n = parse("W[(t o) (n c)] = B[t n s o] A[n c t s]")
    a = values("kaiming", "A", n, {"t": 3, "o": 4, "n": 5, "c": 64, "s": 2})
    assert np.abs(a).max() == pytest.approx(1 / 8, rel=0.01)
