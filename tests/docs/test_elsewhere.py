"""Names of other libraries lead to their documentation, without fetching anything."""

from __future__ import annotations

import importlib
import posixpath
from pathlib import Path

import elsewhere
import pytest

inventories = pytest.importorskip("sphinx.util.inventory", reason="the pages need sphinx")
NAMES = [(library, name) for library, (_, names) in elsewhere.LIBRARIES.items() for name in names]


@pytest.mark.parametrize(("library", "name"), NAMES)
def test_a_name_is_one_of_its_library(library, name):
    module, _, last = name.rpartition(".")
    assert hasattr(importlib.import_module(module), last)
    if library != "python":
        assert name.startswith(library)


def test_the_inventories_are_read_as_sphinx_reads_them(tmp_path):
    mapping = elsewhere.write_inventories(tmp_path)
    assert mapping["torch"][0] == "https://docs.pytorch.org/docs/stable/"
    places = {}
    for address, path in mapping.values():
        with Path(path).open("rb") as file:
            found = inventories.InventoryFile.load(file, address, posixpath.join)
        places |= {name: entry.uri for name, entry in found["py:class"].items()}
    module = "https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module"
    for name in ("torch.nn.Module", "nn.Module", "Module"):
        assert places[name] == module
    assert places["Any"] == "https://docs.python.org/3/library/typing.html#typing.Any"
    assert places["Path"].endswith("library/pathlib.html#pathlib.Path")
