"""What a machine does in a second: measured, for the planner."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

import torch

from tenslora.errors import PlanError
from tenslora.plan import Profile

__all__ = ["describe", "tune"]

#: Rows and features of the matrix product, and bytes of the array that is copied.
_TOKENS, _WIDTH, _COPIED = 512, 768, 1 << 27
_CALLS = 1_000


def tune(
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    name: str | None = None,
    repeats: int = 30,
) -> Profile:
    """Measure a device: a matrix product, a copy that no cache holds, and an operation on nothing.

    Each is timed several times and the least time counts: processor time on a CPU, where what other
    processes do disturbs it little.

    Parameters
    ----------
    device, dtype : what to measure, and in which numbers.
    name : of the profile; by default that of the device and the dtype.
    repeats : how often each is timed.

    Raises
    ------
    PlanError
        E413 for a device or a dtype that cannot be measured here.

    Examples
    --------
    >>> import tenslora as tl, torch
    >>> profile = tl.nn.tune(repeats=3)
    >>> profile.name, profile.itemsize
    ('cpu-float32', 4)
    >>> lora = tl.families.lora.bind({"layer": 12, "proj": 3, "out": 768, "in": 768}, r=8)
    >>> lora.plan(profile=profile).problem.profile.flops_per_call > 0
    True
    """
    place = torch.device(device)
    label = f"{place.type}-{str(dtype).removeprefix('torch.')}"
    try:
        clock = _Clock(place, repeats)
        x = torch.ones(_TOKENS, _WIDTH, dtype=dtype, device=place)
        w = torch.ones(_WIDTH, _WIDTH, dtype=dtype, device=place)
        product = clock.least(lambda: x @ w)
        source = torch.ones(_COPIED // dtype.itemsize, dtype=dtype, device=place)
        target = torch.empty_like(source)
        copy = clock.least(lambda: target.copy_(source))
        call = clock.least(lambda: _call_often(x[:1, :1], w[:1, :1])) / _CALLS
    except (RuntimeError, AssertionError) as error:
        what = f"{label} cannot be measured here: {str(error).splitlines()[0]}"
        advice = "Name a device that torch sees, and a floating-point dtype that it multiplies."
        raise PlanError("E413", what, advice=advice) from error
    return Profile.from_rates(
        label if name is None else name,
        flops_per_second=2 * _TOKENS * _WIDTH * _WIDTH / product,
        bytes_per_second=2 * _COPIED / copy,
        seconds_per_call=call,
        itemsize=dtype.itemsize,
    )


class _Clock:
    """The least seconds of an action on a device."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self._device, self._repeats = device, repeats
        self._time = time.process_time if device.type == "cpu" else time.perf_counter

    def least(self, action: Callable[[], object]) -> float:
        for _ in range(3):
            action()
        found = []
        for _ in range(self._repeats):
            self._wait()
            start = self._time()
            action()
            self._wait()
            found.append(self._time() - start)
        return max(min(found), 1e-9)

    def _wait(self) -> None:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)


def _call_often(a: torch.Tensor, b: torch.Tensor) -> None:
    for _ in range(_CALLS):
        a @ b


def describe(device: torch.device | str) -> dict[str, object]:
    """What a profile was measured on; no names of hosts."""
    place = torch.device(device)
    cuda = place.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(place) if cuda else platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
