"""The state of a run after an epoch, in one file: a run that was stopped goes on from it.

The file holds trained values, the optimiser's state and the generators' states as tensors, and the
rest as JSON; each tensor whole, so that another number of processes can go on. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tenslora.errors import DataError
from tenslora.integrations.runs import finite, write_file
from tenslora.nn.shards import put, whole

if TYPE_CHECKING:
    from tenslora.integrations.recording import Recorder
    from tenslora.integrations.trainer import Trainer

__all__ = ["Keeper", "Saved", "check_fits", "read_saved", "restore", "restore_random"]

SCHEMA_VERSION = 1
_KEY = "tenslora_run"
_FIELDS = {
    "schema": int,
    "settings": dict,
    "epoch": int,
    "step": int,
    "processes": int,
    "rates": list,
    "history": list,
    "best": float,
    "best_epoch": int,
}


@dataclass(frozen=True)
class Saved:
    """What a file holds; ``state`` has the keys of ``_FIELDS``."""

    path: Path
    state: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors below a name."""
        begin = f"{name}/"
        return {k.removeprefix(begin): t for k, t in self.tensors.items() if k.startswith(begin)}


class Keeper(transformers.TrainerCallback):
    """Writes the file after each epoch; every process takes part, and the leader writes."""

    def __init__(
        self, path: Path, settings: Mapping[str, Any], trainer: Trainer, recorder: Recorder
    ) -> None:
        self.path, self.settings = path, settings
        self.trainer, self.recorder = trainer, recorder

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write it: the epoch has been trained and evaluated."""
        trainer, run = self.trainer, self.recorder.run
        tensors = {name: _plain(tensor) for name, tensor in _held(trainer, self.recorder)}
        for name, states in _random_states(trainer).items():
            tensors[f"random/{name}"] = states.cpu()
        record = {
            "schema": SCHEMA_VERSION,
            "settings": self.settings,
            "epoch": len(run.history),
            "step": state.global_step,
            "processes": trainer.process.count,
            "rates": [group["lr"] for group in _optimizer(trainer).param_groups],
            "history": run.history,
            "best": run.best,
            "best_epoch": run.best_epoch,
        }
        if trainer.process.leader:
            text = json.dumps(finite(record), sort_keys=True, allow_nan=False)
            write_file(self.path, save(tensors, {_KEY: text}))


def _held(trainer: Trainer, recorder: Recorder) -> Iterator[tuple[str, Tensor]]:
    """Yield what training changes, in the same order in every process."""
    states = _optimizer(trainer).state
    for name, parameter in _trained(trainer):
        yield f"values/{name}", parameter
        for key, value in states.get(parameter, {}).items():
            yield f"optimizer/{key}/{name}", torch.as_tensor(value)
    for name, buffer in _statistics(trainer):
        yield f"values/{name}", buffer
    for name, value in recorder.kept.items():
        yield f"best/{name}", value


def _plain(tensor: Tensor) -> Tensor:
    return whole(tensor).cpu().contiguous().clone()


def _trained(trainer: Trainer) -> list[tuple[str, nn.Parameter]]:
    model: Any = trainer.model
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _statistics(trainer: Trainer) -> list[tuple[str, Tensor]]:
    """The running means of batch normalisation, the one kind of buffer that training moves."""
    model: Any = trainer.model
    return [
        (f"{path}.{name}", buffer)
        for path, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        for name, buffer in module.named_buffers(recurse=False)
    ]


def _optimizer(trainer: Trainer) -> torch.optim.Optimizer:
    found: Any = trainer.optimizer
    return getattr(found, "optimizer", found)  # accelerate wraps it


def _random_states(trainer: Trainer) -> dict[str, Tensor]:
    """The states of every process, one row each."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    if trainer.process.count == 1:
        return {name: state[None] for name, state in states.items()}
    device, gather = trainer.accelerator.device, trainer.accelerator.gather
    return {name: gather(state[None].to(device)) for name, state in states.items()}


def read_saved(path: Path, settings: Mapping[str, Any]) -> Saved:
    """Read a file and check that it is of a run with these settings.

    Raises
    ------
    DataError
        E714 where it is none, or of another run.
    """
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            state = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise _unfit(path, f"is no whole checkpoint of a run ({type(error).__name__})") from None
    if not isinstance(state, dict) or set(state) != set(_FIELDS):
        raise _unfit(path, "is no checkpoint of a run that this release reads")
    for name, kind in _FIELDS.items():
        if not isinstance(state[name], (int, float) if kind is float else kind):
            raise _unfit(path, f"has {name} of a wrong type")
    if state["schema"] != SCHEMA_VERSION:
        raise _unfit(path, f"has schema {state['schema']}; this release reads {SCHEMA_VERSION}")
    there, here = state["settings"], json.loads(json.dumps(settings))
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            said = f"is of a run with {name}={_short(there.get(name))}"
            raise _unfit(path, f"{said}, and here it is {_short(here.get(name))}")
    return Saved(path, state, tensors)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _unfit(path: Path, what: str) -> DataError:
    advice = "Go on with the settings of that run, or begin anew without resume."
    return DataError("E714", f"{path} {what}", advice=advice)


def check_fits(trainer: Trainer, saved: Saved | None) -> None:
    """Check, before anything is changed, that file, model and processes go together.

    Raises
    ------
    DataError
        E714.
    """
    process = trainer.process
    if process.count > 1:
        mine = torch.tensor([0 if saved is None else saved.state["epoch"]])
        epochs = trainer.accelerator.gather(mine.to(trainer.accelerator.device)).tolist()
        if len(set(epochs)) > 1:
            what = f"the processes would go on after different epochs: {epochs}"
            advice = "Give out=... a folder that every machine sees."
            raise DataError("E714", what, advice=advice)
    if saved is None:
        return
    shapes = {name: tuple(t.shape) for name, t in (*_trained(trainer), *_statistics(trainer))}
    found = {name: tuple(t.shape) for name, t in saved.part("values").items()}
    if found != shapes:
        other = sorted(n for n in found.keys() | shapes.keys() if found.get(n) != shapes.get(n))
        raise _unfit(saved.path, f"does not fit the model: {', '.join(other[:4])}")


@torch.no_grad()
def restore(trainer: Trainer, recorder: Recorder, saved: Saved) -> None:
    """Put values, optimiser, schedule, batches and history where they were after that epoch."""
    state, optimizer = saved.state, _optimizer(trainer)
    values = saved.part("values")
    for name, tensor in (*_trained(trainer), *_statistics(trainer)):
        put(tensor, values[name])
    parameters = dict(_trained(trainer))
    for key, value in saved.part("optimizer").items():
        kind, _, name = key.partition("/")
        parameter = parameters[name]
        like = torch.zeros_like(parameter) if value.shape == parameter.shape else value.clone()
        put(like, value)
        optimizer.state[parameter][kind] = like
    for group, rate in zip(optimizer.param_groups, state["rates"], strict=True):
        group["lr"] = rate
    schedule: Any = trainer.lr_scheduler
    schedule.last_epoch, schedule._last_lr = state["step"], list(state["rates"])
    trainer.batches[0].epoch = state["epoch"]
    run = recorder.run
    run.history, run.best, run.best_epoch = state["history"], state["best"], state["best_epoch"]
    recorder.loss, run.last = run.history[-1]["loss"], run.history[-1]["score"]
    for name, value in saved.part("best").items():
        recorder.kept[name] = torch.zeros_like(parameters[name])
        put(recorder.kept[name], value)


def restore_random(trainer: Trainer, saved: Saved) -> None:
    """Let every process draw what it would have drawn; of another number of processes, anew."""
    process, states = trainer.process, saved.part("random")
    if saved.state["processes"] != process.count:
        transformers.set_seed((trainer.args.seed + 104_729 * saved.state["epoch"]) % 2**32)
        return
    torch.set_rng_state(states["cpu"][process.rank])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"][process.rank])
