"""Published methods inside others, each with the witness that proves it: no equalities.

The TensLoRA constructions in the one that aggregates everything, the shared families in the
construction that contains them, and LoRA in every family that reaches all of the tensor. A group
of indices for a rank says what the inclusion costs.
"""

from __future__ import annotations

from tenslora.families.relation import CARA, METATT5, Relation

__all__ = ["INCLUSIONS"]


INCLUSIONS: tuple[Relation, ...] = (
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
    Relation(
        0,
        "LoRA is in TensLoRA att",
        "lora",
        "tenslora.att",
        """
        U[layer proj in r] = A[layer proj r in]
        V[layer proj head_dim head_dim_b] = eye[head_dim head_dim_b] ones[layer proj]
        H[layer proj head head_c] = eye[head head_c] ones[layer proj]
        G[layer proj r head_dim_b head_c] = B[layer proj (head_c head_dim_b) r]
        """,
    ),
    Relation(
        0,
        "LoRA is in TensLoRA qkv",
        "lora",
        "tenslora.qkv",
        """
        U[layer in (proj_a r_a)] = A[layer proj_a r_a in]
        V[layer out (proj_b r_b)] = B[layer proj_b out r_b]
        P[layer proj proj_c] = eye[proj proj_c] ones[layer]
        G[layer (proj_a r_a) (proj_b r_b) proj_c] =
            eye[proj_a proj_b proj_c] eye[r_a r_b] ones[layer]
        """,
    ),
    Relation(
        0,
        "LoRA is in TensLoRA depth",
        "lora",
        "tenslora.depth",
        """
        U[proj in (layer_a r_a)] = A[layer_a proj r_a in]
        V[proj out (layer_b r_b)] = B[layer_b proj out r_b]
        D[proj layer layer_c] = eye[layer layer_c] ones[proj]
        G[proj (layer_a r_a) (layer_b r_b) layer_c] =
            eye[layer_a layer_b layer_c] eye[r_a r_b] ones[proj]
        """,
    ),
    Relation(
        0,
        "LoRA is in TensLoRA att_qkv",
        "lora",
        "tenslora.att_qkv",
        """
        U[layer in (proj_a r)] = A[layer proj_a r in]
        V[layer head_dim head_dim_b] = eye[head_dim head_dim_b] ones[layer]
        H[layer head head_c] = eye[head head_c] ones[layer]
        P[layer proj proj_d] = eye[proj proj_d] ones[layer]
        G[layer (proj_a r) head_dim_b head_c proj_d] =
            B[layer proj_a (head_c head_dim_b) r] eye[proj_a proj_d]
        """,
    ),
    Relation(
        0,
        "LoRA is in TensLoRA att_depth",
        "lora",
        "tenslora.att_depth",
        """
        U[proj in (layer_a r)] = A[layer_a proj r in]
        V[proj head_dim head_dim_b] = eye[head_dim head_dim_b] ones[proj]
        H[proj head head_c] = eye[head head_c] ones[proj]
        D[proj layer layer_d] = eye[layer layer_d] ones[proj]
        G[proj (layer_a r) head_dim_b head_c layer_d] =
            B[layer_a proj (head_c head_dim_b) r] eye[layer_a layer_d]
        """,
    ),
    Relation(
        0,
        "LoRA is in TensLoRA att_qkv_depth",
        "lora",
        "tenslora.att_qkv_depth",
        """
        U[in (layer_a proj_a r)] = A[layer_a proj_a r in]
        V[head_dim head_dim_b] = eye[head_dim head_dim_b]
        H[head head_c] = eye[head head_c]
        P[proj proj_d] = eye[proj proj_d]
        D[layer layer_e] = eye[layer layer_e]
        G[(layer_a proj_a r) head_dim_b head_c proj_d layer_e] =
            B[layer_a proj_a (head_c head_dim_b) r] eye[layer_a layer_e] eye[proj_a proj_d]
        """,
    ),
    Relation(
        0,
        "LoRA is in FacT-TT",
        "lora",
        "fact_tt",
        """
        V[out (layer_b proj_b r_b)] = B[layer_b proj_b out r_b]
        S[(layer proj) (layer_b proj_b r_b) (layer_a proj_a r_a)] =
            eye[layer layer_b layer_a] eye[proj proj_b proj_a] eye[r_b r_a]
        U[in (layer_a proj_a r_a)] = A[layer_a proj_a r_a in]
        """,
    ),
    Relation(
        0,
        "LoRA is in FacT-TK",
        "lora",
        "fact_tk",
        """
        V[out (layer_b proj_b r_b)] = B[layer_b proj_b out r_b]
        C[(layer_a proj_a r_a) (layer_b proj_b r_b) (layer_c proj_c)] =
            eye[layer_a layer_b layer_c] eye[proj_a proj_b proj_c] eye[r_a r_b]
        P[(layer proj) (layer_c proj_c)] = eye[layer layer_c] eye[proj proj_c]
        U[in (layer_a proj_a r_a)] = A[layer_a proj_a r_a in]
        """,
    ),
    Relation(
        0,
        "LoRA is in LoTR",
        "lora",
        "lotr",
        """
        B[proj out (layer_s r_s)] = B[layer_s proj out r_s]
        G[layer proj (layer_s r_s) (layer_r r_r)] =
            eye[layer layer_s layer_r] eye[r_s r_r] ones[proj]
        A[proj (layer_r r_r) in] = A[layer_r proj r_r in]
        """,
    ),
    Relation(
        0,
        "LoRA is in LoRTA",
        "lora",
        "lorta",
        """
        A[in (layer_r proj_r head_r r)] = A[layer_r proj_r r in] ones[head_r]
        H[head (layer_r proj_r head_r r)] = eye[head head_r] ones[layer_r proj_r r]
        B[head_dim (layer_r proj_r head_r r)] = B[layer_r proj_r (head_r head_dim) r]
        D[layer (layer_r proj_r head_r r)] = eye[layer layer_r] ones[proj_r head_r r]
        P[proj (layer_r proj_r head_r r)] = eye[proj proj_r] ones[layer_r head_r r]
        """,
    ),
    Relation(
        0,
        "LoRA is in CaRA",
        "lora",
        CARA,
        """
        A[in (layer_r proj_r head_r r)] = A[layer_r proj_r r in] ones[head_r]
        H[head (layer_r proj_r head_r r)] = eye[head head_r] ones[layer_r proj_r r]
        B[head_dim (layer_r proj_r head_r r)] = B[layer_r proj_r (head_r head_dim) r]
        S[(layer proj) (layer_r proj_r head_r r)] =
            eye[layer layer_r] eye[proj proj_r] ones[head_r r]
        w[(layer_r proj_r head_r r)] = ones[layer_r proj_r head_r r]
        """,
    ),
    Relation(
        0,
        "LoRA is in MetaTT-4D",
        "lora",
        "metatt4",
        """
        B[out (layer_c proj_c r_c)] = B[layer_c proj_c out r_c]
        P[(layer_c proj_c r_c) proj (layer_b proj_b r_b)] =
            eye[proj proj_c proj_b] eye[layer_c layer_b] eye[r_c r_b]
        D[(layer_b proj_b r_b) layer (layer_a proj_a r_a)] =
            eye[layer layer_b layer_a] eye[proj_b proj_a] eye[r_b r_a]
        A[(layer_a proj_a r_a) in] = A[layer_a proj_a r_a in]
        """,
    ),
    Relation(
        0,
        "LoRA is in MetaTT-5D",
        "lora",
        METATT5,
        """
        B[head_dim head_dim_d] = eye[head_dim head_dim_d]
        H[head_dim_d head (layer_c proj_c r_c)] = B[layer_c proj_c (head head_dim_d) r_c]
        P[(layer_c proj_c r_c) proj (layer_b proj_b r_b)] =
            eye[proj proj_c proj_b] eye[layer_c layer_b] eye[r_c r_b]
        D[(layer_b proj_b r_b) layer (layer_a proj_a r_a)] =
            eye[layer layer_b layer_a] eye[proj_b proj_a] eye[r_b r_a]
        A[(layer_a proj_a r_a) in] = A[layer_a proj_a r_a in]
        """,
    ),
)
