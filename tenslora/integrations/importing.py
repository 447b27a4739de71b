"""A folder of PEFT as an adapter's file, without the weights of its base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from tenslora.errors import DataError, StateError
from tenslora.integrations.exporting import load_on_base
from tenslora.integrations.transformers import labels_of, quiet
from tenslora.nn.lora import load_lora
from tenslora.nn.lorafile import read_config, read_tensors
from tenslora.nn.standin import load_alone
from tenslora.nn.tunerfile import is_tuned

__all__ = ["Imported", "import_lora"]

#: transformers' loaders by PEFT's task types.
_TASKS = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Imported:
    """What :func:`import_lora` wrote.

    Attributes
    ----------
    path : the file.
    model : the class of the base.
    sites, parameters : weights that it covers, and its numbers.
    train : modules that were trained whole, and are in the file too.
    family : what the adapter is.

    Examples
    --------
    >>> from pathlib import Path
    >>> made = Imported(Path("adapter.safetensors"), "BertModel", 24, 294912)
    >>> print(made)
    a LoRA of 24 weights of BertModel, 294,912 numbers, in adapter.safetensors
    """

    path: Path
    model: str
    sites: int
    parameters: int
    train: tuple[str, ...] = ()
    family: str = "lora"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**vars(self), "path": str(self.path), "train": list(self.train)}

    def __str__(self) -> str:
        more = f" and {', '.join(self.train)}" if self.train else ""
        what = "a LoRA" if self.family == "lora" else self.family
        return (
            f"{what} of {self.sites} weights of {self.model}{more}, {self.parameters:,} numbers, "
            f"in {self.path}"
        )


def import_lora(source: str | Path, out: str | Path, *, model: str | None = None) -> Imported:
    """Write a folder of PEFT as an adapter's file, bit for bit.

    A plain LoRA becomes an adapter of the family ``lora``; of its base the configuration is read,
    not the weights. An adapter that PEFT trained with :class:`tenslora.TensLoraConfig` stays of its
    family and needs no base, but where it starts from the weights and its frozen cores were not
    saved: then give the base as ``model``. :func:`tenslora.load` puts the file on the base, and
    everything that an adapter does can be done with it.

    Parameters
    ----------
    source : the folder that PEFT wrote.
    out : a file whose name ends in ``.safetensors``, or a folder for ``adapter.safetensors``.
    model : a folder or hub id of the base; by default what the checkpoint says.

    Raises
    ------
    StateError
        As :func:`tenslora.load_lora` says; E612 without frozen cores that follow from the weights;
        E616 where the file is there already.
    DataError
        E707 where the base's configuration cannot be loaded, or names no class of transformers.

    Examples
    --------
    >>> import tempfile, transformers, tenslora as tl
    >>> tiny = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> config = transformers.BertConfig(**tiny, intermediate_size=8, vocab_size=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     transformers.BertModel(config).save_pretrained(f"{folder}/base")
    ...     base = transformers.BertModel.from_pretrained(f"{folder}/base")
    ...     adapter = tl.attach(base, "lora", targets=["query", "value"], ranks=8)
    ...     _ = adapter.export_lora(f"{folder}/lora")  # or what PEFT wrote
    ...     made = import_lora(f"{folder}/lora", f"{folder}/out")
    >>> made.model, made.sites, made.parameters
    ('BertModel', 4, 512)
    """
    folder, path = Path(source), Path(out)
    path = path if path.suffix == ".safetensors" else path / "adapter.safetensors"
    if path.exists():
        what = f"{path} is there already"
        raise StateError("E616", what, advice="Give a new file or folder.")
    if not is_tuned(folder):
        adapter = load_lora(_base(folder, model), folder)
    elif model is None:
        adapter = load_alone(folder)
    else:
        adapter = load_on_base(folder, model)
    adapter.save(path) if path.parent.is_dir() else _save_in_new(adapter, path)
    return Imported(
        path,
        type(adapter.model).__name__,
        len(adapter.sites),
        adapter.trainable_parameters,
        adapter.design.train,
        adapter.design.label,
    )


def _save_in_new(adapter: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True)
    except OSError as error:
        what = f"{path.parent} cannot be made: {error.strerror or error}"
        raise StateError("E616", what, advice="Give a folder that can be written.") from error
    adapter.save(path)


def _base(folder: Path, model: str | None) -> nn.Module:
    """The base without weights; modules that the checkpoint holds whole have room for them."""
    config = read_config(folder)
    where = config.get("base_model_name_or_path") if model is None else model
    if not isinstance(where, str) or not where:
        what = f"{folder} does not say which model it was made on"
        raise DataError("E707", what, advice="Name the base with --model.")
    saved = config.get("modules_to_save") or ()
    labels = labels_of(read_tensors(folder, _PREFIX))
    with quiet():
        try:
            settings = transformers.AutoConfig.from_pretrained(
                where, local_files_only=Path(where).is_dir(), **labels
            )
            with torch.device("meta"):
                made = _make(settings, config.get("task_type"))
        except (OSError, ValueError, RuntimeError, AttributeError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            what = f"the configuration of the base {where} cannot be loaded: {first}"
            raise DataError("E707", what, advice="Name a folder or hub id: --model.") from error
    dtype = getattr(torch, str(settings.dtype).removeprefix("torch."), None)
    if isinstance(dtype, torch.dtype):  # as from_pretrained loads it
        made.to(dtype)
    kept: Any = made.config
    kept._name_or_path = where
    for name, module in made.named_modules():
        if name and any(name.endswith(ending) for ending in saved if isinstance(ending, str)):
            module.to_empty(device="cpu")
    return made


def _make(settings: Any, task: Any) -> nn.Module:
    if task in _TASKS:
        return getattr(transformers, _TASKS[task]).from_config(settings)  # type: ignore[no-any-return]
    name = (getattr(settings, "architectures", None) or [None])[0]
    kind = getattr(transformers, str(name), None)
    if kind is None:
        raise ValueError(f"it has architectures={name!r}, no class of transformers")
    return kind(settings)  # type: ignore[no-any-return]
