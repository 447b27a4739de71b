"""Text to :class:`~tenslora.spec.network.Network`, with a caret under what is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tenslora.errors import SpecError
from tenslora.spec.check import MAX_TEXT, Place, find_problem
from tenslora.spec.index import Core, Slot, Term
from tenslora.spec.network import Network

__all__ = ["parse", "parse_definition"]

_TOKEN = re.compile(r"\s+|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>[\[\]()=+])")
_EXAMPLE = "An equation looks like W[out in] = B[out r] A[r in]."


@dataclass(frozen=True)
class _Token:
    kind: str  # "name", one of the marks, or "end"
    text: str
    span: tuple[int, int]


def parse(text: str) -> Network:
    """Read an equation.

    Parameters
    ----------
    text : the equation; white space and line breaks between words mean nothing.

    Raises
    ------
    SpecError
        With a code, the place and advice, for anything that is not a well-formed equation.

    Examples
    --------
    >>> str(parse("W[out in]=B[out r]A[r   in]"))
    'W[out in] = B[out r] A[r in]'
    """
    if not isinstance(text, str):
        what = f"an equation is a string, not {type(text).__name__}"
        raise SpecError("E102", what, advice=_EXAMPLE)
    if len(text) > MAX_TEXT:
        what = f"the text has {len(text):,} characters; the limit is {MAX_TEXT:,}"
        raise SpecError("E110", what, advice="Share cores by a site index instead.")
    return _Parser(text, _tokens(text)).equation()


def parse_definition(text: str) -> tuple[Core, tuple[Term, ...]]:
    """Read ``core = term + term`` where the rules of a whole equation do not hold.

    It is how the value of one core is written in terms of others. ``()`` is an axis of length 1.

    Raises
    ------
    SpecError
        E101, E102, E107 or E110 for text that is not of this form.

    Examples
    --------
    >>> core, terms = parse_definition("G[(p r) ()] = eye[p r] ones[]")
    >>> str(core), [str(term) for term in terms]
    ('G[(p r) ()]', ['eye[p r] ones[]'])
    """
    if not isinstance(text, str):
        what = f"a definition is a string, not {type(text).__name__}"
        raise SpecError("E102", what, advice="Write it as U[in r] = A[r in].")
    if len(text) > MAX_TEXT:
        what = f"the text has {len(text):,} characters; the limit is {MAX_TEXT:,}"
        raise SpecError("E110", what, advice="Write each core in a definition of its own.")
    return _Parser(text, _tokens(text), units=True).definition()


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            char = text[at]
            hints = {
                ",": "Indices are separated by spaces.",
                "*": "Cores side by side are multiplied; no sign is needed.",
                "-": "Terms are added; put a sign into a core's start or into the scale.",
            }
            advice = hints.get(char, "Names are letters, digits and _; marks are [ ] ( ) = and +.")
            what = f"the language has no character {char!r}"
            raise SpecError("E101", what, advice=advice, text=text, span=(at, at + 1))
        if match.lastgroup is not None:
            kind = "name" if match.lastgroup == "name" else match.group()
            found.append(_Token(kind, match.group(), match.span()))
        at = match.end()
    found.append(_Token("end", "the end of the text", (len(text), len(text) + 1)))
    return found


@dataclass
class _Parser:
    text: str
    tokens: list[_Token]
    units: bool = False  # whether () is a slot
    at: int = 0
    spans: dict[Place, tuple[int, int]] = field(default_factory=dict)

    def equation(self) -> Network:
        target, terms = self.definition()
        problem = find_problem(target, terms)
        if problem is not None:
            raise problem.error(self.text, self.spans[problem.place])
        return Network(target, terms)

    def definition(self) -> tuple[Core, tuple[Term, ...]]:
        target = self._core((-1, 0))
        self._take("=", "'=' after the target")
        terms = [self._term(0)]
        while self._peek().kind == "+":
            self._take("+", "'+'")
            terms.append(self._term(len(terms)))
        self._take("end", "a core, '+' or the end")
        return target, tuple(terms)

    def _term(self, t: int) -> Term:
        cores = [self._core((t, 0))]
        while self._peek().kind == "name":
            cores.append(self._core((t, len(cores))))
        return Term(tuple(cores))

    def _core(self, place: Place) -> Core:
        what = "the target, such as W[out in]" if place == (-1, 0) else "a core, such as A[r in]"
        name = self._take("name", what)
        self._take("[", f"'[' after {name.text}")
        slots: list[Slot] = []
        while self._peek().kind in ("name", "("):
            slots.append(self._slot((*place, len(slots))))
        end = self._take("]", f"an index or the ']' that closes {name.text}[")
        self.spans[place] = (name.span[0], end.span[1])
        return Core(name.text, tuple(slots))

    def _slot(self, place: Place) -> Slot:
        if self._peek().kind == "name":
            return (self._index((*place, 0)),)
        start = self._take("(", "'('")
        names: list[str] = []
        while self._peek().kind == "name":
            names.append(self._index((*place, len(names))))
        end = self._take(")", "an index or the ')' that closes the group")
        if len(names) < 2 and not (self.units and not names):
            what = "a group of one index" if names else "an empty group"
            advice = "A group joins two or more: (head head_dim). Write a single index without ( )."
            span = (start.span[0], end.span[1])
            raise SpecError("E107", what, advice=advice, text=self.text, span=span)
        return tuple(names)

    def _index(self, place: Place) -> str:
        token = self._take("name", "an index")
        self.spans[place] = token.span
        return token.text

    def _peek(self) -> _Token:
        return self.tokens[self.at]

    def _take(self, kind: str, expected: str) -> _Token:
        token = self._peek()
        if token.kind != kind:
            got = token.text if token.kind == "end" else repr(token.text)
            what = f"expected {expected}, found {got}"
            raise SpecError("E102", what, advice=_EXAMPLE, text=self.text, span=token.span)
        self.at += 1
        return token
