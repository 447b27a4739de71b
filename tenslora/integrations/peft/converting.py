"""A checkpoint of the tuner, from one place of the bank to the other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_bytes

from tenslora.errors import StateError
from tenslora.nn.files import write_new
from tenslora.nn.lorafile import read_config, read_tensors
from tenslora.nn.tunerfile import HOUSES, ROOT, core_names, record_of

__all__ = ["Converted", "convert_bank"]


@dataclass(frozen=True)
class Converted:
    """What :func:`convert_bank` wrote: the folder, where the bank stands there, and its tensors.

    Examples
    --------
    >>> from pathlib import Path
    >>> print(Converted(Path("adapter"), "first_layer", 2))
    2 tensors in adapter, with bank='first_layer'
    >>> Converted(Path("adapter"), "tuner", 2).to_dict()
    {'path': 'adapter', 'bank': 'tuner', 'tensors': 2}
    """

    path: Path
    bank: str
    tensors: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**vars(self), "path": str(self.path)}

    def __str__(self) -> str:
        return f"{self.tensors} tensors in {self.path}, with bank={self.bank!r}"


def convert_bank(path: str | Path, out: str | Path, *, to: str) -> Converted:
    """Write a PEFT checkpoint of this method anew, with its cores in the other place.

    The numbers are the same, bit for bit; names in ``adapter_model.safetensors`` change, and
    ``bank`` in ``adapter_config.json``. No base model is needed.

    Parameters
    ----------
    path : a folder that ``save_pretrained`` wrote.
    out : a folder that is not there yet, or is empty.
    to : ``"first_layer"``, for ``model.load_adapter`` of transformers, or ``"tuner"``, for
        ``PeftModel`` under FSDP. Where it is so already, a copy is written.

    Raises
    ------
    StateError
        E610 to E614 for a checkpoint that is broken or of another method, E612 for one without the
        cores that its site map tells of, E616 where ``out`` cannot be written.
    ValueError
        ``to`` is another word.

    Examples
    --------
    >>> import tempfile, peft, torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    >>> config = tl.TensLoraConfig(family="lora", ranks=2, target_modules=["0", "1"])
    >>> model = peft.get_peft_model(model, config)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save_pretrained(f"{folder}/tuner")
    ...     made = convert_bank(f"{folder}/tuner", f"{folder}/layer", to="first_layer")
    >>> made.bank, made.tensors
    ('first_layer', 2)
    """
    if to not in HOUSES:
        raise ValueError(f"to={to!r} is none of {', '.join(HOUSES)}")
    folder = Path(path)
    config = read_config(folder)
    record = record_of(folder, config)
    tensors = read_tensors(folder, ROOT)
    houses = config.get("bank", HOUSES[0]), to
    old, new = (core_names(folder, config, record, house) for house in houses)
    missing = [name for name in old.values() if name not in tensors]
    if missing:
        what = f"{folder} has no tensor {ROOT}{missing[0]}, which its site map tells of"
        raise StateError("E612", what, advice="It was changed: save the adapter again.")
    names = {name: new[core] for core, name in old.items()}
    moved = {ROOT + names.get(name, name): tensor for name, tensor in tensors.items()}
    written = {**config, "bank": to}
    files = {
        "adapter_model.safetensors": to_bytes(moved, {"format": "pt"}),
        "adapter_config.json": (json.dumps(written, indent=2, sort_keys=True) + "\n").encode(),
    }
    write_new(Path(out), files)
    return Converted(Path(out), to, len(moved))
