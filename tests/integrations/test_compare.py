"""Comparing: what is run, kept, gone on with, and shown."""

from __future__ import annotations

import json
import threading
import time

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("transformers", reason="needs the hf extra")

from tenslora.errors import AttachError, DataError  # noqa: E402
from tenslora.integrations import CompareConfig, Comparison, compare  # noqa: E402
from tenslora.integrations.processes import Workers  # noqa: E402
from tenslora.integrations.runs import Run  # noqa: E402


@pytest.fixture
def config(tiny_bert, tiny_task, tmp_path):
    def make(**changed):
        usual = {
            "model": str(tiny_bert),
            "data": (str(tiny_task),),
            "families": ("lotr",),
            "like": "lora:2",
            "epochs": 1,
            "seeds": (0, 1),
            "out": str(tmp_path / "out"),
        }
        return CompareConfig(**{**usual, **changed})

    return make


@pytest.fixture
def workers(monkeypatch):
    """Workers that train nothing: the scores depend on method and seed; every job is noted."""
    jobs = []

    def run(self, job, watch=None):
        methods = [method["name"] for method in job["methods"]]
        if job["check"]:
            return {"methods": [{"method": name, "adapter_parameters": 1} for name in methods]}
        jobs.append((methods[0], job["seed"]))
        if methods[0].startswith("lotr") and job["seed"] == 9:
            raise RuntimeError("the process ended with code -9: killed")
        watch({"event": "step", "step": 1, "steps": 2})
        score = 0.5 + 0.1 * job["seed"] + (0.2 if methods[0] == "lotr" else 0.0)
        found = Run(job["data"].rpartition("/")[2], methods[0], job["seed"], "accuracy", 0.5)
        found.best, found.last, found.best_epoch = score, score - 0.1, 1
        found.step_ms, found.step_cpu_ms = (30.0, 15.0) if methods[0] == "lotr" else (20.0, 10.0)
        found.machine = {"threads": 1, "gpu": None}
        found.adapter_parameters, found.peak_memory = 1234, 500 << 20
        return {"run": found.to_dict()}

    monkeypatch.setattr(Workers, "run", run)
    return jobs


def test_the_whole_thing_with_real_processes(config, tmp_path, capsys):
    said = []
    found = compare(config(families=(), head=False, seeds=(0,), save=True), talk=said.append)
    run = found.runs[0]
    assert (run.status, run.error, run.method, run.ranks) == ("done", "", "lora:2", {"r": 2})
    assert run.adapter_parameters == 2 * 3 * 2 * 64
    assert 0 < run.memory_before <= run.peak_memory
    assert run.step_ms > 0 < run.step_cpu_ms
    assert run.machine["threads"] == 1
    assert (tmp_path / "out" / "adapters" / run.file).is_file()
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000
    assert "lora:2 768" in said[0]
    assert said[1].startswith("[1/1] ")
    assert capsys.readouterr().out == ""


def test_means_and_spreads(config, workers):
    found = compare(config(seeds=(0, 1, 2)))
    rows = {row["method"]: row for row in found.rows()}
    assert list(rows) == ["head alone", "lora:2", "lotr"]
    row = rows["lotr"]
    assert row["best_mean"] == pytest.approx(0.8)
    assert row["best_spread"] == pytest.approx(0.1)  # of .7, .8, .9 with n - 1
    assert row["last_mean"] == pytest.approx(0.7)
    assert (row["step_ratio"], row["step_cpu_ratio"], row["seeds"]) == (1.5, 1.5, 3)
    text = found.to_text()
    assert "majority class .500" in text
    assert ".800 ± .100  .700 ± .100    1,234" in text
    assert "15 ms  1.50x  500 MB" in text


def test_a_second_call_goes_on_where_the_first_stopped(config, workers, tmp_path):
    compare(config())
    assert len(workers) == 6
    file = next((tmp_path / "out" / "runs").glob("*lotr*seed1*"))
    file.unlink()
    next((tmp_path / "out" / "runs").glob("*lora*seed0*")).write_text("{broken")
    said = []
    found = compare(config(jobs=2), talk=said.append)
    assert sorted(workers[6:]) == [("lora:2", 0), ("lotr", 1)]
    assert len(found.runs) == 6
    assert said[0].startswith("4 of 6 runs have ended before")
    compare(config())
    assert len(workers) == 8


@pytest.mark.parametrize("changed", [{"lr": 2e-3}, {"epochs": 2}, {"max_length": 32}])
def test_other_settings_are_other_runs(config, workers, changed):
    compare(config(seeds=(0,)))
    compare(config(seeds=(0,), **changed))
    assert len(workers) == 6


def test_another_budget_is_the_same_head_alone(config, workers):
    compare(config(seeds=(0,)))
    compare(config(seeds=(0,), like="lora:3"))
    assert workers[3:] == [("lora:3", 0), ("lotr", 0)]


def test_new_seeds_and_families_add_to_what_is_there(config, workers):
    compare(config(seeds=(0,), families=()))
    compare(config(seeds=(0, 1), families=("lotr",)))
    assert workers[2:] == [("lotr", 0), ("head alone", 1), ("lora:2", 1), ("lotr", 1)]


def test_a_run_that_fails_is_kept_as_failed_and_tried_again(config, workers, tmp_path):
    found = compare(config(seeds=(0, 9)))
    failed = [run for run in found.runs if run.status == "failed"]
    assert [(run.method, run.seed) for run in failed] == [("lotr", 9)]
    assert "code -9: killed" in failed[0].error
    row = next(row for row in found.rows() if row["method"] == "lotr")
    assert (row["seeds"], row["failed"], row["best_spread"]) == (1, 1, None)
    assert "1 of 6 runs are missing" in found.to_text()
    compare(config(seeds=(0, 9)))
    assert workers[6:] == [("lotr", 9)]


def test_nothing_that_ends_well_is_an_error(config, workers):
    with pytest.raises(DataError, match=r"E713: none of 1 runs ended well; .* code -9: killed"):
        compare(config(like="lotr:2", families=(), head=False, seeds=(9,)))


def test_an_interrupt_keeps_what_has_ended(config, workers, monkeypatch, tmp_path):
    usual = Workers.run

    def run(self, job, watch=None):
        if not job["check"] and (job["methods"][0]["name"], job["seed"]) == ("lora:2", 1):
            raise KeyboardInterrupt
        return usual(self, job, watch)

    monkeypatch.setattr(Workers, "run", run)
    said = []
    with pytest.raises(KeyboardInterrupt):
        compare(config(), talk=said.append)
    assert said[-1] == "4 of 6 runs are kept; the same command goes on"
    saved = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (saved["finished_runs"], saved["wanted_runs"]) == (4, 6)


def test_stopping_ends_the_processes(config):
    workers = Workers(1, 1)
    ended = []

    def work():
        try:
            workers.run({"never": "read"})
        except RuntimeError as error:
            ended.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(200):
        if workers.running:
            break
        time.sleep(0.01)
    workers.stop()
    thread.join(30)
    assert "the process ended with code -15" in ended[0]
    with pytest.raises(RuntimeError, match="stopped"):
        workers.run({})


def test_the_json_reads_back(config, workers, tmp_path):
    found = compare(config())
    saved = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert saved == found.to_dict()
    again = Comparison.from_dict(saved)
    assert again.rows() == found.rows()
    assert again.to_dict() == saved
    picture = again.save_picture(tmp_path / "again.png")
    assert picture.stat().st_size > 10_000


def test_epochs_of_single_tasks(config, workers, tiny_task):
    compare(config(epochs_of={tiny_task.name: 2}, seeds=(0,)))
    with pytest.raises(DataError, match=r"E709: epochs_of names 'cola', no task\n.*animals"):
        compare(config(epochs_of={"cola": 2}))


def test_two_tasks_of_one_name(config, tiny_task):
    with pytest.raises(DataError, match="E709: two tasks have one name"):
        compare(config(data=(str(tiny_task), str(tiny_task) + "/")))


def test_what_cannot_be_attached_is_told_before_training(config, tmp_path):
    with pytest.raises(AttachError, match=r"E501: target 'querry' matches no module"):
        compare(config(targets=("querry",)))
    assert not (tmp_path / "out" / "runs").exists()
