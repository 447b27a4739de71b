"""Results as they are kept: one JSON for each experiment, with the machine and the command."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "load", "save"]

#: benchmarks/results
RESULTS = Path(__file__).parent / "results"


def save(
    name: str, command: str, rows: list[dict[str, Any]], out: str | None = None, **more: Any
) -> Path:
    """Write ``<out or results>/<name>/result.json`` with rows, machine, versions and command."""
    from tenslora.integrations import stamp

    folder = (Path(out) if out else RESULTS) / name
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "command": command,
        "machine": stamp.machine(),
        "versions": {**stamp.versions(), **_peft()},
        **more,
        "rows": rows,
    }
    path = folder / "result.json"
    path.write_text(json.dumps(_plain(document), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}", file=sys.stderr)
    return path


def _peft() -> dict[str, str]:
    import importlib.metadata

    try:
        return {"peft": importlib.metadata.version("peft")}
    except importlib.metadata.PackageNotFoundError:
        return {}


def _plain(value: Any) -> Any:
    """Five digits are enough, and JSON has no nan."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def load(name: str) -> dict[str, Any] | None:
    """Read the kept result of an experiment; ``None`` where there is none."""
    path = RESULTS / name / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
