"""How numbers, tables and pictures are set."""

from __future__ import annotations

import pytest

from tenslora.errors import DataError
from tenslora.integrations import report, stamp
from tenslora.integrations.progress import Progress


def test_scores():
    assert [report.score(x) for x in (0.0, 1.0, -1.0, 0.9999, 0.5, -0.25)] == [
        ".000",
        "1.000",
        "-1.000",
        "1.000",
        ".500",
        "-.250",
    ]


def test_a_long_name_is_cut():
    table = report.table([["", "score"], ["W[" + "x" * 60, "1"]])
    assert table.splitlines()[1].startswith("W[xxx")
    assert "... " in table


def test_the_stamp_names_no_host():
    pytest.importorskip("torch", reason="needs the torch extra")
    import platform

    found = stamp.machine()
    assert set(found) == {"system", "processor", "cores", "threads", "gpu"}
    assert platform.node() not in str(found) or not platform.node()
    assert stamp.versions()["tenslora"]
    assert stamp.peak_memory() >= stamp.memory() // 2 > 0
    assert stamp.peak_memory(2**50) == 2**50


def test_progress_without_a_listener_says_nothing(capsys):
    progress = Progress(None)
    progress.say("a")
    progress.show(1, 2)
    progress.close()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_picture_that_cannot_be_written(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the plot extra")
    from tenslora.integrations.pictures import draw_curves
    from tenslora.integrations.runs import Run

    entry = {"epoch": 1, "loss": 0.5, "eval_loss": 0.4, "score": 0.7}
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"E711: .* cannot be written"):
        draw_curves([Run("t", "m", 0, "accuracy", history=[entry])], tmp_path / "file" / "c.png")


def test_pictures_leave_matplotlibs_state_alone(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the plot extra")
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tenslora.integrations.pictures import draw_curves\n"
        "from tenslora.integrations.runs import Run\n"
        "e = {'epoch': 1, 'loss': 0.5, 'eval_loss': 0.4, 'score': 0.7}\n"
        "run = Run('t', 'm', 0, 'accuracy', history=[e])\n"
        f"draw_curves([run], Path({str(tmp_path)!r}, 'c.png'))\n"
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout == "False False\n"
