"""The updates of a trained adapter as arrays, from the adapter or from a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tenslora.decompose import Updates, stack
from tenslora.nn import Adapter, Site
from tenslora.nn.exact import ExactBank
from tenslora.nn.standin import load_alone

__all__ = ["deltas", "heads_of", "read_updates"]


def read_updates(path: str | Path, *, heads: int | None = None) -> tuple[Updates, ...]:
    """Read the updates of all weights that an adapter's file holds, without the model.

    Parameters
    ----------
    path : a file of :meth:`tenslora.Adapter.save`, or the folder of a run that holds it; or the
        folder of PEFT of a plain LoRA, as :func:`tenslora.load_lora` reads it, or of an adapter of
        :class:`tenslora.TensLoraConfig`.
    heads : heads in the output of a weight, where they are wanted; a file of an equation with heads
        says them.

    Returns
    -------
    tuple of Updates
        One for each shape of weights.

    Raises
    ------
    StateError
        As :func:`tenslora.load` and :func:`tenslora.load_lora` say.
    AttachError
        E520 for an adapter in a wrapper.
    FitError
        E901 where the layers do not have the same projections.

    Examples
    --------
    >>> import tempfile, torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(6, 8))
    >>> adapter = tl.attach(model, "lora", targets="all-linear", ranks=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     adapter.save(f"{folder}/a.safetensors")
    ...     (updates,) = read_updates(f"{folder}/a.safetensors")
    >>> updates.array.shape, updates.layers
    ((2, 1, 8, 6), (0, 1))
    """
    adapter = load_alone(path)
    return stack(
        ((dict(site.coords), w) for site, w in deltas(adapter)), heads or heads_of(adapter)
    )


def heads_of(adapter: Adapter) -> int | None:
    """The number of heads that an adapter's sizes tell."""
    return next((n for b in adapter.bounds.values() if (n := b.sizes.get("head"))), None)


def deltas(adapter: Adapter) -> Iterator[tuple[Site, NDArray[np.float64]]]:
    """Yield the update of each site, scale included, in float64 on the CPU.

    Raises
    ------
    AttachError
        E520 for an adapter in a wrapper.
    """
    adapter._check_plain("be read as updates of an equation")
    with torch.no_grad():
        for bank in adapter.banks.values():
            exact = ExactBank(bank, torch.device("cpu"))
            for number, site in enumerate(bank.sites):
                yield site, exact.update(number).numpy()
