"""A proof run on arrays: the values of the larger network's cores from those of the smaller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tenslora.algebra.edit import unknown
from tenslora.algebra.proof import Proof
from tenslora.algebra.witness import Definition
from tenslora.errors import SizeError, SpecError
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
    cores : an array for each core of ``proof.special``, one axis a slot; tensors of torch are
        read.
    sizes : its sizes and ranks, as far as the shapes do not tell them.

    Raises
    ------
    SizeError
        E202 a size that nothing tells, E204 an array without the shape that the sizes give it, or a
        core that is missing.
    SpecError
        E120 a core that ``proof.special`` does not have, E136 no proof.

    Examples
    --------
    >>> import numpy as np
    >>> from tenslora.algebra.embed import embed_networks
    >>> from tenslora.spec import parse
    >>> one, two = parse("W[out in] = B[out r] A[r in]"), parse("W[out in] = T[out in]")
    >>> cores = {"B": np.ones((4, 2)), "A": np.ones((2, 3))}
    >>> lift_arrays(embed_networks(one, two), cores, {})["T"]
    array([[2., 2., 2.],
           [2., 2., 2.],
           [2., 2., 2.],
           [2., 2., 2.]])
    """
    import numpy as np

    arrays, known = read_cores(proof, cores, sizes)
    dtype = np.result_type(*arrays.values()) if arrays else np.dtype(np.float64)
    wanted = lifted_sizes(proof, known)
    return {
        d.core.name: _value(proof, d, arrays, known, dtype).reshape(
            core_shape(proof.general.cores[d.core.name], wanted)
        )
        for d in proof.witness.definitions
    }


def read_cores(
    proof: Proof, cores: Mapping[str, Any], sizes: Mapping[str, int]
) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the arrays of ``proof.special`` and its sizes, read from shapes where not given.

    Raises
    ------
    SizeError, SpecError
        As :func:`lift_arrays`.
    """
    need_proof(proof)
    special = proof.special
    if not isinstance(cores, Mapping):
        advice = "The cores come first, then the proof: lift({'B': ..., 'A': ...}, proof)."
        raise SizeError(
            "E204", f"the cores are a {type(cores).__name__}, no mapping", advice=advice
        )
    for name in cores:
        if name not in special.cores:
            raise unknown(special, name, "core", special.cores)
    arrays, known = {}, dict(sizes)
    for name, core in special.cores.items():
        if name not in cores:
            what = f"core {name} of {special} is missing"
            raise SizeError("E204", what, advice="Give one array a core, one axis a slot.")
        arrays[name] = _array(cores[name], name)
        _note_sizes(arrays[name], core, known)
    try:
        known = complete_sizes(special, known)
    except SizeError as error:
        if error.code != "E202":
            raise
        advice = "The shapes do not tell it: give it in sizes={...}."
        raise SizeError("E202", error.what, advice=advice) from None
    for name, core in special.cores.items():
        if arrays[name].shape != core_shape(core, known):
            what = f"core {name} of {special}: {arrays[name].shape}, where "
            what += f"{core_shape(core, known)} is wanted"
            raise SizeError("E204", what, advice="Give one array a core, one axis a slot.")
    return arrays, known


def need_proof(proof: object) -> None:
    """Refuse a counterexample, an open question, or anything else that is no proof: E136."""
    if isinstance(proof, Proof):
        return
    if isinstance(proof, bool) or not hasattr(proof, "special"):
        what = f"a proof is wanted, not {proof!r:.60}"
        advice = "tl.check and tl.embeds give one: lift(cores, tl.embeds('lora', 'fact_tt'))."
    else:  # what a search answers without a proof
        what = f"no proof but {type(proof).__name__}: {str(proof).splitlines()[-1]}"
        advice = "Only a proof can be run on arrays."
    raise SpecError("E136", what, advice=advice)


def _note_sizes(array: Array, core: Core, known: dict[str, int]) -> None:
    if array.ndim != len(core.slots):
        what = f"core {core}: an array of {array.ndim} axes, where {len(core.slots)} are wanted"
        raise SizeError("E204", what, advice="Give one axis a slot.")
    for slot, size in zip(core.slots, array.shape, strict=True):
        if len(slot) == 1:
            known.setdefault(slot[0], int(size))


def _array(value: Any, name: str) -> Array:
    """Return an array of numpy; a tensor of torch in its own numbers, bfloat16 in float32."""
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return np.asarray(value.numpy())
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        what = f"core {name} is a {type(value).__name__}, no array of numbers"
        raise SizeError("E204", what, advice="Give an array of numpy or a tensor of torch.")
    return array


def _value(
    proof: Proof,
    definition: Definition,
    arrays: Mapping[str, Array],
    known: Mapping[str, int],
    dtype: Any,
) -> Array:
    import numpy as np
    from opt_einsum import contract

    own, header = definition.core.name, definition.core.indices
    total: Any = 0
    for n, term in enumerate(definition.terms):
        inside = {i: known[index] for i, index in proof.sizes[own, n].items()}
        labels = {i: k for k, i in enumerate(dict.fromkeys([*header, *inside]))}
        operands: list[Any] = []
        for core in term.cores:
            for array, names in _operands(core, arrays, inside, dtype):
                operands += [array, [labels[i] for i in names]]
        made = contract(*operands, [labels[i] for i in header], optimize="greedy")
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
