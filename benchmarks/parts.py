"""``python -m benchmarks parts``: one layer alone, and each of twelve.

The group of ``python -m benchmarks group`` is one layer, which pays alone for all that is done once
a forward: hooks on the model, and A and B from the cores. Here the same stack is timed with one
layer and with twelve. Two sides are no adapters, but what one made of hooks costs at least: hooks
that do nothing, and, without gradients, hooks that do only the products, with A and B at hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.cases import Case, draw_values, resolve, stack_case
from benchmarks.checking import check_equal
from benchmarks.group import stepper
from benchmarks.hand import FACTORS
from benchmarks.results import save
from benchmarks.sides import Side, make_side
from benchmarks.timing import race

__all__ = ["main", "measure"]

#: Tokens, and whether it trains.
_CASES = ((4, False), (394, False), (16, True), (394, True))
_FAMILIES = ("lora", "tenslora.att_qkv_depth")

#: For so few rows the one way of the thin product is the faster one, for more the other.
_WIDE = 8


class _Empty:
    """Does nothing, where torch expects something."""

    def __call__(self, *_: Any) -> None:
        return None


class _Products:
    """Adds the update of one projection, without asking anything."""

    def __init__(self, thin: list[Tensor], a: Tensor | None, rows: slice, b: Tensor) -> None:
        self.thin, self.a, self.rows, self.b = thin, a, rows, b

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], _: Any, out: Tensor) -> Tensor:
        if self.a is not None:
            x, a = args[0], self.a
            self.thin[:] = [functional.linear(x, a) if len(x) <= _WIDE else (a @ x.mT).mT]
        return out.addmm_(self.thin[0][:, self.rows], self.b)


def _hooked(case: Case, name: str, hooks: Mapping[str, Callable[..., Any]]) -> Side:
    """The frozen model with hooks where ours has them."""
    side = make_side("floor", case)
    side.model.register_forward_pre_hook(_Empty())
    side.model.register_forward_hook(_Empty(), always_call=True)
    for path, hook in hooks.items():
        side.model.get_submodule(path).register_forward_hook(hook, with_kwargs=True)
    return Side(name, side.model, dict)


def _products(case: Case, family: str, rank: int) -> dict[str, Callable[..., Any]]:
    """For each projection a hook with its products; the first of a layer reads x for all."""
    (bank,) = case.banks(resolve(family), rank).values()
    weight = next(case.model.parameters())
    with torch.no_grad():
        a, b = FACTORS[family](draw_values(bank, weight.device, weight.dtype))
    hooks: dict[str, Callable[..., Any]] = {}
    for layer, row in enumerate(case.groups):
        held = a[layer if a.shape[0] > 1 else 0]  # (projections or 1, rank, in)
        apart, width = held.shape[0] > 1, held.shape[1]
        thin: list[Tensor] = []
        whole = held.flatten(0, 1).contiguous()
        for n, path in enumerate(row):
            start = n * width if apart else 0
            scaled = (b[layer, n] * bank.bound.scale).contiguous()
            rows = slice(start, start + width)
            hooks[path] = _Products(thin, None if n else whole, rows, scaled)
    return hooks


def _sides(case: Case, family: str, rank: int, *, train: bool) -> dict[str, Side]:
    paths = [path for row in case.groups for path in row]
    sides = {name: make_side(name, case) for name in ("floor", "floor again")}
    sides["empty hooks"] = _hooked(case, "empty hooks", dict.fromkeys(paths, _Empty()))
    if not train:
        sides["products in hooks"] = _hooked(
            case, "products in hooks", _products(case, family, rank)
        )
    sides["PEFT"] = make_side("PEFT", case, "lora", rank)
    for name in ("tenslora", "hand"):
        sides[name] = make_side(name, case, family, rank)
    return sides


def measure(
    tokens: int,
    family: str,
    rank: int,
    *,
    train: bool,
    layers: tuple[int, int] = (1, 12),
    width: int = 768,
    rounds: int,
    budget: float,
    tolerance: float = 2e-3,
) -> dict[str, Any]:
    """Time a stack with few and with many layers: microseconds of each side beyond the floor."""
    found: list[dict[str, float]] = []
    noises = []
    for count in layers:
        case = stack_case(count, width, tokens)
        sides = _sides(case, family, rank, train=train)
        equal = ("hand", "tenslora", "PEFT") if family == "lora" else ("hand", "tenslora")
        check_equal(case, [sides[name] for name in equal], tolerance)
        if not train:
            _check_outputs(case, sides["products in hooks"], sides["tenslora"], tolerance)
        steps = {name: stepper(case, side, train=train) for name, side in sides.items()}
        times = race(steps, rounds, budget=budget)
        found.append({name: 1e6 * times.beyond(name) for name in sides if name != "floor"})
        noises.append(times.noise())
    few, many = found
    return {
        "tokens": tokens,
        "width": width,
        "family": family,
        "rank": rank,
        "mode": "step" if train else "inference",
        "layers": list(layers),
        "rounds": len(times.seconds["floor"]),
        "noise": max(noises),
        "sides": {side: {"few": few[side], "many": many[side]} for side in few},
    }


def _check_outputs(case: Case, side: Side, other: Side, tolerance: float) -> None:
    with torch.no_grad():
        for one, two in zip(case.run(side.model), case.run(other.model), strict=True):
            torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance)


def main(args: argparse.Namespace) -> None:
    """Measure each case; print and keep a row for each."""
    torch.set_num_threads(1)
    rows = []
    for family in _FAMILIES:
        for tokens, train in _CASES[:1] if args.smoke else _CASES:
            if args.smoke:
                tiny: Any = {"width": 64, "layers": (1, 2), "rounds": 3, "budget": 1.0}
                row = measure(tokens, family, 3, train=train, **tiny)
            else:
                row = measure(tokens, family, 4, train=train, rounds=args.rounds, budget=30.0)
            rows.append(row)
            show(row)
    if args.save:
        save("parts", args.command, rows, args.out)


def show(row: Mapping[str, Any]) -> None:
    """Print a row: what each side costs."""
    print(
        f"{row['width']} wide, {row['tokens']} tokens, {row['family']} {row['rank']}, {row['mode']}"
        f": {row['rounds']} rounds, twice the twins' gap {row['noise']:.1%}",
        flush=True,
    )
    few, many = row["layers"]
    for side, found in row["sides"].items():
        one, each = found["few"] / few, found["many"] / many
        print(f"  {side:20} {few} layer {one:8.0f} us, each of {many} {each:8.0f} us")
