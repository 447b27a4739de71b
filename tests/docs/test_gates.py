"""What stops a broken page: each gate finds the fault that it is there for, on a small site."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import shlex
import types
import zlib
from pathlib import Path

import pytest

pytest.importorskip("myst_nb", reason="the pages need sphinx")
sphinx = importlib.import_module("sphinx.cmd.build")
page_check = importlib.import_module("page_check")
site_check = importlib.import_module("site_check")

ROOT = Path(__file__).parents[2]


def settings() -> str:
    """Return what the configuration says of cells of code and of Markdown, as it stands there."""
    tree = ast.parse((ROOT / "docs" / "conf.py").read_text(encoding="utf-8"))
    lines = [
        ast.unparse(node)
        for node in tree.body
        if isinstance(node, ast.Assign) and re.match("nb_|myst_", ast.unparse(node))
    ]
    return "\n".join(["extensions = ['myst_nb', 'sphinx.ext.autodoc']", *lines])


@pytest.fixture
def build(tmp_path, capsys):
    """Return what builds a small site with the words of the Makefile: its status, what it says."""

    def run(pages: dict[str, str]) -> tuple[int, str]:
        source = tmp_path / "source"
        source.mkdir()
        (source / "conf.py").write_text(settings(), encoding="utf-8")
        for name, text in pages.items():
            (source / name).write_text(text, encoding="utf-8")
        recipe = re.search(r"sphinx-build (.*) docs docs/_build", (ROOT / "Makefile").read_text())
        status = sphinx.main([*shlex.split(recipe[1]), str(source), str(tmp_path / "built")])
        return status, capsys.readouterr().err

    return run


CELL = """---
file_format: mystnb
kernelspec: {name: python3}
---
# A

```{code-cell}
raise ValueError("a broken cell")
```
"""
SOUND = "# A\n\n{ref}`there <there>`\n\n(there)=\n## B\n"


def test_a_sound_site_is_built(build):
    assert build({"index.md": SOUND}) == (0, "")


def test_references_that_lead_nowhere_and_orphans_stop_the_pages(build):
    index = "# A\n\n{doc}`gone`, {ref}`nowhere`, {func}`tenslora.none`, [x](#none)\n"
    status, told = build({"index.md": index, "orphan.md": "# An orphan\n"})
    assert status != 0
    for fault in (
        "unknown document: 'gone'",
        "undefined label: 'nowhere'",
        "reference target not found: tenslora.none",
        "cross-reference target not found: 'none'",
        "orphan.md: WARNING: document isn't included in any toctree",
    ):
        assert fault in told, told


def test_a_cell_that_raises_stops_the_pages(build):
    status, told = build({"index.md": CELL})
    assert status != 0
    assert "ExecutionError" in told, told


def test_a_public_name_without_a_page_is_found(tmp_path, monkeypatch):
    module = types.ModuleType("tenslora.made_up")
    module.known, module.forgotten = object(), object()
    module.__all__ = ["known", "forgotten"]
    monkeypatch.setattr(site_check, "_packages", lambda: [module])
    head = "# Sphinx inventory version 2\n# Project: a\n# Version: 1\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    body = zlib.compress(b"tenslora.made_up.known py:data 1 a.html#$ -\n")
    (tmp_path / "objects.inv").write_bytes(head.encode() + body)
    told = list(site_check.undocumented(tmp_path))
    assert told == ["tenslora.made_up.forgotten: no page of the reference describes it"]


def test_a_page_that_nothing_leads_to_is_found(tmp_path):
    (tmp_path / "index.html").write_text('<a href="a.html">a</a>')
    (tmp_path / "a.html").write_text('<a href="index.html#x">a</a>')
    (tmp_path / "b.html").write_text('<a href="a.html">a</a>')
    assert list(site_check.unreached(tmp_path)) == ["b.html: no page leads here"]


FENCE = "text\n\n```python\n%s\n```\n"


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("x = (", "page.md:4: this is no Python"),
        ("import tenslora as tl\ntl.nothing()", "page.md:5: tl.nothing does not exist"),
        ("tl.families.lora.draw(paths=3)", "page.md:4: tl.families.lora.draw takes no paths="),
        ("tl.attach(model, 'lora', rank=8)", "page.md:4: tl.attach takes no rank="),
    ],
)
def test_code_that_cannot_run_is_found(tmp_path, code, fault):
    page = tmp_path / "page.md"
    page.write_text(FENCE % code)
    (told,) = page_check.faults(page)
    assert told.startswith(fault)


def test_code_of_the_pages_is_python_and_names_what_there_is():
    assert [fault for page in page_check.pages() for fault in page_check.faults(page)] == []


def test_every_page_with_a_prompt_is_among_the_doctests():
    line = re.search(r"^PAGES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    tested = {page for pattern in line[1].split() for page in ROOT.glob(pattern)}
    prompted = {
        page
        for page in page_check.pages()
        if re.search(r"^\s*>>> ", page.read_text("utf-8"), re.MULTILINE)
    }
    assert ROOT / "README.md" in prompted
    assert prompted - tested == set()


def prompts(source: str) -> int:
    """Count the examples in the strings of a module that stand alone, as docstrings do."""
    parser = doctest.DocTestParser()
    texts = [
        node.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    return sum(len(parser.get_examples(text)) for text in texts if ">>>" in text)


def missed(module: types.ModuleType, source: str) -> int:
    """Return how many examples of a module no doctest finds."""
    found = doctest.DocTestFinder().find(module)
    return prompts(source) - sum(len(test.examples) for test in found)


def test_no_example_in_a_docstring_is_missed():
    wrong = {}
    for path in sorted((ROOT / "tenslora").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if ">>>" in source:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            module = importlib.import_module(name.removesuffix(".__init__"))
            if missed(module, source):
                wrong[name] = missed(module, source)
    assert wrong == {}


def test_an_example_where_no_doctest_looks_is_found():
    source = '"""A.\n\n>>> 1\n1\n"""\nx = 1\n"""About x.\n\n>>> x\n1\n"""\n'
    module = types.ModuleType("made_up", "A.\n\n>>> 1\n1\n")
    assert missed(module, source) == 1
