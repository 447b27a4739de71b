"""One matrix at a time: families whose update of a weight is built of matrices."""

from __future__ import annotations

from tenslora.family import family, register

__all__ = ["loha", "lokr", "lora", "tied_lora", "vera"]

lora = register(
    family(
        "W[layer proj out in] = B[layer proj out r] A[layer proj r in]",
        name="lora",
        init={"B": "zeros", "A": "kaiming"},
        scale="alpha/r",
        summary="an independent matrix of rank r for every weight",
        source="Hu et al. 2021, arXiv 2106.09685",
    )
)

vera = register(
    family(
        "W[layer proj out in] = b[layer proj out] B[out r] d[layer proj r] A[r in]",
        name="vera",
        init={"b": "zeros", "B": "kaiming(0)", "d": "const(0.1)", "A": "kaiming(0)"},
        frozen=("A", "B"),
        summary="one frozen random pair for all weights, trained scalings of rank and output",
        source="Kopiczko et al. 2023, arXiv 2310.11454",
    )
)

tied_lora = register(
    family(
        "W[layer proj out in] = b[layer proj out] B[out r] d[layer proj r] A[r in]",
        name="tied_lora",
        init={"b": "zeros", "B": "kaiming(0)", "d": "const(0.1)", "A": "kaiming(0)"},
        summary="one trained pair for all weights, trained scalings of rank and output",
        source="Renduchintala et al. 2023, arXiv 2311.09578",
        aliases=("tied-lora",),
    )
)

loha = register(
    family(
        "W[layer proj out in] = "
        "B1[layer proj out r] A1[layer proj r in] B2[layer proj out s] A2[layer proj s in]",
        name="loha",
        init={"B1": "normal(0.1)", "A1": "normal(1)", "B2": "zeros", "A2": "normal(1)"},
        scale="alpha/r",
        summary="the elementwise product of two low-rank matrices: rank r s",
        source="Hyeon-Woo et al. 2021, arXiv 2108.06098; LyCORIS",
    )
)

lokr = register(
    family(
        "W[layer proj (o1 o2) (i1 i2)] = C[layer proj o1 i1] B[layer proj o2 r] A[layer proj r i2]",
        name="lokr",
        init={"C": "zeros", "B": "kaiming", "A": "kaiming"},
        scale="alpha/r",
        summary="the Kronecker product of a small matrix and a low-rank one",
        source="Yeh et al. 2023, arXiv 2309.14859 (LyCORIS)",
    )
)
