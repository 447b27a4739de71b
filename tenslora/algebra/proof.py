"""Proofs that one network is a special case of another, checked by substitution for all sizes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tenslora.algebra.constants import eliminate_in_term, pairwise, tied
from tenslora.algebra.limits import UNLIMITED, Limits
from tenslora.algebra.matching import match
from tenslora.algebra.sorts import Sorts
from tenslora.algebra.substitution import Substitution, places
from tenslora.algebra.witness import CONSTANTS, Definition, Witness, parse_witness
from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Term

__all__ = ["Proof", "check_networks", "identity"]


@dataclass(frozen=True)
class Proof:
    """That ``special`` is a special case of ``general``, for all sizes and ranks of ``special``.

    Attributes
    ----------
    special, general : the two networks, over one target.
    witness : the value of each core of ``general``.
    ranks : what each bond of ``general`` is: indices of ``special``, of which it is the product;
        ``()`` is rank 1.
    sizes : the index of ``special`` that gives the size of each name in the witness, by core and
        term of its value.
    steps : the law and the equation after it, from ``general`` to ``special``.
    chosen : the frozen cores of ``general``: constants that are to have the values in the witness.
    parts : where sizes of parts were chosen, the indices of ``special`` that each part of the
        larger family is the product of; ``()`` is 1.

    Examples
    --------
    >>> import tenslora as tl
    >>> special = "W[k out in] = B[out r] A[r in]"
    >>> proof = tl.embeds(special, "W[k out in] = B[k out r] A[k r in]")
    >>> bool(proof), proof.free, proof.ranks
    (True, True, {'r': ('r',)})
    >>> print(proof.witness)
    B[k out r] = B[out r] ones[k]
    A[k r in] = A[r in] ones[k]
    """

    special: Network
    general: Network
    witness: Witness
    ranks: Mapping[str, tuple[str, ...]]
    sizes: Mapping[tuple[str, int], Mapping[str, str]]
    steps: tuple[tuple[str, str], ...]
    chosen: tuple[str, ...] = ()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def free(self) -> bool:
        """Whether no rank of ``general`` grows with a size: they are ranks of ``special`` alone."""
        bonds = set(self.special.bonds)
        return all(index in bonds for group in self.ranks.values() for index in group)

    def __str__(self) -> str:
        width = max(len(law) for law, _ in self.steps)
        lines = [f"special case  {self.special}", f"of            {self.general}", "witness"]
        lines += [f"  {definition}" for definition in self.witness.definitions]
        if self.ranks:
            lines.append(f"ranks         {format_ranks(self.ranks)}")
        if self.chosen:
            lines.append(f"frozen        {', '.join(self.chosen)}: constants that are chosen so")
        lines.append("proof, for all sizes")
        lines += [f"  {law:<{width}}  {text}" for law, text in self.steps]
        return "\n".join(lines)


def format_ranks(ranks: Mapping[str, tuple[str, ...]]) -> str:
    """Write ranks as products of sizes.

    >>> format_ranks({"a": ("layer", "r"), "b": ()})
    'a = layer*r, b = 1'
    """
    return ", ".join(f"{bond} = {'*'.join(group) or '1'}" for bond, group in ranks.items())


def check_networks(
    special: Network,
    general: Network,
    witness: str | Iterable[str] | Witness,
    *,
    frozen_special: Collection[str] = (),
    frozen_general: Collection[str] = (),
    limits_special: Limits = UNLIMITED,
    limits_general: Limits = UNLIMITED,
    aligned: tuple[str, ...] = (),
    parts: Mapping[str, tuple[str, ...]] | None = None,
) -> Proof:
    """Check a witness: substitute, remove constants, compare. See :func:`tenslora.check`.

    ``aligned`` says what was done to bring the two over one target, for the printed steps, and
    ``parts`` what sizes were chosen.

    Raises
    ------
    SpecError
        E130 the targets differ; E131 to E134 the witness is not one for these networks; E135 the
        substitution gives something else than ``special``, E137 too many products.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> lora, dense = parse("W[out in] = B[out r] A[r in]"), parse("W[out in] = T[out in]")
    >>> print(check_networks(lora, dense, "T[out in] = B[out r] A[r in]"))
    special case  W[out in] = B[out r] A[r in]
    of            W[out in] = T[out in]
    witness
      T[out in] = B[out r] A[r in]
    proof, for all sizes
      general     W[out in] = T[out in]
      substitute  W[out in] = B[out r] A[r in]
      special     W[out in] = B[out r] A[r in]
    """
    parsed = parse_witness(witness)
    if special.target.slots != general.target.slots:
        what = f"{special.target} and {general.target} are different targets"
        raise SpecError("E130", what, advice="Align them first by split, join, rename or squeeze.")
    free, needed, sorts = special.target.indices, special.features, Sorts(special)
    wanted = tuple(
        eliminate_in_term(pairwise(term, sorts.equal), free, needed) for term in special.terms
    )
    views = places([*special.terms, *wanted])
    _check_names(special, general, parsed, views)
    _check_frozen(special, general, parsed, frozenset(frozen_special), frozenset(frozen_general))
    _check_given(special, general, parsed, limits_general)
    substitution = Substitution(special, general, parsed, views)
    terms = substitution.run()
    steps = [("align", text) for text in aligned]
    steps += [("general", _text(general, general.terms)), ("substitute", _text(special, terms))]
    left = tuple(t for t in terms if not any(_is_zero(c, special) for c in t.cores))
    if left != terms:
        steps.append(("zero", _text(special, left) if left else f"{special.target} = 0"))
    reduced = tuple(eliminate_in_term(substitution.paired(term), free, needed) for term in left)
    if reduced != left:
        steps.append(("copy, unit", _text(special, reduced)))
    difference = match(
        [tied(term, free) for term in wanted],
        [tied(term, free) for term in reduced],
        free,
        substitution.sorts,
    )
    if difference is None or not substitution.open:
        substitution.settle()
    if difference is not None:
        what = f"the witness gives another network: {difference}"
        advice = f"It gives {steps[-1][1]}; wanted is {special}."
        raise SpecError("E135", what, advice=advice)
    steps.append(("special", str(special)))
    ranks = substitution.ranks()
    _check_ranks(special, general, ranks, limits_special, limits_general)
    chosen = tuple(name for name in general.cores if name in frozenset(frozen_general))
    sizes = substitution.sizes()
    return Proof(special, general, parsed, ranks, sizes, tuple(steps), chosen, parts or {})


def identity(network: Network, frozen: Iterable[str] = ()) -> Proof:
    """Return the proof that a network is a special case of itself: nothing is changed."""
    cores = network.cores.values()
    witness = Witness(tuple(Definition(core, (Term((core,)),)) for core in cores))
    ranks = {bond: (bond,) for bond in network.bonds}
    sizes = {(core.name, 0): {index: index for index in core.indices} for core in cores}
    steps = (("general", str(network)), ("special", str(network)))
    return Proof(network, network, witness, ranks, sizes, steps, tuple(frozen))


def _text(network: Network, terms: tuple[Term, ...]) -> str:
    return f"{network.target} = {' + '.join(map(str, terms))}"


def _constants(special: Network) -> frozenset[str]:
    """Return the names that mean a constant in a witness; a core of that name is that core."""
    return CONSTANTS.difference(special.cores)


def _is_zero(core: Core, special: Network) -> bool:
    return core.name == "zeros" and core.name in _constants(special)


def _check_names(
    special: Network, general: Network, witness: Witness, views: Mapping[str, Sequence[Core]]
) -> None:
    defined = {definition.core.name for definition in witness.definitions}
    for name in defined - set(general.cores):
        what = f"the witness defines {name}, which is no core of {general}"
        raise SpecError("E131", what, advice=f"Its cores are {', '.join(general.cores)}.")
    for name, core in general.cores.items():
        if name not in defined:
            what = f"the witness says nothing of core {name} of {general}"
            raise SpecError("E131", what, advice=f"Add a line {core} = ...")
    groups = {tuple(sorted(map(len, eye.slots))) for eye in views.get("eye", ())}
    for definition in witness.definitions:
        for core in (core for term in definition.terms for core in term.cores):
            if core.name in special.cores:
                _check_shape(definition, core, views[core.name])
            elif core.name not in CONSTANTS:
                what = f"{core.name} in {definition} is no core of {special}"
                known = ", ".join([*special.cores, *sorted(CONSTANTS)])
                raise SpecError("E131", what, advice=f"A value is made of {known}.")
            elif core.name == "eye" and len(lengths := {len(slot) for slot in core.slots}) != 1:
                if lengths and tuple(sorted(map(len, core.slots))) in groups:
                    continue
                what = f"{core} in {definition} joins groups of different lengths"
                raise SpecError("E132", what, advice="Write as many names in each of its slots.")


def _check_shape(definition: Definition, core: Core, known: Sequence[Core]) -> None:
    lengths = [len(slot) for slot in core.slots]
    if all(lengths != [len(slot) for slot in one.slots] for one in known):
        what = f"{core} in {definition} does not have the slots of {known[0]}"
        raise SpecError("E132", what, advice="Write as many names in each slot, in its order.")


def _check_frozen(
    special: Network,
    general: Network,
    witness: Witness,
    special_frozen: frozenset[str],
    frozen: frozenset[str],
) -> None:
    constants = _constants(special)
    for definition in witness.definitions:
        if definition.core.name not in frozen:
            continue
        for core in (core for term in definition.terms for core in term.cores):
            if core.name not in constants and core.name not in special_frozen:
                what = f"core {definition.core.name} of {general} is frozen, {core.name} is trained"
                advice = "The value of a frozen core is made of frozen cores and constants."
                raise SpecError("E134", what, advice=advice)


def _check_given(special: Network, general: Network, witness: Witness, limits: Limits) -> None:
    """Refuse any value of a core that has the value of a rule; the constants can be written.

    ``ones`` is one term of nothing else, and nothing in it is summed: a sum would be larger.
    """
    for definition in witness.definitions:
        rule = limits.given.get(definition.core.name)
        if rule is None:
            continue
        rule = "ones" if definition.core.name in limits.ones(general) else rule
        names = {core.name for term in definition.terms for core in term.cores}
        written = rule in ("ones", "zeros") and rule in _constants(special) and names == {rule}
        if rule == "ones" and written:
            (term, *more) = definition.terms
            written = not more and set(term.indices) <= set(definition.core.indices)
        if not written:
            what = f"core {definition.core.name} of {general} is frozen and has the value of a rule"
            what += f", {rule}"
            raise SpecError("E134", what, advice="No witness can give it another.")


def _check_ranks(
    special: Network,
    general: Network,
    ranks: Mapping[str, tuple[str, ...]],
    limits_special: Limits,
    limits_general: Limits,
) -> None:
    """Refuse a rank of frozen cores that may be larger than what they can have."""
    known = limits_special.words(special)
    for bond, why in limits_general.words(general).items():
        group = ranks[bond]
        bounds = known.get(group[0], "") if len(group) == 1 else ""
        if group and not set(why.split(" and ")) <= set(bounds.split(" and ")):
            what = f"rank {bond} of {general} would be {'*'.join(group)}; {why} bounds it"
            advice = "Its frozen cores are taken from the weights, which have no such rank."
            raise SpecError("E134", what, advice=advice)
