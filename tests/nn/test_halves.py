"""A and B of one forward, taken apart; and the buffers in which their gradients are added up."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import tenslora as tl
from tenslora.nn.gradients import read_thin
from tenslora.nn.halves import Halves, make_layout
from tenslora.nn.ledger import Ledger, lies_tall

LAYERS, RANK, WIDTH = 3, 2, 5


def made(requires_grad=True):
    """Two projections of each layer read one input; A is the layer's, B the site's."""
    sites = [{"layer": n // 2, "proj": n % 2} for n in range(2 * LAYERS)]
    groups = [(2 * n, 2 * n + 1) for n in range(LAYERS)]
    sizes = {"layer": LAYERS, "proj": 2}
    layout = make_layout(RANK, sites, sizes, ["layer"], ["layer", "proj"], groups)
    a = torch.randn(LAYERS, RANK, WIDTH, requires_grad=requires_grad)
    b = torch.randn(2 * LAYERS, RANK, WIDTH, requires_grad=requires_grad)
    return a, b, Halves(layout, 1 * a, 1 * b)


def test_asking_without_gradients_first_costs_no_gradient():
    """As a norm does, that is computed apart: what it was given has no graph, and is not kept."""
    a, b, halves = made()
    with torch.no_grad():
        halves.of(3)
    one, two = halves.of(3)
    (one.sum() + two.square().sum()).backward()
    assert torch.equal(a.grad[1], torch.ones(RANK, WIDTH))
    assert a.grad[[0, 2]].count_nonzero() == 0
    torch.testing.assert_close(b.grad[3], 2 * b[3].detach())


def test_what_is_asked_for_twice_is_taken_apart_once():
    _, _, halves = made()
    assert halves.a is halves.a
    assert halves.matrices(torch.float32, held=False).b is halves.b
    with torch.no_grad():
        _, _, kept = made()
        assert kept.a is kept.a


@pytest.mark.parametrize("narrow", [False, True])
def test_a_ledger_adds_up_each_pass_by_itself(narrow, monkeypatch):
    like = torch.zeros(4, RANK, WIDTH, dtype=torch.float64)
    ledger = Ledger(like, lambda whole: whole.unbind(0))
    dtype = torch.float32 if narrow else torch.float64
    one, two = torch.randn(RANK, 7, dtype=dtype), torch.randn(7, WIDTH, dtype=dtype)
    for task, number, scale in ((5, 1, 0.5), (6, 0, 1.0), (5, 1, 2.0), (5, 3, 1.0)):
        ledger.add(task, number, one, two, scale)
    product = (one @ two).double()
    for task, factors in ((5, (0.0, 2.5, 0.0, 1.0)), (6, (1.0, 0.0, 0.0, 0.0))):
        monkeypatch.setattr("tenslora.nn.ledger.graph_task", lambda task=task: task)
        found = ledger.take()
        for place, factor in zip(found, factors, strict=True):
            torch.testing.assert_close(place, factor * product, rtol=1e-5, atol=1e-6)
        assert ledger.take() is None


def test_a_ledger_forgets_passes_that_were_broken_off():
    ledger = Ledger(torch.zeros(2, 1, 1), lambda whole: whole.unbind(0))
    one = torch.ones(1, 1)
    for task in range(100):
        ledger.add(task, 0, one, one, 1.0)
    assert len(ledger._held) <= 16
    assert 99 in ledger._held


def test_a_matrix_is_laid_out_wide_once_in_a_pass():
    tall = torch.randn(3, WIDTH, RANK).mT
    ledger = Ledger(tall, lambda whole: whole.unbind(0))
    assert ledger.wide(5, 1) is None  # it does not know the matrices
    ledger.tall = tall
    first = ledger.wide(5, 1)
    assert first.is_contiguous()
    assert torch.equal(first, tall[1])
    assert ledger.wide(5, 1) is first
    tall.mul_(2)
    assert torch.equal(ledger.wide(6, 1), tall[1])
    ledger.take()
    assert ledger._wide is None


def test_groups_of_different_lengths_are_cut_from_one_matrix():
    """As of a decoder: q, k and v of its own input, then q, and k and v of what another reads."""
    sites = [{"site": n} for n in range(6)]
    layout = make_layout(RANK, sites, {"site": 6}, ["site"], ["site"], [(0, 1, 2), (3,), (4, 5)])
    a = torch.randn(6, RANK, WIDTH)
    found = layout.share_out(a)
    assert [len(matrix) for matrix in found] == [3 * RANK, RANK, 2 * RANK]
    assert torch.equal(torch.cat(found), a.flatten(0, 1))
    assert {matrix.untyped_storage().data_ptr() for matrix in found} == {
        a.untyped_storage().data_ptr()
    }


@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize("ranks", [1, 4])
def test_thin_products_do_not_depend_on_how_a_matrix_lies(tall, ranks):
    wide = torch.randn(ranks, 9, dtype=torch.float64)
    a = wide.mT.contiguous().mT if tall else wide
    assert lies_tall(a) == (tall and ranks > 1)
    rows = torch.randn(7, 9, dtype=torch.float64)
    expected = [[sum(x * y for x, y in zip(one, row, strict=True)) for row in rows] for one in wide]
    torch.testing.assert_close(read_thin(a, rows), torch.tensor(expected, dtype=torch.float64))


class Heads(nn.Module):
    """q, k and v of one layer."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(9, 9, dtype=torch.float64) for _ in range(3))

    def forward(self, x):
        return torch.cat([self.q(x), self.k(x), self.v(x)], -1)


@pytest.mark.parametrize("a", ["A[site a in]", "A[site in a]", "A[in a]", "A[a in]"])
@pytest.mark.parametrize("b", ["B[site out a]", "B[site a out]"])
def test_gradients_do_not_depend_on_how_cores_lie(a, b, monkeypatch):
    """A core (rank, in) or (in, rank), (rank, out) or (out, rank): against the formula."""
    monkeypatch.setattr("tenslora.nn.reading.FEW", 0)
    model = Heads()
    base = copy.deepcopy(model)
    family = tl.family(f"W[site out in] = {b} {a}", starts_nonzero=True)
    adapter = tl.attach(model, family, targets=["q", "k", "v"], ranks=4, dtype=torch.float64)
    x = torch.randn(50, 9, dtype=torch.float64, requires_grad=True)
    (bank,) = adapter.banks.values()
    cores = bank.cores()
    left, right = (text.replace("site", "s").replace("out", "o") for text in (a, b))
    left, right = (text[2:-1].replace("in", "i").replace(" ", "") for text in (left, right))
    update = torch.einsum(f"{left},{right}->soi", cores["A"], cores["B"])
    places = {site.path: n for n, site in enumerate(bank.sites)}
    expected = [
        base.get_submodule(name)(x) + bank.bound.scale * (x @ update[places[name]].mT)
        for name in "qkv"
    ]
    found, expected = model(x), torch.cat(expected, -1)
    torch.testing.assert_close(found, expected)
    wanted = [x, cores["A"], cores["B"]]
    weight = torch.randn_like(found)
    for one, two in zip(
        torch.autograd.grad((found * weight).sum(), wanted),
        torch.autograd.grad((expected * weight).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, two)
