"""Spans against plain lists of numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenslora.nn.spans import collide, features, normal, put, size, spread, take, view, within

TOTAL = 24


@st.composite
def spans(draw):
    step = draw(st.integers(1, 9))
    width = draw(st.integers(1, step))
    start = draw(st.integers(0, TOTAL - width))
    count = draw(st.integers(1, (TOTAL - width - start) // step + 1))
    if draw(st.booleans()):
        return start, start + width
    return normal((start, start + (count - 1) * step + width, step, width))


def numbers(span):
    return [n for block in _blocks(span) for n in block]


def _blocks(span):
    if len(span) == 2:
        return [range(*span)]
    start, stop, step, width = span
    return [range(n, n + width) for n in range(start, stop, step)]


@given(spans())
def test_taking_and_putting(span):
    there = numbers(span)
    assert within(span, TOTAL)
    assert (list(features(span)), size(span)) == (there, len(there))
    x = torch.arange(3 * TOTAL).reshape(3, TOTAL)
    assert torch.equal(take(x, -1, span), x[:, there])
    assert torch.equal(take(x.T, 0, span), x.T[there])
    assert view(x, 1, span).untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    expected = x.clone()
    expected[:, there] = -1
    put(x, -1, span, -torch.ones(3, len(there), dtype=torch.long))
    assert torch.equal(x, expected)


@given(spans(), spans())
def test_collisions(a, b):
    assert collide(a, b) == bool(set(numbers(a)) & set(numbers(b)))
    assert collide(a, None)


@given(st.lists(spans(), min_size=1, max_size=4), st.booleans())
def test_spreading_adds_what_overlaps(found, whole):
    rng = np.random.default_rng(0)
    parts = [(s, torch.from_numpy(rng.standard_normal((2, size(s))))) for s in found]
    if whole:
        parts.append((None, torch.from_numpy(rng.standard_normal((2, TOTAL)))))
    expected = np.zeros((2, TOTAL))
    for span, part in parts:
        expected[:, range(TOTAL) if span is None else numbers(span)] += part.numpy()
    for _, part in parts:
        part.requires_grad_()
    made = spread(TOTAL, parts)
    np.testing.assert_allclose(made.detach().numpy(), expected, atol=1e-15)
    made.sum().backward()
    assert all(bool((part.grad == 1).all()) for _, part in parts)


def test_heads_side_by_side_are_joined_without_zeros():
    spans_of_parts = [(n, n + 8 + 2, 8, 2) for n in (4, 0, 2, 6)]
    parts = [(normal(s), torch.full((1, 4), float(n))) for n, s in enumerate(spans_of_parts)]
    assert spread(16, parts).tolist() == [[1, 1, 2, 2, 0, 0, 3, 3] * 2]


@pytest.mark.parametrize(
    "span",
    [(0, 25), (-1, 3), (3, 3), (0, 24, 6), (0, 24, 6, 7), (0, 24, 6, 2), (0.0, 3), (True, 3)],
)
def test_what_is_no_span(span):
    assert not within(span, TOTAL)
