"""Sphinx configuration. Pages are built with -n -W: a broken reference or a warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]  # the second for benchmarks

import elsewhere  # noqa: E402
import explorer  # noqa: E402
import gallery  # noqa: E402
import generate  # noqa: E402

import tenslora  # noqa: E402
from tenslora.draw import STYLE  # noqa: E402
from tenslora.draw.svg import declared  # noqa: E402

project = "tenslora"
author = "The tenslora developers"
copyright = "The tenslora developers; Apache-2.0"  # noqa: A001
version = release = tenslora.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "myst_nb",
    "house",
    "gallery",
    "explorer",
    "mathml",
]
exclude_patterns = ["_build", "_generated", "_ext", "jupyter_execute"]
html_theme = "furo"
html_title = f"tenslora {release}"
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["_static", "_generated/static"]
html_css_files = ["tenslora.css", "site.css"]
html_js_files = ["gallery.js"]
html_math_renderer = "mathml"
html_show_sphinx = False

# --- pages that are executed -------------------------------------------------------------------

nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars and notices of libraries
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# --- reference from docstrings -----------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
nitpick_ignore_regex = [
    # Types of other libraries that are not in docs/_ext/elsewhere.py.
    (r"py:.*", r"(torch|nn|np|numpy|jax|transformers|datasets|peft|argparse|pathlib)(\..*)?"),
    (r"py:.*", r"(Tensor|Array|NDArray|Path|Module|Parameter|Dataset|PreTrainedModel|TaskType)"),
    (r"py:.*", r"(SearchStrategy|st)(\..*)?"),
    (
        r"py:.*",
        r"(.* \| )?~?(collections\.abc\.)?(tuple|dict|list|Mapping)\[.*",
    ),  # the halves of a type that holds a comma
    (r"py:.*", r"(Any|Callable|Hashable|Iterable|Iterator|Mapping|Sequence|Literal|Protocol)"),
    (r"py:.*", r"(os|types|typing|collections|contextlib|dataclasses|abc|enum)(\..*)?"),
]

intersphinx_mapping = elsewhere.write_inventories(HERE / "_generated" / "elsewhere")

static = HERE / "_generated" / "static"
static.mkdir(parents=True, exist_ok=True)
(static / "tenslora.css").write_text(
    STYLE
    + f"\nbody[data-theme=light] .tenslora{{{declared('light')}}}"
    + f"\nbody[data-theme=dark] .tenslora{{{declared('dark')}}}\n",
    encoding="utf-8",
)
generate.write_pages(HERE)
gallery.write_family_pages(HERE)
explorer.write_scripts(static)
