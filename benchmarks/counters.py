"""``python -m benchmarks counters``: exact costs of every construction, against PEFT's
LoRA.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.cases import CONSTRUCTIONS, MODELS, Case, stack_case
from benchmarks.counting import Counts, count_step
from benchmarks.hand import FACTORS
from benchmarks.results import save
from benchmarks.sides import make_side

__all__ = ["FAMILIES", "QUANTITIES", "compare", "main"]

#: What is counted, in the order of the tables.
QUANTITIES = ("flops", "calls", "nbytes", "saved")

#: The sides that are ours.
OURS = ("tenslora", "tenslora, recompute")

#: The constructions, and the other families of the catalogue that are measured.
FAMILIES = (
    "lora",
    *CONSTRUCTIONS,
    *(name for name in FACTORS if name != "lora" and not name.startswith("tenslora")),
    "lokr",
)


def compare(
    case: Case, families: Iterable[str], ranks: int | Mapping[str, int], sides: Iterable[str]
) -> Iterator[dict[str, Any]]:
    """Count the sides of each family over the floor, with ratios to PEFT's LoRA of the same rank.

    Yields
    ------
    dict
        ``family``, ``side``, ``extra`` (over the floor) and ``ratio`` (to PEFT's extra).
    """
    floor, _ = count_step(case, make_side("floor", case))
    rank = ranks if isinstance(ranks, int) else 4
    peft = count_step(case, make_side("PEFT", case, "lora", rank))[0] - floor
    yield _row(case, "floor", "", 0, floor, floor)
    yield _row(case, "PEFT", "lora", rank, peft, peft)
    for family in families:
        for side in sides:
            if side == "rebuild" and not family.startswith("tenslora"):
                continue
            found, _ = count_step(case, make_side(side, case, family, ranks))
            yield _row(case, side, family, ranks, found - floor, peft)


def _row(
    case: Case, side: str, family: str, ranks: object, extra: Counts, base: Counts
) -> dict[str, Any]:
    ratio = {q: getattr(extra, q) / max(1, getattr(base, q)) for q in QUANTITIES}
    return {
        "model": case.name,
        "tokens": case.tokens,
        "family": family,
        "rank": ranks,
        "side": side,
        "extra": extra.to_dict(),
        "ratio": ratio,
    }


def main(args: argparse.Namespace) -> None:
    """Count on the meta device: the whole of it is exact, whatever else the machine does."""
    rows = []
    for row in _smoke() if args.smoke else _every():
        rows.append(row)
        cells = "  ".join(f"{q} {row['ratio'][q]:7.3f}" for q in QUANTITIES)
        name = f"{row['model']:22} {row['family']:28} {row['side']:12} {row['rank']!s:>3}"
        print(f"{name}  {cells}", flush=True)
    if args.save:
        save("counters", args.command, rows, args.out)


def _smoke() -> Iterator[dict[str, Any]]:
    yield from compare(stack_case(2, 64, 10, device="meta"), ("lora",), 4, ("tenslora",))


def _every() -> Iterator[dict[str, Any]]:
    import torch

    made = {"device": "meta", "dtype": torch.float32}
    case = MODELS["vit-base"](**made)
    for rank in (4, 8, 16):
        sides = (*OURS, "hand", "rebuild") if rank == 4 else ("tenslora", "hand")
        yield from compare(case, FAMILIES, rank, sides)
    for family, ranks in EQUAL_PARAMETERS.items():
        yield from list(compare(case, (family,), ranks, ("tenslora", "hand")))[2:]
    for name in ("llama", "roberta-base", "deep"):
        yield from compare(MODELS[name](**made), ("lora", *CONSTRUCTIONS), 4, OURS)


#: The ranks at which two constructions have about the parameters of LoRA of rank 4 (12 x 768).
EQUAL_PARAMETERS: Mapping[str, Mapping[str, int]] = {
    "tenslora.qkv_depth": {"a": 76, "b": 76, "c": 3, "d": 6},
    "tenslora.att_qkv_depth": {"a": 96, "b": 20, "c": 6, "d": 3, "e": 4},
}
