"""``tenslora.attach``: from a model and a family to an adapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tenslora.errors import AttachError
from tenslora.family import Family, Wrapped, resolve, unwrap
from tenslora.nn import install
from tenslora.nn.adapter import Adapter
from tenslora.nn.bank import Bank
from tenslora.nn.design import (
    Budget,
    Design,
    check_dropout,
    check_planning,
    choose_sites,
    make_groups,
    trained_modules,
)
from tenslora.nn.registry import Registry, check_name, check_nesting, registry_of
from tenslora.nn.shards import check_together
from tenslora.nn.site import Site
from tenslora.nn.starting import start_from_weights
from tenslora.nn.wrappers import check_wrapped, start_wrapper

__all__ = ["attach", "build", "draw_cores", "make_banks"]


def attach(
    model: nn.Module,
    family: str | Family | Wrapped,
    *,
    targets: str | Sequence[str] | None = None,
    ranks: int | Mapping[str, int] | None = None,
    like: str | Family | None = None,
    params: int | None = None,
    alpha: float | None = None,
    sizes: Mapping[str, int] | None = None,
    name: str = "default",
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    dropout: float | None = None,
    layers: int | Iterable[int] | None = None,
    ragged: str = "group",
    train: str | Iterable[str] = (),
    sites: Iterable[Site] | None = None,
    block: int | None = None,
    plan: Mapping[str, Any] | None = None,
    recompute: bool = False,
) -> Adapter:
    """Attach an adapter to a model, in place, without changing its modules.

    Hooks add ``scale * x @ W[site].T`` to the outputs of the targets. The parameters stand
    at ``model.tenslora[name][shape]``, each core once; every other parameter is frozen while an
    adapter is attached. The new adapter is active and others become inactive; see
    :meth:`Adapter.activate`.

    Parameters
    ----------
    model : any module with ``nn.Linear`` or transformers' ``Conv1D`` layers.
    family : a family, its name, or an equation; or one of these in a wrapper, such as
        ``tl.dora("lora")`` or ``"dora(lora)"``.
    targets : endings of module paths (``["query", "value"]``), a regular expression that has to
        match a whole path, or ``"all-linear"``; each has to match something. Parts of fused modules
        have names: ``"c_attn.q"``.
    ranks, like, params, alpha : see :meth:`tenslora.Family.bind`. ``params`` is for all targets
        together.
    sizes : sizes of feature indices that the model does not tell, such as ``{"head": 12}``, and of
        the experts of a router. A group of unknown sizes is split as evenly as integers can.
    name : several adapters on one model have different names.
    seed : of the first values; no global generator is touched.
    dtype : of the cores; by default float32, or the base's dtype where that is wider.
    device : of the cores; by default that of the first target's weight.
    dropout : probability of dropping an entry of the input in training; by default the family's.
    layers : keep the targets in these layers only.
    ragged : for targets of several shapes: ``"group"`` gives each shape a bank of its own,
        ``"prefix"`` gives all of them the leading rows and columns of one matrix as large as the
        largest, ``"error"`` refuses them.
    train : endings of the names of modules that are trained whole and saved with the adapter, such
        as ``"classifier"``.
    sites : the targets written by hand, instead of ``targets``, ``layers`` and ``block``.
    block : cut every target into square blocks of so many features, each a matrix of its own, as
        FacT does with feed-forward layers.
    plan : what :meth:`tenslora.Bound.plan` is asked, such as
        ``{"profile": "h200-bf16", "tokens": 8192}``. It changes how fast the adapter is, nothing
        else, and is not saved: another machine plans anew.
    recompute : keep next to nothing for the backward pass: the thin product of x is computed again
        there, and x itself where a normalisation (``LayerNorm``, ``RMSNorm``) gave it, from what
        that has kept. It takes some time, changes no number, and is not saved. For updates that are
        added in place.

    Raises
    ------
    TensloraError
        ``AttachError`` and others; the model is then as it was before.

    Examples
    --------
    >>> import torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    >>> lora = tl.family("W[layer out in] = B[layer out r] A[layer r in]", init={"B": "zeros"})
    >>> adapter = tl.attach(model, lora, targets="all-linear", ranks=2)
    >>> adapter.trainable_parameters
    64
    >>> sorted(model.tenslora.state_dict())
    ['default.8x8.A', 'default.8x8.B']
    >>> adapter.detach()
    """
    if not isinstance(model, nn.Module):
        what = f"the model is a {type(model).__name__}, no torch.nn.Module"
        raise AttachError("E503", what, advice="Give the model itself, not its configuration.")
    check_nesting(model)
    registry = registry_of(model)
    check_name(name, registry)
    chosen, wrapper = unwrap(family)
    budget = Budget(ranks, None if like is None else resolve(like), params, alpha)
    modes = chosen.network.sites if wrapper is None else wrapper.sites(chosen.network)
    found = choose_sites(model, targets, layers, sites, block=block, modes=modes)
    design = Design(
        chosen,
        make_groups(
            model, chosen, found, sizes=sizes or {}, budget=budget, ragged=ragged, wrapper=wrapper
        ),
        check_dropout(chosen, dropout),
        trained_modules(model, train, found, registry),
        wrapper,
    )
    adapter = build(
        model,
        design,
        name,
        seed=seed,
        dtype=dtype,
        device=device,
        plan=plan,
        recompute=recompute,
    )
    install.attach(adapter)
    return adapter


def build(
    model: nn.Module,
    design: Design,
    name: str,
    *,
    seed: int | None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    real: bool = False,
    plan: Mapping[str, Any] | None = None,
    recompute: bool = False,
) -> Adapter:
    """Make an adapter with its banks, beside the model.

    ``seed=None`` leaves the cores undrawn; ``real`` puts them on the CPU where the base is on the
    meta device.
    """
    banks = make_banks(
        model,
        design,
        name,
        seed=seed,
        dtype=dtype,
        device=device,
        real=real,
        plan=plan,
        recompute=recompute,
    )
    registry = registry_of(model)
    registry = Registry() if registry is None else registry
    return Adapter(model, registry, name, design, banks)


def make_banks(
    model: nn.Module,
    design: Design,
    name: str,
    *,
    seed: int | None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    real: bool = False,
    keep_frozen: bool = True,
    plan: Mapping[str, Any] | None = None,
    recompute: bool = False,
) -> dict[str, Bank]:
    """Make the bank of each group, with its first values; the arguments are those of `build`."""
    check_planning(plan)
    check_together(model)
    weight = _weight(model, design.sites[0])
    wide = torch.promote_types(torch.float32, weight.dtype) if weight.is_floating_point() else None
    core_dtype = dtype or wide or torch.float32
    if not isinstance(core_dtype, torch.dtype) or not core_dtype.is_floating_point:
        what = f"dtype={core_dtype!r} is no floating-point type of torch"
        raise AttachError("E503", what, advice="Use torch.float32 or torch.bfloat16.")
    place = weight.device if device is None else torch.device(device)
    if real and place.type == "meta":
        place = torch.device("cpu")
    banks = {}
    for group in design.groups:
        bank = Bank(
            name,
            group.name,
            group.bound,
            group.sites,
            group.grid,
            dropout=design.dropout,
            dtype=core_dtype,
            device=place,
            keep_frozen=keep_frozen,
            plan=plan,
            wrapper=design.wrapper,
            recompute=recompute,
        )
        if design.wrapper is not None:
            check_wrapped(model, bank)
        _ = bank.program  # plan now: what cannot be planned is refused before anything changes
        if seed is not None:
            draw_cores(model, bank, seed, design.key(group))
            if design.wrapper is not None:
                start_wrapper(model, bank, seed, design.key(group))
        banks[group.name] = bank
    return banks


def draw_cores(model: nn.Module, bank: Bank, seed: int, key: str) -> None:
    """Give the cores of a bank their first values: drawn, and read from the weights."""
    bank.draw(seed, key)
    start_from_weights(model, bank)


def _weight(model: nn.Module, site: Site) -> torch.Tensor:
    weight = getattr(model.get_submodule(site.path), "weight", None)
    return weight if isinstance(weight, torch.Tensor) else torch.empty(0)
