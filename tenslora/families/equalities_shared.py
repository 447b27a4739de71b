"""Equalities 1 to 9: what is shared over layers and projections, as Tucker, CP and trains."""

from __future__ import annotations

from tenslora.families.relation import CARA, LOTR_ONE_PAIR, METATT5, TUCKER2, Relation

__all__ = ["SHARED"]

SHARED: tuple[Relation, ...] = (
    Relation(
        1,
        "LoRA is in TensLoRA qkv_depth, at r times the number of matrices",
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
)
