"""The commands about special cases: prove one, or decide them all."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from tenslora.algebra import Lattice, Proof, Refutation, Verdict, lattice_svg
from tenslora.cli.command import Answer, Command, Parser
from tenslora.errors import UsageError
from tenslora.family import check, embeds, lattice
from tenslora.family.proofpicture import proof_svg

__all__ = ["COMMANDS"]

_FAMILY = "NAME|EQUATION"


def _fill_prove(parser: Parser) -> None:
    add = parser.add_argument
    add("special", metavar=f"SPECIAL: {_FAMILY}", help="what is to be a special case")
    add("general", metavar=f"GENERAL: {_FAMILY}", help="what is to contain it")
    witness = "check this witness instead of searching for one: definitions, separated by ;"
    add("--witness", metavar="TEXT", help=witness)
    add("--witness-file", metavar="FILE", type=Path, help="the same from a file, one a line")
    free = "search for ranks that are made of ranks, and do not grow with a size"
    add("--free", action="store_true", help=free)
    add("--svg", metavar="FILE", type=Path, help="draw both, and the witness, into this file")


def _run_prove(args: Namespace) -> Answer:
    if args.witness is not None and args.witness_file is not None:
        what = "--witness and --witness-file are both given"
        raise UsageError("E801", what, advice="Give one of them.")
    text = args.witness
    if args.witness_file is not None:
        text = _read(args.witness_file)
    if text is not None:
        found: Verdict = check(args.special, args.general, text)
    else:
        found = embeds(args.special, args.general, free=args.free)
    if args.svg is not None:
        _write(args.svg, proof_svg(found))
    return Answer(lambda: _verdict(found), lambda: str(found) + _drawn(args))


def _drawn(args: Namespace) -> str:
    return "" if args.svg is None else f"\n\npicture: {args.svg}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
        raise UsageError("E807", what, advice="Give a text file.") from error


def _verdict(found: Verdict) -> dict[str, Any]:
    data: dict[str, Any] = {"special": str(found.special), "general": str(found.general)}
    if isinstance(found, Proof):
        return {
            "verdict": "proved",
            **data,
            "free": found.free,
            "ranks": {bond: list(group) for bond, group in found.ranks.items()},
            "witness": [str(definition) for definition in found.witness.definitions],
            "frozen": list(found.chosen),
            "steps": [{"law": law, "result": text} for law, text in found.steps],
        }
    if isinstance(found, Refutation):
        counter = {"law": found.law, "reason": found.reason, "sizes": found.sizes}
        return {"verdict": "refuted", **data, **counter, "seed": found.seed}
    return {"verdict": "undecided", **data, "tried": found.tried, "notes": list(found.notes)}


def _fill_lattice(parser: Parser) -> None:
    add = parser.add_argument
    add("families", nargs="*", metavar=_FAMILY, help="two or more (default: the whole catalogue)")
    add("--svg", metavar="FILE", type=Path, help="draw the order into this file")
    counts = "print how many pairs are proved, refuted and undecided, and the undecided by name"
    add("--counts", action="store_true", help=counts)
    add("--ranks", action="store_true", help="list what ranks each inclusion takes as well")


def _run_lattice(args: Namespace) -> Answer:
    if len(set(args.families)) == 1:
        what = f"{args.families[0]} alone has nothing to be compared with"
        raise UsageError("E801", what, advice="Name two families or more, or none for all.")
    found = lattice(args.families or None)
    if args.svg is not None:
        _write(args.svg, lattice_svg(found))
    return Answer(lambda: _lattice(found), lambda: _page(found, args))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror or error}"
        raise UsageError("E807", what, advice="Give a file in a folder that exists.") from error


def _lattice(found: Lattice) -> dict[str, Any]:
    return {
        "families": list(found.names),
        "counts": found.counts(),
        "undecided": [list(pair) for pair in found.undecided()],
        "classes": [list(members) for members in found.classes()],
        "pairs": [
            {"special": a, "general": b, "kind": found.kind(a, b), **_short(verdict)}
            for (a, b), verdict in found.verdicts.items()
        ],
    }


def _short(found: Verdict) -> dict[str, Any]:
    whole = _verdict(found)
    return {k: whole[k] for k in ("verdict", "ranks", "witness", "reason") if k in whole}


def _page(found: Lattice, args: Namespace) -> str:
    parts = [found.summary() if args.counts else found.table()]
    if args.ranks:
        parts += ["", *(f"{a} in {b}: {ranks}" for a, b, ranks in found.costs())]
    return "\n".join(parts) + _drawn(args)


COMMANDS = (
    Command(
        "prove",
        "Prove that one family is a special case of another, for all sizes, or refute it",
        _fill_prove,
        _run_prove,
        epilog="example:\n  tenslora prove lotr tenslora.depth",
        usage="SPECIAL GENERAL [--witness TEXT] [--free] [--svg FILE] [--json]",
    ),
    Command(
        "lattice",
        "Decide which families are special cases of which, as a table and a picture",
        _fill_lattice,
        _run_lattice,
        trailing="families",
        epilog="example:\n  tenslora lattice lora lotr fact_tt tenslora.qkv_depth --svg order.svg",
    ),
)
