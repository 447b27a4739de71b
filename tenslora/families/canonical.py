"""CP: one bond that all factors share, over sites or over split features."""

from __future__ import annotations

from tenslora.family import family, register

__all__ = ["cara", "cp_matrix", "lorta"]

lorta = register(
    family(
        "W[layer proj (head head_dim) in] = A[in r] H[head r] B[head_dim r] D[layer r] P[proj r]",
        name="lorta",
        init={"B": "zeros", **dict.fromkeys("AHDP", "kaiming")},
        scale="alpha/r",
        summary="CP over inputs, heads, head dimension, layers and projections",
        source="Hounie et al. 2024, arXiv 2410.04060",
        evaluated="RoBERTa (GLUE), LLaMA-2 7B (MT-Bench, DPO), ESM (protein folding)",
    )
)

cara = register(
    family(
        "W[site (head head_dim) in] = A[in r] H[head r] B[head_dim r] S[site r] w[r]",
        name="cara",
        init={"B": "zeros", **dict.fromkeys("AHS", "kaiming"), "w": "ones"},
        summary="CP over inputs, heads, head dimension and weights, with a weight a component",
        source="Veeramacheneni et al. 2025, ICML, https://openreview.net/forum?id=vexHifrbJg",
        repository="BonnBytes/CaRA",
        evaluated="ViT (VTAB-1K, FGVC)",
        notes=(
            "The paper has a second CP for the output projection and the blocks of the "
            "feed-forward layers: a second adapter here"
        ),
    )
)

cp_matrix = register(
    family(
        "W[layer proj (o1 o2) (i1 i2)] = w[layer proj r] "
        "P[layer proj o1 r] Q[layer proj o2 r] R[layer proj i1 r] S[layer proj i2 r]",
        name="cp_matrix",
        init={"w": "zeros", **dict.fromkeys("PQRS", "orthogonal")},
        summary="CP of each weight, its inputs and outputs split in two",
        source="Wang et al. 2026, arXiv 2606.00428",
        evaluated="OPT-1.3B (SST-2, RTE, BoolQ)",
        aliases=("cp-matrix",),
    )
)
