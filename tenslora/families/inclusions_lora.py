"""LoRA in every family that reaches all of the tensor, with the ranks that it costs."""

from __future__ import annotations

from tenslora.families.relation import CARA, METATT5, Relation

__all__ = ["LORA_IN"]

LORA_IN: tuple[Relation, ...] = (
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
