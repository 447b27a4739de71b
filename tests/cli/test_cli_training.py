"""finetune, compare and demo: their options are the fields of the configurations."""

from __future__ import annotations

import dataclasses
import shlex

import pytest

from tenslora import integrations
from tenslora.cli import app
from tenslora.family import Family
from tenslora.integrations import CompareConfig, FinetuneConfig

PLAIN = "W[out in] = B[out r] A[r in]"


class Found:
    """Stands for a report."""

    def to_dict(self):
        return {"score": 0.5, "loss": float("nan"), "path": "out"}

    def to_text(self):
        return "a table"


@pytest.fixture
def calls(monkeypatch):
    """Replace the three functions that train, and note what they were called with."""
    seen = []

    def stand_in(*given, **settings):
        print("noise of a library")  # noqa: T201
        settings["talk"]("10 of 20 steps")
        seen.append((*given, {k: v for k, v in settings.items() if k != "talk"}))
        return Found()

    for name in ("finetune", "compare", "demo"):
        monkeypatch.setitem(vars(integrations), name, stand_in)
    return seen


@pytest.mark.parametrize("command", ["finetune", "compare", "demo"])
def test_the_answer_is_data_and_the_rest_is_talk(cli, calls, command):
    outcome = cli(command)
    assert (outcome.code, outcome.out) == (0, "a table\n")
    assert outcome.err == "noise of a library\n10 of 20 steps\n"
    assert cli(command, "--json").data == {"score": 0.5, "loss": None, "path": "out"}


@pytest.mark.parametrize(
    ("command", "kind"), [("finetune", FinetuneConfig), ("compare", CompareConfig)]
)
def test_every_field_is_an_option_and_no_option_is_the_default(cli, calls, command, kind):
    helped = cli(command, "--help").out
    for field in dataclasses.fields(kind):
        assert "--" + field.name.replace("_", "-") in helped
    cli(command)
    assert calls == [(kind(), {})]


def test_options_fill_the_configuration(cli, calls):
    words = """--family lotr --ranks 8 --targets query key --seeds 0 1 2 --lr 3e-4 --model here
        --data train.tsv --out there --batch-size 16 --bf16 --metric f1 --alpha 2.5"""
    cli("finetune", *words.split())
    assert calls[0][0] == FinetuneConfig(
        family="lotr",
        ranks="8",
        targets=("query", "key"),
        seeds=(0, 1, 2),
        lr=3e-4,
        model="here",
        data="train.tsv",
        out="there",
        batch_size=16,
        bf16=True,
        metric="f1",
        alpha=2.5,
    )


@pytest.mark.parametrize(
    "config",
    [
        FinetuneConfig(family=PLAIN, like="lora:8", seeds=(0, 1), bf16=True, text=("a", "b")),
        FinetuneConfig(ranks="a=4 b=2", lr=3e-4, max_rows=8),
        CompareConfig(families=("lora:4", PLAIN), lrs={PLAIN: 0.1}, ranks=4, head=False),
    ],
    ids=["finetune", "finetune, ranks", "compare"],
)
def test_the_command_that_a_report_names_gives_the_same_configuration(cli, calls, config):
    assert cli(*shlex.split(config.command())[1:]).code == 0
    assert calls == [(config, {})]


def test_ranks_for_each_bond(cli, calls):
    cli("finetune", "--ranks", "a=4", "b=2")
    assert calls[0][0].ranks == "a=4 b=2"


def test_like_goes_through(cli, calls):
    cli("finetune", "--family", PLAIN, "--like", "lora:8")
    assert (calls[0][0].family, calls[0][0].like) == (PLAIN, "lora:8")


def test_an_equation_with_settings_becomes_a_family(cli, calls):
    words = ["--init", "A=zeros", "--init", "B=orthogonal", "--scale", "alpha/r"]
    assert cli("finetune", "--family", PLAIN, *words).code == 0
    family = calls[0][0].family
    assert isinstance(family, Family)
    assert (str(family.init["A"]), str(family.init["B"])) == ("zeros", "orthogonal")
    assert str(family.scale) == "alpha/r"


def test_settings_change_the_default_family_too(cli, calls):
    cli("finetune", "--init", "A=orthogonal")
    assert str(calls[0][0].family.init["A"]) == "orthogonal"


def test_compare_reads_rates_of_families_and_equations(cli, calls):
    words = ["--families", "lora:4", PLAIN, "--lrs", "lora=0.01", f"{PLAIN}=0.1", "--no-head"]
    cli("compare", *words, "--jobs", "2", "--data", "a.tsv", "b.tsv")
    config = calls[0][0]
    assert config.families == ("lora:4", PLAIN)
    assert config.lrs == {"lora": 0.01, PLAIN: 0.1}
    assert (config.head, config.jobs, config.data) == (False, 2, ("a.tsv", "b.tsv"))


def test_demo_takes_a_folder_and_quick(cli, calls):
    cli("demo", "--out", "x", "--quick")
    assert calls == [("x", {"quick": True})]


def test_ctrl_c_in_training(cli, monkeypatch):
    def stop(*given, **settings):
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(integrations), "finetune", stop)
    outcome = cli("finetune")
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "interrupted\n")


def test_help_shows_defaults(cli):
    helped = " ".join(cli("finetune", "--help").out.split())
    assert "rows in a training batch (default: 32)" in helped
    assert "{accuracy,auto,f1,matthews}" in helped or "{auto,accuracy,f1,matthews}" in helped


def test_every_command_is_one_object():
    assert all(command.name == name for name, command in app._COMMANDS.items())
