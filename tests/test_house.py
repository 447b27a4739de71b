"""The package as a whole: what an import costs, that codes are explained, that versions agree."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tenslora
from tenslora.errors import CODES

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "tenslora").rglob("*.py"))


def run(code: str) -> str:
    """Run Python in a fresh process and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_importing_the_package_brings_no_tensor_library_and_prints_nothing():
    heavy = ("torch", "jax", "tltorch", "transformers", "peft", "scipy", "tensorly", "matplotlib")
    out = run(f"import sys, tenslora; print([m for m in {heavy} if m in sys.modules])")
    assert out == "[]\n"


def test_pictures_and_proofs_are_imported_when_they_are_used():
    late = ("tenslora.draw", "tenslora.algebra.embed", "tenslora.family.proving")
    out = run(
        "import sys, tenslora as tl\n"
        f"print([m for m in {late} if m in sys.modules])\n"
        "tl.embeds('W[out in] = B[out r] A[r in]', 'W[out in] = T[out in]')\n"
        "tl.family('W[out in] = B[out r] A[r in]', init={'B': 'zeros'}).draw()\n"
        f"print([m for m in {late} if m in sys.modules])"
    )
    assert out == f"[]\n{list(late)}\n"


@pytest.mark.parametrize("name", ["tenslora.family", "tenslora.algebra"])
def test_names_that_are_imported_late_are_listed_and_found(name):
    package = importlib.import_module(name)
    assert set(package.__all__) <= set(dir(package))
    assert [name for name in package.__all__ if getattr(package, name, None) is None] == []
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_parsing_and_counting_need_no_numpy():
    out = run(
        "import sys\n"
        "import tenslora as tl\n"
        "f = tl.family('W[out in] = B[out r] A[r in]', init={'B': 'zeros'})\n"
        "print(f.bind({'out': 4, 'in': 4}, r=2).trainable_parameters, 'numpy' in sys.modules)"
    )
    assert out == "16 False\n"


def test_every_code_that_is_raised_is_explained():
    used = {
        code
        for path in SOURCES
        if path.name != "errors.py"
        for code in re.findall(r"\"([EW]\d{3})\"", path.read_text(encoding="utf-8"))
    }
    assert sorted(used - CODES.keys()) == []


def test_every_explained_code_is_used():
    text = "".join(p.read_text(encoding="utf-8") for p in SOURCES if p.name != "errors.py")
    assert [code for code in CODES if code not in text] == []


def test_the_changelog_and_the_metadata_know_this_version():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {tenslora.__version__}" in changes
    assert importlib.metadata.version("tenslora") == tenslora.__version__


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"\bpickle\.|import pickle|torch\.load\(", "nothing is unpickled"),
        (r"import tltorch|from tltorch", "importing it flips tensorly's backend"),
        (r"np\.random\.seed|torch\.manual_seed|random\.seed\(", "global generators are the user's"),
        (r"set_num_threads|set_default_dtype|set_backend\(", "global settings are the user's"),
        (r"TODO|FIXME|XXX", "an issue says more"),
    ],
)
def test_sources_keep_the_habits_of_the_house(pattern, reason):
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == [], reason
