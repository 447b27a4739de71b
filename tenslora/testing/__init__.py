"""Laws for any family, random equations to try them on, and the dense truth to compare with.

``assert_lawful(family)`` asks every law of a family of your own, and ``assert_special_case(a, b)``
proves where it belongs. The strategies draw equations,
families and sizes for property-based tests; they need hypothesis, which the extra ``test`` brings.
"""

from __future__ import annotations

from tenslora.testing.laws import (
    assert_lawful,
    law_adapter,
    law_backends,
    law_canonical,
    law_contraction,
    law_counts,
    law_derivatives,
    law_gauge,
    law_gradients,
    law_operators,
    law_rewrites,
    law_settings,
    law_start,
    law_text,
    small_sizes,
)
from tenslora.testing.oracle import dense, gradient, numbers
from tenslora.testing.special import assert_special_case, holds_in_numbers
from tenslora.testing.strategies import (
    bounds,
    families,
    networks,
    random_bound,
    ranks,
    sized_networks,
    sizes,
    witnesses,
)

__all__ = [
    "assert_lawful",
    "assert_special_case",
    "bounds",
    "dense",
    "families",
    "gradient",
    "holds_in_numbers",
    "law_adapter",
    "law_backends",
    "law_canonical",
    "law_contraction",
    "law_counts",
    "law_derivatives",
    "law_gauge",
    "law_gradients",
    "law_operators",
    "law_rewrites",
    "law_settings",
    "law_start",
    "law_text",
    "networks",
    "numbers",
    "random_bound",
    "ranks",
    "sized_networks",
    "sizes",
    "small_sizes",
    "witnesses",
]
