"""The same mathematics as an expert writes it by hand, for every family that is measured.

Each family is two matrices at every site, W[l, p] = B[l, p] A[l, p]: `FACTORS` says how they
come from the cores, once a forward for all sites. They are stored wide, ``A`` as (rank, in) and
``B`` as (rank, out): thin products are fastest so. A layer's q, k and v then run as one group,
in the form that was found fastest (`Group`, with a backward of its own) or in plain autograd
(`plain_group`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.cases import Bank, Case

__all__ = ["FACTORS", "Factors", "Group", "install", "plain_group"]

Cores = Mapping[str, Tensor]


class Factors(NamedTuple):
    """``a``: (layer, proj, rank, in), where 1 in place of a size says that all share it. ``b``:
    (layer, proj, rank, out)."""

    a: Tensor
    b: Tensor


def _lora(c: Cores) -> Factors:
    return Factors(c["A"], c["B"].mT)


def _lotr(c: Cores) -> Factors:
    return Factors(c["A"][None], torch.einsum("pos,lpsr->lpro", c["B"], c["G"]))


def _fact_tt(c: Cores, projections: int) -> Factors:
    b = torch.einsum("ob,sba->sao", c["V"], c["S"])
    return Factors(c["U"].mT[None, None], b.unflatten(0, (-1, projections)))


def _fact_tk(c: Cores, projections: int) -> Factors:
    s = torch.einsum("abc,sc->sab", c["C"], c["P"])
    return Factors(c["U"].mT[None, None], (s @ c["V"].mT).unflatten(0, (-1, projections)))


def _metatt4(c: Cores) -> Factors:
    s = torch.einsum("bla,cpb->lpac", c["D"], c["P"])
    return Factors(c["A"][None, None], s @ c["B"].mT)


def _lorta(c: Cores) -> Factors:
    heads = torch.einsum("hr,kr->rhk", c["H"], c["B"]).flatten(1)
    sites = c["D"][:, None] * c["P"]
    return Factors(c["A"].mT[None, None], sites[..., None] * heads)


def _vera(c: Cores) -> Factors:
    b = c["d"][..., None] * (c["B"].mT * c["b"][:, :, None])
    return Factors(c["A"][None, None], b)


def _loha(c: Cores) -> Factors:
    a = (c["A1"][:, :, :, None] * c["A2"][:, :, None]).flatten(2, 3)
    b = (c["B1"].mT[:, :, :, None] * c["B2"].mT[:, :, None]).flatten(2, 3)
    return Factors(a, b)


def _tt_lora(c: Cores) -> Factors:
    a = torch.einsum("lpcid,lpdje,lpek->lpcijk", c["G4"], c["G5"], c["G6"])
    b = torch.einsum("lpib,lpbjd,lpdkc->lpcijk", c["G1"], c["G2"], c["G3"])
    return Factors(a.flatten(3), b.flatten(3))


def _att(c: Cores) -> Factors:
    gh = torch.einsum("lpabc,lphc->lpahb", c["G"], c["H"])
    return Factors(c["U"].mT, torch.einsum("lpahb,lpkb->lpahk", gh, c["V"]).flatten(3))


def _qkv(c: Cores) -> Factors:
    s = torch.einsum("labc,lpc->lpab", c["G"], c["P"])
    return Factors(c["U"].mT[:, None], s @ c["V"].mT[:, None])


def _depth(c: Cores) -> Factors:
    s = torch.einsum("pabc,plc->lpab", c["G"], c["D"])
    return Factors(c["U"].mT[None], s @ c["V"].mT)


def _att_qkv(c: Cores) -> Factors:
    s = torch.einsum("labcd,lpd->lpabc", c["G"], c["P"])
    sh = torch.einsum("lpabc,lhc->lpahb", s, c["H"])
    b = torch.einsum("lpahb,lkb->lpahk", sh, c["V"])
    return Factors(c["U"].mT[:, None], b.flatten(3))


def _att_depth(c: Cores) -> Factors:
    s = torch.einsum("pabcd,pld->lpabc", c["G"], c["D"])
    sh = torch.einsum("lpabc,phc->lpahb", s, c["H"])
    b = torch.einsum("lpahb,pkb->lpahk", sh, c["V"])
    return Factors(c["U"].mT[None], b.flatten(3))


def _qkv_depth(c: Cores) -> Factors:
    s = torch.einsum("abcd,pc,ld->lpab", c["G"], c["P"], c["D"])
    return Factors(c["U"].mT[None, None], s @ c["V"].mT)


def _att_qkv_depth(c: Cores) -> Factors:
    s = torch.einsum("abcde,pd,le->lpabc", c["G"], c["P"], c["D"])
    sh = torch.einsum("lpabc,hc->lpahb", s, c["H"])
    return Factors(c["U"].mT[None, None], (sh @ c["V"].mT).flatten(3))


def _cp_att(c: Cores) -> Factors:
    return Factors(c["U"].mT, torch.einsum("lphr,lpkr->lprhk", c["H"], c["V"]).flatten(3))


def _cp_qkv(c: Cores) -> Factors:
    return Factors(c["U"].mT[:, None], c["P"][..., None] * c["V"].mT[:, None])


def _cp_depth(c: Cores) -> Factors:
    return Factors(c["U"].mT[None], c["D"].transpose(0, 1)[..., None] * c["V"].mT)


def _cp_att_qkv(c: Cores) -> Factors:
    heads = torch.einsum("lhr,lkr->lrhk", c["H"], c["V"]).flatten(2)
    return Factors(c["U"].mT[:, None], c["P"][..., None] * heads[:, None])


def _cp_att_depth(c: Cores) -> Factors:
    heads = torch.einsum("phr,pkr->prhk", c["H"], c["V"]).flatten(2)
    return Factors(c["U"].mT[None], c["D"].transpose(0, 1)[..., None] * heads)


def _cp_qkv_depth(c: Cores) -> Factors:
    sites = c["D"][:, None] * c["P"]
    return Factors(c["U"].mT[None, None], sites[..., None] * c["V"].mT)


def _cp_att_qkv_depth(c: Cores) -> Factors:
    heads = torch.einsum("hr,kr->rhk", c["H"], c["V"]).flatten(1)
    sites = c["D"][:, None] * c["P"]
    return Factors(c["U"].mT[None, None], sites[..., None] * heads)


#: Family -> the two matrices of every site.
FACTORS: Mapping[str, Callable[..., Factors]] = {
    "lora": _lora,
    "lotr": _lotr,
    "fact_tt": _fact_tt,
    "fact_tk": _fact_tk,
    "metatt4": _metatt4,
    "lorta": _lorta,
    "vera": _vera,
    "tied_lora": _vera,
    "loha": _loha,
    "tt_lora": _tt_lora,
    "tenslora.att": _att,
    "tenslora.qkv": _qkv,
    "tenslora.depth": _depth,
    "tenslora.att_qkv": _att_qkv,
    "tenslora.att_depth": _att_depth,
    "tenslora.qkv_depth": _qkv_depth,
    "tenslora.att_qkv_depth": _att_qkv_depth,
    "tenslora_cp.att": _cp_att,
    "tenslora_cp.qkv": _cp_qkv,
    "tenslora_cp.depth": _cp_depth,
    "tenslora_cp.att_qkv": _cp_att_qkv,
    "tenslora_cp.att_depth": _cp_att_depth,
    "tenslora_cp.qkv_depth": _cp_qkv_depth,
    "tenslora_cp.att_qkv_depth": _cp_att_qkv_depth,
}


class Group(torch.autograd.Function):
    """Linears that read one x, and their updates, with a backward of its own.

    Inputs: x (n, in); A (ranks of all, in); for each linear the rows of A that it reads; W and b of
    each; B (rank, out) of each. Saved are x, A, B and the thin product A x.
    """

    @staticmethod
    def forward(ctx, x, a, rows, weights, biases, *bs):  # type: ignore[no-untyped-def]
        ht = a @ x.mT
        outputs = []
        for (start, stop), weight, bias, b in zip(rows, weights, biases, bs, strict=True):
            out = functional.linear(x, weight, bias)
            outputs.append(out.addmm_(ht[start:stop].mT, b))
        ctx.rows, ctx.weights = rows, weights
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, a, ht, *bs)
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        x, a, ht, *bs = ctx.saved_tensors
        thin: dict[tuple[int, int], Tensor] = {}  # the gradient of each range of A x
        grad_bs, dx = [], None
        for n, ((start, stop), g) in enumerate(zip(ctx.rows, grads, strict=True)):
            grad_bs.append(ht[start:stop] @ g if ctx.needs_input_grad[5 + n] else None)
            known = thin.get((start, stop))
            thin[start, stop] = bs[n] @ g.mT if known is None else known.addmm_(bs[n], g.mT)
            if ctx.needs_input_grad[0]:
                dx = g @ ctx.weights[n] if dx is None else dx.addmm_(g, ctx.weights[n])
        dht = next(iter(thin.values())) if len(thin) == 1 else torch.cat(list(thin.values()))
        if dx is not None:
            dx.addmm_(dht.mT, a)
        da = dht @ x if ctx.needs_input_grad[1] else None
        return (dx, da, None, None, None, *grad_bs)


def plain_group(x, a, rows, weights, biases, *bs):  # type: ignore[no-untyped-def]
    """The same by operations that autograd knows."""
    h = functional.linear(x, a)
    ranges = sorted(set(rows))
    pieces = h.split([stop - start for start, stop in ranges], -1) if len(ranges) > 1 else (h,)
    thin = dict(zip(ranges, pieces, strict=True))
    return tuple(
        torch.addmm(functional.linear(x, weight, bias), thin[at], b)
        for at, weight, bias, b in zip(rows, weights, biases, bs, strict=True)
    )


FORMS: Mapping[str, Callable[..., Any]] = {"function": Group.apply, "plain": plain_group}


class HandWritten:
    """Runs q, k and v of a layer as one group; the first that is called computes all three."""

    def __init__(
        self,
        case: Case,
        model: nn.Module,
        banks: Mapping[str, tuple[Bank, str, Mapping[str, Tensor]]],
        form: str,
    ) -> None:
        self.form = FORMS[form]
        self.banks = banks
        self.modules = [[model.get_submodule(path) for path in row] for row in case.groups]
        self.where = {
            path: (key, layer, proj)
            for key, (bank, _, _) in banks.items()
            for layer, row in enumerate(bank.paths)
            for proj, path in enumerate(row)
        }
        self.paths = case.groups
        self.plans: list[tuple[Any, ...]] = []
        self.kept: list[tuple[Any, ...]] = []  # without gradients, for cores that do not change
        self.last: tuple[Tensor, tuple[Tensor, ...]] | None = None
        model.register_forward_pre_hook(self.hoist)
        model.register_forward_hook(self.forget)
        for layer, row in enumerate(self.modules):
            for n, module in enumerate(row):
                module.forward = partial(self.call, layer, n)  # type: ignore[method-assign]

    def hoist(self, *_: object) -> None:
        """Once a forward: the two matrices of every site, and the A of each layer."""
        if self.kept and not torch.is_grad_enabled():
            self.plans = self.kept
            return
        found = {}
        for key, (bank, family, cores) in self.banks.items():
            extra = {"projections": len(bank.paths[0])} if family.startswith("fact") else {}
            a, b = FACTORS[family](cores, **extra)
            scale = bank.bound.scale
            layers = len(bank.paths)
            thin = a.contiguous().unbind(0) * (layers if a.shape[0] == 1 else 1)
            wide = (b if scale == 1 else b * scale).flatten(0, 1).contiguous().unbind(0)
            found[key] = thin, wide
        self.plans = [self._layer(found, layer) for layer in range(len(self.paths))]
        self.kept = [] if torch.is_grad_enabled() else self.plans

    def _layer(self, found: Mapping[str, tuple[Any, Any]], layer: int) -> tuple[Any, ...]:
        pieces, rows, bs, start = [], [], [], 0
        offsets: dict[str, int] = {}
        for path in self.paths[layer]:
            key, _, proj = self.where[path]
            thin, wide = found[key]
            a = thin[layer]  # (proj or 1, rank, in)
            count, rank = a.shape[:2]
            if key not in offsets:
                offsets[key], start = start, start + count * rank
                pieces.append(a.flatten(0, 1))
            begin = offsets[key] + (proj * rank if count > 1 else 0)
            rows.append((begin, begin + rank))
            bs.append(wide[layer * len(self.banks[key][0].paths[0]) + proj])
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces), rows, bs

    def call(self, layer: int, n: int, x: Tensor) -> Tensor:
        if self.last is None or self.last[0] is not x:
            a, rows, bs = self.plans[layer]
            modules = self.modules[layer]
            weights, biases = [m.weight for m in modules], [m.bias for m in modules]
            flat = x.reshape(-1, x.shape[-1])
            outputs = self.form(flat, a, rows, weights, biases, *bs)
            self.last = x, tuple(out.view(*x.shape[:-1], -1) for out in outputs)
        return self.last[1][n]

    def forget(self, *_: object) -> None:
        self.last = None
        self.plans = []


def install(
    case: Case,
    model: nn.Module,
    banks: Mapping[str, tuple[Bank, str, Mapping[str, Tensor]]],
    form: str,
) -> None:
    """Run the adapted projections of ``model`` by hand-written code, "function" or "plain"."""
    HandWritten(case, model, banks, form)


def lokr_update(cores: Cores, x: Tensor, layer: int, proj: int) -> Tensor:
    """LoKr at one site: x is split, and each half meets its factor. Not of the form B A."""
    c, b, a = cores["C"][layer, proj], cores["B"][layer, proj], cores["A"][layer, proj]
    n, (o1, i1) = x.shape[0], c.shape
    h = (x.reshape(n * i1, -1) @ a.mT).view(n, i1, -1)
    return ((c @ h) @ b.mT).reshape(n, o1 * b.shape[0])
