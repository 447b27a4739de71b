"""What a measurement was made on: machine, versions, memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

__all__ = ["machine", "memory", "peak_memory", "versions"]

_PACKAGES = ("tenslora", "torch", "transformers", "numpy", "opt_einsum", "tensorly")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter."""
    found = {name: _version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **{k: v for k, v in found.items() if v}}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def machine() -> dict[str, Any]:
    """Return processor, cores, threads that torch uses, memory and GPU; no names of hosts."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def memory() -> int:
    """Return the bytes that this process holds now (0 where the system does not tell)."""
    return _status("VmRSS")


def peak_memory(known: int = 0) -> int:
    """Return the most bytes that this process has held; on a GPU, those of the device.

    Linux's own high-water mark of the address space is read where it is there: ``getrusage`` counts
    the process that started this one as well. It counts some pages later than :func:`memory` does:
    ``known`` is what that has told, and the least that is returned where there is no GPU.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    found = _status("VmHWM")
    if found:
        return max(found, known)
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(known, int(peak) if sys.platform == "darwin" else int(peak) * 1024)


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
