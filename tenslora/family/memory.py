"""The memory of a training run, before it starts: what is counted and what it adds up to."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenslora.errors import SizeError
from tenslora.plan import listed_inputs, reads_input, saved_once, saved_per_token, shared_sites
from tenslora.spec import is_count, slot_size

if TYPE_CHECKING:
    from tenslora.family.bound import Bound

__all__ = [
    "OPTIMIZERS",
    "Memory",
    "check_tokens",
    "memory_of_cores",
    "saved_beside",
    "shared_inputs",
    "state_numbers",
]

#: Numbers that an optimiser keeps for each trained one.
OPTIMIZERS: Mapping[str, int] = {"sgd": 0, "momentum": 1, "adam": 2, "adamw": 2}


@dataclass(frozen=True, repr=False)
class Memory:
    """Bytes by what they are for.

    Attributes
    ----------
    parts : such as ``{"weights": ..., "gradients": ..., "optimizer": ..., "activations": ...}``.

    Examples
    --------
    >>> Memory({"weights": 2_000_000, "gradients": 500_000})
    weights    1.9 MB
    gradients  0.5 MB
    together   2.4 MB
    """

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """The sum."""
        return sum(self.parts.values())

    def __add__(self, other: Memory) -> Memory:
        """Add two counts part by part."""
        names = dict.fromkeys((*self.parts, *other.parts))
        return Memory({n: self.parts.get(n, 0) + other.parts.get(n, 0) for n in names})

    def to_dict(self) -> dict[str, int]:
        """Return the parts and ``total`` as plain data."""
        return {**self.parts, "total": self.total}

    def __repr__(self) -> str:
        rows = [*self.parts.items(), ("together", self.total)]
        numbers = [f"{count / (1 << 20):,.1f} MB" for _, count in rows]
        widths = max(len(name) for name, _ in rows), max(map(len, numbers))
        return "\n".join(
            f"{name:{widths[0]}}  {number:>{widths[1]}}"
            for (name, _), number in zip(rows, numbers, strict=True)
        )


def state_numbers(optimizer: str) -> int:
    """Return how many numbers an optimiser keeps for each trained one.

    Raises
    ------
    SizeError
        E212 for an optimiser that is not known.

    >>> state_numbers("adamw")
    2
    """
    if optimizer not in OPTIMIZERS:
        what = f"the memory of the optimizer {optimizer!r} is not known"
        raise SizeError("E212", what, advice=f"Known: {', '.join(OPTIMIZERS)}.")
    return OPTIMIZERS[optimizer]


def check_tokens(tokens: object, name: str = "tokens") -> None:
    """Raise E212 for what is no number of rows."""
    if not is_count(tokens):
        what = f"{name}={tokens!r} is not a positive integer"
        advice = "Give the rows of a batch times their length."
        if name == "itemsize":
            advice = "Give the bytes of a number: 4 for float32, 2 for bfloat16."
        raise SizeError("E212", what, advice=advice)


def memory_of_cores(
    bound: Bound,
    tokens: int,
    optimizer: str,
    itemsize: int,
    inputs: Sequence[Hashable] | None,
) -> Memory:
    """See :meth:`tenslora.Bound.memory`."""
    check_tokens(tokens)
    check_tokens(itemsize, "itemsize")
    inputs = None if inputs is None else listed_inputs(inputs)
    states, trained = state_numbers(optimizer), bound.trainable_parameters
    plan = bound.plan(shared=shared_inputs(bound, inputs))
    kept = saved_once(plan, inputs) + tokens * saved_per_token(plan, inputs)
    return Memory(
        {
            "weights": itemsize * (trained + bound.frozen_parameters),
            "gradients": itemsize * trained,
            "optimizer": itemsize * states * trained,
            "activations": itemsize * kept,
        }
    )


def saved_beside(bounds: Iterable[tuple[Bound, Sequence[Hashable]]]) -> int:
    """Count the numbers that bounds on one model keep of a token, an input of several once.

    Each comes with the inputs of its sites, as :meth:`tenslora.Bound.memory` reads them.
    """
    total, read = 0, dict[Hashable, int]()
    for bound, inputs in bounds:
        plan = bound.plan(shared=shared_inputs(bound, inputs))
        total += saved_per_token(plan, inputs)
        if reads_input(plan):
            width = slot_size(bound.network.input, bound.sizes)
            total -= width * len(set(inputs))
            read.update(dict.fromkeys(inputs, width))
    return total + sum(read.values())


def shared_inputs(bound: Bound, inputs: Sequence[Hashable] | None) -> tuple[str, ...] | None:
    """Return over which sites layers read one input, as the plan is asked; ``None``: its default.

    >>> import tenslora as tl
    >>> bound = tl.families.lora.bind({"layer": 1, "proj": 2, "out": 8, "in": 8}, r=2)
    >>> shared_inputs(bound, ["x", "x"]), shared_inputs(bound, ["x", "z"])
    (('proj',), ())
    """
    if inputs is None:
        return None
    same = shared_sites(bound.network, bound.sizes, inputs)
    return tuple(site for site in same if site == "proj")
