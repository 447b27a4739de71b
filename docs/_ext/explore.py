"""What the explorer shows of an equation. This module runs in the reader's browser too.

Nothing is imported but the symbolic half of tenslora, which needs no numpy for it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import facts

import tenslora
from tenslora.draw import hues, to_html, to_svg
from tenslora.draw.colours import hue_class
from tenslora.errors import RedundantRankWarning, TensloraError
from tenslora.family import Bound, Family
from tenslora.family.picture import draw_family
from tenslora.spec import Network

_SIZES = {"layer": 12, "proj": 3, "site": 36, "head": 12, "head_dim": 64, "out": 768, "in": 768}
_RANK, _SIZE = 8, 16  # of a bond and of another index, where nothing is known
_MOST = 9  # cores in a term above which no order is searched for while somebody types


def explore(request: str) -> str:
    """Answer a request in JSON, the arguments of :func:`look`, in JSON."""
    return json.dumps(look(**json.loads(request)))


def look(
    equation: str,
    *,
    family: str = "",
    sizes: Mapping[str, Any] | None = None,
    zero: Collection[str] = (),
    frozen: Collection[str] = (),
    literal: bool = False,
) -> dict[str, Any]:
    """Return the picture, the counts and the errors of an equation as plain data.

    Parameters
    ----------
    equation : the text.
    family : the name of a family of the catalogue, looked at as it is instead.
    sizes : of indices and ranks; those of a usual model where one is not named.
    zero, frozen : the cores that start at zero, and those that are not trained; names that are not
        in the equation are left out.
    literal : a term without a core in ``zero`` has none, instead of its first.
    """
    if family:
        return describe(tenslora.resolve(family), sizes or {})
    try:
        network = tenslora.parse(equation)
    except TensloraError as error:
        return {"error": told(error)}
    zero = set(zero)
    for term in () if literal else network.terms:
        stored = [core.name for core in term.cores if not core.is_constant]
        zero.update([] if zero.intersection(stored) else stored[:1])
    settings: dict[str, Any] = {
        "init": dict.fromkeys((name for name in network.cores if name in zero), "zeros"),
        "frozen": [name for name in network.cores if name in frozen],
    }
    made = tenslora.family(network, **settings, starts_nonzero=True)
    notes = []
    try:
        tenslora.family(network, **settings)
    except TensloraError as error:
        notes.append(told(error))
    return describe(made, sizes or {}, notes)


def describe(
    family: Family, sizes: Mapping[str, Any], notes: Collection[Any] = (), *, planned: bool = True
) -> dict[str, Any]:
    """Return what is shown of a family.

    Parameters
    ----------
    sizes : of indices and ranks, usual ones where one is not named.
    notes : errors that leave the counts as they are.
    planned : search for the order of contraction, to count FLOPs.
    """
    network = family.network
    known = hues(network)
    complete = {index: sizes.get(index, usual(index, network)) for index in _indices(network)}
    answer: dict[str, Any] = {
        "equation": family.equation,
        "html": to_html(network),
        "svg": to_svg(draw_family(family).scene, style=False),
        "formula": facts.formula(family),
        "indices": [
            {"name": i, "kind": kind, "hue": hue_class(i, known), "size": complete[i]}
            for i, kind in _indices(network).items()
        ],
        "cores": [
            {
                "name": name,
                "text": str(core),
                "indices": list(core.indices),
                "frozen": name in family.frozen,
                "zero": family.init[name].is_zero,
            }
            for name, core in network.cores.items()
        ],
        "notes": list(notes),
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RedundantRankWarning)
        try:
            answer["counts"] = _counts(family.bind(complete), planned)
        except TensloraError as error:
            answer["size_error"] = told(error)
    answer["notes"] += [
        {"code": "W201", "text": str(w.message)}
        for w in caught
        if isinstance(w.message, RedundantRankWarning)
    ]
    return answer


def _counts(bound: Bound, planned: bool) -> dict[str, int | None]:
    counts: dict[str, int | None] = {
        "trained": bound.trainable_parameters,
        "frozen": bound.frozen_parameters,
        "cut": bound.cut_rank,
        "flops": None,
        "once": None,
    }
    if planned and all(len(term.cores) <= _MOST for term in bound.network.terms):
        plan = bound.plan()
        counts.update(flops=plan.flops_per_token, once=plan.hoist_flops)
    return counts


def _indices(network: Network) -> dict[str, str]:
    kinds = {
        "site": network.sites,
        "output": network.output,
        "input": network.input,
        "rank": network.bonds,
    }
    return {index: kind for kind, indices in kinds.items() for index in indices}


def usual(index: str, network: Network) -> int:
    """Return the size that an index has where the reader has not said it."""
    return _RANK if index in network.bonds else _SIZES.get(index, _SIZE)


def told(error: TensloraError) -> dict[str, str]:
    """Return an error as the page shows it: its code, and its text with the caret."""
    return {"code": error.code, "text": str(error)}
