"""What one run was and what came out, as it is kept in JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tenslora.errors import DataError

__all__ = ["Run", "finite", "write_file", "write_json"]


@dataclass
class Run:
    """What one run was and what came out; all of it goes into JSON.

    ``history`` has an entry for each epoch with the training loss, the evaluation loss and every
    metric. ``step_ms`` is the median over steps, wall clock and processor time. Memory is that of
    the process (the leader, of several), at its peak and before training, in bytes.
    """

    task: str
    method: str
    seed: int
    metric: str
    majority: float = 0.0
    status: str = "done"
    error: str = ""
    equation: str = ""
    ranks: dict[str, Any] = field(default_factory=dict)
    adapter_parameters: int = 0
    head_parameters: int = 0
    lr: float = 0.0
    head_lr: float = 0.0
    scale: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = math.nan
    best_epoch: int = 0
    last: float = math.nan
    steps: int = 0
    processes: int = 1
    step_ms: float = math.nan
    step_cpu_ms: float = math.nan
    seconds: float = 0.0
    peak_memory: int = 0
    memory_before: int = 0
    key: str = ""
    file: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object, with null where a number is not finite."""
        return json.loads(json.dumps(finite(asdict(self))))

    @classmethod
    def from_dict(cls, obj: Mapping[str, Any]) -> Run:
        """Read what :meth:`to_dict` wrote; unknown keys are left out."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in obj.items() if k in known}
        for name in ("best", "last", "step_ms", "step_cpu_ms"):
            if values.get(name) is None:
                values[name] = math.nan
        return cls(**values)


def finite(value: Any) -> Any:
    """Return JSON with null for numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list) else value


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a file that appears whole or not at all.

    Raises
    ------
    DataError
        E711 where it cannot be written.
    """
    text = json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n"
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror or error}"
        raise DataError("E711", what, advice="Choose another folder with out=...") from None


def write_file(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all; its folder is made.

    Raises
    ------
    DataError
        E711 where it cannot be written.
    """
    from tenslora.nn.files import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror or error}"
        raise DataError("E711", what, advice="Choose another folder with out=...") from None
