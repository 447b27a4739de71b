"""Whether a family starts where training can leave from: at W = 0, with a gradient."""

from __future__ import annotations

from collections.abc import Mapping

from tenslora.errors import FamilyError
from tenslora.init import InitRule
from tenslora.spec import Core, Network, Term

__all__ = ["check_start"]


def check_start(network: Network, init: Mapping[str, InitRule], frozen: frozenset[str]) -> None:
    """Refuse a start that changes the model, or from which every gradient is zero.

    A term is zero when it holds a zero core, and has a gradient then only if that zero stands in it
    once and is trained: the gradient of each factor is the product of the others.

    Raises
    ------
    FamilyError
        E303 (nothing can train) or E304 (the model changes before training).
    """
    alive = False
    for t, term in enumerate(network.terms):
        zeros = _zeros(term, init)
        if not zeros:
            where = f"term {t + 1}, {term}," if len(network.terms) > 1 else str(network)
            first = next((c.name for c in term.cores if not c.is_constant), None)
            advice = "Write starts_nonzero=True if you mean it"
            advice += f", or start one core at zero: init={{{first!r}: 'zeros'}}." if first else "."
            what = f"no core of {where} starts at zero: the model would change before training"
            raise FamilyError("E304", what, advice=advice)
        alive = alive or (len(zeros) == 1 and zeros[0].name not in frozen)
    if not alive:
        zeros = _zeros(network.terms[0], init)
        names = ", ".join(core.name for core in zeros)
        what = f"every gradient is zero at the start of {network}: {names} at zero"
        advice = "Start exactly one trained core of a term at zero, and let it stand there once."
        raise FamilyError("E303", what, advice=advice)


def _zeros(term: Term, init: Mapping[str, InitRule]) -> list[Core]:
    return [core for core in term.cores if not core.is_constant and init[core.name].is_zero]
