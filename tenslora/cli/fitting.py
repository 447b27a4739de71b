"""The commands about trained adapters: what their updates hold, and smaller adapters of them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenslora.cli.command import ADAPTER, Answer, Command, Parser
from tenslora.cli.output import say
from tenslora.cli.reading import add_family_settings, read_family, read_like, read_pairs, read_sizes
from tenslora.errors import StateError, UsageError
from tenslora.family import parse_ranks

if TYPE_CHECKING:
    from tenslora.integrations.compressed import Compressed

__all__ = ["COMMANDS"]


def _fill(parser: Parser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", help=ADAPTER)
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


def _fill_compress(parser: Parser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE", help=ADAPTER)
    add("out", metavar="OUT", help="the new adapter's file, for tenslora.load")
    _add_choice(parser)


def _add_choice(parser: Parser) -> None:
    """Add the family, and the ways to choose its ranks."""
    add = parser.add_argument
    add("--family", metavar="NAME", required=True, help="a family's name, or an equation")
    add("--ranks", nargs="+", metavar="N", help="one rank for every bond, or bond=rank for each")
    add("--params", type=int, metavar="N", help="so many trained parameters at most")
    add("--like", metavar="NAME:RANK", help="as many parameters as, say, lora:4")
    add("--energy", type=float, metavar="PART", help="the fewest that keep it: 0.99, say")
    add("--tolerance", type=float, metavar="ERROR", help="fail where the relative error is larger")
    sizes = "sizes that the file does not tell: head=12, or head_dim=128 where heads differ"
    add("--sizes", nargs="+", default=[], metavar="NAME=SIZE", help=sizes)
    add_family_settings(parser)


def _choice(args: Namespace) -> dict[str, Any]:
    ways = {word: getattr(args, word) for word in ("ranks", "params", "like", "energy")}
    family = read_family(args, any_start=True)
    given = [f"--{word}" for word, value in ways.items() if value is not None]
    if len(given) > 1 or not (given or family.ranks or not family.bonds):
        what = f"{' and '.join(given)} are both given" if given else "no ranks are chosen"
        raise UsageError("E801", what, advice="Give one of --ranks, --params, --like, --energy.")
    return {
        "family": family,
        "ranks": parse_ranks(" ".join(args.ranks)) if args.ranks else None,
        "params": args.params,
        "like": None if args.like is None else read_like(args.like),
        "energy": args.energy,
        "tolerance": args.tolerance,
        "sizes": read_sizes(args.sizes),
    }


def _run_compress(args: Namespace) -> Answer:
    from tenslora.integrations.compressing import compress

    out = _new_file(args.out)
    return _written(compress(None, args.source, **_choice(args)), out)


def _fill_fit(parser: Parser) -> None:
    add = parser.add_argument
    words = (
        "a .npy or .safetensors file of updates, or a model and one fine-tuned from it; then OUT"
    )
    add("words", nargs="+", metavar="SOURCE", help=words)
    targets = "of two models: endings of module names, such as query value"
    add("--targets", nargs="+", default=[], metavar="NAME", help=targets)
    train = "of two models: modules that were trained whole and come along, such as classifier"
    add("--train", nargs="+", default=[], metavar="NAME", help=train)
    paths = "of a stack: the modules, such as 'encoder.layer.{layer}.attention.self.{proj}'"
    add("--paths", metavar="TEXT", help=paths)
    labels = "of a stack: what stands for 0, 1, ... of a site: proj=query,key,value; repeatable"
    add("--labels", nargs="+", default=[], metavar="SITE=A,B", help=labels)
    _add_choice(parser)


def _run_fit(args: Namespace) -> Answer:
    *sources, last = args.words
    if len(sources) not in (1, 2) or (len(sources) == 2) != bool(args.targets):
        what = f"{len(sources)} sources" + (" and --targets" if args.targets else "") + " are given"
        advice = "Write `fit UPDATES OUT`, or `fit BASE TUNED OUT --targets ...`."
        raise UsageError("E801", what, advice=advice)
    stack = {"--paths": args.paths, "--labels": args.labels}
    other = stack if args.targets else {"--train": args.train}
    for option, value in other.items():
        if value:
            what = f"{option} belongs to " + (
                "a stack of updates" if args.targets else "two models"
            )
            raise UsageError("E801", what, advice="Leave it out.")
    out, choice = _new_file(last), _choice(args)
    if not args.targets:
        from tenslora.integrations.fitting import fit_stack, read_stack

        labels = {n: v.split(",") for n, v in read_pairs("labels of a site", args.labels).items()}
        updates = read_stack(sources[0])
        return _written(fit_stack(updates, paths=args.paths, labels=labels, **choice), out)
    from tenslora.integrations.fitting import fit_models
    from tenslora.integrations.pairs import load_pair

    base, tuned = load_pair(sources[0], sources[1], args.targets)
    found = fit_models(base, tuned, targets=args.targets, train=args.train, **choice)
    return _written(found, out)


def _fill_recompress(parser: Parser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE", help=ADAPTER)
    add("out", metavar="OUT", help="the new adapter's file, for tenslora.load")
    part = "the relative error that each shape of weights may have: 0.01, say"
    add("--tol", type=float, metavar="ERROR", required=True, help=part)


def _run_recompress(args: Namespace) -> Answer:
    from tenslora.integrations.compressing import recompress

    out = _new_file(args.out)
    return _written(recompress(args.source, args.tol), out)


def _new_file(text: str) -> Path:
    """Refuse what cannot be written before an hour of work, not after it."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        what = f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise StateError("E616", what, advice="Give a file in a folder that exists.")
    return path


def _written(found: Compressed, out: Path) -> Answer:
    found.adapter.save(out)
    return Answer(
        lambda: {**found.to_dict(), "path": str(out)}, lambda: f"{found}\nwritten to {out}"
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
    Command(
        "compress",
        "Write a trained adapter as a smaller one of another family, and say what that loses",
        _fill_compress,
        _run_compress,
        extra="torch",
        needs=("torch", "safetensors"),
        usage="SOURCE OUT --family NAME --ranks N | --params N | --like NAME:RANK | --energy PART",
        epilog="example:\n  tenslora compress lora-checkpoint/ small.safetensors "
        "--family lotr --energy 0.99",
    ),
    Command(
        "fit",
        "Write an adapter that comes closest to given updates, or to what fine-tuning changed",
        _fill_fit,
        _run_fit,
        extra="hf",
        needs=("torch", "safetensors"),
        usage="UPDATES OUT | BASE TUNED OUT --targets NAME ... --family NAME --ranks N | ...",
        epilog="examples:\n  tenslora fit updates.npy out.safetensors --family lotr --ranks 8\n"
        "  tenslora fit base/ tuned/ out.safetensors --targets query value --train classifier "
        "--family lora --energy 0.9",
    ),
    Command(
        "recompress",
        "Lower the ranks of a trained adapter to what its own spectra need",
        _fill_recompress,
        _run_recompress,
        extra="torch",
        needs=("torch", "safetensors"),
        epilog="example:\n  tenslora recompress adapter.safetensors small.safetensors --tol 0.01",
    ),
)
