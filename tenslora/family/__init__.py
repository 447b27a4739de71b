"""The object that a user holds: an equation with its starts, scale and ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenslora.family.affording import Affordable, BudgetTable, budget_table
from tenslora.family.bound import Bound
from tenslora.family.budgeting import isoparameters, isorank, ranks
from tenslora.family.combining import add, compose, hadamard, kron
from tenslora.family.family import Family, family
from tenslora.family.limits import limits_of, most_ranks
from tenslora.family.memory import Memory
from tenslora.family.modelshape import ModelShape, Weights, model_shape
from tenslora.family.operators import (
    freeze,
    join,
    rename,
    restrict,
    split,
    squeeze,
    tie,
    transpose,
    untie,
)
from tenslora.family.rank_text import parse_ranks
from tenslora.family.registry import register, registered, resolve
from tenslora.family.scale import Scale, parse_scale
from tenslora.family.shapes import (
    block_term,
    cp,
    hierarchical_tucker,
    tensor_ring,
    tensor_train,
    tucker,
)
from tenslora.family.wrapped import Wrapped, WrappedBound
from tenslora.family.wrapper import WRAPPERS, Wrapper
from tenslora.family.wrapping import dora, hira, router, unwrap, wrap
from tenslora.lazy import find

if TYPE_CHECKING:
    from tenslora.family.proving import check, embeds, lattice, lift

__all__ = [
    "WRAPPERS",
    "Affordable",
    "Bound",
    "BudgetTable",
    "Family",
    "Memory",
    "ModelShape",
    "Scale",
    "Weights",
    "Wrapped",
    "WrappedBound",
    "Wrapper",
    "add",
    "block_term",
    "budget_table",
    "check",
    "compose",
    "cp",
    "dora",
    "embeds",
    "family",
    "freeze",
    "hadamard",
    "hierarchical_tucker",
    "hira",
    "isoparameters",
    "isorank",
    "join",
    "kron",
    "lattice",
    "lift",
    "limits_of",
    "model_shape",
    "most_ranks",
    "parse_ranks",
    "parse_scale",
    "ranks",
    "register",
    "registered",
    "rename",
    "resolve",
    "restrict",
    "router",
    "split",
    "squeeze",
    "tensor_ring",
    "tensor_train",
    "tie",
    "transpose",
    "tucker",
    "untie",
    "unwrap",
    "wrap",
]

#: The prover is imported when it is first used.
_PLACES = dict.fromkeys(("check", "embeds", "lattice", "lift"), "proving")


def __getattr__(name: str) -> Any:
    return find(__name__, name, _PLACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
