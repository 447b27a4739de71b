"""``python -m benchmarks handling``: what comes before and after training.

Import, planning, attaching (also to models of 7B and 70B on the meta device), saving, loading,
merging, and what is left of a merged adapter.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cases import MODELS, Case, every_rank, resolve, share
from benchmarks.results import save
from tenslora.integrations.stamp import memory

__all__ = ["import_times", "main"]

#: name -> layers, width, heads, heads of keys and values, width of the feed-forward part
_LLAMAS = {"Llama 7B": (32, 4096, 32, 32, 11008), "Llama 70B": (80, 8192, 64, 8, 28672)}

_FAMILIES = ("lora", "tenslora.att", "tenslora.att_qkv_depth", "tenslora_cp.att_qkv_depth")


def import_times(rounds: int) -> dict[str, Any]:
    """Milliseconds of ``import tenslora`` in fresh processes, and whether it brings torch along.

    Python's own start is not in it: the clock runs around the import alone. The package is compiled
    before, as an installation does it, whether or not this environment keeps compiled files.
    """
    code = (
        "import time; t = time.perf_counter(); p = time.process_time()\n"
        "import tenslora, sys\n"
        "print(time.perf_counter() - t, time.process_time() - p, 'torch' in sys.modules)"
    )
    wall, processor, torch_there = [], [], False
    command = [sys.executable, "-c", code]
    with tempfile.TemporaryDirectory() as compiled:
        keeps = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        keeps["PYTHONPYCACHEPREFIX"] = compiled
        for n in range(rounds + 1):
            out = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, check=True, env=keeps
            )
            if n == 0:
                continue
            a, b, there = out.stdout.split()
            wall.append(1e3 * float(a))
            processor.append(1e3 * float(b))
            torch_there = torch_there or there == "True"
    return {
        "what": "import tenslora",
        "milliseconds": statistics.median(processor),
        "wall": statistics.median(wall),
        "torch": torch_there,
    }


def _time(action: Callable[[], object], rounds: int, before: Callable[[], object]) -> float:
    """Median milliseconds of processor time."""
    found = []
    for _ in range(rounds):
        before()
        start = time.process_time()
        action()
        found.append(1e3 * (time.process_time() - start))
    return statistics.median(found)


def _forget_plans() -> None:
    """Plans and searches are kept from call to call: drop all that a process has remembered."""
    import functools
    import gc

    for found in gc.get_objects():
        if isinstance(found, functools._lru_cache_wrapper) and (
            getattr(found, "__module__", "") or ""
        ).startswith("tenslora"):
            found.cache_clear()


class _Attaching:
    """Attaches an adapter to a model, and takes it off again."""

    def __init__(self, model: Any, family: str, **options: Any) -> None:
        self.model, self.family, self.options = model, family, options
        self.held: list[Any] = []

    @property
    def adapter(self) -> Any:
        return self.held[-1]

    def attach(self) -> None:
        import tenslora as tl

        self.held.append(tl.attach(self.model, self.family, ranks=4, **self.options))

    def drop(self) -> None:
        while self.held:
            self.held.pop().detach()

    def fresh(self) -> None:
        """An adapter that was not merged yet, on the weights as they are."""
        while self.held:
            self.held.pop().detach(keep=True)
        self.attach()

    def merge_for_good(self) -> None:
        self.adapter.merge(reversible=False)

    def merged(self, wanted: bool) -> None:
        if self.adapter.merged != wanted:
            self.adapter.merge() if wanted else self.adapter.unmerge()


def _head_dim(family: str, size: int) -> dict[str, int]:
    return {"head_dim": size} if "head_dim" in resolve(family).network.indices else {}


def _planning(rounds: int) -> Iterator[dict[str, Any]]:
    """Attach to a Llama on the meta device, with everything to be planned anew."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    for name, (layers, width, heads, narrow, wide) in _LLAMAS.items():
        config = LlamaConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=narrow,
            intermediate_size=wide,
            vocab_size=128,
        )
        with torch.device("meta"):
            model = LlamaForCausalLM(config)
        for family in _FAMILIES:
            targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
            if family == "lora":
                targets += ["gate_proj", "up_proj", "down_proj"]
            sizes = _head_dim(family, width // heads)
            one = _Attaching(model, family, targets=targets, sizes=sizes)
            one.attach()  # brings in what is imported late
            _anew(one)
            before = memory()
            took = _time(one.attach, rounds, partial(_anew, one))
            yield {
                "what": "plan and attach",
                "model": name,
                "family": family,
                "sites": len(one.adapter.sites),
                "milliseconds": took,
                "megabytes": (memory() - before) / 1e6,
            }
            one.drop()


def _anew(one: _Attaching) -> None:
    one.drop()
    _forget_plans()


def _keeping(name: str, rounds: int) -> Iterator[dict[str, Any]]:
    """Attach, save, load, merge and unmerge on a model with weights; PEFT's LoRA beside it."""
    import torch

    case = MODELS[name](device="cpu", dtype=torch.float32)
    for family in _FAMILIES:
        sizes = _head_dim(family, 64)
        one = _Attaching(share(case.model), family, targets=case.targets, sizes=sizes)
        with tempfile.TemporaryDirectory() as folder:
            for what, took in _kept(one, Path(folder) / "adapter.safetensors", rounds):
                yield _row(what, case.name, family, "tenslora", took)
    for what, took in _peft_kept(case, rounds):
        yield _row(what, case.name, "lora", "PEFT", took)


def _kept(one: _Attaching, path: Path, rounds: int) -> Iterator[tuple[str, float]]:
    yield "attach", _time(one.attach, rounds, one.drop)
    adapter = one.adapter
    yield "save", _time(partial(adapter.save, path), rounds, _nothing)
    yield "load", _time(partial(adapter.load, path), rounds, _nothing)
    yield "merge", _time(adapter.merge, rounds, partial(one.merged, False))
    yield "unmerge", _time(adapter.unmerge, rounds, partial(one.merged, True))
    yield "merge for good", _time(one.merge_for_good, rounds, one.fresh)


def _peft_kept(case: Case, rounds: int) -> Iterator[tuple[str, float]]:
    import peft

    held: list[Any] = []

    def attach() -> None:
        config = peft.LoraConfig(r=4, target_modules=case.targets)
        held.append(peft.get_peft_model(share(case.model), config))

    yield "attach", _time(attach, rounds, _nothing)
    wrapped = held[-1]
    safely = partial(wrapped.merge_adapter, safe_merge=True)
    for what, merge in (("merge", wrapped.merge_adapter), ("merge safely", safely)):
        merging, unmerging = [], []
        for _ in range(rounds):
            merging.append(_time(merge, 1, _nothing))
            unmerging.append(_time(wrapped.unmerge_adapter, 1, _nothing))
        yield what, statistics.median(merging)
        if what == "merge":
            yield "unmerge", statistics.median(unmerging)


def _nothing() -> None:
    pass


def _row(what: str, model: str, family: str, side: str, took: float) -> dict[str, Any]:
    return {"what": what, "model": model, "family": family, "side": side, "milliseconds": took}


def _merged(name: str) -> dict[str, Any]:
    """What is left on a model whose adapter was merged: hooks, replaced modules, calls."""
    import torch

    import tenslora as tl
    from benchmarks.counting import CountingMode

    case = MODELS[name](device="cpu", dtype=torch.float32)
    calls = []
    model = share(case.model)
    types = {path: type(module) for path, module in model.named_modules()}
    for step in ("before", "after"):
        if step == "after":
            tl.attach(model, "lora", targets=case.targets, ranks=4).merge()
        with torch.no_grad(), CountingMode() as mode:
            case.run(model)
        calls.append(mode.calls)
    targets = [model.get_submodule(path) for row in case.groups for path in row]
    return {
        "what": "merged",
        "model": case.name,
        "calls": calls[1] / calls[0],
        "hooks": sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in targets),
        "replaced": sum(
            type(model.get_submodule(path)) is not kind for path, kind in types.items()
        ),
    }


def main(args: argparse.Namespace) -> None:
    """Measure all of it; print and keep a row for each."""
    import torch

    torch.set_num_threads(1)
    rounds = 1 if args.smoke else 5
    rows = [import_times(1 if args.smoke else 15), _merged("tiny")]
    with every_rank():
        if not args.smoke:
            rows += _planning(rounds)
        rows += _keeping("tiny" if args.smoke else "vit-base", rounds)
    for row in rows:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{v}" for k, v in row.items()))
    if args.save:
        save("handling", args.command, rows, args.out)
