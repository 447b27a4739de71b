"""Fitting arrays to a family: from given updates to the cores that come closest.

>>> import numpy as np
>>> from tenslora.decompose import fit
>>> fit("lora", np.ones((2, 3, 8, 6)), ranks=1).error < 1e-12
True
"""

from __future__ import annotations

from tenslora.decompose.fitting import METHODS, Fit, fit

__all__ = ["METHODS", "Fit", "fit"]
