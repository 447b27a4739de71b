"""TensLoRA constructions in the full one, and shared families in a construction."""

from __future__ import annotations

from tenslora.families.relation import CARA, METATT5, Relation

__all__ = ["CONSTRUCTIONS_IN"]

CONSTRUCTIONS_IN: tuple[Relation, ...] = (
    Relation(
        0,
        "TensLoRA att is in TensLoRA att_qkv_depth",
        "tenslora.att",
        "tenslora.att_qkv_depth",
        """
        U[in (layer_a proj_a a)] = U[layer_a proj_a in a]
        V[head_dim head_dim_b] = eye[head_dim head_dim_b]
        H[head head_c] = eye[head head_c]
        P[proj proj_d] = eye[proj proj_d]
        D[layer layer_e] = eye[layer layer_e]
        G[(layer_a proj_a a) head_dim_b head_c proj_d layer_e] =
            V[layer_a proj_a head_dim_b b] H[layer_a proj_a head_c c] G[layer_a proj_a a b c]
            eye[layer_a layer_e] eye[proj_a proj_d]
        """,
    ),
    Relation(
        0,
        "TensLoRA qkv is in TensLoRA att_qkv_depth",
        "tenslora.qkv",
        "tenslora.att_qkv_depth",
        """
        U[in (layer_a a)] = U[layer_a in a]
        V[head_dim head_dim_b] = eye[head_dim head_dim_b]
        H[head head_c] = eye[head head_c]
        P[proj proj_d] = eye[proj proj_d]
        D[layer layer_e] = eye[layer layer_e]
        G[(layer_a a) head_dim_b head_c proj_d layer_e] =
            V[layer_a (head_c head_dim_b) b] P[layer_a proj_d c] G[layer_a a b c]
            eye[layer_a layer_e]
        """,
    ),
    Relation(
        0,
        "TensLoRA depth is in TensLoRA att_qkv_depth",
        "tenslora.depth",
        "tenslora.att_qkv_depth",
        """
        U[in (proj_a a)] = U[proj_a in a]
        V[head_dim head_dim_b] = eye[head_dim head_dim_b]
        H[head head_c] = eye[head head_c]
        P[proj proj_d] = eye[proj proj_d]
        D[layer layer_e] = eye[layer layer_e]
        G[(proj_a a) head_dim_b head_c proj_d layer_e] =
            V[proj_a (head_c head_dim_b) b] D[proj_a layer_e c] G[proj_a a b c]
            eye[proj_a proj_d]
        """,
    ),
    Relation(
        0,
        "TensLoRA att_qkv is in TensLoRA att_qkv_depth",
        "tenslora.att_qkv",
        "tenslora.att_qkv_depth",
        """
        U[in (layer_a a)] = U[layer_a in a]
        V[head_dim head_dim_b] = eye[head_dim head_dim_b]
        H[head head_c] = eye[head head_c]
        P[proj proj_d] = eye[proj proj_d]
        D[layer layer_e] = eye[layer layer_e]
        G[(layer_a a) head_dim_b head_c proj_d layer_e] =
            V[layer_a head_dim_b b] H[layer_a head_c c] P[layer_a proj_d d] G[layer_a a b c d]
            eye[layer_a layer_e]
        """,
    ),
    Relation(
        0,
        "TensLoRA att_depth is in TensLoRA att_qkv_depth",
        "tenslora.att_depth",
        "tenslora.att_qkv_depth",
        """
        U[in (proj_a a)] = U[proj_a in a]
        V[head_dim (proj_b b)] = V[proj_b head_dim b]
        H[head head_c] = eye[head head_c]
        P[proj proj_d] = eye[proj proj_d]
        D[layer layer_e] = eye[layer layer_e]
        G[(proj_a a) (proj_b b) head_c proj_d layer_e] =
            H[proj_a head_c c] D[proj_a layer_e d] G[proj_a a b c d] eye[proj_a proj_b proj_d]
        """,
    ),
    Relation(
        0,
        "TensLoRA qkv_depth is in TensLoRA att_qkv_depth",
        "tenslora.qkv_depth",
        "tenslora.att_qkv_depth",
        """
        U[in a] = U[in a]
        V[head_dim head_dim_b] = eye[head_dim head_dim_b]
        H[head head_c] = eye[head head_c]
        P[proj proj_d] = eye[proj proj_d]
        D[layer d] = D[layer d]
        G[a head_dim_b head_c proj_d d] = V[(head_c head_dim_b) b] P[proj_d c] G[a b c d]
        """,
    ),
    Relation(
        0,
        "FacT-TT is in TensLoRA qkv_depth",
        "fact_tt",
        "tenslora.qkv_depth",
        """
        U[in a] = U[in a]
        V[out b] = V[out b]
        P[proj proj_c] = eye[proj proj_c]
        D[layer layer_d] = eye[layer layer_d]
        G[a b proj_c layer_d] = S[(layer_d proj_c) b a]
        """,
    ),
    Relation(
        0,
        "FacT-TK is in TensLoRA qkv_depth",
        "fact_tk",
        "tenslora.qkv_depth",
        """
        U[in a] = U[in a]
        V[out b] = V[out b]
        P[proj proj_c] = eye[proj proj_c]
        D[layer layer_d] = eye[layer layer_d]
        G[a b proj_c layer_d] = C[a b c] P[(layer_d proj_c) c]
        """,
    ),
    Relation(
        0,
        "CaRA is in TensLoRA att_qkv_depth",
        CARA,
        "tenslora.att_qkv_depth",
        """
        U[in r_a] = A[in r_a] w[r_a]
        V[head_dim r_b] = B[head_dim r_b]
        H[head r_c] = H[head r_c]
        P[proj proj_d] = eye[proj proj_d]
        D[layer layer_e] = eye[layer layer_e]
        G[r_a r_b r_c proj_d layer_e] = S[(layer_e proj_d) r_a] eye[r_a r_b r_c]
        """,
    ),
    Relation(
        0,
        "MetaTT-4D is in TensLoRA qkv_depth, at ranks made of its own",
        "metatt4",
        "tenslora.qkv_depth",
        """
        U[in a_a] = A[a_a in]
        V[out c_b] = B[out c_b]
        P[proj (c_c b_c)] = P[c_c proj b_c]
        D[layer (b_d a_d)] = D[b_d layer a_d]
        G[a_a c_b (c_c b_c) (b_d a_d)] = eye[a_a a_d] eye[c_b c_c] eye[b_c b_d]
        """,
    ),
    Relation(
        0,
        "MetaTT-5D is in TensLoRA att_qkv_depth, at ranks made of its own",
        METATT5,
        "tenslora.att_qkv_depth",
        """
        U[in a_a] = A[a_a in]
        V[head_dim d_b] = B[head_dim d_b]
        H[head (d_c c_c)] = H[d_c head c_c]
        P[proj (c_d b_d)] = P[c_d proj b_d]
        D[layer (b_e a_e)] = D[b_e layer a_e]
        G[a_a d_b (d_c c_c) (c_d b_d) (b_e a_e)] =
            eye[a_a a_e] eye[d_b d_c] eye[c_c c_d] eye[b_d b_e]
        """,
    ),
)
