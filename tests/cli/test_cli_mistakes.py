"""A mistake of the user: one line, exit code 2. A mistake of the program: one line, exit code 1."""

from __future__ import annotations

import dataclasses

import pytest

from tenslora.cli import app
from tenslora.errors import CODES

PLAIN = "W[out in] = B[out r] A[r in]"
SIZED = ("out=8", "in=8", "r=2")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], "E801", "no command is given"),
        (["plann"], "E802", "Did you mean plan?"),
        (["frobnicate"], "E802", "The commands are families, show"),
        (["show"], "E801", "required: NAME|EQUATION"),
        (["show", "lroa"], "E306", "Did you mean lora"),
        (["show", PLAIN, "extra"], "E801", "'extra' is one word too many. An equation"),
        (["show", "W[out in] = B[out r] A[r j]"], "E103", "(at character 26, 'j')"),
        (["show", "W[out in] = B[out r"], "E102", "character 20"),
        (["show", "lora", "--jsno"], "E801", "there is no option --jsno. Did you mean --json?"),
        (["cost", PLAIN], "E202", "missing: size of out, in and rank of r"),
        (["cost", PLAIN, *SIZED[:2]], "E202", "missing: rank of r"),
        (["cost", PLAIN, "out=x", "in=8", "r=2"], "E803", "out=x is not a whole number"),
        (["cost", PLAIN, "out=8.5", "in=8", "r=2"], "E803", "out=8.5 is not a whole number"),
        (["cost", PLAIN, "out=0", "in=8", "r=2"], "E203", "size out=0"),
        (["cost", PLAIN, "out=8", "in=8", "rank=0"], "E206", "rank rank=0"),
        (["cost", PLAIN, "out=8", "in=8", "r=-1"], "E206", "rank r=-1"),
        (["cost", PLAIN, "out", "in=8", "r=2"], "E803", "'out' is not a size or a rank"),
        (["cost", PLAIN, "in=8", "in=9"], "E804", "in is given as 8 and as 9"),
        (["plan", PLAIN, *SIZED, "--profile", "gpu"], "E412", "The profiles are cpu, h200-bf16"),
        (["plan", PLAIN, *SIZED, "--profile", "no.json"], "E412", "No such file"),
        (["tune", "here.txt"], "E801", "Say here.json."),
        (["tune", "--device", "cuda:99"], "E413", "cuda-float32 cannot be measured here"),
        (["cost", PLAIN, *SIZED, "hedas=3"], "E201", "'hedas' is no index"),
        (["cost", PLAIN, *SIZED, "--params", "100"], "E208", "a parameter budget"),
        (["cost", PLAIN, *SIZED[:2], "--params", "3"], "E207", ""),
        (["cost", PLAIN, *SIZED[:2], "--params", "x"], "E801", "--params: invalid int value"),
        (["cost", PLAIN, *SIZED[:2], "--like", "lora"], "E803", "Write lora:8"),
        (["cost", PLAIN, *SIZED[:2], "--like", "lora:"], "E206", "Write 8"),
        (["cost", PLAIN, *SIZED[:2], "--like", "lora:x"], "E206", "'x'"),
        (["cost", PLAIN, *SIZED[:2], "--like", "lora:0"], "E206", ""),
        (["cost", PLAIN, *SIZED[:2], "--like", "lroa:8"], "E306", "Did you mean lora"),
        (["cost", PLAIN, *SIZED, "--init", "C=zeros"], "E301", "'C'"),
        (["cost", PLAIN, *SIZED, "--init", "zeros"], "E803", "not the start of a core"),
        (["cost", PLAIN, *SIZED, "--init", "B=zreos"], "E302", ""),
        (["cost", PLAIN, *SIZED, "--frozen", "C"], "E301", "'C'"),
        (["cost", PLAIN, *SIZED, "--scale", "beta/r"], "E305", "'beta/r'"),
        (["cost", PLAIN, *SIZED, "--alpha", "nan"], "E305", ""),
        (["plan", PLAIN, *SIZED, "--tokens", "0"], "E403", "tokens=0"),
        (["plan", PLAIN, *SIZED, "--shared", "head"], "E403", "'head'"),
        (["plan", PLAIN, *SIZED, "--mode", "sideways"], "E801", "invalid choice: 'sideways'"),
        (["families", "no such thing"], "E806", "no such thing"),
        (["info", "now"], "E801", "'now'"),
        (["finetune", "--seeds", "one"], "E801", "--seeds: invalid int value: 'one'"),
        (["finetune", "--familly", "lora"], "E801", "Did you mean --family?"),
        (["finetune", "--epochs", "0"], "E709", "epochs=0"),
        (["finetune", "--metric", "bleu"], "E801", "invalid choice: 'bleu'"),
        (["finetune", "--family", PLAIN, "--init", "B=ones"], "E304", "no core"),
        (["compare", "--lrs", "lora"], "E803", "--lrs lora is not name=value"),
        (["compare", "--lrs", "lora=fast"], "E803", "--lrs lora=fast is not name=value"),
        (["compare", "--like", "lora:8", "--ranks", "4"], "E709", "like"),
    ],
)
def test_a_mistake_is_one_line_with_a_code(refused, words, code, says):
    line = refused(*words)
    assert line.startswith(f"error: {code}: ")
    assert says in line
    assert code in CODES


def test_a_split_that_does_not_fit(refused):
    sizes = ["layer=12", "proj=3", "in=768", "out=768", "head=12", "head_dim=60", "rank=4"]
    line = refused("cost", "tenslora.att_qkv_depth", *sizes)
    assert line.startswith("error: E205: head=12 x head_dim=60 is 720, but out is 768.")


def test_debug_shows_the_traceback_and_the_caret(cli):
    for words in (["--debug", "show"], ["show", "--debug"]):
        outcome = cli(*words, "W[out in] = B[out r] A[r j]")
        assert (outcome.code, outcome.out) == (2, "")
        assert "Traceback (most recent call last)" in outcome.err
        assert " " * 29 + "^" in outcome.err
        assert outcome.err.splitlines()[-1].startswith("error: E103: ")


@pytest.fixture
def broken(monkeypatch):
    """Let `tenslora version` raise what a test wants."""

    def install(error: BaseException) -> None:
        def run(args):
            raise error

        command = dataclasses.replace(app._COMMANDS["version"], run=run, extra="hf")
        monkeypatch.setitem(app._COMMANDS, "version", command)

    return install


def test_a_bug_says_so_and_asks_for_debug(cli, broken):
    broken(KeyError("rank"))
    outcome = cli("version")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("error: a bug in tenslora: KeyError: 'rank'")
    assert "--debug" in outcome.err
    assert "Traceback" in cli("version", "--debug").err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (BrokenPipeError(), 141, ""),
        (FileNotFoundError(2, "No such file or directory", "a.tsv"), 2, "a.tsv: No such file"),
        (PermissionError(13, "Permission denied", "out"), 2, "out: Permission denied"),
        (OSError("no space\nleft"), 2, "no space left"),
        (MemoryError(), 2, "E808"),
        (ModuleNotFoundError("no", name="torch"), 2, 'pip install "tenslora[hf]"'),
        (ModuleNotFoundError("no", name="sklearn.metrics"), 2, "needs sklearn, which is not"),
        (ImportError("\nbroken library\nlong advice", name="numpy"), 2, "numpy cannot be imported"),
        (ImportError("no", name="tenslora.nn", path="x"), 1, "a bug"),
        (ModuleNotFoundError("no", name="tenslora.nowhere"), 1, "a bug"),
    ],
)
def test_what_happens_around_the_program(cli, broken, error, code, says):
    broken(error)
    outcome = cli("version")
    assert (outcome.code, outcome.out) == (code, "")
    assert says in outcome.err
    assert outcome.err.count("\n") == (1 if says else 0)


def test_no_output_is_left_half_written(cli, monkeypatch):
    """An answer is made whole before the first character of it is printed."""

    def run(args):
        return app._COMMANDS["show"].run  # no answer at all

    command = dataclasses.replace(app._COMMANDS["version"], run=run)
    monkeypatch.setitem(app._COMMANDS, "version", command)
    outcome = cli("version")
    assert (outcome.code, outcome.out) == (1, "")
