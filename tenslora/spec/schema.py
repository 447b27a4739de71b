"""A network as JSON, with a schema version, read strictly."""

from __future__ import annotations

from typing import Any

from tenslora.errors import StateError
from tenslora.spec.network import Network
from tenslora.spec.parse import parse

__all__ = ["SCHEMA_VERSION", "check_keys", "check_schema", "from_json", "to_json"]

#: The version of the JSON that :func:`tenslora.spec.to_json` writes.
SCHEMA_VERSION = 1


def to_json(network: Network) -> dict[str, Any]:
    """Return the network as a JSON object.

    >>> from tenslora.spec import parse
    >>> to_json(parse("W[out in] = B[out r] A[r in]"))
    {'schema': 1, 'equation': 'W[out in] = B[out r] A[r in]'}
    """
    return {"schema": SCHEMA_VERSION, "equation": str(network)}


def from_json(obj: object) -> Network:
    """Read what :func:`to_json` wrote.

    Raises
    ------
    StateError
        Not an object, an unknown version, unknown or missing keys, a wrong type.
    SpecError
        The equation in it is not well formed.

    >>> str(from_json({"schema": 1, "equation": "W[out in] = D[out in]"}))
    'W[out in] = D[out in]'
    """
    data = check_schema(obj, "network", SCHEMA_VERSION)
    check_keys(data, "network", {"schema", "equation"})
    if not isinstance(data["equation"], str):
        what = f"network JSON: 'equation' is {type(data['equation']).__name__}, not a string"
        raise StateError("E603", what, advice="Write the equation as text.")
    return parse(data["equation"])


def check_schema(obj: object, what: str, version: int, oldest: int | None = None) -> dict[str, Any]:
    """Return ``obj`` as a dict of schema ``oldest`` to ``version``, or raise :class:`StateError`.

    Without ``oldest`` only ``version`` itself is read.
    """
    oldest = version if oldest is None else oldest
    if not isinstance(obj, dict):
        raise StateError(
            "E603",
            f"{what} JSON is {type(obj).__name__}, not an object",
            advice='It looks like {"schema": 1, ...}.',
        )
    found = obj.get("schema")
    if type(found) is not int or not oldest <= found <= version:
        known = f"schema {version}" if oldest == version else f"schemas {oldest} to {version}"
        raise StateError(
            "E601",
            f"{what} JSON has schema {found!r}; this release reads {known}",
            advice="Write it again with this release, or read it with the release that wrote it.",
        )
    return obj


def check_keys(
    data: dict[str, Any], what: str, required: set[str], optional: frozenset[str] = frozenset()
) -> None:
    """Refuse unknown and missing keys."""
    unknown = sorted(map(str, set(data) - required - optional))
    missing = sorted(required - set(data))
    if unknown or missing:
        parts = [f"unknown keys {', '.join(unknown)}"] if unknown else []
        parts += [f"missing keys {', '.join(missing)}"] if missing else []
        advice = f"The keys are {', '.join(sorted(required | optional))}."
        raise StateError("E602", f"{what} JSON has {' and '.join(parts)}", advice=advice)
