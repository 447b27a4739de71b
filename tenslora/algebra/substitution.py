"""One network written in the cores of another: the definitions put in place of the cores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, permutations, product
from typing import NoReturn

from tenslora.algebra.constants import pairwise
from tenslora.algebra.sorts import Sorts
from tenslora.algebra.witness import Witness, fit_slots
from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Slot, Term

__all__ = ["Substitution", "places"]

#: How many products a witness may make when its sums are multiplied out.
MAX_PRODUCTS = 1_000


def places(terms: Iterable[Term]) -> dict[str, list[Core]]:
    """Return each core as it is written, once for each way in which it is; ``eye`` too."""
    found: dict[str, list[Core]] = {}
    for core in (core for term in terms for core in term.cores):
        if core.name != "ones" and core not in found.setdefault(core.name, []):
            found[core.name].append(core)
    return found


class Substitution:
    """The cores of ``general`` written in those of ``special``, with one name for each variable.

    ``views`` are the cores of ``special`` in every way in which they can be read.
    """

    def __init__(
        self,
        special: Network,
        general: Network,
        witness: Witness,
        views: Mapping[str, Sequence[Core]],
    ) -> None:
        self.special, self.general, self.views = special, general, views
        self.definitions = {d.core.name: d for d in witness.definitions}
        self.sorts = Sorts(special)
        self.taken = set(special.target.indices)
        for index in special.target.indices:
            self.sorts.join(index, index)
        self.bonds: dict[str, Slot] = {}
        self.formal: dict[str, dict[str, str]] = {}
        self.inner: dict[tuple[str, int], dict[str, str]] = {}
        self.variables: list[str] = []
        self.open: list[Core] = []

    def fresh(self, name: str) -> str:
        """Return ``name``, or ``name`` with the first number that makes it new."""
        n, chosen = 1, name
        while chosen in self.taken:
            n, chosen = n + 1, f"{name}{n + 1}"
        self.taken.add(chosen)
        self.variables.append(chosen)
        return chosen

    def run(self) -> tuple[Term, ...]:
        """Return the terms of ``general`` in the cores of ``special``.

        What can be read in several ways stays open: see :meth:`settle`.

        Raises
        ------
        SpecError
            E132 slots that do not fit, E135 two sizes made equal, E137 too many products.
        """
        pending = list(self.general.cores.values())
        while pending:  # first the cores whose slots tell each bond apart
            core = next((c for c in pending if self.plain(c)), pending[0])
            pending.remove(core)
            told = fit_slots(self.definitions[core.name], self.bonds, self.general)
            for bond, slot in told.items():
                self.bonds[bond] = tuple(map(self.fresh, slot))
        self.check_count()
        terms: list[Term] = []
        for term in self.general.terms:
            values = [self.value(core) for core in term.cores]
            terms += [Term(tuple(c for cores in way for c in cores)) for way in product(*values)]
        sized = {"eye", *self.views}
        self.open = [core for term in terms for core in term.cores if core.name in sized]
        self.equate_all()
        return tuple(terms)

    def check_count(self) -> None:
        """Refuse a witness of sums that make too many products: each is compared with each."""
        lengths = {name: len(d.terms) for name, d in self.definitions.items()}
        count = sum(
            math.prod(lengths.get(core.name, 1) for core in term.cores)
            for term in self.general.terms
        )
        if count > MAX_PRODUCTS:
            what = f"the witness makes {count:,} products; the limit is {MAX_PRODUCTS:,}"
            raise SpecError("E137", what, advice="Write fewer sums, or prove it in two steps.")

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
        self.link(core.name, self.formal[core.name], names, definition.core)
        return [self.written(core.name, n, term, names) for n, term in enumerate(definition.terms)]

    def link(
        self, name: str, first: Mapping[str, str], names: Mapping[str, str], core: Core
    ) -> None:
        """Say that an array has the same sizes in the place ``names`` as in the first."""
        for one, two in first.items():
            if not self.sorts.link(two, names[one]):
                self.refuse(core, self.told(two), self.told(names[one]))

    def told(self, name: str) -> str:
        """Return the index of ``special`` that has the size of ``name``, or the name."""
        return self.sorts.of(name) or name

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
        found = Core(core.name, tuple(slots))
        if core.name == "eye" and len(set(map(len, slots))) > 1 and not self.alike(found):
            what = f"{core} of {self.general} joins ranks that are groups of different lengths"
            raise SpecError("E132", what, advice="Write as many names in each of its slots.")
        return found

    def written(self, name: str, n: int, term: Term, names: Mapping[str, str]) -> tuple[Core, ...]:
        """Return a term of a definition with its names where it stands; inner ones are new."""
        found = dict.fromkeys(i for core in term.cores for i in core.indices if i not in names)
        inner = {index: self.fresh(index) for index in found}
        first = self.inner.setdefault((name, n), inner)
        self.link(name, first, inner, self.definitions[name].core)
        known = {**inner, **names}
        return tuple(
            Core(core.name, tuple(tuple(known[i] for i in slot) for slot in core.slots))
            for core in term.cores
        )

    def equate_all(self) -> None:
        """Say which sizes the cores make equal that can be read in one way only."""
        while (core := next((c for c in self.open if len(self.fitting(c)) < 2), None)) is not None:
            self.open.remove(core)
            self.equate(core, next(iter(self.fitting(core)), None))

    def equate(self, core: Core, view: Core | None) -> None:
        """Say which sizes a core makes equal, where it is read as ``view``."""
        if core.name == "eye" and view is None:
            for slot in core.slots[1:]:
                if len(slot) != len(core.slots[0]):
                    what = f"{core} joins groups of different lengths, of other sizes than"
                    what += f" {self.views['eye'][0]}"
                    raise SpecError("E132", what, advice="Write as many names in each slot.")
                for one, two in zip(core.slots[0], slot, strict=True):
                    if not self.sorts.link(one, two):
                        self.refuse(core, self.told(one), self.told(two))
            return
        view = self.alike(core)[0] if view is None else view
        for name, index in zip(core.indices, view.indices, strict=True):
            if not self.sorts.join(name, index):
                self.refuse(core, self.told(name), index)

    def alike(self, core: Core) -> list[Core]:
        """Return the ways to read a core with groups as long as here.

        An array can be read as in any place where it stands. An ``eye`` joins one name with one
        other, unless ``special`` has one that joins groups of sizes that are equal as a whole.
        """
        known = self.views.get(core.name, ())
        if core.name == "eye":
            known = [turned for one in known for turned in _turned(one)]
        lengths = [len(slot) for slot in core.slots]
        return [v for v in known if [len(slot) for slot in v.slots] == lengths]

    def fitting(self, core: Core) -> list[Core | None]:
        """Return those of them whose sizes this one can have, by what is known so far."""
        agrees = self.sorts.agrees
        known: list[Core | None] = [
            v for v in self.alike(core) if all(map(agrees, core.indices, v.indices))
        ]
        paired = len(set(map(len, core.slots))) == 1 and core.name == "eye"
        if known and paired and self.pairs(core):
            known.append(None)
        return known

    def pairs(self, core: Core) -> bool:
        """Whether the slots of an ``eye`` can have equal sizes name by name."""
        return all(
            self.sorts.may_link(one, two)
            for slot in core.slots[1:]
            for one, two in zip(core.slots[0], slot, strict=True)
        )

    def refuse(self, core: Core, first: str, second: str) -> NoReturn:
        """Raise the error for two sizes that a witness makes equal."""
        what = f"{core} makes the size of {first!r} that of {second!r}"
        advice = f"They are two sizes of {self.special}; a witness holds for all sizes."
        raise SpecError("E135", what, advice=advice)

    def settle(self) -> None:
        """Decide what is open still, and refuse a variable whose size nothing tells.

        What the comparison with ``special`` has told is known now. The rest stands in terms that
        vanish; it is read in the first way that fits.

        Raises
        ------
        SpecError
            E133 a size that nothing tells, E135 two sizes made equal.
        """
        self.equate_all()
        while self.open:
            core = self.open.pop(0)
            self.equate(core, self.fitting(core)[0])
            self.equate_all()
        for name in self.variables:
            if self.sorts.of(name) is None:
                what = f"index {name!r} of the witness is free: nothing tells its size"
                advice = "Join it by eye to an index of a core, or write () for a rank of 1."
                raise SpecError("E133", what, advice=advice)

    def paired(self, term: Term) -> Term:
        """Write each ``eye`` between groups as one for each pair of names of one size."""
        return pairwise(term, self.sorts.alike)

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


def _turned(core: Core) -> Iterator[Core]:
    """Return an ``eye`` between groups with its slots in every order; of others, nothing."""
    if any(len(slot) > 1 for slot in core.slots):
        yield from (Core(core.name, slots) for slots in islice(permutations(core.slots), 120))
