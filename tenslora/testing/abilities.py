"""What an adapter can do on each architecture of the table, found by doing it.

The tests run :func:`outcomes` over every architecture and compare with what is kept in
``tests/testing/works.json``; the page of the documentation is made from that file. To write it::

    python -m tenslora.testing.abilities tests/testing/works.json
"""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tenslora
from tenslora.errors import RedundantRankWarning, TensloraError
from tenslora.testing.architectures import ARCHITECTURES, Architecture
from tenslora.testing.bench import LORA, Bench
from tenslora.testing.spreading import WAYS, spread_outcomes

__all__ = ["ABILITIES", "outcomes", "table"]

_HEADS = (
    "W[layer proj (head head_dim) in] = "
    "U[in a] V[head_dim b] H[head c] P[proj d] D[layer e] G[a b c d e]"
)


def _equal(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def _differ(found: Tensor, other: Tensor) -> None:
    if torch.allclose(found, other, atol=1e-7):
        raise AssertionError("the adapter changes nothing")


def _every_layer(bench: Bench, folder: Path) -> None:
    before = bench.run()
    bench.attach(targets="all-linear")
    _differ(bench.run(), before)


def _heads(bench: Bench, folder: Path) -> None:
    before = bench.run()
    bench.attach(_HEADS)
    _differ(bench.run(), before)


def _train(bench: Bench, folder: Path) -> None:
    adapter = bench.attach()
    weights = torch.arange(bench.run().numel(), dtype=torch.float64).cos()

    def measure() -> Tensor:
        return bench.run().flatten() @ weights

    loss = measure()
    loss.backward()
    steep = sum(float(p.grad.square().sum()) for p in adapter.parameters() if p.grad is not None)
    torch.optim.SGD(adapter.parameters(), lr=1e-6 * abs(loss.item()) / steep).step()
    if not bool(measure() < loss):
        raise AssertionError("a step down the gradient goes up")


def _merge(bench: Bench, folder: Path) -> None:
    before = {key: value.clone() for key, value in bench.model.state_dict().items()}
    adapter = bench.attach()
    output = bench.run()
    adapter.merge()
    _equal(bench.run(), output)
    adapter.unmerge()
    adapter.detach()
    after = bench.model.state_dict()
    if before.keys() != after.keys() or not all(
        torch.equal(v, after[k]) for k, v in before.items()
    ):
        raise AssertionError("the weights are not what they were")


def _save(bench: Bench, folder: Path) -> None:
    base = copy.deepcopy(bench.model)
    bench.attach().save(folder / "a.safetensors")
    tenslora.load(base, folder / "a.safetensors")
    if not torch.equal(bench.run(base), bench.run()):
        raise AssertionError("what was loaded is not what was saved")


def _export(bench: Bench, folder: Path) -> None:
    import peft

    base = copy.deepcopy(bench.model)
    bench.attach("W[layer proj out in] = B[layer proj out r] A[layer r in]").export_lora(
        folder / "lora", rank=None
    )
    theirs: Any = peft.PeftModel.from_pretrained(base, folder / "lora")
    _equal(bench.run(theirs.base_model.model.eval()), bench.run())


def _read(bench: Bench, folder: Path) -> None:
    base = copy.deepcopy(bench.model)
    bench.attach().export_lora(folder / "lora", rank=4)
    bench.model = base
    before = bench.run()
    tenslora.load_lora(base, folder / "lora")
    _differ(bench.run(), before)


def _peft(bench: Bench, folder: Path) -> None:
    import peft

    base, hand = copy.deepcopy(bench.model), copy.deepcopy(bench.model)
    targets = list(bench.architecture.attention)
    settings: dict[str, Any] = {"family": LORA, "ranks": 2, "target_modules": targets}
    config = tenslora.TensLoraConfig(**settings, init_weights=False)
    made: Any = peft.get_peft_model(bench.model, config).eval()
    before = bench.run(base)
    _differ(bench.run(made), before)
    adapter = tenslora.attach(hand, LORA, targets=list(bench.architecture.attention), ranks=2)
    there = made.base_model.shared.adapters["default"]
    with torch.no_grad():
        for name, bank in adapter.banks.items():
            for core, value in bank.cores().items():
                value.copy_(there[name].cores()[core])
    _equal(bench.run(hand), bench.run(made))
    made.save_pretrained(folder / "peft")
    _equal(
        bench.run(peft.PeftModel.from_pretrained(base, folder / "peft").double()), bench.run(made)
    )


#: What is tried, by the name of its column.
ABILITIES: dict[str, Callable[[Bench, Path], None]] = {
    "every linear layer": _every_layer,
    "by heads": _heads,
    "train": _train,
    "merge, unmerge": _merge,
    "save, load": _save,
    "export to LoRA": _export,
    "read a LoRA": _read,
    "PEFT tuner": _peft,
}


def outcomes(architecture: Architecture) -> dict[str, str]:
    """Try what one process does on an architecture: ``yes``, or the code of the error that is told.

    Raises
    ------
    ImportError
        Where transformers, timm or peft is not installed.
    """
    found = {}
    for name, ability in ABILITIES.items():
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", RedundantRankWarning)
            try:
                ability(Bench(architecture), Path(folder))
                found[name] = "yes"
            except TensloraError as error:
                found[name] = error.code
    return found


def table(kept: dict[str, dict[str, str]]) -> str:
    """Return the outcomes as a table in Markdown."""
    columns = (*ABILITIES, *WAYS)
    rows = [("architecture", "layout", *columns), ("---",) * (2 + len(columns))]
    layouts = {a.name: a.layout for a in ARCHITECTURES}
    for name, found in kept.items():
        rows.append((name, layouts[name], *(found[column] for column in columns)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def main(path: str) -> None:
    """Try everything on every architecture that is installed, and write the outcomes."""
    kept = json.loads(Path(path).read_text("utf-8")) if Path(path).exists() else {}
    timm = importlib.util.find_spec("timm") is not None
    there = [a for a in ARCHITECTURES if timm or a.name != "timm's ViT"]
    spread = spread_outcomes([architecture.name for architecture in there])
    for architecture in there:
        kept[architecture.name] = {**outcomes(architecture), **spread[architecture.name]}
    kept = {a.name: kept[a.name] for a in ARCHITECTURES if a.name in kept}
    Path(path).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
