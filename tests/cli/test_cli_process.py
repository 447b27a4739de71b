"""The command as a process: how it starts, what it imports, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import tenslora
from tenslora.cli import app

HEAVY = ("torch", "transformers", "jax", "tensorly", "matplotlib", "datasets")
BERT = ["layer=12", "proj=3", "in=768", "head=12", "head_dim=64", "rank=2"]


def process(*command: str, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    environment.update(options.pop("env", {}))
    words = [sys.executable, *command]
    return subprocess.run(words, capture_output=True, text=True, env=environment, **options)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["families"],
        ["show", "lora"],
        ["cost", "lora", "layer=2", "proj=3", "out=8", "in=8", "r=2"],
        ["finetune", "--help"],
        ["version"],
        ["plann"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_starts_without_heavy_libraries(words):
    code = (
        "import sys; from tenslora.cli import main; code = main(sys.argv[1:]);"
        f"print('brought', [m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    assert process("-c", code, *words).stderr.endswith("brought []\n")


def test_python_m_tenslora_is_the_command():
    done = process("-m", "tenslora", "cost", "tenslora.att_qkv_depth", *BERT, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["ranks"] == dict.fromkeys("abcde", 2)


def test_exit_codes_reach_the_shell():
    done = process("-m", "tenslora", "show", "lroa")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise on Windows")
def test_a_reader_that_has_gone_is_no_noise():
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "tenslora", "families"]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_without_box_characters():
    words = ["cost", "W[out in] = B[out r] A[r in]", "out=4", "in=4", "r=2"]
    done = process("-m", "tenslora", *words, env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "16 trained" in done.stdout


@pytest.mark.parametrize("command", ["finetune", "compare", "demo"])
def test_a_missing_library_is_named_with_the_extra_that_brings_it(command, tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None;"
        "from tenslora.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = process("-c", code, command, "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("error: E")
    assert 'pip install "tenslora[' in done.stderr
    assert not (tmp_path / "out").exists()


def test_version_and_info(cli):
    assert cli("--version").out == f"tenslora {tenslora.__version__}\n" == cli("version").out
    expected = {"name": "tenslora", "version": tenslora.__version__}
    assert cli("--version", "--json").data == expected == cli("version", "--json").data


def test_info_tells_versions_device_and_extras(cli):
    data = cli("info", "--json").data
    assert data["tenslora"] == tenslora.__version__
    assert data["python"] == ".".join(map(str, sys.version_info[:3]))
    assert data["packages"].keys() >= {"numpy", "torch", "transformers", "jax"}
    assert data["extras"].keys() >= {"torch", "hf", "jax", "demo"}
    for state in data["extras"].values():
        assert state["complete"] == (not state["missing"])
    assert data["device"] in (None, "cpu", "cuda", "mps")
    text = cli("info").out
    assert tenslora.__version__ in text
    assert "numpy" in text


def test_info_without_torch_says_that_it_is_absent(cli, monkeypatch):
    from tenslora.cli import about

    def absent(name):
        raise about.PackageNotFoundError(name)

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(about, "version", absent)
    data = cli("info", "--json").data
    assert (data["device"], data["threads"], data["packages"]["torch"]) == (None, None, None)
    assert "torch" in data["extras"]["hf"]["missing"]
    assert 'pip install "tenslora[hf]"' in cli("info").out


def test_help_names_every_command_and_goes_to_stdout(cli):
    outcome = cli("--help")
    assert (outcome.code, outcome.err) == (0, "")
    for name in app._COMMANDS:
        assert f"\n  {name} " in outcome.out
        helped = cli(name, "--help")
        assert (helped.code, helped.err) == (0, "")
        assert "--json" in helped.out
        assert "--debug" in helped.out
