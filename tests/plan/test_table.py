"""The table of breakpoints against asking for every number of tokens, one by one."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

import tenslora as tl
from tenslora.errors import PlanError
from tenslora.plan import make_plan
from tenslora.plan.table import find_table
from tenslora.spec import parse


@dataclass(frozen=True)
class Line:
    """What a plan is to the search of a table: a cost that grows with the tokens."""

    fixed: float
    slope: float

    @property
    def way(self):
        return self

    def cost(self, tokens):
        return self.fixed + self.slope * tokens


@pytest.mark.parametrize("seed", range(50))
def test_random_lines(seed):
    draw = random.Random(seed)
    count = draw.randint(1, 8)
    lines = [Line(draw.randint(0, 1000), draw.randint(1, 60)) for _ in range(count)]
    asked = []

    def best(tokens):
        asked.append(tokens)
        return min(lines, key=lambda line: (line.cost(tokens), line.slope))

    table = find_table(best, 400)
    assert len(asked) < 40
    expected = [best(tokens) for tokens in range(1, 401)]
    assert [table.at(tokens) for tokens in range(1, 401)] == expected
    assert table.at(10**9) == expected[-1]
    starts = [1, *(n + 1 for n in range(1, 400) if expected[n] != expected[n - 1])]
    assert list(table.starts) == starts


@pytest.mark.parametrize("name", ["tenslora.att_qkv_depth", "tensor_ring", "vera"])
def test_families(name):
    sizes = {"layer": 6, "proj": 3, "in": 96, "out": 96, "head": 6, "head_dim": 16}
    family = tl.resolve(name)
    known = {i: n for i, n in sizes.items() if i in family.network.target.indices}
    bound = family.bind(known, rank=3)
    plan = bound.plan()
    assert len(plan.table.starts) > 1
    for tokens in (*range(1, 80), *range(80, 600, 13)):
        best = bound.plan(tokens=tokens).cost()
        assert plan.at(tokens).cost(tokens) == pytest.approx(best, rel=1e-9)
    for start, other in zip(plan.table.starts, plan.table.plans, strict=True):
        assert other.problem.tokens == start
        assert start == 1 or plan.at(start - 1).way != other.way


def test_under_a_limit_it_ends_at_the_tokens_that_were_planned_for():
    network = parse("W[layer out in] = B[layer out r] C[r s] A[layer s in]")
    sizes = {"layer": 4, "out": 64, "in": 64, "r": 32, "s": 32}
    limit = 4 * 4 * 64 * 64  # W of all layers
    plan = make_plan(network, sizes, tokens=200, memory_limit=limit)
    for tokens in range(1, 201):
        best = make_plan(network, sizes, tokens=tokens, memory_limit=limit)
        assert plan.at(tokens).cost(tokens) == pytest.approx(best.cost(), rel=1e-9)
    assert plan.table.starts[-1] <= 200


def test_tokens_that_are_none():
    plan = make_plan(parse("W[out in] = B[out r] A[r in]"), {"out": 8, "in": 8, "r": 2})
    with pytest.raises(PlanError, match="tokens=0 is not a positive integer") as told:
        plan.at(0)
    assert told.value.code == "E403"
