"""One matrix at a time: families whose update of a weight is built of low-rank matrices."""

from __future__ import annotations

from tenslora.family import family, register

__all__ = [
    "lora",
    "lora_xs",
    "moslora",
    "pissa",
    "randlora",
    "share_a",
    "share_b",
    "tied_lora",
    "tinylora",
    "vera",
]

lora = register(
    family(
        "W[layer proj out in] = B[layer proj out r] A[layer proj r in]",
        name="lora",
        init={"B": "zeros", "A": "kaiming"},
        scale="alpha/r",
        summary="an independent matrix of rank r for every weight",
        source="Hu et al. 2021, arXiv 2106.09685",
        repository="microsoft/LoRA",
        evaluated="RoBERTa, DeBERTa (GLUE), GPT-2 (E2E, WebNLG, DART), GPT-3 (WikiSQL, MNLI)",
    )
)

pissa = register(
    family(
        "W[layer proj out in] = B[layer proj out r] A[layer proj r in]"
        " + N[layer proj out r] M[layer proj r in]",
        name="pissa",
        init={"B": "orthogonal", "A": "orthogonal", "N": "-copy(B)", "M": "copy(A)"},
        frozen=("N", "M"),
        start="root_svd(B, A)",
        summary="LoRA from the principal singular vectors of the weight, less where it starts",
        source="Meng et al. 2024, arXiv 2404.02948",
        repository="GraphPKU/PiSSA",
        evaluated="LLaMA-2, Mistral, Gemma (GSM8K, MATH, HumanEval, MBPP), DeBERTa (GLUE)",
        notes=(
            "The paper takes the start away from the weight; here it is a second, frozen term, so "
            "that the weight is never touched and the adapter can be switched off"
        ),
    )
)

moslora = register(
    family(
        "W[layer proj out in] = B[layer proj out b] M[layer proj b a] A[layer proj a in]",
        name="moslora",
        init={"B": "zeros", "M": "orthogonal", "A": "kaiming"},
        scale="alpha/a",
        summary="LoRA with a trained mixer between its two matrices",
        source="Wu et al. 2024, arXiv 2406.11909",
        repository="wutaiqiang/MoSLoRA",
        evaluated="LLaMA-3 8B (commonsense), LLaVA-1.5 (visual instructions), SDXL (subjects)",
    )
)

lora_xs = register(
    family(
        "W[layer proj out in] = U[layer proj out s] R[layer proj s r] V[layer proj r in]",
        name="lora_xs",
        init={"U": "orthogonal", "R": "normal(1e-05)", "V": "orthogonal"},
        frozen=("U", "V"),
        start="svd(U, V)",
        scale="alpha/r",
        summary="a small trained matrix between frozen singular vectors of the weight",
        source="Bałazy et al. 2024, arXiv 2405.17604",
        repository="MohammadrezaBanaei/LoRA-XS",
        evaluated="RoBERTa-large (GLUE), Mistral, Gemma (GSM8K, MATH), LLaMA (commonsense)",
        aliases=("lora-xs",),
        starts_nonzero=True,
    )
)

tinylora = register(
    family(
        "W[layer proj out in] = U[layer proj out s] v[layer proj u] P[u s r] V[layer proj r in]",
        name="tinylora",
        init={"U": "orthogonal", "v": "zeros", "P": "normal(1)", "V": "orthogonal"},
        frozen=("U", "P", "V"),
        start="svd(U, V)",
        summary="LoRA-XS whose matrix is a trained mixture of frozen random ones",
        source="Morris et al. 2026, arXiv 2602.04118",
        evaluated="Qwen2.5-7B (GSM8K, MATH and others, by reinforcement learning)",
        notes=(
            "The paper does not say how P is distributed; PEFT draws it anew for each weight, with "
            "variance 1/r, and shares v over groups of weights. The singular values are on U, as "
            "in the paper; PEFT puts a root of them on each side"
        ),
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
        evaluated="RoBERTa (GLUE), GPT-2 (E2E), LLaMA and LLaMA-2 (instructions), ViT",
    )
)

tied_lora = register(
    family(
        "W[layer proj out in] = b[layer proj out] B[out r] d[layer proj r] A[r in]",
        name="tied_lora",
        init={"b": "zeros", "B": "kaiming(0)", "d": "const(0.1)", "A": "kaiming(0)"},
        summary="one trained pair for all weights, trained scalings of rank and output",
        source="Renduchintala et al. 2023, arXiv 2311.09578",
        evaluated="GPT-2B and LLaMA-2 7B (SQuAD, DialogSum, IWSLT, GSM8K, HellaSwag)",
        aliases=("tied-lora",),
    )
)

randlora = register(
    family(
        "W[layer proj out in] = B[out n r] l[layer proj r n] A[r in] g[layer proj n in]",
        name="randlora",
        init={
            "B": "uniform(1.7320508075688772)",
            "l": "zeros",
            "A": "uniform(1.7320508075688772)",
            "g": "mean",
        },
        frozen=("A", "B"),
        scale="alpha/r",
        summary="a sum of n frozen random matrices, each scaled at its rank and its input",
        source="Albert et al. 2025, arXiv 2502.00987",
        repository="PaulAlbert31/RandLoRA",
        evaluated="CLIP, DINOv2 (images), Qwen2, Phi-3, LLaMA-3 (commonsense), RoBERTa (GLUE)",
        notes=(
            "n = in / r, rounded up, gives full rank. PEFT's code flattens (n r) on one side and "
            "(r n) on the other: its random bases are permuted, which is followed nowhere else. It "
            "is written for in <= out; else the paper scales the smaller side, which is the output"
        ),
    )
)

share_a = register(
    family(
        "W[layer proj out in] = B[layer proj out r] A[proj r in]",
        name="share_a",
        init={"B": "zeros", "A": "kaiming"},
        scale="alpha/r",
        summary="LoRA whose A is shared over the layers",
        source="Song et al. 2024, arXiv 2406.10785",
        repository="Rain9876/ShareLoRA",
        evaluated="RoBERTa (GLUE), GPT-2 (E2E), LLaMA and LLaMA-2 (MMLU, BBH, GSM8K)",
        aliases=("sharelora", "share-a"),
    )
)

share_b = register(
    family(
        "W[layer proj out in] = B[proj out r] A[layer proj r in]",
        name="share_b",
        init={"B": "zeros", "A": "kaiming"},
        scale="alpha/r",
        summary="LoRA whose B is shared over the layers",
        source="Song et al. 2024, arXiv 2406.10785",
        repository="Rain9876/ShareLoRA",
        evaluated="RoBERTa (GLUE), GPT-2 (E2E), LLaMA and LLaMA-2 (MMLU, BBH, GSM8K)",
        aliases=("share-b",),
    )
)
