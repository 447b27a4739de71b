"""Counterexamples: values of one network that another cannot reach, whatever its ranks.

Three things bound a network at all ranks:

- *tied*: a site that none of its cores carries. Its W is the same for each value of that site.
- *parts*: a product whose cores fall into two parts that no bond connects. Where the indices that
  both parts carry are held fixed, W is an outer product of the rest: a matrix of rank 1 at most.
- *dimension*: no rank that could be raised for ever. There is no bond, or frozen cores bound each:
  its trained numbers make so many dimensions of W and no more (``bounded.py``).

The counterexample is one W of the other network, from a seed, that is not so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from tenslora.algebra.bounded import exceeds
from tenslora.algebra.drawn import (
    MOST_ENTRIES,
    drawn_arrays,
    evaluate,
    is_lost,
    largest_array,
    summands,
)
from tenslora.algebra.limits import UNLIMITED, Limits
from tenslora.algebra.routing import Graph
from tenslora.errors import SizeError
from tenslora.spec import Network, complete_sizes

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["Refutation", "refute_networks"]

_SIZES = 3, 2  # primes: of every index and rank in a counterexample, the second where 3 is much


@dataclass(frozen=True)
class Refutation:
    """That ``special`` is no special case of ``general``, at any ranks.

    Attributes
    ----------
    special, general : the two networks.
    law : ``tied``, ``parts`` or ``dimension``.
    reason : why, with the figure of the counterexample.
    sizes, seed : where the counterexample was drawn.

    Examples
    --------
    >>> import tenslora as tl
    >>> lora, tied = "W[k out in] = B[k out r] A[k r in]", "W[k out in] = B[out r] A[r in]"
    >>> verdict = tl.embeds(lora, tied)
    >>> bool(verdict), verdict.law
    (False, 'tied')
    >>> print(verdict)
    not a special case  W[k out in] = B[k out r] A[k r in]
    of                  W[k out in] = B[out r] A[r in]
    tied: no core of the larger network carries 'k'; here W differs along it
    drawn with seed 0 at k=3 out=3 in=3 r=3
    """

    special: Network
    general: Network
    law: str
    reason: str
    sizes: dict[str, int]
    seed: int

    def __bool__(self) -> bool:
        return False

    def at_all(self, ways: int) -> Refutation:
        """Return this one of as many, one for each way to size the parts of ``general``."""
        if ways == 1:
            return self
        return replace(self, reason=f"{self.reason}; refuted for all {ways} ways to size its parts")

    def __str__(self) -> str:
        sizes = " ".join(f"{name}={size}" for name, size in self.sizes.items())
        lines = [
            f"not a special case  {self.special}",
            f"of                  {self.general}",
            f"{self.law}: {self.reason}",
            f"drawn with seed {self.seed} at {sizes}",
        ]
        return "\n".join(lines)


def refute_networks(
    special: Network,
    general: Network,
    *,
    frozen_special: Collection[str] = (),
    frozen_general: Collection[str] = (),
    limits_special: Limits = UNLIMITED,
    limits_general: Limits = UNLIMITED,
    prime: Collection[str] = (),
    dimensions: bool = True,
    seed: int = 0,
) -> Refutation | None:
    """Draw a W of ``special`` and see whether it breaks a bound that ``general`` has at all ranks.

    The sizes of ``prime``, indices of the target, are one prime or 1, for a claim about every way
    to size the parts of ``general`` (:func:`~tenslora.algebra.align.assignments`). Without
    ``dimensions`` the law that takes most of the time is left out.

    Returns ``None`` where it does not; that proves nothing.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> lora = parse("W[layer out in] = B[layer out r] A[layer r in]")
    >>> tied = parse("W[layer out in] = B[out r] A[r in]")
    >>> print(refute_networks(lora, tied).reason)
    no core of the larger network carries 'layer'; here W differs along it
    """
    sizes = _primes(special, limits_special)
    if sizes is None:
        return None
    arrays = drawn_arrays(special, sizes, limits_special, seed)
    drawn = evaluate(special, sizes, arrays)
    if is_lost(drawn, summands(special, sizes, arrays)):
        return None
    for law, reason in chain(_tied(drawn, special, general), _parts(drawn, special, general)):
        return Refutation(special, general, law, reason, sizes, seed)
    one = special, frozenset(frozen_special), limits_special
    two = general, frozenset(frozen_general), limits_general
    for reason, chosen in exceeds(one, two, seed, prime) if dimensions else ():
        return Refutation(special, general, "dimension", reason, chosen, seed)
    return None


def _primes(special: Network, limits: Limits) -> dict[str, int] | None:
    """Return one prime as the size of every index and rank, as far as a rank can have it."""
    for size in _SIZES:
        sizes = dict.fromkeys(special.indices, size)
        sizes.update({b: min(size, n) for b, n in limits.most(special, sizes).items()})
        if largest_array(special, sizes) <= MOST_ENTRIES:
            try:
                return complete_sizes(special, sizes)
            except SizeError:  # one array with groups of different lengths: equal sizes do not fit
                return None
    return None


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


def _bipartitions(graph: Graph) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """Return the target indices on both sides, for each way of taking one connected part away."""
    part = graph.parts(graph.bonds)
    roots = sorted(set(part))
    for root in roots if len(roots) > 1 else []:
        one = {i for n, p in enumerate(part) if p == root for i in graph.native[n]}
        two = {i for n, p in enumerate(part) if p != root for i in graph.native[n]}
        yield frozenset(one), frozenset(two)
