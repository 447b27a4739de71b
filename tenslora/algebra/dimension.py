"""The dimension of what a network can be: the rank of its derivative at a drawn point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["dimension"]

_MOST = 2_000_000  # entries of the derivative that are made


def dimension(
    value: Callable[[Mapping[str, Array]], Array], arrays: Mapping[str, Array]
) -> int | None:
    """Return the rank of the derivative of ``value`` by all entries of ``arrays``.

    At drawn arrays it is the dimension of the set of all values, since ``value`` is a polynomial.

    Returns
    -------
    The rank, or ``None`` where the derivative would have more than two million entries.

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
    if at.size * sum(array.size for array in arrays.values()) > _MOST:
        return None
    columns = []
    for name, array in arrays.items():
        for n in range(array.size):
            step = np.zeros(array.size)
            step[n] = 1e-4
            step = step.reshape(array.shape)
            up, down = (value({**arrays, name: array + sign * step}) for sign in (1, -1))
            columns.append((up - down).ravel() / 2e-4)
    values = np.linalg.svd(np.array(columns), compute_uv=False) if columns else np.zeros(1)
    return int((values > 1e-6 * values.max()).sum())
