"""The page "what works where" says what happens: all of it is tried again."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the torch half is tested where torch is installed")
pytest.importorskip("transformers", reason="the hf extra is not installed")
pytest.importorskip("peft", reason="PEFT is not installed")

from tenslora.testing.abilities import ABILITIES, outcomes, table  # noqa: E402
from tenslora.testing.architectures import ARCHITECTURES  # noqa: E402
from tenslora.testing.spreading import WAYS, spread_outcomes  # noqa: E402

KEPT = json.loads(Path(__file__).with_name("works.json").read_text("utf-8"))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_what_is_said_to_work_works(architecture):
    if architecture.name == "timm's ViT" and find_spec("timm") is None:
        pytest.skip("timm is not installed")
    kept = KEPT[architecture.name]
    assert outcomes(architecture) == {ability: kept[ability] for ability in ABILITIES}


def spread(names):
    if not torch.distributed.is_available() or sys.platform != "linux":
        pytest.skip("torch.distributed with gloo is tested on Linux")
    found = spread_outcomes(names)
    assert found == {name: {way: KEPT[name][way] for way in WAYS} for name in names}


def test_training_in_two_processes():
    """A fused projection, fewer key heads, an encoder beside a decoder; all others are slow."""
    spread(["GPT-2", "Llama", "T5"])


@pytest.mark.slow
def test_training_in_two_processes_on_every_architecture():
    timm = find_spec("timm") is not None
    spread([a.name for a in ARCHITECTURES if timm or a.name != "timm's ViT"])


def test_an_architecture_that_is_not_there():
    with pytest.raises(ValueError, match="no architecture is called 'Lama'"):
        spread_outcomes(["BERT", "Lama"])


def test_every_architecture_and_ability_is_in_the_table():
    assert [a.name for a in ARCHITECTURES] == list(KEPT)
    lines = table(KEPT).splitlines()
    assert len(lines) == len(KEPT) + 2
    assert all(line.count("|") == len(ABILITIES) + len(WAYS) + 3 for line in lines)
    assert "| Llama | separate, fewer key heads | yes |" in table(KEPT)
