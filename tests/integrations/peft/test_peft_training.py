"""The tuner in training: Trainer, checkpointing, precision, devices, modules beside it."""

from __future__ import annotations

import peft
import pytest
import torch
import transformers
from peft.tuners.tuners_utils import BaseTuner
from safetensors.torch import load_file

import tenslora as tl


class Rows(torch.utils.data.Dataset):
    """A task that a tiny model learns: the class is the parity of the first token."""

    def __len__(self):
        return 24

    def __getitem__(self, n):
        first = n % 17 + 1
        return {"input_ids": torch.tensor([first, 3, 5, n % 7]), "labels": torch.tensor(n % 2)}


def trainer(model, folder, **settings):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        learning_rate=0.03,
        logging_strategy="epoch",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=1,
        **settings,
    )
    made = transformers.Trainer(model, arguments, train_dataset=Rows(), eval_dataset=Rows())
    made.remove_callback(transformers.PrinterCallback)
    return made


def losses(made):
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]


@pytest.fixture
def wrapped(make, config):
    def build(**settings):
        chosen = config(task_type="SEQ_CLS", **settings)
        return peft.get_peft_model(make(), chosen)

    return build


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(wrapped, tmp_path):
    options = {"num_train_epochs": 3, "save_strategy": "epoch"}
    whole = trainer(wrapped(), tmp_path / "whole", **options)
    whole.train()
    again = trainer(wrapped(), tmp_path / "again", **options)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert losses(again) == losses(whole)
    expected = whole.model.state_dict()
    held = again.model.state_dict()
    assert expected.keys() == held.keys()
    assert all(torch.equal(expected[name], held[name]) for name in expected)


def test_the_best_model_is_loaded_at_the_end(wrapped, tmp_path):
    options = {"num_train_epochs": 3, "save_strategy": "epoch", "eval_strategy": "epoch"}
    made = trainer(
        wrapped(), tmp_path, load_best_model_at_end=True, metric_for_best_model="loss",
        greater_is_better=True, **options,
    )  # fmt: skip
    made.train()  # the largest loss counts as best: that is not the last one
    found = [e["eval_loss"] for e in made.state.log_history if "eval_loss" in e]
    assert max(found) != found[-1]
    assert made.evaluate()["eval_loss"] == pytest.approx(max(found), abs=1e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_changes_no_gradient(make, run, config, randomize, reentrant):
    gradients = []
    for checkpointed in (False, True):
        model = peft.get_peft_model(make(), config())
        randomize(model)
        model.eval()
        if checkpointed:
            model.enable_input_require_grads()
            options = {"use_reentrant": reentrant}
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
            model.train()  # the models have no dropout that counts
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        run(model).square().sum().backward()
        cores = model.base_model.tenslora_12x12["default"]
        gradients.append([core.grad.clone() for core in cores.parameters()])
    for plain, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("autocast", [True, False])
def test_a_base_in_bfloat16(make, run, config, autocast):
    base = make().bfloat16()
    model = peft.get_peft_model(base, config(init_weights=False), autocast_adapter_dtype=autocast)
    cores = model.base_model.tenslora_12x12["default"]
    assert {core.dtype for core in cores.parameters()} == {
        torch.float32 if autocast else torch.bfloat16
    }
    out = run(model.eval())
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert all(torch.isfinite(core.grad).all() for core in cores.parameters())


def test_loading_with_little_memory(make, run, config, randomize, tmp_path):
    for family in ("tenslora.att_qkv_depth", "vera"):
        model = peft.get_peft_model(make(), config(family=family)).eval()
        randomize(model)
        model.save_pretrained(tmp_path / family)
        again = peft.PeftModel.from_pretrained(make(), tmp_path / family, low_cpu_mem_usage=True)
        assert not any(p.is_meta for p in again.parameters())
        assert torch.equal(run(again), run(model))
        again.load_adapter(tmp_path / family, "second", low_cpu_mem_usage=True)
        again.set_adapter("second")
        assert torch.equal(run(again), run(model))


def test_a_conversion_to_lora_is_exact_at_the_rank_of_the_cut(make, run, config, randomize):
    model = peft.get_peft_model(make(), config()).eval()
    randomize(model)
    settings, state = peft.convert_to_lora(model, rank=2)
    lora = peft.get_peft_model(make(), settings).eval()
    peft.set_peft_model_state_dict(lora, state)
    torch.testing.assert_close(run(lora), run(model), rtol=1e-4, atol=1e-5)


def test_layers_are_chosen_as_peft_does(make, config):
    for settings, layers in (
        ({"layers_to_transform": [1]}, {1}),
        ({"layers_to_transform": [0], "layers_pattern": "layer"}, {0}),
        ({"exclude_modules": r".*layer\.0\..*"}, {1}),
        ({"target_modules": r".*layer\.1\.attention\.self\.(query|key|value)"}, {1}),
    ):
        model = peft.get_peft_model(make(), config(**settings))
        lora = {k: v for k, v in settings.items() if k != "family"}
        lora = peft.LoraConfig(**{"target_modules": ["query", "key", "value"], **lora})
        expected = peft.get_peft_model(make(), lora)
        assert model.targeted_module_names == expected.targeted_module_names
        (bank,) = model.base_model.shared.adapters["default"].values()
        assert set(bank.grid.labels["layer"]) == layers


def test_a_target_that_matches_nothing_is_peft_s_error(make, config):
    with pytest.raises(ValueError, match="not found in the base model"):
        peft.get_peft_model(make(), config(target_modules=["nothing"]))


def test_modules_beside_it_are_trained_and_saved(make, run, config, randomize, tmp_path):
    model = peft.get_peft_model(make(), config(modules_to_save=["classifier"])).eval()
    randomize(model)
    with torch.no_grad():
        model.base_model.model.classifier.modules_to_save["default"].weight.add_(1)
    model.save_pretrained(tmp_path)
    held = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(t.numel() for t in held.values()) == model.get_nb_trainable_parameters()[0]
    assert torch.equal(run(peft.PeftModel.from_pretrained(make(), tmp_path)), run(model))


BIASES_ARE_SAVED = hasattr(BaseTuner, "_get_adapter_state_dict")


@pytest.mark.skipif(BIASES_ARE_SAVED, reason="this peft saves them; see the next test")
def test_biases_that_would_be_lost_are_refused(config):
    with pytest.raises(tl.TensloraError) as caught:
        config(bias="all")
    assert str(caught.value) == (
        "E531: bias='all', and this peft would not save the biases of this method\n"
        "  Install peft 0.21 or later."
    )


@pytest.mark.skipif(not BIASES_ARE_SAVED, reason="this peft loses them; see the test before")
@pytest.mark.parametrize("bias", ["all", "tenslora_only"])
def test_biases_are_trained_and_saved(make, run, config, randomize, bias, tmp_path):
    model = peft.get_peft_model(make(), config(bias=bias)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name.endswith("bias"):
                parameter.add_(0.5)
    model.save_pretrained(tmp_path)
    held = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(t.numel() for t in held.values()) == model.get_nb_trainable_parameters()[0]
    assert torch.equal(run(peft.PeftModel.from_pretrained(make(), tmp_path)), run(model))


@pytest.mark.skipif(not BIASES_ARE_SAVED, reason="this peft loses them; see the test before")
def test_biases_beside_a_head(make, run, config, tmp_path):
    """PEFT then writes the bias of the head a second time, under a name that it never reads."""
    settings = {"bias": "all", "modules_to_save": ["classifier"]}
    model = peft.get_peft_model(make(), config(**settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.5)
    model.save_pretrained(tmp_path)
    held = load_file(tmp_path / "adapter_model.safetensors")
    assert "base_model.model.classifier.modules_to_save.bias" in held
    again = peft.PeftModel.from_pretrained(make(), tmp_path)
    assert torch.equal(run(again), run(model))
    peft.set_peft_model_state_dict(again, held)
    assert torch.equal(run(again), run(model))


def test_a_model_is_found_and_loaded_from_the_adapter_alone(make, run, config, randomize, tmp_path):
    make().save_pretrained(tmp_path / "base")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    model = peft.get_peft_model(base, config(task_type="SEQ_CLS")).eval()
    randomize(model)
    model.save_pretrained(tmp_path / "adapter")
    again = peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter")
    assert type(again) is peft.PeftModelForSequenceClassification
    assert torch.equal(run(again.eval()), run(model))


def test_generation_and_beams_with_rows_of_their_own(make, config, randomize, kinds):
    for kind in ("llama", "t5"):
        settings = config(target_modules=kinds[kind].targets)
        model = peft.get_peft_model(make(kind), settings).eval()
        model.add_adapter("second", config(target_modules=kinds[kind].targets, seed=1))
        randomize(model, std=1.0)
        randomize(model, "second", seed=5, std=1.0)
        ids = kinds[kind].inputs["input_ids"]
        options = {"max_new_tokens": 4, "num_beams": 2, "do_sample": False, "pad_token_id": 0}
        options |= {"eos_token_id": 19}
        names = ["default", "second"]
        mixed = model.generate(input_ids=ids, adapter_names=names, **options)
        for row, name in enumerate(names):
            model.set_adapter(name)
            alone = model.generate(input_ids=ids, **options)[row]
            width = min(len(alone), mixed.shape[1])
            assert torch.equal(mixed[row][:width], alone[:width])


def test_a_core_is_frozen_by_the_family(make, config):
    family = tl.family(
        "W[layer proj out in] = B[layer proj out r] A[r in]", init={"B": "zeros"}, frozen=["A"]
    )
    model = peft.get_peft_model(make(), config(family=family))
    assert [n.rpartition(".")[2] for n, p in model.named_parameters() if p.requires_grad] == ["B"]
