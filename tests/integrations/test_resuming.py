"""A run that was stopped goes on as if it had not been."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("transformers", reason="needs the hf extra")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from tenslora.errors import DataError  # noqa: E402
from tenslora.integrations import FinetuneConfig, finetune  # noqa: E402
from tenslora.integrations.recording import Recorder  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
STEPS = 4  # of an epoch: 32 rows in batches of 8


@pytest.fixture
def config(tiny_bert, tiny_task, tmp_path):
    def make(**changed):
        usual = {
            "model": str(tiny_bert),
            "data": str(tiny_task),
            "out": str(tmp_path / "out"),
            "epochs": 3,
            "batch_size": 8,
            "max_rows": 32,
            "lr": 0.02,
            "ranks": 4,
            "dropout": 0.3,
            "checkpoints": True,
        }
        return FinetuneConfig(**{**usual, **changed})

    return make


@pytest.fixture
def stop(monkeypatch):
    """Interrupt a run in the step after so many."""

    def run(settings, step):
        usual = Recorder.on_step_begin

        def stopping(self, args, state, control, **more):
            if state.global_step >= step:
                raise KeyboardInterrupt
            return usual(self, args, state, control, **more)

        with monkeypatch.context() as patch:
            patch.setattr(Recorder, "on_step_begin", stopping)
            with pytest.raises(KeyboardInterrupt):
                finetune(settings)

    return run


def numbers(run):
    return [{k: v for k, v in entry.items() if k != "eval_seconds"} for entry in run.history]


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("step", [STEPS, STEPS + 1, 2 * STEPS])
def test_a_stopped_run_goes_on_to_the_last_bit(step, keep, config, stop, tmp_path):
    whole = finetune(config(out=str(tmp_path / "whole"), keep=keep)).runs[0]
    stop(config(keep=keep), step)
    again = finetune(config(keep=keep, resume=True)).runs[0]
    assert numbers(again) == numbers(whole)
    assert (again.best, again.best_epoch, again.last) == (whole.best, whole.best_epoch, whole.last)
    files = [tmp_path / name / "adapter.safetensors" for name in ("whole", "out")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_dropout_is_drawn_on(config, stop, tmp_path):
    """Without the generator's state the second epoch would be another: the test above sees it."""
    first = finetune(config()).runs[0]
    other = finetune(config(dropout=0.0, out=str(tmp_path / "other"))).runs[0]
    assert numbers(first) != numbers(other)


def test_a_run_that_has_ended_is_not_trained_again(config):
    first = finetune(config()).runs[0]
    again = finetune(config(resume=True))
    assert numbers(again.runs[0]) == numbers(first)
    assert "seed 0" in again.to_text()
    assert "nan" not in again.to_text()


def test_the_head_alone_and_several_seeds(config, stop, tmp_path):
    settings = config(family="head", ranks=None, dropout=None, seeds=(0, 1))
    stop(settings, STEPS)  # the second seed was not begun
    said = []
    again = finetune(config(**{**settings.__dict__, "resume": True}), talk=said.append)
    whole = finetune(config(**{**settings.__dict__, "out": str(tmp_path / "whole")}))
    assert [numbers(a) for a in again.runs] == [numbers(w) for w in whole.runs]
    assert "seed 0: goes on from" in said[1]
    assert any("seed 1: begins anew: there is no" in line for line in said)


def test_nothing_is_kept_unless_asked_for(config, tmp_path):
    finetune(config(checkpoints=False, epochs=1))
    assert not list((tmp_path / "out").glob("checkpoint*"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lr": 0.01}, "lr=0.02, and here it is 0.01"),
        ({"epochs": 4}, "epochs=3, and here it is 4"),
        ({"ranks": 2}, "method="),
        ({"max_rows": 24}, "data="),
        ({"keep": "best"}, 'keep="last", and here it is "best"'),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(changed, said, config, stop, tmp_path):
    stop(config(), STEPS)
    file = tmp_path / "out" / "checkpoint-seed0.safetensors"
    before = file.read_bytes()
    with pytest.raises(DataError, match=r"E714: .*seed0\.safetensors is of a run with") as caught:
        finetune(config(resume=True, **changed))
    assert said in str(caught.value)
    assert file.read_bytes() == before


def test_broken_checkpoints_are_refused(config, stop, tmp_path):
    stop(config(), STEPS)
    file = tmp_path / "out" / "checkpoint-seed0.safetensors"
    whole, tensors = file.read_bytes(), load_file(file)
    with safe_open(file, "pt") as opened:
        record = json.loads(opened.metadata()["tenslora_run"])

    def refused(said):
        with pytest.raises(DataError, match=f"E714: .*{said}"):
            finetune(config(resume=True))

    file.write_bytes(whole[:-1])
    refused("no whole checkpoint")
    save_file(tensors, file)
    refused("no whole checkpoint")
    for change, said in (
        ({"schema": 2}, "schema 2; this release reads 1"),
        ({"step": "4"}, "step of a wrong type"),
        ({"more": 1}, "no checkpoint of a run that this release reads"),
    ):
        save_file(tensors, file, {"tenslora_run": json.dumps({**record, **change})})
        refused(said)
    name = next(n for n in tensors if n.startswith("values/classifier"))
    for changed in (
        {n: t for n, t in tensors.items() if n != name},
        {**tensors, name: tensors[name][:1]},
    ):
        save_file(changed, file, {"tenslora_run": json.dumps(record)})
        refused("does not fit the model: classifier")
    assert not Path(tmp_path / "out" / "report.json").exists()
