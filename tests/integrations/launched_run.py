"""What ``torchrun`` starts in the tests: fine-tunes in several ways; no test itself.

``python launched_run.py JOBS FOLDER`` reads settings by name from JOBS, and the words of a command;
the command alone prints, and each process leaves what it found as ``FOLDER/found-RANK.json``.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tenslora.cli import main as command
from tenslora.errors import RedundantRankWarning, TensloraError
from tenslora.integrations import CompareConfig, FinetuneConfig, compare, demo, finetune
from tenslora.integrations.recording import Recorder


def run(settings: dict) -> dict:
    said: list[str] = []
    step = settings.pop("stopped_after", None)
    if step is not None:
        with stopped_after(step):
            finetune(FinetuneConfig(**settings))
        return {}
    sizes: dict[str, int] = {}
    with counted(sizes):
        report = finetune(FinetuneConfig(**settings), talk=said.append)
    return {**report.to_dict(), "said": said, **sizes}


@contextmanager
def counted(sizes: dict[str, int]) -> Iterator[None]:
    """Count the numbers of the model, and those that lie here, when training has ended."""
    usual = Recorder.finish

    def finish(self):
        usual(self)
        parameters = [p.detach() for p in self.model.parameters()]
        sizes["whole"] = sum(p.numel() for p in parameters)
        here = [p.to_local() if hasattr(p, "to_local") else p for p in parameters]
        sizes["here"] = sum(p.numel() for p in here)

    Recorder.finish = finish
    try:
        yield
    finally:
        Recorder.finish = usual


@contextmanager
def stopped_after(step: int) -> Iterator[None]:
    """Interrupt training in the step after ``step``, as a signal would."""
    usual = Recorder.on_step_begin

    def stopping(self, args, state, control, **more):
        if state.global_step >= step:
            raise KeyboardInterrupt
        return usual(self, args, state, control, **more)

    Recorder.on_step_begin = stopping
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        Recorder.on_step_begin = usual


def refused(call, *given) -> str:
    try:
        call(*given)
    except TensloraError as error:
        return str(error)
    return ""


def main(jobs: Path, folder: Path) -> None:
    warnings.simplefilter("ignore", RedundantRankWarning)
    wanted = json.loads(jobs.read_text())
    words = wanted.pop("command")
    found = {name: run(settings) for name, settings in wanted.items()}
    found["compare"] = refused(compare, CompareConfig())
    found["demo"] = refused(demo)
    found["command"] = command(words)  # the last: it leaves the group of processes
    (folder / f"found-{os.environ['RANK']}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
