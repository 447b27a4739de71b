"""What cannot be fitted is refused with its reason."""

from __future__ import annotations

import numpy as np
import pytest

import tenslora as tl
from tenslora.errors import FitError, SizeError, TensloraError

TARGET = np.random.default_rng(0).standard_normal((2, 3, 6, 5))
LORA = "W[layer proj out in] = B[layer proj out r] A[layer proj r in]"
BAD = TARGET.copy()
BAD[1, 2, 0, 4] = np.nan
BAD[1, 2, 5, 4] = np.inf
FROZEN = tl.family("W[out in] = B[out r] A[r in]", frozen=["A", "B"], starts_nonzero=True)
TWICE = tl.family("W[layer o i] = A[o r] D[layer r s] A[i s]", init={"D": "zeros"})


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: tl.fit("lora", TARGET[0], 2),
            f"E901: the target has 3 axes (3, 6, 5), and {LORA} has [layer proj out in]\n"
            "  Give one axis for each of them, or for each index.",
        ),
        (
            lambda: tl.fit("lora", TARGET, 2, sizes={"out": 7}),
            "E901: the axis out of the target has length 6, but out=7\n"
            "  Give the target and the sizes of one model.",
        ),
        (
            lambda: tl.fit("lorta", TARGET, 2),
            "E901: head and head_dim are not known: together they are 6\n"
            "  Write sizes={'head': ...}.",
        ),
        (
            lambda: tl.fit("lora", TARGET[:0], 2),
            "E901: the axis layer of the target has length 0, but nothing is empty\n"
            "  Give the target and the sizes of one model.",
        ),
        (
            lambda: tl.fit("lora", BAD, 2),
            "E902: the target has 2 numbers that are not finite, the first at (1, 2, 0, 4)\n"
            "  Find where training diverged; nothing was fitted.",
        ),
        (
            lambda: tl.fit("lora", TARGET * 1j, 2),
            "E902: the target is no array of real numbers\n"
            "  Give an array of real numbers, (*sites, out, in).",
        ),
        (
            lambda: tl.fit("lora", [[1.0], [1.0, 2.0]], 2),
            "E902: the target is no array of real numbers\n"
            "  Give an array of real numbers, (*sites, out, in).",
        ),
        (
            lambda: tl.fit(FROZEN, TARGET[0, 0], 2),
            "E903: W[out in] = B[out r] A[r in] has no trained core: nothing of it can be fitted\n"
            "  Leave a core out of frozen.",
        ),
        (
            lambda: tl.fit("lora", TARGET, 2, alpha=0.0),
            "E903: lora is multiplied by 0: every update is zero\n  Give another alpha or scale.",
        ),
        (
            lambda: tl.fit("lora", TARGET, 2, cores={"A": TARGET}),
            "E903: cores gives 'A', no frozen core of lora\n  The frozen cores are: none.",
        ),
        (
            lambda: tl.fit("vera", TARGET, 2, cores={"A": np.ones((5, 2))}),
            "E903: core A has shape (5, 2), not (2, 5)\n"
            "  One axis a slot, of the size of its index.",
        ),
        (
            lambda: tl.fit("lorta", TARGET, 2, sizes={"head": 2}, method="svd"),
            "E903: the cores of W[layer proj (head head_dim) in] = A[in r] H[head r] B[head_dim r] "
            "D[layer r] P[proj r] are no tree of trained cores\n  Use method='auto' or 'als'.",
        ),
        (
            lambda: tl.fit("vera", TARGET, 2, method="hooi"),
            "E903: W[layer proj out in] = b[layer proj out] B[out r] d[layer proj r] A[r in] is no "
            "core with a factor for each of its bonds\n  Use method='auto' or 'als'.",
        ),
        (
            lambda: tl.fit(TWICE, TARGET[:, 0, :5], 2, method="als"),
            "E903: core A stands twice in one term: W is not linear in it\n"
            "  Use method='gradient' or 'auto'.",
        ),
        (
            lambda: tl.fit("lora", TARGET, 2, method="magic"),
            "E905: method='magic' is no way of fitting\n"
            "  The methods are auto, svd, hooi, als, gradient.",
        ),
        (
            lambda: tl.fit("lora", TARGET, 2, tolerance=-1.0),
            "E905: tolerance=-1.0 is out of range\n  Give a positive number, such as 1e-3.",
        ),
        (
            lambda: tl.fit("lora", TARGET, 2, starts=0),
            "E905: starts=0 is out of range\n  Give a whole number of at least 1.",
        ),
        (
            lambda: tl.fit("lora", TARGET, 2, seed=-1),
            "E905: seed=-1 is out of range\n  Give a whole number of at least 0.",
        ),
    ],
)
def test_the_text_of_a_refusal(call, text):
    with pytest.raises(FitError) as info:
        call()
    assert str(info.value) == text


def test_a_missed_tolerance_is_an_error_with_the_best_that_was_found():
    s = np.linalg.svd(TARGET, compute_uv=False)
    best = np.sqrt((s[..., 2:] ** 2).sum() / (s**2).sum())
    with pytest.raises(FitError) as info:
        tl.fit("lora", TARGET, 2, tolerance=best * 0.99)
    assert str(info.value) == (
        f"E904: lora at r=2 misses {best * 0.99:g}: "
        f"the best relative error found is {best:.3g} (svd)\n"
        "  Raise the ranks, the starts or the tolerance."
    )
    assert tl.fit("lora", TARGET, 2, tolerance=best * 1.01).error == pytest.approx(best)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"ranks": 0}, "E206"),
        ({"ranks": {"q": 2}}, "E201"),
        ({"params": 3}, "E207"),
        ({"ranks": 2, "params": 300}, "E208"),
        ({}, "E202"),
    ],
)
def test_ranks_and_budgets_are_refused_as_everywhere(options, code):
    with pytest.raises(SizeError) as info:
        tl.fit("lora", TARGET, **options)
    assert info.value.code == code


def test_a_budget_below_the_smallest_says_the_smallest():
    with pytest.raises(TensloraError, match=str(6 * (6 + 5))):
        tl.fit("lora", TARGET, params=3)
