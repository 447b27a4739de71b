"""The explorer in a browser, and the gate on it: each fault that is put in is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import explorer
import pytest

site_explore = pytest.importorskip("site_explore", reason="looking at pages needs selenium")

DOCS = Path(__file__).parents[2] / "docs"
STYLE = ":root{color-scheme:light dark}body{background:Canvas;color:CanvasText;margin:0}"

#: What is put into which file instead of what, and what has to be found then.
FAULTS = {
    "trained parameters are shown": (
        "_static/explorer.js", "(n, index) => n * sizes[index]", "(n, index) => n + sizes[index]"
    ),
    "a rank of 0 is not refused": ("_static/explorer.js", "i.size < 1", "i.size < 0"),
    "being offline is not said": ("_static/explorer.js", "${say.offline}", "${say.idle}"),
    "a control without a name": ("explore.html", '<label for="tlx-family">Start from</label>', ""),
    "console": ("_static/explorer.js", "tell(say.idle);\n", "console.error('no');\n"),
    "scrolls sideways": ("explore.html", "</article>", "<hr style='width:2000px'></article>"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("chromium is not installed; continuous integration installs it")
    folder = tmp_path_factory.mktemp("explorer")
    static = folder / "_static"
    shutil.copytree(DOCS / "_static", static)
    explorer.write_scripts(static)
    (folder / "explore.html").write_text(
        f"<!doctype html><meta charset=utf-8><title>Explorer</title><style>{STYLE}</style>"
        '<link rel=stylesheet href="_static/site.css">'
        f"<body><article>{explorer.controls()}</article>",
        encoding="utf-8",
    )
    return folder


def found(folder):
    page = folder / "explore.html"
    return list(site_explore.visit(page, None, names=["lora", "vera", "tenslora.att_qkv_depth"]))


def test_the_families_work_offline_from_a_file(pages):
    assert found(pages) == []


def test_each_fault_is_found(pages, tmp_path, monkeypatch):
    monkeypatch.setattr(site_explore, "PATIENCE", 2)
    broken = tmp_path / "broken"
    shutil.copytree(pages, broken)
    for name, right, wrong in FAULTS.values():
        text = (broken / name).read_text(encoding="utf-8")
        assert right in text
        (broken / name).write_text(text.replace(right, wrong), encoding="utf-8")
    told = found(broken)
    assert [fault for fault in FAULTS if not any(fault in one for one in told)] == [], told
