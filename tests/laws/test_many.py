"""A hundred thousand random networks through the language and the algebra.

    pytest -m slow tests/laws/test_many.py -n 2 -rP

takes about an hour of one core. Each part starts from a number of its own, so that a failure can be
seen again alone; what failed goes to regressions.txt. The default run draws a few networks.
"""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from tenslora.testing import (
    bounds,
    law_canonical,
    law_gauge,
    law_operators,
    law_rewrites,
    law_text,
)

PARTS, EACH = 40, 2_500
LAWS = (law_text, law_canonical, law_rewrites, law_operators, law_gauge)


def run(part: int, count: int) -> Counter[str]:
    seen: Counter[str] = Counter()

    @seeded(part)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(bounds())
    def look(bound):
        seen["networks"] += 1
        seen["terms"] += len(bound.network.terms)
        seen["cores"] += len(bound.network.cores)
        for law in LAWS:
            if law is law_text:
                law(bound)
            else:
                law(bound, seed=seen["networks"])

    look()
    return seen


def test_a_sample():
    assert run(part=0, count=25)["networks"] >= 25


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_many(part):
    start = time.process_time()
    seen = run(part, EACH)
    assert seen["networks"] >= EACH
    print(f"part {part}: {dict(seen)} in {time.process_time() - start:.0f} s")  # noqa: T201
