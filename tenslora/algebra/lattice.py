"""The order of special cases among several networks: verdicts, classes, and what each costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations

from tenslora.algebra.embed import Verdict
from tenslora.algebra.proof import Proof, format_ranks
from tenslora.algebra.refute import Refutation

__all__ = ["Lattice", "make_lattice"]

_MARKS = {"equal": "=", "free": "<", "grows": "+", "refuted": ".", "undecided": "?", "apart": " "}


@dataclass(frozen=True)
class Lattice:
    """Verdicts on every ordered pair of names.

    ``a`` is *below* ``b`` where it is a special case at ranks made of its own ranks (``free``). At
    ranks that grow with a size, every family that reaches all of the tensor contains every other;
    so the picture is of the free order, and the table and the list have the others too.

    Attributes
    ----------
    names : in the order in which they were given.
    verdicts : for ``(special, general)`` a proof, a counterexample or neither; pairs over targets
        that cannot be aligned are left out.

    Examples
    --------
    >>> import tenslora as tl
    >>> order = tl.lattice(["lora", "tied_lora", "lotr"])
    >>> order.kind("tied_lora", "lora"), order.kind("lora", "tied_lora")
    ('free', 'grows')
    >>> order.covers()
    [(('tied_lora',), ('lora',)), (('lotr',), ('lora',))]
    >>> order.counts()["pairs"], order.undecided()
    (6, [])
    """

    names: tuple[str, ...]
    verdicts: Mapping[tuple[str, str], Verdict]

    def kind(self, special: str, general: str) -> str:
        """Return ``equal``, ``free``, ``grows``, ``refuted``, ``undecided`` or ``apart``.

        ``equal`` is free in both directions, ``grows`` a proof in which a rank grows with a size,
        ``apart`` a pair over different targets.
        """
        verdict = self.verdicts.get((special, general))
        if special == general:
            return "equal"
        if isinstance(verdict, Proof):
            back = self.verdicts.get((general, special))
            both = verdict.free and isinstance(back, Proof) and back.free
            return "equal" if both else "free" if verdict.free else "grows"
        if isinstance(verdict, Refutation):
            return "refuted"
        return "apart" if verdict is None else "undecided"

    def counts(self) -> dict[str, int]:
        """Return how many ordered pairs were proved, refuted and left undecided, and of how many.

        ``free`` are those of the proved in which no rank grows with a size.
        """
        found = Counter(self.kind(a, b) for a, b in permutations(self.names, 2))
        free = found["equal"] + found["free"]
        return {
            "families": len(self.names),
            "pairs": found.total() - found["apart"],
            "proved": free + found["grows"],
            "free": free,
            "refuted": found["refuted"],
            "undecided": found["undecided"],
        }

    def undecided(self) -> list[tuple[str, str]]:
        """Return the pairs without proof or counterexample."""
        pairs = permutations(self.names, 2)
        return [(a, b) for a, b in pairs if self.kind(a, b) == "undecided"]

    def undecided_in(self) -> dict[str, list[str]]:
        """Return the undecided pairs by the larger: the names that may or may not be in it."""
        held: dict[str, list[str]] = {}
        for special, general in self.undecided():
            held.setdefault(general, []).append(special)
        return held

    def below(self) -> dict[str, set[str]]:
        """Return for each name the names above it in the free order, closed under composition."""
        above = {
            a: {b for b in self.names if b != a and self.kind(a, b) in ("equal", "free")}
            for a in self.names
        }
        for middle in self.names:
            for held in above.values():
                if middle in held:
                    held |= above[middle]
        return {a: held - {a} for a, held in above.items()}

    def classes(self) -> list[tuple[str, ...]]:
        """Return the names, those together that are special cases of each other."""
        above, seen, found = self.below(), set[str](), []
        for name in self.names:
            if name not in seen:
                members = tuple(b for b in self.names if b == name or _mutual(above, name, b))
                seen.update(members)
                found.append(members)
        return found

    def covers(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Return the pairs of classes with nothing between them: the lines of the picture."""
        above, classes = self.below(), self.classes()

        def lower(one: tuple[str, ...], two: tuple[str, ...]) -> bool:
            return one != two and two[0] in above[one[0]]

        return [
            (a, b)
            for a, b in permutations(classes, 2)
            if lower(a, b) and not any(lower(a, c) and lower(c, b) for c in classes)
        ]

    def table(self) -> str:
        """Return the verdicts as a square of marks, rows in columns, with the legend and counts."""
        width = max(map(len, self.names))
        digits = len(str(len(self.names)))
        rows = [
            " " * (width + digits + 2) + " ".join(f"{n:>{digits}}" for n in range(len(self.names)))
        ]
        for n, a in enumerate(self.names):
            marks = (f"{_MARKS[self.kind(a, b)]:>{digits}}" for b in self.names)
            rows.append(f"{n:>{digits}} {a:<{width}} {' '.join(marks)}")
        rows += [
            "",
            "the row in the column: = the same set at suitable ranks, < a special case at ranks",
            "made of its own, + a special case whose ranks grow with a size, . not a special case",
            "at any ranks, ? undecided",
            self.summary(),
        ]
        return "\n".join(rows)

    def summary(self) -> str:
        """Return the counts in a sentence, and the undecided pairs by name, by the larger."""
        counts = self.counts()
        decided = f"{counts['proved']} of {counts['pairs']} pairs proved "
        decided += f"({counts['free']} of them = or <), {counts['refuted']} refuted, "
        decided += f"{counts['undecided']} undecided"
        apart = len(self.names) * (len(self.names) - 1) - counts["pairs"]
        decided += f"; {apart} more are over different sites" if apart else ""
        held = self.undecided_in().items()
        lines = (f"undecided in {general}: {', '.join(names)}" for general, names in held)
        return "\n".join([decided, *lines])

    def costs(self) -> list[tuple[str, str, str]]:
        """Return every proved pair with the ranks that it takes."""
        return [
            (a, b, format_ranks(verdict.ranks))
            for (a, b), verdict in self.verdicts.items()
            if isinstance(verdict, Proof)
        ]


def _mutual(above: Mapping[str, set[str]], one: str, two: str) -> bool:
    return two in above[one] and one in above[two]


def make_lattice(
    names: Mapping[str, object], decide: Callable[[str, str], Verdict | None]
) -> Lattice:
    """Ask for the verdict on every ordered pair of names; ``None`` leaves a pair out."""
    verdicts: dict[tuple[str, str], Verdict] = {}
    for special, general in permutations(names, 2):
        verdict = decide(special, general)
        if verdict is not None:
            verdicts[special, general] = verdict
    return Lattice(tuple(names), verdicts)
