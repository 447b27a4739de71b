"""The options that ask for a picture instead of a page, and what they print."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from tenslora.cli.command import Answer, Parser
from tenslora.draw import Drawing

__all__ = ["add_pictures", "show_picture"]


def add_pictures(parser: Parser, *, latex: str = "") -> None:
    """Add ``--text``, ``--svg``, ``--tikz`` and, where it is described, ``--latex``."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--text", action="store_true", help="draw it in characters")
    group.add_argument("--svg", metavar="FILE", help="draw it into this file, or - to print it")
    group.add_argument("--tikz", action="store_true", help="draw it as a tikzpicture for LaTeX")
    if latex:
        group.add_argument("--latex", action="store_true", help=latex)


def show_picture(args: Namespace, draw: Callable[[], Drawing], latex: str = "") -> Answer | None:
    """Return the picture that was asked for, or ``None``; with ``--svg FILE`` write it."""
    if args.text:
        return _words("text", draw().text())
    if args.tikz:
        return _words("tikz", draw().tikz())
    if latex and args.latex:
        return _words("latex", latex)
    if args.svg is None:
        return None
    if args.svg == "-":
        return _words("svg", draw().svg())
    draw().save(args.svg)
    return Answer(lambda: {"svg": args.svg}, lambda: f"picture: {args.svg}")


def _words(name: str, text: str) -> Answer:
    return Answer(lambda: {name: text}, lambda: text.rstrip("\n"))
