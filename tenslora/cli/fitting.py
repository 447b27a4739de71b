"""The command about trained adapters: what their updates hold, and what families need for it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from tenslora.cli.command import Answer, Command, Parser
from tenslora.cli.output import say

__all__ = ["COMMANDS"]


def _fill(parser: Parser) -> None:
    add = parser.add_argument
    file = "a file of Adapter.save, or the folder of a LoRA checkpoint of PEFT"
    add("file", metavar="FILE", help=file)
    add("--heads", type=int, metavar="N", help="heads in the output of a weight")
    words = "families, or equations, to count parameters for (default: every family)"
    add("--families", nargs="*", metavar="NAME", help=words)
    parts = "parts of the energy (default: 0.9 0.99 0.999)"
    add("--energies", nargs="+", type=float, metavar="PART", default=[0.9, 0.99, 0.999], help=parts)
    add("--plot", metavar="PICTURE", type=Path, help="draw the singular values of each mode")


def _run(args: Namespace) -> Answer:
    from tenslora.decompose import needed, spectrum
    from tenslora.integrations.updates import read_updates

    updates = read_updates(args.file, heads=args.heads)
    spectra = [spectrum(one) for one in updates]
    need = needed(updates, args.families, args.energies)
    if args.plot is not None:
        from tenslora.integrations.pictures import draw_spectra

        draw_spectra([one.to_dict() for one in spectra], args.plot)
        say(f"picture: {args.plot}")
    head = "parameters at which a family keeps so much of the energy"
    return Answer(
        lambda: {"spectra": [one.to_dict() for one in spectra], "needed": need.to_dict()},
        lambda: "\n\n".join([*map(repr, spectra), f"{head}\n{need!r}"]),
    )


COMMANDS = (
    Command(
        "spectrum",
        "Show what a trained adapter holds, and how many parameters each family needs for it",
        _fill,
        _run,
        extra="torch",
        needs=("torch", "safetensors"),
        epilog="example:\n  tenslora spectrum adapter.safetensors --heads 12 --families lora lotr",
    ),
)
