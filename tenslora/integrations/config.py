"""The settings of a fine-tuning run and of a comparison, as plain dataclasses.

Every field carries metadata from which a command line makes its option: ``help``; ``type`` (of one
value: str, int, float or bool); ``many`` (a tuple: the option takes several values); ``pairs`` (a
dict: the option takes ``name=value``); ``choices``; ``metavar``. Nothing heavy is imported here.

>>> from dataclasses import fields
>>> {f.name: f.metadata["help"] for f in fields(FinetuneConfig)}["batch_size"]
'rows in a training batch'
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from tenslora.errors import DataError
from tenslora.family import Family, Wrapped, resolve
from tenslora.integrations.configtext import as_json, command_line
from tenslora.plan import find_profile

__all__ = [
    "HEAD",
    "METRICS",
    "CompareConfig",
    "FinetuneConfig",
    "TrainingConfig",
    "parse_family",
]

#: The word that stands where a family's name may stand: train the head alone.
HEAD = "head"
METRICS = ("auto", "accuracy", "f1", "matthews")
_KEEP = ("last", "best")
_SCHEDULES = ("cosine", "linear", "constant")


def _option(default: Any, help: str, type: type, **more: Any) -> Any:  # noqa: A002
    metadata = {"help": help, "type": type, **more}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What a fine-tuning run and a comparison have in common.

    Raises
    ------
    DataError
        E709 for a value out of range, when it is made.
    PlanError
        E412 for a machine that is not known.

    Examples
    --------
    >>> config = FinetuneConfig(epochs=1, batch_size=8, lr=2e-3, seeds=(0, 1))
    >>> isinstance(config, TrainingConfig), config.schedule, config.seeds
    (True, 'cosine', (0, 1))
    >>> config.to_dict()["lr"]
    0.002
    """

    model: str = _option(
        "minilm", "a local folder, a hub id, or minilm (all-MiniLM-L6-v2 from PyPI)", str
    )
    text: tuple[str, ...] = _option(
        (), "the text column, or the two of a pair (found by name otherwise)", str, many=True
    )
    label: str = _option("", "the label column (found by name otherwise)", str)
    metric: str = _option(
        "auto", "the score: auto takes the task's own, else accuracy", str, choices=METRICS
    )
    targets: tuple[str, ...] = _option(
        (), "endings of module names (query, key and value otherwise)", str, many=True
    )
    train: tuple[str, ...] = _option(
        (), "modules trained whole beside the adapter (the classifier otherwise)", str, many=True
    )
    alpha: float | None = _option(None, "the numerator of the family's scale rule", float)
    dropout: float | None = _option(None, "dropout of the adapter's input", float)
    epochs: int = _option(3, "passes over the training split", int)
    batch_size: int = _option(32, "rows in a training batch", int)
    lr: float = _option(1e-3, "the highest learning rate", float)
    head_lr: float | None = _option(
        None, "the highest learning rate of the head, where it is another", float
    )
    schedule: str = _option(
        "cosine", "the learning rate after the warm-up", str, choices=_SCHEDULES
    )
    warmup: float = _option(0.1, "the fraction of all steps in which the rate rises", float)
    weight_decay: float = _option(0.0, "weight decay of AdamW", float)
    max_length: int = _option(128, "tokens at which a text is cut", int)
    max_rows: int | None = _option(None, "use this many rows of each split at most", int)
    profile: str = _option(
        "cpu", "the machine to plan for: cpu, h200-bf16, or a file of tenslora tune", str
    )
    bf16: bool = _option(False, "compute in bfloat16 where it is safe (autocast)", bool)
    recompute: bool = _option(
        False, "keep next to nothing of the adapter for backward; some more time", bool
    )
    seeds: tuple[int, ...] = _option((0,), "one run for each seed", int, many=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a JSON object; a family made by hand with all that it is."""
        return {f.name: as_json(getattr(self, f.name)) for f in fields(self)}

    def command(self) -> str:
        """Return the command line that has these settings.

        >>> CompareConfig(families=("lotr",), like="lora:8", head=False).command()
        'tenslora compare --families lotr --like lora:8 --no-head'
        """
        return command_line(self)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "max_length"):
            _check(name, getattr(self, name), int, 1)
        if self.max_rows is not None:
            _check("max_rows", self.max_rows, int, 2)
        _check("lr", self.lr, float, 0.0, open_low=True)
        if self.head_lr is not None:
            _check("head_lr", self.head_lr, float, 0.0, open_low=True)
        _check("warmup", self.warmup, float, 0.0, 1.0)
        _check("weight_decay", self.weight_decay, float, 0.0)
        find_profile(self.profile)
        _choose("schedule", self.schedule, _SCHEDULES)
        _choose("metric", self.metric, METRICS)
        if not self.seeds or any(
            isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in self.seeds
        ):
            what = f"seeds={self.seeds!r} are not non-negative integers"
            raise DataError("E709", what, advice="Write seeds 0 1 2.")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainingConfig):
    """The settings of :func:`tenslora.integrations.finetune`.

    >>> FinetuneConfig(epochs=0)
    Traceback (most recent call last):
    tenslora.errors.DataError: E709: epochs=0 is out of range
      It has to be an integer of at least 1.
    """

    data: str = _option(
        "topics",
        "a hub id, TSV or CSV file, .npz, folder of images, folder with train.tsv and dev.tsv, "
        "or topics (questions from PyPI's chatterbot-corpus)",
        str,
    )
    family: str | Family | Wrapped = _option(  # noqa: RUF009
        "lora",
        "a family's name or an equation, either in a wrapper too, as in 'dora(lora)'; or head for "
        "the classifier alone",
        str,
    )
    ranks: str | int | dict[str, int] | None = _option(  # noqa: RUF009
        None, "one rank for every bond, or bond=rank for each", str, pairs=True
    )
    like: str | Family | None = _option(None, "as many parameters as a family, such as lora:8", str)  # noqa: RUF009
    params: int | None = _option(None, "trained parameters of the adapter at most", int)
    sizes: dict[str, int] = _option(  # noqa: RUF009
        {},
        "sizes that the model does not tell, as index=size: experts, parts of a group",
        int,
        pairs=True,
    )
    keep: str = _option(
        "last", "save the values after the last epoch, or after the best", str, choices=_KEEP
    )
    checkpoints: bool = _option(
        False, "keep the state of training in the folder after each epoch", bool
    )
    resume: bool = _option(
        False, "go on after the last epoch whose state is in the folder, and keep states", bool
    )
    shard: bool = _option(
        False, "cut the model into parts over the processes of a launcher (FSDP2)", bool
    )
    out: str = _option("tenslora-finetune", "the folder for adapter, report and picture", str)

    def __post_init__(self) -> None:
        super().__post_init__()
        _choose("keep", self.keep, _KEEP)


@dataclass(frozen=True, kw_only=True)
class CompareConfig(TrainingConfig):
    """The settings of :func:`~tenslora.integrations.comparing.compare`.

    ``like`` (equal parameters) or ``ranks`` (equal rank) says what the families have in common. The
    family of ``like``, or LoRA at that rank, is the first row of the table.

    Examples
    --------
    >>> config = CompareConfig(families=("lotr", "lorta"), like="lora:8", seeds=(0, 1), epochs=2)
    >>> config.families, config.like, config.head
    (('lotr', 'lorta'), 'lora:8', True)
    >>> CompareConfig(like="lora:8", ranks=4)
    Traceback (most recent call last):
        ...
    tenslora.errors.DataError: E709: like and ranks are both given
      Give like (equal parameters) or ranks (equal rank).
    """

    data: tuple[str, ...] = _option(
        ("topics",), "one or more tasks, as in finetune", str, many=True
    )
    families: tuple[str | Family | Wrapped, ...] = _option(
        ("tenslora.att", "tenslora.qkv_depth", "tenslora.att_qkv_depth"),
        "names or equations, with ranks of their own as in lora:4, or in a wrapper: 'dora(lora:4)'",
        str,
        many=True,
    )
    like: str | Family | None = _option(  # noqa: RUF009
        None, "equal parameters: as many as this family (lora:8)", str
    )
    ranks: int | None = _option(None, "equal rank: this one for every bond", int)
    epochs_of: dict[str, int] = _option(  # noqa: RUF009
        {}, "epochs of single tasks, as task=epochs", int, pairs=True
    )
    lrs: dict[str, float] = _option(  # noqa: RUF009
        {}, "learning rates of single families, as family=rate", float, pairs=True
    )
    head: bool = _option(True, "also train the head alone", bool)
    jobs: int = _option(1, "runs at a time, each in a process of its own", int)
    threads: int = _option(1, "threads of each run", int)
    save: bool = _option(False, "also keep the adapter of each run", bool)
    out: str = _option("tenslora-compare", "the folder for runs, table and picture", str)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("jobs", self.jobs, int, 1)
        _check("threads", self.threads, int, 1)
        if self.ranks is not None:
            _check("ranks", self.ranks, int, 1)
        if self.like is not None and self.ranks is not None:
            advice = "Give like (equal parameters) or ranks (equal rank)."
            raise DataError("E709", "like and ranks are both given", advice=advice)
        for name, rate in self.lrs.items():
            _check(f"lr of {name}", rate, float, 0.0, open_low=True)
        for name, epochs in self.epochs_of.items():
            _check(f"epochs of {name}", epochs, int, 1)
        if not self.data:
            raise DataError("E709", "no task is named", advice="Give one or more in data.")


def _check(
    name: str, value: Any, kind: type, low: float, high: float = math.inf, open_low: bool = False
) -> None:
    fits = isinstance(value, int) or (kind is float and isinstance(value, float))
    if fits and not isinstance(value, bool) and math.isfinite(value):
        inside = low < value <= high or (value == low and not open_low)
        if inside:
            return
    noun = "an integer" if kind is int else "a number"
    limits = f"above {low:g}" if open_low else f"of at least {low:g}"
    limits += f" and at most {high:g}" if math.isfinite(high) else ""
    raise DataError(
        "E709", f"{name}={value!r} is out of range", advice=f"It has to be {noun} {limits}."
    )


def _choose(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        what = f"{name}={value!r} is unknown"
        raise DataError("E709", what, advice=f"Choose one of {', '.join(choices)}.")


def parse_family(text: str | Family) -> tuple[Family, bool]:
    """Read ``name``, ``name:8`` or ``name:r=8``; an equation may stand for the name.

    Returns the family, with its ranks as defaults, and whether ranks were given.

    >>> family, given = parse_family("W[out in] = B[out r] A[r in] :4")
    >>> dict(family.ranks), given
    ({'r': 4}, True)

    Raises
    ------
    TensloraError
        An unknown name, an equation that is not well formed, or ranks that it does not have.
    """
    found = resolve(text)
    return found, bool(found.ranks)
