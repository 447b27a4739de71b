"""Plain LoRA checkpoints: loaded by PEFT they are the adapter, at the lowest rank there is."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import tenslora as tl
from tenslora.errors import AttachError, SizeError, StateError

LORA = tl.family(
    "W[layer proj out in] = B[layer proj out r] A[layer proj r in]", init={"B": "zeros"}
)
PREFIX = "base_model.model."

#: Equations in which the cut takes another way each: what is summed, repeated, constant, split.
EQUATIONS = {
    "a shared factor": ("W[layer proj out in] = B[layer proj out r] A[r in]", 2),
    "a sum": ("W[layer proj out in] = B[layer out r] A[r in] + b[proj out] a[proj in]", 3),
    "a Hadamard product": (
        "W[layer proj out in] = B[out r] A[r in] C[out s] D[layer proj s in]",
        4,
    ),
    "a scaled output": ("W[layer proj out in] = b[layer out] B[out r] d[proj r] A[r in]", 2),
    "a Kronecker product": ("W[layer proj (o p) (i j)] = C[proj o i] B[layer p r] A[r j]", 4),
    "split inputs": ("W[layer proj out (i j)] = B[layer out a] G[proj a i b] A[b j]", 2),
    "a train": ("W[layer proj (o p) in] = A[layer o a] B[a p b] C[b proj in]", 2),
    "a constant": ("W[layer proj out in] = B[layer out r] eye[r s] A[proj s in]", 2),
    "a diagonal of bonds": ("W[layer proj out in] = B[out (layer r)] A[proj (layer r) in]", 2),
    "ones": ("W[layer proj out in] = B[layer out] ones[proj in]", 1),
    "the same core twice": ("W[layer proj out in] = B[out r] S[r s] S[s q] A[layer q in]", 2),
    "a thin middle": ("W[layer proj out in] = B[layer out r] v[r] w[s] A[proj s in]", 1),
}


def read(folder):
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    tensors = load_file(folder / "adapter_model.safetensors")
    return config, tensors


def update(config, tensors, path):
    """The update of a module by PEFT's formula, in numpy."""
    b, a = (tensors[f"{PREFIX}{path}.lora_{x}.weight"].double().numpy() for x in "BA")
    assert b.shape[1] == a.shape[0] == config["r"]
    return config["lora_alpha"] / config["r"] * b @ a


def loaded_by_peft(base, folder):
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    return peft.PeftModel.from_pretrained(base, folder).eval()


@pytest.mark.parametrize("kind", ["bert", "vit", "gpt2", "llama", "plain"])
@pytest.mark.parametrize("family", ["lora", "tenslora.att_qkv_depth", "lotr", "tt_lora", "vera"])
def test_peft_loads_the_same_function(kind, family, make_case, randomized, tmp_path, snapshot):
    case = make_case(kind)
    base = copy.deepcopy(case.model)
    start, sizes = case.run(), {"head": 3} if kind == "plain" and "att" in family else {}
    adapter = tl.attach(case.model, family, targets=case.targets, ranks=2, sizes=sizes)
    randomized(adapter)
    before = snapshot(case.model)
    report = adapter.export_lora(tmp_path / "out")
    before.check(case.model)
    output = case.run()
    assert not torch.allclose(output, start, atol=1e-4)
    theirs = loaded_by_peft(base, tmp_path / "out")
    torch.testing.assert_close(case.run(theirs), output, rtol=1e-11, atol=1e-11)
    fused_apart = kind == "gpt2" and family in ("lora", "tt_lora", "lotr")
    assert report.exact_rank == (6 if fused_apart else 2)
    assert report.rank == 8
    config, tensors = read(tmp_path / "out")
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (8, 8, {})
    assert config["fan_in_fan_out"] == (kind == "gpt2")
    assert sum(t.numel() for t in tensors.values()) == report.parameters
    adapter.merge()
    merged = theirs.merge_and_unload()
    for name, weight in merged.named_parameters():
        found = case.model.get_parameter(name)
        torch.testing.assert_close(found, weight, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("equation", "rank"), EQUATIONS.values(), ids=list(EQUATIONS))
def test_every_network_is_written_at_its_lowest_rank(
    equation, rank, make_case, randomized, literal, tmp_path
):
    """Against numpy: the einsum of the equation, and the rank of the matrix that it gives."""
    case = make_case("plain")
    family = tl.family(equation, scale="constant(0.5)", starts_nonzero=True)
    sizes = {name: 2 for name in "oi" if name in family.network.features}
    adapter = tl.attach(case.model, family, targets=["q", "v"], ranks=2, sizes=sizes)
    randomized(adapter, std=1.0)
    report = adapter.export_lora(tmp_path / "out", pad=False)
    config, tensors = read(tmp_path / "out")
    (bank,) = adapter.banks.values()
    cores = {name: core.detach().numpy() for name, core in bank.cores().items()}
    dense = 0.5 * literal(equation, bank.bound.sizes, cores, np)
    ranks = [np.linalg.matrix_rank(dense[n, m]) for n in range(2) for m in range(2)]
    assert report.exact_rank == config["r"] == max(ranks) == rank
    for n in range(2):
        for m, proj in enumerate("qv"):
            found = update(config, tensors, f"blocks.{n}.{proj}")
            np.testing.assert_allclose(found, dense[n, m], rtol=0, atol=1e-12)
    assert report.error < 1e-14


def test_a_lora_keeps_its_numbers(make_case, randomized, tmp_path):
    case = make_case("plain")
    adapter = tl.attach(case.model, LORA, targets=["q"], ranks=3, dtype=torch.float32)
    randomized(adapter)
    adapter.export_lora(tmp_path / "out", pad=False)
    _, tensors = read(tmp_path / "out")
    cores = adapter.banks["12x12"].cores()
    for n in range(2):
        for name in "AB":
            found = tensors[f"{PREFIX}blocks.{n}.q.lora_{name}.weight"]
            assert torch.equal(found, cores[name][n, 0])
    padded = adapter.export_lora(tmp_path / "more")
    config, tensors = read(tmp_path / "more")
    assert (padded.rank, config["r"], padded.exact_rank) == (8, 8, 3)
    b = tensors[f"{PREFIX}blocks.0.q.lora_B.weight"]
    assert torch.equal(b[:, :3], cores["B"][0, 0])
    assert not b[:, 3:].any()


def test_an_untrained_adapter_is_a_lora_of_zeros(make_case, tmp_path):
    adapter = tl.attach(make_case("plain").model, "lotr", targets=["q"], ranks=2)
    report = adapter.export_lora(tmp_path / "out")
    assert (report.exact_rank, report.rank, report.error) == (0, 8, 0.0)
    config, tensors = read(tmp_path / "out")
    assert not update(config, tensors, "blocks.0.q").any()


def test_a_rank_is_cut_as_numpy_cuts_it(make_case, randomized, tmp_path):
    case = make_case("llama")
    adapter = tl.attach(case.model, LORA, targets=case.targets, ranks=6)
    randomized(adapter)
    report = adapter.export_lora(tmp_path / "out", rank=2)
    assert (report.rank, report.exact_rank) == (8, 6)
    config, tensors = read(tmp_path / "out")
    errors = []
    for site in adapter.sites:
        whole = adapter.delta(site).detach().numpy()
        u, s, v = np.linalg.svd(whole)
        nearest = u[:, :2] * s[:2] @ v[:2]
        np.testing.assert_allclose(update(config, tensors, site.path), nearest, atol=1e-12)
        errors.append(np.linalg.norm(s[2:]) / np.linalg.norm(s))
    assert report.error == pytest.approx(max(errors), rel=1e-9)
    assert f"{max(errors):.1e}" in str(report)
    again = adapter.export_lora(tmp_path / "exact", rank=6)
    assert again.error < 1e-14


def test_sites_with_rows_columns_and_shared_prefixes(make_case, randomized, tmp_path):
    case = make_case("plain")
    sites = [
        tl.Site("blocks.0.q", {"layer": 0}, rows=(0, 12, 4, 2), columns=(6, 12)),
        tl.Site("blocks.0.q", {"layer": 1}, rows=(2, 12, 4, 2), columns=(0, 10, 4, 2)),
    ]
    equation = "W[layer out in] = B[layer out r] A[r in]"
    adapter = tl.attach(case.model, equation, sites=sites, ranks=1)
    randomized(adapter)
    adapter.export_lora(tmp_path / "blocks", pad=False)
    whole = adapter.delta("blocks.0.q").detach().numpy()
    np.testing.assert_allclose(update(*read(tmp_path / "blocks"), "blocks.0.q"), whole, atol=1e-13)

    case = make_case("llama")
    base = copy.deepcopy(case.model)
    adapter = tl.attach(case.model, "lorta", targets=["q_proj", "k_proj"], ranks=2, ragged="prefix")
    randomized(adapter, std=1.0)
    adapter.export_lora(tmp_path / "prefix")
    theirs = loaded_by_peft(base, tmp_path / "prefix")
    torch.testing.assert_close(case.run(theirs), case.run(), rtol=1e-11, atol=1e-11)


def test_trained_modules_and_some_layers(make_case, randomized, tmp_path):
    """A head becomes modules_to_save; a target in some layers only is named by its whole path."""
    case = make_case("bert")
    base = copy.deepcopy(case.model)
    adapter = tl.attach(
        case.model, LORA, targets=["query"], ranks=2, layers=[1], train="classifier"
    )
    randomized(adapter)
    with torch.no_grad():
        for parameter in case.model.classifier.parameters():
            parameter.mul_(1.5)
    case.model.config._name_or_path = "someone/a-model"
    report = adapter.export_lora(tmp_path / "out")
    config, _ = read(tmp_path / "out")
    assert config["target_modules"] == ["bert.encoder.layer.1.attention.self.query"]
    assert config["modules_to_save"] == ["classifier"]
    assert config["task_type"] == "SEQ_CLS"
    assert config["base_model_name_or_path"] == "someone/a-model"
    assert "classifier (vLLM refuses these)" in str(report)
    theirs = loaded_by_peft(base, tmp_path / "out")
    torch.testing.assert_close(case.run(theirs), case.run(), rtol=1e-11, atol=1e-11)
    assert report.to_dict()["train"] == ["classifier"]


def test_trained_modules_apart(make_case, randomized, tmp_path):
    """What servers load has the LoRA alone; both files together are the model, read without us."""
    case = make_case("bert")
    base = copy.deepcopy(case.model)
    adapter = tl.attach(case.model, LORA, targets=["query"], ranks=2, train="classifier")
    randomized(adapter)
    with torch.no_grad():
        for parameter in case.model.classifier.parameters():
            parameter.mul_(1.5)
    report = adapter.export_lora(tmp_path / "out", apart=True)
    config, tensors = read(tmp_path / "out")
    assert not config.get("modules_to_save")
    assert not any("classifier" in name for name in tensors)
    assert "classifier" in str(report)
    assert "refuses" not in str(report)
    apart = load_file(tmp_path / "out" / "trained_modules.safetensors")
    assert set(apart) == {"classifier.weight", "classifier.bias"}
    base.load_state_dict(apart, strict=False)
    theirs = loaded_by_peft(base, tmp_path / "out")
    torch.testing.assert_close(case.run(theirs), case.run(), rtol=1e-11, atol=1e-11)


def test_the_dtype_of_the_file(make_case, randomized, tmp_path):
    case = make_case("plain")
    family = "W[layer proj out in] = B[out s] G[layer proj s r] A[r in]"
    adapter = tl.attach(case.model, family, targets=["q"], ranks=2, dtype=torch.bfloat16)
    randomized(adapter)
    report = adapter.export_lora(tmp_path / "wide")
    _, tensors = read(tmp_path / "wide")
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert report.error < 1e-6
    narrow = adapter.export_lora(tmp_path / "narrow", dtype=torch.bfloat16)
    assert 1e-4 < narrow.error < 1e-2


def test_what_has_no_small_lora_is_told(make_case, randomized, tmp_path, snapshot):
    case = make_case("plain")
    adapter = tl.attach(case.model, "lokr", targets=["q"], ranks=2)
    randomized(adapter, std=1.0)
    before = snapshot(case.model)
    text = r"E518: lokr has no small LoRA: the update of blocks\.0\.q has rank 6 of 12\n  Merge it"
    with pytest.raises(AttachError, match=text):
        adapter.export_lora(tmp_path / "out")
    assert not list(tmp_path.iterdir())
    assert adapter.export_lora(tmp_path / "out", rank=6).error < 1e-14
    with pytest.raises(AttachError, match=r"E518: rank=600 is above 512"):
        adapter.export_lora(tmp_path / "b", rank=600)
    for rank in (0, -1, 2.0, True, "4"):
        with pytest.raises(SizeError, match="E206: rank="):
            adapter.export_lora(tmp_path / "b", rank=rank)
    before.check(case.model)
    with torch.no_grad():
        adapter.banks["12x12"].cores()["C"][0, 0, 0, 0] = float("nan")
    with pytest.raises(AttachError, match=r"E512: the update of blocks\.0\.q is not finite"):
        adapter.export_lora(tmp_path / "b")
    adapter.detach()
    with pytest.raises(AttachError, match="E510"):
        adapter.export_lora(tmp_path / "b")


def test_a_folder_that_is_not_empty_is_left_alone(make_case, tmp_path):
    adapter = tl.attach(make_case("plain").model, LORA, targets=["q"], ranks=2)
    (tmp_path / "there").mkdir()
    adapter.export_lora(tmp_path / "there")
    first = sorted((p.name, p.read_bytes()) for p in (tmp_path / "there").iterdir())
    with pytest.raises(StateError, match=r"E616: .*there is there already, and not an empty"):
        adapter.export_lora(tmp_path / "there")
    assert first == sorted((p.name, p.read_bytes()) for p in (tmp_path / "there").iterdir())
    with pytest.raises(StateError, match=r"E616: .* cannot be written"):
        adapter.export_lora(tmp_path / "no" / "such")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def test_a_module_that_peft_would_take_for_a_trained_one(make_case, tmp_path):
    case = make_case("plain")
    case.model.overhead = nn.Linear(12, 3)
    adapter = tl.attach(case.model, LORA, targets=["q"], ranks=2, train="head")
    with pytest.raises(AttachError, match="E518: PEFT would take overhead for head"):
        adapter.export_lora(tmp_path / "out")


def test_a_merged_adapter_is_exported_all_the_same(make_case, randomized, tmp_path):
    adapter = tl.attach(make_case("plain").model, LORA, targets=["q"], ranks=2)
    randomized(adapter)
    adapter.export_lora(tmp_path / "a")
    adapter.merge()
    adapter.export_lora(tmp_path / "b")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
