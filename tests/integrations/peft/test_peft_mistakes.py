"""Targets, heads and orders of calls that cannot be: told by name, and nothing has changed."""

from __future__ import annotations

import copy
import pickle

import peft
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

import tenslora as tl
from tenslora.errors import AttachError, SizeError, StateError

LORA = tl.family("W[site out in] = B[site out r] A[site r in]", init={"B": "zeros"})
QUERY = "bert.encoder.layer.0.attention.self.query"


def hooks(model):
    return [
        hook
        for module in model.modules()
        for table in (module._forward_hooks, module._forward_pre_hooks)
        for hook in table.values()
    ]


@pytest.mark.parametrize("recompute", [False, True])
def test_transformers_deletes_the_hooks_with_the_last_adapter(make, run, config, recompute):
    model = make()
    output = run(model)
    for name in ("default", "second"):
        model.add_adapter(config(bank="first_layer", recompute=recompute), name)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    held = len(hooks(model))
    assert held == (2 + 5 if recompute else 2)  # BERT's two layers have two LayerNorms each
    for held_model in (*copies, model):
        held_model.delete_adapter("second")
        assert len(hooks(held_model)) == held
        held_model.delete_adapter("default")
        assert hooks(held_model) == []
        assert torch.equal(run(held_model), output)
    model.add_adapter(config(bank="first_layer", recompute=recompute))
    assert len(hooks(model)) == held


def test_hooks_of_recomputing_go_with_the_adapter_that_recomputes(make, config):
    model = make()
    model.add_adapter(config(bank="first_layer"))
    model.add_adapter(config(bank="first_layer", recompute=True), "second")
    assert len(hooks(model)) == 7
    model.delete_adapter("second")
    assert len(hooks(model)) == 2


def test_deleting_what_a_later_layer_has_merged(make, config, snapshot):
    model = make()
    model.add_adapter(config(bank="first_layer", init_weights=False))
    layers = [m for m in model.modules() if hasattr(m, "merged_adapters")]
    layers[-1].merge()
    before = snapshot(model)
    for delete in (model.delete_adapter, layers[0].delete_adapter):
        with pytest.raises(AttachError, match=r"^E511: Cannot delete adapter\(s\) \['default'\]"):
            delete("default")
        before.check()
    layers[-1].unmerge()
    model.delete_adapter("default")
    assert "default" not in layers[0].tenslora_places


def test_a_model_with_attached_adapters(make, config, snapshot):
    model = make()
    adapter = tl.attach(model, LORA, targets=["value"], ranks=2, name="mine")
    before = snapshot(model)
    with pytest.raises(AttachError) as caught:
        peft.get_peft_model(model, config())
    assert str(caught.value) == (
        "E534: the model has adapters of tenslora.attach: 'mine'\n"
        "  detach() them first; or attach this family too, and leave out PEFT."
    )
    before.check()
    with pytest.raises(AttachError, match=r"^E534"):
        model.add_adapter(config(bank="first_layer"))
    before.check()
    adapter.detach()
    held = peft.get_peft_model(model, config())
    tl.attach(held, LORA, targets=["intermediate.dense"], ranks=2)
    before = snapshot(held)
    with pytest.raises(AttachError, match=r"^E534: .* of tenslora.attach: 'default'"):
        held.add_adapter("second", config())
    before.check()


def lora(model, targets):
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets))


def test_attaching_to_a_model_with_a_tuner(make, config, snapshot):
    ours = peft.get_peft_model(make(), config())
    theirs = lora(make(), ["query"])
    for model, kind in (
        (ours, "tenslora.integrations.peft.layers.TensLoraLinear"),
        (theirs, "peft.tuners.lora.layer.Linear"),
    ):
        before = snapshot(model)
        told = rf"base_model.model.{QUERY}, an adapter of PEFT: {kind}, with 'default'\n  merge_and"
        with pytest.raises(AttachError, match=f"^E501: target 'query' matches {told}"):
            tl.attach(model, LORA, targets=["query"], ranks=2)
        before.check()
        told = (
            rf"query.base_layer cannot carry an adapter: it belongs to an adapter of PEFT: {kind}"
        )
        with pytest.raises(AttachError, match=f"^E502: .*{told}"):
            tl.attach(model, LORA, targets="all-linear", ranks=2)
        before.check()
        tl.attach(model, LORA, targets=["attention.output.dense"], ranks=2)


def test_a_target_with_an_adapter_of_another_method(make, config, snapshot):
    base = lora(make(), ["query"]).base_model.model
    del base.peft_config
    before = snapshot(base)
    with pytest.raises(AttachError) as caught:
        peft.get_peft_model(base, config())
    assert str(caught.value) == (
        f"E502: Target module {QUERY} has adapters of another method of PEFT already: 'default', "
        "in a peft.tuners.lora.layer.Linear\n"
        "  merge_and_unload() them first, or leave the target out."
    )
    before.check()
    with pytest.raises(AttachError, match=rf"^E502: Target module {QUERY}.base_layer has"):
        peft.get_peft_model(base, config(family="lora", target_modules=["base_layer"]))
    before.check()
    peft.get_peft_model(base, config(target_modules=["key", "value"]))


def test_one_misspelt_target_among_several(make, config, snapshot):
    base = make()
    before = snapshot(base)
    with pytest.raises(AttachError) as caught:
        peft.get_peft_model(base, config(target_modules=["query", "vlaue"]))
    assert str(caught.value) == (
        "E501: target 'vlaue' matches no module of BertForSequenceClassification\n"
        "  Did you mean value? Linear layers: query, key, value, dense, classifier."
    )
    before.check()
    with pytest.raises(ValueError, match=r"(?s)\n  kye: Did you mean key\?.*\n  vlaue: .*n value"):
        peft.get_peft_model(base, config(target_modules=["vlaue", "kye"]))
    before.check()


def test_parts_and_layers_of_targets_are_no_mistakes(make, config):
    targets = ["c_attn.q", "c_attn.v"]
    model = peft.get_peft_model(make("gpt2"), config(target_modules=targets))
    assert model.peft_config["default"].target_modules == set(targets)
    some = config(target_modules=["query", "value"], layers_to_transform=[1])
    peft.get_peft_model(make(), some)
    few = config(target_modules=["query", "value"], exclude_modules=["value"])
    peft.get_peft_model(make(), few)


def test_misspelt_modules_to_save(make, config, snapshot):
    base = make()
    before = snapshot(base)
    for add in (peft.get_peft_model, lambda m, c: m.add_adapter(c)):
        wrong = config(modules_to_save=["clasifier"], bank="first_layer")
        with pytest.raises(AttachError) as caught:
            add(base, wrong)
        assert str(caught.value) == (
            "E531: modules_to_save names 'clasifier', which no module of "
            "BertForSequenceClassification is called\n"
            "  Did you mean classifier? Top-level modules: bert, dropout, classifier."
        )
        before.check()
    held = peft.get_peft_model(base, config(task_type="SEQ_CLS"))  # PEFT itself says "score" too
    assert "score" in held.peft_config["default"].modules_to_save


def test_a_base_with_more_layers(make, run, config, randomize, snapshot, tmp_path):
    model = peft.get_peft_model(make(), config())
    randomize(model)
    model.save_pretrained(tmp_path)
    larger = BertForSequenceClassification(
        BertConfig(**{**make().config.to_dict(), "num_hidden_layers": 3})
    ).eval()
    before = snapshot(larger)
    with pytest.raises(StateError) as caught:
        peft.PeftModel.from_pretrained(larger, tmp_path)
    path = "bert.encoder.layer.2.attention.self"
    assert str(caught.value).partition("\n")[0] == (
        "E615: the adapter was made on 6 modules of a BertForSequenceClassification, and its "
        "targets match 3 more in this BertForSequenceClassification: "
        f"{path}.query, {path}.key, {path}.value"
    )
    before.check()
    settings = tl.TensLoraConfig.from_pretrained(tmp_path)
    settings.target_modules = list(settings.site_map["base"])
    output = run(larger)
    loaded = peft.PeftModel.from_pretrained(larger, tmp_path, config=settings)
    assert not torch.equal(run(loaded), output)


def put_on(base, settings, name):
    return peft.get_peft_model(base, settings, adapter_name=name)


def add_beside(base, settings, name):
    base.add_adapter(settings, name)


@pytest.mark.parametrize("add", [put_on, add_beside])
def test_what_is_no_name_of_an_adapter(add, make, config, snapshot):
    base = make()
    before = snapshot(base)
    for name in ("a.b", "no name", "update"):
        with pytest.raises(AttachError, match=rf"^E508: '{name}' cannot be the name of an adapter"):
            add(base, config(bank="first_layer"), name)
        before.check()
    with pytest.raises(AttachError, match=r"^E508: '' cannot be the name of an adapter"):
        peft.get_peft_model(base, config(), adapter_name="")
    before.check()
    held = peft.get_peft_model(base, config())
    before = snapshot(held)
    for name in ("a.b", ""):
        with pytest.raises(AttachError, match=rf"^E508: '{name}' cannot be the name of an adapter"):
            held.add_adapter(name, config())
        before.check()


@pytest.mark.parametrize("name", ["target_modules", "exclude_modules"])
def test_a_broken_regular_expression(name, config):
    with pytest.raises(AttachError) as caught:
        config(**{name: "(query|key"})
    assert str(caught.value) == (
        f"E503: {name}='(query|key' is not a regular expression: missing ), unterminated "
        "subpattern at position 0\n"
        "  Escape dots, close brackets."
    )
    assert getattr(config(**{name: ".*(query|key)"}), name) == ".*(query|key)"


def test_true_is_no_rank(make, config, snapshot):
    base = make()
    before = snapshot(base)
    for ranks in (True, {"a": True}):
        with pytest.raises(SizeError, match=r"^E206: rank \w+=True is not a positive integer"):
            peft.get_peft_model(base, config(ranks=ranks))
        before.check()
    with pytest.raises(SizeError, match=r"^E206: rank rank=True is not a positive integer"):
        tl.attach(base, LORA, targets=["query"], ranks=True)
    before.check()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"layers_to_transform": [7]}, "[7] leaves nothing: the 6 modules that target_modules "
         "names are in layers 0, 1."),
        ({"layers_to_transform": 2}, "2 leaves nothing: the 6 modules that target_modules "
         "names are in layers 0, 1."),
        ({"layers_to_transform": [0], "layers_pattern": "block"}, "[0] leaves nothing: the 6 "
         "modules that target_modules names are in no numbered layer of layers_pattern='block'."),
    ],
)  # fmt: skip
def test_layers_that_leave_nothing(settings, told, make, config, snapshot):
    base = make()
    before = snapshot(base)
    with pytest.raises(ValueError, match=r"layers_to_transform") as caught:
        peft.get_peft_model(base, config(**settings))
    assert str(caught.value).rpartition("\n  layers_to_transform=")[2] == told
    assert "Did you mean" not in str(caught.value)
    before.check()


def test_advice_about_sites_names_settings_that_there_are(make, config, snapshot):
    base = make()
    before = snapshot(base)
    settings = {"family": "tenslora.qkv_depth", "ragged": "prefix"}
    with pytest.raises(AttachError, match=r"^E504: .*\n  Leave .* with exclude_modules"):
        peft.get_peft_model(base, config(**settings, target_modules=["query", "classifier"]))
    before.check()
    targets = ["query", "0.attention.self.key"]
    with pytest.raises(AttachError, match=r"(?s)^E505: .*limit them with layers_to_transform"):
        peft.get_peft_model(base, config(**settings, target_modules=targets))
    before.check()
