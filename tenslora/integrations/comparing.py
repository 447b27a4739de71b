"""Several families at equal parameters or equal rank, over tasks and seeds: one table."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from tenslora.errors import DataError, TensloraError
from tenslora.integrations.comparison import Comparison
from tenslora.integrations.config import CompareConfig, TrainingConfig
from tenslora.integrations.data import Task, load_task
from tenslora.integrations.distributed import refuse_several
from tenslora.integrations.methods import Method, methods_of
from tenslora.integrations.metrics import LABELS
from tenslora.integrations.processes import Workers
from tenslora.integrations.progress import Progress
from tenslora.integrations.report import duration, score
from tenslora.integrations.runs import Run, write_json

__all__ = ["compare"]

Talk = Callable[[str], None]
_NAMES = {f.name for f in fields(TrainingConfig)}


class _Job(NamedTuple):
    """One run that is still to be done."""

    data: str
    task: Task
    method: Method
    seed: int
    key: str
    path: Path


def compare(config: CompareConfig, *, talk: Talk | None = None) -> Comparison:
    """Train every family on every task with every seed, and put the results side by side.

    Each run has a process of its own, which tells its peak memory; a run that has ended is a file
    in ``out``/runs, and is not done again by a second call with the same settings. After an
    interrupt what has ended is kept, and ``comparison.json`` holds it.

    Parameters
    ----------
    config : the settings.
    talk : is given lines about what goes on; nothing is printed.

    Raises
    ------
    TensloraError
        Data, a model or families that cannot be used, before anything is trained; E713 where every
        run of the comparison failed; E715 in one of several processes.

    Examples
    --------
    What is wrong with the settings is said before anything is loaded. A comparison trains for
    minutes, so that the second one is not run here:

    >>> compare(CompareConfig(families=("lroa",), like="lora:8"))
    Traceback (most recent call last):
        ...
    tenslora.errors.FamilyError: E306: no family is called 'lroa'
      Did you mean lora or loha or lorta? `tenslora families` lists them; an equation works too.
    >>> config = CompareConfig(data=("reviews.tsv",), families=("lotr",), like="lora:8")
    >>> found = compare(config, talk=print)  # doctest: +SKIP
    >>> print(found.to_text())  # doctest: +SKIP
    """
    refuse_several("tenslora compare")
    progress = Progress(talk)
    methods = methods_of(config)
    tasks = _load_tasks(config)
    folder = Path(config.out).expanduser()
    jobs, runs = _jobs(config, methods, tasks, folder)
    comparison = Comparison(
        config=config.to_dict(),
        command=config.command(),
        tasks={task.name: task.to_dict() for task in tasks.values()},
        methods=[method.name for method in methods],
        reference=methods[1 if config.head else 0].name,
        wanted=len(jobs) + len(runs),
        runs=runs,
        folder=folder,
    )
    if runs:
        progress.say(f"{len(runs)} of {comparison.wanted} runs have ended before; going on")
    if jobs:
        _check(config, methods, jobs[0], progress)
        _train(config, jobs, comparison, progress)
    comparison.save()
    if not any(run.status == "done" for run in comparison.runs):
        what = f"none of {comparison.wanted} runs ended well; the first: {comparison.runs[0].error}"
        raise DataError("E713", what, advice=f"See the files in {folder / 'runs'}.")
    _draw(comparison, progress)
    return comparison


def _load_tasks(config: CompareConfig) -> dict[str, Task]:
    tasks = {
        spec: load_task(spec, text=config.text, label=config.label, max_rows=config.max_rows)
        for spec in config.data
    }
    names = [task.name for task in tasks.values()]
    if len(set(names)) < len(config.data):
        what = f"two tasks have one name: {', '.join(names)}"
        raise DataError("E709", what, advice="Rename a folder or a file.")
    for name in config.epochs_of:
        if name not in names:
            what = f"epochs_of names {name!r}, no task"
            raise DataError("E709", what, advice=f"The tasks are {', '.join(names)}.")
    return tasks


def _jobs(
    config: CompareConfig, methods: list[Method], tasks: Mapping[str, Task], folder: Path
) -> tuple[list[_Job], list[Run]]:
    """Return the runs still to be done, seed by seed, and those that are there."""
    jobs, runs = [], []
    prints = {spec: task.fingerprint() for spec, task in tasks.items()}
    for seed in config.seeds:
        for spec, task in tasks.items():
            for method in methods:
                key = _key(config, _settings(config, task), prints[spec], method, seed)
                slug = "".join(c if c.isalnum() or c in "._-" else "_" for c in method.name)[:40]
                path = folder / "runs" / f"{task.name}-{slug}-seed{seed}-{key}.json"
                run = _read_run(path)
                if run is None:
                    jobs.append(_Job(spec, task, method, seed, key, path))
                else:
                    runs.append(run)
    return jobs, runs


def _settings(config: CompareConfig, task: Task) -> dict[str, Any]:
    """Return the training settings of one task."""
    settings = {k: v for k, v in config.to_dict().items() if k in _NAMES - {"seeds"}}
    later = {"head_lr": None, "profile": "cpu"}  # runs from before they were added keep their keys
    for name, value in later.items():
        if settings[name] == value:
            del settings[name]
    return {**settings, "epochs": config.epochs_of.get(task.name, config.epochs)}


def _key(
    config: CompareConfig, settings: Mapping[str, Any], task: str, method: Method, seed: int
) -> str:
    """Hash everything that a run's outcome depends on."""
    plain = method.to_json()
    for name in ("family", "like"):
        if plain[name] is not None:
            plain[name] = {k: v for k, v in plain[name].items() if k not in ("summary", "source")}
    text = json.dumps([settings, plain, task, seed, config.threads, config.save], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _read_run(path: Path) -> Run | None:
    try:
        run = Run.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return run if run.status == "done" else None


def _job_json(config: CompareConfig, job: _Job, methods: list[Method], check: bool) -> Any:
    settings = _settings(config, job.task)
    file = job.path.parents[1] / "adapters" / f"{job.path.stem}.safetensors"
    return {
        "config": settings,
        "data": job.data,
        "methods": [method.to_json() for method in methods],
        "seed": job.seed,
        "check": check,
        "save": str(file) if config.save else "",
    }


def _check(config: CompareConfig, methods: list[Method], job: _Job, progress: Progress) -> None:
    """Attach everything once, in a process of its own, before hours are spent."""
    found = Workers(1, config.threads).run(_job_json(config, job, methods, True))
    counts = [f"{m['method']} {m['adapter_parameters']:,}" for m in found["methods"]]
    progress.say("trained parameters of the adapters: " + ", ".join(counts))


def _train(
    config: CompareConfig, jobs: list[_Job], comparison: Comparison, progress: Progress
) -> None:
    workers = Workers(config.jobs, config.threads)
    begin = time.monotonic()
    lock = threading.Lock()
    shares: dict[str, float] = {}

    def work(job: _Job) -> Run:
        def watch(event: Mapping[str, Any]) -> None:
            if event["event"] == "step":
                with lock:
                    shares[job.key] = event["step"] / event["steps"]
                    progress.show(sum(shares.values()), len(jobs))

        run = _run(workers, config, job, watch)
        write_json(job.path, run.to_dict())
        return run

    try:
        for job, run in workers.map(work, jobs):
            with lock:
                shares[job.key] = 1.0
                ended = sum(1 for share in shares.values() if share == 1.0)
            comparison.runs.append(run)
            comparison.save()
            left = (time.monotonic() - begin) / ended * (len(jobs) - ended)
            number = f"[{len(comparison.runs)}/{comparison.wanted}]"
            progress.say(f"{number} {_said(run)}" + (f"; {duration(left)} to go" if left else ""))
    except KeyboardInterrupt:
        kept = len(comparison.runs)
        progress.say(f"{kept} of {comparison.wanted} runs are kept; the same command goes on")
        raise
    finally:
        progress.close()


def _run(workers: Workers, config: CompareConfig, job: _Job, watch: Any) -> Run:
    try:
        last = workers.run(_job_json(config, job, [job.method], False), watch)
        run = Run.from_dict(last["run"])
    except (TensloraError, RuntimeError) as error:
        run = Run(job.task.name, job.method.name, job.seed, config.metric)
        run.status, run.error = "failed", str(error).splitlines()[0]
    run.key = job.key
    return run


def _said(run: Run) -> str:
    name = f"{run.task} {run.method} seed {run.seed}"
    if run.status != "done":
        return f"{name} FAILED: {run.error}"
    best = f"{LABELS[run.metric]} {score(run.best)} in epoch {run.best_epoch}"
    return f"{name}: {best}, {score(run.last)} at the end, {duration(run.seconds)}"


def _draw(comparison: Comparison, progress: Progress) -> None:
    try:
        path = comparison.save_picture()
    except DataError as error:
        progress.say(f"no picture: {error.what}. {error.advice}")
    else:
        comparison.notes.append(f"picture: {path}")
