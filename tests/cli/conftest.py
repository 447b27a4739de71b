"""The command in this process, with what it printed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tenslora.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """The one JSON object on standard output, where nothing but it may stand."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        assert self.code == 0
        return found


@pytest.fixture
def cli(capsys):
    def run(*words: str) -> Outcome:
        capsys.readouterr()
        code = main(words)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run


@pytest.fixture
def refused(cli):
    """Run a command line that is a mistake: exit code 2, one line on stderr, nothing on stdout."""

    def run(*words: str) -> str:
        outcome = cli(*words)
        assert outcome.code == 2
        assert outcome.out == ""
        assert outcome.err.count("\n") == 1
        assert outcome.err.startswith("error: E")
        return outcome.err

    return run
