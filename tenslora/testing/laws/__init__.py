"""The laws, one function each, and all of them at once for a family."""

from __future__ import annotations

from tenslora.testing.laws.adapters import law_adapter
from tenslora.testing.laws.contraction import law_contraction
from tenslora.testing.laws.gauge import law_gauge
from tenslora.testing.laws.gradients import law_backends, law_derivatives, law_gradients
from tenslora.testing.laws.language import law_canonical, law_text
from tenslora.testing.laws.lawful import assert_lawful, small_sizes
from tenslora.testing.laws.operators import law_operators
from tenslora.testing.laws.rewriting import law_rewrites
from tenslora.testing.laws.settings import law_settings
from tenslora.testing.laws.values import law_counts, law_start

__all__ = [
    "assert_lawful",
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
    "small_sizes",
]
