"""Adapters on torch models: attach, train, merge, save.

>>> import torch, tenslora as tl
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
>>> adapter = tl.attach(model, "W[layer out in] = B[layer out r] A[layer r in]",
...                     targets="all-linear", ranks=2)
>>> with adapter.disabled():
...     base = model(torch.ones(1, 8))
>>> adapter.detach()
"""

from __future__ import annotations

from tenslora.nn.adapter import Adapter
from tenslora.nn.attaching import attach
from tenslora.nn.bank import Bank
from tenslora.nn.export import Exported
from tenslora.nn.registry import active, adapters
from tenslora.nn.site import Site
from tenslora.nn.sites import find_sites
from tenslora.nn.state import load
from tenslora.nn.tuning import tune

__all__ = [
    "Adapter",
    "Bank",
    "Exported",
    "Site",
    "active",
    "adapters",
    "attach",
    "find_sites",
    "load",
    "tune",
]
