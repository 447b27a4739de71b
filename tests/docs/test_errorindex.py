"""The index of errors: every code has an entry, and says what the library says."""

from __future__ import annotations

import re
from pathlib import Path

import errorindex
import pytest

import tenslora as tl
from tenslora.errors import CODES

PAGE = errorindex.error_index()
ENTRIES = {part.split("\n")[0]: part for part in re.split(r"(?m)^### ", PAGE)[1:]}


def test_every_code_has_an_entry_with_what_is_said():
    assert sorted(ENTRIES) == sorted(CODES)
    assert [code for code, text in ENTRIES.items() if "| it says |" not in text] == []


def test_every_message_has_its_cure():
    empty = {code: re.findall(r"(?m)^\| .+ \| *\|$", text) for code, text in ENTRIES.items()}
    assert {code: rows for code, rows in empty.items() if rows} == {}
    assert PAGE.count(errorindex._OTHERWISE) < 10


def spoken(text):
    """Return the messages of an entry as patterns."""
    rows = re.findall(r"(?m)^\| (.+?) \| .* \|$", text)[1:]
    plain = [re.sub(r"\\(.)", r"\1", row) for row in rows]
    return [".*".join(map(re.escape, row.split("…"))) for row in plain]


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("E103", lambda: tl.parse("W[out in] = B[out r] A[r j]")),
        ("E105", lambda: tl.parse("W[out in] = B[out out] A[out in]")),
        ("E201", lambda: tl.families.lora(x=3)),
        ("E306", lambda: tl.resolve("lroa")),
    ],
)
def test_an_entry_says_what_the_library_says(code, call):
    with pytest.raises(tl.TensloraError) as caught:
        call()
    assert caught.value.code == code
    assert any(re.fullmatch(p, caught.value.what) for p in spoken(ENTRIES[code]))


def test_the_explorer_links_to_the_entries():
    script = Path(__file__).parents[2] / "docs" / "_static" / "explorer.js"
    assert "`errors.html#${code.toLowerCase()}`" in script.read_text(encoding="utf-8")
    assert all(f"({code})=\n### {code}\n" in PAGE.replace("\n\n", "\n") for code in CODES)
