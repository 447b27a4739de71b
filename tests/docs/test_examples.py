"""Every class and function of the reference has an example that runs."""

from __future__ import annotations

import doctest
import functools
import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import tenslora

for library in ("torch", "transformers", "peft", "hypothesis"):
    pytest.importorskip(library, reason="its half of the package is imported")

ROOT = Path(__file__).parents[2]
#: How autodoc is told to show a module, or one name of a module.
DIRECTIVE = re.compile(r"^\.\. auto(module|class|function):: (\S+)$", re.MULTILINE)


def public() -> Iterator[str]:
    """Yield the full name of what each package, each module at the top and the reference shows."""
    names = {"tenslora"}
    for info in pkgutil.walk_packages(tenslora.__path__, "tenslora."):
        if info.ispkg or info.name.count(".") == 1:
            names.add(info.name)
    names.discard("tenslora.__main__")
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        for kind, name in DIRECTIVE.findall(page.read_text(encoding="utf-8")):
            if kind == "module":
                names.add(name)
            else:
                yield name
    for name in sorted(names):
        yield from (f"{name}.{one}" for one in importlib.import_module(name).__all__)


def examples(value: object) -> list[doctest.Example]:
    """Return the examples of a docstring that are run."""
    found = doctest.DocTestParser().get_examples(value.__doc__ or "")
    return [one for one in found if doctest.SKIP not in one.options]


def lacking(names: Iterator[str]) -> tuple[int, list[str]]:
    """Return how many classes and functions there are, and those without an example that shows."""
    found: dict[str, bool] = {}
    for name in names:
        module, _, last = name.rpartition(".")
        value = getattr(importlib.import_module(module), last)
        if inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value)):  # cached ones too
            full = f"{value.__module__}.{value.__qualname__}"
            found[full] = bool(examples(value))
    return len(found), sorted(name for name, has in found.items() if not has)


def test_every_public_class_and_function_has_an_example():
    count, without = lacking(public())
    assert without == []
    assert count > 250


def test_a_name_without_an_example_is_found(monkeypatch):
    module = types.ModuleType("made_up")

    def bare():
        """Do nothing."""

    @functools.cache
    def cached():
        """Do nothing again."""

    def skipped():
        """>>> 1 + 1  # doctest: +SKIP
        2
        """

    def shown():
        """>>> 1 + 1
        2
        """

    class Error(ValueError):
        pass

    module.__dict__.update(bare=bare, skipped=skipped, shown=shown, Error=Error)
    module.__dict__.update(cached=cached, number=3)
    monkeypatch.setitem(importlib.sys.modules, "made_up", module)
    names = (f"made_up.{one}" for one in ("bare", "cached", "skipped", "shown", "Error", "number"))
    count, without = lacking(names)
    assert count == 5
    assert [name.rpartition(".")[2] for name in without] == ["Error", "bare", "cached", "skipped"]


def test_examples_of_the_half_without_torch_need_none():
    heavy = re.compile(r"^\s*(>>>|\.\.\.) .*\b(import|from) .*\b(torch|jax|peft|transformers)\b")
    halves = ("nn", "integrations", "testing", "backends", "cli")
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "tenslora").rglob("*.py"))
        if path.relative_to(ROOT / "tenslora").parts[0] not in halves
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if heavy.match(line)
    ]
    assert wrong == []
