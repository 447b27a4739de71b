"""Removal of eye and ones, against the literal einsum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from tenslora.algebra.constants import eliminate
from tenslora.spec import parse
from tenslora.testing import dense, numbers, sized_networks

CASES = {
    "W[out in] = B[out r] eye[r s] A[s in]": "W[out in] = B[out s] A[s in]",
    "W[out in] = B[out r] eye[r s t] A[s in] C[t in]": "W[out in] = B[out t] A[t in] C[t in]",
    "W[out in] = eye[out in]": "W[out in] = eye[in out]",
    "W[out in] = ones[out r] ones[r in]": "W[out in] = ones[in out r] ones[r]",
    "W[out in] = B[out r] ones[r in]": "W[out in] = B[out r] ones[in r]",
    "W[layer out in] = B[out in] ones[layer]": "W[layer out in] = B[out in]",
    "W[a b out in] = T[a b out in] eye[a b]": "W[a b out in] = T[a b out in] eye[a b]",
    "W[(a b) in] = B[r in] eye[r (a b)]": "W[(a b) in] = B[(a b) in]",
    "W[out in] = G[r s out in] eye[r s]": "W[out in] = G[r s out in] eye[r s]",
}


@pytest.mark.parametrize("text", CASES)
def test_listed(text):
    assert eliminate(parse(text)).canonical() == parse(CASES[text]).canonical()


@pytest.mark.parametrize("text", CASES)
def test_listed_values(text):
    network = parse(text)
    sizes = dict.fromkeys(network.indices, 2)
    if "eye[r (a b)]" in text:
        sizes["r"] = 4
    cores = numbers(network, sizes)
    after = eliminate(network)
    np.testing.assert_allclose(dense(after, cores, sizes), dense(network, cores, sizes))


@given(sized_networks())
def test_w_is_unchanged(sized):
    network, sizes = sized
    after = eliminate(network)
    cores = numbers(network, sizes)
    before = dense(network, cores, sizes)
    np.testing.assert_allclose(dense(after, cores, sizes), before, rtol=1e-10, atol=1e-10)
    assert eliminate(after).canonical() == after.canonical()
