"""Names for families. The catalogue and other packages register their values here.

No family is privileged: everything above resolves a name through :func:`resolve`. Another package
offers its families through the entry-point group ``tenslora.families``, each entry a module that
registers them when it is imported.
"""

from __future__ import annotations

import difflib
import importlib

from tenslora.errors import FamilyError
from tenslora.family.family import Family, family
from tenslora.family.rank_text import parse_ranks
from tenslora.family.wrapped import Wrapped
from tenslora.family.wrapper import take_text_apart
from tenslora.spec import parse

__all__ = ["register", "registered", "resolve"]

_GROUP = "tenslora.families"
_CATALOGUE = "tenslora.families"
_FAMILIES: dict[str, Family] = {}
_ALIASES: dict[str, str] = {}
_loaded: list[str] = []


def register(value: Family) -> Family:
    """Make a family known by its name and aliases, and return it.

    Raises
    ------
    FamilyError
        E306 where it has no name, E307 where a name stands for another family already.

    Examples
    --------
    >>> import tenslora as tl
    >>> lora = tl.resolve("lora")
    >>> tl.register(lora) is lora  # what is known already stays as it is
    True
    >>> tl.register(tl.family(lora.equation, init={"B": "zeros"}))
    Traceback (most recent call last):
    ...
    tenslora.errors.FamilyError: E306: a family without a name cannot be registered: ...
    """
    if not value.name:
        what = f"a family without a name cannot be registered: {value.equation}"
        raise FamilyError("E306", what, advice="Give family(..., name='mine').")
    for name in (value.name, *value.aliases):
        owner = _ALIASES.get(name, name)
        known = _FAMILIES.get(owner)
        if known is not None and known != value:
            what = f"the name {name!r} stands for {known.equation}"
            raise FamilyError("E307", what, advice="Choose another name, such as mypackage.name.")
    _FAMILIES[value.name] = value
    _ALIASES.update(dict.fromkeys(value.aliases, value.name))
    return value


def registered() -> dict[str, Family]:
    """Return every registered family by name, in the order of registration.

    Examples
    --------
    >>> import tenslora as tl
    >>> "lotr" in tl.registered(), len(tl.registered()) > 60
    (True, True)
    """
    _load()
    return dict(_FAMILIES)


def resolve(value: str | Family, *, any_start: bool = False) -> Family:
    """Return the family that a name, an alias, an equation or a family means.

    An equation alone starts the first core of each term at zero and the others with ``kaiming``.

    Parameters
    ----------
    value : text with ``[`` is read as an equation, other text as a name. Ranks may follow a colon:
        ``lora:8``, ``tenslora.qkv:a=22,b=22,c=3``; they become the family's defaults.
    any_start : for an equation that is only looked at: do not ask whether it can train from there.

    Raises
    ------
    FamilyError
        E306 for an unknown name; E303 or E304 for an equation with no such start; E312 for a family
        in a wrapper, which is no equation.
    SpecError
        The equation is not well formed.
    SizeError
        E206 for ranks that cannot be read, E201 for bonds that there are not.

    >>> dict(resolve("W[out in] = B[out r] A[r in]:8").ranks)
    {'r': 8}
    >>> resolve("W[out in] = B[out r] A[r in]")
    family: W[out in] = B[out r] A[r in]
      start B zeros, A kaiming; scale constant
    """
    if isinstance(value, Family):
        return value
    if isinstance(value, Wrapped) or (isinstance(value, str) and take_text_apart(value)):
        label = value.label if isinstance(value, Wrapped) else value
        what = f"{label[:80]} is a family in a wrapper, and an equation is wanted here"
        advice = "tl.attach runs it; for what is known of equations give the family inside."
        raise FamilyError("E312", what, advice=advice)
    if not isinstance(value, str):
        what = f"a family is a name, an equation or a Family, not {type(value).__name__}"
        raise FamilyError("E306", what, advice="Write 'lora' or 'W[out in] = B[out r] A[r in]'.")
    text, colon, ranks = value.partition(":")
    found = _equation(text, any_start) if "[" in text or "=" in text else _named(text)
    if not colon:
        return found
    chosen = parse_ranks(ranks)
    return found(chosen) if isinstance(chosen, int) else found(**(chosen or {}))


def _equation(text: str, any_start: bool) -> Family:
    network = parse(text)
    stored = [[c.name for c in term.cores if not c.is_constant] for term in network.terms]
    zeros = {names[0]: "zeros" for names in stored if names}
    return family(network, init=zeros, starts_nonzero=any_start)


def _named(text: str) -> Family:
    _load()
    name = text.strip()
    found = _FAMILIES.get(_ALIASES.get(name, name))
    if found is None:
        names = [*_FAMILIES, *_ALIASES]
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        advice = f"Did you mean {' or '.join(close)}? " if close else ""
        advice += "`tenslora families` lists them; an equation works too."
        raise FamilyError("E306", f"no family is called {name!r}", advice=advice)
    return found


def _load() -> None:
    if _loaded:
        return
    from importlib.metadata import entry_points  # a fifth of what importing tenslora would take

    _loaded.append(_CATALOGUE)
    importlib.import_module(_CATALOGUE)
    for entry in entry_points(group=_GROUP):
        if entry.value not in _loaded:
            _loaded.append(entry.value)
            entry.load()
