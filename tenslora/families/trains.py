"""Tensor trains over sites, or over split features."""

from __future__ import annotations

from tenslora.family import family, register

__all__ = ["dota", "loretta", "metatt4", "metatt5", "tt_lora", "tt_matrix"]

_METATT = "Lopez-Piqueres et al. 2025, arXiv 2506.09105"

metatt4 = register(
    family(
        "W[layer proj out in] = B[out c] P[c proj b] D[b layer a] A[a in]",
        name="metatt4",
        init={"B": "zeros", "P": "kaiming", "D": "kaiming", "A": "kaiming"},
        summary="a tensor train over inputs, layers, projections and outputs",
        source=_METATT,
        evaluated="RoBERTa (GLUE), LLaMA-2 7B and 13B (commonsense)",
        aliases=("metatt-4d",),
    )
)

metatt5 = register(
    family(
        "W[layer proj (head head_dim) in] = "
        "B[head_dim d] H[d head c] P[c proj b] D[b layer a] A[a in]",
        name="metatt5",
        init={"B": "zeros", **dict.fromkeys("HPDA", "kaiming")},
        summary="a tensor train over inputs, layers, projections, heads and head dimension",
        source=_METATT,
        evaluated="RoBERTa (GLUE), LLaMA-2 7B and 13B (commonsense)",
        aliases=("metatt-5d",),
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
        evaluated="DeBERTa, RoBERTa (GLUE), LLaMA-2 and 3 (SuperGLUE)",
        aliases=("tt-lora",),
    )
)

loretta = register(
    family(
        "W[layer proj (o1 o2 o3) (i1 i2 i3)] = "
        "B1[layer proj o1 a] B2[layer proj a o2 b] B3[layer proj b o3 c] B4[layer proj c r] "
        "A1[layer proj r d] A2[layer proj d i1 e] A3[layer proj e i2 f] A4[layer proj f i3]",
        name="loretta",
        init={
            "B1": "zeros",
            **{f"B{n}": "kaiming" for n in range(2, 5)},
            **{f"A{n}": "kaiming" for n in range(1, 5)},
        },
        scale="alpha/r",
        summary="LoRA whose two matrices are a tensor train each, the rank a mode of both",
        source="Yang et al. 2024, arXiv 2402.11417",
        repository="yifanycc/loretta",
        evaluated="DeBERTa, RoBERTa (GLUE), LLaMA-2 (SuperGLUE, SQuAD, DROP)",
    )
)

tt_matrix = register(
    family(
        "W[layer proj (o1 o2 o3) (i1 i2 i3)] = "
        "G1[layer proj o1 i1 a] G2[layer proj a o2 i2 b] G3[layer proj b o3 i3]",
        name="tt_matrix",
        init={"G1": "kaiming", "G2": "kaiming", "G3": "zeros"},
        summary="a tensor train whose cores have an output and an input each (MPO)",
        source="Oseledets 2010, https://doi.org/10.1137/090757861",
        aliases=("tt-matrix", "mpo"),
        notes="The shape that DoTA starts from the weight",
    )
)

dota = register(
    family(
        "W[layer proj (o1 o2 o3) (i1 i2 i3)] = "
        "G1[layer proj o1 i1 a] G2[layer proj a o2 i2 b] G3[layer proj b o3 i3]"
        " + N1[layer proj o1 i1 a] N2[layer proj a o2 i2 b] N3[layer proj b o3 i3]",
        name="dota",
        init={
            "G1": "orthogonal",
            "G2": "orthogonal",
            "G3": "orthogonal",
            "N1": "-copy(G1)",
            "N2": "copy(G2)",
            "N3": "copy(G3)",
        },
        frozen=("N1", "N2", "N3"),
        start="tt_svd(G1, G2, G3)",
        summary="a tensor-train matrix from the weight, less where it starts",
        source="Hu et al. 2024, arXiv 2412.20891",
        evaluated="LLaMA-2 and 3 (commonsense, arithmetic)",
        notes=(
            "The paper takes the start away from the weight; here it is a second, frozen term, so "
            "that the weight is never touched"
        ),
    )
)
