"""The explorer: what it says of an equation is what the library says, here and packed alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
import zipfile

import explore
import explorer
import pytest

import tenslora as tl

OWN = "W[layer out in] = V[out b] G[layer b a] U[a in]"


def said(call):
    """Return the text of the error that a call raises."""
    with pytest.raises(tl.TensloraError) as caught:
        call()
    return {"code": caught.value.code, "text": str(caught.value)}


@pytest.mark.parametrize(
    "text", ["W[out in] = B[out r] A[r j]", "W[out in] = B[out out] A[r in]", "W", "", "W[out?"]
)
def test_a_mistake_is_told_as_the_library_tells_it(text):
    assert explore.look(text) == {"error": said(lambda: tl.parse(text))}


def test_counts_are_those_of_the_bound_family():
    sizes = {"layer": 4, "out": 60, "in": 70, "a": 2, "b": 3}
    found = explore.look(OWN, sizes=sizes, zero=["G"], frozen=["U"])
    bound = tl.family(OWN, init={"G": "zeros"}, frozen=["U"]).bind(sizes)
    assert found["counts"] == {
        "trained": bound.trainable_parameters,
        "frozen": bound.frozen_parameters,
        "cut": bound.cut_rank,
        "flops": bound.flops_per_token,
        "once": bound.plan().hoist_flops,
    }
    assert [(i["name"], i["size"]) for i in found["indices"]] == [
        ("layer", 4), ("out", 60), ("in", 70), ("b", 3), ("a", 2)
    ]  # fmt: skip
    assert found["notes"] == []


def test_a_size_that_cannot_be_leaves_the_picture():
    found = explore.look(OWN, sizes={"a": 0})
    expected = said(lambda: tl.resolve(OWN).bind({"layer": 12, "out": 768, "in": 768}, a=0, b=8))
    assert found["size_error"] == expected
    assert "counts" not in found
    assert "<svg" in found["svg"]


def test_a_start_from_which_nothing_trains_is_a_note():
    assert [n["code"] for n in explore.look(OWN, literal=True)["notes"]] == ["E304"]
    assert [n["code"] for n in explore.look(OWN, zero=["V", "G"])["notes"]] == ["E303"]
    assert explore.look(OWN)["notes"] == []


@pytest.mark.parametrize("name", ["pissa", "vera", "lora_xs"])
def test_a_family_is_looked_at_as_the_catalogue_has_it(name):
    family = tl.resolve(name)
    found = explore.look(family.equation, family=name)
    assert found["notes"] == []  # no core of pissa is zero: a copy is taken away
    assert {c["name"] for c in found["cores"] if c["frozen"]} == family.frozen
    sizes = {index["name"]: index["size"] for index in found["indices"]}
    assert found["counts"]["trained"] == family.bind(sizes).trainable_parameters


def test_a_rank_that_is_redundant_is_a_note():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # caught inside, not here
        found = explore.look(OWN, sizes={"a": 4000, "b": 8})
    assert [note["code"] for note in found["notes"]] == ["W201"]


def test_a_start_stays_while_the_equation_is_typed():
    found = explore.look(OWN + " + T[layer out in]", zero=["G", "gone"])
    assert {c["name"] for c in found["cores"] if c["zero"]} == {"G", "T"}


@pytest.mark.parametrize("name", tl.registered())
def test_products_of_the_indices_are_the_counts(name):
    found = explore.describe(tl.resolve(name), {}, planned=False)
    sizes = {index["name"]: index["size"] for index in found["indices"]}
    for kind in ("trained", "frozen"):
        total = 0
        for core in found["cores"]:
            entries = 1
            for index in core["indices"]:
                entries *= sizes[index]
            total += entries * (core["frozen"] == (kind == "frozen"))
        assert total == found["counts"][kind]


def test_what_is_packed_answers_alone_and_without_numpy(tmp_path):
    archive = tmp_path / "core.zip"
    archive.write_bytes(explorer.core_archive())
    requests = [{"equation": OWN, "sizes": {"a": 3}}, {"equation": "W[out in] = B[out r] A[r j]"}]
    code = (
        "import sys, json; sys.path[:0] = [sys.argv[1]]; from explore import explore;"
        "print(json.dumps([json.loads(explore(r)) for r in sys.argv[2:]]));"
        "print([m for m in ('numpy', 'scipy', 'tensorly', 'torch') if m in sys.modules])"
    )
    words = [sys.executable, "-I", "-S", "-c", code, str(archive), *map(json.dumps, requests)]
    run = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    answers, brought = run.stdout.splitlines()
    assert json.loads(answers) == [explore.look(**request) for request in requests]
    assert brought == "[]"


def test_the_archive_holds_the_symbolic_half_and_is_the_same_each_time():
    packed = explorer.core_archive()
    names = zipfile.ZipFile(io.BytesIO(packed)).namelist()
    tops = {
        name.split("/")[1].removesuffix(".py") for name in names if name.startswith("tenslora/")
    }
    assert tops == set(explorer.SYMBOLIC)
    assert "opt_einsum/paths.py" in names
    assert any(name.startswith("opt_einsum-") and name.endswith("LICENSE") for name in names)
    assert {name for name in names if "/" not in name} == {"explore.py", "facts.py"}
    assert packed == explorer.core_archive()
