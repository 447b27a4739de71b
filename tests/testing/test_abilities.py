"""The page "what works where" says what happens: all of it is tried again."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the torch half is tested where torch is installed")
pytest.importorskip("transformers", reason="the hf extra is not installed")
pytest.importorskip("peft", reason="PEFT is not installed")

from tenslora.testing.abilities import ABILITIES, outcomes, table  # noqa: E402
from tenslora.testing.architectures import ARCHITECTURES  # noqa: E402

KEPT = json.loads(Path(__file__).with_name("works.json").read_text("utf-8"))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_what_is_said_to_work_works(architecture):
    if architecture.name == "timm's ViT" and find_spec("timm") is None:
        pytest.skip("timm is not installed")
    assert outcomes(architecture) == KEPT[architecture.name]


def test_every_architecture_and_ability_is_in_the_table():
    assert [a.name for a in ARCHITECTURES] == list(KEPT)
    lines = table(KEPT).splitlines()
    assert len(lines) == len(KEPT) + 2
    assert all(line.count("|") == len(ABILITIES) + 3 for line in lines)
    assert "| Llama | separate, fewer key heads | yes |" in table(KEPT)
