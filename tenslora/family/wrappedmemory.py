"""What a training run keeps of a family in a wrapper: of the cores, and of what the wrapper does.

Each count stands for the products of one runner of :mod:`tenslora.nn.wrappers`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tenslora.errors import PlanError
from tenslora.family.memory import Memory, check_tokens, shared_inputs, state_numbers
from tenslora.plan import (
    Plan,
    inputs_per_token,
    listed_inputs,
    reads_input,
    saved_by_dense,
    saved_once,
    saved_per_token,
    updates_per_token,
)
from tenslora.spec import slot_size

if TYPE_CHECKING:
    from tenslora.family.wrapped import WrappedBound

__all__ = ["KEPT", "Kept", "kept_of", "memory_of_wrapped"]


class Kept(NamedTuple):
    """Numbers that a forward keeps: whatever the tokens, and of each token through all sites."""

    once: int
    per_token: int


def memory_of_wrapped(
    bound: WrappedBound,
    tokens: int,
    optimizer: str,
    itemsize: int,
    inputs: Sequence[Hashable] | None,
) -> Memory:
    """See :meth:`tenslora.family.WrappedBound.memory`."""
    check_tokens(tokens)
    check_tokens(itemsize, "itemsize")
    states, trained = state_numbers(optimizer), bound.trainable_parameters
    kept = kept_of(bound, inputs)
    return Memory(
        {
            "weights": itemsize * (trained + bound.bound.frozen_parameters),
            "gradients": itemsize * trained,
            "optimizer": itemsize * states * trained,
            "activations": itemsize * (kept.once + tokens * kept.per_token),
        }
    )


def kept_of(bound: WrappedBound, inputs: Sequence[Hashable] | None = None) -> Kept:
    """Count what a forward through all weights keeps for its backward.

    Raises
    ------
    PlanError
        E403 for a number of inputs that is neither that of the weights nor that of those which the
        equation tells apart, and for what does not name them in an order.

    Examples
    --------
    >>> import tenslora as tl
    >>> sizes = {"layer": 2, "proj": 1, "out": 8, "in": 6}
    >>> kept_of(tl.dora("lora").bind(sizes, r=3))  # 3 x 8; x, x A, W0 x and W x: 6 + 3 + 8 + 8
    Kept(once=48, per_token=50)
    """
    wrapper, inside, places = bound.wrapped.wrapper, bound.bound, _places(bound)
    every = None
    if inputs is not None:
        inputs = listed_inputs(inputs)
        _check_count(bound, len(inputs), places)
        every = _for_each_site(bound, inputs)
    shared = shared_inputs(inside, every)
    if shared is None:
        shared = tuple(site for site in inside.network.sites if site == "proj")
    if wrapper.over:
        shared = (*shared, wrapper.over)
    found = KEPT[wrapper.name](bound, inside.plan(shared=shared), every)
    # weights that the equation does not tell apart run it as often as there are of them, where they
    # are not named one by one
    named = places if inputs is None else len(inputs)
    return Kept(found.once, found.per_token * bound.weights // named)


def _check_count(bound: WrappedBound, given: int, places: int) -> None:
    """Refuse another number of inputs than of weights, or of those that are told apart."""
    even = bound.weights % places == 0
    if given == places or (even and given == bound.weights):
        return
    wrapper, advice = bound.wrapped.wrapper, f"Give {places}, one for each"
    what = f"inputs names {given} inputs, and {wrapper} has {bound.weights} weights"
    if bound.weights != places:
        what += f", of which its equation tells {places} apart"
        advice += " that it tells apart"
        if even:
            advice += f", or {bound.weights}, those of one that it tells apart together"
    raise PlanError("E403", what, advice=f"{advice}.")


def _places(bound: WrappedBound) -> int:
    """How many weights the site indices of the equation tell apart."""
    sites = bound.wrapped.wrapper.sites(bound.bound.network)
    return math.prod(bound.bound.sizes[site] for site in sites)


def _for_each_site(bound: WrappedBound, inputs: Sequence[Hashable]) -> list[Hashable]:
    """The inputs of each site of the equation: the experts of a weight read one."""
    sizes, names = bound.bound.sizes, bound.bound.network.sites
    over, times = bound.wrapped.wrapper.over, len(inputs) // _places(bound)
    weights = itertools.product(*(range(sizes[name]) for name in names if name != over))
    known = {place: inputs[n * times : (n + 1) * times] for n, place in enumerate(weights)}
    found: list[Hashable] = []
    for place in itertools.product(*(range(sizes[name]) for name in names)):
        found += known[tuple(n for name, n in zip(names, place, strict=True) if name != over)]
    return found


def _dora(bound: WrappedBound, plan: Plan, inputs: Sequence[Hashable] | None) -> Kept:
    """W0 x and W x, which the row scales multiply; of these s - 1, s and the norms."""
    out = slot_size(bound.bound.network.output, bound.bound.sizes)
    of_cores = saved_per_token(plan, inputs) + updates_per_token(plan, inputs)
    counted = _places(bound) if inputs is None else len(inputs)
    return Kept(saved_once(plan, inputs) + 3 * out * bound.weights, of_cores + out * counted)


def _hira(bound: WrappedBound, plan: Plan, inputs: Sequence[Hashable] | None) -> Kept:
    """x, and W0 * W of every weight, a matrix; and what W was made of."""
    network = bound.bound.network
    matrix = slot_size((*network.output, *network.input), bound.bound.sizes)
    once = saved_by_dense(plan, inputs, bound.weights) + matrix * bound.weights
    return Kept(once, inputs_per_token(plan, inputs))


def _router(bound: WrappedBound, plan: Plan, inputs: Sequence[Hashable] | None) -> Kept:
    """x, which the gate reads, the weight of each expert, and what each expert makes of x."""
    experts = bound.bound.sizes[bound.wrapped.wrapper.over] * _places(bound)
    if inputs is not None:
        experts = len(inputs)  # of every expert of each weight
    of_cores = saved_per_token(plan, inputs) + updates_per_token(plan, inputs)
    of_gate = 0 if reads_input(plan) else inputs_per_token(plan, inputs)
    return Kept(saved_once(plan, inputs), of_cores + of_gate + experts)


#: What each wrapper of :data:`tenslora.family.WRAPPERS` keeps, the cores included.
KEPT: Mapping[str, Callable[[WrappedBound, Plan, Sequence[Hashable] | None], Kept]] = {
    "dora": _dora,
    "hira": _hira,
    "router": _router,
}
