"""A proof run on arrays: the values of the larger network's cores from those of the smaller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tenslora.algebra.proof import Proof
from tenslora.algebra.witness import Definition
from tenslora.errors import SizeError
from tenslora.spec import Core, complete_sizes, core_shape

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["lift_arrays", "lifted_sizes"]


def lifted_sizes(proof: Proof, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes and ranks of ``proof.general`` for sizes and ranks of ``proof.special``.

    >>> from tenslora.algebra.proof import check_networks
    >>> from tenslora.spec import parse
    >>> proof = check_networks(
    ...     parse("W[layer out in] = B[layer out r] A[layer r in]"),
    ...     parse("W[layer out in] = V[out b] S[layer b a] U[a in]"),
    ...     "V[out (layer r)] = B[layer out r]; U[(layer r) in] = A[layer r in];"
    ...     "S[layer (l r) (m s)] = eye[layer l m] eye[r s]",
    ... )
    >>> lifted_sizes(proof, {"layer": 3, "out": 5, "in": 7, "r": 2})
    {'layer': 3, 'out': 5, 'in': 7, 'b': 6, 'a': 6}
    """
    known = complete_sizes(proof.special, sizes)
    ranks = {bond: math.prod(known[i] for i in group) for bond, group in proof.ranks.items()}
    return {
        i: known[i] if i in known and i not in ranks else ranks[i] for i in proof.general.indices
    }


def lift_arrays(
    proof: Proof, cores: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, Array]:
    r"""Return the cores of ``proof.general`` that give the W which ``cores`` give.

    Parameters
    ----------
    proof : from :func:`tenslora.check` or :func:`tenslora.embeds`.
    cores : an array for each core of ``proof.special``, one axis a slot.
    sizes : its sizes and ranks.

    Raises
    ------
    SizeError
        E204 an array without the shape that the sizes give it, or a core that is missing.

    Examples
    --------
    See :func:`lifted_sizes` for the proof; its arrays are ``(out, layer*r)`` and so on.
    """
    import numpy as np

    known = complete_sizes(proof.special, sizes)
    arrays: dict[str, Array] = {}
    for name, core in proof.special.cores.items():
        shape = core_shape(core, known)
        if name not in cores or np.shape(cores[name]) != shape:
            found = np.shape(cores[name]) if name in cores else "nothing"
            what = f"core {name} of {proof.special}: {found}, where {shape} is wanted"
            raise SizeError("E204", what, advice="Give one array a core, one axis a slot.")
        arrays[name] = np.asarray(cores[name])
    dtype = np.result_type(*arrays.values()) if arrays else np.dtype(np.float64)
    wanted = lifted_sizes(proof, sizes)
    return {
        d.core.name: _value(proof, d, arrays, known, dtype).reshape(
            core_shape(proof.general.cores[d.core.name], wanted)
        )
        for d in proof.witness.definitions
    }


def _value(
    proof: Proof,
    definition: Definition,
    arrays: Mapping[str, Array],
    known: Mapping[str, int],
    dtype: Any,
) -> Array:
    import numpy as np

    own, header = definition.core.name, definition.core.indices
    total: Any = 0
    for n, term in enumerate(definition.terms):
        inside = {i: known[index] for i, index in proof.sizes[own, n].items()}
        labels = {i: k for k, i in enumerate(dict.fromkeys([*header, *inside]))}
        operands: list[Any] = []
        for core in term.cores:
            for array, names in _operands(core, arrays, inside, dtype):
                operands += [array, [labels[i] for i in names]]
        made = np.einsum(*operands, [labels[i] for i in header], optimize=len(operands) > 4)
        total = total + made
    return np.asarray(total)


def _operands(
    core: Core, arrays: Mapping[str, Array], sizes: Mapping[str, int], dtype: Any
) -> list[tuple[Array, tuple[str, ...]]]:
    """Return the arrays of one core with the names of their axes, groups taken apart."""
    import numpy as np

    if core.name in arrays:
        shape = [sizes[name] for name in core.indices]
        return [(arrays[core.name].reshape(shape), core.indices)]
    if core.name == "eye":
        if len({tuple(sizes[name] for name in slot) for slot in core.slots}) > 1:
            return [_whole(core, sizes, dtype)]
        found = []
        for names in zip(*core.slots, strict=True):
            n = sizes[names[0]]
            delta = np.zeros((n,) * len(names), dtype)
            delta[(np.arange(n),) * len(names)] = 1
            found.append((delta, names))
        return found
    fill = 1.0 if core.name == "ones" else 0.0
    return [(np.full([sizes[name] for name in core.indices], fill, dtype), core.indices)]


def _whole(core: Core, sizes: Mapping[str, int], dtype: Any) -> tuple[Array, tuple[str, ...]]:
    """Return an ``eye`` between groups that are equal as a whole only, such as 2 x 3 and 6."""
    import numpy as np

    n, count = math.prod(sizes[name] for name in core.slots[0]), len(core.slots)
    delta = np.zeros((n,) * count, dtype)
    delta[(np.arange(n),) * count] = 1
    return delta.reshape([sizes[name] for name in core.indices]), core.indices
