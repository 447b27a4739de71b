"""A family: a network with starts, frozen cores, scale, dropout and its source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

from tenslora.errors import SizeError, StateError
from tenslora.family import binding
from tenslora.family.bound import Bound
from tenslora.family.scale import Scale, parse_scale
from tenslora.family.settings import (
    check_dropout,
    check_lr,
    check_mapping,
    frozen_cores,
    known_cores,
)
from tenslora.family.start import check_start
from tenslora.init import InitRule, WeightStart, parse_rule, parse_start, resolve_copies
from tenslora.spec import Network, parse
from tenslora.spec.schema import check_keys, check_schema

if TYPE_CHECKING:
    from tenslora.draw import Drawing

__all__ = ["Family", "family"]

SCHEMA_VERSION = 1
_DEFAULT_INIT = InitRule("kaiming", 5.0**0.5)


@dataclass(frozen=True, repr=False)
class Family:
    """A low-rank or tensor adapter family, whole. Make one with :func:`family`.

    Attributes
    ----------
    network : the equation's structure.
    init : the start of each core.
    frozen : the cores that are drawn once and never trained.
    scale : the factor in front of the update.
    dropout : probability at each dropout point; the one point today is ``input``.
    lr : learning-rate multiplier of a core, 1 where it is not named.
    ranks : default ranks, set by calling the family: ``lora(r=8)``.
    name, aliases, source, summary : what the catalogue says of it.
    repository : where its authors' code is.
    evaluated : the models and data on which its source tried it.
    notes : where codes and papers disagree, and what is followed here.
    starts_nonzero : the family means to change the model before training.
    start : the decomposition of the weights that fills some cores; ``init`` where there are none.

    Examples
    --------
    >>> import tenslora as tl
    >>> equation = "W[layer out in] = B[layer out r] A[r in]"
    >>> tied = tl.family(equation, init={"B": "zeros"}, frozen="A")
    >>> tied
    family: W[layer out in] = B[layer out r] A[r in]
      start B zeros, A kaiming (frozen); scale constant
    >>> tied.bind({"layer": 2, "out": 8, "in": 6}, r=4).trainable_parameters
    64
    """

    network: Network
    init: Mapping[str, InitRule]
    frozen: frozenset[str]
    scale: Scale
    dropout: Mapping[str, float] = field(default_factory=dict)
    lr: Mapping[str, float] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    name: str | None = None
    aliases: tuple[str, ...] = ()
    source: str = ""
    summary: str = ""
    repository: str = ""
    evaluated: str = ""
    notes: str = ""
    starts_nonzero: bool = False
    start: WeightStart | None = None

    @property
    def equation(self) -> str:
        """The text of the network."""
        return str(self.network)

    @property
    def bonds(self) -> tuple[str, ...]:
        """The names of the ranks, in order."""
        return self.network.bonds

    @property
    def label(self) -> str:
        """The name, or the equation where there is none."""
        return self.name or self.equation

    def __call__(self, rank: int | None = None, **ranks: int) -> Family:
        """Return the same family with default ranks.

        >>> f = family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
        >>> dict(f(r=8).ranks), dict(f(4).ranks)
        ({'r': 8}, {'r': 4})
        """
        chosen = dict(self.ranks)
        if rank is not None:
            chosen = {bond: binding.check_rank("rank", rank) for bond in self.bonds}
        for bond, value in ranks.items():
            if bond not in self.bonds:
                advice = f"The bonds are {', '.join(self.bonds) or 'none'}."
                what = f"{bond!r} is no bond of {self.label}"
                raise SizeError("E201", what, advice=advice)
            chosen[bond] = binding.check_rank(bond, value)
        return replace(self, ranks=chosen)

    def bind(
        self,
        sizes: Mapping[str, int] | None = None,
        *,
        ranks: int | Mapping[str, int] | None = None,
        like: Family | None = None,
        params: int | None = None,
        alpha: float | None = None,
        **named: int,
    ) -> Bound:
        """Give every index a size; everything else follows without making an array.

        Parameters
        ----------
        sizes, named : sizes and ranks by index name. ``out`` and ``in`` may be the totals of a
            grouped output and input. ``rank=4`` sets every bond. (``in`` is a word of Python: write
            ``bind({"in": 768}, ...)`` or ``bind(**{"in": 768})``.)
        ranks : one rank for every bond (the paper's isorank), or a rank for each.
        like : a family with ranks, such as ``lora(r=8)``: choose the ranks that come closest to
            its number of trained parameters without going over (the paper's isoparameters).
        params : the same with the number itself.
        alpha : the numerator of the scale rule.

        Raises
        ------
        SizeError
            Names, sizes, ranks or a budget that do not fit; see :mod:`tenslora.errors`.

        Warns
        -----
        RedundantRankWarning
            A rank above what its mode can carry.

        Examples
        --------
        >>> f = family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
        >>> bound = f.bind({"in": 768, "out": 768}, r=4)
        >>> bound.trainable_parameters, bound.cut_rank
        (6144, 4)
        """
        if sizes is not None and not isinstance(sizes, Mapping):
            what = f"sizes={sizes!r} is not a mapping from names to sizes"
            raise SizeError("E203", what, advice='Write bind({"in": 768, "out": 768}, r=8).')
        if like is not None and not isinstance(like, Family):
            what = f"like={like!r} is not a family"
            raise SizeError("E208", what, advice="Write like=tl.families.lora(r=8).")
        given = {**(sizes or {}), **named}
        complete = binding.choose(self, given, ranks=ranks, like=like, params=params)
        factor = self.scale.factor(complete, alpha)
        return Bound(self, complete, factor)

    def __add__(self, other: object) -> Family:
        """Return the family of sums with a family, a name or an equation; :func:`tenslora.add`."""
        if not isinstance(other, (Family, str)):
            return NotImplemented
        from tenslora.family.combining import add

        return add(self, other)

    def __radd__(self, other: object) -> Family:
        """Return the sum with a name or an equation; 0 is where ``sum([f, g])`` starts."""
        if isinstance(other, int) and not isinstance(other, bool) and other == 0:
            return self
        if not isinstance(other, str):
            return NotImplemented
        from tenslora.family.combining import add

        return add(other, self)

    def __mul__(self, factor: object) -> Family:
        """Return the family of ``factor * W``."""
        if isinstance(factor, bool) or not isinstance(factor, (int, float)):
            return NotImplemented
        from tenslora.family.operators import scaled

        return scaled(self, factor)

    __rmul__ = __mul__

    def __matmul__(self, other: object) -> Family:
        """Return the family of matrix products, this one after ``other``."""
        if not isinstance(other, (Family, str)):
            return NotImplemented
        from tenslora.family.combining import compose

        return compose(self, other)

    def __rmatmul__(self, other: object) -> Family:
        """Return the matrix products of a name or an equation after this one."""
        if not isinstance(other, str):
            return NotImplemented
        from tenslora.family.combining import compose

        return compose(other, self)

    @property
    def T(self) -> Family:  # noqa: N802 - as numpy and torch call it
        """The family of transposes."""
        from tenslora.family.operators import transpose

        return transpose(self)

    def draw(self, path: str | PathLike[str] | None = None) -> Drawing:
        """Draw the network, and write the picture where a path is given.

        Trained cores are filled, frozen ones grey with a dashed border, and a core that is zero at
        the start has a 0. The legs of sites are dotted; a dot is a copy of an index.

        Parameters
        ----------
        path : ends in ``.svg``, ``.txt`` or ``.tex`` (TikZ).

        Raises
        ------
        FamilyError
            E320 for another ending.

        Examples
        --------
        >>> family("W[layer out in] = B[layer out r] A[r in]", init={"B": "zeros"}).draw()
              ╭───╮  r  ╭──0╮
        in ───┤ A ├─────┤ B ├─── out
              ╰───╯     ╰─┬─╯
                          ┊
                          ┊
                        layer
        """
        from tenslora.family.picture import draw_family

        drawing = draw_family(self)
        return drawing if path is None else drawing.save(path)

    def _repr_html_(self) -> str:
        from tenslora.family.picture import family_page

        return family_page(self)

    def _repr_svg_(self) -> str:
        return self.draw().svg()

    def to_json(self) -> dict[str, Any]:
        """Return the family as a JSON object; :meth:`from_json` reads it."""
        return {
            "schema": SCHEMA_VERSION,
            "equation": self.equation,
            "init": {core: str(rule) for core, rule in self.init.items()},
            "frozen": sorted(self.frozen),
            "scale": str(self.scale),
            "dropout": dict(self.dropout),
            "lr": dict(self.lr),
            "ranks": dict(self.ranks),
            "name": self.name,
            "aliases": list(self.aliases),
            "source": self.source,
            "summary": self.summary,
            "repository": self.repository,
            "evaluated": self.evaluated,
            "notes": self.notes,
            "starts_nonzero": self.starts_nonzero,
            "start": "" if self.start is None else str(self.start),
        }

    @classmethod
    def from_json(cls, obj: object) -> Family:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        StateError
            An unknown version, unknown or missing keys, a value of the wrong type.
        SpecError, FamilyError, SizeError
            The family in it is not a valid one.
        """
        data = dict(check_schema(obj, "family", SCHEMA_VERSION))
        check_keys(data, "family", _KEYS | {"schema"}, _LATER)
        for key, kinds in _KINDS.items():
            if key in data and not isinstance(data[key], kinds):
                what = f"family JSON: {key!r} is {type(data[key]).__name__}"
                raise StateError("E603", what, advice=f"It has to be {_names(kinds)}.")
        ranks = data.pop("ranks")
        made = family(data.pop("equation"), **{k: v for k, v in data.items() if k != "schema"})
        return made(**ranks)

    def __repr__(self) -> str:
        lines = [f"{self.name or 'family'}: {self.equation}"]
        starts = ", ".join(
            f"{core} {rule}{' (frozen)' if core in self.frozen else ''}"
            for core, rule in self.init.items()
        )
        lines.append(f"  start {starts}; scale {self.scale}")
        if self.ranks:
            lines.append("  ranks " + " ".join(f"{b}={r}" for b, r in self.ranks.items()))
        return "\n".join(lines)


_KINDS: dict[str, tuple[type, ...]] = {
    "equation": (str,),
    "init": (dict,),
    "frozen": (list,),
    "scale": (str,),
    "dropout": (dict,),
    "lr": (dict,),
    "ranks": (dict,),
    "name": (str, type(None)),
    "aliases": (list,),
    "source": (str,),
    "summary": (str,),
    "repository": (str,),
    "evaluated": (str,),
    "notes": (str,),
    "starts_nonzero": (bool,),
    "start": (str,),
}
#: Keys that files of the first releases do not have.
_LATER = frozenset({"repository", "evaluated", "notes", "start"})
_KEYS = set(_KINDS) - _LATER


def _names(kinds: tuple[type, ...]) -> str:
    return " or ".join("null" if k is type(None) else k.__name__ for k in kinds)


def family(
    equation: str | Network,
    *,
    init: Mapping[str, str | InitRule] | None = None,
    frozen: Iterable[str] = (),
    scale: str | Scale = "constant",
    dropout: Mapping[str, float] | None = None,
    lr: Mapping[str, float] | None = None,
    ranks: Mapping[str, int] | None = None,
    name: str | None = None,
    aliases: Iterable[str] = (),
    source: str = "",
    summary: str = "",
    repository: str = "",
    evaluated: str = "",
    notes: str = "",
    starts_nonzero: bool = False,
    start: str | WeightStart | None = None,
) -> Family:
    """Define an adapter family by its equation.

    Parameters
    ----------
    equation : text such as ``W[out in] = B[out r] A[r in]``, or a network.
    init : the start of each core (:class:`~tenslora.init.InitRule`); ``kaiming`` where it is not
        named. Exactly one trained core of each term starts at zero, or the term is taken away by
        another that holds ``-copy(...)`` of its cores, unless ``starts_nonzero``.
    frozen : cores that are drawn from the seed and not trained.
    scale : ``constant``, ``constant(0.5)``, ``alpha/r`` or ``alpha/sqrt(r)`` with r a bond, or
        ``1/in`` with the number of input features.
    dropout : ``{"input": p}``.
    lr : learning-rate multipliers by core.
    ranks : default ranks by bond.
    name, aliases, source, summary, repository, evaluated, notes : for the catalogue.
    starts_nonzero : say so when the update is meant to be nonzero before training.
    start : a decomposition of the weights that fills some cores where a model is at hand, such as
        ``svd(U, V)`` (:class:`~tenslora.init.WeightStart`).

    Raises
    ------
    SpecError
        The equation is not well formed.
    FamilyError
        A setting names no core of it, or the start is one from which nothing trains.

    Examples
    --------
    >>> family("W[out in] = B[out r] A[r in]", init={"B": "zeros"}, scale="alpha/r", name="tied")
    tied: W[out in] = B[out r] A[r in]
      start B zeros, A kaiming; scale alpha/r
    """
    network = equation if isinstance(equation, Network) else parse(equation)
    starts = {} if init is None else init
    rates = {} if lr is None else lr
    for what, values in (("init", starts), ("lr", rates)):
        check_mapping(network, what, values)
        known_cores(network, what, values)
    fixed = frozen_cores(network, frozen)
    dropped = check_dropout({} if dropout is None else dropout)
    given = {core: parse_rule(starts.get(core, _DEFAULT_INIT)) for core in network.cores}
    rules = resolve_copies(given, network)
    if not starts_nonzero:
        check_start(network, rules, fixed)
    made = Family(
        network=network,
        init=rules,
        frozen=fixed,
        scale=parse_scale(scale, network),
        dropout=dropped,
        lr=check_lr(rates),
        name=name,
        aliases=tuple(aliases),
        source=source,
        summary=summary,
        repository=repository,
        evaluated=evaluated,
        notes=notes,
        starts_nonzero=starts_nonzero,
        start=parse_start(str(start or ""), network),
    )
    return made(**ranks) if ranks else made
