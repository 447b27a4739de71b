"""Law 7: an adapter on a model computes, merges, saves and loads what the equation says."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tenslora.errors import RedundantRankWarning
from tenslora.family import Bound
from tenslora.spec import slot_size
from tenslora.testing.laws.common import arrays_of, every_site, inputs
from tenslora.testing.oracle import dense, numbers
from tenslora.testing.report import agree, equal

__all__ = ["law_adapter"]

_ALPHA = 3.0


def law_adapter(bound: Bound, *, seed: int = 0) -> None:
    """Law 7: on a model of torch the update is that of the equation, and leaves no trace.

    The model has one linear layer a site, in float64, all of which read one input. Merging changes
    no output, unmerging gives back the bits of the weights, and an adapter that is saved and loaded
    on another copy of the model has the same bits.

    Parameters
    ----------
    bound : a family with sizes.
    seed : of the values.

    Examples
    --------
    >>> import tenslora as tl
    >>> tied = tl.family("W[layer out in] = B[layer out r] A[r in]", init={"B": "zeros"})
    >>> law_adapter(tied.bind({"layer": 2, "out": 3, "in": 4}, r=2))  # nothing is said: it holds
    """
    import torch

    cores, x = numbers(bound.network, bound.sizes, seed), inputs(bound, 3, seed)
    rows = torch.from_numpy(x)
    model = _model(bound, seed)
    base = {name: value.clone() for name, value in model.state_dict().items()}
    before = model(rows)
    adapter = _attach(model, bound)
    trained = sum(p.numel() for p in adapter.parameters())
    equal("7", bound, "parameters of the adapter", trained, bound.trainable_parameters)
    with torch.no_grad():
        for bank in adapter.banks.values():
            held, values = bank.cores(), arrays_of("torch", cores)
            equal("7", bound, "cores of the bank", sorted(held), sorted(values))
            for name, core in held.items():
                core.copy_(values[name])
    w = dense(bound.network, cores, bound.sizes)
    update = np.stack([x @ w[tuple(site.values())].T for site in every_site(bound)])
    after = model(rows)
    scale = bound.family.scale.factor(bound.sizes, _ALPHA)
    expected = before.detach().numpy() + scale * update
    room = 1e-10 * (1.0 + np.abs(expected).max())
    agree("7", bound, "output of the model", after.detach(), expected, room)
    _check_merging(bound, model, adapter, rows, base, room)
    _check_saving(bound, model, adapter, rows, seed)
    adapter.detach()
    agree("7", bound, "output after detach", model(rows).detach(), before.detach())


def _check_merging(
    bound: Bound, model: Any, adapter: Any, rows: Any, base: dict[str, Any], room: float
) -> None:
    after = model(rows).detach()
    adapter.merge()
    agree("7", bound, "output while merged", model(rows).detach(), after, room)
    adapter.unmerge()
    for name, value in base.items():
        agree("7", bound, f"{name} after unmerge", model.state_dict()[name], value)
    agree("7", bound, "output after unmerge", model(rows).detach(), after)


def _check_saving(bound: Bound, model: Any, adapter: Any, rows: Any, seed: int) -> None:
    import tenslora as tl

    twin = _model(bound, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        adapter.save(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RedundantRankWarning)
            loaded = tl.load(twin, path)
    equal("7", bound, "family of the loaded adapter", loaded.family, adapter.family)
    for name, bank in adapter.banks.items():
        again = loaded.banks[name].cores()
        for core, value in bank.cores().items():
            agree("7", bound, f"{core}, saved and loaded", again[core].detach(), value.detach())
    agree("7", bound, "output of the loaded adapter", twin(rows).detach(), model(rows).detach())


def _model(bound: Bound, seed: int) -> Any:
    """A linear layer a site, with numbers of the seed."""
    import torch

    class Stack(torch.nn.Module):
        def __init__(self, count: int, columns: int, rows: int) -> None:
            super().__init__()
            make = torch.nn.utils.skip_init
            self.linears = torch.nn.ModuleList(
                make(torch.nn.Linear, columns, rows, dtype=torch.float64) for _ in range(count)
            )

        def forward(self, x: Any) -> Any:
            return torch.stack([linear(x) for linear in self.linears])

    network, sizes = bound.network, bound.sizes
    model = Stack(
        sum(1 for _ in every_site(bound)),
        slot_size(network.input, sizes),
        slot_size(network.output, sizes),
    )
    generator = np.random.default_rng((seed, 5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(generator.standard_normal(tuple(parameter.shape))))
    return model


def _attach(model: Any, bound: Bound) -> Any:
    import tenslora as tl

    sites = [tl.Site(f"linears.{n}", site) for n, site in enumerate(every_site(bound))]
    features = {index: bound.sizes[index] for index in bound.network.features}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RedundantRankWarning)
        adapter = tl.attach(
            model, bound.family, sites=sites, ranks=bound.ranks, sizes=features, alpha=_ALPHA
        )
    (attached,) = adapter.bounds.values()
    equal("7", bound, "sizes of the attached family", dict(attached.sizes), dict(bound.sizes))
    return adapter
