"""Frozen cores: what may be chosen, what a rule gives, and what bounds a family at all ranks."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tenslora as tl
from tenslora.algebra import Proof, Refutation, Undecided, refute_networks
from tenslora.algebra.dimension import dimension
from tenslora.family import limits_of
from tenslora.testing import assert_special_case, dense

NAMES = sorted(tl.registered())
BOUNDED = {"c3a", "fourierft", "lora_xs", "tinylora", "craft"}


def w_of(name, sizes, seed=0):
    """W at drawn trained cores and the family's own frozen ones."""
    bound = tl.resolve(name).bind(sizes)
    cores = bound.arrays(seed=seed)
    generator = np.random.default_rng(seed)
    for core in cores.keys() - bound.family.frozen:
        cores[core] = generator.normal(size=cores[core].shape)
    return dense(bound.family.network, cores, bound.sizes)


def span(name, sizes, count):
    """The dimension of the span of many W: of a linear family, its dimension."""
    return np.linalg.matrix_rank([w_of(name, sizes, n).ravel() for n in range(count)])


def test_which_frozen_cores_have_a_value():
    given = {name: set(limits_of(tl.resolve(name)).given) for name in NAMES}
    assert {name: cores for name, cores in given.items() if cores} == {
        "c3a": {"E"},
        "fourierft": {"C", "Q", "S", "T"},
        "craft": {"J0", "K0", "L0"},
    }
    families = {name: tl.resolve(name) for name in NAMES}
    bounded = {name for name, one in families.items() if limits_of(one).words(one.network)}
    assert bounded == BOUNDED


@pytest.mark.parametrize("general", sorted(BOUNDED - {"c3a"}))
def test_lora_is_in_no_family_that_frozen_cores_bound(general):
    refutation = tl.embeds("lora", general)
    assert isinstance(refutation, Refutation)
    most, found = map(int, re.findall(r"\d+", refutation.reason))
    assert most < found
    assert refutation.reason == (
        f"frozen cores bound the larger network to {most} dimensions at any ranks; "
        f"here W has {found}"
    )


def test_waves_are_even():
    """W[-j, -k] = W[j, k]: 10 of the 16 dimensions of a 4 by 4 matrix, with every wave there is."""
    sizes = {"layer": 1, "proj": 1, "out": 4, "in": 4, "n": 16}
    w = w_of("fourierft", sizes)[0, 0]
    back = -np.arange(4) % 4
    np.testing.assert_allclose(w[np.ix_(back, back)], w, atol=1e-12)
    assert span("fourierft", sizes, 20) == 10
    assert "to 10 dimensions at any ranks; here W has 16" in tl.embeds("lora", "fourierft").reason


def test_circulant_blocks_are_constant_along_diagonals():
    """Four blocks of 2 by 2 with three diagonals each: 12 of 16 dimensions."""
    sizes = {"layer": 1, "proj": 1, "m": 2, "o": 2, "n": 2, "i": 2}
    w = w_of("c3a", {**sizes, "k": 5})[0, 0].reshape(2, 2, 2, 2)
    np.testing.assert_allclose(w[:, 0, :, 0], w[:, 1, :, 1])
    assert [span("c3a", {**sizes, "k": k}, 20) for k in (1, 2, 3, 5)] == [4, 8, 12, 12]
    blocks = tl.parse("W[layer proj (m o) (n i)] = T[layer proj m o n i]")
    c3a = tl.families.c3a
    refutation = refute_networks(
        blocks, c3a.network, frozen_general=c3a.frozen, limits_general=limits_of(c3a)
    )
    assert "to 12 dimensions at any ranks; here W has 16" in str(refutation)
    assert_special_case("lora", "c3a")  # at blocks of 1 by 1


def test_singular_vectors_are_no_more_than_the_smaller_side():
    """Of a 4 by 2 weight there are two: LoRA-XS has 4 numbers, the weight 8."""
    weight = np.random.default_rng(0).normal(size=(4, 2))
    left, _, right = np.linalg.svd(weight, full_matrices=False)
    assert left.shape[1] ** 2 == right.shape[0] ** 2 == 4
    assert "to 4 dimensions at any ranks; here W has 8" in tl.embeds("lora", "lora_xs").reason
    # with factors that any rank can have it is everything
    free = "W[layer proj out in] = U[layer proj out s] R[layer proj s r] V[layer proj r in]"
    drawn = tl.family(free, frozen=("U", "V"), starts_nonzero=True)
    assert_special_case("lora", drawn)


def test_squares_on_a_frozen_tucker_are_few_numbers():
    """CRAFT trains 3 x 16 numbers for 4 layers of 4 by 4; W has 64, a basis less two scales."""
    reason = tl.embeds("lora", "craft").reason
    assert "to 46 dimensions at any ranks; here W has 64" in reason


@pytest.mark.parametrize("general", ["pissa", "dota", "quanta"])
@pytest.mark.parametrize("special", ["lora", "pissa", "tt_matrix", "tera", "fourierft"])
def test_a_frozen_term_that_takes_the_start_away_vanishes(special, general):
    if special == general:
        return
    proof = assert_special_case(special, general)
    frozen = tl.resolve(general).frozen
    assert set(proof.chosen) == frozen
    written = {d.core.name: str(d.terms[0]) for d in proof.witness.definitions}
    assert any(written[core].startswith("zeros") for core in frozen)
    assert f"frozen        {', '.join(proof.chosen)}: constants that are chosen so" in str(proof)


def test_at_their_own_ranks():
    for special, general in (("lora", "pissa"), ("tt_matrix", "dota")):
        assert tl.embeds(special, general, free=True).free


def test_starts_of_lora_xs_are_those_of_tinylora():
    assert_special_case("tinylora", "lora_xs")
    assert_special_case("lora_xs", "tinylora")


def test_the_value_of_a_rule_cannot_be_chosen():
    full = "W[layer proj (m o) (n i)] = T[layer proj m o n i]"
    with pytest.raises(tl.TensloraError) as caught:
        tl.check(
            full,
            "c3a",
            "c[layer proj m n (o k)] = T[layer proj m o n k]; E[o i (p k)] = eye[o p] eye[i k]",
        )
    assert str(caught.value) == (
        "E134: core E of W[layer proj (m o) (n i)] = c[layer proj m n k] E[o i k] is frozen and "
        "has the value of a rule, circulant\n  No witness can give it another."
    )


def test_a_rank_that_the_weights_do_not_have_is_refused():
    with pytest.raises(tl.TensloraError) as caught:
        tl.check(
            "lora",
            "lora_xs",
            "U[layer proj out s] = eye[out s] ones[layer proj];"
            "R[layer proj s r] = B[layer proj s r];"
            "V[layer proj r in] = A[layer proj r in]",
        )
    assert "frozen, A is trained" in str(caught.value)
    with pytest.raises(tl.TensloraError) as caught:
        tl.check(
            "lora",
            "lora_xs",
            "U[layer proj out s] = eye[out s] ones[layer proj];"
            "R[layer proj s r] = B[layer proj s x] A[layer proj x r];"
            "V[layer proj r in] = eye[r in] ones[layer proj]",
        )
    assert str(caught.value) == (
        "E134: rank s of W[layer proj out in] = U[layer proj out s] R[layer proj s r] "
        "V[layer proj r in] would be out; svd bounds it\n"
        "  Its frozen cores are taken from the weights, which have no such rank."
    )


def tucker(equation, start):
    frozen = re.findall(r"[A-Z]", start)
    return tl.family(equation, init=dict.fromkeys(frozen, "orthogonal"), frozen=frozen,
                     start=start, starts_nonzero=True)  # fmt: skip


BY_PROJECTION = "W[layer proj out in] = G[proj a b c] U[proj in a] V[proj out b] D[proj layer z] "
BY_PROJECTION += "K[proj z c]"


def test_a_bound_is_named_by_what_bounds_it_and_not_by_its_place():
    both = tucker(
        "W[layer proj out in] = G[a b c] U[in a] V[out b] S[layer proj z] K[z c]",
        "hosvd(G, U, V, S)",
    )
    each = tucker(BY_PROJECTION, "hosvd(G, U, V, D)")
    with pytest.raises(tl.TensloraError) as caught:
        tl.check(
            both,
            each,
            "U[proj in a]=U[in a] ones[proj]; V[proj out b]=V[out b] ones[proj];"
            "G[proj a b c]=G[a b c] ones[proj]; D[proj layer z]=S[layer proj z];"
            "K[proj z c]=K[z c] ones[proj]",
        )
    assert "hosvd in for each proj bounds it" in str(caught.value)
    words = limits_of(each).words(each.network)
    assert (words["z"], words["a"]) == ("hosvd layer for each proj", "hosvd in for each proj")
    turned = tucker(
        "W[layer proj out in] = G[proj b a c] U[proj in a] V[proj out b] D[proj layer z] "
        "K[proj z c]",
        "hosvd(G, V, U, D)",
    )
    assert isinstance(tl.embeds(turned, each), Proof)
    assert isinstance(tl.embeds(each, turned), Proof)


def test_bounds_are_those_of_the_aligned_network():
    """A bond that has the name of a part of the other's output gets another name; a bound stays."""
    square = "W[layer proj out in] = U[layer proj out head] R[layer proj head r] V[layer proj r in]"
    xs = tl.family(square, frozen=("U", "V"), start="svd(U, V)", starts_nonzero=True)
    heads = "W[layer proj (head head_dim) in] = C[layer proj head head_dim x] A[layer proj x in]"
    with pytest.raises(tl.TensloraError, match=r"E134: rank head_ of .* svd bounds it"):
        tl.check(
            heads,
            xs,
            "U[layer proj (head head_dim) (h d)] = eye[head h] eye[head_dim d] ones[layer proj];"
            "R[layer proj (h d) r] = C[layer proj h d x] A[layer proj x r];"
            "V[layer proj r in] = eye[r in] ones[layer proj]",
        )


def test_constants_that_a_rule_gives_can_be_written():
    plain = "W[out in] = B[out r] A[r in]"
    weighed = tl.family(
        "W[out in] = B[out r] d[r] A[r in]", init={"d": "ones", "B": "zeros"}, frozen="d"
    )
    assert isinstance(tl.embeds(plain, weighed), Undecided)
    proof = tl.check(plain, weighed, "B[out r] = B[out r]; d[r] = ones[r]; A[r in] = A[r in]")
    assert isinstance(proof, Proof)


def test_dimensions_are_of_what_is_trained():
    """Frozen numbers add none, of either side."""
    bare = "W[layer out in] = b[layer out] a[in]"
    fixed = tl.family(
        "W[layer out in] = b[layer out] c[layer] a[in] + d[layer] e[out in]",
        frozen=("c", "d", "e"),
        starts_nonzero=True,
    )
    assert isinstance(tl.embeds(bare, fixed), Proof)
    ring = "W[layer out in] = X[layer out] Y[out in] Z[layer in]"
    refutation = tl.embeds(ring, tl.family(ring, frozen="Z", starts_nonzero=True))
    assert isinstance(refutation, Refutation)
    assert refutation.reason == (
        "the larger network has 15 dimensions and no rank to raise; here W has 19"
    )


def test_a_trained_core_in_two_places_is_bounded_by_neither_frozen_one():
    """By hand: r = 4, K = [I 0], L = [0 I] and F = [X; Y] give any X and Y of 2 rows."""
    twice = tl.family(
        "W[layer out in] = K[layer r] F[r in] L[out s] F[s in]",
        frozen=("K", "L"),
        starts_nonzero=True,
    )
    verdict = tl.embeds("W[layer out in] = X[layer in] Y[out in]", twice)
    assert isinstance(verdict, Undecided), str(verdict)


@pytest.mark.parametrize(
    ("rows", "columns", "rank"), [(5, 4, 1), (6, 3, 2), (30, 20, 3), (3, 3, 9)]
)
def test_dimension_of_matrices_of_a_rank(rows, columns, rank):
    generator = np.random.default_rng(0)
    cores = {"B": generator.normal(size=(rows, rank)), "A": generator.normal(size=(rank, columns))}
    least = min(rank, rows, columns)
    found = dimension(lambda held: held["B"] @ held["A"], cores)
    assert found == least * (rows + columns - least)


def test_no_law_says_that_a_family_is_not_itself():
    for name in NAMES:
        one = tl.resolve(name)
        frozen, limits = one.frozen, limits_of(one)
        found = refute_networks(
            one.network,
            one.network,
            frozen_special=frozen,
            frozen_general=frozen,
            limits_special=limits,
            limits_general=limits,
        )
        assert found is None, str(found)


DRAWN_ONCE = tl.family(
    "W[out in] = F[out] a[in]", init={"F": "normal(1)", "a": "zeros"}, frozen="F"
)


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("frozen", [("B", "C"), ("C", "D")])
def test_frozen_copies_of_one_core_are_one_constant(sign, frozen):
    """B * B is no B of both signs; where B is trained, C and D are both what it was."""
    text = "B[out] C[out] a[in]" if frozen[0] == "B" else "C[out] D[out] a[in] + B[out] b[in]"
    init = {"B": "normal(1)", "C": f"{sign}copy(B)", "D": "copy(B)", "a": "zeros", "b": "zeros"}
    used = {core: rule for core, rule in init.items() if f"{core}[" in text}
    twice = tl.family(f"W[out in] = {text}", init=used, frozen=frozen)
    limits = limits_of(twice)
    first, second = frozen
    assert limits.copies == {second: (first, -1.0 if sign else 1.0)}
    assert isinstance(tl.embeds(DRAWN_ONCE, twice), Undecided)
    with pytest.raises(tl.TensloraError, match=rf"E134: core {second} .* value of a rule, "):
        tl.check(
            DRAWN_ONCE,
            twice,
            f"{first}[out] = F[out]; {second}[out] = ones[out]; a[in] = a[in]"
            + ("" if first == "B" else "; B[out] = zeros[out]; b[in] = ones[in]"),
        )
    assert_special_case(twice, twice)


def test_a_sum_over_copies_is_not_refuted():
    """W = B (a + d)."""
    init = {"B": "normal(1)", "C": "copy(B)", "a": "zeros", "d": "zeros"}
    both = "W[out in] = B[out] a[in] + C[out] d[in]"
    summed = tl.family(both, init=init, frozen=("B", "C"))
    assert isinstance(tl.embeds(summed, DRAWN_ONCE), Undecided)
    apart = tl.family(both, init={**init, "C": "normal(1)"}, frozen=("B", "C"))
    assert isinstance(tl.embeds(apart, DRAWN_ONCE), Refutation)
    assert isinstance(tl.embeds(apart, summed), Refutation)  # 2 * in dimensions, and in


def test_circulant_blocks_may_be_ranks():
    """Then they bound none: their sizes are not those of the target."""
    ranks = tl.family(
        "W[out in] = A[out a] E[a b k] c[k] B[b in]",
        init={"E": "circulant", "A": "zeros"},
        frozen="E",
    )
    assert limits_of(ranks).words(ranks.network) == {}
    assert isinstance(tl.embeds("W[out in] = B[out r] A[r in]", ranks), Undecided)


SMALL = {"one": ("c[in]", "const(1e-10)"), "three": ("c[in] u[in] v[in]", "const(1e-3)")}


@pytest.mark.parametrize("name", SMALL)
def test_dimensions_do_not_depend_on_the_scale_of_given_values(name):
    """d and e are free: W has out + in - 1 dimensions at any scale, as a full matrix has not."""
    cores, rule = SMALL[name]
    frozen = [*re.findall("[a-z](?=\\[)", cores), "k"]
    init = {**dict.fromkeys(frozen, rule), "k": "ones", "d": "zeros", "e": "zeros"}
    scaled = tl.family(f"W[out in] = d[out] {cores} + e[in] k[out]", init=init, frozen=frozen)
    plain = "W[out in] = d[out] ones[in] + e[in] ones[out]"
    assert isinstance(tl.embeds(plain, scaled), Undecided)
    refutation = tl.embeds("W[out in] = T[out in]", scaled)
    assert isinstance(refutation, Refutation)
    assert refutation.reason == (
        "the larger network has 5 dimensions and no rank to raise; here W has 9"
    )


def test_no_dimension_is_told_where_a_scale_is_no_core_s():
    """W = a b + 1e-10 a k d: what d adds is small, and not nothing."""
    init = {"k": "const(1e-10)", "b": "zeros", "d": "zeros"}
    both = "W[layer out in] = a[out] b[in] + a[out] k[in] d[layer] a[out]"
    small = tl.family(both, init=init, frozen="k", starts_nonzero=True)
    large = tl.family(both, init={**init, "k": "ones"}, frozen="k", starts_nonzero=True)
    assert isinstance(tl.embeds(large, small), Undecided)
    cores = {"a": np.array([1.0]), "b": np.array([1.0])}
    assert dimension(lambda held: np.array([held["a"], 1e-10 * held["b"]]), cores) is None
    assert dimension(lambda held: np.array([held["a"], 1e-3 * held["b"]]), cores) == 2


@pytest.mark.parametrize("rule", ["normal(0)", "uniform(0)", "const(0)", "copy(B)"])
def test_a_rule_that_draws_nothing_but_zeros_leaves_no_choice(rule):
    init = {"F": rule, "a": "normal(1)", "B": "normal(0)"}
    text = "W[out in] = F[out] a[in]" + (" + B[out] a[in]" if "copy" in rule else "")
    used = {core: one for core, one in init.items() if f"{core}[" in text}
    nothing = tl.family(text, init=used, frozen=set(used) - {"a"}, starts_nonzero=True)
    assert limits_of(nothing).given["F"] == "zeros"
    assert isinstance(tl.embeds(DRAWN_ONCE, nothing), Refutation)
    more = tl.family(
        "W[out in] = F[out r] A[r in] + b[out] a[in]",
        init={"F": "normal(0)", "b": "zeros"},
        frozen="F",
    )
    assert isinstance(tl.embeds(more, "W[out in] = b[out] a[in]"), Undecided)  # W = b a


def test_the_rank_of_a_circulant_pattern_may_be_one_of_another_term():
    """The second term holds everything at a rank above that of the pattern: c = 0."""
    both = tl.family(
        "W[layer o i] = c[k] E[o i k] + B[o k] A[i k] L[layer k]",
        init={"E": "circulant", "c": "zeros", "L": "zeros"},
        frozen="E",
    )
    assert limits_of(both).words(both.network) == {}
    assert isinstance(tl.embeds("W[layer o i] = T[layer o i]", both), Undecided)
    apart = tl.family(
        "W[layer o i] = c[k] E[o i k] + d[layer k] E[o i k]",
        init={"E": "circulant", "c": "zeros", "d": "zeros"},
        frozen="E",
    )
    assert limits_of(apart).words(apart.network) == {"k": "circulant o i"}


HALF = {
    "svd(U, V)": ("W[layer out in] = U[layer out s] V[layer s in]", "U", "s", "out", "svd"),
    "tt_svd(G, H)": (
        "W[layer (o1 o2) (i1 i2)] = G[layer o1 i1 a] H[layer a o2 i2]",
        "G", "a", "o1*i1", "train o1 i1"),
    "hosvd(G, U, V)": (
        "W[layer out in] = G[layer a b] U[layer out a] V[layer in b]",
        "U", "a", "out", "hosvd out for each layer"),
}  # fmt: skip


@pytest.mark.parametrize("start", HALF)
def test_what_one_frozen_core_has_from_the_weights_bounds_its_rank(start):
    """By hand, 4 by 2: of the two singular vectors no W comes that has more than two rows."""
    text, frozen, bond, rank, word = HALF[start]
    half = tl.family(text, frozen=frozen, start=start, starts_nonzero=True)
    limits = limits_of(half)
    assert limits.words(half.network) == {bond: word}
    sizes = {**dict.fromkeys(half.network.indices, 2), "out": 4, "o1": 4}
    assert limits.most(half.network, sizes)[bond] == {"svd": 2, "train o1 i1": 4}.get(word, 4)
    full = f"{half.network.target} = T[{' '.join(half.network.target.indices)}]"
    verdict = tl.embeds(full, half)
    if word == "svd":
        assert "to 4 dimensions at any ranks; here W has 8" in verdict.reason
    elif word.startswith("train"):  # of one part each there is no cut
        assert verdict.parts["o1"] == verdict.parts["i1"] == ()
    else:
        assert isinstance(verdict, Undecided)
        assert f"rank {bond} of {half.network} would be {rank}; {word} bounds it" in str(verdict)
    every = tl.family(text, start=start, starts_nonzero=True)
    assert limits_of(every).words(every.network) == {}
