"""``python -m benchmarks growth``: exponents of the adapter's part, and what rebuilding costs.

The adapter's part is the time of a step beyond the frozen model's in the same round, the median
over the rounds: a few per cent of a step, so that many rounds are needed. An exponent is the
slope of its logarithm over that of a size. A side that rebuilds the tensor at every site takes
minutes a step on a deep model; it is timed at one site and multiplied by the number of sites,
each of which does the same.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.cases import CONSTRUCTIONS, resolve, stack_case
from benchmarks.checking import check_equal
from benchmarks.group import stepper
from benchmarks.naive import rebuild
from benchmarks.results import save
from benchmarks.sides import make_side
from benchmarks.timing import race

__all__ = ["exponent", "main", "rebuild_part"]

#: Of results, relative, in the 2-norm.
_TOLERANCE = 2e-3

_FAMILIES = ("lora", "tenslora.qkv_depth", "tenslora.att_qkv_depth")

#: What grows, and where: layers, width, tokens, rank.
_AXES: Mapping[str, Sequence[tuple[int, int, int, int]]] = {
    "layers": [(n, 192, 394, 4) for n in (6, 12, 24, 48)],
    "width": [(6, d, 394, 4) for d in (192, 384, 768)],
    "tokens": [(6, 384, n, 4) for n in (197, 394, 788, 1576)],
    "rank": [(6, 384, 394, r) for r in (4, 8, 16, 32)],
}


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of a straight line through the logarithms, by least squares.

    >>> round(exponent([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    x, y = [math.log(v) for v in sizes], [math.log(v) for v in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return over / sum((a - mean_x) ** 2 for a in x)


def rebuild_part(family: str, layers: int, width: int, tokens: int, rank: int) -> float:
    """Seconds of a step for rebuilding at every site, from one site's forward and backward."""
    case = stack_case(1, width, tokens, heads=max(1, width // 64))
    bound_case = stack_case(layers, width, 1, heads=case.heads, device="meta")
    bank = next(iter(bound_case.banks(resolve(family), rank).values()))
    generator = torch.Generator().manual_seed(0)
    cores = {
        name: torch.randn(shape, generator=generator).requires_grad_()
        for name, shape in bank.bound.shapes.items()
    }
    x = torch.randn(tokens, width, generator=generator).requires_grad_()
    grad = torch.randn(tokens, width, generator=generator)
    place = dict.fromkeys(bank.bound.network.sites, 0)
    # a site that is not aggregated has a tensor of its own: its parameters are separate leaves
    network = bank.bound.network
    apart = {s for s in network.sites if all(s in c.indices for c in network.cores.values())}
    cores = {n: _own(c, network.cores[n].indices, apart) for n, c in cores.items()}
    best = math.inf
    for _ in range(3):
        start = time.process_time()
        torch.autograd.backward(rebuild(bank, cores, place, x), grad)
        best = min(best, time.process_time() - start)
    return best * layers * 3


def _own(core: torch.Tensor, indices: Sequence[str], apart: set[str]) -> torch.Tensor:
    """The slice of one tensor of several, as the only one there is."""
    at = tuple(slice(0, 1) if index in apart else slice(None) for index in indices)
    return core.detach()[at].clone().requires_grad_()


def _parts(
    families: Sequence[str], size: tuple[int, int, int, int], rounds: int, budget: float
) -> dict[str, float]:
    """Seconds beyond the frozen model for each family, PEFT's LoRA first."""
    layers, width, tokens, rank = size
    case = stack_case(layers, width, tokens)
    sides = {"floor": make_side("floor", case), "PEFT": make_side("PEFT", case, "lora", rank)}
    for family in families:
        sides[family] = make_side("tenslora", case, family, rank)
    if "lora" in families:
        check_equal(case, [sides["PEFT"], sides["lora"]], _TOLERANCE)
    times = race({n: stepper(case, s) for n, s in sides.items()}, rounds, budget=budget)
    return {name: times.beyond(name) for name in sides if name != "floor"}


def _grow(rounds: int, budget: float, *, smoke: bool) -> list[dict[str, Any]]:
    rows = []
    for axis, sizes in (_SMOKE if smoke else _AXES).items():
        at = list(_AXES).index(axis)
        parts = [_parts(_FAMILIES, size, rounds, budget) for size in sizes]
        for name in parts[0]:
            values = [part[name] for part in parts]
            enough = min(values) > 0
            rows.append(
                {
                    "axis": axis,
                    "side": name,
                    "sizes": [size[at] for size in sizes],
                    "seconds": values,
                    "exponent": exponent([s[at] for s in sizes], values) if enough else None,
                }
            )
        if axis == "layers":
            for family in _FAMILIES[1:]:
                values = [rebuild_part(family, *size) for size in sizes]
                rows.append(
                    {
                        "axis": axis,
                        "side": f"{family}, rebuilt",
                        "sizes": [size[0] for size in sizes],
                        "seconds": values,
                        "exponent": exponent([s[0] for s in sizes], values),
                    }
                )
    return rows


_SMOKE: Mapping[str, Sequence[tuple[int, int, int, int]]] = {
    "layers": [(n, 64, 8, 2) for n in (2, 4)]
}


def _against_rebuilding(
    sizes: Sequence[tuple[int, int, int, int]], families: Sequence[str], rounds: int, budget: float
) -> list[dict[str, Any]]:
    """Our part and that of rebuilding, for each construction.

    Both compute the same: that is checked on the first layers alone, for rebuilding takes minutes.
    Where ours is no more than twice the twins' gap, that stands in for it: a bound of the ratio.
    """
    rows = []
    for size in sizes:
        layers, width, tokens, rank = size
        case = stack_case(layers, width, tokens)
        sides = {n: make_side(n, case) for n in ("floor", "floor again")}
        few = stack_case(min(layers, 2), width, tokens)
        for family in families:
            both = [make_side(name, few, family, rank) for name in ("rebuild", "tenslora")]
            check_equal(few, both, _TOLERANCE)
            sides[family] = make_side("tenslora", case, family, rank)
        times = race({n: stepper(case, s) for n, s in sides.items()}, rounds, budget=budget)
        gap = abs(times.beyond("floor again"))
        for family in families:
            ours = max(times.beyond(family), 2 * gap)
            theirs = rebuild_part(family, *size)
            rows.append(
                {
                    "layers": layers,
                    "width": width,
                    "tokens": tokens,
                    "rank": rank,
                    "rounds": len(times.seconds["floor"]),
                    "family": family,
                    "ours": ours,
                    "gap": gap,
                    "rebuilt": theirs,
                    "times": theirs / ours,
                }
            )
    return rows


def main(args: argparse.Namespace) -> None:
    """Measure growth and the side that rebuilds; print and keep."""
    torch.set_num_threads(1)
    rounds, budget = (3, 1.0) if args.smoke else (args.rounds, 1e9 if args.full else 25.0)
    rows = _grow(rounds, budget, smoke=args.smoke)
    for row in rows:
        slope = "" if row["exponent"] is None else f"{row['exponent']:.2f}"
        listed = ", ".join(f"{1e3 * value:.3g}" for value in row["seconds"])
        print(f"{row['axis']:8} {row['side']:36} exponent {slope:6} ms: {listed}", flush=True)
    tucker = [name for name in CONSTRUCTIONS if name.startswith("tenslora.")]
    if args.smoke:
        against = _against_rebuilding([(2, 64, 8, 2)], tucker[-1:], 3, 1.0)
    else:
        sizes = [(12, 768, 394, 4), (48, 768, 394, 4)] if args.full else [(12, 768, 394, 4)]
        against = _against_rebuilding(sizes, tucker, args.rounds, 150.0)
        if not args.full:
            deep = [name for name in tucker if name.endswith("qkv_depth")]
            against += _against_rebuilding([(48, 768, 394, 4)], deep, args.rounds, 150.0)
    for row in against:
        print(
            f"{row['layers']} x {row['width']}, {row['family']:26} ours "
            f"{row['ours'] * 1e3:8.2f} ms, rebuilt {row['rebuilt'] * 1e3:10.1f} ms: "
            f"{row['times']:8.1f} times",
            flush=True,
        )
    if args.save:
        save("growth", args.command, rows, args.out, against=against)
