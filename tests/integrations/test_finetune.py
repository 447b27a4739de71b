"""Fine-tuning as a whole, on tiny models made here."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
transformers = pytest.importorskip("transformers", reason="needs the hf extra")

import tenslora as tl  # noqa: E402
from tenslora.errors import DataError, TensloraError  # noqa: E402
from tenslora.integrations import FinetuneConfig, finetune  # noqa: E402
from tenslora.integrations.data import load_task  # noqa: E402
from tenslora.integrations.methods import method_of  # noqa: E402
from tenslora.integrations.training import attach_method, train  # noqa: E402
from tenslora.integrations.transformers import encode, load_model  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")


@pytest.fixture
def config(tiny_bert, tiny_task, tmp_path):
    def make(**changed):
        usual = {
            "model": str(tiny_bert),
            "data": str(tiny_task),
            "out": str(tmp_path / "out"),
            "epochs": 4,
            "batch_size": 8,
            "lr": 0.02,
            "ranks": 4,
        }
        return FinetuneConfig(**{**usual, **changed})

    return make


def logits(model, loaded, task):
    features = encode(loaded, task.evaluation, 64)
    batch = features.collate(list(features.rows))
    batch.pop("labels")
    with torch.no_grad():
        return model.eval()(**batch).logits


def test_an_adapter_learns_and_is_saved(config, tmp_path, capsys):
    said = []
    report = finetune(config(), talk=said.append)
    run = report.runs[0]
    assert [entry["epoch"] for entry in run.history] == [1, 2, 3, 4]
    assert run.last > 0.95 > run.majority
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert (run.adapter_parameters, run.head_parameters) == (2 * 3 * 4 * 64, 66)
    assert run.steps == 48
    assert run.peak_memory >= run.memory_before > 10**7
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert saved == report.to_dict()
    assert saved["runs"][0]["ranks"] == {"r": 4}
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000
    assert "96 rows to train on, 32 to evaluate, 2 classes" in said[0]
    assert "majority class" in report.to_text()
    assert capsys.readouterr().out == ""  # nothing is printed


@pytest.mark.parametrize("profile", ["cpu", "h200-bf16"])
def test_an_adapter_is_planned_for_the_machine_that_is_named(config, tiny_bert, profile):
    settings = config(profile=profile)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    adapter, _ = attach_method(model, method_of(settings), settings, 0)
    (bank,) = adapter.banks.values()
    assert bank.program.plan.problem.profile.name == profile


def test_a_saved_adapter_gives_the_same_predictions(config, tiny_bert, tmp_path):
    settings = config(family="tenslora.qkv_depth", like="lora:2", ranks=None, epochs=2)
    task = load_task(settings.data)
    trained = train(settings, task, method_of(settings), 3)
    trained.save(tmp_path / "a.safetensors")
    expected = logits(trained.loaded.model, trained.loaded, task)
    fresh = load_model(str(tiny_bert), task, seed=99)  # another head
    assert not torch.allclose(logits(fresh.model, fresh, task), expected)
    tl.load(fresh.model, tmp_path / "a.safetensors")
    assert torch.equal(logits(fresh.model, fresh, task), expected)


def test_the_same_seed_gives_the_same_run_and_touches_no_global_generator(config):
    settings = config(epochs=1)
    task = load_task(settings.data)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    one, two, other = (train(settings, task, method_of(settings), s).run for s in (0, 0, 1))
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert one.history[0]["loss"] == two.history[0]["loss"] != other.history[0]["loss"]
    assert one.history[0]["eval_loss"] == two.history[0]["eval_loss"]


def test_the_head_alone(config, tmp_path):
    report = finetune(config(family="head", epochs=1))
    run = report.runs[0]
    assert (run.adapter_parameters, run.head_parameters, run.method) == (0, 66, "head alone")
    from safetensors.torch import load_file

    tensors = load_file(tmp_path / "out" / "head.safetensors")
    assert {k: tuple(v.shape) for k, v in tensors.items()} == {
        "classifier.weight": (2, 32),
        "classifier.bias": (2,),
    }


def test_only_the_head_changes_when_it_is_trained_alone(config):
    settings = config(family="head", epochs=1)
    task = load_task(settings.data)
    before = load_model(settings.model, task, seed=0).model.state_dict()
    after = train(settings, task, method_of(settings), 0).loaded.model.state_dict()
    assert {k for k in before if not torch.equal(before[k], after[k])} == {
        "classifier.weight",
        "classifier.bias",
    }


def test_the_head_has_a_rate_of_its_own(config):
    from tenslora.integrations.trainer import make_groups

    settings = config(family="tenslora.att", head_lr=0.5, epochs=1, max_rows=16)
    trained = train(settings, load_task(settings.data, max_rows=16), method_of(settings), 0)
    assert (trained.run.lr, trained.run.head_lr) == (0.02, 0.5)
    groups = make_groups(trained.loaded.model, trained.adapter, trained.run)
    sizes = [(group["lr"], sum(p.numel() for p in group["params"])) for group in groups]
    assert sizes == [(0.5, 66), (0.02, trained.run.adapter_parameters)]
    alone = config(family="head", head_lr=0.5, epochs=1, max_rows=16)
    run = train(alone, load_task(alone.data, max_rows=16), method_of(alone), 0).run
    assert (run.lr, run.head_lr) == (0.5, 0.5)


def test_several_seeds_and_the_best_epoch(config, tmp_path):
    report = finetune(config(seeds=(0, 1), keep="best", epochs=2))
    assert [run.seed for run in report.runs] == [0, 1]
    assert (tmp_path / "out" / "adapter-seed1.safetensors").is_file()


def test_the_best_epoch_is_put_back(config):
    settings = config(lr=0.3, epochs=5, schedule="constant", warmup=0.0)
    task = load_task(settings.data)
    for seed in range(6):  # at this rate some run is worse at its end than before
        trained = train(settings, task, method_of(settings), seed, keep="best")
        right = logits(trained.loaded.model, trained.loaded, task).argmax(-1)
        accuracy = (right == torch.tensor(task.evaluation.labels)).double().mean().item()
        assert accuracy == pytest.approx(trained.run.best)
        if trained.run.last < trained.run.best:
            return
    pytest.fail("no run ended worse than its best epoch: the test shows nothing")


def test_pairs_of_texts(config, tmp_path, make_rows, make_tsv):
    pairs = zip(make_rows(60, 2), make_rows(60, 3), strict=True)
    table = [(a, b, str(int(x == y))) for (a, x), (b, y) in pairs]
    path = make_tsv(tmp_path / "mrpc.tsv", table, ("sentence1", "sentence2", "label"))
    run = finetune(config(data=str(path), epochs=1)).runs[0]
    assert (run.metric, run.task) == ("f1", "mrpc")
    loaded = load_model(config().model, load_task(str(path)))
    row = encode(loaded, load_task(str(path)).train, 64).rows[0]
    assert 1 in row["token_type_ids"]


def test_images(config, tiny_vit, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs the hf extra")
    draw = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        folder = tmp_path / "shades" / name
        folder.mkdir(parents=True)
        for n in range(12):
            noise = draw.integers(-50, 50, (16, 16, 3))
            image.fromarray((level + noise).astype(np.uint8)).save(folder / f"{n}.png")
    settings = config(model=str(tiny_vit), data=str(tmp_path / "shades"), family="lotr")
    run = finetune(settings).runs[0]
    assert (run.task, run.metric, run.last) == ("shades", "accuracy", 1.0)


def test_rows_are_batched_by_length_and_each_comes_once(config):
    from tenslora.integrations.batches import Batches

    lengths = np.random.default_rng(0).integers(5, 60, 333)
    shuffled = Batches(lengths, 16, seed=1)
    first, second = list(shuffled), list(shuffled)
    for batches in (first, second):
        assert sorted(i for batch in batches for i in batch) == list(range(333))
        assert len(batches) == len(shuffled) == 21
    assert first != second
    assert list(Batches(lengths, 16, seed=1)) == first
    padded = sum(len(batch) * lengths[batch].max() for batch in first)
    assert padded < 1.1 * lengths.sum()
    ordered = [i for batch in Batches(lengths, 16, seed=None) for i in batch]
    assert (np.diff(lengths[ordered]) <= 0).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": "./nowhere"}, "E707: there is no folder ./nowhere"),
        ({"family": "lorra"}, "E306: no family is called 'lorra'"),
        ({"ranks": "q=4"}, "E20[12]: "),
        ({"targets": ("querry",)}, "E501: target 'querry' matches no module"),
        ({"train": ("klassifier",)}, "E514: train names 'klassifier'"),
        ({"family": "head", "train": ("klassifier",)}, "E707: train=klassifier names no module"),
        ({"label": "kind"}, "E703: .* has no column 'kind'"),
        ({"ranks": None, "params": 3}, "E207: "),
    ],
)
def test_mistakes_are_told_before_training(config, changed, said):
    with pytest.raises(TensloraError, match=said):
        finetune(config(**changed))


def test_a_model_folder_without_a_model(config, tmp_path):
    with pytest.raises(DataError, match=r"E707: the folder .* holds no config.json"):
        finetune(config(model=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"E707: .* cannot be loaded for text classification"):
        finetune(config(model=str(tmp_path)))


def test_an_output_folder_that_is_a_file(config, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match=r"E711: .* cannot be made"):
        finetune(config())


def test_training_that_diverges_is_an_error(config):
    with pytest.raises(DataError, match=r"E712: training diverged"):
        finetune(config(lr=1e30, schedule="constant", warmup=0.0))
