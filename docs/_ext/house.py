"""Two habits of this project that Sphinx has to be told.

A parameter is written ``name : what it is``, with its type in the signature. A thing has one page
but may be called by a shorter name: ``tenslora.attach`` for ``tenslora.nn.attach``, or ``Family``.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

_SECTIONS = {"Parameters", "Attributes", "Other Parameters"}
_ENTRY = re.compile(r"(?P<names>[*\w]+(?:, [*\w]+)*) : (?P<text>.*)")


def describe_parameters(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Turn ``name : text`` into numpydoc's name with a description under it."""
    found: list[str] = []
    inside = False
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if following and not following.strip("-"):
            inside = line in _SECTIONS
        entry = _ENTRY.fullmatch(line) if inside else None
        found += [entry["names"], f"    {entry['text']}"] if entry else [line]
    lines[:] = found


def resolve_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Find the one documented object whose last name is the target's."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    known = env.domains.python_domain.objects
    ends = {
        name: entry
        for name, entry in known.items()
        if name.rpartition(".")[2] == target.rpartition(".")[2] and entry.objtype != "module"
    }
    if target.count(".") > 1 and not target.startswith("tenslora."):
        return None
    places = {(entry.docname, entry.node_id) for entry in ends.values() if not entry.aliased}
    if len(places) != 1:
        return None
    docname, anchor = places.pop()
    return make_refnode(app.builder, node["refdoc"], docname, anchor, content, target)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect both, the first one before napoleon reads the docstring."""
    app.connect("autodoc-process-docstring", describe_parameters, priority=400)
    app.connect("missing-reference", resolve_short_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
