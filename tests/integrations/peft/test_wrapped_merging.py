"""Families in wrappers under PEFT: merging, switching, and several on one model."""

from __future__ import annotations

import copy

import peft
import pytest
import torch

from tenslora.errors import AttachError


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("name", ["dora", "hira", "dora heads"])
def test_merging_is_undone_bit_for_bit(name, kind, tuned, run, make):
    model = tuned(name, kind)
    expected, before = run(model, kind), copy.deepcopy(model.state_dict())
    layers = model.base_model._layers()
    deltas = [layer.get_delta_weight("default") for layer in layers]
    weights = [layer.get_base_layer().weight.detach().clone() for layer in layers]
    for safe in (False, True):
        model.merge_adapter(safe_merge=safe)
        torch.testing.assert_close(run(model, kind), expected, rtol=1e-4, atol=1e-5)
        for layer, delta, weight in zip(layers, deltas, weights, strict=True):
            found = layer.get_base_layer().weight
            torch.testing.assert_close(found, weight + delta, rtol=1e-5, atol=1e-6)
            assert torch.equal(layer.get_delta_weight("default"), delta)
        model.unmerge_adapter()
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    merged = copy.deepcopy(model).merge_and_unload(safe_merge=True)
    torch.testing.assert_close(run(merged, kind), expected, rtol=1e-4, atol=1e-5)
    bare = model.unload()
    assert torch.equal(run(bare, kind), run(make(kind), kind))


def test_a_router_is_not_merged(tuned, run, config, snapshot):
    model = tuned("router")
    model.add_adapter("second", config(family="lora"))
    model.base_model.set_adapter(["second", "default"])
    before, expected = snapshot(model), run(model)
    for do in (
        model.merge_adapter,
        lambda: model.merge_adapter(["default"], safe_merge=True),
        model.merge_and_unload,
        lambda: model.base_model._layers()[0].merge(),
        lambda: model.base_model._layers()[0].get_delta_weight("default"),
    ):
        with pytest.raises(AttachError, match=r"E520: router\[expert\] has no weight of its own"):
            do()
        before.check()
    assert torch.equal(run(model), expected)
    model.merge_adapter(["second"])  # that is no router
    model.unmerge_adapter()
    before.check()
    with pytest.raises(TypeError, match="do not support LoRA conversion"):
        peft.convert_to_lora(model, 2)


def test_a_broken_wrapper_is_not_merged_safely(tuned, snapshot):
    model = tuned()
    with torch.no_grad():
        model.base_model.tenslora_12x12["default"].magnitude[-1] = torch.nan
    before = snapshot(model)
    for do in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(AttachError, match="E512: NaNs detected in the merged weights"):
            do(safe_merge=True)
        held = model.base_model._layers()
        assert not any(layer.merged for layer in held)
    before.check()


def test_adapters_are_switched_added_and_deleted(tuned, make, run, config, randomize, router):
    model, base = tuned("dora"), run(make())
    first = run(model)
    for seed, (name, family) in enumerate((("hira", "hira(lora)"), ("plain", "lora"))):
        model.add_adapter(name, config(family=family))
        randomize(model, name, seed=seed + 2)
        assert torch.equal(run(model), first)  # added, not active
    model.add_adapter("router", config(family=router, sizes={"expert": 3}))
    randomize(model, "router", seed=7)
    outputs = {}
    for name in ("hira", "plain", "router", "default"):
        model.set_adapter(name)
        outputs[name] = run(model)
        trained = {n.split(".")[2] for n, p in model.named_parameters() if p.requires_grad}
        assert trained == {name}
        with model.disable_adapter():
            assert torch.equal(run(model), base)
    assert torch.equal(outputs["default"], first)
    assert len({float(out.double().sum()) for out in outputs.values()}) == 4
    together = [n for n in outputs if n != "default"]
    model.base_model.set_adapter(together)  # these add up in a layer
    assert torch.isfinite(run(model)).all()
    names = ["router", "default", "__base__", "hira"]
    batch = torch.arange(20).reshape(4, 5) % 17
    mixed = model(batch, adapter_names=names).logits
    for row, name in enumerate(names):
        model.set_adapter("default" if name == "__base__" else name)
        with model.disable_adapter() if name == "__base__" else torch.no_grad():
            alone = model(batch).logits[row]
        torch.testing.assert_close(mixed[row], alone, rtol=1e-4, atol=1e-5)
    model.set_adapter("hira")
    model.delete_adapter("default")
    assert torch.equal(run(model), outputs["hira"])
    assert not any("magnitude" in key for key in model.state_dict())
    model.add_adapter("default", config(family="dora(lora)"))  # the name is free again
    assert torch.equal(run(model), outputs["hira"])


def test_dora_has_a_layer_to_itself(tuned, run, config, randomize, snapshot):
    model = tuned("dora", target_modules=["query", "key"])
    model.add_adapter("other", config(family="lora", target_modules=["key", "value"]))
    model.add_adapter("apart", config(family="lora", target_modules=["value"]))
    for name in ("other", "apart"):
        randomize(model, name)
    before = snapshot(model)
    model.base_model.set_adapter(["default", "apart"])  # on other layers
    assert torch.isfinite(run(model)).all()
    model.base_model.set_adapter(["other", "default"])
    text = r"E521: dora needs .*key to itself, and the adapters default and other are both "
    with pytest.raises(AttachError, match=text + "active"):
        run(model)
    for do in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(AttachError, match=text + "merged"):
            do()
        assert not any(layer.merged for layer in model.base_model._layers())
    model.merge_adapter(["other"])
    with pytest.raises(AttachError, match=text + "merged"):
        model.merge_adapter(["default"])
    model.unmerge_adapter()
    model.set_adapter("default")
    before.check()


@pytest.mark.parametrize("order", [["default", "plain"], ["plain", "default"]])
def test_hira_merged_beside_another_is_what_ran(order, tuned, run, config, randomize):
    """The weight that it multiplies is the one without the other's update."""
    model = tuned("hira")
    model.add_adapter("plain", config(family="lora"))
    randomize(model, "plain", seed=4)
    model.base_model.set_adapter(order)
    model.double()
    expected = run(model)
    merged = run(copy.deepcopy(model).merge_and_unload())
    torch.testing.assert_close(merged, expected, rtol=1e-10, atol=1e-12)
    model.merge_adapter([order[0]])
    model.merge_adapter([order[1]])
    torch.testing.assert_close(run(model), expected, rtol=1e-10, atol=1e-12)
    model.unmerge_adapter()
    assert torch.equal(run(model), expected)
