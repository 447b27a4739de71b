"""What bounds a family beside its equation: values that a rule gives, ranks that a start admits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tenslora.spec import Core, Network

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["UNLIMITED", "Limits"]


def _no_most(network: Network, sizes: Mapping[str, int]) -> dict[str, int]:
    return {}


def _no_words(network: Network) -> dict[str, str]:
    return {}


def _no_ones(network: Network) -> frozenset[str]:
    return frozenset()


def _no_value(core: Core, network: Network, sizes: Mapping[str, int]) -> Array:
    raise NotImplementedError


@dataclass(frozen=True)
class Limits:
    """What is known of frozen cores: :func:`tenslora.family.limits_of` reads it from a family.

    A frozen core that is drawn, or taken from a weight, may be any constant. One whose value a rule
    gives, such as a circulant pattern, is that and nothing else; so is a copy of a frozen core.

    Attributes
    ----------
    given : the rule of each core whose value it gives.
    words : for each bond of the network that cannot have any rank, what bounds it; several bounds
        with `` and `` between them. The network may be aligned, which gives its bonds and features
        other names. Equal words are equal bounds over one target.
    copies : those of the ``given`` that are another frozen core, which may be any constant: its
        name, and 1 or -1.
    scales : of those of the ``given`` whose rule has a number as a factor, that number, above 0.
    value : of another of the ``given``, from the core, the network and all sizes: its array.
    most : the largest rank of each of these bonds, from the network and the sizes of its target;
        no larger one is admitted, or adds anything.
    ones : those of the ``given`` that are all ones in the network, which may be aligned: a
        circulant block of 1 by 1 is.

    Examples
    --------
    >>> import tenslora as tl
    >>> from tenslora.family import limits_of
    >>> limits_of(tl.resolve("c3a")).given
    {'E': 'circulant'}
    >>> taken = tl.resolve("lora_xs")
    >>> limits_of(taken).words(taken.network)
    {'s': 'svd', 'r': 'svd'}
    """

    given: Mapping[str, str] = field(default_factory=dict)
    words: Callable[[Network], dict[str, str]] = _no_words
    value: Callable[[Core, Network, Mapping[str, int]], Array] = _no_value
    most: Callable[[Network, Mapping[str, int]], dict[str, int]] = _no_most
    ones: Callable[[Network], frozenset[str]] = _no_ones
    copies: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)


#: Of a network without frozen cores, or with such as may have any value.
UNLIMITED = Limits()
