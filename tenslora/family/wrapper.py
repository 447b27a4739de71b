"""The wrappers by name: what each makes of weight and update, and what it trains of its own.

How they run is in :mod:`tenslora.nn.wrappers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tenslora.errors import FamilyError
from tenslora.spec import Network, slot_size

__all__ = ["WRAPPERS", "Kind", "Wrapper", "take_text_apart"]

#: Sizes of the features, the number of weight matrices and of experts -> shape of each own tensor.
_Own = Callable[[int, int, int, int], dict[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Kind:
    """One wrapper of the table.

    Attributes
    ----------
    formula : what the weight or the output becomes; W0 is the weight of the model, W the update.
    summary, source : what it is for, and who published it.
    own : the shapes of what it trains beside the cores, by name.
    routed : whether it is over a site index.

    Examples
    --------
    >>> kind = WRAPPERS["dora"]
    >>> kind.formula
    "W' = m (W0 + W) / |W0 + W|, row by row"
    >>> kind.own(768, 768, 12, 1)  # out, in, weight matrices, experts
    {'magnitude': (12, 768)}
    """

    formula: str
    summary: str
    source: str
    own: _Own
    routed: bool = False


def _magnitude(out: int, width: int, weights: int, experts: int) -> dict[str, tuple[int, ...]]:
    return {"magnitude": (weights, out)}


def _nothing(out: int, width: int, weights: int, experts: int) -> dict[str, tuple[int, ...]]:
    return {}


def _gate(out: int, width: int, weights: int, experts: int) -> dict[str, tuple[int, ...]]:
    return {"gate": (weights, experts, width)}


#: Every wrapper, by name.
WRAPPERS: dict[str, Kind] = {
    "dora": Kind(
        "W' = m (W0 + W) / |W0 + W|, row by row",
        "trains the length m of each row of the weight, and its direction by the update",
        "Liu et al. 2024, arXiv 2402.09353",
        _magnitude,
    ),
    "hira": Kind(
        "W' = W0 + W0 * W, entry by entry",
        "multiplies the update with the weight, which gives it a high rank",
        "Huang et al. 2025, ICLR, https://openreview.net/forum?id=TwJrTz9cRS",
        _nothing,
    ),
    "router": Kind(
        "y = W0 x + sum over e of softmax(gate x)[e] W[e] x",
        "weighs experts, which are a site index of the equation, for each token",
        "MoLoRA: Zadouri et al. 2023, arXiv 2309.05444",
        _gate,
        routed=True,
    ),
}

_TEXT = re.compile(r"\s*(\w+)\s*(?:\[\s*(\w+)\s*\])?\s*(?:\((.*)\)\s*)?", re.DOTALL)


@dataclass(frozen=True)
class Wrapper:
    """A wrapper of :data:`WRAPPERS`, and the site index that it is over, where it is over one.

    >>> str(Wrapper("dora")), str(Wrapper("router", "expert"))
    ('dora', 'router[expert]')
    """

    name: str
    over: str = ""

    def __post_init__(self) -> None:
        kind = WRAPPERS.get(self.name)
        if kind is None:
            what = f"there is no wrapper {self.name!r}"
            raise FamilyError("E313", what, advice=f"There are {', '.join(WRAPPERS)}.")
        if kind.routed != bool(self.over):
            kinds = ("is over no site index", "is over a site index")
            what = f"the wrapper {self.name} {kinds[kind.routed]}"
            example = f"{self.name}[expert]" if kind.routed else self.name
            raise FamilyError("E313", what, advice=f"Write {example}(...).")

    @classmethod
    def parse(cls, text: str) -> Wrapper:
        """Read ``dora`` or ``router[expert]``.

        Raises
        ------
        FamilyError
            E313 for another text.
        """
        match = _TEXT.fullmatch(text)
        if match is None or match[3] is not None:
            what = f"{text[:60]!r} is no wrapper"
            raise FamilyError("E313", what, advice=f"There are {', '.join(WRAPPERS)}.")
        return cls(match[1], match[2] or "")

    @property
    def kind(self) -> Kind:
        """Its row of the table."""
        return WRAPPERS[self.name]

    @property
    def own_names(self) -> tuple[str, ...]:
        """What it trains of its own, by name."""
        return tuple(self.kind.own(1, 1, 1, 1))

    def sites(self, network: Network) -> tuple[str, ...]:
        """The site indices of an equation that the weights of a model fill."""
        return tuple(site for site in network.sites if site != self.over)

    def own(
        self, network: Network, sizes: Mapping[str, int], weights: int
    ) -> dict[str, tuple[int, ...]]:
        """The shapes of what it trains of its own, for so many weight matrices."""
        out, width = (slot_size(slot, sizes) for slot in (network.output, network.input))
        return self.kind.own(out, width, weights, sizes.get(self.over, 1))

    def __str__(self) -> str:
        return f"{self.name}[{self.over}]" if self.over else self.name


def take_text_apart(text: str) -> tuple[Wrapper, str] | None:
    """Return the wrapper and the family's text in ``dora(lora)``; ``None`` for other text.

    >>> take_text_apart("router[expert](lora)")
    (Wrapper(name='router', over='expert'), 'lora')
    >>> take_text_apart("lora") is None
    True
    """
    match = _TEXT.fullmatch(text)
    if match is None or match[3] is None or match[1] not in WRAPPERS:
        return None
    return Wrapper(match[1], match[2] or ""), match[3].strip()
