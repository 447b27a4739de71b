"""Fitting arrays to a family: from given updates to the cores that come closest.

>>> import numpy as np
>>> from tenslora.decompose import fit
>>> fit("lora", np.ones((2, 3, 8, 6)), ranks=1).error < 1e-12
True
"""

from __future__ import annotations

from tenslora.decompose.attempts import METHODS
from tenslora.decompose.cutting import Cut, cut
from tenslora.decompose.fitting import Fit, fit
from tenslora.decompose.needed import Need, needed
from tenslora.decompose.ranking import bond_spectra, keep_energy
from tenslora.decompose.spectrum import ENERGIES, Spectrum, spectrum
from tenslora.decompose.suggesting import suggest_ranks
from tenslora.decompose.updates import Updates, stack

__all__ = [
    "ENERGIES",
    "METHODS",
    "Cut",
    "Fit",
    "Need",
    "Spectrum",
    "Updates",
    "bond_spectra",
    "cut",
    "fit",
    "keep_energy",
    "needed",
    "spectrum",
    "stack",
    "suggest_ranks",
]
