"""Law 3, first half: every rewrite keeps W, forth and back."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tenslora.algebra import (
    Rewrite,
    absorb,
    drop_constants,
    drop_unit_bonds,
    join_bonds,
    join_group,
    merge,
    normal_form,
    redundancies,
    simplify,
    split_group,
)
from tenslora.algebra.edit import fresh
from tenslora.algebra.modify import rename
from tenslora.family import Bound
from tenslora.spec import Core, Network, Term, core_shape, parse
from tenslora.testing.oracle import dense, numbers
from tenslora.testing.report import agree, equal, fail

__all__ = ["law_rewrites"]


def law_rewrites(bound: Bound, *, seed: int = 0) -> None:
    """Law 3: what a rewrite gives has the same W, and the way back has it too.

    Each law of :mod:`tenslora.algebra` is applied once, a feature and a bond are split into
    groups and joined again, and :func:`~tenslora.algebra.simplify` goes to the end: ``forward`` and
    ``back`` keep W, no parameter is added, frozen cores stay, and every equation on the way is read
    back from its text. The normal form is one for all names of bonds and cores and all orders.
    Values are small whole numbers: what is compared is equal, not close.

    Parameters
    ----------
    bound : a family with sizes.
    seed : of the values and of the other way to write the equation.

    Examples
    --------
    >>> import tenslora as tl
    >>> f = tl.family("W[out in] = b[out] B[out r] A[r in]", init={"b": "zeros"})
    >>> law_rewrites(f.bind({"out": 3, "in": 4}, r=2))
    """
    network, frozen = bound.network, bound.family.frozen
    for step in _once(network, bound.sizes, frozen):
        _check(bound, step.law, step.before, step.after, step.sizes, step, seed)
    _check_groups(bound, seed)
    done = simplify(network, bound.sizes, frozen)
    _check(bound, "simplify", network, done.after, done.sizes, done, seed)
    for name in sorted(frozen):
        if name not in done.after.cores:
            fail("3", bound, f"simplify took the frozen core {name} away")
    before, after = _count(network, bound.sizes), _count(done.after, done.sizes)
    if after > before:
        fail("3", bound, f"simplify made {after} parameters of {before}")
    _check_redundancies(bound)
    _check_normal_form(bound, random.Random(seed))  # noqa: S311


def _once(network: Network, sizes: Mapping[str, int], frozen: Any) -> Iterator[Rewrite]:
    laws: tuple[Callable[..., Rewrite | None], ...] = (drop_constants, drop_unit_bonds, join_bonds)
    for law in laws:
        if (step := law(network, sizes)) is not None:
            yield step
    for law in (absorb, merge):
        if (step := law(network, sizes, frozen)) is not None:
            yield step


def _check_groups(bound: Bound, seed: int) -> None:
    """A feature and a bond are split into the smallest factor and the rest, and joined again."""
    network, sizes, chance = bound.network, bound.sizes, random.Random(seed)  # noqa: S311
    for index in (chance.choice(kind) for kind in (network.features, network.bonds) if kind):
        taken = {network.target.name, *network.cores, *network.indices}
        first = next((n for n in range(2, sizes[index]) if sizes[index] % n == 0), sizes[index])
        names = fresh("y0", taken, taken), fresh("y0", taken | {"y0"}, taken)
        parts = dict(zip(names, (first, sizes[index] // first), strict=True))
        there = split_group(network, sizes, index, parts)
        _check(bound, there.law, network, there.after, there.sizes, there, seed)
        back = join_group(there.after, there.sizes, names, index)
        equal("3", bound, f"{index} joined", back.after, network)
        equal("3", bound, f"sizes after {index} is joined", dict(back.sizes), dict(sizes))


def _check(
    bound: Bound,
    law: str,
    before: Network,
    after: Network,
    sizes: Mapping[str, int],
    step: Any,
    seed: int,
) -> None:
    equal("3", bound, f"{law}: the equation after it, read back", parse(str(after)), after)
    cores = numbers(before, bound.sizes, seed)
    there = dense(after, step.forward(cores), sizes)
    agree("3", bound, f"W after {law}", there, dense(before, cores, bound.sizes))
    cores = numbers(after, sizes, seed + 1)
    back = dense(before, step.back(cores), bound.sizes)
    agree("3", bound, f"W on the way back from {law}", back, dense(after, cores, sizes))


def _count(network: Network, sizes: Mapping[str, int]) -> int:
    return sum(math.prod(core_shape(core, sizes)) for core in network.cores.values())


def _check_redundancies(bound: Bound) -> None:
    """At the cap that is reported, W of that bond is no less: nothing is redundant any more."""
    frozen = bound.family.frozen
    for found in redundancies(bound.network, bound.sizes, frozen):
        if not 1 <= found.cap < found.size or found.parameters < 0:
            fail("3", bound, f"redundant bond: {found}")
        less = {**bound.sizes, found.bond: found.cap}
        left = [r.bond for r in redundancies(bound.network, less, frozen)]
        if found.bond in left:
            fail("3", bound, f"bond {found.bond} is still redundant at {found.cap}")


def _check_normal_form(bound: Bound, chance: random.Random) -> None:
    form = normal_form(bound.network)
    equal("3", bound, "the normal form of the normal form", normal_form(form), form)
    other = _rewritten(bound.network, chance)
    equal("3", bound, f"the normal form of {other}", normal_form(other), form)


def _rewritten(network: Network, chance: random.Random) -> Network:
    """The same equation under other names, its cores, slots and terms in another order."""
    old = [*network.cores, *network.bonds]
    taken = {network.target.name, *network.cores, *network.indices}
    new = [fresh("x0", taken, taken) for _ in old]
    renamed = rename(network, **dict(zip(old, chance.sample(new, len(new)), strict=True)))
    orders = {n: chance.sample(range(len(c.slots)), len(c.slots)) for n, c in renamed.cores.items()}

    def turned(core: Core) -> Core:
        order = orders.get(core.name, range(len(core.slots)))
        return Core(core.name, tuple(core.slots[n] for n in order))

    terms = [Term(tuple(map(turned, chance.sample(t.cores, len(t.cores))))) for t in renamed.terms]
    return Network(renamed.target, tuple(chance.sample(terms, len(terms))))
