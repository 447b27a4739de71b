"""Ranks from a budget: counting, what a mode can carry, rates of compression, an exact search.

Pure integer arithmetic on networks and sizes; families call it through
:meth:`tenslora.family.Family.bind` and :func:`tenslora.ranks`.
"""

from __future__ import annotations

from tenslora.budget.counting import count_parameters, isorank, lora_parameters
from tenslora.budget.limits import Limits
from tenslora.budget.modes import bonds_of_modes, compressed_ranks
from tenslora.budget.search import fit_ranks

__all__ = [
    "Limits",
    "bonds_of_modes",
    "compressed_ranks",
    "count_parameters",
    "fit_ranks",
    "isorank",
    "lora_parameters",
]
