"""How many random cases the property-based tests try: HYPOTHESIS_PROFILE is ``default``,
``ci`` (the same cases on every run) or ``thorough``."""

from __future__ import annotations

import os

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
