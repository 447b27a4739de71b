"""The in|out cut against the rank that numpy finds at random values."""

from __future__ import annotations

import numpy as np
import pytest

from tenslora.plan import cut_rank
from tenslora.spec import core_shape, parse

CASES = [
    ("W[o i] = B[o r] A[r i]", "or,ri->oi", {"o": 7, "i": 9, "r": 3}, 3),
    (
        "W[o i] = B[o r] A[r i] C[o s] D[s i]",
        "or,ri,os,si->oi",
        {"o": 9, "i": 8, "r": 2, "s": 3},
        6,
    ),
    ("W[o i] = b[o] B[o r] d[r] A[r i]", "o,or,r,ri->oi", {"o": 6, "i": 5, "r": 4}, 4),
    (
        "W[o i] = C[o a b] M[a c] N[b c] A[c i]",
        "oab,ac,bc,ci->oi",
        {"o": 9, "i": 8, "a": 2, "b": 2, "c": 3},
        3,
    ),
    ("W[o i] = eye[o i]", None, {"o": 4, "i": 4}, 4),
    ("W[o i] = ones[o i]", None, {"o": 4, "i": 3}, 1),
    ("W[o i] = a[o] c[i]", "o,i->oi", {"o": 4, "i": 3}, 1),
    (
        "W[(o u) (i v)] = C[o i] B[u r] A[r v]",
        "oi,ur,rv->ouiv",
        {"o": 2, "i": 3, "u": 4, "v": 3, "r": 2},
        4,
    ),
]


@pytest.mark.parametrize(("text", "formula", "sizes", "expected"), CASES, ids=lambda c: str(c)[:40])
def test_the_cut_is_the_rank(text, formula, sizes, expected):
    network = parse(text)
    assert cut_rank(network, sizes) == expected
    if formula is not None:
        rng = np.random.default_rng(0)
        cores = [rng.standard_normal(core_shape(c, sizes)) for c in network.cores.values()]
        rows = int(np.prod([sizes[i] for i in network.output]))
        assert np.linalg.matrix_rank(np.einsum(formula, *cores).reshape(rows, -1)) == expected


def test_terms_add_up_to_the_smaller_side():
    network = parse("W[o i] = B[o r] A[r i] + D[o s] C[s i]")
    assert cut_rank(network, {"o": 9, "i": 8, "r": 2, "s": 3}) == 5
    assert cut_rank(network, {"o": 9, "i": 4, "r": 2, "s": 3}) == 4
