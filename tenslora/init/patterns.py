"""Starts that are no draw of independent numbers: circulant patterns and waves."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tenslora.errors import FamilyError
from tenslora.spec import Core, Network, core_shape, slot_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["circulant", "waves"]


def circulant(core: Core, sizes: Mapping[str, int]) -> Array:
    """Return 1 where the second index minus the first is the third, modulo the third's size.

    Raises
    ------
    FamilyError
        E302 where the core has other than three slots.

    Examples
    --------
    >>> circulant(Core("E", (("o",), ("i",), ("k",))), {"o": 3, "i": 3, "k": 3})[..., 1].tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    import numpy as np

    if len(core.slots) != 3:
        what = f"core {core} starts as circulant and has {len(core.slots)} slots"
        raise FamilyError("E302", what, advice="Give it three: E[o i k].")
    first, second, third = core_shape(core, sizes)
    shift = np.arange(second)[None, :] - np.arange(first)[:, None]
    return np.asarray((shift % third)[..., None] == np.arange(third), dtype=np.float64)


def waves(
    kind: str, height: float, core: Core, network: Network, sizes: Mapping[str, int], seed: int
) -> Array:
    """Return the cosine or sine of ``2 pi f x / features`` over features x, a wave for each bond.

    The pairs of an output and an input frequency are drawn without repetition from the seed, as
    many as the core has waves, so that all cores of a family mean the same pairs.

    Raises
    ------
    FamilyError
        E302 where the core is not one of all features of the input or the output and one bond, or
        where there are more waves than pairs.
    """
    import numpy as np

    sides = {network.output: 0, network.input: 1}
    held = [slot for slot in core.slots if slot in sides]
    if len(core.slots) != 2 or len(held) != 1:
        what = f"core {core} starts as {kind}: it needs the whole output or input, and a bond"
        raise FamilyError("E302", what, advice="Write C[out n] or Q[n in].")
    side = sides[held[0]]
    rows, columns = (slot_size(slot, sizes) for slot in (network.output, network.input))
    (bond,) = (slot for slot in core.slots if slot not in sides)
    count = slot_size(bond, sizes)
    if count > rows * columns:
        what = f"core {core} has {count} waves, and there are {rows * columns} pairs of frequencies"
        raise FamilyError("E302", what, advice="Lower the rank.")
    digest = hashlib.sha256(f"{seed}|frequencies".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    flat = generator.choice(rows * columns, size=count, replace=False)
    frequency = flat // columns if side == 0 else flat % columns
    features = rows if side == 0 else columns
    angle = 2.0 * math.pi * np.outer(np.arange(features), frequency) / features
    values = (np.cos(angle) if kind == "cos" else np.sin(angle)) * height / features
    return np.ascontiguousarray(values if core.slots[0] == held[0] else values.T)
