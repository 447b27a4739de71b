"""Wrappers around families of several shapes: against dense formulas, and as adapters."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

import tenslora as tl
from tenslora.errors import AttachError, FamilyError, StateError
from tenslora.integrations import read_updates, recompress
from tenslora.nn.site import Site

LORA = "W[layer proj out in] = B[layer proj out r] A[layer proj r in]"
TIED = "W[out in] = B[out r] A[r in]"
TUCKER = "W[layer proj out in] = U[in a] V[out b] P[proj c] D[layer d] G[a b c d]"
CP = "W[layer proj (head head_dim) in] = A[in r] H[head r] B[head_dim r] D[layer r] P[proj r]"
FAMILIES = {"lora": LORA, "tied": TIED, "tucker": TUCKER, "cp": CP}
EXPERTS = {
    "own": "W[layer proj expert out in] = B[layer proj expert out r] A[layer proj expert r in]",
    "shared A": "W[layer proj expert out in] = B[layer proj expert out r] A[layer proj r in]",
    "tucker": "W[layer proj expert out in] = U[in a] V[out b] P[proj c] E[expert e] G[a b c e]",
    "tied": "W[expert out in] = B[expert out r] A[r in]",
}


def shaken(adapter, seed=1):
    """Move every trained tensor away from its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for bank in adapter.banks.values():
            for tensor in bank.tensors().values():
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.add_(0.2 * noise)
    return adapter


def formula(name, weight, update, magnitude):
    """The new weight by numpy alone."""
    if name == "hira":
        return weight + weight * update
    whole = weight + update
    return magnitude[:, None] * whole / np.sqrt((whole**2).sum(1, keepdims=True))


def with_new_weights(case, base, adapter, literal):
    """A copy of the base whose weights are those of the formula."""
    model = copy.deepcopy(base)
    (bank,) = adapter.banks.values()
    bound = bank.bound
    cores = {n: t.detach().numpy() for n, t in bank.cores().items()}
    dense = bound.scale * literal(bound.network, bound.sizes, cores, np)
    for number, (site, place) in enumerate(zip(bank.weights, bank.grid.positions, strict=True)):
        module = model.get_submodule(site.path)
        matrix = module.weight.data.T if site.transposed else module.weight.data
        rows = matrix if site.rows is None else matrix[site.rows[0] : site.rows[1]]
        update = dense[tuple(place[s] for s in bound.network.sites)]
        magnitude = bank.tensors().get("magnitude", torch.zeros(99, 1))[number].detach().numpy()
        rows.copy_(torch.from_numpy(formula(adapter.wrapper.name, rows.numpy(), update, magnitude)))
    return model


#: Every family on plain torch, two of them on models of transformers too.
_RUNS = [("plain", family) for family in FAMILIES]
_RUNS += [("gpt2", "lora"), ("bert", "tucker"), ("gpt2", "tucker")]


@pytest.mark.parametrize(("kind", "family"), _RUNS)
@pytest.mark.parametrize("name", ["dora", "hira"])
def test_the_model_runs_as_with_the_weights_of_the_formula(name, family, kind, make_case, literal):
    case = make_case(kind)
    base = copy.deepcopy(case.model)
    sizes = {"head": 3} if family == "cp" else {}
    adapter = shaken(
        tl.attach(
            case.model,
            tl.wrap(name, FAMILIES[family]),
            targets=case.targets,
            ranks=2,
            sizes=sizes,
            dtype=torch.float64,
        )
    )
    expected = with_new_weights(case, base, adapter, literal)
    torch.testing.assert_close(case.run(), case.run(expected), rtol=1e-10, atol=1e-10)
    before = case.run()
    adapter.merge()
    torch.testing.assert_close(case.run(), before, rtol=1e-10, atol=1e-10)
    for path in dict.fromkeys(site.path for site in adapter.sites):
        merged = case.model.get_submodule(path).weight
        torch.testing.assert_close(
            merged, expected.get_submodule(path).weight, rtol=1e-12, atol=1e-12
        )
    adapter.unmerge()
    torch.testing.assert_close(case.run(), before, rtol=0, atol=0)
    for site in adapter.sites:
        delta = adapter.delta(site).detach()
        weights = [m.get_submodule(site.path).weight.data for m in (expected, base)]
        whole = weights[0] - weights[1]
        whole = whole.T if site.transposed else whole
        rows = whole if site.rows is None else whole[site.rows[0] : site.rows[1]]
        torch.testing.assert_close(delta, rows, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", EXPERTS)
def test_a_router_against_numpy(family, make_case, literal):
    """One layer alone: its input is known, and so is every gate."""
    case = make_case("plain")
    adapter = shaken(
        tl.attach(
            case.model,
            tl.router(EXPERTS[family]),
            targets=case.targets,
            ranks=2,
            sizes={"expert": 3},
            dtype=torch.float64,
        )
    )
    (bank,) = adapter.banks.values()
    bound = bank.bound
    cores = {n: t.detach().numpy() for n, t in bank.cores().items()}
    dense = literal(bound.network, bound.sizes, cores, np)
    gate = bank.tensors()["gate"].detach().numpy()
    x = np.random.default_rng(0).standard_normal((4, 5, 12))
    for number, site in enumerate(bank.weights):
        layer = case.model.get_submodule(site.path)
        place = bank.grid.positions[3 * number]
        experts = dense[tuple(place[s] for s in bound.network.sites[:-1])]
        scores = np.exp(x @ gate[number].T)
        scores /= scores.sum(-1, keepdims=True)
        expected = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        expected = expected + np.einsum("ste,eoi,sti->sto", scores, experts, x)
        with torch.no_grad():
            found = layer(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    inside = case.run()  # in a forward of the model, where layers share what they read
    with adapter.disabled():
        assert not torch.equal(case.run(), inside)


WRAPPED = {
    "dora": ("dora(lora)", {}),
    "hira": ("hira(tenslora.qkv_depth)", {}),
    "router": (f"router[expert]({EXPERTS['shared A']})", {"sizes": {"expert": 2}}),
}


def attach_wrapped(case, wrapper, **more):
    family, settings = WRAPPED[wrapper]
    return tl.attach(case.model, family, targets=case.targets, ranks=2, **{**settings, **more})


@pytest.mark.parametrize("name", WRAPPED)
def test_nothing_changes_before_training_and_detaching_restores_every_bit(
    name, make_case, snapshot
):
    case = make_case("plain")
    expected, before = case.run(), snapshot(case.model)
    adapter = attach_wrapped(case, name)
    torch.testing.assert_close(case.run(), expected, rtol=1e-6, atol=1e-6)
    shaken(adapter)
    assert not torch.allclose(case.run(), expected, rtol=1e-3)
    adapter.detach()
    before.check(case.model)
    torch.testing.assert_close(case.run(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", WRAPPED)
def test_saved_and_loaded_to_the_last_bit(name, make_case, tmp_path):
    case = make_case("plain")
    adapter = shaken(attach_wrapped(case, name))
    expected = case.run()
    adapter.save(tmp_path / "a.safetensors")
    text, count = repr(adapter), adapter.trainable_parameters
    adapter.detach()
    loaded = tl.load(case.model, tmp_path / "a.safetensors")
    assert repr(loaded) == text
    assert loaded.wrapper == adapter.wrapper
    assert loaded.trainable_parameters == count == sum(p.numel() for p in loaded.parameters())
    torch.testing.assert_close(case.run(), expected, rtol=0, atol=0)
    shaken(loaded, 2).load(tmp_path / "a.safetensors")
    torch.testing.assert_close(case.run(), expected, rtol=0, atol=0)
    kept = loaded.state_dict()
    shaken(loaded, 3).load_state_dict(kept)
    torch.testing.assert_close(case.run(), expected, rtol=0, atol=0)


def test_a_file_is_read_by_an_adapter_of_its_wrapper_alone(make_case, tmp_path):
    case = make_case("plain")
    adapter = attach_wrapped(case, "dora")
    adapter.save(tmp_path / "a.safetensors")
    assert adapter.to_json()["wrapper"] == "dora"
    kept = adapter.state_dict()
    adapter.detach()
    plain = tl.attach(case.model, "lora", targets=case.targets, ranks=2)
    assert "wrapper" not in plain.to_json()
    with pytest.raises(StateError, match=r"E617: .* holds W.* in dora, not lora"):
        plain.load(tmp_path / "a.safetensors")
    with pytest.raises(StateError, match="E612"):
        plain.load_state_dict(kept)
    with pytest.raises(AttachError, match=r"E520: .* is dora\(lora\), and cannot be read as"):
        read_updates(tmp_path / "a.safetensors")


def test_a_broken_wrapper_in_a_file_is_refused(make_case, tmp_path):
    from tenslora.nn.record import read_record

    case = make_case("plain")
    record = {**attach_wrapped(case, "dora").to_json(), "digests": {}}
    for broken in ("dorra", "router[proj]", "router[expert]", "router", 3):
        text = json.dumps({**record, "wrapper": broken})
        if broken == "router[proj]":
            assert read_record(text).wrapper.over == "proj"
            continue
        with pytest.raises(StateError, match="E603"):
            read_record(text)


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_under_checkpointing_are_those_without(name, reentrant, make_case):
    from torch.utils.checkpoint import checkpoint

    def gradients(model, adapter, run):
        for parameter in adapter.parameters():
            parameter.grad = None
        run(model).square().sum().backward()
        return [p.grad.clone() for p in adapter.parameters()]

    case = make_case("plain")
    adapter = shaken(attach_wrapped(case, name, dtype=torch.float64))
    x = case.inputs["x"].clone().requires_grad_(True)
    plain = gradients(case.model, adapter, lambda model: model(x))
    for block in case.model.blocks:
        forward = block.forward
        block.forward = lambda x, forward=forward: checkpoint(forward, x, use_reentrant=reentrant)
    again = gradients(case.model, adapter, lambda model: model(x))
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_gradients_are_those_of_finite_differences(make_case):
    """But for DoRA's norm, which its authors hold constant."""
    for name in ("hira", "router"):
        case = make_case("plain")
        adapter = shaken(attach_wrapped(case, name, dtype=torch.float64))
        case.run().sin().sum().backward()
        generator = torch.Generator().manual_seed(0)
        slope, step = 0.0, 1e-6
        directions = []
        for p in adapter.parameters():
            directions.append(torch.randn(p.shape, generator=generator, dtype=p.dtype))
            slope += float((p.grad * directions[-1]).sum())
        values = []
        for sign in (1, -2):
            with torch.no_grad():
                for p, d in zip(adapter.parameters(), directions, strict=True):
                    p.add_(sign * step * d)
                values.append(float(case.run().sin().sum()))
        assert abs((values[0] - values[1]) / (2 * step) - slope) < 1e-5 * max(1.0, abs(slope))
        adapter.detach()


@pytest.mark.parametrize("name", WRAPPED)
def test_training_brings_the_loss_down(name, make_case):
    case = make_case("plain")
    adapter = attach_wrapped(case, name, seed=3)
    optimizer = torch.optim.AdamW(adapter.param_groups(3e-2))
    assert {id(p) for p in adapter.parameters()} == {
        id(p) for group in optimizer.param_groups for p in group["params"]
    }
    goal = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(2, 5, 3)
    losses, start = [], [p.detach().clone() for p in adapter.parameters()]
    for _ in range(12):
        loss = (case.run() - goal).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    assert all(not torch.equal(a, b) for a, b in zip(start, adapter.parameters(), strict=True))


def test_ranges_of_a_shared_matrix(make_case, literal):
    """Smaller weights have the leading rows: of what a wrapper trains too."""
    case = make_case("llama")
    base = copy.deepcopy(case.model)
    family = tl.dora(TUCKER)
    adapter = shaken(
        tl.attach(
            case.model, family, targets=case.targets, ranks=2, ragged="prefix", dtype=torch.float64
        )
    )
    before = case.run()
    for site in adapter.sites:
        weight = base.get_submodule(site.path).weight
        lengths = (weight + adapter.delta(site)).norm(dim=1)
        (bank,) = adapter.banks.values()
        number = bank.weights.index(site)
        magnitude = bank.tensors()["magnitude"][number, : site.out_features]
        torch.testing.assert_close(lengths, magnitude.abs())
    adapter.merge()
    torch.testing.assert_close(case.run(), before, rtol=1e-9, atol=1e-9)


def test_low_precision_and_autocast(make_case):
    case = make_case("plain")
    case.model.bfloat16()
    x = case.inputs["x"].bfloat16()
    for name in WRAPPED:
        adapter = shaken(attach_wrapped(case, name))
        assert case.model(x).dtype == torch.bfloat16
        case.model(x).float().square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in adapter.parameters())
        adapter.detach()
    case.model.float()
    for name in WRAPPED:
        adapter = shaken(attach_wrapped(case, name))
        exact = case.model(x.float())
        with torch.autocast("cpu", torch.bfloat16):
            rough = case.model(x.float())
        torch.testing.assert_close(rough.float(), exact, rtol=0.1, atol=0.1)
        adapter.detach()


def test_dropout_drops_the_input_of_the_update_alone(make_case):
    case = make_case("plain")
    adapter = attach_wrapped(case, "dora", dropout=0.5)
    expected = case.run()
    case.model.train()
    torch.testing.assert_close(case.run(), expected)  # W is zero: there is nothing to drop
    shaken(adapter)
    assert not torch.equal(case.run(), case.run())


def test_a_copy_of_the_model_has_its_own(make_case):
    case = make_case("plain")
    shaken(attach_wrapped(case, "router"))
    copied = copy.deepcopy(case.model)
    torch.testing.assert_close(case.run(copied), case.run(), rtol=0, atol=0)
    shaken(tl.adapters(copied)["default"], 5)
    assert not torch.equal(case.run(copied), case.run())


def test_adapters_beside_each_other(make_case):
    case = make_case("plain")
    attach_wrapped(case, "dora", name="one")
    two = attach_wrapped(case, "hira", name="two")
    shaken(two)
    two.activate(only=False)
    assert case.run().shape  # HiRA adds; DoRA is off
    tl.adapters(case.model)["one"].activate(only=False)
    with pytest.raises(AttachError, match=r"E521: dora needs .*q to itself, and the adapters"):
        case.run()
    tl.adapters(case.model)["one"].activate()
    two.merge()
    assert case.run().shape


def test_what_cannot_be_done_is_refused(make_case, snapshot, tmp_path):
    case = make_case("plain")
    before = snapshot(case.model)
    with pytest.raises(AttachError, match="E521: dora needs whole rows of a weight"):
        attach_wrapped(case, "dora", block=6)
    with pytest.raises(FamilyError, match="E313: dora goes around a family, not around hira"):
        tl.attach(case.model, "dora(hira(lora))", targets=case.targets, ranks=2)
    with pytest.raises(tl.TensloraError, match=r"E202: .*expert"):
        attach_wrapped(case, "router", sizes={})
    with pytest.raises(AttachError, match="E509: a core cannot be called 'magnitude' in dora"):
        tl.attach(
            case.model,
            "dora(W[site out in] = magnitude[site out r] A[site r in])",
            targets=case.targets,
            ranks=2,
        )
    before.check(case.model)
    for name, what in (("hira", "merge"), ("router", "A gate for each token")):
        adapter = attach_wrapped(case, name)
        with pytest.raises(AttachError, match=f"(?s)E520: .*which is no LoRA.*{what}"):
            adapter.export_lora(tmp_path / "out")
        with pytest.raises(AttachError, match=r"E520: .*cannot be lifted"):
            adapter.lift("lora")
        with pytest.raises(AttachError, match=r"E520: .*cannot be read as"):
            recompress(adapter, 0.1)
        if name == "router":
            for do in (adapter.merge, lambda a=adapter: a.delta(a.sites[0])):
                with pytest.raises(AttachError, match=r"E520: router.* depends on the token"):
                    do()
        adapter.detach()
    before.check(case.model)
    assert not (tmp_path / "out").exists()


def test_a_weight_without_plain_values_is_refused():
    class Packed(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.uint8), requires_grad=False)

    model = nn.Sequential(Packed())
    with pytest.raises(AttachError, match="E521: hira reads the weight of 0"):
        tl.attach(model, tl.hira(TIED), targets="0", ranks=1)
    with pytest.raises(AttachError, match=r"E5.."):
        tl.attach(nn.Sequential(nn.Conv2d(4, 4, 3)), tl.dora(TIED), targets="0", ranks=1)


@pytest.mark.parametrize("kind", ["plain", "gpt2"])
def test_dora_around_any_family_is_read_by_peft(kind, make_case, tmp_path):
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    case = make_case(kind)
    base = copy.deepcopy(case.model)
    if kind == "gpt2":  # two of three parts: the rows of the third keep their lengths
        case.targets = ["c_attn.q", "c_attn.v"]
    adapter = shaken(
        tl.attach(case.model, tl.dora(TUCKER), targets=case.targets, ranks=2, dtype=torch.float64)
    )
    report = adapter.export_lora(tmp_path / "lora", dtype=torch.float64)
    assert report.error < 1e-12
    theirs = peft.PeftModel.from_pretrained(
        base, str(tmp_path / "lora"), autocast_adapter_dtype=False
    )
    torch.testing.assert_close(case.run(theirs), case.run(), rtol=1e-9, atol=1e-9)


def test_sites_by_hand_share_a_tied_update_but_no_length(make_case):
    case = make_case("plain")
    sites = [Site("blocks.0.q", {}), Site("blocks.1.q", {})]
    adapter = tl.attach(case.model, tl.dora(TIED), sites=sites, ranks=2)
    (bank,) = adapter.banks.values()
    assert bank.tensors()["magnitude"].shape == (2, 12)
    for site, lengths in zip(sites, bank.tensors()["magnitude"], strict=True):
        weight = case.model.get_submodule(site.path).weight
        torch.testing.assert_close(lengths.detach(), weight.detach().norm(dim=1))
