"""Groups are split, joined and taken for each other, and W stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

import tenslora as tl
from tenslora.algebra import drop_constants, join_group, simplify, split_group
from tenslora.spec import parse
from tenslora.testing import dense, numbers

LORA = parse("W[layer out in] = B[layer out r] A[r in]")
SIZES = {"layer": 2, "out": 6, "in": 4, "r": 4}


@pytest.mark.parametrize(("index", "parts"), [("out", (3, 2)), ("in", (1, 4)), ("r", (2, 2))])
def test_split_and_joined(index, parts):
    done = split_group(LORA, SIZES, index, dict(zip("xy", parts, strict=True)))
    assert {i: done.sizes[i] for i in "xy"} == dict(zip("xy", parts, strict=True))
    cores = numbers(LORA, SIZES)
    wanted = np.einsum("lor,ri->loi", cores["B"], cores["A"])
    np.testing.assert_array_equal(dense(done.after, done.forward(cores), done.sizes), wanted)
    back = join_group(done.after, done.sizes, ("x", "y"), index)
    assert (back.after, back.sizes) == (LORA, SIZES)


EYES = {
    "groups of other sizes": ("B[out (r s)] eye[(r s) (t u)] A[(t u) in]", (2, 3, 3, 2), 0),
    "a group and a bond": ("B[out (r s)] eye[(r s) t] A[t u in] ones[u]", (2, 3, 6, 2), 0),
    "two groups and a feature": ("eye[out (r s) (t u)] C[(r s)] A[(t u) in]", (2, 3, 3, 2), 0),
    "three groups of bonds": ("B[out (r s)] A[(t u) in] eye[(r s) (t u) (v w)] c[(v w)]",
                              (2, 3, 3, 2, 6, 1), 0),
    "apart, of equal sizes": ("B[r out s] eye[(r s) (t u)] A[t in u]", (2, 3, 2, 3), 0),
    "apart, of other sizes": ("B[r out s] eye[(r s) (t u)] A[t in u]", (2, 3, 3, 2), 1),
    "in another order": ("B[out (s r)] eye[(r s) (t u)] A[t in u]", (2, 3, 3, 2), 1),
    "a trace": ("B[out (r s) (t u)] eye[(r s) (t u)] A[in]", (2, 3, 3, 2), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", EYES)
def test_eye_between_groups(name):
    text, ranks, left = EYES[name]
    network = parse(f"W[out in] = {text}")
    sizes = {"out": 6, "in": 4, **dict(zip("rstuvw", ranks, strict=False))}
    sizes = {i: sizes[i] for i in network.indices}
    done = drop_constants(network, sizes)
    after, sizes_after = (network, sizes) if done is None else (done.after, done.sizes)
    assert sum(core.name == "eye" for term in after.terms for core in term.cores) == left
    cores = numbers(network, sizes)
    wanted = dense(network, cores, sizes)
    assert np.any(wanted)
    np.testing.assert_array_equal(dense(after, cores, sizes_after), wanted)
    whole = simplify(network, sizes)
    np.testing.assert_allclose(dense(whole.after, whole.forward(cores), whole.sizes), wanted)


ERRORS = {
    "site": (lambda: split_group(LORA, SIZES, "layer", {"x": 2, "y": 1}), "E120: 'layer' is no"),
    "unknown": (lambda: split_group(LORA, SIZES, "q", {"x": 2, "y": 1}), "E120: 'q' is no bond"),
    "product": (lambda: split_group(LORA, SIZES, "r", {"x": 2, "y": 3}), "E205: x=2 x y=3 is 6,"),
    "half": (lambda: split_group(LORA, SIZES, "r", {"x": 2, "y": 1.5}), "E206: rank y=1.5"),
    "one": (lambda: split_group(LORA, SIZES, "r", {"x": 4}), "E122: 'r' is split into x"),
    "apart": (lambda: join_group(LORA, SIZES, ("out", "r"), "x"), "E122: .* side by side"),
    "no size": (lambda: join_group(LORA, {}, ("out", "r"), "x"), "E202: missing"),
    "site joined": (lambda: join_group(LORA, SIZES, ("layer", "r"), "x"), "E120: 'layer' is no"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, text = ERRORS[name]
    with pytest.raises(tl.TensloraError, match=text):
        call()
