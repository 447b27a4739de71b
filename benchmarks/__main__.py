"""``python -m benchmarks EXPERIMENT``: run one experiment, or write the tables."""

from __future__ import annotations

import argparse
import importlib
import sys

#: Experiment -> what it measures.
EXPERIMENTS = {
    "counters": "FLOPs, calls, bytes moved and saved, over the frozen model (exact; 1 min)",
    "group": "the q, k, v group of one layer: every implementation side by side (20 min)",
    "parts": "one layer alone, and each of twelve: adapters, and hooks that do less (5 min)",
    "compiled": "the same group under torch.compile, PEFT's and ours (10 min)",
    "whole": "training steps of whole models (20 min)",
    "memory": "high-water mark and saved bytes, one process a variant (4 min)",
    "handling": "import, plan, attach, save, load, merge (1 min)",
    "growth": "exponents in layers, width, tokens and rank; rebuilding at every site (15 min)",
    "trees": "the planner's order against the best that was measured (5 min)",
    "gpu": "all of it on a GPU in bfloat16, with the card's roofline (8 min)",
    "tables": "write the tables of README.md from the kept results (seconds)",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    width = max(map(len, EXPERIMENTS))
    listed = "\n".join(f"  {name:{width}}  {what}" for name, what in EXPERIMENTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measure what adapters cost.\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--full", action="store_true", help="the whole grid; hours")
    parser.add_argument("--rounds", type=int, default=40, help="rounds of a race (default: 40)")
    parser.add_argument("--no-save", dest="save", action="store_false", help="print only")
    parser.add_argument("--out", help="folder of results (default: benchmarks/results)")
    parser.add_argument("--device", default="", help="of gpu: cuda (default) or cpu")
    parser.add_argument("--check", action="store_true", help="of tables: fail if they would change")
    args = parser.parse_args(argv)
    args.command = " ".join(["python -m benchmarks", *(argv or sys.argv[1:])])
    if args.smoke and not args.out:
        args.save = False
    found = importlib.import_module(f"benchmarks.{args.experiment}").main(args)
    return int(found or 0)


if __name__ == "__main__":
    sys.exit(main())
