"""Which method is which other method: equal updates from substituted cores."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tenslora as tl

L, M, H, J, IN, OUT, R = 3, 2, 3, 4, 5, 6, 2  # layer, proj, head, head_dim, in, out, rank
PLAIN = {"layer": L, "proj": M, "out": OUT, "in": IN}
HEADS = {"layer": L, "proj": M, "head": H, "head_dim": J, "in": IN}
SITES = {"site": L * M, "out": OUT, "in": IN}


def superdiagonal(order, rank):
    core = np.zeros((rank,) * order)
    core[(np.arange(rank),) * order] = 1.0
    return core


def test_lora_is_in_tenslora_qkv_depth(make):
    """P and D identities, one input and output direction for each (layer, proj, r), a 0/1 core."""
    lora = make("lora", {**PLAIN, "r": R})
    A, B = lora.core["A"], lora.core["B"]
    directions = L * M * R
    G = np.zeros((L, M, R, L, M, R, M, L))
    for layer, proj, r in np.ndindex(L, M, R):
        G[layer, proj, r, layer, proj, r, proj, layer] = 1.0
    tucker = make(
        "tenslora.qkv_depth",
        {**PLAIN, "a": directions, "b": directions, "c": M, "d": L},
        U=A.reshape(directions, IN).T,
        V=B.transpose(2, 0, 1, 3).reshape(OUT, directions),
        P=np.eye(M),
        D=np.eye(L),
        G=G.reshape(directions, directions, M, L),
    )
    assert_allclose(tucker.delta, lora.delta, atol=1e-12)


def test_fact_tt_is_lotr_with_one_pair_is_tucker_with_an_identity_over_the_slices(make):
    fact = make("fact_tt", {**SITES, "a": 2, "b": 3})
    V, S, U = (fact.core[n] for n in "VSU")
    sizes = {"layer": L * M, "proj": 1, "out": OUT, "in": IN}
    lotr = make("lotr", {**sizes, "s": 3, "r": 2}, B=V[None], G=S[:, None], A=U.T[None])
    assert_allclose(lotr.delta[:, 0], fact.delta, atol=1e-12)
    slices = np.eye(L * M)
    tucker = make(
        "fact_tk",
        {**SITES, "a": 2, "b": 3, "c": L * M},
        V=V, U=U, P=slices, C=S.transpose(2, 1, 0),
    )  # fmt: skip
    assert_allclose(tucker.delta, fact.delta, atol=1e-12)


def test_fact_tk_is_fact_tt_with_composed_slices(make):
    tk = make("fact_tk", {**SITES, "a": 2, "b": 3, "c": 2})
    S = np.einsum("abc,sc->sba", tk.core["C"], tk.core["P"])
    tt = make("fact_tt", {**SITES, "a": 2, "b": 3}, V=tk.core["V"], U=tk.core["U"], S=S)
    assert_allclose(tt.delta, tk.delta, atol=1e-12)


def test_lotr_with_one_pair_is_tenslora_qkv_depth_with_identities(make):
    lotr = make("lotr", {"layer": L * M, "proj": 1, "out": OUT, "in": IN, "s": 3, "r": 2})
    B, G, A = (lotr.core[n] for n in "BGA")
    tucker = make(
        "tenslora.qkv_depth",
        {**PLAIN, "a": 2, "b": 3, "c": M, "d": L},
        U=A[0].T,
        V=B[0],
        P=np.eye(M),
        D=np.eye(L),
        G=G.reshape(L, M, 3, 2).transpose(3, 2, 1, 0),
    )
    assert_allclose(tucker.delta.reshape(lotr.delta.shape), lotr.delta, atol=1e-12)


def test_lotr_with_a_pair_for_each_projection_is_tenslora_depth_with_an_identity(make):
    lotr = make("lotr", {**PLAIN, "s": 3, "r": 2})
    B, G, A = (lotr.core[n] for n in "BGA")
    depth = make(
        "tenslora.depth",
        {**PLAIN, "a": 2, "b": 3, "c": L},
        U=A.swapaxes(1, 2),
        V=B,
        D=np.broadcast_to(np.eye(L), (M, L, L)),
        G=G.transpose(1, 3, 2, 0),
    )
    assert_allclose(depth.delta, lotr.delta, atol=1e-12)


def test_tenslora_qkv_depth_is_tucker_over_slices_with_a_kronecker_factor(make):
    tucker = make("tenslora.qkv_depth", {**PLAIN, "a": 2, "b": 3, "c": 2, "d": 3})
    U, V, P, D, G = (tucker.core[n] for n in "UVPDG")
    sliced = make(
        "fact_tk",
        {**SITES, "a": 2, "b": 3, "c": 6},
        U=U, V=V, P=np.kron(D, P), C=G.swapaxes(2, 3).reshape(2, 3, 6),
    )  # fmt: skip
    assert_allclose(sliced.delta, tucker.delta.reshape(sliced.delta.shape), atol=1e-12)


@pytest.mark.parametrize(
    "name", ["att", "qkv", "depth", "att_qkv", "att_depth", "qkv_depth", "att_qkv_depth"]
)
def test_cp_is_tucker_with_a_superdiagonal_core(name, make):
    sizes = HEADS if "att" in name else PLAIN
    cp = make(f"tenslora_cp.{name}", {**sizes, "r": R})
    network = tl.resolve(f"tenslora.{name}").network
    alone = tuple(sizes[i] for i in network.independent_sites)
    core = superdiagonal(len(network.bonds), R)
    G = np.broadcast_to(core, (*alone, *core.shape))
    tucker = make(f"tenslora.{name}", {**sizes, "rank": R}, **cp.core, G=G)
    assert_allclose(tucker.delta, cp.delta, atol=1e-12)


def test_lorta_is_tenslora_cp_and_so_in_tenslora(make):
    lorta = make("lorta", {**HEADS, "r": R})
    renamed = {new: lorta.core[old] for new, old in zip("UVHPD", "ABHPD", strict=True)}
    cp = make("tenslora_cp.att_qkv_depth", {**HEADS, "r": R}, **renamed)
    assert_allclose(cp.delta, lorta.delta, atol=1e-12)


def test_lorta_is_a_train_with_diagonal_middle_cores(make):
    """MetaTT with heads: in, layer, proj, head, head_dim, every bond r."""
    lorta = make("lorta", {**HEADS, "r": R})
    train = tl.family(
        "W[layer proj (head head_dim) in] = "
        "B[head_dim d] H[d head c] P[c proj b] D[b layer a] A[a in]",
        init={"B": "zeros"},
    )
    diagonal = {n: np.einsum("xr,rs->rxs", lorta.core[n], np.eye(R)) for n in "HPD"}
    ends = {"B": lorta.core["B"], "A": lorta.core["A"].T}
    metatt5 = make(train, {**HEADS, "rank": R}, **ends, **diagonal)
    assert_allclose(metatt5.delta, lorta.delta, atol=1e-12)


def test_cara_is_lorta_with_a_khatri_rao_site_factor(make):
    from tensorly.tenalg import khatri_rao

    lorta = make("lorta", {**HEADS, "r": R})
    cara = tl.family(
        "W[site (head head_dim) in] = A[in r] H[head r] B[head_dim r] S[site r] w[r]",
        init={"w": "zeros"},
    )
    same = {n: lorta.core[n] for n in "AHB"}
    sites = khatri_rao([lorta.core["D"], lorta.core["P"]])
    sizes = {"site": L * M, "head": H, "head_dim": J, "in": IN, "r": R}
    made = make(cara, sizes, **same, S=sites, w=np.ones(R))
    assert_allclose(made.delta, lorta.delta.reshape(made.delta.shape), atol=1e-12)


def test_metatt_is_lotr_with_one_pair_and_composed_cores(make):
    metatt = make("metatt4", {**PLAIN, "a": 2, "b": 3, "c": 4})
    B, P, D, A = (metatt.core[n] for n in "BPDA")
    G = np.einsum("cpb,bla->lpca", P, D).reshape(L * M, 1, 4, 2)
    sizes = {"layer": L * M, "proj": 1, "out": OUT, "in": IN, "s": 4, "r": 2}
    lotr = make("lotr", sizes, B=B[None], G=G, A=A[None])
    assert_allclose(lotr.delta.reshape(metatt.delta.shape), metatt.delta, atol=1e-12)


def test_vera_without_its_output_scaling_is_cp_of_in_out_and_site(make):
    from tensorly.cp_tensor import cp_to_tensor

    vera = make("vera", {**PLAIN, "r": R}, b=np.ones((L, M, OUT)))
    A, B, d = (vera.core[n] for n in "ABd")
    cp = cp_to_tensor((None, [d.reshape(L * M, R), B, A.T]))
    assert_allclose(vera.delta, cp.reshape(vera.delta.shape), atol=1e-12)


def test_loha_is_lora_with_khatri_rao_factors(make):
    loha = make("loha", {**PLAIN, "r": 2, "s": 3})
    B1, A1, B2, A2 = (loha.core[n] for n in ("B1", "A1", "B2", "A2"))
    B = np.einsum("lpor,lpos->lpors", B1, B2).reshape(L, M, OUT, 6)
    A = np.einsum("lpri,lpsi->lprsi", A1, A2).reshape(L, M, 6, IN)
    lora = make("lora", {**PLAIN, "r": 6}, A=A, B=B)
    assert_allclose(lora.delta, loha.delta, atol=1e-12)


def test_lokr_is_a_kronecker_product_and_lora_where_its_first_factor_is_a_number(make):
    sizes = {"layer": 1, "proj": 1, "o1": 2, "o2": 3, "i1": 4, "i2": 5}
    lokr = make("lokr", {**sizes, "r": R})
    C, B, A = (lokr.core[n][0, 0] for n in "CBA")
    assert_allclose(lokr.delta[0, 0], np.kron(C, B @ A), atol=1e-12)
    lora = make("lora", {**PLAIN, "r": R})
    one = make(
        "lokr",
        {"layer": L, "proj": M, "o1": 1, "o2": OUT, "i1": 1, "i2": IN, "r": R},
        C=np.ones((L, M, 1, 1)),
        B=lora.core["B"],
        A=lora.core["A"],
    )
    assert_allclose(one.delta, lora.delta, atol=1e-12)


def test_a_train_of_two_cores_is_lora_and_a_ring_with_bond_one_is_the_train(make):
    lora = make("lora", {**PLAIN, "r": R})
    ring = tl.family(
        "W[layer proj out in] = V[layer proj t out b] U[layer proj b in t]", init={"V": "zeros"}
    )
    made = make(
        ring,
        {**PLAIN, "t": 1, "b": R},
        V=lora.core["B"][:, :, None],
        U=lora.core["A"][..., None],
    )
    assert_allclose(made.delta, lora.delta, atol=1e-12)
