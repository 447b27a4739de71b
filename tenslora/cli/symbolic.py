"""The commands that only think: no array is made and torch is not imported."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from tenslora.cli.command import Answer, Command, Parser
from tenslora.cli.output import table
from tenslora.cli.pictures import add_pictures, show_picture
from tenslora.cli.reading import add_family_settings, read_family, read_like, read_sizes
from tenslora.draw import Drawing, layout_plan, to_latex
from tenslora.errors import UsageError
from tenslora.families.outside import OUTSIDE, Outside
from tenslora.family import WRAPPERS, Bound, Family, registered
from tenslora.family.wrapper import Kind
from tenslora.plan import PROFILES, Plan

__all__ = ["COMMANDS"]

_FAMILY = "NAME|EQUATION"


def _fill_families(parser: Parser) -> None:
    parser.add_argument(
        "word", nargs="?", default="", help="only families that mention it: tucker, LoRTA, proj"
    )


def _run_families(args: Namespace) -> Answer:
    word = args.word.casefold()
    found = [f for f in registered().values() if word in _mentions(f)]
    outside = [o for o in OUTSIDE if word in "\n".join(vars(o).values()).casefold()]
    around = {n: k for n, k in WRAPPERS.items() if word in _around(n, k).casefold()}
    if not (found or outside or around):
        what = f"no family mentions {args.word!r}"
        raise UsageError("E806", what, advice="`tenslora families` lists them all.")
    return Answer(
        lambda: {
            "families": [_describe(f) for f in found],
            "wrappers": [
                {"name": n, "formula": k.formula, "summary": k.summary, "source": k.source}
                for n, k in around.items()
            ],
            "outside": [vars(o) for o in outside],
        },
        lambda: "\n".join([*map(_entry, found), *_wrappers(around), *_no_equations(outside)]),
    )


def _wrappers(around: Mapping[str, Kind]) -> list[str]:
    """Return the lines that tell what goes around a family."""
    lines = ["", "around any family"] if around else []
    return lines + [_around(name, kind) for name, kind in around.items()]


def _around(name: str, kind: Kind) -> str:
    text = f"{name}[SITE](FAMILY)" if kind.routed else f"{name}(FAMILY)"
    return f"{text}\n    {kind.formula}\n    {kind.summary}. {kind.source}"


def _no_equations(outside: Sequence[Outside]) -> list[str]:
    """Return the lines that tell which methods are no equation, and why."""
    lines = ["", "no equation of this language"] if outside else []
    for method in outside:
        lines.append(f"{method.name}\n    {method.reason}. {method.source}")
        lines += [f"    instead: {method.instead}"] if method.instead else []
    return lines


def _mentions(family: Family) -> str:
    parts = (family.name or "", *family.aliases, family.equation, family.summary, family.source)
    return "\n".join(parts).casefold()


def _entry(family: Family) -> str:
    names = ", ".join([family.name or "", *family.aliases])
    about = ". ".join(part.rstrip(".") for part in (family.summary, family.source) if part)
    return f"{names}\n    {family.equation}" + (f"\n    {about}" if about else "")


def _fill_show(parser: Parser) -> None:
    parser.add_argument("family", metavar=_FAMILY, help="a family's name, or an equation in quotes")
    add_family_settings(parser)
    add_pictures(parser, latex="print the equation as LaTeX")


def _run_show(args: Namespace) -> Answer:
    family = read_family(args, any_start=True)
    shown = show_picture(args, family.draw, to_latex(family.network))
    return shown or Answer(lambda: _describe(family), lambda: _page(family))


def _describe(family: Family) -> dict[str, Any]:
    network = family.network
    return {
        "name": family.name,
        "equation": family.equation,
        "canonical": str(network.canonical()),
        "sites": list(network.sites),
        "output": list(network.output),
        "input": list(network.input),
        "bonds": list(network.bonds),
        "cores": {
            name: {
                "slots": [list(slot) for slot in core.slots],
                "shared_over": _shared_over(family, name),
                "init": str(family.init[name]),
                "frozen": name in family.frozen,
            }
            for name, core in network.cores.items()
        },
        "scale": str(family.scale),
        "start": str(family.start or ""),
        "dropout": dict(family.dropout),
        "lr": dict(family.lr),
        "ranks": dict(family.ranks),
        "aliases": list(family.aliases),
        "summary": family.summary,
        "source": family.source,
        "repository": family.repository,
        "evaluated": family.evaluated,
        "notes": family.notes,
    }


def _shared_over(family: Family, core: str) -> list[str]:
    held = family.network.cores[core].indices
    return [site for site in family.network.sites if site not in held]


def _page(family: Family) -> str:
    network = family.network
    rows = [
        ("equation", family.equation),
        ("sites", " ".join(network.sites) or "none: one weight matrix"),
        ("output", " ".join(network.output)),
        ("input", " ".join(network.input)),
        ("bonds", " ".join(network.bonds) or "none: no ranks to choose"),
        ("scale", str(family.scale)),
        ("start", f"{family.start} of the weights" if family.start else ""),
    ]
    rows += [("ranks", " ".join(f"{b}={r}" for b, r in family.ranks.items()))]
    rows += [("dropout", ", ".join(f"{k} {p:g}" for k, p in family.dropout.items()))]
    rows += [("names", ", ".join([family.name or "", *family.aliases] if family.name else []))]
    rows += [("about", family.summary), ("source", family.source)]
    rows += [("code", family.repository), ("tried on", family.evaluated), ("notes", family.notes)]
    cores = [(str(core), _core_line(family, name)) for name, core in network.cores.items()]
    return table([row for row in rows if row[1]]) + "\ncores\n" + table(cores, indent="  ")


def _core_line(family: Family, name: str) -> str:
    parts = [f"starts {family.init[name]}" + (", frozen" if name in family.frozen else "")]
    shared = _shared_over(family, name)
    parts += [f"shared over {' '.join(shared)}"] if shared else []
    parts += [f"learning rate x{family.lr[name]:g}"] if name in family.lr else []
    return "; ".join(parts)


def _fill_cost(parser: Parser) -> None:
    parser.add_argument("family", metavar=_FAMILY, help="a family's name, or an equation in quotes")
    parser.add_argument(
        "sizes", nargs="*", metavar="name=value", help="sizes and ranks; rank=4 sets every bond"
    )
    parser.add_argument(
        "--like", metavar="NAME:RANK", help="choose ranks for as many parameters as, say, lora:8"
    )
    parser.add_argument("--params", type=int, metavar="N", help="choose ranks for N parameters")
    parser.add_argument("--alpha", type=float, metavar="X", help="numerator of the scale")
    add_family_settings(parser)


def _bind(args: Namespace) -> Bound:
    family = read_family(args, any_start=True)
    like = None if args.like is None else read_like(args.like)
    sizes = read_sizes(args.sizes)
    return family.bind(sizes, like=like, params=args.params, alpha=args.alpha)


def _run_cost(args: Namespace) -> Answer:
    bound = _bind(args)
    return Answer(bound.to_dict, lambda: repr(bound))


def _fill_plan(parser: Parser) -> None:
    _fill_cost(parser)
    add = parser.add_argument
    add("--tokens", type=int, default=512, metavar="N", help="rows of x (default: 512)")
    shared = "a site over which layers read the same x; repeatable, none for none (default: proj)"
    add("--shared", action="append", metavar="SITE", help=shared)
    machine = f"the machine: {', '.join(PROFILES)}, or a file of `tenslora tune` (default: cpu)"
    add("--profile", default="cpu", metavar="PROFILE", help=machine)
    limit = "bytes that the largest array between the cores and y may have"
    add("--memory-limit", type=int, metavar="BYTES", help=limit)
    mode = "the program of --source: apply it to x, or make W (default: apply)"
    add("--mode", choices=["apply", "delta"], default="apply", help=mode)
    add("--source", action="store_true", help="print the program that is run")
    add_pictures(parser)


def _run_plan(args: Namespace) -> Answer:
    bound = _bind(args)
    shared = None if args.shared is None else tuple(s for s in args.shared if s != "none")
    plan = bound.plan(
        shared=shared, tokens=args.tokens, profile=args.profile, memory_limit=args.memory_limit
    )
    if args.source:
        text = plan.source(args.mode)
        return Answer(
            lambda: {**_plan_data(bound, plan, args), "mode": args.mode, "source": text},
            lambda: text,
        )
    shown = show_picture(args, lambda: Drawing(layout_plan(plan)))
    return shown or Answer(lambda: _plan_data(bound, plan, args), plan.explain)


def _plan_data(bound: Bound, plan: Plan, args: Namespace) -> dict[str, Any]:
    return {
        "equation": bound.family.equation,
        "sizes": {n: s for n, s in bound.sizes.items() if n not in bound.network.bonds},
        "ranks": bound.ranks,
        "tokens": args.tokens,
        "profile": plan.problem.profile.name,
        "flops_per_token": plan.flops_per_token,
        "hoisted_flops": plan.hoist_flops,
        "plan": plan.to_dict(),
    }


_BERT = "layer=12 proj=3 in=768 head=12 head_dim=64"

COMMANDS = (
    Command(
        "families",
        "List the families of the catalogue, with equations and sources",
        _fill_families,
        _run_families,
    ),
    Command(
        "show",
        "Show what an equation or a family says: roles of the indices, cores, starts",
        _fill_show,
        _run_show,
        epilog='example:\n  tenslora show "W[layer proj out in] = B[layer proj out r] A[r in]"',
    ),
    Command(
        "cost",
        "Count parameters, bytes, FLOPs and rank at given sizes, before any array exists",
        _fill_cost,
        _run_cost,
        trailing="sizes",
        epilog=f"example:\n  tenslora cost tenslora.att_qkv_depth {_BERT} rank=4",
    ),
    Command(
        "plan",
        "Find the order in which an equation is computed; print its steps or its program",
        _fill_plan,
        _run_plan,
        trailing="sizes",
        epilog=f"example:\n  tenslora plan tenslora.att_qkv_depth {_BERT} rank=4 --source",
    ),
)
