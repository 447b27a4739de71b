"""Deterministic costs of one step: FLOPs, calls, bytes moved and bytes saved for backward.

They need no values, so a model on the meta device is counted at its full size in a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.cases import Case
from benchmarks.sides import Side

__all__ = ["CountingMode", "Counts", "SavedBytes", "count_step"]

aten = torch.ops.aten


#: torch counts no FLOPs for these: without a formula, adding in place would cost nothing.
_MISSING: Mapping[Any, Callable[..., int]] = {
    aten.addmm_: flop_registry[aten.addmm],
    aten.baddbmm_: flop_registry[aten.baddbmm],
}

#: These only change how memory is looked at, but do not say so in their schema, or allocate alone;
#: `resize_` is used for outputs of as many entries.
_FREE = {
    aten.detach,
    aten.alias,
    aten._unsafe_view,
    aten.resize_,
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
}


@dataclass(frozen=True)
class Counts:
    """What a step takes.

    Attributes
    ----------
    flops : of matrix products; two for a multiply-add.
    calls : of operations that read or write entries; views are free.
    nbytes : read and written by those calls, each operand once a call.
    saved : bytes kept from forward to backward, weights and inputs of the model left out.
    """

    flops: int
    calls: int
    nbytes: int
    saved: int

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(a - b for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[int, ...]:
        """The four numbers."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def to_dict(self) -> dict[str, int]:
        """As plain data."""
        return asdict(self)


class CountingMode(TorchDispatchMode):
    """Counts every operation that reaches a device, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.calls = self.nbytes = 0
        self.by_name: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        if func.is_view or packet in _FREE:
            return out
        formula = _MISSING.get(packet) or flop_registry.get(packet)
        if formula is not None:
            self.flops += int(formula(*args, **kwargs, out_val=out))
        self.calls += 1
        self.nbytes += sum(_nbytes(t) for t in tree_leaves((args, kwargs)))
        self.nbytes += sum(_nbytes(t) for t in tree_leaves(out))
        self.by_name[str(packet).removeprefix("aten.")] += 1
        return out


def _nbytes(value: object) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


class SavedBytes:
    """Bytes of the storages that a forward saves for its backward, each once.

    ``exempt`` are tensors that live anyway: weights, buffers and inputs.
    """

    def __init__(self, exempt: Iterable[Tensor]) -> None:
        self._exempt = {t.untyped_storage()._cdata for t in exempt}
        self._seen: dict[int, torch.UntypedStorage] = {}

    def __enter__(self) -> SavedBytes:  # noqa: PYI034
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda t: t)
        self._hooks.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self._hooks.__exit__(*args)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._exempt:
            self._seen[storage._cdata] = storage  # held, so that no other takes its place
        return tensor

    @property
    def total(self) -> int:
        """The bytes."""
        return sum(storage.nbytes() for storage in self._seen.values())


def count_step(case: Case, side: Side) -> tuple[Counts, Counter[str]]:
    """Count forward and backward of a side; also return the calls by name.

    What is saved is counted in a forward of its own: where hooks see what is saved, our layers do
    not run at once, which keeps the same (tests/nn/test_team.py).
    """
    case.clear(side.model)
    exempt = [*side.model.parameters(), *side.model.buffers(), *case.inputs.values()]
    if not case.cotangents or not next(side.model.parameters()).is_meta:
        case.step(side.model)  # lasting things (the cotangents, caches) are made the first time
        case.clear(side.model)
    with CountingMode() as mode:
        torch.autograd.backward(case.run(side.model), case.cotangents)
    case.clear(side.model)
    with SavedBytes(exempt) as saved:
        case.run(side.model)
    return Counts(mode.flops, mode.calls, mode.nbytes, saved.total), mode.by_name
