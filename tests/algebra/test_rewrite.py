"""Every rewrite keeps W, or the set of W both ways; the normal form knows names from structure."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tenslora as tl
from tenslora import algebra
from tenslora.algebra import forms, normal_form, redundancies, same, simplify
from tenslora.algebra.dimension import dimension
from tenslora.algebra.drawn import drawn_arrays, evaluate
from tenslora.algebra.modify import rename
from tenslora.algebra.redundancy import rank_cap
from tenslora.spec import Core, Network, Term, core_shape, parse
from tenslora.testing import dense, networks, sized_networks


def draw(network, sizes, seed=0):
    generator = np.random.default_rng(seed)
    return {n: generator.normal(size=core_shape(c, sizes)) for n, c in network.cores.items()}


def close(found, wanted):
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10 * scale)


@given(data=st.data())
def test_simplified_networks_have_the_same_w(data):
    network, sizes = data.draw(sized_networks())
    frozen = data.draw(st.sets(st.sampled_from(sorted(network.cores)))) if network.cores else ()
    done = simplify(network, sizes, frozen)
    cores = draw(network, sizes)
    close(dense(done.after, done.forward(cores), done.sizes), dense(network, cores, sizes))
    other = draw(done.after, done.sizes, seed=1)
    close(dense(network, done.back(other), sizes), dense(done.after, other, done.sizes))
    for name in frozen:
        assert name in done.after.cores or not name  # frozen cores stay
    assert count(done.after, done.sizes) <= count(network, sizes)


def count(network, sizes):
    return sum(int(np.prod(core_shape(c, sizes))) for c in network.cores.values())


@given(sized_networks())
def test_every_step_prints_and_parses(sized):
    done = simplify(*sized)
    for step in done.steps:
        assert parse(str(step.after)) == step.after
    assert str(done).count("\n") == len(done.steps)


@given(network=networks(), seed=st.integers(0, 10**6))
def test_normal_form_forgets_names_and_order(network, seed):
    chance = random.Random(seed)
    assert normal_form(normal_form(network)) == normal_form(network)
    assert normal_form(shuffled(network, chance)) == normal_form(network)


def shuffled(network, chance):
    names = {n: f"{n}_{chance.randrange(10)}" for n in (*network.cores, *network.bonds)}
    renamed = rename(network, **names)
    orders = {n: chance.sample(range(len(c.slots)), len(c.slots)) for n, c in renamed.cores.items()}
    terms = []
    for term in renamed.terms:
        cores = [
            Core(c.name, tuple(c.slots[k] for k in orders[c.name]) if c.name in orders else c.slots)
            for c in term.cores
        ]
        terms.append(Term(tuple(chance.sample(cores, len(cores)))))
    return Network(renamed.target, tuple(chance.sample(terms, len(terms))))


def graph(count, edges):
    """A core for each node and a bond for each edge: what refinement alone does not tell apart."""
    ends = [[f"e{e}" for e, pair in enumerate(edges) if node in pair] for node in range(count)]
    cores = " ".join(f"K{node}[{' '.join(bonds)}]" for node, bonds in enumerate(ends))
    return parse(f"W[out in] = ones[out in] {cores}")


def ring(count, step=1, start=0):
    return [(start + n, start + (n + step) % count) for n in range(count)]


def rungs(count):
    return [(n, count + n) for n in range(count)]


GRAPHS = {
    "prism of 12": graph(12, ring(6) + ring(6, start=6) + rungs(6)),
    "two rings of 6": graph(12, ring(6) + ring(6, start=6)),
    "ring of 12": graph(12, ring(12)),
    "Petersen": graph(10, ring(5) + ring(5, 2, 5) + rungs(5)),
    "cube": graph(8, ring(4) + ring(4, start=4) + rungs(4)),
    "every pair of 7": graph(7, [(i, j) for i in range(7) for j in range(i)]),
    "Frucht, without a symmetry": graph(12, [
        (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 0), (0, 7), (1, 7), (2, 8), (3, 9),
        (4, 9), (5, 10), (6, 10), (7, 11), (8, 11), (8, 9), (10, 11)]),
    "a star of 12": parse(f"W[out in] = ones[out in] {' '.join(f'K{n}[r]' for n in range(12))}"),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_normal_form_of_cores_that_look_alike(name, monkeypatch):
    """Known symmetries are not tried again: a prism of 12 cores took minutes."""
    network, chance, count = GRAPHS[name], random.Random(3), []
    refine = forms._refine
    monkeypatch.setattr(forms, "_refine", lambda *a: count.append(1) or refine(*a))
    form = normal_form(network)
    assert len(count) < 400, len(count)
    for _ in range(2):
        assert normal_form(shuffled(network, chance)) == form


def test_graphs_of_one_degree_are_told_apart():
    assert len({str(normal_form(network)) for network in GRAPHS.values()}) == len(GRAPHS)


def test_normal_form_tells_structures_apart():
    lora = parse("W[out in] = B[out r] A[r in]")
    assert same(lora, parse("W[out in] = X[in k] Y[k out]"))
    assert not same(lora, parse("W[out in] = B[out in]"))
    assert not same(
        parse("W[out in] = B[out r] A[r in] A2[r in]"),
        parse("W[out in] = B[out r] A[r in] B2[out r]"),
    )
    # one array in two places is not two arrays
    assert not same(parse("W[out in] = M[out r] M[r in]"), parse("W[out in] = M[out r] N[r in]"))
    # nor is an array read across an array read along
    assert not same(parse("W[out in] = M[out r] M[r in]"), parse("W[out in] = M[out r] M[in r]"))
    assert not same(lora, parse("W[layer out in] = B[out r] A[r in]"))


def test_normal_form_of_catalogue_pairs():
    assert same(tl.resolve("lorta").network, tl.resolve("tenslora_cp.att_qkv_depth").network)
    assert not same(tl.resolve("lotr").network, tl.resolve("tenslora.depth").network)
    forms = {normal_form(f.network, f.frozen) for f in tl.registered().values()}
    assert len(forms) == len(tl.registered()) - 1  # LoRTA is TensLoRA's CP


STEPS = {
    "unit bond": ("W[out in] = B[out r] A[r in]", {"r": 1}, "W[out in] = B[out] A[in]"),
    "vector that keeps its bond": ("W[out in] = T[out in] w[r] v[r]", {"r": 1}, None),
    "elementwise": ("W[layer out in] = b[layer] B[layer out r] A[r in]", {"r": 2},
                    "W[layer out in] = B[layer out r] A[r in]"),
    "full rank": ("W[out in] = B[out r] A[r in]", {"r": 4}, "W[out in] = M[out in]"),
    "low rank": ("W[out in] = B[out r] A[r in]", {"r": 3}, "W[out in] = B[out r] A[r in]"),
    "square in the middle": ("W[out in] = B[out b] M[b a] A[a in]", {"a": 2, "b": 2},
                             "W[out in] = B[out a] A[a in]"),
    "too thin in the middle": ("W[out in] = B[out b] M[b a] A[a in]", {"a": 3, "b": 2},
                               "W[out in] = B[out b] A[b in]"),
    "parallel bonds": ("W[out in] = B[out r s] A[s in r]", {"r": 1, "s": 2},
                       "W[out in] = B[out r] A[r in]"),
    "one array in two places": ("W[out in] = B[out r] M[r s] M[s t] A[t in]",
                                dict.fromkeys("rst", 2), None),
    "shared core over a site": ("W[layer out in] = B[layer out r] M[r s] A[s in]",
                                dict.fromkeys("rs", 2), "W[layer out in] = B[layer out r] A[r in]"),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_listed(name):
    text, ranks, wanted = STEPS[name]
    network = parse(text)
    sizes = {**dict.fromkeys(network.target.indices, 4), **ranks}
    done = simplify(network, sizes)
    assert same(done.after, network if wanted is None else parse(wanted)), str(done)


def test_frozen_cores_are_left():
    network = parse("W[out in] = b[out] B[out r] A[r in]")
    done = simplify(network, {"out": 4, "in": 4, "r": 4}, frozen=("B",))
    assert "B" in done.after.cores
    assert "b" in done.after.cores


@given(data=st.data())
def test_redundant_bonds_can_be_cut(data):
    """Cutting a bond to what its ends can carry reaches every W of the wider one."""
    sites = data.draw(st.sampled_from(["", "layer "]))
    network = parse(f"W[{sites}out in] = B[{sites}out r] A[{sites}r in]")
    sizes = {i: data.draw(st.integers(1, 4), label=i) for i in network.indices}
    found = redundancies(network, sizes)
    cap = min(sizes["out"], sizes["in"])
    assert [r.cap for r in found] == ([cap] if sizes["r"] > cap else [])
    if found:
        w = dense(network, draw(network, sizes), sizes)
        left, values, right = np.linalg.svd(w, full_matrices=False)
        cores = {"B": left * values[..., None, :], "A": right}
        close(dense(network, cores, {**sizes, "r": cap}), w)
        sites = sizes.get("layer", 1)
        lost = sites * (sizes["r"] - cap) * (sizes["out"] + sizes["in"])
        assert found[0].parameters == lost
        assert f"{lost:,} parameters are redundant" in str(found[0])


CAPPED = ["moslora", "lotr", "tenslora.depth", "fact_tk", "metatt4", "loretta", "gralora", "lokr"]


@settings(max_examples=max(10, settings().max_examples // 4))
@given(data=st.data())
def test_what_is_called_redundant_adds_no_dimension(data):
    """The set of W has as many dimensions at the cap as above it, by derivatives."""
    network = data.draw(st.sampled_from([tl.resolve(name).network for name in CAPPED]))
    sizes = {i: data.draw(st.integers(1, 3), label=i) for i in network.target.indices}
    sizes |= {bond: data.draw(st.integers(1, 4), label=bond) for bond in network.bonds}
    for found in redundancies(network, sizes):
        counts = []
        for known in (sizes, {**sizes, found.bond: found.cap}):
            value = partial(evaluate, network, known)
            counts.append(dimension(value, drawn_arrays(network, known, seed=1)))
        assert counts[0] == counts[1], (str(network), sizes, str(found))


def test_one_array_in_two_places_is_not_called_redundant():
    network = parse("W[out in] = B[out r] M[r s] M[s t] A[t in]")
    assert redundancies(network, {"out": 9, "in": 9, **dict.fromkeys("rst", 3)}) == ()


SIZES = {"out": 10, "in": 3, "r": 5}


def test_a_frozen_core_makes_no_rank_redundant():
    """B is a draw: at r = 5 W has 15 dimensions, at the cap of 3 it would have 9."""
    network = parse("W[out in] = B[out r] A[r in]")
    assert [r.cap for r in redundancies(network, SIZES)] == [3]
    assert redundancies(network, SIZES, ["B"]) == redundancies(network, SIZES, "B") == ()
    dims = []
    for rank in (5, 3):
        sizes = {**SIZES, "r": rank}
        arrays = drawn_arrays(network, sizes, seed=1)
        value = partial(free_value, network, sizes, arrays["B"])
        dims.append(dimension(value, {"A": arrays["A"]}))
    assert dims == [15, 9]


def free_value(network, sizes, frozen, held):
    return evaluate(network, sizes, {"B": frozen, **held})


@pytest.mark.parametrize("ties", ["eye[a b c] d[c]", "eye[a b]"])
def test_a_rank_that_an_eye_ties_is_not_called_redundant(ties):
    """It cannot be cut down alone: eye has one size."""
    network = parse(f"W[out in] = U[out a] V[in b] {ties}")
    sizes = {"out": 2, "in": 4, **dict.fromkeys(network.bonds, 3)}
    assert redundancies(network, sizes) == ()
    assert "c" not in sizes or rank_cap(network, "c", sizes) is None


LAWS = {
    "simplify": simplify,
    "redundancies": redundancies,
    "absorb": algebra.absorb,
    "merge": algebra.merge,
    "drop_unit_bonds": algebra.drop_unit_bonds,
    "join_bonds": algebra.join_bonds,
}


@pytest.mark.parametrize("law", LAWS)
def test_sizes_and_frozen_cores_that_are_not_there(law):
    network = parse("W[out in] = B[out r] A[r in]")
    with pytest.raises(tl.TensloraError, match=r"E202: missing: .*rank of r") as info:
        LAWS[law](network, {"out": 3, "in": 4})
    assert "Give r=..." in str(info.value)
    with pytest.raises(tl.TensloraError, match="E201: 'x' is no index"):
        LAWS[law](network, {**SIZES, "x": 3})
    if law not in ("drop_unit_bonds", "join_bonds"):
        with pytest.raises(tl.TensloraError, match="E120: 'b' is no core"):
            LAWS[law](network, SIZES, ["b"])
    with pytest.raises(tl.TensloraError, match="E120: 'b' is no core"):
        normal_form(network, ["b"])


def test_public_names():
    assert set(algebra.__all__) <= set(dir(algebra))
