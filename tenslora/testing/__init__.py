"""Laws for any family, random equations to try them on, and the dense truth to compare with.

``assert_lawful(family)`` asks every law of a family of your own. The strategies draw equations,
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
    law_gradients,
    law_start,
    law_text,
    small_sizes,
)
from tenslora.testing.oracle import dense, gradient, numbers
from tenslora.testing.strategies import bounds, families, networks, sized_networks

__all__ = [
    "assert_lawful",
    "bounds",
    "dense",
    "families",
    "gradient",
    "law_adapter",
    "law_backends",
    "law_canonical",
    "law_contraction",
    "law_counts",
    "law_derivatives",
    "law_gradients",
    "law_start",
    "law_text",
    "networks",
    "numbers",
    "sized_networks",
    "small_sizes",
]
