"""What was hoisted without gradients, for the next forward: while it is still true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tenslora.nn.halves import Halves

__all__ = ["PLAIN", "Kept"]

#: Types of tensors whose entries are those of torch; others may be quantised or spread out.
PLAIN = (nn.Parameter, Tensor)


class Kept:
    """What was hoisted from the cores, and how to tell that they are what they were.

    Where hoisting only looks at the cores in another shape, what it gives changes with them: it is
    asked whether they lie where they lay. Otherwise the numbers are compared, for a change of
    ``.data`` is counted nowhere. That asks a device to wait, so it is done on the CPU alone.
    """

    __slots__ = ("_before", "_looks", "hoisted")

    def __init__(self, cores: Mapping[str, Tensor], hoisted: Any, *, looks: bool) -> None:
        self.hoisted, self._looks = hoisted, looks
        self._before = tuple(
            (name, core.detach() if looks else core.detach().clone())
            for name, core in cores.items()
        )

    @classmethod
    def of(cls, cores: Mapping[str, Tensor], hoisted: Any) -> Kept | None:
        """Keep what was hoisted, ``None`` where nothing can tell later whether it still holds."""
        if any(type(core) not in PLAIN or core.is_meta for core in cores.values()):
            return None
        looks = _look(cores.values(), hoisted)
        if not looks and any(core.device.type != "cpu" for core in cores.values()):
            return None
        return cls(cores, hoisted, looks=looks)

    def holds(
        self, parameters: Mapping[str, Tensor | None], buffers: Mapping[str, Tensor | None]
    ) -> bool:
        """Whether the cores of a bank are what they were."""
        for name, before in self._before:
            now = parameters.get(name)
            if now is None:
                now = buffers.get(name)
            if (
                now is None
                or type(now) not in PLAIN
                or now.dtype is not before.dtype
                or now.device != before.device
                or not (now.is_set_to(before) if self._looks else torch.equal(now, before))
            ):
                return False
        return True


def _look(cores: Iterable[Tensor], hoisted: Any) -> bool:
    """Whether all that was hoisted lies where the cores lie."""
    places = {core.untyped_storage().data_ptr() for core in cores}
    return all(t.untyped_storage().data_ptr() in places for t in _tensors(hoisted))


def _tensors(hoisted: Any) -> Iterator[Tensor]:
    if isinstance(hoisted, Tensor):
        yield hoisted
    elif isinstance(hoisted, Halves):
        yield from hoisted.tensors()
    else:
        for part in hoisted:
            yield from _tensors(part)
