"""How many random cases the property-based tests try: HYPOTHESIS_PROFILE is ``default``,
``ci`` (the same cases on every run) or ``thorough``. Tests marked ``slow`` run with ``-m slow``."""

from __future__ import annotations

import os

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
