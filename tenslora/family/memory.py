"""The memory of a training run, before it starts: what is counted and what it adds up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tenslora.errors import SizeError
from tenslora.spec import is_count

__all__ = ["OPTIMIZERS", "Memory", "state_numbers"]

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
        raise SizeError("E212", what, advice="Give the rows of a batch times their length.")
