"""Classical decompositions that the field has not tried under a name of their own."""

from __future__ import annotations

from tenslora.algebra import builders
from tenslora.family import family, register

__all__ = ["block_term", "hierarchical_tucker", "tensor_ring"]

tensor_ring = register(
    family(
        "W[layer proj out in] = V[b out t] G[layer proj a b] U[t in a]",
        name="tensor_ring",
        init={"V": "orthogonal", "G": "zeros", "U": "orthogonal"},
        summary="a ring of outputs, weights and inputs, the factors shared",
        source="Zhao et al. 2016, arXiv 1606.05535",
        aliases=("ring",),
    )
)

block_term = register(
    family(
        "W[layer proj out in] = V[z out b] G[layer proj z a b] U[z in a]",
        name="block_term",
        init={"V": "orthogonal", "G": "zeros", "U": "orthogonal"},
        summary="a sum of z Tuckers, the factors shared over weights",
        source="De Lathauwer 2008, https://doi.org/10.1137/070690729",
        aliases=("block-term",),
    )
)

hierarchical_tucker = register(
    family(
        builders.hierarchical_tucker("W[layer proj out in]"),
        name="hierarchical_tucker",
        init={**dict.fromkeys(("U", "V", "P", "D", "G1", "G2"), "orthogonal"), "G": "zeros"},
        summary="a binary tree: features on one side, sites on the other",
        source="Hackbusch and Kühn 2009, https://doi.org/10.1007/s00041-009-9094-9",
        aliases=("ht",),
    )
)
