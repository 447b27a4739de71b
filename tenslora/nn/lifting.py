"""A trained adapter as the exact starting point of one of a larger family."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from tenslora.algebra import Proof, align, assigned, lifted_sizes
from tenslora.errors import AttachError, SizeError, SpecError
from tenslora.family import Bound, Family, embeds, lift, resolve
from tenslora.nn import install, merge
from tenslora.nn.alike import Alike
from tenslora.nn.attaching import build
from tenslora.nn.design import Design, Group
from tenslora.nn.grid import make_grid
from tenslora.spec import Network

if TYPE_CHECKING:
    from tenslora.nn.adapter import Adapter

__all__ = ["build_beside", "lifted", "take_place"]


def lifted(
    adapter: Adapter,
    general: str | Family,
    *,
    proof: Proof | None = None,
    free: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> Adapter:
    """Replace an adapter by one of a larger family; see :meth:`Adapter.lift`."""
    family = resolve(general)
    known = _proof(adapter, family, proof, free)
    groups, arrays = [], {}
    for group in adapter.design.groups:
        new, cores = _lift_group(adapter, group, family, known, sizes or {})
        groups.append(new)
        arrays[new.name] = cores
    made = build_beside(adapter, replace(adapter.design, family=family, groups=tuple(groups)))
    with torch.no_grad():
        for name, cores in arrays.items():
            for core, tensor in made.banks[name].cores().items():
                tensor.copy_(torch.from_numpy(cores[core]))
    _check_equal(adapter, made)
    take_place(adapter, made)
    return made


def build_beside(adapter: Adapter, design: Design) -> Adapter:
    """Make an adapter of another design with all else as it is; its cores are as they start."""
    bank = next(iter(adapter.banks.values()))
    return build(
        adapter.model,
        design,
        adapter.name,
        seed=None,
        dtype=bank.dtype,
        device=next(iter(bank.cores().values())).device,
        plan=bank.planning,
        recompute=bank.recompute,
    )


def _proof(adapter: Adapter, family: Family, proof: Proof | None, free: bool) -> Proof:
    if proof is None:
        found = embeds(adapter.family, family, free=free)
        if not isinstance(found, Proof):
            what = f"{adapter.family.label} is not known to be a special case of {family.label}"
            raise AttachError("E517", what, advice=f"{str(found).splitlines()[-1]}.")
        return found
    if not isinstance(proof, Proof):
        told = str(proof).splitlines() or [repr(proof)]
        what = f"the proof is no proof: {told[-1][:200]}"
        advice = f"tl.embeds({adapter.family.label!r}, {family.label!r}) searches for one."
        raise AttachError("E517", what, advice=advice)
    one, two = _aligned(adapter.family.network, family.network, proof)
    for whole, own, side in ((proof.special, one, "special"), (proof.general, two, "general")):
        if whole != own:
            what = f"the proof is about {whole}, not about {own}"
            raise AttachError("E517", what, advice=f"Its {side} case has to be this family.")
    if set(proof.chosen) != family.frozen:
        held = ", ".join(sorted(proof.chosen)) or "no core"
        what = f"the proof holds {held} frozen; {family.label} has {_listed(family)}"
        advice = "Prove it of the family itself: tl.check(adapter.family, general, witness)."
        raise AttachError("E517", what, advice=advice)
    return proof


def _aligned(special: Network, general: Network, proof: Proof) -> tuple[Network, Network]:
    """Return both as the proof has them, if it is about them."""
    if proof.parts:
        with contextlib.suppress(SpecError):  # parts that they do not have
            return assigned(special, general, proof.parts)[:2]
    return align(special, general)[:2]


def _listed(family: Family) -> str:
    return f"{', '.join(sorted(family.frozen)) or 'no core'} frozen"


def _lift_group(
    adapter: Adapter, group: Group, family: Family, proof: Proof, wanted: Mapping[str, int]
) -> tuple[Group, Mapping[str, Any]]:
    """Bind the larger family for one shape, and compute its cores in float64."""
    grid = make_grid(family.network, group.sites, group.name)
    alike = Alike(group, family, proof, grid)
    sizes = alike.complete(adapter.model, wanted)
    cores = {
        name: tensor.detach().to("cpu", torch.float64).numpy()
        for name, tensor in adapter.banks[group.name].cores().items()
    }
    known = alike.known(sizes)
    try:
        arrays, wide = lift(cores, proof, known), lifted_sizes(proof, known)
        bonds = zip(family.bonds, proof.general.bonds, strict=True)
        ranks = {bond: wide[aligned] for bond, aligned in bonds}
        bound = family.bind(sizes, ranks=ranks, alpha=_alpha(family, ranks, group.bound))
    except SizeError as error:
        if error.code not in ("E202", "E204"):
            raise
        text = " ".join(f"{name}={sizes[name]}" for name in family.network.target.indices)
        what = f"{family.label} with {text} does not hold the adapter: {error.what}"
        raise AttachError("E517", what, advice="Give other sizes=, or another proof.") from None
    shaped = {name: arrays[name].reshape(bound.shapes[name]) for name in arrays}
    return Group(group.name, group.sites, grid, bound), shaped


def _alpha(family: Family, ranks: Mapping[str, int], bound: Bound) -> float:
    """Return the alpha at which ``family`` scales as ``bound`` does."""
    scale = family.scale
    if scale.kind == "features":
        return bound.scale / scale.value * math.prod(bound.sizes[i] for i in bound.network.input)
    if scale.kind == "constant" or scale.bond is None:
        return bound.scale
    rank = ranks[scale.bond]
    return bound.scale / scale.value * (rank if scale.kind == "ratio" else math.sqrt(rank))


def _check_equal(adapter: Adapter, made: Adapter) -> None:
    for site in adapter.sites:
        with torch.no_grad():
            wanted, found = merge.delta(adapter, site), merge.delta(made, site)
        bound = 1e3 * torch.finfo(wanted.dtype).eps * max(1e-30, float(wanted.abs().max()))
        if not torch.allclose(found, wanted, rtol=0.0, atol=bound):
            what = f"{made.family.label} would give {site} another update"
            raise AttachError("E517", what, advice="The sites of the two stand in another order.")


def take_place(adapter: Adapter, made: Adapter) -> None:
    """Detach one adapter and attach the other, or leave the first where it is."""
    before, active = adapter.before_training, adapter.registry.default_active
    install.detach(adapter, keep=True)
    try:
        install.attach(made)
    except BaseException:
        install.attach(adapter)
        adapter.before_training = before
        adapter.registry.set_active(active)
        raise
    made.before_training = before
    made.registry.set_active(active)
