"""What a method's own code or a first attempt does at each site: rebuild the tensor, or one
einsum.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.cases import Bank

__all__ = ["NAIVE", "install"]

Cores = Mapping[str, Tensor]

#: Makes a site's function ``x (n, in) -> update (n, out)``, called once a site and forward.
Update = Callable[[Bank, Cores, dict[str, int], Tensor], Tensor]


def rebuild(bank: Bank, cores: Cores, place: dict[str, int], x: Tensor) -> Tensor:
    """Rebuild the whole tensor that the site lies in by tensorly, and take the site's slice.

    As the official code of TensLoRA does: a construction has one tensor for each combination of the
    modes that it does not aggregate, with the other sites as modes of the tensor.
    """
    import tensorly

    tensor, slots = _tensor(bank, cores, place, tensorly)
    at = tuple(place.get(index, slice(None)) for index in slots)
    weight, left = tensor[at], [index for index in slots if index not in place]
    order = [left.index(index) for index in (*bank.bound.network.output, "in")]
    return functional.linear(x, weight.permute(order).reshape(-1, x.shape[-1]))


def _tensor(
    bank: Bank, cores: Cores, place: dict[str, int], tensorly: object
) -> tuple[Tensor, list[str]]:
    network = bank.bound.network
    bonds = set(network.bonds)
    factors, slots, core = [], [], None
    for name, spec in network.cores.items():
        mode = [i for i in spec.indices if i not in bonds and not _on_every(network, i)]
        at = tuple(place[i] for i in spec.indices if _on_every(network, i))
        value = cores[name][at] if at else cores[name]
        if mode:
            factors.append(value)
            slots.append(mode[0])
        else:
            core = value
    with tensorly.backend_context("pytorch", local_threadsafe=True):  # type: ignore[attr-defined]
        if core is None:
            tensor = tensorly.cp_tensor.cp_to_tensor((None, factors))  # type: ignore[attr-defined]
        else:
            tensor = tensorly.tucker_tensor.tucker_to_tensor((core, factors))  # type: ignore[attr-defined]
    return tensor, slots


def _on_every(network: object, index: str) -> bool:
    """Whether a site stands on every core: it is not aggregated."""
    cores = network.cores.values()  # type: ignore[attr-defined]
    return index in network.sites and all(index in core.indices for core in cores)  # type: ignore[attr-defined]


def einsum(
    bank: Bank,
    cores: Cores,
    place: dict[str, int],
    x: Tensor,
    run: Callable[..., Tensor] = torch.einsum,
) -> Tensor:
    """The equation at one site, with x, in one call."""
    network, sizes = bank.bound.network, bank.bound.sizes
    letters = dict(zip(network.indices, string.ascii_letters, strict=False))
    terms, values = [], []
    for core in network.terms[0].cores:
        at = tuple(place[i] if i in place else slice(None) for i in core.indices)
        terms.append("".join(letters[i] for i in core.indices if i not in place))
        values.append(cores[core.name][at])
    rows = x.reshape(-1, *(sizes[i] for i in network.input))
    terms.append("Z" + "".join(letters[i] for i in network.input))
    text = f"{','.join(terms)}->Z{''.join(letters[i] for i in network.output)}"
    out = run(text, *values, rows)
    return out.reshape(-1, math.prod(sizes[i] for i in network.output))


def _contract(*args: object) -> Tensor:
    import opt_einsum

    return opt_einsum.contract(*args)  # type: ignore[arg-type, return-value]


#: Side -> the update of one site.
NAIVE: Mapping[str, Update] = {
    "rebuild": rebuild,
    "einsum": einsum,
    "opt_einsum": partial(einsum, run=_contract),
}


class Naive:
    """Replaces the forward of a projection: base output plus the update, site by site."""

    def __init__(self, module: nn.Module, update: Callable[[Tensor], Tensor], scale: float) -> None:
        self.module, self.update, self.scale = module, update, scale

    def __call__(self, x: Tensor) -> Tensor:
        base = functional.linear(x, self.module.weight, self.module.bias)
        update = self.update(x.reshape(-1, x.shape[-1])).view(base.shape)
        return base + update if self.scale == 1 else base + self.scale * update


def install(model: nn.Module, banks: Mapping[str, tuple[Bank, Cores]], update: Update) -> None:
    """Run every adapted projection of ``model`` by ``update``."""
    for bank, cores in banks.values():
        for path, place in bank.places():
            module = model.get_submodule(path)
            run = partial(update, bank, cores, place)
            module.forward = Naive(module, run, bank.bound.scale)  # type: ignore[method-assign]
