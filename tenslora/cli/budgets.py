"""The command about budgets: what every family makes of one on one model."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from tenslora.cli.command import Answer, Command, Parser
from tenslora.cli.output import say
from tenslora.cli.reading import read_like, read_pairs, read_sizes
from tenslora.errors import UsageError
from tenslora.family import BudgetTable, ModelShape, Weights, budget_table, model_shape
from tenslora.family.modelshape import KNOWN_MODELS

__all__ = ["COMMANDS"]

_WORDS = ("layer", "proj", "out", "in", "head")


def _fill(parser: Parser) -> None:
    add = parser.add_argument
    shape = "the shape in words, instead of --model: layer=12 proj=3 out=768 in=768 head=12; also "
    add("sizes", nargs="*", metavar="name=value", help=shape + "sizes that a family needs (o1=16)")
    known = f"a config.json, its folder, or one of {', '.join(KNOWN_MODELS)}"
    add("--model", metavar="CONFIG", help=known)
    targets = "projections of --model: q k v o gate up down (default: q k v)"
    add("--targets", nargs="+", metavar="NAME", default=["q", "k", "v"], help=targets)
    add("--families", nargs="+", metavar="NAME", help="names or equations (default: every family)")
    add("--like", metavar="NAME:RANK", help="as many parameters as, say, lora:8")
    add("--params", type=int, metavar="N", help="so many trained parameters at most")
    add("--bytes", type=int, metavar="N", help="so many bytes of cores in float32 at most")
    add("--rank", type=int, metavar="N", help="the same rank for every bond instead")
    rate = "the part of a mode's size that its rank is; repeatable"
    add("--compression", action="append", default=[], metavar="MODE=RATE", help=rate)
    add("--multiple", type=int, metavar="N", help="ranks are multiples of N (8 suits GPUs)")
    add("--plot", metavar="FILE", type=Path, help="draw parameters against the in|out cut rank")


def _run(args: Namespace) -> Answer:
    words = read_sizes(args.sizes)
    table = budget_table(
        _shape(args, words),
        args.families,
        like=None if args.like is None else read_like(args.like),
        params=args.params,
        bytes=args.bytes,
        rank=args.rank,
        sizes={name: size for name, size in words.items() if name not in _WORDS},
        **_limits(args),
    )
    if not table.rows:
        what = "no family can be bound to these weights at this budget"
        reason = next(iter(table.left_out.values()), "none was named")
        raise UsageError("E801", f"{what}; the first: {reason}", advice="See --help.")
    if args.plot is not None:
        from tenslora.integrations.pictures import draw_budgets

        draw_budgets([row.to_dict() for row in table.rows], _title(table), args.plot)
        say(f"picture: {args.plot}")
    return Answer(table.to_dict, lambda: f"{_title(table)}\n\n{table!r}")


def _limits(args: Namespace) -> dict[str, Any]:
    rates = read_pairs("a rate of compression", args.compression)
    limits: dict[str, Any] = {} if args.multiple is None else {"multiple": args.multiple}
    if rates:
        limits["compression"] = {name: _rate(name, text) for name, text in rates.items()}
    return limits


def _rate(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        what = f"--compression {name}={text} is not a number"
        raise UsageError("E803", what, advice=f"Write {name}=0.02, say.") from None


def _shape(args: Namespace, words: dict[str, int]) -> ModelShape:
    told = {name: size for name, size in words.items() if name in _WORDS}
    if (args.model is None) == (not told):
        given = "--model and sizes in words are both" if told else "neither --model nor a shape is"
        advice = "Write --model roberta-base, or layer=12 proj=3 out=768 in=768."
        raise UsageError("E801", f"{given} given", advice=advice)
    if args.model is not None:
        return model_shape(args.model, args.targets)
    missing = [name for name in _WORDS[:-1] if name not in told]
    if missing:
        what = f"the shape lacks {', '.join(missing)}"
        raise UsageError("E801", what, advice="Write layer=12 proj=3 out=768 in=768 head=12.")
    names = tuple(f"proj{n}" for n in range(told["proj"]))
    weights = Weights(names, told["layer"], told["out"], told["in"], told.get("head"))
    if weights.heads is not None and weights.out % weights.heads:
        what = f"head={weights.heads} does not divide out={weights.out}"
        raise UsageError("E801", what, advice="Give the number of heads in the output.")
    return ModelShape("model", (weights,))


def _title(table: BudgetTable) -> str:
    shapes = ", ".join(
        f"{group.layers} layers x {len(group.projections)} of {group.out}x{group.inputs}"
        for group in table.model.weights
    )
    budget = ", ".join(f"{k} {v}" for k, v in table.to_dict()["budget"].items())
    return f"{table.model.name}: {shapes}; {budget}"


COMMANDS = (
    Command(
        "budget",
        "Give every family one budget on a model: ranks, parameters, cost, side by side",
        _fill,
        _run,
        trailing="sizes",
        epilog="example:\n  tenslora budget --model roberta-base --like lora:8",
        usage="--model CONFIG | name=value ... --like NAME:RANK | --params N | ... [options]",
    ),
)
