"""The gates on the built pages find what they are there for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_that_lead_nowhere_are_found(tmp_path):
    pytest.importorskip("sphinx", reason="the pages need sphinx")
    check = tool("site_check")
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="#here">1</a><a href="#there">2</a><a href="sub/b.html#x">3</a>'
        '<a href="sub/c.html">4</a><a href="https://example.org/no">5</a></p>'
    )
    (tmp_path / "sub" / "b.html").write_text('<p id="x"><a href="../a.html">1</a></p>')
    found = list(check.broken_links(tmp_path))
    assert found == [
        "a.html: #there: there is no such place on the page",
        "a.html: sub/c.html: there is no such file",
    ]


FAULTS = {
    "words on words": "<p>one</p><p style='margin-top:-2.2em'>two</p>",
    "scrolls sideways": "<div style='width:3000px'>wide</div>",
    "console": "<script>console.error('broken')</script><p>text</p>",
    "words outside": "<svg class='tenslora' width='50' height='20'><text x='40' y='12'>outside"
    "</text></svg>",
    "is not dark": "<p>text</p>",
}


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("selenium", reason="looking at pages needs selenium")
    look = tool("site_look")
    if look.shutil.which("chromium") is None or look.shutil.which("chromedriver") is None:
        pytest.skip("chromium is not installed; continuous integration installs it")
    opened = look.open_browser()
    yield look, opened
    opened.quit()


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(browser, tmp_path, fault):
    look, opened = browser
    page = tmp_path / "page.html"
    scheme = "dark" if "dark" in fault else "light"
    style = "<style>body{background:#fff;overflow:visible}svg{overflow:visible}</style>"
    page.write_text(f"<!doctype html><body>{style}<article>{FAULTS[fault]}</article>")
    found = list(look.problems(look.look(opened, page, scheme, 1280), scheme))
    assert len(found) == 1, found
    assert fault in found[0]


def test_a_page_without_fault_passes(browser, tmp_path):
    look, opened = browser
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><body style='background:#fff'><article><p>a</p><p>b</p>")
    assert list(look.problems(look.look(opened, page, "light", 390), "light")) == []
