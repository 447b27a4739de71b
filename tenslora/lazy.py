"""Names of a package that are imported when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

__all__ = ["find"]


def find(package: str, name: str, places: Mapping[str, str]) -> Any:
    """Import a name from the module of a package that has it.

    Parameters
    ----------
    package : the name of the package.
    name : what is asked for.
    places : the module of each name, within the package.

    Raises
    ------
    AttributeError
        No module has the name.

    Examples
    --------
    >>> find("tenslora.algebra", "normal_form", {"normal_form": "forms"}).__name__
    'normal_form'
    """
    if name not in places:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{package}.{places[name]}"), name)
