"""Labelled text from TSV and CSV files and from the hub, as columns of strings."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tenslora.errors import DataError

__all__ = ["LABELS", "PAIRS", "TEXTS", "Columns", "choose_columns", "read_hub", "read_table"]

#: Columns by name, all of one length; every entry a string.
Columns = Mapping[str, Sequence[str]]

#: Names by which columns are found, best first.
LABELS = ("label", "labels", "class", "category", "topic", "target", "y")
PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
)
TEXTS = ("sentence", "text", "question", "content", "review", "title", "input")


def read_table(path: Path) -> Columns:
    """Read a TSV (no quoting) or CSV (quotes as usual) file with a header line, in UTF-8.

    Raises
    ------
    DataError
        E701 where it is missing, E702 where it is no such table, with the line.
    """
    rows = _rows(path)
    if not rows:
        raise DataError("E702", f"{path} is empty", advice="Its first line names the columns.")
    header = [name.strip() for name in rows[0]]
    double = {name for name in header if header.count(name) > 1}
    if double:
        what = f"{path} has two columns called {min(double)!r}"
        raise DataError("E702", what, advice="Its first line names the columns.")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            what = f"{path}, row {number}: {len(row)} columns where the header has {len(header)}"
            quoting = "A .tsv is read without quoting; use .csv for quoted fields."
            advice = quoting if path.suffix == ".tsv" else "Quote fields that hold a comma."
            raise DataError("E702", what, advice=advice)
    if len(rows) == 1:
        raise DataError("E702", f"{path} has a header and no rows", advice="Add labelled rows.")
    return dict(zip(header, zip(*rows[1:], strict=True), strict=True))


def _rows(path: Path) -> list[list[str]]:
    tab = path.suffix == ".tsv"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if tab:
                reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            else:
                reader = csv.reader(file, strict=True)
            return [row for row in reader if row]
    except FileNotFoundError:
        raise DataError("E701", f"there is no file {path}", advice="Check the path.") from None
    except UnicodeDecodeError as error:
        what = f"{path} is not UTF-8 (byte {error.start})"
        raise DataError("E702", what, advice="Save it as UTF-8.") from None
    except (csv.Error, OSError) as error:
        raise DataError("E702", f"{path} cannot be read: {error}", advice="Check it.") from None


def choose_columns(
    columns: Iterable[str], text: Sequence[str], label: str, where: str
) -> tuple[tuple[str, ...], str]:
    """Return the one or two text columns and the label column: those named, or found by name.

    >>> choose_columns(["label", "id1", "id2", "sentence1", "sentence2"], (), "", "mrpc")
    (('sentence1', 'sentence2'), 'label')

    Raises
    ------
    DataError
        E703 for a name that is not there, and where nothing is named and nothing found.
    """
    names = list(columns)
    listed = ", ".join(names)
    for name in (*text, *([label] if label else [])):
        if name not in names:
            what = f"{where} has no column {name!r}"
            raise DataError("E703", what, advice=f"Its columns are {listed}.")
    if len(text) > 2:
        raise DataError("E703", f"{len(text)} text columns are named", advice="Name one or two.")
    lower = {name.lower(): name for name in reversed(names)}
    target = label or next((lower[n] for n in LABELS if n in lower), "")
    if not target:
        what = f"no label column was found in {where}"
        raise DataError("E703", what, advice=f"Name it with label=...: its columns are {listed}.")
    inputs = tuple(text) or _find_text(lower, target)
    if not inputs:
        rest = [name for name in names if name != target]
        if len(rest) != 1:
            what = f"no text column was found in {where}"
            advice = f"Name one or two with text=...: its columns are {listed}."
            raise DataError("E703", what, advice=advice)
        inputs = (rest[0],)
    if target in inputs:
        what = f"{where}: {target!r} is both text and label"
        raise DataError("E703", what, advice=f"Its columns are {listed}.")
    return inputs, target


def _find_text(lower: Mapping[str, str], label: str) -> tuple[str, ...]:
    for pair in PAIRS:
        if all(name in lower and lower[name] != label for name in pair):
            return tuple(lower[name] for name in pair)
    found = next((lower[n] for n in TEXTS if n in lower and lower[n] != label), None)
    return () if found is None else (found,)


def read_hub(name: str) -> dict[str, Any]:
    """Read every split of a dataset on the hub, ``owner/name`` or ``owner/name:configuration``.

    Returns ``datasets.Dataset`` objects by split; asks the network (or the library's own cache).

    Raises
    ------
    DataError
        E701 where nothing of that name can be had, E710 where the datasets library is missing.
    """
    try:
        import datasets
    except ImportError:
        what = f"{name!r} is no file or folder, and the datasets library is not installed"
        raise DataError("E710", what, advice='pip install "tenslora[hf]"') from None
    path, _, configuration = name.partition(":")
    try:
        found = datasets.load_dataset(path, configuration or None)
    except Exception as error:  # noqa: BLE001  the library raises whatever its parts raise
        first = (str(error).strip().splitlines() or [""])[0][:160]
        what = f"{name!r} is no file or folder, and not to be had from the hub: {first}"
        advice = "Check the path; a dataset on the hub is owner/name or owner/name:configuration."
        raise DataError("E701", what, advice=advice) from None
    return dict(found)
