"""What a contraction costs: arithmetic, memory traffic and calls, weighed for a machine."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tenslora.errors import PlanError

__all__ = ["CPU", "H200_BF16", "PROFILES", "Profile", "entries", "pair_flops"]


@dataclass(frozen=True)
class Profile:
    """A machine, as far as the order of contraction depends on it.

    Everything is told in FLOPs that take as long; ``tenslora tune`` measures a machine, and
    :meth:`from_rates` makes a profile of what it finds.

    Attributes
    ----------
    name : how it is called in reports.
    flops_per_byte : FLOPs that take as long as moving one byte to or from memory.
    itemsize : bytes of an entry.
    flops_per_call : FLOPs that take as long as starting one operation.
    flops_per_second : how many it does, where that is known: costs can then be told in seconds.

    Raises
    ------
    PlanError
        E410 for numbers that no machine has.

    Examples
    --------
    >>> Profile("mine", flops_per_byte=8, itemsize=4).cost(flops=1000, nbytes=100)
    1800.0
    """

    name: str
    flops_per_byte: float
    itemsize: int
    flops_per_call: float = 0.0
    flops_per_second: float | None = None

    def __post_init__(self) -> None:
        rates = {"flops_per_byte": self.flops_per_byte, "flops_per_call": self.flops_per_call}
        for name, value in rates.items():
            if not (_is_number(value) and value >= 0):
                raise _no_profile(self.name, f"{name} = {value!r}", "a number from 0 up")
        if not (_is_number(self.itemsize) and self.itemsize in (1, 2, 4, 8)):
            raise _no_profile(self.name, f"itemsize = {self.itemsize!r}", "1, 2, 4 or 8 bytes")
        speed = self.flops_per_second
        if speed is not None and not (_is_number(speed) and speed > 0):
            raise _no_profile(self.name, f"flops_per_second = {speed!r}", "a number above 0")

    @classmethod
    def from_rates(
        cls,
        name: str,
        *,
        flops_per_second: float,
        bytes_per_second: float,
        seconds_per_call: float,
        itemsize: int,
    ) -> Profile:
        """Make a profile of what was measured.

        Raises
        ------
        PlanError
            E410 for rates that are not above 0.

        Examples
        --------
        >>> Profile.from_rates("mine", flops_per_second=1e11, bytes_per_second=1e10,
        ...                    seconds_per_call=2e-6, itemsize=4).flops_per_byte
        10.0
        """
        if not (_is_number(bytes_per_second) and bytes_per_second > 0):
            raise _no_profile(name, f"bytes_per_second = {bytes_per_second!r}", "a number above 0")
        return cls(
            name,
            flops_per_second / bytes_per_second,
            itemsize,
            seconds_per_call * flops_per_second,
            flops_per_second,
        )

    def cost(self, flops: float, nbytes: float, calls: float = 0) -> float:
        """What so many FLOPs, bytes moved and operations started cost, in FLOPs."""
        return float(flops + self.flops_per_byte * nbytes + self.flops_per_call * calls)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _no_profile(name: str, what: str, wanted: str) -> PlanError:
    return PlanError("E410", f"profile {name!r} has {what}", advice=f"It should be {wanted}.")


#: A CPU core in float32: about 10 FLOPs in the time of one byte.
CPU = Profile("cpu", 10.0, 4)

#: An H200 in bfloat16 (computed from its data sheet).
H200_BF16 = Profile("h200-bf16", 165.0, 2)

#: The profiles by name.
PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in (CPU, H200_BF16)}


def entries(indices: Iterable[str], sizes: Mapping[str, int]) -> int:
    """The number of entries of an array with these indices.

    >>> entries(("a", "b"), {"a": 2, "b": 3}), entries((), {})
    (6, 1)
    """
    return math.prod(sizes[index] for index in indices)


def pair_flops(
    left: Collection[str], right: Collection[str], kept: Collection[str], sizes: Mapping[str, int]
) -> int:
    """FLOPs of contracting two arrays: 2 for a multiply-add, 1 for a product that is not summed.

    >>> pair_flops(("n", "i"), ("i", "r"), {"n", "r"}, {"n": 5, "i": 8, "r": 2})
    160
    """
    union = dict.fromkeys((*left, *right))
    summed = any(index not in kept for index in union)
    return entries(union, sizes) * (2 if summed else 1)
