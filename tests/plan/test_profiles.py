"""Machines by name and as files, and the errors of files that are no profile."""

from __future__ import annotations

import json

import pytest

from tenslora.errors import CODES, PlanError, StateError
from tenslora.plan import CPU, H200_BF16, Profile, find_profile, make_plan, profile_to_json
from tenslora.spec import parse

MINE = Profile("mine", 7.5, 2, 3e4, 5e10)


def written(tmp_path, **changes):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**profile_to_json(MINE), **changes}), encoding="utf-8")
    return path


def test_names_profiles_and_files(tmp_path):
    assert find_profile("cpu") is CPU
    assert find_profile("h200-bf16") is H200_BF16
    assert find_profile(MINE) is MINE
    path = written(tmp_path, measured={"device": "a machine"})
    assert find_profile(path) == find_profile(str(path)) == MINE


def test_rates_become_a_balance():
    profile = Profile.from_rates(
        "h", flops_per_second=989e12, bytes_per_second=4.8e12, seconds_per_call=4e-6, itemsize=2
    )
    assert profile.flops_per_byte == pytest.approx(206, abs=0.1)
    assert profile.flops_per_call == pytest.approx(3.956e9)
    # a second of each costs the same
    second = profile.flops_per_second
    assert profile.cost(second, 0) == pytest.approx(profile.cost(0, 4.8e12))
    assert profile.cost(second, 0) == pytest.approx(profile.cost(0, 0, 1 / 4e-6))


def test_a_plan_is_made_for_a_file_and_follows_it(tmp_path):
    """Where starting an operation is dear, the cores of all sites are multiplied first."""
    network = parse("W[layer out in] = B[layer out r] A[layer r in]")
    sizes = {"layer": 12, "out": 64, "in": 64, "r": 8}
    plain = make_plan(network, sizes, tokens=16)
    called = make_plan(network, sizes, tokens=16, profile=written(tmp_path, flops_per_call=1e9))
    assert [len(plan.chains[0].stages) for plan in (plain, called)] == [2, 1]
    assert called.problem.profile.name == "mine"


@pytest.mark.parametrize(
    ("changes", "error", "code", "says"),
    [
        ({"flops_per_byte": -1}, PlanError, "E410", "flops_per_byte = -1\n  It should be a number"),
        ({"flops_per_byte": "10"}, PlanError, "E410", "flops_per_byte = '10'"),
        ({"itemsize": 3}, PlanError, "E410", "1, 2, 4 or 8 bytes"),
        ({"itemsize": True}, PlanError, "E410", "itemsize = True"),
        ({"flops_per_second": 0}, PlanError, "E410", "a number above 0"),
        ({"name": "n" * 81}, StateError, "E603", "no text of 1 to 80 characters"),
        ({"schema": 2}, StateError, "E601", "this release reads schema 1"),
        ({"speed": 1}, StateError, "E602", "unknown keys speed"),
    ],
)
def test_files_that_are_no_profile(tmp_path, changes, error, code, says):
    with pytest.raises(error) as told:
        find_profile(written(tmp_path, **changes))
    assert told.value.code == code
    assert says in str(told.value)


@pytest.mark.parametrize("text", ["", "not JSON", "[" * 70_000])
def test_text_that_is_not_json(tmp_path, text):
    path = tmp_path / "mine.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanError, match="it is not JSON\n  Write it with `tenslora tune`") as told:
        find_profile(path)
    assert told.value.code == "E412"


def test_profiles_that_are_not_there(tmp_path):
    with pytest.raises(PlanError, match="no profile 'gpu'\n  The profiles are cpu, h200-bf16;"):
        find_profile("gpu")
    with pytest.raises(PlanError, match="No such file"):
        find_profile(tmp_path / "mine.json")
    assert {"E410", "E411", "E412", "E413"} <= CODES.keys()


def test_rates_that_no_machine_has():
    with pytest.raises(PlanError, match="bytes_per_second = 0") as told:
        Profile.from_rates(
            "m", flops_per_second=1, bytes_per_second=0, seconds_per_call=0, itemsize=4
        )
    assert told.value.code == "E410"
