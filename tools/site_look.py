"""Open built pages in a headless Chromium, light and dark, wide and narrow, and find faults.

A fault is: an error in the console, a page that scrolls sideways, words that lie on other words,
words outside the picture that they belong to, a dark page that is light.

Usage: .venv/bin/python tools/site_look.py [docs/_build] [--out FOLDER] [--all] [--pages a.html]

The named pages are looked at in all four ways; with ``--all`` every other page too, light and wide,
and dark and narrow.

It needs a chromium and its chromedriver (Debian: apt-get install chromium chromium-driver).
"""

from __future__ import annotations

import argparse
import base64
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

PAGES = (
    "index.html",
    "families.html",
    "families/tenslora.att_qkv_depth.html",
    "special-cases.html",
    "explore.html",
)
WIDTHS = {1280: 900, 390: 844}  # and the heights of the windows

_FIND = """
for (const change of document.getAnimations()) {  // a colour that is still on its way to another
  if (change instanceof CSSTransition) change.finish();
}
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
const words = [];
const walker = document.createTreeWalker(document.querySelector("article") || document.body,
                                         NodeFilter.SHOW_TEXT);
const inside = (rect, node) => {  // what a box with a scroll bar hides is not seen
  for (let e = node; e && e !== document.body; e = e.parentElement) {
    const flow = getComputedStyle(e).overflowX;
    if (flow !== "visible") {
      const box = e.getBoundingClientRect();
      rect = {left: Math.max(rect.left, box.left), right: Math.min(rect.right, box.right),
              top: rect.top, bottom: rect.bottom};
    }
  }
  return rect;
};
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  if (!node.data.trim()) continue;
  const parent = node.parentElement;
  if (parent.closest("title, script, style, math, annotation, details:not([open]) > :not(summary)"))
    continue;
  const style = getComputedStyle(parent);
  if (style.visibility === "hidden" || +style.opacity === 0) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  for (const r of range.getClientRects()) {
    const seen = inside(r, parent);
    if (seen.right - seen.left < 2 || r.height < 2) continue;
    words.push({left: seen.left, right: seen.right, top: r.top + r.height * 0.2,
                bottom: r.bottom - r.height * 0.2, text: node.data.trim().slice(0, 40), node});
  }
}
words.sort((a, b) => a.top - b.top);
const overlaps = [];
for (let n = 0; n < words.length; n++) {
  for (let m = n + 1; m < words.length && words[m].top < words[n].bottom; m++) {
    const a = words[n], b = words[m];
    if (a.node === b.node) continue;
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1.5 && down > 1.5) overlaps.push(`${a.text} | ${b.text}`);
  }
}
const outside = [];
for (const text of document.querySelectorAll("svg.tenslora text, svg.tl-lattice text")) {
  const r = text.getBoundingClientRect(), box = text.closest("svg").getBoundingClientRect();
  if (r.width && (r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1
                  || r.bottom > box.bottom + 1)) outside.push(text.textContent);
}
const paper = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number);
return {wide, overlaps: overlaps.slice(0, 12), outside: outside.slice(0, 12),
        light: paper.slice(0, 3).reduce((a, b) => a + b) / 765,
        height: document.documentElement.scrollHeight};
"""

#: A busy machine shows a page for a moment without its style sheets.
_READY = """
return document.readyState === "complete" && document.body !== null
  && getComputedStyle(document.body).backgroundColor !== "rgba(0, 0, 0, 0)";
"""


def open_browser(*more: str) -> webdriver.Chrome:
    """Start Chromium without a window, from the system; ``more`` are words of its command line."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        sys.exit(
            "site_look: chromium or chromedriver is not installed: apt-get install -y "
            "chromium chromium-driver"
        )
    options = Options()
    options.binary_location = browser
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--allow-file-access-from-files",
        "--hide-scrollbars",
        *more,
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


def look(browser: webdriver.Chrome, page: Path | None, scheme: str, width: int) -> dict[str, Any]:
    """Open a page in a colour scheme at a width, and return what was found.

    Without a page, the one that is open is looked at as it is.
    """
    command = browser.execute_cdp_cmd
    command(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": width,
            "height": WIDTHS.get(width, 900),
            "deviceScaleFactor": 1,
            "mobile": width < 600,
        },
    )
    command(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    if page is not None:
        browser.get(page.resolve().as_uri())
        with suppress(TimeoutException):  # a page that never has a colour is judged as it is
            WebDriverWait(browser, 5, 0.05).until(lambda seen: seen.execute_script(_READY))
    found: dict[str, Any] = browser.execute_script(_FIND)
    found["console"] = [
        entry["message"]
        for entry in browser.get_log("browser")
        if entry["level"] in ("SEVERE", "WARNING")
    ]
    return found


def shoot(browser: webdriver.Chrome, path: Path, width: int, height: int) -> None:
    """Keep a screenshot of the whole page."""
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, 12_000), "scale": 1}
    shot = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
    )
    path.write_bytes(base64.b64decode(shot["data"]))


def problems(found: dict[str, Any], scheme: str) -> Iterator[str]:
    """Yield what is wrong with a page, in words."""
    for message in found["console"]:
        yield f"console: {message}"
    if found["wide"] > 0:
        yield f"scrolls sideways by {found['wide']} pixels"
    for words in found["overlaps"]:
        yield f"words on words: {words}"
    for words in found["outside"]:
        yield f"words outside their picture: {words}"
    if (found["light"] > 0.5) != (scheme == "light"):
        yield f"the page is not {scheme}"


def main() -> int:
    """Look at every page, print what is wrong, and return 1 where something is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", nargs="?", type=Path, default=Path("docs/_build"))
    parser.add_argument("--out", type=Path, help="keep screenshots in this folder")
    parser.add_argument("--pages", nargs="*", default=PAGES)
    parser.add_argument("--all", action="store_true", help="every other page too, in two ways")
    args = parser.parse_args()
    wrong = 0
    browser = open_browser()
    try:
        for page, ways in _tour(args.site, args.pages, args.all).items():
            if not (args.site / page).is_file():
                print(f"{page}: there is no such page")
                wrong += 1
                continue
            for scheme, width in ways:
                found = look(browser, args.site / page, scheme, width)
                told = list(problems(found, scheme))
                wrong += len(told)
                print(f"{page} {scheme} {width}: {'; '.join(told) or 'ok'}")
                if args.out is not None:
                    args.out.mkdir(parents=True, exist_ok=True)
                    name = f"{page.replace('/', '_').removesuffix('.html')}-{scheme}-{width}"
                    shoot(browser, args.out / f"{name}.png", width, found["height"])
    finally:
        browser.quit()
    return min(wrong, 1)


def _tour(site: Path, named: Iterable[str], every: bool) -> dict[str, list[tuple[str, int]]]:
    """Return the pages, and the colour schemes and widths in which each is looked at."""
    wide, narrow = WIDTHS
    ways = [(scheme, width) for scheme in ("light", "dark") for width in WIDTHS]
    tour = dict.fromkeys(named, ways)
    pages = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    for page in pages if every else ():
        if page.partition("/")[0] not in ("_modules", "_static"):
            tour.setdefault(page, [("light", wide), ("dark", narrow)])
    return tour


if __name__ == "__main__":
    sys.exit(main())
