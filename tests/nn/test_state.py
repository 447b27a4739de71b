"""Checkpoints: what comes back, and everything that is refused."""

from __future__ import annotations

import json
import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import tenslora as tl
from tenslora.errors import AttachError, StateError

TUCKER = tl.family(
    "W[layer proj (head head_dim) in] = U[in a] V[head_dim b] H[head c] P[proj d] G[layer a b c d]",
    init={"G": "zeros", "U": "orthogonal"},
    frozen=("V",),
    scale="alpha/sqrt(a)",
    dropout={"input": 0.05},
    lr={"G": 4},
    name="mine",
)
LORA = tl.family(
    "W[layer proj out in] = B[layer proj out r] A[layer proj r in]", init={"B": "zeros"}
)
KINDS = ["bert", "roberta", "vit", "gpt2", "llama", "plain"]


def attached(case, randomized, family=TUCKER, **options):
    sizes = {} if hasattr(case.model, "config") or family is LORA else {"head": 3}
    adapter = tl.attach(
        case.model,
        family,
        **{"targets": case.targets, "ranks": 2, "sizes": sizes, **options},
    )
    randomized(adapter)
    return adapter


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load_are_bitwise(kind, make_case, randomized, tmp_path, snapshot):
    case = make_case(kind)
    head = {"bert": "classifier", "plain": "head"}.get(kind, ())
    adapter = attached(case, randomized, alpha=3.0, train=head)
    if head:
        with torch.no_grad():
            for p in case.model.get_submodule(head).parameters():
                p.mul_(1.5)
    output = case.run()
    adapter.save(tmp_path / "a.safetensors")
    twin = make_case(kind)
    before = snapshot(twin.model)
    again = tl.load(twin.model, tmp_path / "a.safetensors")
    assert torch.equal(twin.run(), output)
    assert again.name == "default"
    assert again.family == adapter.family
    assert again.bounds == adapter.bounds
    assert again.sites == adapter.sites
    assert again.design.train == adapter.design.train
    assert again.to_json() == adapter.to_json()
    for name, bank in adapter.banks.items():
        for core, value in bank.cores().items():
            other = again.banks[name].cores()[core]
            assert torch.equal(other, value)
            assert other.requires_grad == value.requires_grad
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again.detach()
    before.check(twin.model)


def test_only_the_adapters_tensors_are_in_the_file(make_case, randomized, tmp_path):
    case = make_case("bert")
    attached(case, randomized, train="classifier").save(tmp_path / "a.safetensors")
    assert sorted(load_file(tmp_path / "a.safetensors")) == [
        *[f"cores.12x12.{name}" for name in "GHPUV"],
        "train.classifier.bias",
        "train.classifier.weight",
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_sites_by_hand_and_fused_rows_come_back(make_case, randomized, tmp_path):
    case = make_case("gpt2")
    sites = [
        tl.Site("transformer.h.0.attn.c_attn", {"expert": "a"}, rows=(0, 12)),
        tl.Site("transformer.h.1.attn.c_attn", {"expert": "b"}, rows=(24, 36)),
    ]
    adapter = tl.attach(
        case.model, "W[expert out in] = B[expert out r] A[r in]", sites=sites, ranks=2
    )
    randomized(adapter)
    output = case.run()
    adapter.save(tmp_path / "a.safetensors")
    twin = make_case("gpt2")
    assert tl.load(twin.model, tmp_path / "a.safetensors").sites == adapter.sites
    assert torch.equal(twin.run(), output)


def test_rows_in_blocks_and_columns_come_back(make_case, randomized, tmp_path):
    case = make_case("plain")
    sites = [
        tl.Site("blocks.0.q", {"layer": 0}, rows=(0, 12, 4, 2), columns=(6, 12)),
        tl.Site("blocks.1.q", {"layer": 1}, rows=(2, 12, 4, 2), columns=(0, 10, 4, 2)),
    ]
    adapter = tl.attach(
        case.model, "W[layer out in] = B[layer out r] A[r in]", sites=sites, ranks=2
    )
    assert [site.shape for site in adapter.sites] == [(6, 6), (6, 6)]
    randomized(adapter)
    output = case.run()
    adapter.save(tmp_path / "a.safetensors")
    twin = make_case("plain")
    again = tl.load(twin.model, tmp_path / "a.safetensors")
    assert again.sites == adapter.sites
    assert torch.equal(twin.run(), output)
    again.merge()
    torch.testing.assert_close(twin.run(), output)
    again.unmerge()
    whole = again.delta("blocks.0.q")
    assert torch.equal(whole[[0, 1, 4, 5, 8, 9], 6:], again.delta(again.sites[0]))
    assert not whole[[2, 3, 6, 7, 10, 11]].any()
    assert not whole[:, :6].any()


def test_a_record_of_the_first_schema_is_read(saved, make_case):
    path, record, tensors = saved
    new = tl.load(make_case("plain").model, path)
    for site in group(record)["sites"]:
        site.pop("columns")
    record.pop("model")
    record["schema"] = 1
    rewrite(path, record, tensors)
    old = tl.load(make_case("plain").model, path)
    assert old.to_json() == new.to_json()
    assert old.to_json()["schema"] == 2
    new.load(path)


def test_the_record_names_the_model(make_case, randomized, tmp_path):
    case = make_case("bert")
    case.model.config._name_or_path = "someone/a-model"
    adapter = attached(case, randomized)
    named = {"class": "BertForSequenceClassification", "name": "someone/a-model"}
    assert adapter.to_json()["model"] == named
    adapter.save(tmp_path / "a.safetensors")
    assert tl.load(make_case("bert").model, tmp_path / "a.safetensors").sites == adapter.sites


def test_trained_modules_are_restored_by_detach_unless_kept(make_case, randomized, tmp_path):
    case = make_case("plain")
    adapter = attached(case, randomized, train="head")
    first = case.model.head.weight.detach().clone()
    with torch.no_grad():
        case.model.head.weight.add_(1)
    adapter.save(tmp_path / "a.safetensors")
    adapter.detach()
    assert torch.equal(case.model.head.weight, first)
    adapter = tl.load(case.model, tmp_path / "a.safetensors")
    assert torch.equal(case.model.head.weight, first + 1)
    adapter.detach(keep=True)
    assert torch.equal(case.model.head.weight, first + 1)


def test_loading_values_into_an_adapter(make_case, randomized, tmp_path):
    case = make_case("plain")
    adapter = attached(case, randomized)
    output = case.run()
    adapter.save(tmp_path / "a.safetensors")
    randomized(adapter, 7)
    assert not torch.equal(case.run(), output)
    adapter.load(tmp_path / "a.safetensors")
    assert torch.equal(case.run(), output)
    adapter.merge()
    with pytest.raises(AttachError, match="E511"):
        adapter.load(tmp_path / "a.safetensors")
    adapter.unmerge()
    adapter.detach()
    other = attached(case, randomized, ranks=3)
    before = case.run()
    with pytest.raises(StateError, match=r"E617: .* holds an adapter with other groups"):
        other.load(tmp_path / "a.safetensors")
    assert torch.equal(case.run(), before)


def test_another_name(make_case, randomized, tmp_path, snapshot):
    case = make_case("plain")
    attached(case, randomized, name="one").save(tmp_path / "a.safetensors")
    before = snapshot(case.model)
    with pytest.raises(AttachError, match="E508: the model has an adapter 'one' already"):
        tl.load(case.model, tmp_path / "a.safetensors")
    before.check(case.model)
    assert tl.load(case.model, tmp_path / "a.safetensors", name="two").name == "two"
    assert list(tl.adapters(case.model)) == ["one", "two"]


def test_saved_merged(make_case, randomized, tmp_path):
    case = make_case("plain")
    adapter = attached(case, randomized)
    output = case.run()
    adapter.merge()
    adapter.save(tmp_path / "a.safetensors")
    twin = make_case("plain")
    tl.load(twin.model, tmp_path / "a.safetensors")
    assert torch.equal(twin.run(), output)


def test_other_dtypes(make_case, randomized, tmp_path):
    case = make_case("plain")
    case.model.to(torch.bfloat16)
    adapter = attached(case, randomized, dtype=torch.bfloat16)
    adapter.save(tmp_path / "a.safetensors")
    twin = make_case("plain")
    twin.model.to(torch.bfloat16)
    again = tl.load(twin.model, tmp_path / "a.safetensors")
    assert {c.dtype for c in again.banks["12x12"].cores().values()} == {torch.bfloat16}
    again.detach()
    twin.model.float()
    with pytest.raises(StateError, match=r"E615: .*bfloat16 \[12, 12\]; here it is float32"):
        tl.load(twin.model, tmp_path / "a.safetensors")
    tl.load(twin.model, tmp_path / "a.safetensors", any_dtype=True)


# -- what is refused ---------------------------------------------------------------------------


@pytest.fixture
def saved(make_case, randomized, tmp_path):
    """A file, its record and its tensors."""
    path = tmp_path / "a.safetensors"
    attached(make_case("plain"), randomized, family=LORA, train="head").save(path)
    header = read_header(path)
    return path, json.loads(header["__metadata__"]["tenslora"]), load_file(path)


def read_header(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size])


def rewrite(path, record, tensors, **metadata):
    text = record if isinstance(record, str) else json.dumps(record)
    save_file(tensors, path, {"tenslora": text, **metadata})


def group(record):
    return record["groups"][0]


RECORDS = {
    "version": (
        lambda r: r.update(schema=3),
        "E601: adapter JSON has schema 3; this release reads schemas 1 to 2",
    ),
    "no version": (lambda r: r.pop("schema"), "E601"),
    "unknown key": (lambda r: r.update(colour="red"), "E602: adapter JSON has unknown keys colour"),
    "missing key": (lambda r: r.pop("digests"), "E602"),
    "wrong type": (lambda r: r.update(groups={}), "E603: adapter JSON: 'groups' is dict"),
    "format": (lambda r: r.update(format="peft"), "E603: adapter JSON has format 'peft'"),
    "dropout": (lambda r: r.update(dropout=2.0), "E603"),
    "equation": (lambda r: r["family"].update(equation="W[out in] ="), "E603: the family"),
    "other equation": (
        lambda r: r["family"].update(
            equation="W[layer proj out in] = B[layer proj out r] A[layer proj r s] C[s in]"
        ),
        "E603",
    ),
    "init": (lambda r: r["family"]["init"].update(A="exec(1)"), "E603: the family in the file"),
    "size": (lambda r: group(r)["sizes"].update(r=10**15), "E613"),
    "absurd size": (lambda r: group(r)["sizes"].update(r=10**400), "E61"),
    "negative size": (lambda r: group(r)["sizes"].update(r=-1), "E603"),
    "unknown size": (lambda r: group(r)["sizes"].update(x=1), "E603"),
    "size of a site": (lambda r: group(r)["sizes"].update(layer=3), "E603"),
    "scale": (lambda r: group(r).update(scale="1"), "E603"),
    "infinite scale": (lambda r: group(r).update(scale=float("inf")), "E603"),
    "group name": (lambda r: group(r).update(name="../../x"), "E603"),
    "path": (lambda r: group(r)["sites"][0].update(path="blocks.7.q"), "E603"),
    "long path": (lambda r: group(r)["sites"][0].update(path="q" * 5000), "E603"),
    "rows": (lambda r: group(r)["sites"][0].update(rows=[0, 99]), "E603"),
    "columns": (lambda r: group(r)["sites"][0].update(columns=[1, 2, 3]), "E603: site JSON: col"),
    "model": (lambda r: r["model"].update(name=3), "E603: model JSON: 'name' is int"),
    "rows of text": (lambda r: group(r)["sites"][0].update(rows=["0", "1"]), "E603: site JSON"),
    "coords": (lambda r: group(r)["sites"][0].update(coords=[["layer", None]]), "E603: site JSON"),
    "same place twice": (
        lambda r: group(r)["sites"][0].update(path=group(r)["sites"][1]["path"]),
        "E603",
    ),
    "train": (lambda r: r.update(train=["heed"]), "E615: the file holds a trained module 'heed'"),
    "base shape": (lambda r: r["base"]["blocks.0.q"].update(shape=[9, 9]), "E615: .*here it is"),
    "base dtype": (lambda r: r["base"]["blocks.0.q"].update(dtype="float16"), "E615: .*any_dtype"),
    "base path": (
        lambda r: r["base"].update({"blocks.9.q": {"shape": [12, 12], "dtype": "float64"}}),
        "E615: .*blocks.9.q.*Plain has none",
    ),
    "more base": (
        lambda r: r["base"].update({"blocks.0.o": {"shape": [12, 12], "dtype": "float64"}}),
        "E603: the base in the record names other weights",
    ),
    "digest": (lambda r: r["digests"].update({"cores.12x12.A": "0" * 64}), "E614: .*cores.12x12.A"),
    "no digest": (lambda r: r["digests"].pop("cores.12x12.A"), "E614"),
    "name": (lambda r: r.update(name="a/../b"), "E508"),
    "no groups": (lambda r: r.update(groups=[]), "E603"),
    "group of text": (lambda r: r.update(groups=["x"]), "E603"),
}


@pytest.mark.parametrize(("change", "text"), RECORDS.values(), ids=list(RECORDS))
def test_a_changed_record_is_refused(change, text, saved, make_case, snapshot):
    path, record, tensors = saved
    change(record)
    rewrite(path, record, tensors)
    model = make_case("plain").model
    before = snapshot(model)
    with pytest.raises(tl.TensloraError, match=rf"(?s)^{text}") as caught:
        tl.load(model, path)
    assert caught.value.advice
    before.check(model)


TENSORS = {
    "missing": (lambda t: t.pop("cores.12x12.A"), "E612: .*missing tensors cores.12x12.A"),
    "unknown": (lambda t: t.update(x=torch.zeros(1)), "E612: .*unknown tensors x"),
    "base key": (
        lambda t: t.update({"blocks.0.q.weight": torch.zeros(12, 12)}),
        "E612: .*unknown tensors blocks.0.q.weight",
    ),
    "shape": (
        lambda t: t.update({"cores.12x12.A": torch.zeros(2, 3, 2, 11).double()}),
        "E613: .*cores.12x12.A has shape",
    ),
    "broadcast": (
        lambda t: t.update({"cores.12x12.A": torch.zeros(2, 1, 2, 12).double()}),
        "E613: .*cores.12x12.A has shape",
    ),
    "dtype": (lambda t: t.update({"cores.12x12.A": t["cores.12x12.A"].float()}), "E613"),
    "integers": (lambda t: t.update({k: v.long() for k, v in t.items()}), "E613"),
    "values": (lambda t: t["cores.12x12.A"].add_(1e-9), "E614: .*cores.12x12.A has not the digest"),
    "trained": (lambda t: t["train.head.bias"].add_(1), "E614: .*train.head.bias"),
}


@pytest.mark.parametrize(("change", "text"), TENSORS.values(), ids=list(TENSORS))
def test_changed_tensors_are_refused(change, text, saved, make_case, snapshot):
    path, record, tensors = saved
    change(tensors)
    rewrite(path, record, tensors)
    model = make_case("plain").model
    before = snapshot(model)
    with pytest.raises(StateError, match=rf"(?s)^{text}"):
        tl.load(model, path)
    before.check(model)


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "null", "[]", '{"schema": true}', "\\"])
def test_records_that_are_no_record(text, saved, make_case):
    path, _, tensors = saved
    rewrite(path, text, tensors)
    with pytest.raises(StateError, match="E6"):
        tl.load(make_case("plain").model, path)


def test_files_that_are_no_checkpoint(saved, make_case, tmp_path):
    path, record, tensors = saved
    model = make_case("plain").model
    with pytest.raises(StateError, match="E610: there is no file"):
        tl.load(model, tmp_path / "b.safetensors")
    with pytest.raises(StateError, match="E610: there is no file"):
        tl.load(model, tmp_path)
    whole = path.read_bytes()
    for cut in (0, 7, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(StateError, match=r"E610: .* is no whole safetensors file"):
            tl.load(model, path)
    path.write_bytes(struct.pack("<Q", 2**62) + whole[8:])
    with pytest.raises(StateError, match="E610"):
        tl.load(model, path)
    save_file(tensors, path)
    with pytest.raises(StateError, match=r"E611: .* no adapter of tenslora"):
        tl.load(model, path)
    rewrite(path, record, tensors, other="x")
    with pytest.raises(StateError, match="E611"):
        tl.load(model, path)
    torch.save(tensors, path)
    with pytest.raises(StateError, match="E610"):
        tl.load(model, path)


def test_every_flipped_byte_of_the_values_is_noticed(saved, make_case):
    path, _, _ = saved
    whole = bytearray(path.read_bytes())
    (size,) = struct.unpack("<Q", whole[:8])
    model = make_case("plain").model
    for place in range(8 + size, len(whole), 997):
        changed = whole.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(StateError, match="E614"):
            tl.load(model, path)


def test_another_model(saved, make_case, snapshot):
    path, _, _ = saved
    for model in (make_case("bert").model, nn.Linear(2, 2)):
        before = snapshot(model)
        with pytest.raises(StateError, match="E615"):
            tl.load(model, path)
        before.check(model)


def test_a_trained_module_is_not_loaded_twice(saved, make_case, snapshot):
    path, _, _ = saved
    model = make_case("plain").model
    tl.load(model, path)
    before = snapshot(model)
    with pytest.raises(AttachError, match="E514: head is trained by another adapter"):
        tl.load(model, path, name="two")
    before.check(model)


def test_a_save_that_fails_leaves_the_old_file(saved, make_case, randomized, monkeypatch, tmp_path):
    path, _, _ = saved
    before = path.read_bytes()
    adapter = attached(make_case("plain"), randomized, family=LORA)
    with pytest.raises(StateError, match=r"E616: .*nowhere.* cannot be written"):
        adapter.save(tmp_path / "nowhere" / "a.safetensors")
    with pytest.raises(StateError, match="E616"):
        adapter.save(tmp_path)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match=r"E616: .*No space left on device"):
        adapter.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_load_that_fails_halfway_leaves_the_model(saved, make_case, snapshot, monkeypatch):
    path, _, _ = saved
    model = make_case("plain").model
    before = snapshot(model)
    calls = []
    register = nn.Module.register_forward_hook

    def failing(self, hook, **options):
        calls.append(self)
        if len(calls) == 3:
            raise MemoryError
        return register(self, hook, **options)

    monkeypatch.setattr(nn.Module, "register_forward_hook", failing)
    with pytest.raises(MemoryError):
        tl.load(model, path)
    monkeypatch.undo()
    before.check(model)


def test_a_replaced_module_is_not_restored_blindly(make_case, randomized):
    case = make_case("plain")
    adapter = attached(case, randomized, family=LORA, train="head")
    case.model.head = nn.Linear(12, 7).double()
    with pytest.raises(AttachError, match=r"E514: head\.weight was replaced"):
        adapter.detach()
    adapter.detach(keep=True)
    assert case.model.head.out_features == 7
