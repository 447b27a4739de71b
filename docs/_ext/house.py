"""Three habits of this project that Sphinx has to be told.

A parameter is written ``name : what it is``, with its type in the signature. Examples may follow
without a heading. A thing has one page but may be called by a shorter name: ``tenslora.attach`` for
``tenslora.nn.attach``, or ``Family``.
"""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

import tenslora

_DESCRIBING = {"Parameters", "Attributes", "Other Parameters"}
_ENTRY = re.compile(r"(?P<names>[*\w]+(?:, [*\w]+)*) : (?P<text>.*)")
_VALUES = {"property", "attribute", "data"}
_without_sections: dict[str, list[str]] = {}
_MEMBERS = {"method", "property", "attribute"}


def prepare_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Turn the house's docstrings into what napoleon reads as numpydoc."""
    found: list[str] = []
    section = ""
    for number, line in enumerate(lines):
        if _is_underline(lines, number + 1):
            section = line
        elif section not in ("", "Examples") and line.startswith(">>>"):
            section = "Examples"
            found += ["Examples", "--------"]
        entry = _ENTRY.fullmatch(line) if section in _DESCRIBING else None
        if section in _DESCRIBING and _is_prose(line, section, entry):
            section = "Notes"
            found += ["Notes", "-----"]
        if entry is None:
            found.append(line)
            continue
        body = [entry["text"], *_continuation(lines, number + 1)]
        names = entry["names"].split(", ")
        for other in names[:-1]:  # napoleon reads "a, b" as a type and a name
            found += [other, *(f"    {part.strip()}" for part in body)]
        found += [names[-1], f"    {entry['text']}"]
    if not section and what in _VALUES:
        _without_sections[name] = found
    lines[:] = found


def restore_sentence(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Undo napoleon where it took "The rank: of what" for a type and a description."""
    lines[:] = _without_sections.pop(name, lines)


def _continuation(lines: list[str], start: int) -> list[str]:
    stop = start
    while stop < len(lines) and lines[stop].startswith("    "):
        stop += 1
    return lines[start:stop]


def _is_prose(line: str, section: str, entry: re.Match[str] | None) -> bool:
    """Whether a line after a section's entries belongs to none of them."""
    return entry is None and line[:1].strip() not in ("", "-") and line != section and " " in line


def _is_underline(lines: list[str], number: int) -> bool:
    return number < len(lines) and len(lines[number]) > 2 and not lines[number].strip("-")


def resolve_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Find the one documented object of that last name, or of the last two where a class is named.

    Internal types stay plain text.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    last = target.rpartition(".")[2]
    at_top = target == f"tenslora.{last}"
    owner = target.split(".")[-2:-1]
    ending = f".{owner[0]}.{last}" if owner and owner[0][:1].isupper() else f".{last}"
    places = {
        (entry.docname, entry.node_id)
        for name, entry in env.domains.python_domain.objects.items()
        if f".{name}".endswith(ending)
        and entry.objtype != "module"
        and not (at_top and entry.objtype in _MEMBERS)
        and not entry.aliased
        and (not at_top or _is_the_same(name, last))
    }
    if len(places) == 1 and (at_top or "." not in target or target.startswith("tenslora.")):
        docname, anchor = places.pop()
        return make_refnode(app.builder, node["refdoc"], docname, anchor, content, target)
    return content if _is_internal(target) else None


def _is_the_same(name: str, last: str) -> bool:
    """Whether a documented name is the object that ``tenslora`` has under its last name."""
    place, _, _ = name.rpartition(".")
    try:
        held = getattr(importlib.import_module(place), last, None)
    except ImportError:  # a method: its place is a class
        return False
    return held is not None and held is getattr(tenslora, last, None)


def _is_internal(target: str) -> bool:
    """Whether ``target`` is a class of the package that has no page."""
    place, _, last = target.rpartition(".")
    return any(
        isinstance(getattr(module, last, None), type)
        for name, module in list(sys.modules.items())
        if name.startswith("tenslora") and place in ("", name)
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the hooks, around napoleon's at priority 500."""
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)
    app.connect("autodoc-process-docstring", restore_sentence, priority=600)
    app.connect("missing-reference", resolve_short_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
