"""``python -m benchmarks whole``: training steps of whole models, every construction in one
race.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable
from typing import Any

import torch

from benchmarks.cases import CONSTRUCTIONS, MODELS, Case
from benchmarks.checking import check_equal
from benchmarks.counters import EQUAL_PARAMETERS
from benchmarks.group import stepper
from benchmarks.results import save
from benchmarks.sides import make_side
from benchmarks.timing import Times, race

__all__ = ["main", "measure"]

_FEW = (
    "lora",
    "tenslora.att",
    "tenslora.qkv_depth",
    "tenslora.att_qkv_depth",
    "tenslora_cp.att_qkv_depth",
)


def measure(
    case: Case,
    families: Iterable[str],
    rank: int,
    rounds: int,
    budget: float,
    tolerance: float = 2e-3,
) -> list[dict[str, Any]]:
    """Race the frozen model and PEFT (both twice) with tenslora for every family.

    The three that run LoRA are compared first; other families are compared in ``group``.
    """
    sides = {name: make_side(name, case, "lora", rank) for name in _TWINS}
    for family in families:
        sides[family] = make_side("tenslora", case, family, rank)
    if "lora" in sides:
        check_equal(case, [sides[name] for name in ("PEFT", "hand", "lora")], tolerance)
    if "ViT" in case.name and "768" in case.name:
        for family, ranks in EQUAL_PARAMETERS.items():
            name = f"{family}, equal parameters"
            sides[name] = make_side("tenslora", case, family, ranks)
    steps = {name: stepper(case, side) for name, side in sides.items()}
    times = race(steps, rounds, budget=budget, warmup=1)
    return [_row(case, name, rank, times) for name in sides]


_TWINS = ("floor", "floor again", "PEFT", "PEFT again", "hand")


def _row(case: Case, name: str, rank: int, times: Times) -> dict[str, Any]:
    step, over = times.ratio(name, "PEFT"), times.overhead(name)
    part = times.part(name, "PEFT")
    return {
        "model": case.name,
        "tokens": case.tokens,
        "side": name,
        "rank": rank,
        "rounds": len(times.seconds[name]),
        "median": statistics.median(times.seconds[name]),
        "noise": times.noise(),
        "step": {"minima": step.minima, "paired": step.paired},
        "overhead": {"minima": over.minima, "paired": over.paired},
        "of_peft": {"minima": part.minima, "paired": part.paired},
    }


def main(args: argparse.Namespace) -> None:
    """Race each model; print and keep a row for each side."""
    torch.set_num_threads(1)
    options = {"device": "cpu", "dtype": torch.float32}
    rows: list[dict[str, Any]] = []
    plan: list[tuple[str, Iterable[str], int, float]]
    if args.smoke:
        plan = [("tiny", ("lora", "tenslora.qkv_depth"), 3, 1.0)]
    elif args.full:
        every = ("lora", *CONSTRUCTIONS)
        plan = [(name, every, 12, 1e9) for name in MODELS if "tiny" not in name]
    else:
        plan = [
            ("vit-small", ("lora", *CONSTRUCTIONS), 12, 150.0),
            ("deep", ("lora", *CONSTRUCTIONS), 12, 200.0),
            ("llama", _FEW, 20, 90.0),
            ("roberta-base", _FEW, 12, 120.0),
            ("vit-base", _FEW, 12, 150.0),
        ]
    for name, families, rounds, budget in plan:
        found = measure(MODELS[name](**options), families, 4, rounds, budget)
        rows += found
        show(found)
    if args.save:
        save("whole", args.command, rows, args.out)


def show(rows: Iterable[dict[str, Any]]) -> None:
    """Print one model's rows."""
    for n, row in enumerate(rows):
        if n == 0:
            print(
                f"{row['model']}, {row['tokens']} tokens, rank {row['rank']}, {row['rounds']} "
                f"rounds, twice the twins' gap {row['noise']:.1%}"
            )
        step, over, part = row["step"], row["overhead"], row["of_peft"]
        print(
            f"  {row['side']:44} {row['median']:8.3f} s  of PEFT's step {step['minima']:.3f} "
            f"{step['paired']:.3f}  over the floor {over['minima']:+6.1%} {over['paired']:+6.1%}  "
            f"of PEFT's {part['minima']:5.2f} {part['paired']:5.2f}",
            flush=True,
        )
