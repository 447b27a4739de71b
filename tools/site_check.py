"""Check the built pages: public names are documented, links lead somewhere, pages are led to.

Usage: .venv/bin/python tools/site_check.py [docs/_build]
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import posixpath
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.util.inventory import InventoryFile

import tenslora


class _Page(HTMLParser):
    """The addresses that a page points to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name == "id":
                self.anchors.add(value)
            elif value and name in ("href", "src") and tag != "base":
                self.links.append(value)


def _pages(site: Path) -> dict[str, _Page]:
    return {
        path.relative_to(site).as_posix(): _Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if path.parts[len(site.parts)] not in ("_static", "_modules")
    }


def _inside(name: str, page: _Page) -> Iterator[tuple[str, str, str]]:
    """Yield every link of a page that leads into the site: as written, its file, its anchor."""
    for link in page.links:
        parts = urlsplit(link)
        if not (parts.scheme or parts.netloc):
            path = unquote(parts.path)
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
            yield link, target if path else name, parts.fragment


def broken_links(site: Path) -> Iterator[str]:
    """Yield every link inside the pages whose file or anchor is missing."""
    pages = _pages(site)
    for name, page in pages.items():
        for link, target, anchor in _inside(name, page):
            if not (site / target).is_file():
                yield f"{name}: {link}: there is no such file"
            elif anchor and target in pages:
                anchors = pages[target].anchors
                if unquote(anchor) not in anchors and anchor not in anchors:
                    yield f"{name}: {link}: there is no such place on the page"


def unreached(site: Path) -> Iterator[str]:
    """Yield every page that cannot be reached by links from the first one, or by the search."""
    pages = _pages(site)
    found, left = {"py-modindex.html"}, ["index.html", "search.html"]
    while left:
        name = left.pop()
        if name in pages and name not in found:
            found.add(name)
            left += [target for _, target, _ in _inside(name, pages[name])]
    yield from (f"{name}: no page leads here" for name in pages if name not in found)


def undocumented(site: Path) -> Iterator[str]:
    """Yield every name of an ``__all__`` of tenslora's packages that the reference lacks."""
    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", posixpath.join)
    known = {name for kind, found in inventory.items() if kind.startswith("py:") for name in found}
    by_last: dict[str, list[str]] = {}
    for name in known:
        by_last.setdefault(name.rpartition(".")[2], []).append(name)
    for module in _packages():
        for name in getattr(module, "__all__", ()):
            full = f"{module.__name__}.{name}"
            value = getattr(module, name)
            if full in known or inspect.ismodule(value) or _has_family_page(site, value):
                continue
            if not any(_value(other) is value for other in by_last.get(name, ())):
                yield f"{full}: no page of the reference describes it"


def _has_family_page(site: Path, value: object) -> bool:
    name = value.name if isinstance(value, tenslora.Family) else None
    return name is not None and (site / "families" / f"{name}.html").is_file()


def _value(name: str) -> object:
    module, _, last = name.rpartition(".")
    return getattr(sys.modules.get(module), last, None)


def _packages() -> Iterator[object]:
    yield tenslora
    for info in pkgutil.iter_modules(tenslora.__path__):
        if not info.name.startswith("_"):
            yield importlib.import_module(f"tenslora.{info.name}")


def main() -> int:
    """Print what is wrong, and return how many things are."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/_build")
    if not (site / "objects.inv").is_file():
        print(f"{site} holds no built pages: run make docs first", file=sys.stderr)
        return 1
    wrong = [*broken_links(site), *unreached(site), *undocumented(site)]
    sound = "every link leads somewhere, every page is led to, every public name is documented"
    print("\n".join(wrong) or f"{site}: {sound}")
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
