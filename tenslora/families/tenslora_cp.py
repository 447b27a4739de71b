"""TensLoRA (arXiv 2509.19391), CP: the seven constructions with one bond for all factors."""

from __future__ import annotations

from tenslora.families.constructions import CONSTRUCTIONS, EVALUATED, REPOSITORY, SOURCE
from tenslora.family import Family, family, register

__all__ = [
    "att",
    "att_depth",
    "att_qkv",
    "att_qkv_depth",
    "depth",
    "qkv",
    "qkv_depth",
]

_NOTE = "The authors' code cannot run its CP branch; the paper's equation is followed"


def _cp(name: str, equation: str) -> Family:
    """Orthogonal factors, the input's at zero, no scaling."""
    factors = dict.fromkeys((core for core in "VHPD" if f" {core}[" in equation), "orthogonal")
    return register(
        family(
            equation,
            name=f"tenslora_cp.{name}",
            init={"U": "zeros", **factors},
            summary=f"CP over {CONSTRUCTIONS[name]}",
            source=SOURCE,
            repository=REPOSITORY,
            evaluated=EVALUATED,
            notes=_NOTE,
        )
    )


att = _cp(
    "att",
    "W[layer proj (head head_dim) in] = "
    "U[layer proj in r] V[layer proj head_dim r] H[layer proj head r]",
)
qkv = _cp(
    "qkv",
    "W[layer proj out in] = U[layer in r] V[layer out r] P[layer proj r]",
)
depth = _cp(
    "depth",
    "W[layer proj out in] = U[proj in r] V[proj out r] D[proj layer r]",
)
att_qkv = _cp(
    "att_qkv",
    "W[layer proj (head head_dim) in] = "
    "U[layer in r] V[layer head_dim r] H[layer head r] P[layer proj r]",
)
att_depth = _cp(
    "att_depth",
    "W[layer proj (head head_dim) in] = "
    "U[proj in r] V[proj head_dim r] H[proj head r] D[proj layer r]",
)
qkv_depth = _cp(
    "qkv_depth",
    "W[layer proj out in] = U[in r] V[out r] P[proj r] D[layer r]",
)
att_qkv_depth = _cp(
    "att_qkv_depth",
    "W[layer proj (head head_dim) in] = U[in r] V[head_dim r] H[head r] P[proj r] D[layer r]",
)
