"""Ranks cut down from the cores: against SVDs of the whole W, and gradients written out."""

from __future__ import annotations

import numpy as np
import pytest

import tenslora as tl
from tenslora.decompose import cut
from tenslora.errors import FitError

#: family -> the einsum of its cores in the order of the equation, sizes, ranks before and after,
#: and for each bond the axes of W (layer, proj, out, in) on one side of it.
CASES = {
    "lora": ("lpor,lpri->lpoi", {"r": 5}, {"r": 3}, {}),
    "metatt4": (
        "oc,cpb,bla,ai->lpoi",
        {"a": 5, "b": 4, "c": 6},
        {"a": 3, "b": 3, "c": 4},
        {"a": (3,), "b": (0, 3), "c": (2,)},
    ),
    "tenslora.qkv_depth": (
        "ia,ob,pc,ld,abcd->lpoi",
        {"a": 5, "b": 6, "c": 2, "d": 3},
        {"a": 3, "b": 4, "c": 2, "d": 2},
        {"a": (3,), "b": (2,), "c": (1,), "d": (0,)},
    ),
    "fact_tt": ("ob,pba,ia->poi", {"b": 5, "a": 6}, {"b": 4, "a": 3}, {"b": (1,), "a": (2,)}),
}
SIZES = {"layer": 3, "proj": 2, "out": 9, "in": 8, "site": 4}


def prepare(name):
    subscripts, before, after, sides = CASES[name]
    family = getattr(tl.families, name) if "." not in name else tl.resolve(name)
    sizes = {i: SIZES[i] for i in family.network.target.indices}
    bound = family.bind(sizes, ranks=before, alpha=before.get("r"))
    rng = np.random.default_rng(3)
    cores = {n: rng.standard_normal(s) for n, s in bound.shapes.items()}
    for bond in before:  # spectra that fall, as those of trained updates do
        core = next(n for n, c in bound.network.cores.items() if bond in c.indices)
        axis = bound.network.cores[core].indices.index(bond)
        fall = 0.5 ** np.arange(before[bond])
        cores[core] = np.moveaxis(np.moveaxis(cores[core], axis, -1) * fall, -1, axis)
    return bound, cores, after, subscripts, sides


def dense(subscripts, cores):
    return np.einsum(subscripts, *cores.values())


@pytest.mark.parametrize("name", CASES)
def test_the_error_is_that_of_the_best_truncation(name):
    bound, cores, after, subscripts, sides = prepare(name)
    w = dense(subscripts, cores)
    found = cut(bound, cores, after)
    assert found.ranks == after
    assert {n: a.shape for n, a in found.cores.items()} == bound.family.bind(
        {i: bound.sizes[i] for i in bound.network.target.indices}, ranks=after
    ).shapes
    lost = np.linalg.norm(w - dense(subscripts, found.cores))
    np.testing.assert_allclose(found.error, lost / np.linalg.norm(w), rtol=1e-9)
    if name == "lora":
        values = np.linalg.svd(w, compute_uv=False)
        np.testing.assert_allclose(lost**2, (values[..., 3:] ** 2).sum(), rtol=1e-9)
        return
    tails = []
    for bond, axes in sides.items():
        rows = np.moveaxis(w, axes, range(len(axes)))
        rows = rows.reshape(np.prod(rows.shape[: len(axes)]), -1)
        values = np.linalg.svd(rows, compute_uv=False)
        tails.append((values[after[bond] :] ** 2).sum())
    # no cores of these ranks come closer than the worst bond; a nested SVD loses the sum at most
    assert max(tails) * (1 - 1e-9) <= lost**2 <= sum(tails) * (1 + 1e-9)


def gradients(subscripts, cores, c):
    """Of <c, W>, by torch, with respect to every core."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    leaves = [torch.from_numpy(a.copy()).requires_grad_() for a in cores.values()]
    (torch.einsum(subscripts, *leaves) * torch.from_numpy(c)).sum().backward()
    return {n: leaf.grad.numpy() for n, leaf in zip(cores, leaves, strict=True)}


#: The cores beside which nothing but leaves stands: their gradients are carried exactly.
EXACT = {"lora": "BA", "metatt4": "", "tenslora.qkv_depth": "G", "fact_tt": "S"}


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_gradients_turn_with_the_bonds(name, lossless):
    """A gradient of <c, W> is carried to the gradient at the new cores, where W loses nothing."""
    bound, cores, after, subscripts, _ = prepare(name)
    if lossless:  # the same W at larger ranks, in another gauge
        small = cut(bound, cores, after).cores
        cores = {n: small[n] for n in cores}
        rng = np.random.default_rng(9)
        for bond, rank in after.items():
            wide = rng.standard_normal((bound.ranks[bond], rank))
            turns = [wide, np.linalg.pinv(wide).T]
            for core in [n for n, c in bound.network.cores.items() if bond in c.indices]:
                axis = bound.network.cores[core].indices.index(bond)
                turned = np.tensordot(cores[core], turns.pop(), (axis, 1))
                cores[core] = np.moveaxis(turned, -1, axis)
    found = cut(bound, cores, after)
    assert (found.error < 1e-10) == lossless
    c = np.random.default_rng(5).standard_normal(dense(subscripts, cores).shape)
    old = gradients(subscripts, cores, c)
    new = gradients(subscripts, {n: found.cores[n] for n in cores}, c)
    for core in cores if lossless else EXACT[name]:
        carried = found.carried(core, old[core])
        scale = np.abs(new[core]).max()
        np.testing.assert_allclose(carried, new[core], rtol=1e-6, atol=1e-7 * scale)


def test_squares_turn_with_the_squares():
    bound, cores, after, *_ = prepare("lora")
    found = cut(bound, cores, after)
    squares = np.random.default_rng(7).random(cores["B"].shape)
    turn = np.linalg.lstsq(  # of the first site: what stands behind B is A
        cores["A"][0, 0].T, found.cores["A"][0, 0].T, rcond=None
    )[0]
    carried = found.carried("B", squares, squared=True)
    np.testing.assert_allclose(carried[0, 0], squares[0, 0] @ turn**2, rtol=1e-9)
    assert (carried >= 0).all()


def test_a_tolerance_chooses_the_ranks():
    (
        bound,
        cores,
        *_,
    ) = prepare("metatt4")
    found = cut(bound, cores, tolerance=0.2)
    assert 0 < found.error <= 0.2
    assert any(found.ranks[b] < n for b, n in bound.ranks.items())
    exact = cut(bound, cores, bound.ranks)
    assert exact.error < 1e-10


def test_an_update_of_nothing_stays_nothing():
    bound, cores, after, subscripts, _ = prepare("lora")
    cores["B"][:] = 0
    found = cut(bound, cores, after)
    assert found.error == 0
    assert not dense(subscripts, found.cores).any()
    assert all(np.isfinite(found.carried(n, a)).all() for n, a in cores.items())


def test_mistakes_are_told():
    bound, cores, *_ = prepare("lora")
    for ranks, text in (
        ({"r": 6}, "E905: the rank r=6 is no count up to the 5 that is there"),
        ({"r": 0}, "E905: the rank r=0"),
        ({"q": 2}, "E905: 'q' is no bond of lora"),
    ):
        with pytest.raises(FitError, match=text):
            cut(bound, cores, ranks)
    for tolerance in (0.0, 1.0, True):
        with pytest.raises(FitError, match="E905: tolerance="):
            cut(bound, cores, tolerance=tolerance)
    cp = tl.families.cp_matrix
    sizes = dict.fromkeys(cp.network.target.indices, 4)
    other = cp.bind(sizes, r=2)
    arrays = {n: np.ones(s) for n, s in other.shapes.items()}
    with pytest.raises(FitError, match="E903: the cores of cp_matrix are no tree"):
        cut(other, arrays, {"r": 1})
