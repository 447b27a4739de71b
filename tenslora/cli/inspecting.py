"""The command that shows an adapter: norms, heads, spectra, what changed, how it was trained."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from tenslora.cli.command import ADAPTER, Answer, Command, Parser
from tenslora.errors import DataError

__all__ = ["COMMANDS"]


def _fill(parser: Parser) -> None:
    add = parser.add_argument
    add("adapter", metavar="ADAPTER", help=ADAPTER)
    add("--against", metavar="OTHER", help="what it was before: another such file or folder")
    add("--out", metavar="FOLDER", type=Path, help="draw every picture there, as PNG and as SVG")
    add("--text", action="store_true", help="print the tables too, where --out is given")
    add("--heads", type=int, metavar="N", help="heads in the output of a weight")


def _run(args: Namespace) -> Answer:
    from tenslora.integrations.pictures import curves, curves_text
    from tenslora.nn.portrait import portrait

    now = portrait(args.adapter, heads=args.heads)
    other = None if args.against is None else now.compare(portrait(args.against))
    runs = _read_runs(Path(args.adapter))
    files: list[str] = []
    if args.out is not None:
        pictures = {what: now.plot(what) for what in now.pictures}
        if other is not None:
            pictures |= {"comparison": other.plot(), "spectra-compared": other.plot("spectra")}
        if runs:
            pictures["curves"] = curves(runs)
        for name, picture in pictures.items():
            for ending in ("png", "svg"):
                picture.save(args.out / f"{name}.{ending}")
                files.append(str(args.out / f"{name}.{ending}"))

    def data() -> dict[str, Any]:
        shown = now.to_dict() if other is None else other.to_dict()
        return {**shown, "runs": [run.to_dict() for run in runs], "files": files}

    def text() -> str:
        parts = [] if files and not args.text else [(now if other is None else other).text()]
        parts += [curves_text(runs)] if runs and parts else []
        parts += ["\n".join(f"picture: {file}" for file in files)] if files else []
        return "\n\n".join(parts)

    return Answer(data, text)


def _read_runs(adapter: Path) -> list[Any]:
    """The runs that the report beside an adapter tells of; of one among several, its own."""
    from tenslora.integrations.runs import Run

    folder = adapter if adapter.is_dir() else adapter.parent
    path = folder / "report.json"
    if not path.is_file():
        return []
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        runs = [Run.from_dict(run) for run in report["runs"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{path} is no report of a run: {type(error).__name__}"
        raise DataError("E716", what, advice="Take it away, or inspect a copy elsewhere.") from None
    runs = [run for run in runs if run.history]
    return runs if adapter.is_dir() else [run for run in runs if run.file == adapter.name]


COMMANDS = (
    Command(
        "inspect",
        "Show what a trained adapter is: norms by layer and head, spectra, what changed, curves",
        _fill,
        _run,
        extra="torch",
        needs=("torch", "safetensors"),
        usage="ADAPTER [--against OTHER] [--out FOLDER] [--text] [--heads N]",
        epilog="examples:\n  tenslora inspect tenslora-run/\n"
        "  tenslora inspect tenslora-run/ --against a-lora/ --out pictures/",
    ),
)
