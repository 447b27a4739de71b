"""A witness: the value of each core of one network, written in the cores of another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Slot, Term, format_slot, parse_definition

__all__ = ["CONSTANTS", "Definition", "Witness", "parse_witness"]

#: What a value may be made of beside cores. ``zeros`` makes a whole term vanish.
CONSTANTS = frozenset({"eye", "ones", "zeros"})


#: Where the next definition begins.
_DEFINITION = re.compile(r"[;\n]\s*(?=\w+\s*\[[^\]]*\]\s*=)")


@dataclass(frozen=True)
class Definition:
    """The value of one core: ``core = term + term``, its slots being those of the core.

    A rank may be a group, such as ``(layer r)``, or ``()``, which is 1.

    Examples
    --------
    >>> (line,) = parse_witness("U[in (layer r)] = A[layer r in]").definitions
    >>> line.core.name, line.core.slots, str(line.terms[0])
    ('U', (('in',), ('layer', 'r')), 'A[layer r in]')
    """

    core: Core
    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return f"{self.core} = {' + '.join(map(str, self.terms))}"


@dataclass(frozen=True)
class Witness:
    """Definitions, one for each core of the larger network. Made by :func:`parse_witness`.

    Examples
    --------
    >>> witness = parse_witness("V[out r] = B[out r]; U[r in] = A[r in]")
    >>> print(witness)
    V[out r] = B[out r]
    U[r in] = A[r in]
    >>> len(witness.definitions)
    2
    """

    definitions: tuple[Definition, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.definitions))


def parse_witness(lines: str | Iterable[str] | Witness) -> Witness:
    """Read a witness: definitions on lines of their own or separated by ``;``.

    Parameters
    ----------
    lines : such as ``"U[in (layer r)] = A[layer r in]"``. A line that does not begin a definition
        goes on with the one before; a list has one definition an entry, and a mapping one for the
        core that is its key.

    Raises
    ------
    SpecError
        E131 where a core is defined twice, E132 or E133 where a line cannot mean anything, and
        what :func:`~tenslora.spec.parse_definition` says of a text.

    Examples
    --------
    >>> w = parse_witness("U[in (layer r)] = A[layer r in]; G[(layer r) ()] = ones[layer r]")
    >>> [str(d.core) for d in w.definitions]
    ['U[in (layer r)]', 'G[(layer r) ()]']
    """
    if isinstance(lines, Witness):
        return lines
    if isinstance(lines, Mapping):
        return _of_mapping(lines)
    texts = _DEFINITION.split(lines) if isinstance(lines, str) else list(lines)
    found: dict[str, Definition] = {}
    for text in texts:
        if not isinstance(text, str) or text.strip(" \t\n;"):
            core, terms = parse_definition(text.strip(" \t\n;") if isinstance(text, str) else text)
            if core.name in found:
                what = f"core {core.name} is defined twice in the witness"
                raise SpecError("E131", what, advice="Keep one of the two lines.")
            found[core.name] = Definition(core, terms)
    for definition in found.values():
        _check(definition)
    return Witness(tuple(found.values()))


def _of_mapping(lines: Mapping[str, str]) -> Witness:
    """Read a mapping from the name of a core to its definition."""
    read = [(name, parse_witness([text]).definitions) for name, text in lines.items()]
    for name, found in read:
        if [definition.core.name for definition in found] != [name]:
            held = ", ".join(definition.core.name for definition in found) or "nothing"
            what = f"the entry {name!r} of the witness defines {held}"
            raise SpecError("E131", what, advice="The key is the core that the line defines.")
    return Witness(tuple(definition for _, found in read for definition in found))


def _check(definition: Definition) -> None:
    """Refuse a definition in which an index is free: on one side only, or in one core only."""
    header = definition.core.indices
    twice = [index for index, count in Counter(header).items() if count > 1]
    if twice:
        what = f"index {twice[0]!r} stands twice on the left of {definition}"
        raise SpecError("E132", what, advice="Give the ranks two names, and join them by eye.")
    for term in definition.terms:
        ends = Counter(index for core in term.cores for index in core.indices)
        for index in header:
            if not ends[index]:
                what = f"index {index!r} is free in {definition}: nothing on the right carries it"
                raise SpecError("E133", what, advice=f"Write ones[{index}] if all are equal in it.")
        for index, count in ends.items():
            if index not in header and count < 2:
                what = f"index {index!r} is free in {definition}: it occurs in one core only"
                advice = "Put it among the slots on the left, or give it to a second core."
                raise SpecError("E133", what, advice=advice)


def fit_slots(
    definition: Definition, known: Mapping[str, Slot], network: Network
) -> dict[str, Slot]:
    """Return the bonds that the left side of a definition tells, as groups of its names.

    Parameters
    ----------
    definition : the value of a core of ``network``.
    known : bonds that other definitions have told.
    network : the larger network.

    Raises
    ------
    SpecError
        E132 where the left side does not have the slots of the core.
    """
    core = network.cores[definition.core.name]
    found: dict[str, Slot] = {}
    if len(core.slots) != len(definition.core.slots):
        _misfit(definition, core, f"{len(core.slots)} slots")
    for slot, written in zip(core.slots, definition.core.slots, strict=True):
        unknown = [i for i in slot if i in network.bonds and i not in known and i not in found]
        sizes = {i: len(known.get(i, found.get(i, (i,)))) for i in slot}
        if len(unknown) > 1:
            if len(written) != sum(sizes.values()):
                _misfit(definition, core, f"one name for each index of {format_slot(slot)}")
        elif unknown:
            sizes[unknown[0]] = len(written) - sum(n for i, n in sizes.items() if i != unknown[0])
        at = 0
        for index in slot:
            part = written[at : at + max(0, sizes[index])]
            at += len(part)
            if index not in network.bonds and part != (index,):
                _misfit(definition, core, f"{index!r} where {core} has it")
            if index in unknown:
                found[index] = part
        if at != len(written) or min(sizes.values()) < 0:
            _misfit(definition, core, f"the slot {format_slot(slot)}")
    return found


def _misfit(definition: Definition, core: Core, wanted: str) -> None:
    what = f"{definition.core} does not have the slots of {core}: it needs {wanted}"
    advice = "Sites, outputs and inputs keep their names; a rank may be a group: (layer r)."
    raise SpecError("E132", what, advice=advice)
