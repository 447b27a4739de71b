"""Factors shared over layers, with a small matrix or vector of its own for each weight."""

from __future__ import annotations

from tenslora.family import family, register

__all__ = ["craft", "fact_tk", "fact_tt", "lotr", "tera"]

lotr = register(
    family(
        "W[layer proj out in] = B[proj out s] G[layer proj s r] A[proj r in]",
        name="lotr",
        init={"B": "normal(1)", "G": "zeros", "A": "normal(1)"},
        scale="alpha/r",
        summary="a pair of factors for each projection, shared over layers; a core for each layer",
        source="Bershatsky et al. 2024, arXiv 2402.01376",
        repository="daskol/lotr",
        evaluated="RoBERTa-base (GLUE)",
        notes="The example of the authors' code shares one pair over query and value",
    )
)

fact_tt = register(
    family(
        "W[site out in] = V[out b] S[site b a] U[in a]",
        name="fact_tt",
        init={"V": "zeros", "S": "xavier", "U": "kaiming"},
        summary="one pair of factors for all weights, a small matrix for each",
        source="Jie and Deng 2023, arXiv 2212.03145",
        repository="JieShibo/PETL-ViT",
        evaluated="ViT-B/16 (VTAB-1K, few-shot FGVC)",
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
        repository="JieShibo/PETL-ViT",
        evaluated="ViT-B/16 (VTAB-1K, few-shot FGVC)",
        aliases=("fact-tk",),
    )
)

craft = register(
    family(
        "W[layer proj out in] = G[proj a b c] U[proj in x] J[proj x a] V[proj out y] K[proj y b]"
        " D[proj layer z] L[proj z c]"
        " + G[proj a b c] U[proj in x] J0[proj x a] V[proj out y] K0[proj y b]"
        " D[proj layer z] L0[proj z c]",
        name="craft",
        init={
            **dict.fromkeys("GUVD", "orthogonal"),
            **dict.fromkeys("JKL", "eye"),
            "J0": "-copy(J)",
            "K0": "copy(K)",
            "L0": "copy(L)",
        },
        frozen=("G", "U", "V", "D", "J0", "K0", "L0"),
        start="hosvd(G, U, V, D)",
        summary="a frozen Tucker of the stacked weights, a trained square matrix on each factor",
        source="Dewage et al. 2026, arXiv 2602.17510",
        evaluated="RoBERTa-base and large (GLUE)",
        notes="Each square has one size: a = x, b = y, c = z. One Tucker for each projection",
    )
)

tera = register(
    family(
        "W[layer proj (o1 o2) (i1 i2)] = "
        "s1[layer proj a] s2[layer proj b] s3[layer proj c] s4[layer proj d] "
        "P[o1 a] Q[o2 b] R[i1 c] S[i2 d] G[a b c d]",
        name="tera",
        init={
            "s1": "zeros",
            **dict.fromkeys(("s2", "s3", "s4"), "ones"),
            **dict.fromkeys("PQRS", "kaiming"),
            "G": "xavier",
        },
        frozen=("P", "Q", "R", "S", "G"),
        summary="a frozen random Tucker of the split weight, trained diagonals for each weight",
        source="Gu et al. 2025, arXiv 2509.03234",
        repository="guyuxuan9/TeRA",
        notes="Inputs and outputs split in two each; other splits are other equations",
    )
)
