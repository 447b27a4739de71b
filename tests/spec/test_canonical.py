"""One fixed way to write a network. That it is one, and means the same, is law 2."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenslora.spec import Core, Network, Term, canonical, parse
from tenslora.testing import networks


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("W[out in] = B[out r] A[r in]", "W[out in] = A[b0 in] B[out b0]"),
        ("W[out in] = A[s in] B[out s]", "W[out in] = A[b0 in] B[out b0]"),
        ("W[b0 in] = B[b0 r] A[r in]", "W[b0 in] = A[b1 in] B[b0 b1]"),  # b0 is taken
        ("W[out in] = D[out in] + B[out r] A[r in]", "W[out in] = A[b0 in] B[out b0] + D[out in]"),
        ("W[out in] = A[s in] eye[s r] B[out r]", "W[out in] = A[b0 in] B[out b1] eye[b0 b1]"),
        ("W[out in] = ones[out in] A[out in]", "W[out in] = A[out in] ones[in out]"),
    ],
)
def test_examples(equation, expected):
    assert str(parse(equation).canonical()) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # what means something is kept apart: the order of slots, groups and target, names of cores
        ("W[out in] = B[out r] A[r in]", "W[out in] = B[r out] A[r in]"),
        ("W[out in] = B[out (r s)] A[r s in]", "W[out in] = B[out (s r)] A[r s in]"),
        ("W[(a b) in] = B[a b in]", "W[(b a) in] = B[a b in]"),
        ("W[out in] = B[out r] A[r in]", "W[out in] = A[out r] B[r in]"),
        ("W[out in] = A[out r] A[r in]", "W[out in] = A[out r] B[r in]"),
        ("W[out in] = A[out in]", "W[out in] = A[out in] + A[out in]"),
        ("W[out in] = A[out r s] B[r s in]", "W[out in] = A[out r s] B[s r in]"),
    ],
)
def test_networks_that_differ_in_meaning_stay_different(one, other):
    assert parse(one).canonical() != parse(other).canonical()


RINGS = {
    "ring of one core": ["W[out in] = D[out in] R[a b] R[b c] R[c d] R[d a]"],
    "two rings": ["W[out in] = D[out in] R[a b] R[b c] R[c a] R[d e] R[e f] R[f d]"],
    "ring of six": ["W[out in] = D[out in] R[a b] R[b c] R[c d] R[d e] R[e f] R[f a]"],
}


def test_graphs_that_local_views_cannot_tell_apart():
    # every bond of two triangles sees what every bond of a hexagon sees
    forms = [parse(text).canonical() for texts in RINGS.values() for text in texts]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize("name", RINGS)
def test_symmetric_networks_have_one_form(name):
    network = parse(RINGS[name][0])
    bonds = network.bonds
    for order in itertools.islice(itertools.permutations(bonds), 0, 720, 37):
        rename = dict(zip(bonds, order, strict=True))
        cores = [
            Core(c.name, tuple(tuple(rename.get(i, i) for i in s) for s in c.slots))
            for c in network.terms[0].cores
        ]
        other = Network(network.target, (Term(tuple(reversed(cores))),))
        assert other.canonical() == network.canonical()


@given(networks(), st.randoms(use_true_random=False))
def test_names_of_bonds_and_order_mean_nothing(network, random):
    names = [f"k{n}" for n in range(len(network.bonds))]
    random.shuffle(names)
    rename = dict(zip(network.bonds, names, strict=True))
    terms = []
    for term in network.terms:
        cores = [
            Core(c.name, tuple(tuple(rename.get(i, i) for i in s) for s in c.slots))
            for c in term.cores
        ]
        random.shuffle(cores)
        terms.append(Term(tuple(cores)))
    random.shuffle(terms)
    assert Network(network.target, tuple(terms)).canonical() == canonical(network)


@given(networks())
def test_it_is_its_own_canonical_form(network):
    form = network.canonical()
    assert form.canonical() == form
    assert parse(str(form)) == form
    assert form.target == network.target
    assert sorted(form.cores) == sorted(network.cores)
    assert len(form.bonds) == len(network.bonds)


def test_a_text_of_many_equal_bonds_takes_no_long_time():
    bonds = " ".join(f"r{n}" for n in range(12))
    network = parse(f"W[out in] = B[out] A[in] ones[{bonds}] ones[{bonds}]")
    start = time.perf_counter()
    network.canonical()
    assert time.perf_counter() - start < 20
