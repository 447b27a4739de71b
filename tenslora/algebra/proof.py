"""Proofs that one network is a special case of another, checked by substitution for all sizes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import NoReturn

from tenslora.algebra.constants import eliminate_in_term
from tenslora.algebra.matching import match
from tenslora.algebra.sorts import Sorts
from tenslora.algebra.witness import CONSTANTS, Definition, Witness, fit_slots, parse_witness
from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Slot, Term

__all__ = ["Proof", "check_networks"]


@dataclass(frozen=True)
class Proof:
    """That ``special`` is a special case of ``general``, for all sizes and ranks of ``special``.

    Attributes
    ----------
    special, general : the two networks, over one target.
    witness : the value of each core of ``general``.
    ranks : what each bond of ``general`` is: indices of ``special``, of which it is the product;
        ``()`` is rank 1.
    sizes : the index of ``special`` that gives the size of each name in the witness, by core.
    steps : the law and the equation after it, from ``general`` to ``special``.
    """

    special: Network
    general: Network
    witness: Witness
    ranks: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, Mapping[str, str]]
    steps: tuple[tuple[str, str], ...]

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
    aligned: tuple[str, ...] = (),
) -> Proof:
    """Check a witness: substitute, remove constants, compare. See :func:`tenslora.check`.

    ``aligned`` says what was done to bring the two over one target, for the printed steps.

    Raises
    ------
    SpecError
        E130 the targets differ; E131 to E134 the witness is not one for these networks; E135 the
        substitution gives something else than ``special``.
    """
    parsed = parse_witness(witness)
    if special.target.slots != general.target.slots:
        what = f"{special.target} and {general.target} are different targets"
        raise SpecError("E130", what, advice="Align them first by split, join, rename or squeeze.")
    _check_names(special, general, parsed)
    _check_frozen(general, parsed, frozenset(frozen_special), frozenset(frozen_general))
    substitution = _Substitution(special, general, parsed)
    terms = substitution.run()
    steps = [("align", text) for text in aligned]
    steps += [("general", _text(general, general.terms)), ("substitute", _text(special, terms))]
    left = tuple(t for t in terms if not any(_is_zero(c, special) for c in t.cores))
    if left != terms:
        steps.append(("zero", _text(special, left) if left else f"{special.target} = 0"))
    free, needed = special.target.indices, special.features
    reduced = tuple(eliminate_in_term(term, free, needed) for term in left)
    if reduced != left:
        steps.append(("copy, unit", _text(special, reduced)))
    wanted = tuple(eliminate_in_term(term, free, needed) for term in special.terms)
    difference = match(wanted, reduced, free)
    if difference is not None:
        what = f"the witness gives another network: {difference}"
        advice = f"It gives {steps[-1][1]}; wanted is {special}."
        raise SpecError("E135", what, advice=advice)
    steps.append(("special", str(special)))
    return Proof(special, general, parsed, substitution.ranks(), substitution.sizes(), tuple(steps))


def _text(network: Network, terms: tuple[Term, ...]) -> str:
    return f"{network.target} = {' + '.join(map(str, terms))}"


def _is_zero(core: Core, special: Network) -> bool:
    return core.name == "zeros" and core.name not in special.cores


def _check_names(special: Network, general: Network, witness: Witness) -> None:
    defined = {definition.core.name for definition in witness.definitions}
    for name in defined - set(general.cores):
        what = f"the witness defines {name}, which is no core of {general}"
        raise SpecError("E131", what, advice=f"Its cores are {', '.join(general.cores)}.")
    for name, core in general.cores.items():
        if name not in defined:
            what = f"the witness says nothing of core {name} of {general}"
            raise SpecError("E131", what, advice=f"Add a line {core} = ...")
    for definition in witness.definitions:
        for core in (core for term in definition.terms for core in term.cores):
            if core.name in special.cores:
                _check_shape(definition, core, special.cores[core.name])
            elif core.name not in CONSTANTS:
                what = f"{core.name} in {definition} is no core of {special}"
                known = ", ".join([*special.cores, *sorted(CONSTANTS)])
                raise SpecError("E131", what, advice=f"A value is made of {known}.")
            elif core.name == "eye" and len({len(slot) for slot in core.slots}) != 1:
                what = f"{core} in {definition} joins groups of different lengths"
                raise SpecError("E132", what, advice="Write as many names in each of its slots.")


def _check_shape(definition: Definition, core: Core, known: Core) -> None:
    if [len(slot) for slot in core.slots] != [len(slot) for slot in known.slots]:
        what = f"{core} in {definition} does not have the slots of {known}"
        raise SpecError("E132", what, advice="Write as many names in each slot, in its order.")


def _check_frozen(
    general: Network, witness: Witness, special_frozen: frozenset[str], frozen: frozenset[str]
) -> None:
    for definition in witness.definitions:
        if definition.core.name not in frozen:
            continue
        for core in (core for term in definition.terms for core in term.cores):
            if core.name not in CONSTANTS and core.name not in special_frozen:
                what = f"core {definition.core.name} of {general} is frozen, {core.name} is trained"
                advice = "The value of a frozen core is made of frozen cores and constants."
                raise SpecError("E134", what, advice=advice)


class _Substitution:
    """The cores of ``general`` written in those of ``special``, with one name for each variable."""

    def __init__(self, special: Network, general: Network, witness: Witness) -> None:
        self.special, self.general = special, general
        self.definitions = {d.core.name: d for d in witness.definitions}
        self.sorts = Sorts(special)
        self.taken = set(special.target.indices)
        for index in special.target.indices:
            self.sorts.join(index, index)
        self.bonds: dict[str, Slot] = {}
        self.formal: dict[str, dict[str, str]] = {}
        self.variables: list[str] = []

    def fresh(self, name: str) -> str:
        """Return ``name``, or ``name`` with the first number that makes it new."""
        n, chosen = 1, name
        while chosen in self.taken:
            n, chosen = n + 1, f"{name}{n + 1}"
        self.taken.add(chosen)
        self.variables.append(chosen)
        return chosen

    def run(self) -> tuple[Term, ...]:
        pending = list(self.general.cores.values())
        while pending:  # first the cores whose slots tell each bond apart
            core = next((c for c in pending if self.plain(c)), pending[0])
            pending.remove(core)
            told = fit_slots(self.definitions[core.name], self.bonds, self.general)
            for bond, slot in told.items():
                self.bonds[bond] = tuple(map(self.fresh, slot))
        terms: list[Term] = []
        for term in self.general.terms:
            values = [self.value(core) for core in term.cores]
            terms += [Term(tuple(c for cores in way for c in cores)) for way in product(*values)]
        for term in terms:
            for core in term.cores:
                self.equate(core)
        self.settle()
        return tuple(terms)

    def plain(self, core: Core) -> bool:
        """Whether no slot of ``core`` joins two bonds that are not known yet."""
        bonds = set(self.general.bonds) - set(self.bonds)
        return all(len(bonds.intersection(slot)) < 2 for slot in core.slots)

    def value(self, core: Core) -> list[tuple[Core, ...]]:
        """Return the value of one core where it stands, as a sum of products."""
        if core.is_constant:
            return [(self.constant(core),)]
        definition = self.definitions[core.name]
        names: dict[str, str] = {}
        for slot, formal in zip(core.slots, definition.core.slots, strict=True):
            actual = self.expand(slot, formal)
            if len(actual) != len(formal):
                what = f"{core} and {definition.core} have slots of different lengths"
                advice = "A rank is the same group wherever it stands."
                raise SpecError("E132", what, advice=advice)
            names.update(zip(formal, actual, strict=True))
        self.formal.setdefault(core.name, names)
        for one, two in self.formal[core.name].items():  # one array: one size a slot
            if not self.sorts.link(two, names[one]):
                self.refuse(definition.core, two, names[one])
        return [self.written(term, names) for term in definition.terms]

    def expand(self, slot: Slot, formal: Slot) -> Slot:
        for index in slot:
            if index in self.general.bonds and index not in self.bonds:
                whole = formal if len(slot) == 1 else (index,)
                self.bonds[index] = tuple(map(self.fresh, whole))
        return tuple(i for index in slot for i in self.bonds.get(index, (index,)))

    def constant(self, core: Core) -> Core:
        lengths = [len(self.bonds.get(slot[0], "1")) for slot in core.slots if len(slot) == 1]
        slots = [self.expand(slot, slot * max(lengths, default=1)) for slot in core.slots]
        if core.name == "eye" and len({len(slot) for slot in slots}) > 1:
            what = f"{core} of {self.general} joins ranks that are groups of different lengths"
            raise SpecError("E132", what, advice="Write as many names in each of its slots.")
        return Core(core.name, tuple(slots))

    def written(self, term: Term, names: Mapping[str, str]) -> tuple[Core, ...]:
        found = dict.fromkeys(i for core in term.cores for i in core.indices if i not in names)
        inner = {index: self.fresh(index) for index in found}
        known = {**inner, **names}
        return tuple(
            Core(core.name, tuple(tuple(known[i] for i in slot) for slot in core.slots))
            for core in term.cores
        )

    def equate(self, core: Core) -> None:
        """Say which sizes a core makes equal."""
        if core.name in self.special.cores:
            known = self.special.cores[core.name].slots
            names = [i for slot in known for i in slot]  # _check_shape: as many as the core has
            for name, index in zip(core.indices, names, strict=True):
                if not self.sorts.join(name, index):
                    self.refuse(core, name, index)
        elif core.name == "eye":
            for slot in core.slots[1:]:
                for one, two in zip(core.slots[0], slot, strict=True):
                    if not self.sorts.link(one, two):
                        self.refuse(core, one, two)

    def refuse(self, core: Core, one: str, two: str) -> NoReturn:
        first, second = self.sorts.of(one) or one, self.sorts.of(two) or two
        what = f"{core} makes the size of {first!r} that of {second!r}"
        advice = f"They are two sizes of {self.special}; a witness holds for all sizes."
        raise SpecError("E135", what, advice=advice)

    def settle(self) -> None:
        for name in self.variables:
            if self.sorts.of(name) is None:
                what = f"index {name!r} of the witness is free: nothing tells its size"
                advice = "Join it by eye to an index of a core, or write () for a rank of 1."
                raise SpecError("E133", what, advice=advice)

    def ranks(self) -> dict[str, tuple[str, ...]]:
        return {
            bond: tuple(self.sorts.of(name) or name for name in self.bonds[bond])
            for bond in self.general.bonds
        }

    def sizes(self) -> dict[str, dict[str, str]]:
        return {
            core: {formal: self.sorts.of(name) or name for formal, name in known.items()}
            for core, known in self.formal.items()
        }
