"""What is said of the checks of a family is what the tests do."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tenslora as tl
from tenslora.families.checks import AROUND, CHECKS, checks_of
from tenslora.family import WRAPPERS

HERE = Path(__file__).parent
STATED = [*CHECKS, *(check for check in AROUND if not check.test.startswith(".."))]
FILES = sorted({check.test.split("::")[0] for check in STATED})


@pytest.fixture(scope="module")
def collected():
    """Test -> the parameters it runs with, as pytest collects them."""
    for package in ("torch", "peft", "lycoris"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the tests against {package} are not collected: it is not installed")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    paths = [str(HERE / file) for file in FILES]
    result = subprocess.run([*command, *paths], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    found = {}
    for line in result.stdout.splitlines():
        match = re.fullmatch(r"(?:.*/)?(test_\w+\.py::\w+)(?:\[(.*)\])?", line.strip())
        if match:
            found.setdefault(match[1], []).append(match[2])
    return found


@pytest.mark.parametrize("check", STATED, ids=lambda check: check.test.split("::")[1])
def test_a_stated_check_is_a_test_of_these_families(check, collected):
    assert check.test in collected
    if not check.parametrized:
        assert collected[check.test] == [None]
        text = (HERE / check.test.split("::")[0]).read_text(encoding="utf-8")
        body = text.split(f"def {check.test.split('::')[1]}(")[1].split("\ndef ")[0]
        assert all(f'"{name}"' in body for name in check.families)
        return
    parts = [one.split("-")[0] for one in collected[check.test]]
    assert sorted(parts) == sorted(check.families)


def test_no_test_against_others_code_is_left_unstated(collected):
    stated = {check.test for check in STATED}
    comparing = {t for t in collected if t.endswith(("_and_gradients", "_and_its_gradients"))}
    assert comparing <= stated


def test_the_checks_are_of_families_of_the_catalogue():
    for name in tl.registered():
        assert isinstance(checks_of(name), dict)
    assert checks_of("tenslora.att").keys() == {"tensorly", "published count"}
    assert checks_of("lora").keys() == {"PEFT", "tensorly", "published count"}
    assert checks_of("no such family") == {}
    named = {n for check in CHECKS for n in check.families}
    assert all(n in tl.registered() or f"tenslora.{n}" in tl.registered() for n in named)


def test_every_wrapper_is_held_against_something():
    assert {name for check in AROUND for name in check.families} == WRAPPERS.keys()
    for check in AROUND:
        file, name = check.test.split("::")
        assert f"def {name}(" in (HERE / file).read_text(encoding="utf-8")
