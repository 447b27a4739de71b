"""Tasks from every kind of source, and what is said where they cannot be read."""

from __future__ import annotations

import io
import textwrap
from collections import Counter

import numpy as np
import pytest

from tenslora.errors import DataError
from tenslora.integrations.data import load_task

Image = pytest.importorskip("PIL.Image", reason="needs the hf extra")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    return str(path)


def jpeg(color, size=8):
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), color).save(buffer, format="JPEG")
    return buffer.getvalue()


def write_npz(path, count=10, **changed):
    files = [jpeg((20 * n, 0, 0)) for n in range(count)]
    arrays = {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]).astype(np.int64),
        "label": np.arange(count, dtype=np.uint8) % 2,
        "classes": np.array(["dark", "light"]),
    }
    arrays |= changed
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return files


TEN = "".join(f"a row {n}\tred\nthe row {n}\tblue\n" for n in range(5))


def test_a_tsv_is_read_without_quoting_and_split_by_class(tmp_path):
    spec = write(tmp_path / "colours.tsv", "text\tlabel\n" + TEN + '"open quote\tred\n')
    task = load_task(spec)
    assert (task.name, task.kind, task.classes) == ("colours", "text", ("blue", "red"))
    assert (len(task.train), len(task.evaluation), task.evaluation.name) == (9, 2, "held out")
    assert Counter(task.evaluation.labels) == {0: 1, 1: 1}
    together = [*task.train.inputs, *task.evaluation.inputs]
    assert ('"open quote',) in together
    assert len(set(together)) == 11
    assert load_task(spec).fingerprint() == task.fingerprint()


def test_a_csv_has_quotes_as_usual(tmp_path):
    spec = write(tmp_path / "t.csv", 'text,label\n"one, two",a\nthree,b\n"four",a\nfive,b\n')
    task = load_task(spec)
    assert ("one, two",) in [*task.train.inputs, *task.evaluation.inputs]


def test_a_folder_with_train_and_dev_is_a_task_and_numbers_sort_as_numbers(tmp_path):
    write(tmp_path / "train.tsv", "label\tsentence1\tsentence2\n10\ta\tb\n9\tc\td\n")
    write(tmp_path / "dev.tsv", "label\tsentence1\tsentence2\tmore\n9\te\tf\tx\n")
    write(tmp_path / "test.tsv", "label\tsentence1\tsentence2\n9\te\tf\n")
    task = load_task(str(tmp_path))
    assert task.classes == ("9", "10")
    assert list(task.train.inputs) == [("a", "b"), ("c", "d")]
    assert list(task.train.labels) == [1, 0]
    assert (task.evaluation.name, list(task.evaluation.inputs)) == ("dev", [("e", "f")])
    assert task.name == tmp_path.name


def test_columns_can_be_named(tmp_path):
    spec = write(tmp_path / "t.tsv", "a\tb\tkind\nx\ty\t1\nz\tw\t0\nq\tr\t1\ns\tt\t0\n")
    task = load_task(spec, text=("b", "a"), label="kind")
    assert ("y", "x") in [*task.train.inputs, *task.evaluation.inputs]


def test_max_rows_takes_the_same_rows_each_time(tmp_path):
    spec = write(tmp_path / "t.tsv", "text\tlabel\n" + TEN * 4)
    one, two = load_task(spec, max_rows=5), load_task(spec, max_rows=5)
    assert len(one.train) == len(one.evaluation) == 5
    assert one.fingerprint() == two.fingerprint() != load_task(spec).fingerprint()


def test_an_npz_holds_jpeg_files(tmp_path):
    files = write_npz(tmp_path / "i.npz")
    task = load_task(str(tmp_path / "i.npz"))
    assert (task.kind, task.classes) == ("image", ("dark", "light"))
    assert sorted([*task.train.inputs, *task.evaluation.inputs]) == sorted(files)


def test_a_folder_of_images_has_a_class_for_each_folder(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for name in ("cat", "dog"):
            for n in range(count):
                path = tmp_path / split / name / f"{n}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg((n, n, n)))
    task = load_task(str(tmp_path))
    assert (task.classes, len(task.train), len(task.evaluation)) == (("cat", "dog"), 6, 4)
    flat = load_task(str(tmp_path / "train"))
    assert (flat.evaluation.name, len(flat.evaluation)) == ("held out", 2)


def test_a_dataset_of_the_hub(monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs the hf extra")
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )

    def split(labels):
        table = {"sentence": [f"s{n}" for n in range(len(labels))], "label": labels}
        return datasets.Dataset.from_dict(table, features=features)

    asked = []

    def load_dataset(*args):
        asked.append(args)
        return {"train": split([0, 1, 1]), "validation": split([1, 0]), "test": split([-1, -1])}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = load_task("nyu-mll/glue:cola")
    assert asked == [("nyu-mll/glue", "cola")]
    assert (task.name, task.classes) == ("glue-cola", ("no", "yes"))
    assert (list(task.train.labels), list(task.evaluation.labels)) == ([0, 1, 1], [1, 0])


def test_what_the_hub_says_is_passed_on(monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs the hf extra")

    def load_dataset(*args):
        raise ConnectionError("no route to the hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"E701: 'glue' is no file .*: no route to the hub"):
        load_task("glue")


def test_the_embedded_task():
    pytest.importorskip("chatterbot_corpus", reason="needs the demo extra")
    pytest.importorskip("yaml", reason="needs the demo extra")
    task = load_task("topics")
    texts = [text.casefold() for (text,) in [*task.train.inputs, *task.evaluation.inputs]]
    assert len(set(texts)) == len(texts) == 644
    assert "trivia" in task.classes
    assert "humor" not in task.classes  # two different questions only
    assert task.classes[task.majority] == "trivia"


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("t.tsv", "", "E702: .*t.tsv is empty"),
        ("t.tsv", "text\tlabel\n", "E702: .* has a header and no rows"),
        ("t.tsv", "text\ttext\na\tb\n", "E702: .* two columns called 'text'"),
        ("t.tsv", "text\tlabel\na\tb\nc\n", "E702: .*row 3: 1 columns where the header has 2"),
        ("t.csv", 'text,label\n"a,b\n', "E702: .* cannot be read"),
        ("t.txt", "text\n", "E702: .* no kind of file"),
        ("t.tsv", "text\tkind\na\tb\n", "E703: no label column .*\n.*columns are text, kind"),
        ("t.tsv", "p\tq\tlabel\na\tb\tc\n", "E703: no text column .*\n.*columns are p, q, label"),
        ("t.tsv", "text\tlabel\na\tx\nb\tx\n", "E704: .* every row has the label 'x'"),
        ("t.tsv", "text\tlabel\na\tx\nb\t\n", "E704: .*row 2 of the training split has no label"),
        ("t.tsv", "text\tlabel\na\tx\nb\ty\n", "E706: .* a class has one row only"),
        (
            "t.tsv",
            "text\tlabel\n" + "".join(f"a\t{n}\n" for n in range(50)),
            "E704: .* 50 different labels in 50 rows",
        ),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, file, text, said):
    with pytest.raises(DataError, match=said):
        load_task(write(tmp_path / file, text))


def test_a_table_that_is_not_utf8(tmp_path):
    (tmp_path / "t.tsv").write_bytes("text\tlabel\ncafé\tx\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"E702: .* is not UTF-8"):
        load_task(str(tmp_path / "t.tsv"))


@pytest.mark.parametrize("spec", ["nowhere.tsv", "./nowhere", "/nowhere/at/all", "no.npz"])
def test_paths_that_are_not_there(spec):
    with pytest.raises(DataError, match=r"E701: there is no file or folder"):
        load_task(spec)


def test_named_columns_that_are_not_there(tmp_path):
    spec = write(tmp_path / "t.tsv", "text\tlabel\na\tx\nb\ty\n")
    with pytest.raises(DataError, match=r"E703: .* has no column 'body'\n.*text, label"):
        load_task(spec, text=("body",))
    with pytest.raises(DataError, match=r"E703: .*'label' is both text and label"):
        load_task(spec, text=("label",))


def test_splits_that_do_not_fit(tmp_path):
    write(tmp_path / "dev.tsv", "text\tlabel\na\tx\n")
    with pytest.raises(DataError, match=r"E706: .* has no training split\n.*splits are dev"):
        load_task(str(tmp_path))
    write(tmp_path / "train.tsv", "text\tlabel\na\ty\nb\tz\n")
    with pytest.raises(DataError, match=r"E704: .*row 1 of dev has the label 'x', which"):
        load_task(str(tmp_path))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"label": None}, "has no array 'label'"),
        ({"label": np.zeros(3, np.uint8)}, "3 labels go with 4 offsets, not 11"),
        ({"label": np.full(10, 7)}, "values outside the 2 classes"),
        ({"offsets": np.arange(11) * 10**6}, "offsets do not rise within jpeg"),
        ({"classes": np.array(["a", "b"], dtype=object)}, "no .npz file of arrays"),
    ],
)
def test_npz_files_that_cannot_be_used(tmp_path, changed, said):
    write_npz(tmp_path / "i.npz", **changed)
    with pytest.raises(DataError, match=rf"E705: .*{said}"):
        load_task(str(tmp_path / "i.npz"))


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(DataError, match=r"E705: .* holds neither train.tsv"):
        load_task(str(tmp_path))
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match=r"E705: .*cat holds no image\n.*\.jpg"):
        load_task(str(tmp_path))


@pytest.mark.data
def test_the_published_splits(shared_data):
    cola, mrpc = load_task(str(shared_data / "cola")), load_task(str(shared_data / "mrpc"))
    assert (len(cola.train), len(cola.evaluation)) == (8551, 1043)
    assert (len(mrpc.train), len(mrpc.evaluation)) == (3668, 408)
    assert len(mrpc.train.inputs[0]) == 2
    eurosat = load_task(str(shared_data / "eurosat"))
    assert (len(eurosat.train), eurosat.evaluation.name, len(eurosat.classes)) == (2000, "test", 10)
