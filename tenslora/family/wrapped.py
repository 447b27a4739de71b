"""A family in a wrapper, and the same with every size: a norm, the weight itself, a router.

What a wrapper does is no part of the equation; :mod:`tenslora.family.wrapper` has the table.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

from tenslora.errors import FamilyError, SizeError, StateError
from tenslora.family.binding import count_like
from tenslora.family.bound import Bound, boxed, report
from tenslora.family.family import Family
from tenslora.family.memory import Memory
from tenslora.family.wrappedmemory import kept_of, memory_of_wrapped
from tenslora.family.wrapper import Wrapper
from tenslora.spec import is_count
from tenslora.spec.schema import check_keys, check_schema

__all__ = ["Wrapped", "WrappedBound"]

SCHEMA_VERSION = 1


@dataclass(frozen=True, repr=False)
class Wrapped:
    """A family in a wrapper. Make one with :func:`dora`, :func:`hira` or :func:`router`.

    Attributes
    ----------
    wrapper : the wrapper.
    family : the family inside.

    Examples
    --------
    >>> import tenslora as tl
    >>> wrapped = tl.dora("lora")
    >>> wrapped.wrapper, wrapped.family.name
    (Wrapper(name='dora', over=''), 'lora')
    """

    wrapper: Wrapper
    family: Family

    def __post_init__(self) -> None:
        if not isinstance(self.family, Family):
            inside = getattr(self.family, "label", self.family)
            what = f"{self.wrapper} goes around a family, not around {str(inside)[:60]}"
            raise FamilyError("E313", what, advice="A family has one wrapper.")
        network, over = self.family.network, self.wrapper.over
        if over and over not in network.sites:
            what = f"{self.wrapper} is over {over!r}, no site index of {self.family.label}"
            advice = f"Write it as a site: W[layer proj {over} out in] = ..."
            raise FamilyError("E313", what, advice=advice)

    @property
    def label(self) -> str:
        """The text from which :func:`tenslora.attach` reads it, without ranks."""
        return f"{self.wrapper}({self.family.label})"

    def __call__(self, rank: int | None = None, **ranks: int) -> Wrapped:
        """Return the same with default ranks of the family."""
        return Wrapped(self.wrapper, self.family(rank, **ranks))

    def bind(
        self,
        sizes: Mapping[str, int] | None = None,
        *,
        ranks: int | Mapping[str, int] | None = None,
        like: Family | None = None,
        params: int | None = None,
        alpha: float | None = None,
        weights: int | None = None,
        **named: int,
    ) -> WrappedBound:
        """Give every index a size, as :meth:`tenslora.Family.bind` does.

        Parameters
        ----------
        sizes, named, ranks, alpha : as there.
        like, params : a budget for the cores and what the wrapper trains of its own together.
        weights : the number of weight matrices, each of which the wrapper has to itself; by default
            the product of the sizes of the site indices.

        Raises
        ------
        SizeError
            As there; E207 for a budget that the wrapper alone exceeds.

        Examples
        --------
        >>> import tenslora as tl
        >>> bound = tl.dora("lora").bind({"layer": 2, "proj": 1, "out": 8, "in": 6}, r=2)
        >>> bound.trainable_parameters, bound.bound.trainable_parameters
        (72, 56)
        """
        given = {**(sizes or {}), **named}
        if like is not None or params is not None:
            params = self._left(given, like, params, weights)
        bound = self.family.bind(given, ranks=ranks, params=params, alpha=alpha)
        return WrappedBound(self, bound, self._weights(bound, weights))

    def _weights(self, bound: Bound, weights: int | None) -> int:
        if weights is None:
            return math.prod(bound.sizes[site] for site in self.wrapper.sites(bound.network))
        if not is_count(weights):
            what = f"weights={weights!r} is not a positive integer"
            raise SizeError("E203", what, advice="Give the number of weight matrices.")
        return index(weights)

    def _left(
        self, given: Mapping[str, int], like: Family | None, params: int | None, weights: int | None
    ) -> int | None:
        """What a budget leaves for the cores."""
        if like is not None and params is not None:
            raise SizeError("E208", "both like= and params= are given", advice="Give one of them.")
        network = self.family.network
        features = {n: s for n, s in given.items() if n not in (*network.bonds, "rank")}
        least = self.family.bind(features, ranks=1)
        if like is not None:
            beside = {**least.sizes, **({self.wrapper.over: 1} if self.wrapper.over else {})}
            params = count_like(network, beside, like)
        if not is_count(params):
            return params  # refused where ranks are chosen
        budget = index(params)
        own = WrappedBound(self, least, self._weights(least, weights)).own_parameters
        if budget <= own:
            what = f"the budget of {budget:,} is not above the {own:,} numbers that "
            what += f"{self.wrapper} trains beside the cores"
            raise SizeError("E207", what, advice=f"Give {own + least.trainable_parameters:,}.")
        return budget - own

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object; :meth:`from_json` reads it."""
        return {
            "schema": SCHEMA_VERSION,
            "wrapper": str(self.wrapper),
            "family": self.family.to_json(),
        }

    @classmethod
    def from_json(cls, obj: object) -> Wrapped:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        StateError, FamilyError
            As :meth:`tenslora.Family.from_json` says, and E313 for an unknown wrapper.
        """
        data = check_schema(obj, "wrapped family", SCHEMA_VERSION)
        check_keys(data, "wrapped family", {"schema", "wrapper", "family"})
        if not isinstance(data["wrapper"], str):
            what = f"wrapped family JSON: 'wrapper' is {type(data['wrapper']).__name__}"
            raise StateError("E603", what, advice="It has to be text.")
        return cls(Wrapper.parse(data["wrapper"]), Family.from_json(data["family"]))

    def __repr__(self) -> str:
        return f"{self.wrapper}: {self.wrapper.kind.formula}\n{self.family!r}"


@dataclass(frozen=True, repr=False)
class WrappedBound:
    """What :meth:`Wrapped.bind` returns.

    Attributes
    ----------
    wrapped : the family in its wrapper.
    bound : the family with every size.
    weights : the number of weight matrices.

    Examples
    --------
    >>> import tenslora as tl
    >>> bound = tl.dora("lora").bind({"layer": 2, "proj": 1, "out": 8, "in": 6}, r=2)
    >>> bound.own_shapes, bound.own_parameters
    ({'magnitude': (2, 8)}, 16)
    >>> bound.trainable_parameters, bound.nbytes, bound.ranks
    (72, 288, {'r': 2})
    """

    wrapped: Wrapped
    bound: Bound
    weights: int

    @property
    def own_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor that the wrapper trains of its own."""
        return self.wrapped.wrapper.own(self.bound.network, self.bound.sizes, self.weights)

    @property
    def own_parameters(self) -> int:
        """Their entries."""
        return sum(math.prod(shape) for shape in self.own_shapes.values())

    @property
    def trainable_parameters(self) -> int:
        """Entries of the trained cores, and of what the wrapper trains of its own."""
        return self.bound.trainable_parameters + self.own_parameters

    @property
    def ranks(self) -> dict[str, int]:
        """The sizes of the bonds."""
        return self.bound.ranks

    @property
    def nbytes(self) -> int:
        """Bytes of all of it in float32."""
        return self.bound.nbytes + 4 * self.own_parameters

    @property
    def saved_per_token(self) -> int:
        """Numbers that a forward keeps for its backward, of one token through all weights."""
        return kept_of(self).per_token

    def memory(
        self,
        tokens: int = 512,
        *,
        optimizer: str = "adamw",
        itemsize: int = 4,
        inputs: Sequence[Hashable] | None = None,
    ) -> Memory:
        """Estimate what training takes, in bytes, as :meth:`tenslora.Bound.memory` does.

        What the wrapper trains is counted, and what it keeps for its backward: DoRA the output of
        the layer and that of W, HiRA the matrix ``W0 * W`` of every weight, whatever the tokens, a
        router what each expert makes of a token. DoRA's norms take a matrix at a time besides,
        which is not kept.

        Parameters
        ----------
        tokens, optimizer : as there.
        itemsize : as there; the model has numbers of that size too.
        inputs : which input each weight reads, as there: the experts of a router read one. Weights
            that the equation does not tell apart read one each of their own, unless as many are
            named as there are weights: the same number for each that it tells apart, together.

        Raises
        ------
        SizeError
            E212 for an optimiser that is not known, or tokens or an itemsize that are no count.
        PlanError
            E403 for a number of inputs that is neither that of the weights nor that of those which
            the equation tells apart, and for what does not name them in an order.

        Examples
        --------
        >>> import tenslora as tl
        >>> bound = tl.dora("lora").bind({"layer": 12, "proj": 3, "out": 768, "in": 768}, r=8)
        >>> bound.memory(tokens=4096)
        weights          1.8 MB
        gradients        1.8 MB
        optimizer        3.6 MB
        activations  1,012.8 MB
        together     1,020.0 MB
        """
        return memory_of_wrapped(self, tokens, optimizer, itemsize, inputs)

    def to_dict(self) -> dict[str, Any]:
        """Return the report's figures as plain data."""
        return {
            **self.bound.to_dict(),
            "wrapper": str(self.wrapped.wrapper),
            "own": {name: list(shape) for name, shape in self.own_shapes.items()},
            "trainable_parameters": self.trainable_parameters,
            "bytes": self.nbytes,
        }

    def __repr__(self) -> str:
        own = ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in self.own_shapes.items())
        rows = [
            ("wrapper", f"{self.wrapped.wrapper}: {self.wrapped.wrapper.kind.formula}"),
            ("its own", f"{own or 'nothing'}: {self.own_parameters:,} trained"),
        ]
        return boxed(self.wrapped.label, [*report(self.bound), *rows])
