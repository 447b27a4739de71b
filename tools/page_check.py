"""Check the code that pages show and nobody runs: it parses, and what it names is there.

Examples with prompts are run as doctests, cells of code when the pages are built. What is left are
plain blocks of Python: each has to parse, every ``tl.name`` in it has to exist, and a call of one
has to use keywords that it takes.

Usage: .venv/bin/python tools/page_check.py [PAGE.md ...]
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import tenslora

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^(?P<in> *)```python\n(?P<code>.*?)^(?P=in)```", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Return every page that is kept in the repository."""
    command = ["git", "ls-files", "*.md"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    return [ROOT / name for name in found.stdout.split()]


def faults(page: Path) -> Iterator[str]:
    """Yield what is wrong with the plain blocks of Python of a page, with their lines."""
    text = page.read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        code = textwrap.dedent(block["code"])
        first = text.count("\n", 0, block.start("code")) + 1
        if ">>>" in code:
            continue
        try:
            tree = ast.parse(code)
        except SyntaxError as error:
            yield f"{page.name}:{first + (error.lineno or 1) - 1}: this is no Python: {error.msg}"
            continue
        for line, what in _unknown(tree):
            yield f"{page.name}:{first + line - 1}: {what}"


def _unknown(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the names of tenslora that do not exist, and the keywords that are not taken."""
    known = dict(_imported(tree)) or {"tl": tenslora}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = _value(node.value, known)
            if owner is not None and not hasattr(owner, node.attr):
                yield node.lineno, f"{ast.unparse(node)} does not exist"
        if isinstance(node, ast.Call):
            called = _value(node.func, known)
            for keyword in node.keywords if callable(called) else ():
                if keyword.arg and not _takes(called, keyword.arg):
                    yield node.lineno, f"{ast.unparse(node.func)} takes no {keyword.arg}="


def _imported(tree: ast.Module) -> Iterator[tuple[str, object]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "tenslora":
                    yield alias.asname or alias.name, tenslora


def _value(node: ast.AST, known: dict[str, object]) -> object | None:
    """Return what an expression of names and dots stands for, where it leads into tenslora."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, known)
        return None if owner is None else getattr(owner, node.attr, None)
    return None


def _takes(called: object, keyword: str) -> bool:
    if isinstance(called, tenslora.Family):
        called = type(called).__call__
    parameters = inspect.signature(called).parameters  # type: ignore[arg-type]
    return keyword in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def main() -> int:
    """Print what is wrong, and return 1 where something is."""
    wrong = [fault for page in [*map(Path, sys.argv[1:])] or pages() for fault in faults(page)]
    print("\n".join(wrong) or "every block of Python parses, and what it names is there")
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
