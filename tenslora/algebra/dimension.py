"""The dimension of what a network can be: the rank of its derivative at a drawn point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tenslora.algebra.drawn import is_lost

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

    #: A function of arrays by name.
    Value = Callable[[Mapping[str, Array]], Array]

__all__ = ["dimension"]

_MOST = 4_000_000  # entries of the derivative that are made
_STEP = (
    1e-30  # imaginary: a polynomial has the derivative there without a difference (complex step)
)
_SURE, _ROUNDING = 1e-6, 1e-13  # of the largest singular value: not zero above, zero below


def dimension(
    value: Value,
    arrays: Mapping[str, Array],
    seed: int = 0,
    summands: Value | None = None,
) -> int | None:
    """Return the rank of the derivative of ``value`` by all entries of ``arrays``.

    At drawn arrays it is the dimension of the set of all values, since ``value`` is a polynomial
    with real coefficients; it has to take complex arrays as well. Where its terms may cancel,
    ``summands`` is the same polynomial with the size of each coefficient.
    Where there are more entries than values, the derivative is taken in drawn directions, a few
    more than there are values: the rank is the same.

    Returns
    -------
    The rank, or ``None`` where the derivative would have more than four million entries, or where
    numbers do not tell: a singular value between 1e-13 and 1e-6 of the largest is neither surely
    zero nor surely not, and neither is a derivative that is rounding beside its summands.

    Examples
    --------
    >>> import numpy as np
    >>> draw = np.random.default_rng(0).normal
    >>> arrays = {"a": draw(size=3), "b": draw(size=4)}
    >>> dimension(lambda held: np.outer(held["a"], held["b"]), arrays)  # 3 + 4 less a common factor
    6
    """
    import numpy as np

    at = value(arrays)
    entries = sum(array.size for array in arrays.values())
    count = min(entries, at.size + 8)
    if at.size * count > _MOST or not arrays:
        return None if arrays else 0
    generator = np.random.default_rng(seed)

    def along(direction: Array, function: Value, at: Mapping[str, Array]) -> Array:
        step = _laid(1j * _STEP * direction, arrays)
        moved = function({name: array + step[name] for name, array in at.items()})
        return np.asarray(moved.imag.ravel() / _STEP)

    columns = []
    for n in range(count):
        if count == entries:
            direction = np.zeros(entries)
            direction[n] = 1.0
        else:
            direction = generator.normal(size=entries)
        columns.append(along(direction, value, arrays))
    if summands is not None:
        sizes = {name: np.abs(array) for name, array in arrays.items()}
        if is_lost(np.array(columns), along(np.ones(entries), summands, sizes)):
            return None
    values = np.linalg.svd(np.array(columns), compute_uv=False)
    rank = int((values > _SURE * values.max()).sum()) if values.max() > 0 else 0
    return rank if rank == int((values > _ROUNDING * values.max()).sum()) else None


def _laid(flat: Array, arrays: Mapping[str, Array]) -> dict[str, Array]:
    found, start = {}, 0
    for name, array in arrays.items():
        found[name] = flat[start : start + array.size].reshape(array.shape)
        start += array.size
    return found
