"""Every mistake that a checkpoint, a target or an order of calls can be: told, and nothing changed.

Each case gets a model with an adapter whose head is trained too, does something wrong, and the
whole state dict is compared bit for bit, with hooks, flags and random states (``snapshot``).
"""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import tenslora as tl

LORA = tl.family(
    "W[layer proj out in] = B[layer proj out r] A[layer proj r in]", init={"B": "zeros"}
)


class Bench:
    """A model with an attached adapter, its file, and a second model of the same kind."""

    def __init__(self, make_case, randomized, folder):
        self.case = make_case("plain")
        self.model = self.case.model
        self.adapter = tl.attach(self.model, LORA, targets=["q", "k"], ranks=2, train="head")
        randomized(self.adapter)
        self.path = folder / "a.safetensors"
        self.adapter.save(self.path)
        self.make_case = make_case

    def rewrite(self, record=None, tensors=None):
        with safe_open(self.path, "pt") as file:
            text = json.loads(file.metadata()["tenslora"])
        held = load_file(self.path)
        if record is not None:
            record(text)
        if tensors is not None:
            tensors(held)
        save_file(held, self.path, {"tenslora": json.dumps(text)})


def load_changed(record=None, tensors=None):
    """Load a changed file as new values of the adapter that is there."""

    def wrong(bench):
        bench.rewrite(record, tensors)
        bench.adapter.load(bench.path)

    return wrong


def not_finite(bench):
    core = bench.adapter.banks["12x12"].cores()["B"]
    bench.kept = core.detach().clone()
    core.data[0, 0, 0, 0] = float("nan")
    try:
        bench.adapter.merge()
    finally:
        core.data.copy_(bench.kept)


def merged_then(act):
    """Do something that may not be done while merged; unmerge again afterwards."""

    def wrong(bench):
        bench.adapter.merge()
        before = {k: v.clone() for k, v in bench.model.state_dict().items()}
        try:
            act(bench)
        finally:
            after = bench.model.state_dict()
            assert before.keys() == after.keys()
            assert all(torch.equal(before[key], after[key]) for key in before)
            bench.adapter.unmerge()

    return wrong


def wrong_base(bench):
    case = bench.make_case("bert")
    before = {k: v.clone() for k, v in case.model.state_dict().items()}
    try:
        tl.load(case.model, bench.path)
    finally:
        after = case.model.state_dict()
        assert all(torch.equal(before[key], after[key]) for key in before)
        assert before.keys() == after.keys()
        assert not hasattr(case.model, "tenslora")


def first_key(tensors):
    return next(key for key in tensors if key.startswith("cores."))


def rename_family(record):
    record["family"]["equation"] = "W[layer proj out in] = nonsense"


CASES = {
    "wrong base model": (wrong_base, "E615: .*BertForSequenceClassification has none"),
    "missing tensor": (load_changed(tensors=lambda t: t.pop(first_key(t))), "E612: .*missing"),
    "extra tensor": (load_changed(tensors=lambda t: t.update(x=torch.ones(2))), "E612: .*unknown"),
    "wrong shape": (
        load_changed(tensors=lambda t: t.update({first_key(t): torch.ones(1)})),
        "E613: .*has shape",
    ),
    "unknown family": (
        lambda b: tl.attach(b.model, "lroa", targets=["q"], name="x"),
        "E306: .*Did you mean lora",
    ),
    "unreadable family in the file": (load_changed(rename_family), "E603: the family in the file"),
    "newer schema": (load_changed(lambda r: r.update(schema=99)), "E601: .*99"),
    "target that matches nothing": (
        lambda b: tl.attach(b.model, LORA, targets=["q", "kk"], ranks=2, name="x"),
        "E501: target 'kk' matches no module.*Did you mean k",
    ),
    "unsupported module": (
        lambda b: tl.attach(b.model, LORA, targets=["blocks"], ranks=2, name="x"),
        "E501: target 'blocks' matches blocks, a ModuleList, and no linear layer",
    ),
    "attaching twice": (
        lambda b: tl.attach(b.model, LORA, targets=["q"], ranks=2),
        "E508: the model has an adapter 'default' already",
    ),
    "merging twice": (merged_then(lambda b: b.adapter.merge()), "E511: .*is merged"),
    "detaching while merged": (merged_then(lambda b: b.adapter.detach()), "E511: .*is merged"),
    "loading while merged": (merged_then(lambda b: b.adapter.load(b.path)), "E511: .*is merged"),
    "unmerging twice": (lambda b: b.adapter.unmerge(), "E511: .*is not merged"),
    "NaN on safe merge": (not_finite, "E512: the update of .*is not finite"),
    "a rank of zero": (
        lambda b: tl.attach(b.model, LORA, targets=["q"], ranks=0, name="x"),
        "E206",
    ),
    "no file": (lambda b: b.adapter.load(b.path.with_name("b")), "E610: there is no file"),
    "half a file": (
        lambda b: (b.path.write_bytes(b.path.read_bytes()[:-7]), b.adapter.load(b.path)),
        "E610: .*no whole safetensors file",
    ),
    "a changed number": (
        load_changed(tensors=lambda t: t[first_key(t)].add_(1)),
        "E614: .*has not the digest",
    ),
}


@pytest.mark.parametrize(("act", "text"), CASES.values(), ids=list(CASES))
def test_a_mistake_is_told_and_changes_nothing(
    act, text, make_case, randomized, snapshot, tmp_path
):
    bench = Bench(make_case, randomized, tmp_path)
    output = bench.case.run()
    before = snapshot(bench.model)
    with pytest.raises(tl.TensloraError, match=rf"(?s)^({text})") as caught:
        act(bench)
    assert caught.value.advice
    merging = "merge" in str(act.__qualname__) and "unmerge" not in text
    if not merging:  # merging and unmerging makes new hooks: the state dict is compared instead
        before.check(bench.model)
    assert torch.equal(bench.case.run(), output)


FRESH = {
    "missing tensor": ({"tensors": lambda t: t.pop(first_key(t))}, "E612: .*missing"),
    "extra tensor": ({"tensors": lambda t: t.update(x=torch.ones(2))}, "E612: .*unknown"),
    "wrong shape": (
        {"tensors": lambda t: t.update({first_key(t): torch.ones(1)})},
        "E613: .*has shape",
    ),
    "a head that is missing": (
        {"tensors": lambda t: t.pop(next(k for k in t if k.startswith("train.")))},
        "E612: .*missing",
    ),
    "a changed number": ({"tensors": lambda t: t[first_key(t)].add_(1)}, "E614: .*digest"),
    "unreadable family": ({"record": rename_family}, "E603: the family in the file"),
    "newer schema": ({"record": lambda r: r.update(schema=99)}, "E601: .*99"),
}


@pytest.mark.parametrize(("changes", "text"), FRESH.values(), ids=list(FRESH))
def test_a_broken_file_is_not_attached(changes, text, make_case, randomized, snapshot, tmp_path):
    bench = Bench(make_case, randomized, tmp_path)
    bench.rewrite(**changes)
    base = make_case("plain").model
    before = snapshot(base)
    with pytest.raises(tl.TensloraError, match=rf"(?s)^({text})") as caught:
        tl.load(base, bench.path)
    assert caught.value.advice
    before.check(base)


def test_cores_that_are_not_finite_are_not_loaded(make_case, randomized, snapshot, tmp_path):
    bench = Bench(make_case, randomized, tmp_path)
    core = bench.adapter.banks["12x12"].cores()["B"]
    kept = core.detach().clone()
    for value in (float("nan"), float("inf")):
        with torch.no_grad():
            core[0, 0, 0, 0] = value
        bench.adapter.save(bench.path)
        core.data.copy_(kept)
        base = make_case("plain").model
        for model, load in (
            (base, lambda base=base: tl.load(base, bench.path)),
            (bench.model, lambda: bench.adapter.load(bench.path)),
        ):
            before = snapshot(model)
            with pytest.raises(tl.TensloraError, match=r"E613: .* has numbers that are not finite"):
                load()
            before.check(model)


UNSUPPORTED = {
    "an attention that reads weights": (
        lambda: nn.Sequential(nn.MultiheadAttention(8, 2)),
        ["out_proj"],
        "E502: .*MultiheadAttention reads its weight without calling it",
    ),
    "a lazy layer": (lambda: nn.Sequential(nn.LazyLinear(8)), ["0"], "E502: .*before its first"),
    "a convolution": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 4)),
        ["0"],
        "E501: target '0' matches 0, a Conv2d, and no linear layer",
    ),
    "the model itself": (lambda: nn.Linear(4, 4), r".*", "E50[12]"),
}


@pytest.mark.parametrize(("make", "targets", "text"), UNSUPPORTED.values(), ids=list(UNSUPPORTED))
def test_a_module_of_an_unsupported_type(make, targets, text, snapshot):
    model = make()
    lazy = any(nn.parameter.is_lazy(p) for p in model.parameters())  # has no bits to compare
    before = list(model.state_dict()) if lazy else snapshot(model)
    with pytest.raises(tl.TensloraError, match=f"^{text}"):
        tl.attach(model, "W[out in] = B[out r] A[r in]", targets=targets, ranks=1)
    assert not hasattr(model, "tenslora")
    if lazy:
        assert list(model.state_dict()) == before
    else:
        before.check(model)
