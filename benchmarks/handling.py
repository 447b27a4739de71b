"""``python -m benchmarks handling``: what comes before and after training.

Import, planning, attaching (also to models of 7B and 70B on the meta device), saving, loading,
merging, and what is left of a merged adapter.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import save

__all__ = ["import_times", "main"]

#: name -> layers, width, heads, heads of keys and values, width of the feed-forward part
_LLAMAS = {"Llama 7B": (32, 4096, 32, 32, 11008), "Llama 70B": (80, 8192, 64, 8, 28672)}

_FAMILIES = ("lora", "tenslora.att", "tenslora.att_qkv_depth", "tenslora_cp.att_qkv_depth")


def import_times(rounds: int) -> dict[str, Any]:
    """Milliseconds of ``import tenslora`` in fresh processes, and whether it brings torch along.

    Python's own start is not in it: the clock runs around the import alone.
    """
    code = (
        "import time; t = time.perf_counter(); p = time.process_time()\n"
        "import tenslora, sys\n"
        "print(time.perf_counter() - t, time.process_time() - p, 'torch' in sys.modules)"
    )
    wall, processor, torch_there = [], [], False
    for _ in range(rounds):
        command = [sys.executable, "-c", code]
        out = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
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


def _planning(rounds: int) -> Iterator[dict[str, Any]]:
    """Attach to a Llama on the meta device, with everything to be planned anew."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    import tenslora as tl

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
            sizes = {"head_dim": width // heads} if "att" in family.split(".")[-1] else {}
            adapters: list[Any] = []

            def attach() -> None:
                adapters.append(
                    tl.attach(model, family, targets=targets, ranks=4, sizes=sizes)  # noqa: B023
                )

            def before() -> None:
                while adapters:  # noqa: B023
                    adapters.pop().detach()  # noqa: B023
                _forget_plans()

            took = _time(attach, rounds, before)
            sites = len(adapters[-1].sites)
            adapters.pop().detach()
            yield {
                "what": "plan and attach",
                "model": name,
                "family": family,
                "sites": sites,
                "milliseconds": took,
            }


def _keeping(name: str, rounds: int) -> Iterator[dict[str, Any]]:
    """Attach, save, load, merge and unmerge on a model with weights; PEFT's LoRA beside it."""
    import peft
    import torch

    import tenslora as tl
    from benchmarks.cases import MODELS, share

    case = MODELS[name](device="cpu", dtype=torch.float32)
    nothing = lambda: None  # noqa: E731
    for family in _FAMILIES:
        model = share(case.model)
        sizes = {"head_dim": 64} if "att" in family.split(".")[-1] else {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "adapter.safetensors"
            made: list[Any] = []

            def attach() -> None:
                made.append(
                    tl.attach(model, family, targets=case.targets, ranks=4, sizes=sizes)  # noqa: B023
                )

            def drop() -> None:
                while made:  # noqa: B023
                    made.pop().detach()  # noqa: B023

            actions: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
                "attach": (attach, drop),
                "save": (lambda: made[0].save(path), nothing),  # noqa: B023
                "load": (lambda: made[0].load(path), nothing),  # noqa: B023
                "merge": (
                    lambda: made[0].merge(),  # noqa: B023
                    lambda: made[0].unmerge() if made[0].merged else None,  # noqa: B023
                ),
                "unmerge": (
                    lambda: made[0].unmerge(),  # noqa: B023
                    lambda: None if made[0].merged else made[0].merge(),  # noqa: B023
                ),
            }
            for what, (action, before) in actions.items():
                took = _time(action, rounds, before)
                yield {
                    "what": what,
                    "model": case.name,
                    "family": family,
                    "side": "tenslora",
                    "milliseconds": took,
                }
    base = share(case.model)
    config = peft.LoraConfig(r=4, target_modules=case.targets)
    holder: list[Any] = []
    attach_peft = lambda: holder.append(peft.get_peft_model(base, config))  # noqa: E731
    took = _time(attach_peft, 1, nothing)
    wrapped = holder[0]
    others: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "merge": (wrapped.merge_adapter, nothing),
        "unmerge": (wrapped.unmerge_adapter, nothing),
    }
    yield _peft_row("attach", case.name, took)
    for what, (action, before) in others.items():
        yield _peft_row(what, case.name, _time(action, 1, before))


def _peft_row(what: str, model: str, took: float) -> dict[str, Any]:
    return {
        "what": what,
        "model": model,
        "family": "lora",
        "side": "PEFT",
        "milliseconds": took,
    }


def _merged(name: str) -> dict[str, Any]:
    """What is left on a model whose adapter was merged: hooks, replaced modules, calls."""
    import torch

    import tenslora as tl
    from benchmarks.cases import MODELS, share
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
        "replaced": sum(type(model.get_submodule(path)) is not kind for path, kind in types.items()),
    }


def main(args: argparse.Namespace) -> None:
    """Measure all of it; print and keep a row for each."""
    import torch

    torch.set_num_threads(1)
    rounds = 1 if args.smoke else 5
    rows = [import_times(1 if args.smoke else 15), _merged("tiny")]
    if not args.smoke:
        rows += _planning(rounds)
    rows += _keeping("tiny" if args.smoke else "vit-base", rounds)
    for row in rows:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{v}" for k, v in row.items()))
    if args.save:
        save("handling", args.command, rows, args.out)
