"""Counterexamples: values of one network that another cannot reach, whatever its ranks.

Three things bound a network at all ranks:

- *tied*: a site that none of its cores carries. Its W is the same for each value of that site.
- *parts*: a product whose cores fall into two parts that no bond connects. Where the indices that
  both parts carry are held fixed, W is an outer product of the rest: a matrix of rank 1 at most.
- *dimension*: no bond at all. Its cores are of one size, and so many numbers make no more than
  that many dimensions of W.

The counterexample is one W of the other network, from a seed, that is not so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from tenslora.algebra.dimension import dimension
from tenslora.algebra.routing import Graph
from tenslora.errors import SizeError
from tenslora.spec import Core, Network, complete_sizes, core_shape

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["Refutation", "refute_networks"]

_SIZE = 3  # of every index and rank in a counterexample


@dataclass(frozen=True)
class Refutation:
    """That ``special`` is no special case of ``general``, at any ranks.

    Attributes
    ----------
    special, general : the two networks.
    law : ``tied``, ``parts`` or ``dimension``.
    reason : why, with the figure of the counterexample.
    sizes, seed : where the counterexample was drawn.
    """

    special: Network
    general: Network
    law: str
    reason: str
    sizes: dict[str, int]
    seed: int

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        sizes = " ".join(f"{name}={size}" for name, size in self.sizes.items())
        lines = [
            f"not a special case  {self.special}",
            f"of                  {self.general}",
            f"{self.law}: {self.reason}",
            f"drawn with seed {self.seed} at {sizes}",
        ]
        return "\n".join(lines)


def refute_networks(special: Network, general: Network, *, seed: int = 0) -> Refutation | None:
    """Draw a W of ``special`` and see whether it breaks a bound that ``general`` has at all ranks.

    Returns ``None`` where it does not; that proves nothing.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> lora = parse("W[layer out in] = B[layer out r] A[layer r in]")
    >>> tied = parse("W[layer out in] = B[out r] A[r in]")
    >>> print(refute_networks(lora, tied).reason)
    no core of the larger network carries 'layer'; here W differs along it
    """
    sizes = dict.fromkeys(special.indices, _SIZE)
    try:
        sizes = complete_sizes(special, sizes)
    except SizeError:  # one array with groups of different lengths: equal sizes do not fit
        return None
    arrays = _draw(special, sizes, seed)
    drawn = _contract(special, sizes, arrays)
    laws = chain(
        _tied(drawn, special, general),
        _parts(drawn, special, general),
        _dimension(arrays, sizes, special, general, seed),
    )
    for law, reason in laws:
        return Refutation(special, general, law, reason, sizes, seed)
    return None


def _draw(network: Network, sizes: dict[str, int], seed: int) -> dict[str, Array]:
    import numpy as np

    generator = np.random.default_rng(seed)
    return {n: generator.normal(size=core_shape(c, sizes)) for n, c in network.cores.items()}


def _contract(network: Network, sizes: dict[str, int], arrays: Mapping[str, Array]) -> Array:
    """Return W with one axis an index of the target."""
    import numpy as np

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
        total = total + np.einsum(*operands, target, optimize="greedy")
    return np.asarray(total)


def _constant(core: Core, sizes: dict[str, int]) -> Array:
    import numpy as np

    shape = core_shape(core, sizes)
    if core.name == "ones":
        return np.ones(shape)
    array = np.zeros(shape)
    array[(np.arange(shape[0]),) * len(shape)] = 1.0
    return array


def _tied(drawn: Array, special: Network, general: Network) -> Iterator[tuple[str, str]]:
    import numpy as np

    held = {i for term in general.terms for core in term.cores for i in core.indices}
    for axis, index in enumerate(special.target.indices):
        spread = float(np.ptp(drawn, axis=axis).max())
        if index not in held and spread > 1e-6 * float(np.abs(drawn).max()):
            what = f"no core of the larger network carries {index!r}; here W differs along it"
            yield "tied", what


def _parts(drawn: Array, special: Network, general: Network) -> Iterator[tuple[str, str]]:
    import numpy as np

    if len(general.terms) > 1:
        return
    target = special.target.indices
    for one, two in _bipartitions(Graph(general, general.terms[0])):
        rows, columns = one - two, two - one
        if not rows or not columns:
            continue
        order = [i for side in (one & two, rows, columns) for i in target if i in side]
        order += [i for i in target if i not in one | two]
        sizes = dict(zip(target, drawn.shape, strict=True))
        height = int(np.prod([sizes[i] for i in target if i in rows]))
        width = int(np.prod([sizes[i] for i in target if i in columns]))
        shared = int(np.prod([sizes[i] for i in target if i in one & two]))
        turned = drawn.transpose([target.index(i) for i in order])
        matrices = turned.reshape(shared, height, width, -1)[..., 0]
        values = np.linalg.svd(matrices, compute_uv=False)
        rank = int((values > 1e-8 * values.max()).sum(axis=-1).max())
        if rank > 1:
            names = f"{' '.join(i for i in target if i in rows)} | "
            names += " ".join(i for i in target if i in columns)
            what = f"the larger network has rank 1 at most between {names}; here it is {rank}"
            yield "parts", what


def _dimension(
    arrays: dict[str, Array],
    sizes: dict[str, int],
    special: Network,
    general: Network,
    seed: int,
) -> Iterator[tuple[str, str]]:
    if general.bonds:
        return
    own = {index: sizes[index] for index in general.indices}
    try:
        own = complete_sizes(general, own)
        drawn = _draw(general, own, seed)
    except SizeError:  # an equation that ties sizes to each other
        return
    most = dimension(partial(_contract, general, own), drawn)
    found = None if most is None else dimension(partial(_contract, special, sizes), arrays)
    if found is not None and most is not None and found > most:
        what = f"the larger network has {most} dimensions and no rank to raise; here W has {found}"
        yield "dimension", what


def _bipartitions(graph: Graph) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """Return the target indices on both sides, for each way of taking one connected part away."""
    part = graph.parts(graph.bonds)
    roots = sorted(set(part))
    for root in roots if len(roots) > 1 else []:
        one = {i for n, p in enumerate(part) if p == root for i in graph.native[n]}
        two = {i for n, p in enumerate(part) if p != root for i in graph.native[n]}
        yield frozenset(one), frozenset(two)
