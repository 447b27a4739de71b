"""How many random cases the property-based tests try: HYPOTHESIS_PROFILE is ``default``,
``ci`` (the same cases on every run) or ``thorough``. Tests marked ``slow`` run with ``-m slow``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Time varies with the load of the machine, and drawing a whole equation is slow next to an integer.
_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}

settings.register_profile("default", max_examples=40, **_COMMON)
settings.register_profile("ci", max_examples=40, derandomize=True, database=None, **_COMMON)
settings.register_profile("thorough", max_examples=1000, **_COMMON)
_on_ci = "ci" if os.environ.get("CI") else "default"
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", _on_ci))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``slow``, unless marks are asked for."""
    if config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(scope="session")
def run_two() -> Callable[[str, Path], None]:
    """Runs ``python SCRIPT FOLDER RANK`` for the ranks 0 and 1 at once; both have to end well."""

    def run(script: str, folder: Path) -> None:
        paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        running = [
            subprocess.Popen(
                [sys.executable, script, str(folder), str(rank)],
                stderr=subprocess.PIPE,
                env=env,
                text=True,
            )
            for rank in range(2)
        ]
        said = [process.communicate(timeout=240)[1] for process in running]
        assert [process.returncode for process in running] == [0, 0], "\n".join(said)

    return run
