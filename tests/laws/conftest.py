"""What the laws are asked of beside random equations: the catalogue, and networks that once failed.

A test with an argument ``bound`` runs for each of them.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import tenslora as tl
from tenslora.errors import RedundantRankWarning
from tenslora.testing import small_sizes

REGRESSIONS = Path(__file__).with_name("regressions.txt")


def permanent_list() -> dict[str, tl.Bound]:
    """The networks of regressions.txt, by their lines."""
    found = {}
    for line in REGRESSIONS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            equation, _, text = line.partition(";")
            sizes = {name: int(n) for name, n in (pair.split("=") for pair in text.split())}
            found[line] = bind(tl.family(equation, starts_nonzero=True), sizes)
    return found


def bind(family: tl.Family, sizes: dict[str, int]) -> tl.Bound:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RedundantRankWarning)
        return family.bind(sizes)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "bound" in metafunc.fixturenames and not hasattr(metafunc.function, "hypothesis"):
        catalogue = {name: bind(f, small_sizes(f)) for name, f in tl.registered().items()}
        everyone = {**catalogue, **permanent_list()}
        metafunc.parametrize("bound", everyone.values(), ids=everyone.keys())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A law that fails takes time to find its smallest network: let it."""
    for item in items:
        if hasattr(getattr(item, "function", None), "hypothesis"):
            item.add_marker(pytest.mark.timeout(1200))
