"""Registering with a library when it is imported, and not before.

PEFT has to know the method of tenslora before it reads a checkpoint of it, and has no entry points
for methods. To import peft for that would make ``import tenslora`` slower by seconds. So a finder
waits at the head of ``sys.meta_path`` for the first import of peft, lets it run as it is, imports
the integration behind it, and is gone. Where peft was imported first, the integration follows at
once.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tenslora.errors import TensloraError, TensloraWarning

__all__ = ["when_imported"]


def when_imported(library: str, integration: str) -> None:
    """Import the module ``integration`` as soon as ``library`` is imported, or now where it is.

    What keeps the integration from being imported is told by a :class:`TensloraWarning`; it does
    not stop the import of the library.

    Examples
    --------
    >>> import json, sys
    >>> when_imported("json", "tenslora.figure")  # json is imported: the module follows at once
    >>> "tenslora.figure" in sys.modules
    True
    """
    module = sys.modules.get(library)
    spec = getattr(module, "__spec__", None)
    if module is not None and not getattr(spec, "_initializing", False):
        _follow(library, integration)
    else:
        sys.meta_path.insert(0, _Finder(library, integration))


def _follow(library: str, integration: str) -> None:
    try:
        importlib.import_module(integration)
    except (TensloraError, ImportError) as error:
        what = f"{library} does not know tenslora: {error}"
        warnings.warn(what, TensloraWarning, stacklevel=2)


class _Finder:
    """Finds one library, once, as the other finders do, and wraps its loader."""

    def __init__(self, library: str, integration: str) -> None:
        self.library, self.integration = library, integration

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the library's own spec with a loader that goes on to the integration."""
        if name != self.library or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self.integration)  # type: ignore[assignment]
        return spec


class _Loader:
    """Loads a library with its own loader, gives it back, and imports the integration."""

    def __init__(self, loader: Any, integration: str) -> None:
        self.loader, self.integration = loader, integration

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Make the module as its own loader does."""
        made: ModuleType | None = self.loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then the integration."""
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        _follow(module.__name__, self.integration)
