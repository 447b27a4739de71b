"""Structured matrices: elementwise and Kronecker products, blocks, gates, circulants, waves."""

from __future__ import annotations

from tenslora.family import family, register

__all__ = ["c3a", "fourierft", "gralora", "loha", "lokr", "monarch", "quanta"]

loha = register(
    family(
        "W[layer proj out in] = "
        "B1[layer proj out r] A1[layer proj r in] B2[layer proj out s] A2[layer proj s in]",
        name="loha",
        init={"B1": "normal(0.1)", "A1": "normal(1)", "B2": "zeros", "A2": "normal(1)"},
        scale="alpha/r",
        summary="the elementwise product of two low-rank matrices: rank r s",
        source="Hyeon-Woo et al. 2021, arXiv 2108.06098; LyCORIS",
        repository="KohakuBlueleaf/LyCORIS",
        evaluated="VGG16, ResNet18 (federated CIFAR); Stable Diffusion (LyCORIS)",
        notes="LyCORIS draws from N(0, 0.1) and N(0, 1), which is followed; PEFT starts otherwise",
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
        repository="KohakuBlueleaf/LyCORIS",
        evaluated="Stable Diffusion 1.5",
    )
)

gralora = register(
    family(
        "W[layer proj (t o) (n c)] = B[layer proj t n s o] A[layer proj n c t s]",
        name="gralora",
        init={"B": "zeros", "A": "kaiming"},
        scale="alpha/s",
        summary="a grid of t by n blocks, each a LoRA of rank s",
        source="Jung et al. 2025, arXiv 2505.20355",
        repository="SqueezeBits/GraLoRA",
        evaluated="LLaMA-3.1, Qwen2.5 (HumanEval+, commonsense), SDXL",
        notes=(
            "Its papers' rank is r = k s at k = t = n, its scale alpha/r: give alpha / k here. The "
            "hybrid is the sum with a LoRA: gralora + lora"
        ),
    )
)

monarch = register(
    family(
        "W[layer proj (s l) (k p)] = R[layer proj l s k u] L[layer proj k u l p]",
        name="monarch",
        init={"R": "zeros", "L": "kaiming"},
        summary="MoRe: two block-diagonal matrices and a permutation between them",
        source="Tan et al. 2024, arXiv 2408.17383",
        repository="SprocketLab/sparse_matrix_fine_tuning",
        evaluated="RoBERTa-large (GLUE), LLaMA-7B (commonsense, arithmetic)",
        aliases=("more",),
        notes="GraLoRA is the same up to the order of the outputs: (l s) there, (s l) here",
    )
)

quanta = register(
    family(
        "W[layer proj (o1 o2 o3) (i1 i2 i3)] = "
        "T3[layer proj o1 o2 p1 p2] T2[layer proj p1 o3 i1 p3] T1[layer proj p2 p3 i2 i3]"
        " + S3[layer proj o1 o2 p1 p2] S2[layer proj p1 o3 i1 p3] S1[layer proj p2 p3 i2 i3]",
        name="quanta",
        init={
            "T3": "kaiming",
            "T2": "kaiming",
            "T1": "kaiming",
            "S3": "-copy(T3)",
            "S2": "copy(T2)",
            "S1": "copy(T1)",
        },
        frozen=("S3", "S2", "S1"),
        summary="a gate on each pair of three axes, in a chain, less where it starts",
        source="Chen et al. 2024, arXiv 2406.00132",
        repository="quanta-fine-tuning/quanta",
        evaluated="LLaMA-2 7B, 13B, 70B and LLaMA-3 8B (DROP, commonsense, arithmetic)",
        notes=(
            "p1, p2, p3 are the sizes of the axes between gates: those of the input's, for square "
            "weights. The start is taken away as a frozen term, as in the authors' code"
        ),
    )
)

c3a = register(
    family(
        "W[layer proj (m o) (n i)] = c[layer proj m n k] E[o i k]",
        name="c3a",
        init={"c": "zeros", "E": "circulant"},
        frozen=("E",),
        scale="1/in",
        summary="a grid of circulant blocks, one vector each",
        source="Chen et al. 2024, arXiv 2407.19342",
        evaluated="RoBERTa (GLUE), LLaMA-2 and 3 (commonsense, MATH, code), ViT",
        notes=(
            "k, o and i are the size of a block. It is run as the network that it is, with the 0/1 "
            "tensor E of block^3 entries, not by FFT. As in the paper and PEFT, a block has its "
            "vector as first row, each row one to the right: k = i - o. The gradient of the input "
            "that PEFT 0.21 computes is not the one of its forward; ours is"
        ),
    )
)

fourierft = register(
    family(
        "W[layer proj out in] = "
        "c[layer proj n] C[out n] Q[n in] + c[layer proj n] S[out n] T[n in]",
        name="fourierft",
        init={"c": "zeros", "C": "cos", "Q": "cos", "S": "sin(-1)", "T": "sin"},
        frozen=("C", "Q", "S", "T"),
        scale="constant(150.0)",
        summary="n trained coefficients of the two-dimensional Fourier transform of the update",
        source="Gao et al. 2024, arXiv 2405.03003",
        repository="Chaos96/fourierft",
        evaluated="RoBERTa (GLUE), GPT-2 (E2E), LLaMA and LLaMA-2 (instructions), ViT",
        notes=(
            "CP of rank 2n with frozen cosines and sines: cos(a + b) = cos a cos b - sin a sin b. "
            "The coefficients start at zero, as in PEFT; the paper draws them"
        ),
    )
)
