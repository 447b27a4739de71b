"""Whether a family starts where training can leave from: at W = 0, with a gradient."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from tenslora.errors import FamilyError
from tenslora.init import InitRule
from tenslora.spec import Core, Network, Term

__all__ = ["cancels", "check_start"]


def cancels(network: Network, init: Mapping[str, InitRule]) -> bool:
    """Whether terms that are not zero at the start take each other away there.

    >>> from tenslora.init import parse_rule
    >>> from tenslora.spec import parse
    >>> two = parse("W[out in] = B[out in] + N[out in]")
    >>> rules = {"B": parse_rule("xavier"), "N": InitRule("copy", -1.0, "B", parse_rule("xavier"))}
    >>> cancels(two, rules)
    True
    """
    return bool(_cancelled(network, init))


def check_start(network: Network, init: Mapping[str, InitRule], frozen: frozenset[str]) -> None:
    """Refuse a start that changes the model, or from which every gradient is zero.

    A term is zero when it holds a zero core, and has a gradient then only if that zero stands in it
    once and is trained: the gradient of each factor is the product of the others. Terms that are
    not zero may take each other away, one holding copies of the other's cores and a minus sign; a
    core that is trained and was copied has a gradient then.

    Raises
    ------
    FamilyError
        E303 (nothing can train) or E304 (the model changes before training).
    """
    alive, cancelled = False, _cancelled(network, init)
    copied = {rule.of for rule in init.values() if rule.of is not None} - frozen
    for t, term in enumerate(network.terms):
        zeros = _zeros(term, init)
        if t in cancelled:
            alive = alive or any(core.name in copied for core in term.cores)
            continue
        if not zeros:
            where = f"term {t + 1}, {term}," if len(network.terms) > 1 else str(network)
            first = next((c.name for c in term.cores if not c.is_constant), None)
            advice = "Write starts_nonzero=True if you mean it"
            advice += f", or start one core at zero: init={{{first!r}: 'zeros'}}." if first else "."
            what = f"no core of {where} starts at zero: the model would change before training"
            raise FamilyError("E304", what, advice=advice)
        alive = alive or (len(zeros) == 1 and zeros[0].name not in frozen)
    if not alive:
        names = ", ".join(core.name for core in _zeros(network.terms[0], init))
        what = f"every gradient is zero at the start of {network}: {names or 'no core'} at zero"
        advice = "Start exactly one trained core of a term at zero, and let it stand there once."
        raise FamilyError("E303", what, advice=advice)


def _zeros(term: Term, init: Mapping[str, InitRule]) -> list[Core]:
    return [core for core in term.cores if not core.is_constant and init[core.name].is_zero]


def _cancelled(network: Network, init: Mapping[str, InitRule]) -> set[int]:
    """The terms that are not zero at the start and whose sum is: equal values, opposite signs."""
    signs: dict[Hashable, list[tuple[int, float]]] = {}
    for t, term in enumerate(network.terms):
        if _zeros(term, init):
            continue
        sign, cores = 1.0, []
        for core in term.cores:
            rule = None if core.is_constant else init[core.name]
            of = None if rule is None else rule.of
            sign *= 1.0 if rule is None or of is None or rule.value is None else rule.value
            cores.append((of or core.name, core.slots))
        signs.setdefault(tuple(sorted(cores)), []).append((t, sign))
    return {t for same in signs.values() if sum(s for _, s in same) == 0.0 for t, _ in same}
