"""One network written in the cores of another: the definitions put in place of the cores."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import NoReturn

from tenslora.algebra.sorts import Sorts
from tenslora.algebra.witness import Witness, fit_slots
from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Slot, Term

__all__ = ["Substitution", "places"]


def places(network: Network) -> dict[str, list[Core]]:
    """Return each core as it is written, once for each way in which it is."""
    found: dict[str, list[Core]] = {}
    for core in (core for term in network.terms for core in term.cores):
        if not core.is_constant and core not in found.setdefault(core.name, []):
            found[core.name].append(core)
    return found


class Substitution:
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
        self.inner: dict[tuple[str, int], dict[str, str]] = {}
        self.variables: list[str] = []
        self.views = places(special)

    def fresh(self, name: str) -> str:
        """Return ``name``, or ``name`` with the first number that makes it new."""
        n, chosen = 1, name
        while chosen in self.taken:
            n, chosen = n + 1, f"{name}{n + 1}"
        self.taken.add(chosen)
        self.variables.append(chosen)
        return chosen

    def run(self) -> tuple[Term, ...]:
        """Return the terms of ``general`` in the cores of ``special``, and settle every size.

        Raises
        ------
        SpecError
            E132 slots that do not fit, E133 a size that nothing tells, E135 two sizes made equal.
        """
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
        self.equate_all([core for term in terms for core in term.cores])
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
        return [self.written(core.name, n, term, names) for n, term in enumerate(definition.terms)]

    def expand(self, slot: Slot, formal: Slot) -> Slot:
        """Return a slot of ``general`` with its bonds written as their groups."""
        for index in slot:
            if index in self.general.bonds and index not in self.bonds:
                whole = formal if len(slot) == 1 else (index,)
                self.bonds[index] = tuple(map(self.fresh, whole))
        return tuple(i for index in slot for i in self.bonds.get(index, (index,)))

    def constant(self, core: Core) -> Core:
        """Return an ``eye`` or ``ones`` of ``general`` with its bonds written as groups."""
        lengths = [len(self.bonds.get(slot[0], "1")) for slot in core.slots if len(slot) == 1]
        slots = [self.expand(slot, slot * max(lengths, default=1)) for slot in core.slots]
        if core.name == "eye" and len({len(slot) for slot in slots}) > 1:
            what = f"{core} of {self.general} joins ranks that are groups of different lengths"
            raise SpecError("E132", what, advice="Write as many names in each of its slots.")
        return Core(core.name, tuple(slots))

    def written(self, name: str, n: int, term: Term, names: Mapping[str, str]) -> tuple[Core, ...]:
        """Return a term of a definition with its names where it stands; inner ones are new."""
        found = dict.fromkeys(i for core in term.cores for i in core.indices if i not in names)
        inner = {index: self.fresh(index) for index in found}
        self.inner.setdefault((name, n), inner)
        known = {**inner, **names}
        return tuple(
            Core(core.name, tuple(tuple(known[i] for i in slot) for slot in core.slots))
            for core in term.cores
        )

    def equate_all(self, pending: list[Core]) -> None:
        """Say which sizes the cores make equal; first those that can be read in one way only."""
        while pending:
            core = next((c for c in pending if len(self.fitting(c)) < 2), pending[0])
            pending.remove(core)
            self.equate(core)

    def equate(self, core: Core) -> None:
        """Say which sizes a core makes equal."""
        if core.name in self.special.cores:
            for name, index in zip(core.indices, self.view(core).indices, strict=True):
                if not self.sorts.join(name, index):
                    self.refuse(core, name, index)
        elif core.name == "eye":
            for slot in core.slots[1:]:
                for one, two in zip(core.slots[0], slot, strict=True):
                    if not self.sorts.link(one, two):
                        self.refuse(core, one, two)

    def view(self, core: Core) -> Core:
        """Return the place of a core in ``special`` whose sizes this one can have.

        An array that stands in two places with different groups can be read in either way.
        """
        return next(iter(self.fitting(core)), self.alike(core)[0])

    def alike(self, core: Core) -> list[Core]:
        """Return the places of a core in ``special`` with groups as long as here."""
        lengths = [len(slot) for slot in core.slots]
        return [v for v in self.views[core.name] if [len(slot) for slot in v.slots] == lengths]

    def fitting(self, core: Core) -> list[Core]:
        """Return those of them whose sizes this one can have, by what is known so far."""
        if core.name not in self.special.cores:
            return []
        known = self.alike(core)
        return [v for v in known if all(map(self.sorts.agrees, core.indices, v.indices))]

    def refuse(self, core: Core, one: str, two: str) -> NoReturn:
        """Raise the error for two sizes that a witness makes equal."""
        first, second = self.sorts.of(one) or one, self.sorts.of(two) or two
        what = f"{core} makes the size of {first!r} that of {second!r}"
        advice = f"They are two sizes of {self.special}; a witness holds for all sizes."
        raise SpecError("E135", what, advice=advice)

    def settle(self) -> None:
        """Refuse a variable whose size nothing tells."""
        for name in self.variables:
            if self.sorts.of(name) is None:
                what = f"index {name!r} of the witness is free: nothing tells its size"
                advice = "Join it by eye to an index of a core, or write () for a rank of 1."
                raise SpecError("E133", what, advice=advice)

    def ranks(self) -> dict[str, tuple[str, ...]]:
        """Return the indices of ``special`` of which each bond of ``general`` is the product."""
        return {
            bond: tuple(self.sorts.of(name) or name for name in self.bonds[bond])
            for bond in self.general.bonds
        }

    def sizes(self) -> dict[tuple[str, int], dict[str, str]]:
        """Return the index of ``special`` with the size of each name, by core and term."""
        return {
            (core, n): {
                name: self.sorts.of(variable) or variable
                for name, variable in {**inner, **self.formal[core]}.items()
            }
            for (core, n), inner in self.inner.items()
        }
