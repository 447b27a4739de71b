"""Workers: one process for each run, several at a time, ended when the caller is interrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from tenslora.integrations.worker import error_from_json

__all__ = ["Workers"]

_T = TypeVar("_T")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Workers:
    """Processes of :mod:`tenslora.integrations.worker`.

    Parameters
    ----------
    jobs : processes at a time.
    threads : threads of each.
    """

    def __init__(self, jobs: int, threads: int) -> None:
        self.jobs, self.threads = jobs, threads
        self.lock = threading.Lock()
        self.running: set[subprocess.Popen[str]] = set()
        self.stopped = False

    def map(self, function: Callable[[_T], Any], items: Iterable[_T]) -> Iterator[tuple[_T, Any]]:
        """Yield (item, function(item)) as they end; ``function`` runs in ``jobs`` threads.

        However the loop over it ends, the processes have ended too.
        """
        with ThreadPoolExecutor(self.jobs) as pool:
            waiting: dict[Future[Any], _T] = {pool.submit(function, item): item for item in items}
            try:
                while waiting:
                    # a timeout lets an interrupt through on every system
                    done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                    for future in [f for f in waiting if f in done]:
                        yield waiting.pop(future), future.result()
            finally:
                for future in waiting:
                    future.cancel()
                self.stop()

    def run(self, job: Mapping[str, Any], watch: Callable[[Any], None] | None = None) -> Any:
        """Do one job in a process of its own; return its last event.

        Raises
        ------
        TensloraError
            What the worker raised.
        RuntimeError
            The worker died; with the end of what it said.
        """
        last: dict[str, Any] = {}
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            with self._process(said) as process:
                assert process.stdin is not None  # both are pipes
                assert process.stdout is not None
                with suppress(BrokenPipeError):  # it died at once: what it said tells why
                    process.stdin.write(json.dumps(job))
                    process.stdin.close()
                for line in process.stdout:
                    last = json.loads(line)
                    if watch is not None:
                        watch(last)
                code = process.wait()
            said.seek(0)
            words = said.read().strip().splitlines()
        if last.get("event") == "error":
            raise error_from_json(last["error"])
        if code != 0 or last.get("event") not in ("done", "checked"):
            end = " | ".join(words[-3:])[-500:]
            raise RuntimeError(f"the process ended with code {code}: {end or 'it said nothing'}")
        return last

    def stop(self) -> None:
        """End every process."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()

    @contextmanager
    def _process(self, said: Any) -> Iterator[subprocess.Popen[str]]:
        threads = dict.fromkeys(_THREADS, str(self.threads))
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        more = {"TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": os.pathsep.join(paths)}
        with self.lock:
            if self.stopped:
                raise RuntimeError("stopped")
            process = subprocess.Popen(
                [sys.executable, "-m", "tenslora.integrations.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env={**os.environ, **threads, **more},
                text=True,
                encoding="utf-8",
                start_new_session=True,  # an interrupt goes to the caller alone
            )
            self.running.add(process)
        try:
            with process:
                yield process
        finally:
            with self.lock:
                self.running.discard(process)
            if process.poll() is None:
                process.terminate()
