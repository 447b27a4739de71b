"""Every law, asked of one family."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

from tenslora.errors import RedundantRankWarning, SizeError
from tenslora.family import Bound, Family, resolve
from tenslora.spec import complete_sizes
from tenslora.testing.laws.adapters import law_adapter
from tenslora.testing.laws.contraction import law_contraction
from tenslora.testing.laws.gauge import law_gauge
from tenslora.testing.laws.gradients import law_backends, law_derivatives, law_gradients
from tenslora.testing.laws.language import law_canonical, law_text
from tenslora.testing.laws.operators import law_operators
from tenslora.testing.laws.rewriting import law_rewrites
from tenslora.testing.laws.settings import law_settings
from tenslora.testing.laws.values import law_counts, law_start

__all__ = ["assert_lawful", "small_sizes"]

#: Every law, and the packages that it needs beside numpy.
_LAWS: dict[Callable[[Bound], None], tuple[str, ...]] = {
    law_text: (),
    law_canonical: (),
    law_rewrites: (),
    law_operators: (),
    law_settings: (),
    law_contraction: (),
    law_counts: (),
    law_start: (),
    law_derivatives: (),
    law_gradients: ("torch",),
    law_backends: (),
    law_gauge: (),
    law_adapter: ("torch", "safetensors"),
}


def assert_lawful(
    family: str | Family, sizes: Mapping[str, int] | None = None, **named: int
) -> None:
    """Ask every law of a family; the laws that need torch are asked where it is installed.

    Parameters
    ----------
    family : a family, its name or its equation.
    sizes, named : sizes and ranks by index name; the others are small and, where the equation
        admits it, different from each other, so that no two axes can be taken for one another.

    Raises
    ------
    AssertionError
        The law that does not hold, with the equation and the sizes.
    SizeError
        Sizes that do not fit the equation.

    Examples
    --------
    >>> import tenslora as tl
    >>> mine = tl.family(
    ...     "W[layer (head head_dim) in] = V[head_dim b] H[layer head b a] U[in a] s[layer head]",
    ...     init={"s": "zeros"},
    ... )
    >>> assert_lawful(mine, head=3)
    """
    chosen = resolve(family)
    known = {**chosen.ranks, **(sizes or {}), **named}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RedundantRankWarning)
        bound = chosen.bind(small_sizes(chosen, known))
    for law, packages in _LAWS.items():
        if all(importlib.util.find_spec(package) for package in packages):
            law(bound)


def small_sizes(family: Family, known: Mapping[str, int] | None = None) -> dict[str, int]:
    """Choose a small size for every index that is not in ``known``, such that they fit together.

    Examples
    --------
    >>> import tenslora as tl
    >>> f = tl.family("W[layer out in] = B[out r] A[layer r in]", init={"B": "zeros"})
    >>> small_sizes(f, {"in": 7})
    {'layer': 2, 'out': 3, 'in': 7, 'r': 2}
    """
    network, known = family.network, dict(known or {})
    rank = known.pop("rank", None) if "rank" not in network.indices else None
    if rank is not None:
        known = {**dict.fromkeys(network.bonds, rank), **known}
    totals = {"out": network.output, "in": network.input}
    derived = [s[-1] for n, s in totals.items() if n in known and n not in network.indices]
    free = [index for index in network.indices if index not in derived]
    *others, ones = ({**candidate, **known} for candidate in _candidates(free))
    if family.start is not None:  # ranks that the weights have
        low = dict.fromkeys(network.bonds, 2)
        others = [{**candidate, **low, **known} for candidate in others]
    for candidate in others:
        with contextlib.suppress(SizeError):
            return complete_sizes(network, candidate)
    return complete_sizes(network, ones)


def _candidates(indices: Sequence[str]) -> Iterator[dict[str, int]]:
    """All different at first, then all that is left of small sizes; all ones fit any equation."""
    counts = itertools.cycle((2, 3, 4, 2, 3))
    yield dict(zip(indices, counts, strict=False))
    for size in (2, 1):
        yield dict.fromkeys(indices, size)
