"""Check that the symbolic half works, and is quick to import, where there is no torch."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
import time

_SYMBOLIC = ("errors", "spec", "init", "plan", "draw", "budget", "family", "families")
_ABSENT = ("torch", "jax", "peft", "transformers", "tltorch")


def main() -> int:
    """Import every symbolic module; return 1 where one brings a library that it must not."""
    start = time.perf_counter()
    tenslora = importlib.import_module("tenslora")
    seconds = time.perf_counter() - start
    for name in _SYMBOLIC:
        module = importlib.import_module(f"tenslora.{name}")
        for info in pkgutil.walk_packages(getattr(module, "__path__", ()), f"tenslora.{name}."):
            importlib.import_module(info.name)
    brought = [name for name in _ABSENT if name in sys.modules]
    installed = [name for name in _ABSENT if importlib.util.find_spec(name)]
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"tenslora {tenslora.__version__}, Python {python}: imported in {seconds:.2f} s")
    print(f"brought: {brought or 'nothing'}; installed here: {installed or 'nothing'}")
    return 1 if brought else 0


if __name__ == "__main__":
    raise SystemExit(main())
