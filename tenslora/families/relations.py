"""Equalities between published methods, each with the witness that proves it.

``prove(relation)`` checks one; the tests check all, as symbols and in numbers.
"""

from __future__ import annotations

from tenslora.families.relation import (
    CARA,
    CP3,
    FULL,
    LOKR_UNIT,
    LORA_XS,
    LOTR_ONE_PAIR,
    METATT5,
    MOSLORA,
    RING,
    TINYLORA,
    TRAIN2,
    TT_MATRIX2,
    TUCKER2,
    Relation,
)

__all__ = ["RELATIONS"]

RELATIONS: tuple[Relation, ...] = (
    Relation(
        1,
        "LoRA is in TensLoRA qkv_depth, at ranks L M r",
        "lora",
        "tenslora.qkv_depth",
        """
        U[in (layer proj r)] = A[layer proj r in]
        V[out (layer proj r)] = B[layer proj out r]
        P[proj p] = eye[proj p]
        D[layer l] = eye[layer l]
        G[(l1 p1 r1) (l2 p2 r2) p l] = eye[l1 l2 l] eye[p1 p2 p] eye[r1 r2]
        """,
    ),
    Relation(
        1,
        "LoRA is a two-mode Tucker whose core is eye",
        "lora",
        TUCKER2,
        """
        V[layer proj out r] = B[layer proj out r]
        G[layer proj r s] = eye[r s] ones[layer proj]
        U[layer proj r in] = A[layer proj r in]
        """,
    ),
    Relation(
        1,
        "a two-mode Tucker is LoRA",
        TUCKER2,
        "lora",
        """
        B[layer proj out a] = V[layer proj out b] G[layer proj b a]
        A[layer proj a in] = U[layer proj a in]
        """,
    ),
    Relation(
        2,
        "FacT-TT is LoTR with one pair of factors",
        "fact_tt",
        LOTR_ONE_PAIR,
        """
        B[out b] = V[out b]
        G[layer proj b a] = S[(layer proj) b a]
        A[a in] = U[in a]
        """,
    ),
    Relation(
        2,
        "LoTR with one pair of factors is FacT-TT",
        LOTR_ONE_PAIR,
        "fact_tt",
        """
        V[out s] = B[out s]
        S[(layer proj) s r] = G[layer proj s r]
        U[in r] = A[r in]
        """,
    ),
    Relation(
        2,
        "FacT-TT is Tucker on the stacked slices with an identity for the slices",
        "fact_tt",
        "fact_tk",
        """
        V[out b] = V[out b]
        C[a b s] = S[s b a]
        P[site s] = eye[site s]
        U[in a] = U[in a]
        """,
    ),
    Relation(
        2,
        "Tucker on the stacked slices with an identity for the slices is FacT-TT",
        "W[site out in] = V[out b] C[a b c] eye[site c] U[in a]",
        "fact_tt",
        """
        V[out b] = V[out b]
        S[site b a] = C[a b site]
        U[in a] = U[in a]
        """,
    ),
    Relation(
        3,
        "FacT-TK is FacT-TT with S = C P",
        "fact_tk",
        "fact_tt",
        """
        V[out b] = V[out b]
        S[site b a] = C[a b c] P[site c]
        U[in a] = U[in a]
        """,
    ),
    Relation(
        4,
        "LoTR over layers and projections is in TensLoRA qkv_depth, with P and D identities",
        LOTR_ONE_PAIR,
        "tenslora.qkv_depth",
        """
        U[in r] = A[r in]
        V[out s] = B[out s]
        P[proj p] = eye[proj p]
        D[layer l] = eye[layer l]
        G[r s p l] = G[l p s r]
        """,
    ),
    Relation(
        4,
        "TensLoRA qkv_depth with P and D identities is LoTR over layers and projections",
        "W[layer proj out in] = U[in a] V[out b] eye[proj c] eye[layer d] G[a b c d]",
        LOTR_ONE_PAIR,
        """
        B[out s] = V[out s]
        G[layer proj s r] = G[r s proj layer]
        A[r in] = U[in r]
        """,
    ),
    Relation(
        5,
        "LoTR with a pair for each projection is in TensLoRA depth, with D an identity",
        "lotr",
        "tenslora.depth",
        """
        U[proj in r] = A[proj r in]
        V[proj out s] = B[proj out s]
        D[proj layer l] = eye[layer l] ones[proj]
        G[proj r s l] = G[l proj s r]
        """,
    ),
    Relation(
        5,
        "TensLoRA depth with D an identity is LoTR with a pair for each projection",
        "W[layer proj out in] = U[proj in a] V[proj out b] eye[layer c] G[proj a b c]",
        "lotr",
        """
        B[proj out s] = V[proj out s]
        G[layer proj s r] = G[proj r s layer]
        A[proj r in] = U[proj in r]
        """,
    ),
    Relation(
        6,
        "TensLoRA qkv_depth is Tucker on stacked slices, with the Kronecker product of P and D",
        "tenslora.qkv_depth",
        "fact_tk",
        """
        U[in a] = U[in a]
        V[out b] = V[out b]
        P[(layer proj) (d c)] = D[layer d] P[proj c]
        C[a b (d c)] = G[a b c d]
        """,
    ),
    Relation(
        7,
        "LoRTA is in TensLoRA att_qkv_depth, with a superdiagonal core",
        "lorta",
        "tenslora.att_qkv_depth",
        """
        U[in r] = A[in r]
        V[head_dim r] = B[head_dim r]
        H[head r] = H[head r]
        P[proj r] = P[proj r]
        D[layer r] = D[layer r]
        G[r1 r2 r3 r4 r5] = eye[r1 r2 r3 r4 r5]
        """,
    ),
    Relation(
        7,
        "TensLoRA att_qkv_depth with a superdiagonal core is LoRTA",
        "W[layer proj (head head_dim) in] = "
        "U[in a] V[head_dim b] H[head c] P[proj d] D[layer e] eye[a b c d e]",
        "lorta",
        """
        A[in r] = U[in r]
        H[head r] = H[head r]
        B[head_dim r] = V[head_dim r]
        D[layer r] = D[layer r]
        P[proj r] = P[proj r]
        """,
    ),
    Relation(
        7,
        "LoRTA is in MetaTT-5D, with diagonal middle cores",
        "lorta",
        METATT5,
        """
        B[head_dim r4] = B[head_dim r4]
        H[r4 head r3] = H[head r3] eye[r3 r4]
        P[r3 proj r2] = P[proj r2] eye[r2 r3]
        D[r2 layer r1] = D[layer r1] eye[r1 r2]
        A[r1 in] = A[in r1]
        """,
    ),
    Relation(
        8,
        "LoRTA is CaRA whose site factor is the Khatri-Rao product of D and P",
        "lorta",
        CARA,
        """
        A[in r] = A[in r]
        H[head r] = H[head r]
        B[head_dim r] = B[head_dim r]
        S[(layer proj) r] = D[layer r] P[proj r]
        w[r] = ones[r]
        """,
    ),
    Relation(
        8,
        "CaRA whose site factor is the Khatri-Rao product of D and P is LoRTA",
        "W[layer proj (head head_dim) in] = "
        "A[in r] H[head r] B[head_dim r] D[layer r] P[proj r] w[r]",
        "lorta",
        """
        A[in r] = A[in r] w[r]
        H[head r] = H[head r]
        B[head_dim r] = B[head_dim r]
        D[layer r] = D[layer r]
        P[proj r] = P[proj r]
        """,
    ),
    Relation(
        9,
        "MetaTT-4D is LoTR with G = D P",
        "metatt4",
        LOTR_ONE_PAIR,
        """
        B[out c] = B[out c]
        G[layer proj c a] = P[c proj b] D[b layer a]
        A[a in] = A[a in]
        """,
    ),
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
