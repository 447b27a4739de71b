"""Tasks: labelled text or images with a training and an evaluation split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenslora.errors import DataError
from tenslora.integrations.images import find_images, read_npz
from tenslora.integrations.tables import choose_columns, read_hub, read_table
from tenslora.integrations.topics import read_topics

__all__ = ["TOPICS", "Split", "Task", "load_task"]

#: The name of the embedded task.
TOPICS = "topics"

_TRAIN = ("train", "training")
_EVALUATION = ("dev", "validation", "val", "valid", "eval", "test")  # the first that is there
_TABLES = (".tsv", ".csv")
_MOST_CLASSES = 1000
_SPLIT_SEED = 20250919
_FRACTION = 0.2  # of the rows go to the evaluation split where the data has none


@dataclass(frozen=True)
class Split:
    """Inputs with labels.

    ``inputs`` holds, for text, a tuple of one or two strings; for images, bytes, paths or opened
    images. ``labels`` are positions in the task's classes.
    """

    name: str
    inputs: Sequence[Any]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Iterable[int], name: str = "") -> Split:
        """Return a split of these rows, in this order."""
        chosen = list(rows)
        inputs, labels = [self.inputs[i] for i in chosen], [self.labels[i] for i in chosen]
        return Split(name or self.name, inputs, labels)


@dataclass(frozen=True)
class Task:
    """A classification task.

    Attributes
    ----------
    name : for tables, such as "cola".
    kind : "text" or "image".
    train, evaluation : the splits; ``evaluation.name`` says which it is ("dev", "test", ...).
    classes : names in the order of the labels.
    source : what it was loaded from, in words.
    """

    name: str
    kind: str
    train: Split
    evaluation: Split
    classes: tuple[str, ...]
    source: str

    @property
    def majority(self) -> int:
        """The most frequent class of the training split."""
        labels = list(self.train.labels)
        return max(range(len(self.classes)), key=labels.count)

    def fingerprint(self) -> str:
        """Return a short hash of every input and label, by which runs on the same data are told."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for split in (self.train, self.evaluation):
            for value, label in zip(split.inputs, split.labels, strict=True):
                data = value if isinstance(value, bytes) else repr(_plain(value)).encode()
                digest.update(b"%d %d " % (label, len(data)) + data)
        return digest.hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Return what a report says of it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "classes": list(self.classes),
            "train_rows": len(self.train),
            "evaluation_rows": len(self.evaluation),
            "evaluation_split": self.evaluation.name,
            "source": self.source,
            "fingerprint": self.fingerprint(),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return (value.parent.name, value.name, value.stat().st_size)
    return value.tobytes() if hasattr(value, "tobytes") else value


def load_task(
    spec: str, *, text: Sequence[str] = (), label: str = "", max_rows: int | None = None
) -> Task:
    """Load a task.

    Parameters
    ----------
    spec : ``topics``; a ``.tsv`` (without quoting), ``.csv`` or ``.npz`` file; a folder with
        ``train`` and ``dev`` (or ``validation``, ``test``) as such files or as folders of images,
        one folder for each class; a folder of such class folders; or a dataset on the hub,
        ``owner/name`` or ``owner/name:configuration``. Data without an evaluation split is split
        by a fixed seed, a fifth of each class.
    text, label : columns, where their names do not tell.
    max_rows : rows of each split at most, chosen by a fixed seed.

    Raises
    ------
    DataError
        E701 to E706 and E710; see :data:`tenslora.errors.CODES`.
    """
    name, kind, source, raw = _read(spec, tuple(text), label)
    train_name = next((n for n in _TRAIN if n in raw), None)
    if train_name is None:
        what = f"{spec} has no training split"
        raise DataError("E706", what, advice=f"Its splits are {', '.join(raw)}; name one train.")
    evaluation = next((n for n in _EVALUATION if n in raw and _labelled(raw[n][1])), None)
    classes = _classes(raw[train_name][1], spec)
    train = _split(train_name, *raw[train_name], classes, spec)
    if evaluation is None:
        train, held = _divide(train, len(classes), spec)
    else:
        held = _split(evaluation, *raw[evaluation], classes, spec)
    if max_rows is not None:
        train, held = _sample(train, max_rows), _sample(held, max_rows)
    return Task(name, kind, train, held, classes, source)


_Raw = tuple[Sequence[Any], Sequence[str]]


def _read(spec: str, text: tuple[str, ...], label: str) -> tuple[str, str, str, dict[str, _Raw]]:
    """Return name, kind, source in words, and inputs with labels by split."""
    if spec == TOPICS:
        questions, topics = read_topics()
        raw: dict[str, _Raw] = {"train": ([(q,) for q in questions], topics)}
        return TOPICS, "text", "first lines of chatterbot-corpus, English, each once", raw
    path = Path(spec).expanduser()
    if path.is_dir():
        kind, raw = _read_folder(path, text, label)
        return path.resolve().name, kind, f"folder {path.resolve().name}", raw
    if path.is_file():
        kind, one = _read_file(path, text, label)
        return path.stem, kind, f"file {path.name}", {"train": one}
    if path.suffix in (*_TABLES, ".npz") or spec.startswith((".", "/", "~")):
        what = f"there is no file or folder {spec}"
        raise DataError("E701", what, advice="Check the path.")
    kind, raw = _read_hub(spec, text, label)
    return spec.rpartition("/")[2].replace(":", "-"), kind, f"hub dataset {spec}", raw


def _read_file(path: Path, text: tuple[str, ...], label: str) -> tuple[str, _Raw]:
    if path.suffix == ".npz":
        return "image", read_npz(path)
    if path.suffix not in _TABLES:
        what = f"{path} is no kind of file that is known"
        raise DataError("E702", what, advice="Use .tsv, .csv or .npz, or a folder of images.")
    columns = read_table(path)
    inputs, target = choose_columns(columns, text, label, str(path))
    rows = list(zip(*(columns[name] for name in inputs), strict=True))
    return "text", (rows, [value.strip() for value in columns[target]])


def _read_folder(folder: Path, text: tuple[str, ...], label: str) -> tuple[str, dict[str, _Raw]]:
    files = {
        path.stem: path
        for path in sorted(folder.iterdir())
        if path.suffix in (*_TABLES, ".npz") and path.stem in (*_TRAIN, *_EVALUATION)
    }
    if files:
        read = {name: _read_file(path, text, label) for name, path in files.items()}
        kinds = {kind for kind, _ in read.values()}
        if len(kinds) > 1:
            raise DataError("E702", f"{folder} mixes text and images", advice="Use one kind.")
        return kinds.pop(), {name: raw for name, (_, raw) in read.items()}
    folders = [path for path in folder.iterdir() if path.is_dir()]
    splits = {p.name: find_images(p) for p in folders if p.name in (*_TRAIN, *_EVALUATION)}
    if any(name in splits for name in _TRAIN):
        return "image", dict(splits)
    paths, labels = find_images(folder)
    if not paths:
        what = f"{folder} holds neither train.tsv, train.csv, train.npz nor folders of images"
        raise DataError("E705", what, advice="Put the images of each class in a folder of its own.")
    return "image", {"train": (paths, labels)}


def _read_hub(spec: str, text: tuple[str, ...], label: str) -> tuple[str, dict[str, _Raw]]:
    raw: dict[str, _Raw] = {}
    kind = "text"
    for name, table in read_hub(spec).items():
        if name not in (*_TRAIN, *_EVALUATION):
            continue
        columns = list(table.column_names)
        image = next((c for c in columns if type(table.features[c]).__name__ == "Image"), None)
        if image is not None and not text:
            kind = "image"
            target = choose_columns(columns, (image,), label, spec)[1]
            values: Sequence[Any] = table[image]
        else:
            inputs, target = choose_columns(columns, text, label, spec)
            values = list(zip(*([str(v) for v in table[c]] for c in inputs), strict=True))
        names = getattr(table.features[target], "names", None)
        labels = [
            "" if v is None or v == -1 else names[v] if names else str(v) for v in table[target]
        ]
        raw[name] = (values, labels)
    return kind, raw


def _labelled(labels: Sequence[str]) -> bool:
    return any(labels)


def _classes(labels: Sequence[str], spec: str) -> tuple[str, ...]:
    found = set(labels)
    if "" in found:
        what = f"{spec}: row {list(labels).index('') + 1} of the training split has no label"
        raise DataError("E704", what, advice="Label it or leave it out.")
    if len(found) < 2:
        what = f"{spec}: every row has the label {next(iter(found))!r}"
        raise DataError("E704", what, advice="There have to be two classes or more.")
    if len(found) > _MOST_CLASSES or (len(found) > 20 and len(found) * 2 > len(labels)):
        what = f"{spec}: {len(found)} different labels in {len(labels)} rows"
        advice = "Name the column of classes with label=...; numbers to predict are not supported."
        raise DataError("E704", what, advice=advice)
    whole = all(label.lstrip("-").isdecimal() for label in found)
    return tuple(sorted(found, key=(lambda s: (int(s), s)) if whole else None))


def _split(
    name: str, inputs: Sequence[Any], labels: Sequence[str], classes: Sequence[str], spec: str
) -> Split:
    place: Mapping[str, int] = {c: n for n, c in enumerate(classes)}
    for number, label in enumerate(labels, 1):
        if label not in place:
            said = f"the label {label!r}, which the training split has not" if label else "no label"
            what = f"{spec}: row {number} of {name} has {said}"
            raise DataError("E704", what, advice=f"Classes: {', '.join(classes[:20])}.")
    return Split(name, inputs, [place[label] for label in labels])


def _divide(split: Split, classes: int, spec: str) -> tuple[Split, Split]:
    """Hold out a fifth of each class, at least one row of it."""
    import numpy as np

    order = np.random.Generator(np.random.Philox(key=_SPLIT_SEED)).permutation(len(split))
    held: list[int] = []
    for label in range(classes):
        rows = [int(i) for i in order if split.labels[i] == label]
        if len(rows) < 2:
            what = f"{spec}: a class has one row only, and there is no evaluation split"
            raise DataError("E706", what, advice="Add rows, or give a folder with train and dev.")
        held += rows[: max(1, round(len(rows) * _FRACTION))]
    out = set(held)
    rest = [i for i in range(len(split)) if i not in out]
    return split.take(rest), split.take(sorted(held), "held out")


def _sample(split: Split, most: int) -> Split:
    import numpy as np

    if len(split) <= most:
        return split
    order = np.random.Generator(np.random.Philox(key=_SPLIT_SEED + 1)).permutation(len(split))
    return split.take(sorted(int(i) for i in order[:most]))
