"""One W of a network, at drawn cores: what counterexamples are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tenslora.algebra.limits import UNLIMITED, Limits
from tenslora.spec import Core, Network, core_shape

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["MOST_ENTRIES", "drawn_arrays", "evaluate", "is_lost", "largest_array", "summands"]

#: Of a core or of W, above which no counterexample is looked for.
MOST_ENTRIES = 1_000_000

_LOST = 1e-8  # of the summands


def drawn_arrays(
    network: Network, sizes: Mapping[str, int], limits: Limits = UNLIMITED, seed: int = 0
) -> dict[str, Array]:
    """Return an array for each core: normal numbers, the value that a rule gives, or a copy."""
    import numpy as np

    generator = np.random.default_rng(seed)
    found = {
        name: limits.value(core, network, sizes)
        if name in limits.given
        else generator.normal(size=core_shape(core, sizes))
        for name, core in network.cores.items()
        if name not in limits.copies
    }
    for name, (of, sign) in limits.copies.items():
        if name in network.cores:
            found[name] = sign * found[of]
    return found


def evaluate(network: Network, sizes: Mapping[str, int], arrays: Mapping[str, Array]) -> Array:
    """Return W with one axis an index of the target."""
    import numpy as np
    from opt_einsum import contract

    labels = {index: n for n, index in enumerate(network.indices)}
    target = [labels[index] for index in network.target.indices]
    total: Any = 0.0
    for term in network.terms:
        operands: list[Any] = []
        for core in term.cores:
            array = _constant(core, sizes) if core.is_constant else arrays[core.name]
            operands += [array.reshape([sizes[i] for i in core.indices])]
            operands += [[labels[i] for i in core.indices]]
        for index in network.target.indices:  # an index that no core of the term carries
            operands += [np.ones(sizes[index]), [labels[index]]]
        total = total + contract(*operands, target, optimize="greedy")
    return np.asarray(total)


def largest_array(network: Network, sizes: Mapping[str, int]) -> int:
    """Return the number of entries of the largest array that :func:`evaluate` makes or takes.

    >>> from tenslora.spec import parse
    >>> largest_array(parse("W[out in] = B[out r] A[r in]"), {"out": 2, "in": 3, "r": 4})
    12
    """
    from opt_einsum import contract_path, get_symbol

    cores = (network.target, *network.cores.values())
    most = max(math.prod(core_shape(core, sizes)) for core in cores)
    symbols = {index: get_symbol(n) for n, index in enumerate(network.indices)}
    target = network.target.indices
    for term in network.terms if most <= MOST_ENTRIES else ():
        held = [*(core.indices for core in term.cores), *((index,) for index in target)]
        inputs = ",".join("".join(symbols[i] for i in indices) for indices in held)
        equation = f"{inputs}->{''.join(symbols[i] for i in target)}"
        shapes = [tuple(sizes[i] for i in indices) for indices in held]
        path = contract_path(equation, *shapes, shapes=True, optimize="greedy")[1]
        most = max(most, int(path.largest_intermediate))
    return most


def summands(network: Network, sizes: Mapping[str, int], arrays: Mapping[str, Array]) -> Array:
    """Return W with the size of every summand in its place: none of them cancels another."""
    import numpy as np

    return evaluate(network, sizes, {name: np.abs(array) for name, array in arrays.items()})


def is_lost(found: Array, summed: Array) -> bool:
    """Whether numbers are so small beside their summands that rounding may have left them of 0.

    >>> import numpy as np
    >>> is_lost(np.array([1e-16]), np.ones(1)), is_lost(np.array([0.1]), np.ones(1))
    (True, False)
    """
    import numpy as np

    return bool(np.abs(found).max() < _LOST * summed.max())


def _constant(core: Core, sizes: Mapping[str, int]) -> Array:
    import numpy as np

    shape = core_shape(core, sizes)
    if core.name == "ones":
        return np.ones(shape)
    array = np.zeros(shape)
    array[(np.arange(shape[0]),) * len(shape)] = 1.0
    return array
