"""CP over sites, and tensor trains over sites or over split features."""

from __future__ import annotations

from tenslora.family import family, register

__all__ = ["lorta", "metatt4", "tt_lora"]

lorta = register(
    family(
        "W[layer proj (head head_dim) in] = A[in r] H[head r] B[head_dim r] D[layer r] P[proj r]",
        name="lorta",
        init={"B": "zeros", **dict.fromkeys("AHDP", "kaiming")},
        scale="alpha/r",
        summary="CP over inputs, heads, head dimension, layers and projections",
        source="Hounie et al. 2024, arXiv 2410.04060",
    )
)

metatt4 = register(
    family(
        "W[layer proj out in] = B[out c] P[c proj b] D[b layer a] A[a in]",
        name="metatt4",
        init={"B": "zeros", "P": "kaiming", "D": "kaiming", "A": "kaiming"},
        summary="a tensor train over inputs, layers, projections and outputs",
        source="Lopez-Piqueres et al. 2025, arXiv 2506.09105",
        aliases=("metatt-4d",),
    )
)

tt_lora = register(
    family(
        "W[layer proj (o1 o2 o3) (i1 i2 i3)] = "
        "G1[layer proj o1 a] G2[layer proj a o2 b] G3[layer proj b o3 c] "
        "G4[layer proj c i1 d] G5[layer proj d i2 e] G6[layer proj e i3]",
        name="tt_lora",
        init={**{f"G{n}": "kaiming" for n in range(1, 6)}, "G6": "zeros"},
        scale="alpha/a",
        summary="one tensor train over outputs and inputs, each split in three",
        source="Anjum et al. 2024, arXiv 2408.01008",
        aliases=("tt-lora",),
    )
)
