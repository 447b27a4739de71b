"""Updates as two thin matrices: the normal form in which every family is a plain LoRA.

A term is cut where the fewest numbers cross between input and output
(:func:`tenslora.plan.cut.cut_sides`); what stands on either side is contracted to one matrix. The
two are exact, and can be made thinner where the update has a lower rank than the cut shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tenslora.nn.shards import whole
from tenslora.nn.spans import put
from tenslora.plan.cut import cut_sides
from tenslora.spec import Core, Network, Term

if TYPE_CHECKING:
    from tenslora.nn.adapter import Adapter
    from tenslora.nn.bank import Bank
    from tenslora.nn.targets import Linear

__all__ = ["Factors", "module_factors", "site_factors"]

_Operand = tuple[Tensor, Sequence[str]]


@dataclass(frozen=True)
class Factors:
    """A matrix W (out, in) = b @ a, with b (out, r) and a (r, in)."""

    b: Tensor
    a: Tensor

    @property
    def columns(self) -> int:
        """The number r of columns of b."""
        return self.b.shape[1]

    def singular(self) -> tuple[Tensor, Tensor, Tensor]:
        """U, S and V of W = U S V^T, with as many values as are above the rounding of float64."""
        left, r_left = torch.linalg.qr(self.b)
        right, r_right = torch.linalg.qr(self.a.mT)
        u, s, v = torch.linalg.svd(r_left @ r_right.mT)
        size = max(self.b.shape[0], self.a.shape[1])
        noise = size * torch.finfo(s.dtype).eps * float(r_left.norm() * r_right.norm())
        rank = int((s > noise).sum())
        return left @ u[:, :rank], s[:rank], right @ v.mH[:, :rank]

    def thinner(self, rank: int) -> Factors:
        """The nearest matrix of that rank in the Frobenius norm, which splits evenly over both."""
        u, s, v = (part[..., :rank] for part in self.singular())
        root = s.sqrt()
        return Factors(u * root, (v * root).mT)

    def padded(self, rank: int) -> Factors:
        """Add zeros up to ``rank`` columns: the same matrix, bit for bit."""
        more = rank - self.columns
        pad = torch.nn.functional.pad
        return Factors(pad(self.b, (0, more)), pad(self.a, (0, 0, 0, more)))

    def distance(self, other: Factors) -> float:
        """The Frobenius norm of the difference, without making a matrix (out, in)."""
        b = torch.cat([self.b, -other.b], 1)
        a = torch.cat([self.a, other.a])
        left, right = torch.linalg.qr(b).R, torch.linalg.qr(a.mT).R
        return float((left @ right.mT).norm())

    def norm(self) -> float:
        """The Frobenius norm of W."""
        left, right = torch.linalg.qr(self.b).R, torch.linalg.qr(self.a.mT).R
        return float((left @ right.mT).norm())

    def to(self, dtype: torch.dtype) -> Factors:
        """Round both to a dtype."""
        return Factors(self.b.to(dtype), self.a.to(dtype))


def module_factors(adapter: Adapter, linears: Mapping[str, Linear]) -> dict[str, Factors]:
    """The update of each target module, scale included, in float64 on the CPU.

    The sites of a fused module are put into one matrix, each at its own rows and columns.
    """
    pieces: dict[str, list[Factors]] = {}
    for bank in adapter.banks.values():
        for site, part in zip(bank.sites, site_factors(bank), strict=True):
            linear = linears[site.path]
            b = part.b.new_zeros(linear.out_features, part.columns)
            a = part.a.new_zeros(part.columns, linear.in_features)
            put(b, 0, site.rows, part.b)
            put(a, 1, site.columns, part.a)
            pieces.setdefault(site.path, []).append(Factors(b, a))
    return {
        path: Factors(torch.cat([p.b for p in parts], 1), torch.cat([p.a for p in parts]))
        for path, parts in pieces.items()
    }


def site_factors(bank: Bank) -> list[Factors]:
    """The update of each site of a bank, scale included, in float64 on the CPU."""
    found = []
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        cores = {n: whole(c).to("cpu", torch.float64) for n, c in bank.cores().items()}
        for number in range(len(bank.sites)):
            parts = _site(bank, number, cores)
            b = bank.bound.scale * torch.cat([part.b for part in parts], 1)
            found.append(Factors(b, torch.cat([part.a for part in parts])))
    return found


def _site(bank: Bank, number: int, cores: Mapping[str, Tensor]) -> list[Factors]:
    """The unscaled update of one site, a pair of matrices for each term."""
    bound, site, place = bank.bound, bank.sites[number], bank.grid.positions[number]
    if bound.cut_rank >= min(site.shape):  # no thin middle: the matrix itself is a factor
        like = torch.empty(0, dtype=torch.float64)
        w = bank.dense(number, bank.hoist(cores), like)
        one = torch.eye(min(w.shape), dtype=w.dtype)
        return [Factors(one, w) if w.shape[0] < w.shape[1] else Factors(w, one)]
    found = []
    for term in bound.network.terms:
        both = _term(bound.network, term, bound.sizes, cores, place)
        found.append(Factors(both.b[: site.out_features], both.a[:, : site.in_features]))
    return found


def _term(
    network: Network,
    term: Term,
    sizes: Mapping[str, int],
    cores: Mapping[str, Tensor],
    place: Mapping[str, int],
) -> Factors:
    """Contract what stands on the output's side, and what stands on the input's."""
    sides: tuple[list[_Operand], list[_Operand]] = ([], [])
    for core, side in zip(term.cores, cut_sides(network, term, sizes), strict=True):
        if core.name != "ones":
            sides[side].append(_local(core, sizes, cores, place))
    held = [{index for _, indices in operands for index in indices} for operands in sides]
    cut = [
        index
        for index in network.indices
        if index in held[0].union(network.output) and index in held[1].union(network.input)
    ]
    for index in (*network.features, *term.indices):  # on ones alone: summed, or the same along it
        if index not in held[0] | held[1] | set(network.sites):
            held[0].add(index)
            side = 1 if index in network.input else 0
            sides[side].append((torch.ones(sizes[index], dtype=torch.float64), [index]))
    left = _contract(network, sizes, sides[0], network.output, cut)
    right = _contract(network, sizes, sides[1], network.input, cut)
    return Factors(left, right.mT)


def _local(
    core: Core, sizes: Mapping[str, int], cores: Mapping[str, Tensor], place: Mapping[str, int]
) -> _Operand:
    """The part of a core that belongs to one site, with one axis for each index left."""
    value = _eye(core, sizes) if core.is_constant else cores[core.name]
    value = value.reshape([sizes[index] for index in core.indices])
    at = tuple(place[index] if index in place else slice(None) for index in core.indices)
    return value[at], [index for index in core.indices if index not in place]


def _eye(core: Core, sizes: Mapping[str, int]) -> Tensor:
    shape = [math.prod(sizes[index] for index in slot) for slot in core.slots]
    value = torch.zeros(shape, dtype=torch.float64)
    every = torch.arange(min(shape))
    value[(every,) * len(shape)] = 1
    return value


def _contract(
    network: Network,
    sizes: Mapping[str, int],
    operands: Sequence[_Operand],
    features: Sequence[str],
    cut: Sequence[str],
) -> Tensor:
    """One side as a matrix (features, cut).

    A feature that is cut as well stands on both axes: the matrix is diagonal in it.
    """
    label = {index: n for n, index in enumerate(network.indices)}
    crossing = {index: len(label) + n for n, index in enumerate(cut) if index in features}
    inputs: list[Tensor | list[int]] = []
    for tensor, indices in operands:
        inputs += [tensor, [label[index] for index in indices]]
    for index, other in crossing.items():
        inputs += [torch.eye(sizes[index], dtype=torch.float64), [label[index], other]]
    output = [label[index] for index in features]
    output += [crossing.get(index, label[index]) for index in cut]
    if not inputs:
        inputs = [torch.ones((), dtype=torch.float64), []]
    rows = math.prod(sizes[index] for index in features)
    made: Tensor = torch.einsum(*inputs, output)
    return made.reshape(rows, -1)
