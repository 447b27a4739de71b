"""Equalities 10 to 15: frozen factors, products, one matrix at a time, everything."""

from __future__ import annotations

from tenslora.families.relation import (
    CP3,
    FULL,
    LOKR_UNIT,
    LORA_XS,
    MOSLORA,
    RING,
    TINYLORA,
    TRAIN2,
    TT_MATRIX2,
    TUCKER2,
    Relation,
)

__all__ = ["SINGLE"]

SINGLE: tuple[Relation, ...] = (
    Relation(
        10,
        "VeRA with b = 1 is CP over inputs, outputs and weights, with frozen features",
        "W[layer proj out in] = B[out r] d[layer proj r] A[r in]",
        CP3,
        """
        B[out r] = B[out r]
        d[(layer proj) r] = d[layer proj r]
        A[in r] = A[r in]
        """,
        frozen_special=("B", "A"),
        frozen_general=("B", "A"),
    ),
    Relation(
        10,
        "CP over inputs, outputs and weights, with frozen features, is VeRA with b = 1",
        "W[layer proj out in] = B[out r] d[layer proj r] A[in r]",
        "vera",
        """
        b[layer proj out] = ones[layer proj out]
        B[out r] = B[out r]
        d[layer proj r] = d[layer proj r]
        A[r in] = A[in r]
        """,
        frozen_special=("B", "A"),
    ),
    Relation(
        11,
        "TinyLoRA is in LoRA-XS",
        TINYLORA,
        LORA_XS,
        """
        U[layer proj out s] = U[layer proj out s]
        R[layer proj s r] = v[layer proj u] P[u r s]
        V[layer proj r in] = V[layer proj r in]
        """,
        frozen_special=("U", "V", "P"),
        frozen_general=("U", "V"),
    ),
    Relation(
        11,
        "LoRA-XS is in TinyLoRA, at u = r s",
        LORA_XS,
        TINYLORA,
        """
        U[layer proj out s] = U[layer proj out s]
        v[layer proj (s r)] = R[layer proj s r]
        P[(s1 r1) r s] = eye[s1 s] eye[r1 r]
        V[layer proj r in] = V[layer proj r in]
        """,
        frozen_special=("U", "V"),
        frozen_general=("U", "V", "P"),
    ),
    Relation(
        11,
        "LoRA-XS is MoSLoRA, its outer factors frozen",
        LORA_XS,
        MOSLORA,
        """
        B[layer proj out s] = U[layer proj out s]
        M[layer proj s r] = R[layer proj s r]
        A[layer proj r in] = V[layer proj r in]
        """,
        frozen_special=("U", "V"),
        frozen_general=("B", "A"),
    ),
    Relation(
        12,
        "LoHa is LoRA at rank r s, with Khatri-Rao factors",
        "loha",
        "lora",
        """
        B[layer proj out (r s)] = B1[layer proj out r] B2[layer proj out s]
        A[layer proj (r s) in] = A1[layer proj r in] A2[layer proj s in]
        """,
    ),
    Relation(
        13,
        "LoKr is a tensor-train matrix of two cores, with bond 1",
        "lokr",
        TT_MATRIX2,
        """
        G1[layer proj o1 i1 ()] = C[layer proj o1 i1]
        G2[layer proj () o2 i2] = B[layer proj o2 r] A[layer proj r i2]
        """,
    ),
    Relation(
        13,
        "a tensor-train matrix of two cores with bond 1 is LoKr",
        "W[layer proj (o1 o2) (i1 i2)] = G1[layer proj o1 i1] G2[layer proj o2 i2]",
        "lokr",
        """
        C[layer proj o1 i1] = G1[layer proj o1 i1]
        B[layer proj o2 o] = eye[o2 o] ones[layer proj]
        A[layer proj o i2] = G2[layer proj o i2]
        """,
    ),
    Relation(
        13,
        "LoRA is LoKr with o1 = i1 = 1",
        "lora",
        LOKR_UNIT,
        """
        C[layer proj] = ones[layer proj]
        B[layer proj out r] = B[layer proj out r]
        A[layer proj r in] = A[layer proj r in]
        """,
    ),
    Relation(
        13,
        "LoKr with o1 = i1 = 1 is LoRA",
        LOKR_UNIT,
        "lora",
        """
        B[layer proj out r] = C[layer proj] B[layer proj out r]
        A[layer proj r in] = A[layer proj r in]
        """,
    ),
    Relation(
        14,
        "a train of order two is LoRA",
        TRAIN2,
        "lora",
        """
        B[layer proj out a] = G1[layer proj out a]
        A[layer proj a in] = G2[layer proj a in]
        """,
    ),
    Relation(
        14,
        "LoRA is a train of order two",
        "lora",
        TRAIN2,
        """
        G1[layer proj out r] = B[layer proj out r]
        G2[layer proj r in] = A[layer proj r in]
        """,
    ),
    Relation(
        14,
        "a train is a ring with ring bond 1",
        TUCKER2,
        RING,
        """
        V[layer proj out b ()] = V[layer proj out b]
        G[layer proj a b] = G[layer proj b a]
        U[layer proj () in a] = U[layer proj a in]
        """,
    ),
    Relation(
        15,
        "LoRA is in the full tensor",
        "lora",
        FULL,
        "T[layer proj out in] = B[layer proj out r] A[layer proj r in]",
    ),
    Relation(
        15,
        "TensLoRA att_qkv_depth is in LoRA, at the rank of its cut",
        "tenslora.att_qkv_depth",
        "lora",
        """
        A[layer proj a in] = U[in a] ones[layer proj]
        B[layer proj (head head_dim) a] =
            V[head_dim b] H[head c] P[proj d] D[layer e] G[a b c d e]
        """,
    ),
)
