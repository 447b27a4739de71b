"""What makes an equation well formed, and where in its text a mistake stands."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tenslora.errors import SpecError
from tenslora.spec.index import Core, Term

__all__ = ["MAX_CORES", "MAX_TEXT", "Place", "Problem", "core_places", "find_problem", "locate"]

#: Limits that keep a text from a file or a stranger harmless.
MAX_TEXT, MAX_CORES, MAX_NAME = 20_000, 256, 64

#: Where a thing stands: (term, core) or (term, core, slot, position); the target is (-1, 0).
Place = tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """A mistake in the structure, before it is known how the text was written."""

    code: str
    what: str
    advice: str
    place: Place

    def error(self, text: str, span: tuple[int, int]) -> SpecError:
        """Return the exception with the mistake marked in ``text``."""
        return SpecError(self.code, self.what, advice=self.advice, text=text, span=span)


def core_places(target: Core, terms: tuple[Term, ...]) -> Iterator[tuple[tuple[int, int], Core]]:
    """Every core with its place, the target first."""
    yield (-1, 0), target
    for t, term in enumerate(terms):
        for c, core in enumerate(term.cores):
            yield (t, c), core


def locate(target: Core, terms: tuple[Term, ...], place: Place) -> tuple[str, tuple[int, int]]:
    """Print the equation and return the text with the span of ``place`` in it."""
    text, span = "", (0, 0)
    for (t, c), core in core_places(target, terms):
        if t >= 0:
            text += " " if c else (" + " if t else " = ")
        if place == (t, c):
            span = (len(text), len(text) + len(str(core)))
        text += core.name + "["
        for s, slot in enumerate(core.slots):
            text += " " if s else ""
            text += "(" if len(slot) > 1 else ""
            for p, index in enumerate(slot):
                text += " " if p else ""
                if place == (t, c, s, p):
                    span = (len(text), len(text) + len(index))
                text += index
            text += ")" if len(slot) > 1 else ""
        text += "]"
    return text, span


def find_problem(target: Core, terms: tuple[Term, ...]) -> Problem | None:
    """Return the first thing that makes the equation ill formed, or ``None``."""
    for check in (_limits, _names, _target, _repeats, _reserved, _arity, _bonds, _features):
        problem = check(target, terms)
        if problem is not None:
            return problem
    return None


def _limits(target: Core, terms: tuple[Term, ...]) -> Problem | None:
    count = sum(len(term.cores) for term in terms)
    if not terms or any(not term.cores for term in terms):
        return Problem("E102", "a term has no core", "Write at least one core in it.", (-1, 0))
    if count > MAX_CORES:
        what = f"the equation has {count} cores; the limit is {MAX_CORES}"
        return Problem("E110", what, "Share cores by a site index instead.", (-1, 0))
    return None


def _names(target: Core, terms: tuple[Term, ...]) -> Problem | None:
    for place, core in core_places(target, terms):
        for name in (core.name, *core.indices):
            if not (name.isascii() and name.isidentifier()):
                what = f"{name!r} is not a name"
                advice = "Use letters, digits and _, with no digit in front."
                return Problem("E101", what, advice, place)
            if len(name) > MAX_NAME:
                what = f"a name of {len(name)} characters; the limit is {MAX_NAME}"
                return Problem("E110", what, "Use a shorter name.", place)
        for s, slot in enumerate(core.slots):
            if not slot:
                return Problem("E107", f"slot {s} of {core.name} is empty", "Drop it.", place)
    return None


def _target(target: Core, terms: tuple[Term, ...]) -> Problem | None:
    if len(target.slots) < 2:
        what = f"the target {target} needs an output and an input slot"
        return Problem("E106", what, f"Write {target.name}[out in] or with sites before.", (-1, 0))
    for s, slot in enumerate(target.slots[:-2]):
        if len(slot) > 1:
            what = f"the site slot {' '.join(slot)!r} is a group"
            advice = f"Write the sites one by one: {' '.join(slot)}."
            return Problem("E107", what, advice, (-1, 0, s, 0))
    return None


def _repeats(target: Core, terms: tuple[Term, ...]) -> Problem | None:
    for place, core in core_places(target, terms):
        seen: set[str] = set()
        for s, slot in enumerate(core.slots):
            for p, index in enumerate(slot):
                if index in seen:
                    where = "the target" if place == (-1, 0) else f"core {core.name}"
                    what = f"index {index!r} stands twice in {where}"
                    advice = "Use two names; join them by a core eye[i j] if they must agree."
                    return Problem("E105", what, advice, (*place, s, p))
                seen.add(index)
    return None


def _reserved(target: Core, terms: tuple[Term, ...]) -> Problem | None:
    if target.is_constant:
        what = f"{target.name!r} is a reserved constant core"
        return Problem("E108", what, "Give the target another name, such as W.", (-1, 0))
    for place, core in list(core_places(target, terms))[1:]:
        if core.name == target.name:
            what = f"the target {target.name!r} stands on the right-hand side"
            return Problem("E108", what, "Give the core another name.", place)
        if core.name == "eye" and len(core.slots) < 2:
            what = f"{core} needs two slots or more: it is 1 where they agree"
            return Problem("E108", what, "Use ones[...] for a constant vector.", place)
        if not core.slots:
            advice = f"Write {core.name}[i] with an index; a factor belongs in the scale."
            return Problem("E102", f"core {core.name} has no index", advice, place)
    return None


def _arity(target: Core, terms: tuple[Term, ...]) -> Problem | None:
    first: dict[str, Core] = {}
    for place, core in list(core_places(target, terms))[1:]:
        if core.is_constant:
            continue
        known = first.setdefault(core.name, core)
        if len(known.slots) != len(core.slots):
            count = len(core.slots)
            what = f"core {core.name} has {len(known.slots)} slots in {known} and {count} here"
            advice = "The same name is the same array: give them two names."
            return Problem("E109", what, advice, place)
    return None


def _bonds(target: Core, terms: tuple[Term, ...]) -> Problem | None:
    free = set(target.indices)
    for t, term in enumerate(terms):
        ends = Counter(i for core in term.cores for i in core.indices)
        for c, core in enumerate(term.cores):
            for s, slot in enumerate(core.slots):
                for p, index in enumerate(slot):
                    if index in free or ends[index] > 1:
                        continue
                    what = f"bond {index!r} ends nowhere: it occurs in one core only."
                    advice = _advice_for_bond(target, term, core, index, ends)
                    return Problem("E103", what, advice, (t, c, s, p))
    return None


def _advice_for_bond(target: Core, term: Term, core: Core, index: str, ends: Counter[str]) -> str:
    features = [i for slot in target.slots[-2:] for i in slot]
    missing = [i for i in features if i not in ends]
    others = [i for i in (*target.indices, *ends) if i != index and i not in core.indices]
    close = difflib.get_close_matches(index, others, n=1, cutoff=0.6)
    wanted = [i for i in close if i in missing] or missing[:1] or close
    if wanted:
        slots = tuple(tuple(wanted[0] if i == index else i for i in slot) for slot in core.slots)
        return f"Did you mean {Core(core.name, slots)}?"
    return f"Give {index!r} to a second core of the term, or drop it."


def _features(target: Core, terms: tuple[Term, ...]) -> Problem | None:
    for t, term in enumerate(terms):
        held = {i for core in term.cores for i in core.indices}
        for s, slot in list(enumerate(target.slots))[-2:]:
            for p, index in enumerate(slot):
                if index not in held:
                    side = "output" if s == len(target.slots) - 2 else "input"
                    where = f" in term {t + 1}, {term}" if len(terms) > 1 else ""
                    what = f"{side} index {index!r} has no core{where}"
                    advice = f"Let a core carry {index!r}, or write ones[{index}]."
                    return Problem("E104", what, advice, (-1, 0, s, p))
    return None
