"""The sizes of a larger family for the same weights, as a proof aligns them with an adapter's."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from tenslora.algebra import Proof
from tenslora.errors import AttachError
from tenslora.family import Family
from tenslora.nn.design import Group
from tenslora.nn.grid import Grid
from tenslora.nn.sizes import HEAD_NAMES, complete, largest
from tenslora.spec import Slot, format_slot

__all__ = ["Alike"]


@dataclass(frozen=True)
class Alike:
    """One shape of an adapter, and the larger family that is to have its updates.

    Attributes
    ----------
    group : the sites of the adapter, with its sizes.
    family : the larger family.
    proof : that the adapter's family is a special case of it.
    grid : the same sites in the site indices of the larger family.
    """

    group: Group
    family: Family
    proof: Proof
    grid: Grid

    @cached_property
    def held(self) -> dict[str, Slot]:
        """The indices of the adapter whose product each index of the larger family is.

        Parts that the proof chooses are as it says; all others are aligned as
        :func:`tenslora.algebra.align` does: sites by name, features by place, the last of the
        fewer parts with all that are left. Parts of one index of the adapter may have any sizes and
        are not here.
        """
        own, new = self.group.bound.network, self.family.network
        found = dict(self.proof.parts)
        pairs: list[tuple[Slot, Slot]] = [
            ((site,), (site,)) for site in new.sites if site in own.sites
        ]
        few, many = self._apart
        if len(many) == 1:
            pairs.append((few, many))
        for few, many in (*pairs, (own.output, new.output), (own.input, new.input)):
            for n, name in enumerate(many if len(many) <= len(few) else many[: len(few) - 1]):
                found.setdefault(name, few[n:] if n == len(many) - 1 else few[n : n + 1])
        return found

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The sizes that follow from the adapter's own, by index of the larger family."""
        bound = self.group.bound
        return {name: math.prod(bound.sizes[i] for i in few) for name, few in self.held.items()}

    @property
    def _apart(self) -> tuple[Slot, Slot]:
        """The sites that only the adapter has, and those that only the larger family has."""
        own, new = self.group.bound.network.sites, self.family.network.sites
        return tuple(i for i in own if i not in new), tuple(i for i in new if i not in own)

    def complete(self, model: nn.Module, wanted: Mapping[str, int]) -> dict[str, int]:
        """Return every size of the larger family: the adapter's, then the caller's and the model's.

        Raises
        ------
        AttachError
            E517 where the adapter has another size than the model or the caller, E506 where a size
            that it does not have does not fit or is missing.
        """
        network, site = self.family.network, largest(self.group.sites)
        self._check_sites()
        self._check_wanted(wanted)
        told: dict[str, int] = {}
        with contextlib.suppress(AttachError):  # a model that does not tell its heads
            told = complete(model, network, site, self.grid, wanted)
        self._check_heads(told, wanted)
        given = {name: size for name, size in self.sizes.items() if name in network.features}
        return complete(model, network, site, self.grid, {**wanted, **given})

    def known(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Return sizes and ranks of the adapter under the names that the proof has for them.

        Parameters
        ----------
        sizes : those of the larger family.
        """
        bound, special = self.group.bound, self.proof.special
        known = {site: {**sizes, **bound.sizes}[site] for site in special.sites}
        pairs = ((bound.network.output, special.output), (bound.network.input, special.input))
        for own, names in (*pairs, (bound.network.bonds, special.bonds)):
            if len(own) == len(names):
                known |= {name: bound.sizes[i] for i, name in zip(own, names, strict=True)}
            else:  # split into the parts of the larger family
                known |= {name: sizes[name] for name in names}
        return known

    def _check_sites(self) -> None:
        """Refuse sites that the model has in other numbers than the proof has them."""
        bound, counted = self.group.bound, self.grid.sizes
        wrong = any(counted.get(name, size) != size for name, size in self.sizes.items())
        few, many = self._apart
        if len(few) == 1 and many:
            wrong |= math.prod(counted[i] for i in many) != bound.sizes[few[0]]
        if not wrong:
            return
        there = " ".join(f"{name}={size}" for name, size in counted.items())
        chosen = {name: held for name, held in self.proof.parts.items() if name in counted}
        if chosen:
            text = ", ".join(
                f"{i} is {format_slot(few) if few else 1}" for i, few in chosen.items()
            )
            what = f"the proof that {self.family.label} holds {bound.family.label} chooses sites, "
            what += f"{text}; those of a model are counted: {there}"
        else:
            own = " ".join(f"{i}={bound.sizes[i]}" for i in bound.network.sites)
            what = f"the adapter has the sites {own}, and {self.family.label} would have {there}"
        advice = (
            f"Lift to a family with the sites of the adapter, {' '.join(bound.network.sites)}; "
        )
        advice += f"or attach one with those of {self.family.label}, {' '.join(counted)}."
        raise AttachError("E517", what, advice=advice)

    def _check_wanted(self, wanted: Mapping[str, int]) -> None:
        """Refuse a size of the caller that is not the one that follows from the adapter."""
        for name, size in self.sizes.items():
            if wanted.get(name, size) != size:
                what = f"sizes: {name}={wanted[name]}, and {self._needed(name)}"
                advice = f"Give {name}={size}, or lift to a larger family."
                raise AttachError("E517", what, advice=advice)

    def _check_heads(self, told: Mapping[str, int], wanted: Mapping[str, int]) -> None:
        """Refuse parts as heads where the model has others, unless the caller says so.

        A part that is called so in the adapter too was given when it was attached.
        """
        for name, size in self.sizes.items():
            known = name in wanted or not set(HEAD_NAMES).isdisjoint(self.held[name])
            if name in HEAD_NAMES and not known and told.get(name, size) != size:
                what = f"the model has {name}={told[name]}, and {self._needed(name)}"
                advice = f'sizes={{"{name}": {size}}} takes it so. Or lift to a family without it.'
                raise AttachError("E517", what, advice=advice)

    def _needed(self, name: str) -> str:
        """Say what size an index has to have, and why."""
        size, own, held = self.sizes[name], self.group.bound.family.label, self.held[name]
        text = f"{self.family.label} has to have {name}={size} to hold {own}"
        return f"{text}, where {name} is {format_slot(held)}" if held and held != (name,) else text
