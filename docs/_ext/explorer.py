"""The explorer: a page that runs the symbolic half of tenslora in the reader's browser.

``{explorer}`` writes its controls. What it needs lies beside it as scripts, which a page opened by
``file:`` may load: the families as they are at usual sizes, for a reader who is offline, and the
sources of the symbolic half and of opt_einsum, which finds its orders, for Pyodide.
"""

from __future__ import annotations

import base64
import importlib.metadata
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import explore
import facts
import familypage
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import tenslora
from tenslora.errors import TensloraError
from tenslora.family import Family, model_shape

#: Pyodide's core as npm has it, with the digest of the script that the page loads first.
PYODIDE = "314.0.7"
DIGEST = "sha384-Lp79fMwxa4n2BLtugpUAoQMlbxIdg8iCUiP1r3h7nJLkQjwlXT1JzZTeHVL+f4Dg"
SYMBOLIC = (
    *("__init__", "errors", "late", "lazy", "spec", "init", "algebra", "plan", "draw", "budget"),
    *("family", "families"),
)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same sources give the same bytes


class Explorer(SphinxDirective):
    """Write the controls of the explorer, and load what they need."""

    def run(self) -> list[nodes.Node]:
        """Return the block."""
        return [nodes.raw("", controls(), format="html")]


def controls() -> str:
    """Return the HTML of the page's own part."""
    html = (Path(__file__).parent / "explorer.html").read_text(encoding="utf-8")
    for mark, text in {"OPTIONS": _options(), "PYODIDE": PYODIDE, "INTEGRITY": DIGEST}.items():
        html = html.replace(f"@{mark}@", text)
    return html


def _options() -> str:
    """Return the families as options, the kinds of network as their groups."""
    groups: dict[str, list[str]] = {kind: [] for kind in facts.SHAPES}
    for name, family in tenslora.registered().items():
        groups[facts.shape_of(family.network)].append(name)
    return "".join(
        f'<optgroup label="{facts.SHAPES[kind]}">'
        + "".join(f"<option>{name}</option>" for name in names)
        + "</optgroup>"
        for kind, names in groups.items()
        if names
    )


def families_script() -> str:
    """Return the script with what the page shows of each family without Python."""
    found = {name: _described(family) for name, family in tenslora.registered().items()}
    return f"window.tensloraFamilies = {json.dumps(found, separators=(',', ':'))};\n"


def _described(family: Family) -> dict[str, Any]:
    try:
        sizes = model_shape("roberta-base").weights[0].sizes(family.network)
    except TensloraError:
        sizes = {}
    answer = explore.describe(family, sizes, planned=False)
    return {**answer, "summary": familypage.sentence(family)}


def core_script() -> str:
    """Return the script with the sources of the symbolic half, as a zip in base64."""
    packed = base64.b64encode(core_archive()).decode("ascii")
    return f'window.tensloraCore = "{packed}";\n'


def core_archive() -> bytes:
    """Return the zip: the symbolic half, opt_einsum, and what answers with them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(_sources()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _sources() -> Iterator[tuple[str, bytes]]:
    here, root = Path(__file__).parent, Path(tenslora.__file__).parent
    for path in (here / "explore.py", here / "facts.py"):
        yield path.name, path.read_bytes()
    for path in root.rglob("*.py"):
        inside = path.relative_to(root)
        if inside.parts[0].removesuffix(".py") in SYMBOLIC:
            yield f"tenslora/{inside.as_posix()}", path.read_bytes()
    for file in importlib.metadata.files("opt_einsum") or ():
        library = file.parts[0] == "opt_einsum" and file.suffix == ".py"
        if (library and "tests" not in file.parts) or file.name in ("LICENSE", "METADATA"):
            yield file.as_posix(), file.read_binary()


def write_scripts(folder: Path) -> None:
    """Write both scripts, where they changed."""
    for name, text in {
        "explorer-families.js": families_script(),
        "explorer-core.js": core_script(),
    }.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("explorer", Explorer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
