"""The process of one run: ``python -m tenslora.integrations.worker``, a job in, events out.

Standard input holds one JSON object. Standard output carries one JSON object a line: events while
it trains, and at the end the run, or what was checked, or an error. A reader that goes away ends
it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from tenslora import errors
from tenslora.errors import TensloraError
from tenslora.integrations.config import TrainingConfig
from tenslora.integrations.data import Task, load_task
from tenslora.integrations.methods import Method

__all__ = ["error_from_json", "main"]

Emit = Callable[[Mapping[str, Any]], None]


def main() -> int:
    """Do the job on standard input; return 0, also where it ends in an error of tenslora."""
    job = json.load(sys.stdin)
    out = sys.stdout

    def emit(event: Mapping[str, Any]) -> None:
        out.write(json.dumps(event) + "\n")
        out.flush()

    with redirect_stdout(sys.stderr):
        try:
            config = TrainingConfig(**{k: _tuple(v) for k, v in job["config"].items()})
            task = load_task(
                job["data"], text=config.text, label=config.label, max_rows=config.max_rows
            )
            methods = [Method.from_json(obj) for obj in job["methods"]]
            if job["check"]:
                emit({"event": "checked", "methods": _check(config, task, methods)})
            else:
                _train(config, task, methods[0], job, emit)
        except TensloraError as error:
            emit({"event": "error", "error": _error_to_json(error)})
        except BrokenPipeError:
            return 1
    return 0


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check(config: TrainingConfig, task: Task, methods: list[Method]) -> list[dict[str, Any]]:
    """Attach every method once, so that what cannot work is told before anything is trained."""
    from tenslora.integrations.training import attach_method
    from tenslora.integrations.transformers import load_model

    model = load_model(config.model, task).model
    found = []
    for method in methods:
        adapter, _ = attach_method(model, method, config, 0)
        count = 0
        if adapter is not None:
            count = adapter.trainable_parameters
            adapter.detach()
        found.append({"method": method.name, "adapter_parameters": count})
    return found


def _train(
    config: TrainingConfig, task: Task, method: Method, job: Mapping[str, Any], emit: Emit
) -> None:
    from tenslora.integrations.training import train

    last = [0.0]

    def watch(event: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if event["event"] != "step" or now - last[0] > 1.0:
            last[0] = now
            emit(event)

    trained = train(config, task, method, job["seed"], watch=watch)
    run = trained.run
    if job["save"]:
        path = Path(job["save"])
        path.parent.mkdir(parents=True, exist_ok=True)
        trained.save(path)
        run.file = path.name
    emit({"event": "done", "run": run.to_dict()})


def _error_to_json(error: TensloraError) -> dict[str, Any]:
    names = ("code", "what", "advice", "text", "span")
    return {"class": type(error).__name__, **{name: getattr(error, name) for name in names}}


def error_from_json(obj: Mapping[str, Any]) -> TensloraError:
    """Return the error that a worker sent."""
    kind = getattr(errors, obj["class"], TensloraError)
    span = None if obj["span"] is None else tuple(obj["span"])
    found: TensloraError = kind(
        obj["code"], obj["what"], advice=obj["advice"], text=obj["text"], span=span
    )
    return found


if __name__ == "__main__":
    sys.exit(main())
