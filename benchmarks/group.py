"""``python -m benchmarks group``: the q, k, v group of one layer, forward and backward, timed.

The unit is small (5 to 50 ms), so that every implementation can run many times side by side. What a
family computes once a forward for all its layers is paid by the one layer here.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from benchmarks.cases import Case, stack_case
from benchmarks.checking import check_equal
from benchmarks.counters import EQUAL_PARAMETERS, FAMILIES
from benchmarks.counting import count_step
from benchmarks.results import save
from benchmarks.sides import Side, make_side, sides_of
from benchmarks.timing import Times, race

__all__ = ["MAIN", "main", "measure", "stepper"]

#: The families that are measured over tokens, widths and ranks.
MAIN = ("lora", "lotr", "tenslora.qkv_depth", "tenslora.att_qkv_depth", "lorta")

#: Rebuilding the tensor takes long: it has a table of its own (``python -m benchmarks growth``).
_SLOW = ("rebuild",)


def stepper(case: Case, side: Side, *, train: bool = True) -> Callable[[], None]:
    """A training step of a side, or its forward without gradients.

    Gradients are dropped as an optimiser does it, without a walk through the modules.
    """
    trained = [*(p for p in side.model.parameters() if p.requires_grad), *case.inputs.values()]

    def step() -> None:
        case.step(side.model)
        for parameter in trained:
            parameter.grad = None

    def forward() -> None:
        with torch.no_grad():
            case.run(side.model)

    return step if train else forward


def measure(
    case: Case,
    family: str,
    ranks: int | Mapping[str, int],
    *,
    rounds: int,
    budget: float,
    train: bool = True,
    tolerance: float = 2e-3,
    sides: Iterable[str] | None = None,
) -> tuple[dict[str, Any], Times]:
    """Check that all sides agree, then race them with twins of the frozen model and of PEFT."""
    names = [s for s in (sides or sides_of(family)) if s not in _SLOW and s != "PEFT"]
    own = family in ("lora", "vera", "loha", "lokr")
    made = {name: make_side(name, case, family, ranks) for name in names}
    if own:
        made = {"PEFT": make_side("PEFT", case, family, ranks), **made}
    differences = check_equal(case, list(made.values()), tolerance)
    rank = ranks if isinstance(ranks, int) else 4
    racing = {name: make_side(name, case) for name in ("floor", "floor again")}
    for name in ("PEFT", "PEFT again"):
        racing[name] = make_side(name, case, "lora", rank)
    if family != "lora" and own:
        racing[f"PEFT {family}"] = made.pop("PEFT")
    racing.update({name: side for name, side in made.items() if name != "PEFT"})
    steps = {name: stepper(case, side, train=train) for name, side in racing.items()}
    times = race(steps, rounds, budget=budget)
    row = {
        "case": case.name,
        "width": case.model.get_submodule(case.groups[0][0]).in_features,
        "tokens": case.tokens,
        "family": family,
        "rank": ranks,
        "mode": "step" if train else "inference",
        "rounds": len(times.seconds["floor"]),
        "noise": times.noise(),
        "bound": _bound(case, racing) if train else None,
        "differences": differences,
        "sides": dict(_sides(times)),
    }
    return row, times


def _bound(case: Case, racing: Mapping[str, Side]) -> float:
    """The overhead that the FLOPs alone ask for, at the speed of the frozen model's."""
    floor, _ = count_step(case, racing["floor"])
    ours, _ = count_step(case, racing["hand" if "hand" in racing else "tenslora"])
    return (ours.flops - floor.flops) / floor.flops


def _sides(times: Times) -> Iterator[tuple[str, dict[str, Any]]]:
    for side, seconds in times.to_dict().items():
        over, part = times.overhead(side), times.part(side, "PEFT")
        step = times.ratio(side, "PEFT")
        yield (
            side,
            {
                **seconds,
                "overhead": {"minima": over.minima, "paired": over.paired},
                "of_peft": {"minima": part.minima, "paired": part.paired},
                "step": {"minima": step.minima, "paired": step.paired},
            },
        )


def _grid(full: bool) -> Iterator[tuple[Callable[[], Case], str, Any, bool]]:
    """Cases, family, ranks, whether it trains."""

    def case(width: int = 768, tokens: int = 394) -> Callable[[], Case]:
        return lambda: stack_case(1, width, tokens)

    for family in FAMILIES:
        yield case(), family, 4, True
    for family in MAIN:
        for rank in (8, 16, 76):
            yield case(), family, rank, True
    for family, ranks in EQUAL_PARAMETERS.items():
        yield case(), family, ranks, True
    for family in MAIN if full else ("lora", "tenslora.att_qkv_depth"):
        for tokens in (4, 16, 128, 1576, 8192):
            yield case(tokens=tokens), family, 4, True
        for width in (192, 384, 1536, 2048, 4096) if full else (192, 2048, 4096):
            yield case(width, 394 if width < 4096 else 128), family, 4, True
        for tokens in (4, 128, 394):
            yield case(tokens=tokens), family, 4, False


def main(args: argparse.Namespace) -> None:
    """Race over the grid; print and keep a row for each."""
    torch.set_num_threads(1)
    rows = []
    if args.smoke:
        tiny = lambda: stack_case(1, 64, 16, heads=4)  # noqa: E731
        grid = [(tiny, family, 3, True) for family in MAIN] + [(tiny, "lora", 3, False)]
        rounds, budget = 3, 1.0
    else:
        grid, rounds, budget = list(_grid(args.full)), args.rounds, math.inf if args.full else 30.0
    for make, family, ranks, train in grid:
        row, times = measure(make(), family, ranks, rounds=rounds, budget=budget, train=train)
        rows.append(row)
        show(row)
        del times
    if args.save:
        save("group", args.command, rows, args.out)


def show(row: Mapping[str, Any]) -> None:
    """Print a row: overhead over the floor, and over PEFT's LoRA."""
    head = f"{row['case']}, {row['family']} {row['rank']}, {row['mode']}: {row['rounds']} rounds, "
    bound = "" if row["bound"] is None else f", FLOP bound {row['bound']:+.1%}"
    print(f"{head}twice the twins' gap {row['noise']:.1%}{bound}", flush=True)
    for side, found in row["sides"].items():
        over, part = found["overhead"], found["of_peft"]
        print(
            f"  {side:22} {found['minimum'] * 1e3:9.3f} ms  over the floor {over['minima']:+7.1%} "
            f"{over['paired']:+7.1%}  of PEFT's {part['minima']:6.2f} {part['paired']:6.2f}"
        )
