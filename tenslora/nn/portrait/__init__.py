"""Adapters to look at: norms by layer, projection and head, and spectra mode by mode."""

from __future__ import annotations

from tenslora.nn.portrait.comparison import Comparison
from tenslora.nn.portrait.measured import Grid, Portrait, Shape
from tenslora.nn.portrait.reading import portrait

__all__ = ["Comparison", "Grid", "Portrait", "Shape", "portrait"]
