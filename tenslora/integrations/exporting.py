"""An adapter's update inside the weights of its base: a model like any other, in a new folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from tenslora.errors import DataError
from tenslora.integrations.transformers import labels_of, quiet
from tenslora.nn import Adapter, load
from tenslora.nn.files import check_new
from tenslora.nn.record import Record
from tenslora.nn.standin import adapter_file
from tenslora.nn.state import read_file
from tenslora.nn.tunerfile import attach_tuned, read_tuner

__all__ = ["Merged", "export_merged", "load_on_base"]

#: Files beside the weights that a model is used with.
_BESIDE = (
    "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json",
    "*.model", "*processor_config.json", "chat_template*", "generation_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class Merged:
    """What :func:`export_merged` wrote: the folder, the model's class, and how many weights.

    Examples
    --------
    >>> from pathlib import Path
    >>> made = Merged(Path("merged"), "BertForSequenceClassification", 36)
    >>> print(made)
    BertForSequenceClassification with 36 merged weights in merged
    >>> made.to_dict()
    {'path': 'merged', 'model': 'BertForSequenceClassification', 'modules': 36}
    """

    path: Path
    model: str
    modules: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**vars(self), "path": str(self.path)}

    def __str__(self) -> str:
        return f"{self.model} with {self.modules} merged weights in {self.path}"


def export_merged(adapter: str | Path, out: str | Path, *, model: str | None = None) -> Merged:
    """Load the base of a checkpoint, merge the update into its weights, and save the model.

    Parameters
    ----------
    adapter : a file that :meth:`tenslora.Adapter.save` wrote, or the folder of a run that holds it;
        or a folder that PEFT wrote of an adapter of :class:`tenslora.TensLoraConfig`.
    out : a folder that is not there yet, or is empty.
    model : a folder or hub id of the base; by default what the checkpoint says.

    Raises
    ------
    DataError
        E707 where the base cannot be loaded.
    StateError, AttachError
        As :func:`tenslora.load` and :meth:`tenslora.Adapter.merge` say; E611 for a folder of
        another method of PEFT; E616 where ``out`` holds something.

    Examples
    --------
    >>> import tempfile, transformers, tenslora as tl
    >>> tiny = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> config = transformers.BertConfig(**tiny, intermediate_size=8, vocab_size=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     transformers.BertModel(config).save_pretrained(f"{folder}/base")
    ...     base = transformers.BertModel.from_pretrained(f"{folder}/base")
    ...     adapter = tl.attach(base, "lora", targets=["query", "value"], ranks=2)
    ...     adapter.save(f"{folder}/adapter.safetensors")
    ...     made = export_merged(f"{folder}/adapter.safetensors", f"{folder}/merged")
    >>> made.model, made.modules
    ('BertModel', 4)
    """
    folder = Path(out)
    check_new(folder)
    held = load_on_base(Path(adapter), model)
    base: Any = held.model
    where = Path(base.config._name_or_path)
    held.merge(reversible=False)
    paths = {site.path for site in held.sites}
    held.detach(keep=True)
    with quiet():
        base.save_pretrained(folder)
    if where.is_dir():
        for pattern in _BESIDE:
            for file in where.glob(pattern):
                if not (folder / file.name).exists():
                    shutil.copyfile(file, folder / file.name)
    return Merged(folder, type(base).__name__, len(paths))


def load_on_base(adapter: Path, model: str | None = None) -> Adapter:
    """Load the base that a checkpoint names, and attach the adapter; see :func:`export_merged`."""
    file = adapter_file(adapter)
    if file is not None:
        record, trained = read_file(file)
        return load(_base(record, trained, adapter, model), file)
    found = read_tuner(adapter)
    return attach_tuned(_base(found.record, found.others, adapter, model), found)


def _base(record: Record, trained: Mapping[str, Tensor], adapter: Path, model: str | None) -> Any:
    """The base; a head that was trained for another number of classes has room in it."""
    where = record.model["name"] if model is None else model
    kind = getattr(transformers, record.model["class"], None)
    if not where or kind is None or not hasattr(kind, "from_pretrained"):
        what = f"{adapter} was made on a {record.model['class']} without a name that can be loaded"
        advice = "Name the base with --model; a class of your own is merged in Python."
        raise DataError("E707", what, advice=advice)
    dtypes = {str(weight["dtype"]) for weight in record.base.values()}
    dtype = getattr(torch, dtypes.pop(), "auto") if len(dtypes) == 1 else "auto"
    with quiet():
        try:
            made, told = kind.from_pretrained(
                where,
                dtype=dtype,
                local_files_only=Path(where).is_dir(),
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **labels_of(trained),
            )
        except (OSError, ValueError, RuntimeError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            what = f"the base {where} cannot be loaded: {first}"
            raise DataError("E707", what, advice="Name a folder or hub id: --model.") from error
    odd = sorted(name for name, *_ in told["mismatched_keys"] if name not in trained)
    if odd:
        what = f"the base {where} cannot be loaded: {odd[0]} has another shape than its settings"
        raise DataError("E707", what, advice="Copy it again, or name another: --model.")
    return made
