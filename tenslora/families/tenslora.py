"""TensLoRA (arXiv 2509.19391), Tucker: seven ways of stacking the updates into one tensor.

What a construction aggregates (``att``: the heads, ``qkv``: the projections, ``depth``: the layers)
gets a factor and a bond of its own. What it does not aggregate stands on every core.
"""

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

_NOTE = (
    "The authors' code lays the output out as (head_dim head), so that its heads are not the "
    "model's; here it is (head head_dim). It draws all copies of a tensor from one seed, so that "
    "they start equal; here they differ"
)


def _tucker(name: str, equation: str) -> Family:
    """Orthogonal factors, the core at zero, no scaling."""
    factors = dict.fromkeys((core for core in "UVHPD" if f" {core}[" in equation), "orthogonal")
    return register(
        family(
            equation,
            name=f"tenslora.{name}",
            init={**factors, "G": "zeros"},
            summary=f"Tucker over {CONSTRUCTIONS[name]}",
            source=SOURCE,
            repository=REPOSITORY,
            evaluated=EVALUATED,
            notes=_NOTE,
        )
    )


att = _tucker(
    "att",
    "W[layer proj (head head_dim) in] = "
    "U[layer proj in a] V[layer proj head_dim b] H[layer proj head c] G[layer proj a b c]",
)
qkv = _tucker(
    "qkv",
    "W[layer proj out in] = U[layer in a] V[layer out b] P[layer proj c] G[layer a b c]",
)
depth = _tucker(
    "depth",
    "W[layer proj out in] = U[proj in a] V[proj out b] D[proj layer c] G[proj a b c]",
)
att_qkv = _tucker(
    "att_qkv",
    "W[layer proj (head head_dim) in] = "
    "U[layer in a] V[layer head_dim b] H[layer head c] P[layer proj d] G[layer a b c d]",
)
att_depth = _tucker(
    "att_depth",
    "W[layer proj (head head_dim) in] = "
    "U[proj in a] V[proj head_dim b] H[proj head c] D[proj layer d] G[proj a b c d]",
)
qkv_depth = _tucker(
    "qkv_depth",
    "W[layer proj out in] = U[in a] V[out b] P[proj c] D[layer d] G[a b c d]",
)
att_qkv_depth = _tucker(
    "att_qkv_depth",
    "W[layer proj (head head_dim) in] = "
    "U[in a] V[head_dim b] H[head c] P[proj d] D[layer e] G[a b c d e]",
)
