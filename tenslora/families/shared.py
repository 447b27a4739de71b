"""Factors shared over layers, with a small matrix of its own for each weight."""

from __future__ import annotations

from tenslora.family import family, register

__all__ = ["fact_tk", "fact_tt", "lotr"]

lotr = register(
    family(
        "W[layer proj out in] = B[proj out s] G[layer proj s r] A[proj r in]",
        name="lotr",
        init={"B": "normal(1)", "G": "zeros", "A": "normal(1)"},
        scale="alpha/r",
        summary="a pair of factors for each projection, shared over layers; a core for each layer",
        source="Bershatsky et al. 2024, arXiv 2402.01376",
    )
)

fact_tt = register(
    family(
        "W[site out in] = V[out b] S[site b a] U[in a]",
        name="fact_tt",
        init={"V": "zeros", "S": "xavier", "U": "kaiming"},
        summary="one pair of factors for all weights, a small matrix for each",
        source="Jie and Deng 2023, arXiv 2212.03145",
        aliases=("fact-tt",),
    )
)

fact_tk = register(
    family(
        "W[site out in] = V[out b] C[a b c] P[site c] U[in a]",
        name="fact_tk",
        init={"V": "zeros", "C": "xavier", "P": "xavier", "U": "kaiming"},
        summary="Tucker over the weights: a shared core, a vector for each weight",
        source="Jie and Deng 2023, arXiv 2212.03145",
        aliases=("fact-tk",),
    )
)
