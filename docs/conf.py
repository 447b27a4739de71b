"""Sphinx configuration. Pages are built with -n -W: a broken reference or a warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]  # the second for benchmarks

import generate  # noqa: E402

import tenslora  # noqa: E402

project = "tenslora"
author = "The tenslora developers"
copyright = "The tenslora developers; Apache-2.0"  # noqa: A001
version = release = tenslora.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "myst_nb",
    "house",
]
exclude_patterns = ["_build", "_generated", "_ext"]
html_theme = "furo"
html_title = f"tenslora {release}"
html_theme_options = {"navigation_with_keys": True}
html_static_path: list[str] = []

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
    # Types of other libraries: their pages cannot be fetched when these are built offline.
    (r"py:.*", r"(torch|nn|np|numpy|jax|transformers|datasets|argparse|pathlib)(\..*)?"),
    (r"py:.*", r"(Tensor|Array|NDArray|Path|Module|Parameter|Dataset|PreTrainedModel)"),
    (r"py:.*", r"(SearchStrategy|st)(\..*)?"),
    (r"py:.*", r"(tuple|dict|list)\[.*"),  # the halves of a type that holds a comma
    (r"py:.*", r"(Any|Callable|Hashable|Iterable|Iterator|Mapping|Sequence|Literal|Protocol)"),
    (r"py:.*", r"(types|typing|collections|contextlib|dataclasses|abc|enum)(\..*)?"),
]

generate.write_pages(HERE)
