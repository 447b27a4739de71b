"""What a command is: a name, its options, what it does, and the two forms of its answer."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from tenslora.errors import UsageError

__all__ = ["ADAPTER", "Answer", "Command", "Parser", "did_you_mean"]

#: What an adapter is to the commands that read one.
ADAPTER = (
    "a file that adapter.save wrote, the folder of a run, or a folder of PEFT: of a LoRA, or of an "
    "adapter that TensLoraConfig made"
)


@dataclass(frozen=True)
class Answer:
    """What a command has found, made only in the form that is asked for.

    Attributes
    ----------
    data : makes the one JSON object of ``--json``.
    text : makes the lines for a reader.
    """

    data: Callable[[], dict[str, Any]]
    text: Callable[[], str]


@dataclass(frozen=True)
class Command:
    """One word after ``tenslora``.

    Attributes
    ----------
    name, summary : the word, and one line about it.
    fill : adds the options. It is called for the chosen command alone, so that it may import what
        is slow.
    run : does the work and returns the answer.
    extra : the extra of the package that the command needs; empty where it needs none.
    needs : libraries of that extra without which the command does not begin.
    epilog : examples, shown below its options.
    trailing : its list argument to which words behind an option go too.
    usage : what stands behind the name in the help, where all options would be too long.
    """

    name: str
    summary: str
    fill: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], Answer]
    extra: str = ""
    needs: tuple[str, ...] = ()
    epilog: str = ""
    trailing: str = ""
    usage: str = ""

    def parser(self) -> Parser:
        """Return the parser of what stands behind the command's name."""
        parser = Parser(
            prog=f"tenslora {self.name}",
            usage=f"tenslora {self.name} {self.usage}" if self.usage else None,
            description=f"{self.summary}.",
            epilog=self.epilog,
        )
        self.fill(parser)
        add_common(parser)
        return parser


class Parser(argparse.ArgumentParser):
    """argparse, with mistakes raised as :class:`UsageError` and options spelt out in full."""

    def __init__(self, **settings: Any) -> None:
        shape = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=shape, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise E801 instead of printing the usage and leaving Python."""
        raise UsageError("E801", message, advice=f"See `{self.prog} --help`.")

    def read(self, words: list[str], trailing: str = "") -> argparse.Namespace:
        """Parse every word, or raise.

        Parameters
        ----------
        words : the command line behind the command's name.
        trailing : a list argument to which words after an option go too: argparse itself takes
            ``cost lora --json in=8`` for a mistake.
        """
        found, left = self.parse_known_args(words)
        if trailing:
            late = [word for word in left if not word.startswith("-")]
            setattr(found, trailing, [*getattr(found, trailing), *late])
            left = [word for word in left if word.startswith("-")]
        if left:
            raise self._unknown(left[0])
        return found

    def _unknown(self, word: str) -> UsageError:
        advice = f"See `{self.prog} --help`."
        if not word.startswith("-"):
            advice = f"An equation or a name with spaces stands in quotes. {advice}"
            return UsageError("E801", f"{word!r} is one word too many", advice=advice)
        name = word.split("=")[0]
        hint = did_you_mean(name, self._option_string_actions)
        return UsageError("E801", f"there is no option {name}", advice=f"{hint}{advice}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"Did you mean ...? "``, or nothing where no known word is close.

    >>> did_you_mean("plann", ["plan", "cost"])
    'Did you mean plan? '
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]}? " if close else ""


def add_common(parser: Parser) -> None:
    """Add what every command takes."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
