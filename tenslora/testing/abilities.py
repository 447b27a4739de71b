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
from torch import Tensor, nn

import tenslora
from tenslora.errors import RedundantRankWarning, TensloraError
from tenslora.testing.architectures import ARCHITECTURES, Architecture

__all__ = ["ABILITIES", "outcomes", "table"]

_LORA = "W[layer proj out in] = B[layer proj out r] A[layer proj r in]"
_HEADS = (
    "W[layer proj (head head_dim) in] = "
    "U[in a] V[head_dim b] H[head c] P[proj d] D[layer e] G[a b c d e]"
)


class _Bench:
    """A model of an architecture, and its inputs; ``attach`` puts random numbers into all cores."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        with torch.random.fork_rng():
            self.model = architecture.make().double().eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                gain = parameter.ndim == 1 and name.endswith("weight")
                parameter.copy_(1 + 0.1 * drawn if gain else 0.2 * drawn)

    def run(self, model: nn.Module | None = None) -> Tensor:
        out = (self.model if model is None else model)(**self.architecture.inputs())
        return out if isinstance(out, Tensor) else out[0]  # type: ignore[no-any-return]

    def attach(self, equation: str = _LORA, **options: Any) -> tenslora.Adapter:
        targets = list(self.architecture.attention)
        settings = {"targets": targets, "ranks": 2, **options}
        adapter = tenslora.attach(self.model, equation, **settings)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in adapter.parameters():
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.5 * drawn)
        return adapter


def _equal(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def _differ(found: Tensor, other: Tensor) -> None:
    if torch.allclose(found, other, atol=1e-7):
        raise AssertionError("the adapter changes nothing")


def _every_layer(bench: _Bench, folder: Path) -> None:
    before = bench.run()
    bench.attach(targets="all-linear")
    _differ(bench.run(), before)


def _heads(bench: _Bench, folder: Path) -> None:
    before = bench.run()
    bench.attach(_HEADS)
    _differ(bench.run(), before)


def _train(bench: _Bench, folder: Path) -> None:
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


def _merge(bench: _Bench, folder: Path) -> None:
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


def _save(bench: _Bench, folder: Path) -> None:
    base = copy.deepcopy(bench.model)
    bench.attach().save(folder / "a.safetensors")
    tenslora.load(base, folder / "a.safetensors")
    if not torch.equal(bench.run(base), bench.run()):
        raise AssertionError("what was loaded is not what was saved")


def _export(bench: _Bench, folder: Path) -> None:
    import peft

    base = copy.deepcopy(bench.model)
    bench.attach("W[layer proj out in] = B[layer proj out r] A[layer r in]").export_lora(
        folder / "lora", rank=None
    )
    theirs: Any = peft.PeftModel.from_pretrained(base, folder / "lora")
    _equal(bench.run(theirs.base_model.model.eval()), bench.run())


def _read(bench: _Bench, folder: Path) -> None:
    base = copy.deepcopy(bench.model)
    bench.attach().export_lora(folder / "lora", rank=4)
    bench.model = base
    before = bench.run()
    tenslora.load_lora(base, folder / "lora")
    _differ(bench.run(), before)


def _peft(bench: _Bench, folder: Path) -> None:
    import peft

    base, hand = copy.deepcopy(bench.model), copy.deepcopy(bench.model)
    targets = list(bench.architecture.attention)
    settings: dict[str, Any] = {"family": _LORA, "ranks": 2, "target_modules": targets}
    config = tenslora.TensLoraConfig(**settings, init_weights=False)
    made: Any = peft.get_peft_model(bench.model, config).eval()
    before = bench.run(base)
    _differ(bench.run(made), before)
    adapter = tenslora.attach(hand, _LORA, targets=list(bench.architecture.attention), ranks=2)
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
ABILITIES: dict[str, Callable[[_Bench, Path], None]] = {
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
    """Try everything on one architecture: ``yes``, or the code of the error that tells why not.

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
                ability(_Bench(architecture), Path(folder))
                found[name] = "yes"
            except TensloraError as error:
                found[name] = error.code
    return found


def table(kept: dict[str, dict[str, str]]) -> str:
    """Return the outcomes as a table in Markdown."""
    rows = [("architecture", "layout", *ABILITIES), ("---",) * (2 + len(ABILITIES))]
    layouts = {a.name: a.layout for a in ARCHITECTURES}
    for name, found in kept.items():
        rows.append((name, layouts[name], *(found[ability] for ability in ABILITIES)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def main(path: str) -> None:
    """Try everything on every architecture that is installed, and write the outcomes."""
    kept = json.loads(Path(path).read_text("utf-8")) if Path(path).exists() else {}
    for architecture in ARCHITECTURES:
        if architecture.name == "timm's ViT" and importlib.util.find_spec("timm") is None:
            continue
        kept[architecture.name] = outcomes(architecture)
    kept = {a.name: kept[a.name] for a in ARCHITECTURES if a.name in kept}
    Path(path).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
