"""Settings: what is refused, how they are typed and printed, which rows they mean."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

import tenslora as tl
from tenslora.errors import DataError, PlanError, SizeError
from tenslora.family import Wrapped, parse_ranks
from tenslora.integrations import CompareConfig, FinetuneConfig
from tenslora.integrations.config import parse_family
from tenslora.integrations.methods import Method, method_of, methods_of

TIED = "W[layer proj out in] = B[layer proj out r] A[r in]"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"epochs": 0}, "epochs=0 is out of range\n.*an integer of at least 1"),
        ({"epochs": 1.5}, "epochs=1.5 is out of range"),
        ({"epochs": True}, "epochs=True"),
        ({"lr": 0.0}, "lr=0.0 is out of range\n.*a number above 0"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"warmup": 1.5}, "warmup=1.5 .*\n.*at least 0 and at most 1"),
        ({"schedule": "sine"}, "schedule='sine' is unknown\n.*cosine, linear, constant"),
        ({"metric": "bleu"}, "metric='bleu' is unknown"),
        ({"seeds": ()}, "seeds=\\(\\)"),
        ({"seeds": (-1,)}, "seeds=\\(-1,\\)"),
        ({"max_rows": 1}, "max_rows=1"),
        ({"keep": "first"}, "keep='first' is unknown\n.*last, best"),
    ],
)
def test_values_out_of_range(changed, said):
    with pytest.raises(DataError, match=rf"E709: {said}"):
        FinetuneConfig(**changed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"jobs": 0}, "jobs=0"),
        ({"like": "lora:8", "ranks": 4}, "like and ranks are both given"),
        ({"lrs": {"lora": -1.0}}, "lr of lora=-1.0"),
        ({"epochs_of": {"cola": 0}}, "epochs of cola=0"),
        ({"data": ()}, "no task is named"),
    ],
)
def test_comparisons_out_of_range(changed, said):
    with pytest.raises(DataError, match=rf"E709: {said}"):
        CompareConfig(**changed)


def test_a_machine_that_is_not_known():
    assert FinetuneConfig(profile="h200-bf16").command() == "tenslora finetune --profile h200-bf16"
    with pytest.raises(PlanError, match=r"E412: there is no profile 'gpu'\n.*tenslora tune"):
        CompareConfig(profile="gpu")


@pytest.mark.parametrize("text", ["", "eight", "a=", "=4", "a=4 5", "a=-1", "4.5"])
def test_ranks_that_cannot_be_read(text):
    with pytest.raises(SizeError, match=r"E206: ranks .* cannot be read"):
        parse_ranks(text)


def test_families_with_ranks():
    family, given = parse_family("lora:r=4")
    assert (dict(family.ranks), given) == ({"r": 4}, True)
    assert parse_family("lora")[1] is False
    assert parse_family(tl.resolve("lora")(r=2)) == (tl.resolve("lora")(r=2), True)


@pytest.mark.parametrize("kind", [FinetuneConfig, CompareConfig])
def test_every_setting_is_explained(kind):
    for f in fields(kind):
        assert f.metadata["help"], f.name
        assert f.metadata["type"] in (str, int, float, bool)


def test_settings_are_json_and_a_command():
    family = tl.family(TIED, init={"B": "zeros"})
    config = FinetuneConfig(family=family, like="lora:4", seeds=(0, 1), lr=2e-3, bf16=True)
    saved = json.loads(json.dumps(config.to_dict()))
    assert saved["family"]["equation"] == TIED
    assert config.command() == (
        f"tenslora finetune --family '{TIED}' --init B=zeros --init A=kaiming "
        "--like lora:4 --lr 0.002 --bf16 --seeds 0 1"
    )


def test_a_family_in_a_wrapper():
    by_hand = tl.dora(tl.family(TIED, init={"B": "zeros"}))
    config = FinetuneConfig(family=by_hand, sizes={"head": 4})
    saved = json.loads(json.dumps(config.to_dict()))
    assert Wrapped.from_json(saved["family"]) == by_hand
    said = f"--family 'dora({TIED})' --init B=zeros --init A=kaiming --sizes head=4"
    assert config.command() == f"tenslora finetune {said}"
    named = FinetuneConfig(family=tl.hira(tl.resolve("lora")(r=4)))
    assert named.command() == "tenslora finetune --family 'hira(lora:r=4)'"
    for method in (
        method_of(config),
        method_of(named),
        method_of(FinetuneConfig(family="dora(lora:r=4)")),
    ):
        assert method.wrapper is not None
        assert Method.from_json(json.loads(json.dumps(method.to_json()))) == method
    rows = methods_of(CompareConfig(families=("dora(lora)", "dora(lora:4)"), like="lora:8"))
    assert [row.name for row in rows][2:] == ["dora(lora)", "dora(lora:4)"]
    assert [(str(row.wrapper), row.like is None) for row in rows][2:] == [
        ("dora", False),
        ("dora", True),
    ]


def test_a_method_of_finetune():
    assert method_of(FinetuneConfig()).ranks == 8
    assert method_of(FinetuneConfig(family="lora:4")).ranks is None
    assert method_of(FinetuneConfig(family="head")).family is None
    like = method_of(FinetuneConfig(family="lotr", like="lora:4")).like
    assert like is not None
    assert dict(like.ranks) == {"r": 4}


def test_rows_at_equal_parameters():
    rows = methods_of(CompareConfig(families=("lotr", "fact_tt:4"), lrs={"lotr": 0.01}))
    assert [row.name for row in rows] == ["head alone", "lora:8", "lotr", "fact_tt:4"]
    head, lora, lotr, fact = rows
    assert head.family is None
    assert dict(lora.family.ranks) == {"r": 8}
    assert (lotr.like, lotr.lr) == (lora.family, 0.01)
    assert (fact.like, fact.ranks, fact.lr) == (None, None, None)


def test_rows_at_equal_rank():
    rows = methods_of(CompareConfig(families=("lora", "lotr"), ranks=4, head=False))
    assert [(row.name, row.ranks, row.like) for row in rows] == [
        ("lora", 4, None),
        ("lotr", 4, None),
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"families": ("lotr", "lotr")}, "'lotr' is given twice"),
        ({"families": ("lotr",), "lrs": {"lort": 1e-3}}, "lrs names 'lort', no row"),
        ({"like": "lora"}, "like='lora' has no ranks\n.*lora:8"),
    ],
)
def test_rows_that_contradict_each_other(changed, said):
    with pytest.raises(DataError, match=rf"E709: {said}"):
        methods_of(CompareConfig(**changed))


def test_a_method_goes_through_json():
    for row in methods_of(CompareConfig(families=("tenslora.att", TIED), lrs={TIED: 0.1})):
        assert Method.from_json(json.loads(json.dumps(row.to_json()))) == row
