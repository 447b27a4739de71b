"""``python -m benchmarks memory``: what a training step holds, one process a variant."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from benchmarks.results import save

__all__ = ["main", "measure"]

_VARIANTS = (
    ("floor", "lora"),
    ("floor again", "lora"),
    ("PEFT", "lora"),
    ("tenslora", "lora"),
    ("hand", "lora"),
    ("tenslora", "tenslora.att"),
    ("tenslora", "tenslora.qkv_depth"),
    ("tenslora", "tenslora.att_qkv_depth"),
    ("tenslora", "tenslora_cp.att_qkv_depth"),
    ("tenslora", "lotr"),
    ("rebuild", "tenslora.qkv_depth"),
)


def measure(model: str, side: str, family: str, rank: int) -> dict[str, Any]:
    """In this process: the high-water mark after two steps, and the bytes saved for backward."""
    import torch

    from benchmarks.cases import MODELS
    from benchmarks.counting import count_step
    from benchmarks.sides import make_side
    from tenslora.integrations import stamp

    torch.set_num_threads(1)
    case = MODELS[model](device="cpu", dtype=torch.float32)
    made = make_side(side, case, family, rank)
    before = stamp.memory()
    for _ in range(2):
        case.step(made.model)
        case.clear(made.model)
    peak = stamp.peak_memory()
    counts, _ = count_step(case, made)
    return {
        "model": case.name,
        "tokens": case.tokens,
        "side": side,
        "family": "" if side.startswith("floor") else family,
        "rank": rank,
        "before": before,
        "peak": peak,
        "saved": counts.saved,
    }


def main(args: argparse.Namespace) -> None:
    """Start one process a variant; print and keep a row for each."""
    names = ["tiny"] if args.smoke else ["vit-base", "llama"] if args.full else ["vit-small"]
    variants = _VARIANTS[2:4] if args.smoke else _VARIANTS
    rows = []
    for model in names:
        for side, family in variants:
            row = _in_process(model, side, family, 4)
            rows.append(row)
            first = next(r for r in rows if r["model"] == row["model"])
            print(
                f"{row['model']:16} {side:12} {row['family']:28} "
                f"peak {row['peak'] / 2**20:8.1f} MB "
                f"({(row['peak'] - first['peak']) / 2**20:+7.1f})  saved over the floor "
                f"{(row['saved'] - first['saved']) / 2**20:+8.2f} MB",
                flush=True,
            )
    if args.save:
        save("memory", args.command, rows, args.out)


def _in_process(model: str, side: str, family: str, rank: int) -> dict[str, Any]:
    code = (
        "import json, sys; from benchmarks.memory import measure; "
        "model, side, family, rank = sys.argv[1:]; "
        "print(json.dumps(measure(model, side, family, int(rank))))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, model, side, family, str(rank)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{side} of {family} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
