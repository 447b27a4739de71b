"""TensLoRA (arXiv 2509.19391), CP: the seven constructions with one bond for all factors."""

from __future__ import annotations

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

_SOURCE = "Marmoret et al. 2025, arXiv 2509.19391"


def _cp(name: str, equation: str, summary: str) -> Family:
    """Orthogonal factors, the input's at zero, no scaling."""
    factors = dict.fromkeys((core for core in "VHPD" if f" {core}[" in equation), "orthogonal")
    return register(
        family(
            equation,
            name=f"tenslora_cp.{name}",
            init={"U": "zeros", **factors},
            summary=f"CP over {summary}",
            source=_SOURCE,
        )
    )


att = _cp(
    "att",
    "W[layer proj (head head_dim) in] = "
    "U[layer proj in r] V[layer proj head_dim r] H[layer proj head r]",
    "the heads of each weight",
)
qkv = _cp(
    "qkv",
    "W[layer proj out in] = U[layer in r] V[layer out r] P[layer proj r]",
    "the projections of each layer",
)
depth = _cp(
    "depth",
    "W[layer proj out in] = U[proj in r] V[proj out r] D[proj layer r]",
    "the layers, for each projection",
)
att_qkv = _cp(
    "att_qkv",
    "W[layer proj (head head_dim) in] = "
    "U[layer in r] V[layer head_dim r] H[layer head r] P[layer proj r]",
    "the heads and projections of each layer",
)
att_depth = _cp(
    "att_depth",
    "W[layer proj (head head_dim) in] = "
    "U[proj in r] V[proj head_dim r] H[proj head r] D[proj layer r]",
    "the heads and layers, for each projection",
)
qkv_depth = _cp(
    "qkv_depth",
    "W[layer proj out in] = U[in r] V[out r] P[proj r] D[layer r]",
    "the projections and layers",
)
att_qkv_depth = _cp(
    "att_qkv_depth",
    "W[layer proj (head head_dim) in] = U[in r] V[head_dim r] H[head r] P[proj r] D[layer r]",
    "the heads, projections and layers",
)
