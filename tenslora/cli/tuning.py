"""The command that measures a machine for the planner."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from tenslora.cli.command import Answer, Command, Parser
from tenslora.cli.output import table
from tenslora.errors import UsageError

__all__ = ["COMMANDS"]

_DTYPES = ("float32", "bfloat16", "float16", "float64")


def _fill_tune(parser: Parser) -> None:
    add = parser.add_argument
    add("out", nargs="?", metavar="FILE", help="where the profile goes; ends in .json")
    add("--device", default="cpu", metavar="DEVICE", help="cpu (default), cuda, mps, ...")
    add("--dtype", default="float32", choices=_DTYPES, help="of the numbers (default: float32)")
    add("--name", metavar="NAME", help="of the profile (default: device and dtype)")


def _run_tune(args: Namespace) -> Answer:
    path = None if args.out is None else Path(args.out)
    if path is not None and path.suffix != ".json":
        what = f"a profile is kept in a file that ends in .json, and {args.out} does not"
        raise UsageError("E801", what, advice=f"Say {path.with_suffix('.json')}.")
    import torch

    from tenslora.nn.tuning import describe, tune
    from tenslora.plan import profile_to_json

    profile = tune(args.device, getattr(torch, args.dtype), name=args.name)
    data = profile_to_json(profile, describe(args.device))
    if path is not None:
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    speed = profile.flops_per_second or 0.0
    rows = [
        ("profile", profile.name if path is None else f"{profile.name}, in {path}"),
        ("matrix product", f"{speed / 1e9:,.1f} GFLOP/s"),
        ("memory", f"{speed / profile.flops_per_byte / 1e9:,.1f} GB/s"),
        ("an operation", f"{profile.flops_per_call / speed * 1e6:,.2f} microseconds"),
        ("balance", f"{profile.flops_per_byte:,.1f} FLOPs in the time of a byte"),
    ]
    return Answer(lambda: data, lambda: table(rows))


COMMANDS = (
    Command(
        "tune",
        "Measure this machine, for the planner: a profile to be named by --profile",
        _fill_tune,
        _run_tune,
        extra="torch",
        needs=("torch",),
        epilog="example:\n  tenslora tune here.json && tenslora plan lora rank=8 "
        "layer=12 proj=3 in=768 out=768 --profile here.json",
    ),
)
