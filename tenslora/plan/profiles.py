"""Profiles by name, and as small JSON files that ``tenslora tune`` writes."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from tenslora.errors import PlanError, StateError
from tenslora.plan.cost import PROFILES, Profile
from tenslora.spec.schema import check_keys, check_schema

__all__ = ["find_profile", "profile_to_json", "read_profile"]

_SCHEMA = 1
_LONGEST_NAME = 80
_LARGEST_FILE = 65_536


def find_profile(profile: Profile | str | PathLike[str]) -> Profile:
    """Return a profile: itself, one of ``PROFILES`` by its name, or one from a JSON file.

    Parameters
    ----------
    profile : a profile, a name, or the path of a file, which ends in ``.json``.

    Raises
    ------
    PlanError
        E410 for a file with numbers that no machine has, E412 for a name that is not known and a
        file that cannot be read.
    StateError
        E601, E602, E603 for JSON that is no profile.

    Examples
    --------
    >>> find_profile("cpu")
    Profile(name='cpu', flops_per_byte=10.0, itemsize=4, flops_per_call=0.0, flops_per_second=None)
    """
    if isinstance(profile, Profile):
        return profile
    name = fspath(profile)
    if name in PROFILES:
        return PROFILES[name]
    if not name.endswith(".json"):
        advice = f"The profiles are {', '.join(PROFILES)}; `tenslora tune` writes a file with one."
        raise PlanError("E412", f"there is no profile {name!r}", advice=advice)
    return read_profile(Path(name))


def read_profile(path: Path) -> Profile:
    """Read a file that :func:`profile_to_json` describes; errors as for :func:`find_profile`."""
    advice = "Write it with `tenslora tune`."
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_FILE + 1)
        data = json.loads(text if len(text) <= _LARGEST_FILE else "")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise PlanError("E412", f"profile {path}: {reason}", advice=advice) from error
    found = check_schema(data, "profile", _SCHEMA)
    names = {field.name for field in fields(Profile)}
    check_keys(found, "profile", {"schema", *names}, frozenset({"measured"}))
    name = found["name"]
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        what = f"profile JSON: 'name' is no text of 1 to {_LONGEST_NAME} characters"
        raise StateError("E603", what, advice=advice)
    return Profile(**{key: found[key] for key in names})


def profile_to_json(profile: Profile, measured: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a profile as a JSON object; ``measured`` says on what it was measured.

    Examples
    --------
    >>> profile_to_json(Profile("mine", 8.0, 4))["flops_per_byte"]
    8.0
    """
    data = {"schema": _SCHEMA, **asdict(profile)}
    return data if measured is None else {**data, "measured": measured}
