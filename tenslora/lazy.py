"""Names of a package that are imported when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["find"]


def find(package: str, name: str, places: Mapping[str, Collection[str]]) -> Any:
    """Import a name from the module of a package that has it, and keep it in the package.

    Parameters
    ----------
    package : the name of the package.
    name : what is asked for.
    places : the modules of the package, each with its names.

    Raises
    ------
    AttributeError
        No module has the name.

    Examples
    --------
    >>> find("tenslora.algebra", "normal_form", {"forms": ("normal_form",)}).__name__
    'normal_form'
    """
    for module, names in places.items():
        if name in names:
            value = getattr(importlib.import_module(f"{package}.{module}"), name)
            setattr(sys.modules[package], name, value)
            return value
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
