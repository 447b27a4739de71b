"""The commands about the program itself: its version and what it has found around it."""

from __future__ import annotations

import importlib
import os
import platform
import re
from argparse import Namespace
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import tenslora
from tenslora.cli.command import Answer, Command, Parser
from tenslora.cli.output import table

__all__ = ["COMMANDS"]

_PACKAGES = ("numpy", "opt_einsum", "tensorly", "torch", "transformers", "safetensors", "jax")


def _fill_nothing(parser: Parser) -> None:
    """Add no option of its own."""


def _run_version(args: Namespace) -> Answer:
    return Answer(
        lambda: {"name": "tenslora", "version": tenslora.__version__},
        lambda: f"tenslora {tenslora.__version__}",
    )


def _run_info(args: Namespace) -> Answer:
    data: dict[str, Any] = {
        "tenslora": tenslora.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "extras": {name: _missing(parts) for name, parts in _extras().items()},
        **_torch(),
    }
    return Answer(lambda: data, lambda: _report(data))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _extras() -> dict[str, list[str]]:
    """Return the packages that each extra asks for, read from the installed metadata."""
    try:
        lines = requires("tenslora") or []
    except PackageNotFoundError:  # a checkout that was never installed
        lines = []
    found: dict[str, list[str]] = {}
    for line in lines:
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        package = re.match(r"[\w.-]+", line)
        if extra and package:
            inner = re.match(r"tenslora\[([\w,\s-]+)\]", line)
            names = [f"[{n.strip()}]" for n in inner[1].split(",")] if inner else [package[0]]
            found.setdefault(extra[1], []).extend(names)
    return {name: _flatten(name, found) for name in found}


def _flatten(extra: str, found: dict[str, list[str]]) -> list[str]:
    names: list[str] = []
    for name in found.get(extra, []):
        names += _flatten(name[1:-1], found) if name.startswith("[") else [name]
    return list(dict.fromkeys(names))


def _missing(packages: list[str]) -> dict[str, Any]:
    absent = [name for name in packages if _version(name) is None]
    return {"complete": not absent, "missing": absent}


def _torch() -> dict[str, Any]:
    """Return the device that torch would use, and its threads."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return {"device": None, "device_name": None, "threads": None}
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cpu" and torch.backends.mps.is_available():
        kind = "mps"
    name = torch.cuda.get_device_name() if kind == "cuda" else platform.machine()
    return {"device": kind, "device_name": name, "threads": torch.get_num_threads()}


def _report(data: dict[str, Any]) -> str:
    rows = [("tenslora", data["tenslora"]), ("python", data["python"])]
    rows += [(name, found or "not installed") for name, found in data["packages"].items()]
    rows += [("platform", data["platform"]), ("cpus", str(data["cpus"]))]
    if data["device"] is not None:
        rows.append(("device", f"{data['device']} ({data['device_name']})"))
        rows.append(("threads", str(data["threads"])))
    for name, state in data["extras"].items():
        missing = f'not complete: pip install "tenslora[{name}]" ({", ".join(state["missing"])})'
        rows.append((f"[{name}]", "complete" if state["complete"] else missing))
    return table(rows)


COMMANDS = (
    Command(
        "info",
        "Show versions, the device, threads, and which extras are installed",
        _fill_nothing,
        _run_info,
    ),
    Command("version", "Show the version", _fill_nothing, _run_version),
)
