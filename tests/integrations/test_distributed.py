"""Fine-tuning in two processes is fine-tuning in one: started by torchrun, on tiny models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("transformers", reason="needs the hf extra")

from safetensors.torch import load_file  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from launched_run import stopped_after  # noqa: E402

sys.path.pop(0)

from tenslora.cli import main  # noqa: E402
from tenslora.errors import DataError  # noqa: E402
from tenslora.integrations import FinetuneConfig, finetune  # noqa: E402
from tenslora.integrations.batches import Batches, Shares  # noqa: E402
from tenslora.integrations.distributed import Process, this_process  # noqa: E402
from tenslora.integrations.trainer import cross_entropy  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning"),
    pytest.mark.skipif(sys.platform != "linux", reason="gloo is tested on Linux"),
]
ROOT = Path(__file__).parents[2]
WAYS = {
    # 21 rows in batches of 4: the last batch has one row, and one process none of it
    "adapter": {"family": "tenslora.att", "max_rows": 21, "batch_size": 4},
    "head": {"family": "head", "max_rows": 32},
    "best": {"ranks": 2, "max_rows": 24, "batch_size": 5, "keep": "best", "schedule": "constant"},
}
SHARDED = {f"{way}, sharded": {**WAYS[way], "shard": True} for way in WAYS}


def launch(*words: str) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    more = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [sys.executable, *torchrun, *words],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, **more},
    )


@pytest.fixture(scope="module")
def settings(tiny_bert, tiny_task, tmp_path_factory):
    def make(way: str, place: str) -> dict:
        folder = tmp_path_factory.mktemp(f"{way.replace(', ', '-')}-{place}")
        usual = {"model": str(tiny_bert), "data": str(tiny_task), "out": str(folder)}
        return {**usual, "epochs": 2, "batch_size": 8, "lr": 0.02, **{**WAYS, **SHARDED}[way]}

    return make


@pytest.fixture(scope="module")
def two(settings, tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("launched")
    jobs = {way: settings(way, "two") for way in (*WAYS, *SHARDED)}
    given = settings("adapter", "command")
    words = ["--model", given["model"], "--data", given["data"], "--out", given["out"]]
    words += ["--epochs", "1", "--max-rows", "8", "--shard", "--json"]
    # one process stops after the first of two epochs and two go on; and the other way round
    resumed = {**settings("adapter", "to-two"), "checkpoints": True}
    with stopped_after(6):
        finetune(FinetuneConfig(**resumed))
    jobs["resumed"] = {**resumed, "resume": True}
    jobs["stopped"] = {**settings("adapter", "to-one"), "checkpoints": True, "stopped_after": 6}
    copied = shutil.copytree(resumed["out"], folder / "to-two-sharded")
    jobs["resumed, sharded"] = {**jobs["resumed"], "out": str(copied), "shard": True}
    jobs["stopped, sharded"] = {
        **settings("adapter, sharded", "to-one"),
        "checkpoints": True,
        "stopped_after": 6,
    }
    jobs["command"] = ["finetune", *words]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("launched_run.py")
    ended = launch(str(script), str(folder / "jobs.json"), str(folder))
    assert ended.returncode == 0, ended.stderr
    found = [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)]
    return jobs, found, ended


@pytest.fixture(scope="module")
def one(settings):
    made = {}

    def run(way):
        if way not in made:
            made[way] = finetune(FinetuneConfig(**settings(way, "one")))
        return made[way]

    return run


@pytest.mark.parametrize("way", [*WAYS, *SHARDED])
def test_two_processes_are_one(way, two, one):
    jobs, found, _ = two
    alone = one(way.removesuffix(", sharded"))
    mine = alone.runs[0]
    for theirs in (rank[way]["runs"][0] for rank in found):
        assert (theirs["processes"], theirs["steps"]) == (2, mine.steps)
        for a, b in zip(theirs["history"], mine.history, strict=True):
            for name in ("loss", "eval_loss"):
                assert a[name] == pytest.approx(b[name], rel=2e-4), name
            for name in ("accuracy", "f1", "matthews", "score", "epoch"):
                assert a[name] == pytest.approx(b[name]), name
    kind = "head" if way.startswith("head") else "adapter"
    values = [
        load_file(Path(folder) / f"{kind}.safetensors")
        for folder in (jobs[way]["out"], alone.config["out"])
    ]
    assert values[0].keys() == values[1].keys()
    for name, tensor in values[1].items():
        torch.testing.assert_close(values[0][name], tensor, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("way", WAYS)
def test_each_process_of_a_sharded_run_holds_a_part(way, two):
    for found in two[1]:
        assert found[way]["here"] == found[way]["whole"]
    parts = [found[f"{way}, sharded"] for found in two[1]]
    assert {part["whole"] for part in parts} == {two[1][0][way]["whole"]}
    assert sum(part["here"] for part in parts) == parts[0]["whole"]
    assert max(part["here"] for part in parts) < 0.6 * parts[0]["whole"]


def test_a_sharded_run_needs_several_processes(tmp_path, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    settings = FinetuneConfig(shard=True, out=str(tmp_path / "out"))
    with pytest.raises(DataError, match=r"E717: shard=True .* the only one\n.*torchrun"):
        finetune(settings)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(DataError, match=r"E717: .* would both cut .*\n  Leave --use_fsdp out\."):
        finetune(settings)
    assert not (tmp_path / "out").exists()


def check_equal(theirs, mine):
    assert len(theirs) == len(mine) == 2
    for a, b in zip(theirs, mine, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-4)
        assert a["eval_loss"] == pytest.approx(b["eval_loss"], rel=2e-4)


@pytest.mark.parametrize("name", ["resumed", "resumed, sharded"])
def test_two_processes_go_on_where_one_stopped(name, two, one):
    _, (leader, other), _ = two
    history = one("adapter").runs[0].history
    check_equal(leader[name]["runs"][0]["history"], history)
    check_equal(other[name]["runs"][0]["history"], history)
    assert "seed 0: goes on from" in leader[name]["said"][1]
    assert len(leader[name]["said"]) == 3  # one epoch was left


@pytest.mark.parametrize("name", ["stopped", "stopped, sharded"])
def test_one_process_goes_on_where_two_stopped(name, two, one):
    settings = {k: v for k, v in two[0][name].items() if k not in ("stopped_after", "shard")}
    said = []
    report = finetune(FinetuneConfig(**settings, resume=True), talk=said.append)
    check_equal(report.runs[0].history, one("adapter").runs[0].history)
    assert report.runs[0].steps == 12
    assert len(said) == 3


def test_only_the_leader_talks_and_writes(two):
    jobs, (leader, other), _ = two
    for way in (*WAYS, *SHARDED):
        assert leader[way]["said"][0].endswith("2 classes")
        assert other[way]["said"] == []
        assert sorted(leader[way]["files"]) == sorted(
            ["report", "picture", Path(leader[way]["runs"][0]["file"]).stem]
        )
        assert other[way]["files"] == {}
        report = json.loads((Path(jobs[way]["out"]) / "report.json").read_text())
        assert report["runs"] == leader[way]["runs"]


@pytest.mark.parametrize("command", ["compare", "demo"])
def test_what_starts_processes_of_its_own_is_refused(command, two):
    for found in two[1]:
        assert found[command] == (
            f"E715: tenslora {command} starts processes of its own, and this is one of 2\n"
            "  Start it without a launcher: `--jobs` says how many runs go on at a time."
        )


def test_the_shares_of_processes_make_the_mean_of_a_batch():
    batches = list(Batches(range(1, 12), 4, seed=3))
    losses = torch.randn(11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for count in (1, 2, 3, 5):
        shares = [
            list(Shares(Batches(range(1, 12), 4, seed=3), Process(r, count))) for r in range(count)
        ]
        for n, rows in enumerate(batches):
            sums = [sum(w * losses[row] for row, w in share[n]) for share in shares]
            assert sum(sums) / count == pytest.approx(losses[rows].mean())
            counted = [row for share in shares for row, weight in share[n] if weight]
            assert sorted(counted) == sorted(rows)


def test_the_loss_of_each_row():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=draw, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1, 0])
    exponentials = logits.numpy()
    import numpy as np

    written = np.log(np.exp(exponentials).sum(-1)) - exponentials[np.arange(5), labels.numpy()]
    torch.testing.assert_close(cross_entropy(logits, labels), torch.from_numpy(written))
    assert cross_entropy(logits.bfloat16(), labels).dtype == torch.float32


@pytest.mark.parametrize(
    ("environment", "process"),
    [
        ({}, Process()),
        ({"WORLD_SIZE": "1", "RANK": "0"}, Process()),
        ({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}, Process(3, 4, 1)),
        ({"WORLD_SIZE": "4", "RANK": "3"}, Process(3, 4, 3)),
        ({"WORLD_SIZE": "many", "RANK": "3"}, Process()),
    ],
)
def test_which_process_this_is(environment, process, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert this_process() == process


@pytest.mark.parametrize(
    ("rank", "local", "out", "err"),
    [
        (0, 0, "tenslora 0.1.0\n", "error: E802: there is no command 'versoin'"),
        (1, 1, "", ""),
        (8, 0, "", "error in process 8: E802: there is no command 'versoin'"),
    ],
)
def test_one_process_of_a_machine_speaks(rank, local, out, err, monkeypatch, capsys):
    for name, value in (("RANK", rank), ("WORLD_SIZE", 16), ("LOCAL_RANK", local)):
        monkeypatch.setenv(name, str(value))
    assert (main(["version"]), main(["versoin"])) == (0, 2)
    printed = capsys.readouterr()
    assert printed.out == out
    assert printed.err.startswith(err)
    assert bool(printed.err) == bool(err)


def test_a_warning_is_shown_by_the_leader_alone(monkeypatch, capsys):
    words = ["cost", "lora", "layer=1", "proj=1", "out=2", "in=2", "rank=4"]
    for rank, shown in (("0", True), ("1", False)):
        for name, value in (("RANK", rank), ("WORLD_SIZE", "2"), ("LOCAL_RANK", rank)):
            monkeypatch.setenv(name, value)
        assert main(words) == 0
        assert ("warning: W201" in capsys.readouterr().err) == shown


def test_an_error_that_is_no_mistake_is_told_by_every_process(monkeypatch, capsys):
    from tenslora import integrations

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setitem(vars(integrations), "finetune", full)
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert main(["finetune"]) == 2
    assert capsys.readouterr().err.startswith("error in process 1: E808: the memory is not enough")


def test_the_command_under_a_launcher(two):
    _, found, ended = two
    assert [rank["command"] for rank in found] == [0, 0]
    report = json.loads(ended.stdout)  # one object: the leader's
    assert report["runs"][0]["processes"] == 2
    assert report["config"]["shard"] is True
    assert ended.stderr.count("8 rows to train on") == 1
