"""The commands that the pages show run, and print what the pages say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tenslora.cli import app

ROOT = Path(__file__).parents[2]
CLI = ROOT / "docs" / "cli.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "docs" / "howto").glob("*.md"))
#: Those that need a model or files of somebody: only their options are read.
TRAINING = ("finetune", "compare", "demo", "export", "import", "inspect", "spectrum", "fit")
TRAINING += ("compress", "recompress")
#: Every pair of the catalogue: two minutes, which building the pages takes already.
LONG = ("lattice --svg order.svg",)
_COMMAND = re.compile(r"^(?:\$ | {4})(?:\.venv/bin/)?tenslora (\S(?:.*\\\n)*.*)$", re.MULTILINE)
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def shown() -> list[str]:
    """Every command line of every page, once."""
    found = [match for page in PAGES for match in _COMMAND.findall(page.read_text("utf-8"))]
    return list(dict.fromkeys(line.replace("\\\n", " ").strip() for line in found))


def sessions() -> list[tuple[str, str]]:
    """The command lines of the page on the command line, with what is said to follow."""
    found = []
    for block in _BLOCK.findall(CLI.read_text("utf-8").replace("\\\n", " ")):
        for part in re.split(r"^\$ tenslora ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            if output.strip():
                found.append((line, output))
    return found


@pytest.mark.parametrize("line", shown())
def test_a_command_of_a_page_can_be_read(cli, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write a file
    words = shlex.split(line, comments=True)
    if " ".join(words) in LONG or (words[0] in TRAINING and "--help" not in words):
        app._COMMANDS[words[0]].parser().read(words[1:])
    else:
        assert cli(*words).code in ((0, 2) if (line in dict(sessions())) else (0,))


@pytest.mark.parametrize(("line", "output"), sessions(), ids=[line for line, _ in sessions()])
def test_a_command_prints_what_the_page_says(cli, line, output):
    outcome = cli(*shlex.split(line))
    assert (outcome.out + outcome.err).rstrip() == output.rstrip()


def undescribed(page: str) -> set[str]:
    """The commands that no heading of a page names."""
    heads = re.findall(r"^## (.*)$", page, re.MULTILINE)
    return set(app._COMMANDS) - set(re.findall(r"\w+", " ".join(heads)))


def test_every_command_has_its_place_on_the_page():
    page = CLI.read_text("utf-8")
    assert undescribed(page) == set()
    assert undescribed(page.replace("## spectrum", "## spectra")) == {"spectrum"}
