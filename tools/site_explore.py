"""Use the explorer of the built pages as a reader does, in Chromium, and find what is wrong.

Usage: .venv/bin/python tools/site_explore.py [docs/_build] [--pyodide FOLDER] [--out FOLDER]

The page is opened as a file. Offline nothing outside can be reached: every family of the list is
chosen, and its count compared with tenslora's. With ``--pyodide``, the folder of the npm package of
that name, the content network is played by this machine, so that Python runs in the page: equations
are typed, right and wrong, and picture, counts and errors compared with tenslora's.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from site_look import WIDTHS, look, open_browser, problems, shoot

import tenslora
from tenslora.errors import TensloraError

HOST = "cdn.jsdelivr.net"
START, PATIENCE = 300, 20  # seconds for Python to start on a busy machine, and for anything else
OWN = "W[layer proj out in] = V[out b] G[layer proj b a] U[a in]"
WRONG = "W[layer proj out in] = V[out b] G[layer proj b a] U[q in]"


class Page:
    """The explorer, open in a browser."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self.browser = browser
        browser.get(address)

    def part(self, name: str):
        """Return an element of the explorer."""
        return self.browser.find_element(By.ID, f"tlx-{name}")

    def text(self, name: str) -> str:
        """Return the words of an element."""
        return self.part(name).text.strip()

    @property
    def state(self) -> str:
        """``idle``, ``loading``, ``live`` or ``offline``."""
        return self.browser.find_element(By.CLASS_NAME, "tlx").get_attribute("data-state") or ""

    def choose(self, name: str) -> None:
        """Choose a family of the list."""
        Select(self.part("family")).select_by_visible_text(name)

    def write(self, element, text: str) -> None:
        """Replace what stands in a field."""
        element.send_keys(Keys.CONTROL, "a")
        element.send_keys(Keys.NULL, text or Keys.DELETE)

    def size(self, name: str):
        """Return the field of an index."""
        return self.browser.find_element(By.CSS_SELECTOR, f'.tlx fieldset input[name="{name}"]')

    def sizes(self) -> dict[str, int]:
        """Return what stands in the fields."""
        fields = self.browser.find_elements(By.CSS_SELECTOR, ".tlx fieldset input")
        return {field.get_attribute("name"): int(field.get_property("value")) for field in fields}

    def wait(self, done, seconds: float = 0) -> bool:
        """Wait until something is so; return whether it came."""
        end = time.monotonic() + (seconds or PATIENCE)
        while time.monotonic() < end:
            if done():
                return True
            time.sleep(0.05)
        return False

    def nameless(self) -> Iterator[str]:
        """Yield every control without a name for those who cannot see it."""
        for element in self.browser.find_elements(
            By.CSS_SELECTOR, ".tlx :is(input, select, textarea, button)"
        ):
            if element.is_displayed() and not element.accessible_name:
                yield f"a control without a name: {element.get_attribute('outerHTML')}"


def count(family: tenslora.Family, sizes: dict[str, int]) -> tenslora.Bound:
    """Return the family at the sizes of the page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return family.bind(sizes)


def offline(page: Page, names: Iterable[str] = ()) -> Iterator[str]:
    """Yield what is wrong where nothing outside the page can be reached."""
    families = tenslora.registered()
    for name in names or families:
        family = families[name]
        page.choose(name)
        for bond in family.bonds[:1]:
            page.write(page.size(bond), "5")
        sizes = page.sizes() | dict.fromkeys(family.bonds[:1], 5)
        expected = f"{count(family, sizes).trainable_parameters:,}"
        if not page.wait(lambda e=expected: page.text("trained") == e):
            yield f"{name}: {page.text('trained')} trained parameters are shown, not {expected}"
        if page.browser.execute_script(
            "return document.querySelector('#tlx-picture svg') === null"
        ):
            yield f"{name}: no picture"
    page.choose("lora")
    page.write(page.size("r"), "0")
    if not page.wait(lambda: "rank r" in page.text("error") and page.text("trained") == "–"):
        yield f"a rank of 0 is not refused: {page.text('error')!r}, {page.text('trained')!r}"
    page.write(page.part("equation"), OWN)
    if not page.wait(
        lambda: page.text("state")[:7] == "Offline" and "Python" in page.text("error")
    ):
        yield f"being offline is not said: {page.text('state')!r}, {page.text('error')!r}"
    yield from page.nameless()
    page.choose("lora")
    page.write(page.size("r"), "4")
    if not page.wait(lambda: page.text("trained") == f"{36 * 4 * 2 * 768:,}"):
        yield "a family of the list does not work after an equation was refused"


def live(page: Page, site: Path) -> Iterator[str]:
    """Yield what is wrong where Python runs in the page of a site."""
    page.write(page.part("equation"), WRONG)
    page.wait(lambda: page.state in ("live", "offline"), START)
    if page.state != "live":
        yield f"Python does not start: {page.text('state')}"
        return
    yield from _mistake(page, site)
    page.write(page.part("equation"), OWN)
    for sizes in ({"a": 7}, {"layer": 24, "in": 1024}):
        yield from _counted(page, sizes)
    yield from _starts(page)
    yield from page.nameless()


def _mistake(page: Page, site: Path) -> Iterator[str]:
    """A wrong equation is refused as tenslora does it, with a link to what the code means."""
    try:
        tenslora.parse(WRONG)
    except TensloraError as error:
        words = str(error).split()
        if not page.wait(lambda: page.text("error").split()[: len(words)] == words):
            yield f"the error is another one: {page.text('error')}"
    if page.part("equation").get_attribute("aria-invalid") != "true":
        yield "a wrong equation is not marked as invalid"
    links = page.browser.find_elements(By.CSS_SELECTOR, "#tlx-error a")
    for place in [link.get_attribute("href").partition("#")[2] for link in links] or ["nowhere"]:
        if f'id="{place}"' not in (site / "errors.html").read_text(encoding="utf-8"):
            yield f"the index of errors has no place {place}"


def _counted(page: Page, sizes: dict[str, int]) -> Iterator[str]:
    """Sizes that are typed are those of the counts."""
    for name, size in sizes.items():
        page.wait(lambda: not page.text("error"))
        page.write(page.size(name), str(size))
    bound = count(tenslora.resolve(OWN), page.sizes() | sizes)
    for part, number in (
        ("trained", bound.trainable_parameters),
        ("cut", bound.cut_rank),
        ("flops", bound.flops_per_token),
    ):
        if not page.wait(lambda p=part, n=number: page.text(p) == f"{n:,}"):
            yield f"{part}: {page.text(part)} is shown, not {number:,}, at {sizes}"


def _starts(page: Page) -> Iterator[str]:
    """A rank of 0 is refused; a core is chosen by keyboard to start at zero, or to be frozen."""
    page.write(page.size("b"), "0")
    if not page.wait(lambda: "E206" in page.text("error")):
        yield f"a rank of 0 is not refused: {page.text('error')!r}"
    page.write(page.size("b"), "9")
    page.wait(lambda: not page.text("error"))
    page.part("core-zero-V").send_keys(Keys.SPACE)
    if not page.wait(lambda: "E304" in page.text("notes")):
        yield f"a start that changes the model is not told: {page.text('notes')!r}"
    page.part("core-frozen-U").send_keys(Keys.SPACE)
    if not page.wait(lambda: page.text("frozen") == f"{7 * 1024:,}"):
        yield f"a frozen core is counted as {page.text('frozen')}"
    page.choose("pissa")
    if not page.wait(lambda: not page.text("notes")):
        yield f"a family of the catalogue has notes: {page.text('notes')!r}, {page.text('error')!r}"


@contextlib.contextmanager
def content_network(folder: Path) -> Iterator[int]:
    """Serve the npm package under the addresses of the content network; yield the port."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return str(folder / Path(path.partition("?")[0]).name)

        def end_headers(self) -> None:
            self.send_header("Access-Control-Allow-Origin", "*")
            super().end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with tempfile.TemporaryDirectory() as scratch:
        key, certificate = Path(scratch, "key.pem"), Path(scratch, "certificate.pem")
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
        command += ["-subj", f"/CN={HOST}", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            server.server_close()


def visit(
    address: Path, pyodide: Path | None, out: Path | None = None, names: Iterable[str] = ()
) -> Iterator[str]:
    """Yield what is wrong offline, or with Python, and keep screenshots of how it ends.

    Parameters
    ----------
    names : the families that are looked at; all of them where none is named.
    """
    with contextlib.ExitStack() as stack:
        rules = "MAP * ~NOTFOUND"
        if pyodide is not None:
            rules = f"MAP {HOST} 127.0.0.1:{stack.enter_context(content_network(pyodide))}"
        words = (f"--host-resolver-rules={rules}", "--ignore-certificate-errors")
        browser = open_browser(*words)
        stack.callback(browser.quit)
        page = Page(browser, address.resolve().as_uri())
        yield from offline(page, names) if pyodide is None else live(page, address.parent)
        told = [entry["message"] for entry in browser.get_log("browser")]
        yield from (f"console: {m}" for m in told if pyodide or "ERR_NAME_NOT_RESOLVED" not in m)
        yield from _faults(page, out, "offline" if pyodide is None else "live")


def _faults(page: Page, out: Path | None, name: str) -> Iterator[str]:
    """Yield what can be seen to be wrong as the page is now, light and dark, wide and narrow."""
    page.browser.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            found = look(page.browser, None, scheme, width)
            yield from (f"{scheme} {width}: {told}" for told in problems(found, scheme))
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                path = out / f"explore-{name}-{scheme}-{width}.png"
                shoot(page.browser, path, width, found["height"])


def main() -> int:
    """Use the page, print what is wrong, and return 1 where something is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", nargs="?", type=Path, default=Path("docs/_build"))
    parser.add_argument("--pyodide", type=Path, help="the npm package, unpacked: Python runs too")
    parser.add_argument("--out", type=Path, help="keep screenshots in this folder")
    args = parser.parse_args()
    wrong = 0
    for pyodide in dict.fromkeys((None, args.pyodide)):
        told = list(visit(args.site / "explore.html", pyodide, args.out))
        wrong += len(told)
        mode = "offline" if pyodide is None else "with Python in the page"
        print(f"explore.html {mode}: {'; '.join(told) or 'ok'}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
