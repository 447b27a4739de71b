"""Choose the command, run it, and turn whatever happens into output and an exit code."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence

import tenslora
from tenslora.cli import (
    about,
    budgets,
    exporting,
    fitting,
    inspecting,
    proofs,
    symbolic,
    training,
    tuning,
)
from tenslora.cli.command import Command, Parser, did_you_mean
from tenslora.cli.output import one_line, quiet_pipe, say, short_warnings, show_answer, to_json
from tenslora.errors import TensloraError, UsageError
from tenslora.integrations.distributed import this_process

__all__ = ["main"]

_COMMANDS = {
    c.name: c
    for c in (
        *symbolic.COMMANDS,
        *budgets.COMMANDS,
        *fitting.COMMANDS,
        *inspecting.COMMANDS,
        *proofs.COMMANDS,
        *training.COMMANDS,
        *exporting.COMMANDS,
        *tuning.COMMANDS,
        *about.COMMANDS,
    )
}
_BUG, _MISTAKE, _INTERRUPTED, _NO_READER = 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Parameters
    ----------
    argv : the words after ``tenslora``; by default those of the process.

    Returns
    -------
    int
        0, or 2 after a mistake of the user, 1 after one of the program, 130 after Ctrl-C, 141
        where the reader of standard output has gone away.

    >>> main(["version"])
    tenslora 0.1.0
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with short_warnings(shown=this_process().leader):
            return _run(words)
    except KeyboardInterrupt:
        say("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        quiet_pipe()
        return _NO_READER
    except Exception as error:  # noqa: BLE001 - the last place that can tell the user
        if _told_by_another(error):
            return _MISTAKE
        if "--debug" in words:
            say("".join(traceback.format_exception(error)))
        return _report(error)


def _run(words: list[str]) -> int:
    first = next((n for n, word in enumerate(words) if not word.startswith("-")), len(words))
    try:
        options = _top().parse_args(words[:first])
        if first == len(words):
            return _no_command(options)
        command = _find(words[first])
        args = command.parser().read(words[first + 1 :], command.trailing)
    except SystemExit:  # argparse has printed --help
        sys.stdout.flush()
        return 0
    try:
        for library in command.needs:
            if importlib.util.find_spec(library) is None:
                raise ModuleNotFoundError(name=library)
        answer = command.run(args)
        text = to_json(answer.data()) if args.json or options.json else answer.text()
    except ImportError as error:
        raise _not_installed(command, error) from error
    if this_process().leader:
        show_answer(text)
    return 0


def _top() -> Parser:
    width = max(map(len, _COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {c.summary}" for name, c in _COMMANDS.items())
    parser = Parser(
        prog="tenslora",
        usage="tenslora COMMAND ...",
        description="Low-rank and tensor adapters, written as equations.",
        epilog=f"commands:\n{lines}\n\n`tenslora COMMAND --help` shows the options of one.",
    )
    parser.add_argument("--version", action="store_true", help="show the version")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _no_command(options: Namespace) -> int:
    if not options.version:
        raise UsageError("E801", "no command is given", advice="`tenslora --help` lists them.")
    return _run(["version", *(["--json"] if options.json else [])])


def _find(name: str) -> Command:
    if name not in _COMMANDS:
        hint = did_you_mean(name, _COMMANDS)
        advice = f"{hint}The commands are {', '.join(_COMMANDS)}."
        raise UsageError("E802", f"there is no command {name!r}", advice=advice)
    return _COMMANDS[name]


def _not_installed(command: Command, error: ImportError) -> Exception:
    """Return what to raise for a library that cannot be imported: advice, or a bug of our own."""
    package = (error.name or "").partition(".")[0]
    if package == tenslora.__name__:
        return error
    wanted = f"tenslora[{command.extra}]" if command.extra else "tenslora"
    advice = f'Run: pip install "{wanted}"'
    if isinstance(error, ModuleNotFoundError) and package:
        what = f"`tenslora {command.name}` needs {package}, which is not installed"
    else:
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        what = f"{package or 'a library'} cannot be imported: {reason.strip()}"
    return UsageError("E805", what, advice=advice)


def _told_by_another(error: Exception) -> bool:
    """Whether another of several processes on this machine says the same."""
    return isinstance(error, TensloraError) and not this_process().speaks


def _report(error: Exception) -> int:
    """Say one line about an error and return the exit code."""
    process = this_process()
    begin = "error: " if process.leader else f"error in process {process.rank}: "
    if isinstance(error, TensloraError):
        say(f"{begin}{one_line(error)}")
        return _MISTAKE
    if isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename else one_line(error)
        wrapped = UsageError("E807", what, advice="Check the path, its permissions and the disk.")
        say(f"{begin}{one_line(wrapped)}")
        return _MISTAKE
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        wrapped = UsageError("E808", "the memory is not enough", advice="Use a smaller batch.")
        say(f"{begin}{one_line(wrapped)}")
        return _MISTAKE
    say(f"{begin}a bug in tenslora: {one_line(error)}. Run it again with --debug and report that.")
    return _BUG
