"""``python -m benchmarks compiled``: the q, k, v group of one layer under ``torch.compile``.

Frozen, with PEFT's LoRA and with tenslora, each in eager mode and as one graph
(``fullgraph=True``). A compiled side is compared with its eager one before anything is timed, and
its overhead is that over the compiled frozen model. On a CPU torch's compiler writes C++: where
there is no compiler of that, compiled sides are left out, and the result says why.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from benchmarks.cases import Case, stack_case
from benchmarks.checking import check_equal
from benchmarks.group import stepper
from benchmarks.results import save
from benchmarks.sides import Side, make_side
from benchmarks.timing import Times, race

__all__ = ["main", "measure"]

_FAMILIES = ("lora", "tenslora.att_qkv_depth")
_SIDES = ("floor", "floor again", "PEFT", "PEFT again", "tenslora")


def measure(
    case: Case,
    family: str,
    rank: int,
    *,
    rounds: int,
    budget: float,
    backend: str = "inductor",
    tolerance: float = 2e-3,
) -> dict[str, Any]:
    """Compile, compare and race; ``failed`` says why a side could not be compiled."""

    def make(name: str) -> Side:
        return make_side(name, case, family if name in ("tenslora", "hand") else "lora", rank)

    sides = {name: make(name) for name in _SIDES}
    known = sides["PEFT"] if family == "lora" else make("hand")
    differences = check_equal(case, [known, sides["tenslora"]], tolerance)
    seconds, failed = {}, {}
    torch.compiler.reset()  # all sides are graphs of one forward, and torch keeps eight of those
    try:
        for name in _SIDES:
            side = _renamed(make(name))
            try:
                seconds[side.name] = _compile(case, side, backend)
            except RuntimeError as error:  # one that cannot be compiled is reported
                failed[side.name] = str(error).strip().splitlines()[0]
                continue
            differences |= check_equal(case, [sides[name], side], tolerance)
            sides[side.name] = side
        steps = {name: stepper(case, side) for name, side in sides.items()}
        times = race(steps, rounds, budget=budget)
    finally:
        torch.compiler.reset()
    return {
        "case": case.name,
        "family": family,
        "rank": rank,
        "backend": backend,
        "rounds": len(times.seconds["floor"]),
        "noise": times.noise(),
        "differences": differences,
        "compiling": seconds,
        "failed": failed,
        "sides": dict(_sides(times)),
    }


def _renamed(side: Side) -> Side:
    """Twins still end in "again"."""
    name, twin, _ = side.name.partition(" again")
    return replace(side, name=f"{name} compiled{twin}")


def _compile(case: Case, side: Side, backend: str) -> float:
    """Compile a side and run its first step: the seconds that this takes."""
    compiler = os.environ.get("CXX", "g++")
    if backend == "inductor" and shutil.which(compiler) is None:
        raise RuntimeError(f"no C++ compiler: {compiler} is not found")
    side.model.compile(fullgraph=True, dynamic=False, backend=backend)
    start = time.monotonic()
    case.step(side.model)
    case.clear(side.model)
    return time.monotonic() - start


def _sides(times: Times) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each side against eager PEFT, and its overhead against the floor and PEFT of its own mode."""
    for side, found in times.to_dict().items():
        mode = " compiled" if " compiled" in side else ""
        step = times.ratio(side, "PEFT")
        row: dict[str, Any] = {**found, "step": {"minima": step.minima, "paired": step.paired}}
        floor, peft = f"floor{mode}", f"PEFT{mode}"
        if {floor, peft} <= times.seconds.keys():
            over, part = times.overhead(side, floor), times.part(side, peft, floor)
            row["overhead"] = {"minima": over.minima, "paired": over.paired}
            row["of_peft"] = {"minima": part.minima, "paired": part.paired}
        yield side, row


def main(args: argparse.Namespace) -> None:
    """Race each family and rank; print and keep a row for each."""
    torch.set_num_threads(1)
    rows = []
    for family in _FAMILIES[:1] if args.smoke else _FAMILIES:
        for rank in (3,) if args.smoke else (4, 16):
            if args.smoke:  # capturing is tried, not what torch's compiler makes of it: minutes
                case = stack_case(1, 64, 16, heads=4)
                row = measure(case, family, rank, rounds=3, budget=1.0, backend="eager")
            else:
                case = stack_case(1, 768, 394)
                row = measure(case, family, rank, rounds=args.rounds, budget=90.0)
            rows.append(row)
            show(row)
    if args.save:
        save("compiled", args.command, rows, args.out)


def show(row: Mapping[str, Any]) -> None:
    """Print a row: each side, and what was not compiled."""
    print(
        f"{row['case']}, {row['family']} {row['rank']}, {row['backend']}: {row['rounds']} rounds, "
        f"twice the twins' gap {row['noise']:.1%}",
        flush=True,
    )
    for side, found in row["sides"].items():
        over, part, step = (found.get(key) for key in ("overhead", "of_peft", "step"))
        line = f"  {side:22} {found['minimum'] * 1e3:9.3f} ms  of eager PEFT's step "
        line += f"{step['minima']:.3f} {step['paired']:.3f}"
        if over is not None:
            line += f"  over the floor {over['minima']:+7.1%} {over['paired']:+7.1%}"
            line += f"  of PEFT's {part['minima']:6.2f} {part['paired']:6.2f}"
        if side in row["compiling"]:
            line += f"  compiled in {row['compiling'][side]:.0f} s"
        print(line)
    for side, reason in row["failed"].items():
        print(f"  {side:22} not compiled: {reason}")
