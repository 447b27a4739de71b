"""What a contraction costs: arithmetic and memory traffic, weighed for a machine."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["CPU", "H200_BF16", "PROFILES", "Profile", "entries", "pair_flops"]


@dataclass(frozen=True)
class Profile:
    """A machine, as far as the order of contraction depends on it.

    Attributes
    ----------
    name : how it is called in reports.
    flops_per_byte : FLOPs that take as long as moving one byte to or from memory.
    itemsize : bytes of an entry.
    """

    name: str
    flops_per_byte: float
    itemsize: int


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
