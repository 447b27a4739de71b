"""tenslora: low-rank and tensor adapters, written as equations.

>>> import tenslora as tl
>>> tied = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"}, scale="alpha/r")
>>> tied.bind({"out": 768, "in": 768}, rank=8).trainable_parameters
12288

The symbolic half (equations, families, plans) is imported at once and needs no torch. Pictures,
proofs and the torch half (``attach``, ``load``, ...) are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tenslora.errors import RedundantRankWarning, TensloraError, TensloraWarning
from tenslora.family import (
    Bound,
    Family,
    Wrapped,
    add,
    block_term,
    budget_table,
    compose,
    cp,
    dora,
    family,
    freeze,
    hadamard,
    hierarchical_tucker,
    hira,
    isoparameters,
    isorank,
    join,
    kron,
    model_shape,
    ranks,
    register,
    registered,
    rename,
    resolve,
    restrict,
    router,
    split,
    squeeze,
    tensor_ring,
    tensor_train,
    tie,
    transpose,
    tucker,
    untie,
    wrap,
)
from tenslora.init import InitRule
from tenslora.late import when_imported
from tenslora.lazy import find
from tenslora.spec import Network, parse

if TYPE_CHECKING:
    import tenslora.families as families
    from tenslora.decompose import Fit, fit
    from tenslora.family.proving import check, embeds, lattice, lift
    from tenslora.integrations.peft import TensLoraConfig
    from tenslora.nn import Adapter, Site, active, adapters, attach, load
    from tenslora.nn.lora import load_lora
    from tenslora.nn.portrait import portrait

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "Bound",
    "Family",
    "Fit",
    "InitRule",
    "Network",
    "RedundantRankWarning",
    "Site",
    "TensLoraConfig",
    "TensloraError",
    "TensloraWarning",
    "Wrapped",
    "active",
    "adapters",
    "add",
    "attach",
    "block_term",
    "budget_table",
    "check",
    "compose",
    "cp",
    "dora",
    "embeds",
    "families",
    "family",
    "fit",
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
    "load",
    "load_lora",
    "model_shape",
    "parse",
    "portrait",
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
    "wrap",
]

_LAZY_NAMES = dict.fromkeys(("Adapter", "Site", "active", "adapters", "attach", "load"), "nn")
_LAZY_NAMES |= dict.fromkeys(("Fit", "fit"), "decompose")
_LAZY_NAMES |= dict.fromkeys(("check", "embeds", "lattice", "lift"), "family")
_LAZY_NAMES["load_lora"] = "nn.lora"
_LAZY_NAMES["portrait"] = "nn.portrait"
_LAZY_NAMES["TensLoraConfig"] = "integrations.peft"
_LAZY_MODULES = frozenset({"decompose", "families", "nn", "backends", "testing", "integrations"})


when_imported("peft", "tenslora.integrations.peft")


def __getattr__(name: str) -> Any:
    """Import what is not needed by every program when it is first asked for."""
    if name in _LAZY_MODULES:
        return importlib.import_module(f"tenslora.{name}")
    return find(__name__, name, _LAZY_NAMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_NAMES, *_LAZY_MODULES})
