"""A hundred thousand random networks through the language and the algebra.

    pytest -m slow tests/laws/test_many.py -n 2 -rP

takes an hour and a quarter of one core. Each network has a seed of its own, which a failure tells;
what failed goes to regressions.txt. The default run draws a hundred.
"""

from __future__ import annotations

import time

import pytest

from tenslora.testing import (
    law_canonical,
    law_gauge,
    law_operators,
    law_rewrites,
    law_text,
    random_bound,
)

PARTS, EACH = 100, 1_000


def ask(seed):
    """Parse-print, canonical form, every rewrite, every operator, gauge."""
    bound = random_bound(seed)
    law_text(bound)
    law_canonical(bound, seed=seed)
    law_rewrites(bound, seed=seed)
    law_operators(bound, seed=seed, indices=1)
    law_gauge(bound, seed=seed)
    return bound


def run(seeds):
    different, seed = set(), None
    try:
        for seed in seeds:
            different.add(ask(seed).network)
    except Exception as error:
        raise AssertionError(f"seed {seed}: {random_bound(seed).network}") from error
    return len(different)


def test_a_sample():
    assert run(range(100)) > 80


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
def test_many(part):
    start = time.process_time()
    different = run(range(part * EACH, (part + 1) * EACH))
    spent = time.process_time() - start
    print(f"part {part}: {EACH} networks, {different} different, {spent:.0f} s")  # noqa: T201
    assert different > 0.8 * EACH
