"""``python -m benchmarks.gpu``: the table on a GPU in bfloat16, with the card's own roofline.

At 4,096 to 16,384 tokens and widths 2048 and 4096 with narrow keys and values, the q, k, v group
of one layer runs forward and backward: frozen, with PEFT's LoRA (both twice), tenslora, and by
hand. Each step is captured in a CUDA graph (or compiled with ``--compile``), so that what is
measured is the card. In the same run the card's speed of matrix products and of memory is
measured, which gives each side a bound.

    python -m benchmarks.gpu                    # the table; under 8 minutes
    python -m benchmarks.gpu --device cpu       # tiny sizes on a CPU: does everything run?
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.cases import Case, stack_case
from benchmarks.checking import check_equal
from benchmarks.counting import Counts, count_step
from benchmarks.results import save
from benchmarks.sides import Side, make_side
from benchmarks.timing import Times, race

__all__ = ["main", "roofline"]

_FAMILIES = ("lora", "tenslora.qkv_depth", "tenslora.att_qkv_depth", "lotr")
_SIDES = ("floor", "floor again", "PEFT", "PEFT again", "tenslora", "hand", "hand, plain autograd")

#: width, width of keys and values, tokens
_SIZES = tuple((d, n, t) for d, n in ((2048, 512), (4096, 1024)) for t in (4096, 8192, 16384))


class Clock:
    """Seconds of the device: events on a GPU, processor time on a CPU."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")

    def __call__(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()


def roofline(device: str, dtype: torch.dtype) -> dict[str, float]:
    """Measure what the card gives: FLOPs a second of a large product, bytes a second of a copy."""
    clock = Clock(device)
    size, length = (8192, 2**28) if clock.cuda else (512, 2**22)
    a = torch.randn(size, size, device=device, dtype=dtype)
    source = torch.empty(length, device=device, dtype=dtype)
    target = torch.empty_like(source)
    best = []
    for action in (lambda: a @ a, lambda: target.copy_(source)):
        found = []
        for _ in range(10):
            start = clock()
            for _ in range(10 if clock.cuda else 1):
                action()
            found.append((clock() - start) / (10 if clock.cuda else 1))
        best.append(min(found))
    return {
        "flops_per_second": 2 * size**3 / best[0],
        "bytes_per_second": 2 * length * source.element_size() / best[1],
    }


def bound(counts: Counts, speed: dict[str, float]) -> float:
    """The least time of what was counted, if products and memory took turns."""
    return counts.flops / speed["flops_per_second"] + counts.nbytes / speed["bytes_per_second"]


def _graphed(case: Case, side: Side, compiled: bool) -> Callable[[], None]:
    """A step as one CUDA graph; gradients stay in place and are overwritten."""
    model = side.model
    if compiled:
        run = torch.compile(model, dynamic=False)

        def step() -> None:
            torch.autograd.backward(run(**case.inputs), case.cotangents)
            case.clear(model)

        return step

    def plain() -> None:
        case.step(model)
        case.clear(model)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            plain()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        plain()
    return graph.replay


def _eager(case: Case, side: Side, compiled: bool) -> Callable[[], None]:
    def step() -> None:
        case.step(side.model)
        case.clear(side.model)

    return step


def measure(
    case: Case, family: str, rank: int, device: str, rounds: int, compiled: bool, tolerance: float
) -> tuple[Times, dict[str, Counts], dict[str, str]]:
    """Check, capture and race one family; also the counts of each side, and what failed."""
    sides = {}
    for name in _SIDES:
        own = "tenslora" if name == "tenslora" or name.startswith("hand") else "lora"
        sides[name] = make_side(name, case, family if own == "tenslora" else "lora", rank)
    equal = [side for name, side in sides.items() if name == "tenslora" or name.startswith("hand")]
    check_equal(case, equal, tolerance)
    counts = {name: count_step(case, side)[0] for name, side in sides.items()}
    make = _graphed if device.startswith("cuda") else _eager
    steps, failed = {}, {}
    for name, side in sides.items():
        try:
            steps[name] = make(case, side, compiled)
        except RuntimeError as error:  # noqa: PERF203 (one that cannot be captured is reported)
            failed[name] = str(error).splitlines()[0]
    times = race(
        steps, rounds, clock=Clock(device), least=1e-2 if device.startswith("cuda") else 1e-3
    )
    return times, counts, failed


def _rows(
    case: Case,
    family: str,
    rank: int,
    result: tuple[Times, dict[str, Counts], dict[str, str]],
    speed: dict[str, float],
) -> Iterator[dict[str, Any]]:
    times, counts, failed = result
    for side in counts:
        row: dict[str, Any] = {"case": case.name, "family": family, "rank": rank, "side": side}
        row["bound"] = bound(counts[side] - counts["floor"], speed)
        if side in failed:
            yield {**row, "failed": failed[side]}
            continue
        over, part = times.overhead(side), times.part(side, "PEFT")
        yield {
            **row,
            "seconds": min(times.seconds[side]),
            "noise": times.noise(),
            "overhead": {"minima": over.minima, "paired": over.paired},
            "of_peft": {"minima": part.minima, "paired": part.paired},
        }


def main(args: argparse.Namespace) -> int:
    """Measure; print and keep a row for each side."""
    device = args.device or "cuda"
    cuda = device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        print("no GPU is visible to torch; --device cpu runs tiny sizes on the processor")
        return 2
    dtype = torch.bfloat16
    speed = roofline(device, dtype)
    print(
        f"roofline: {speed['flops_per_second'] / 1e12:.3g} TFLOP/s, "
        f"{speed['bytes_per_second'] / 1e9:.4g} GB/s"
    )
    sizes = _SIZES if cuda else ((64, 32, 32),)
    rows, start = [], time.monotonic()
    for width, narrow, tokens in sizes:
        case = stack_case(1, width, tokens, narrow=narrow, device=device, dtype=dtype)
        for family in _FAMILIES if cuda else _FAMILIES[:2]:
            for rank in (16, 64) if family == "lora" and cuda else (16,) if cuda else (2,):
                rounds = 20 if cuda else 3
                compiled = getattr(args, "compile", False)
                found = measure(case, family, rank, device, rounds, compiled, 5e-2)
                new = list(_rows(case, family, rank, found, speed))
                rows += new
                _show(new)
        print(f"{time.monotonic() - start:.0f} s", flush=True)
    if args.save:
        save("gpu", args.command, rows, args.out, roofline=speed)
    return 0


def _show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        head = f"{row['case']:26} {row['family']:24} r={row['rank']:<3} {row['side']:22}"
        if "failed" in row:
            print(f"{head} not captured: {row['failed']}")
            continue
        over, part = row["overhead"], row["of_peft"]
        print(
            f"{head} {row['seconds'] * 1e3:8.3f} ms  over the floor {over['minima']:+6.1%} "
            f"{over['paired']:+6.1%}  of PEFT's {part['minima']:5.2f} {part['paired']:5.2f}  "
            f"bound {row['bound'] * 1e3:.3f} ms"
        )


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action="store_true", help="torch.compile, not CUDA graphs")
    parser.add_argument("--no-save", dest="save", action="store_false")
    parser.add_argument("--out", help="folder of results (default: benchmarks/results)")
    args = parser.parse_args(argv)
    args.command = " ".join(["python -m benchmarks.gpu", *argv])
    if args.device == "cpu" and not args.out:
        args.save = False
    return args


if __name__ == "__main__":
    sys.exit(main(_parse(sys.argv[1:])))
