"""Which plan is the best for how many tokens."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenslora.plan.program import Plan

__all__ = ["MOST_TOKENS", "Table", "find_table"]

#: Tables end here: more rows of x change nothing.
MOST_TOKENS = 2**20


@dataclass(frozen=True)
class Table:
    """The best plan from each number of tokens on, up to that of the next row.

    Attributes
    ----------
    starts : the least number of tokens of each row, from 1 up.
    plans : a plan for each row, made for its least number of tokens.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out r] M[r s] A[s in]")
    >>> table = make_plan(n, {"out": 64, "in": 64, "r": 8, "s": 8}).table
    >>> table.starts
    (1, 12)
    >>> table.at(1) is table.plans[0]
    True
    """

    starts: tuple[int, ...]
    plans: tuple[Plan, ...]

    def at(self, tokens: int) -> Plan:
        """The plan for so many rows of x."""
        return self.plans[bisect_right(self.starts, tokens) - 1]


def find_table(plan_at: Callable[[int], Plan], most: int) -> Table:
    """Find the numbers of tokens at which another plan becomes the best.

    What a plan costs grows linearly with the tokens, so that the best of all costs bends in one
    direction only: two plans of one kind have none between them, and others are looked for where
    the lines of two meet.

    Parameters
    ----------
    plan_at : gives the best plan for a number of tokens.
    most : the most tokens that are asked about.
    """
    first, last = plan_at(1), plan_at(most)
    rows = [(1, first), *_between(plan_at, (1, first), (most, last))]
    return Table(tuple(start for start, _ in rows), tuple(plan for _, plan in rows))


def _between(
    plan_at: Callable[[int], Plan], low: tuple[int, Plan], high: tuple[int, Plan]
) -> Iterator[tuple[int, Plan]]:
    """The rows that begin above ``low`` and not above ``high``."""
    if low[1].way == high[1].way:
        return
    if high[0] - low[0] == 1:
        yield high
        return
    tokens = min(max(_crossing(low[1], high[1]), low[0] + 1), high[0] - 1)
    middle = tokens, plan_at(tokens)
    yield from _between(plan_at, low, middle)
    yield from _between(plan_at, middle, high)


def _crossing(few: Plan, many: Plan) -> int:
    """The least number of tokens at which ``many`` costs less."""
    fixed = many.cost(0) - few.cost(0)
    saved = few.cost(1) - few.cost(0) - many.cost(1) + many.cost(0)
    return math.floor(fixed / saved) + 1 if saved > 0 else 0
