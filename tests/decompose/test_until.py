"""Fits that end where enough is kept, or where there is no prospect of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tenslora as tl
from tenslora.decompose.als import alternate, solve
from tenslora.decompose.fitting import fit_until
from tenslora.decompose.problem import Problem
from tenslora.decompose.starts import drawn
from tenslora.spec import parse
from tenslora.testing.oracle import dense

CP = tl.family("W[layer proj out in] = B[out r] L[layer r] P[proj r] A[r in]", init={"B": "zeros"})
EACH = tl.family("W[layer (o t) in] = B[layer o r] T[layer t r] A[layer r in]", init={"B": "zeros"})
SETTINGS = {"sweeps": 60, "finish": False}


def cp_target(rank, seed=0):
    generator, sizes = np.random.default_rng(seed), {"layer": 4, "proj": 3, "out": 9, "in": 8}
    factors = [generator.standard_normal((n, rank)) for n in sizes.values()]
    return np.einsum("lr,pr,or,ir->lpoi", *factors), sizes


def test_a_fit_ends_with_enough():
    target, sizes = cp_target(20)
    ranks = {"r": 12}
    far = fit_until(CP, target, ranks, 0.999, sizes=sizes, **SETTINGS)
    near = fit_until(CP, target, ranks, 0.6, sizes=sizes, **SETTINGS)
    assert 0.6 <= near.energy < far.energy
    assert near.sweeps < far.sweeps
    lost = np.linalg.norm(target - near.delta()) / np.linalg.norm(target)
    assert near.energy == pytest.approx(1 - lost**2)


def test_a_fit_without_prospect_is_left_early():
    """No CP of rank 2 keeps more than the two largest singular values of an unfolding."""
    target, sizes = cp_target(20)
    values = np.linalg.svd(np.moveaxis(target, 3, 0).reshape(8, -1), compute_uv=False)
    most = float((values[:2] ** 2).sum() / (values**2).sum())
    found = fit_until(CP, target, {"r": 2}, 0.99, sizes=sizes, **SETTINGS)
    assert found.energy <= most < 0.99
    assert not found.converged
    assert found.sweeps < 12


def test_what_might_have_come_of_it_is_below_what_comes_of_it():
    target, sizes = cp_target(20)
    problem = Problem(CP.network, {**sizes, "r": 4}, target, {})
    start = drawn(problem, 0, 0)
    left = alternate(problem, start, sweeps=60, gain=1e-6, goal=0.1, patience=1.0)
    full = alternate(problem, start, sweeps=60, gain=1e-6)
    assert left.count < full.count
    assert 0.1 < left.least <= full.error < left.error
    later = alternate(problem, start, sweeps=60, gain=1e-6, goal=0.1, patience=1e-3)
    assert left.count < later.count < full.count
    assert full.error < later.error < left.error


def test_parts_keep_enough_together_where_one_does_not():
    """Each layer has a decomposition of its own: the small noise of one is made up by the other."""
    generator = np.random.default_rng(0)
    easy = np.einsum("or,tr,ir->oti", *(generator.standard_normal((n, 3)) for n in (5, 4, 6)))
    noise = generator.standard_normal((5, 4, 6))
    noise *= 0.4 * np.linalg.norm(easy) / np.linalg.norm(noise)
    target, sizes = np.stack([easy, noise]).reshape(2, 20, 6), {"o": 5, "t": 4, "layer": 2, "in": 6}
    full = tl.fit(EACH, target, {"r": 2}, sizes=sizes, starts=1, **SETTINGS)
    best, worst = sorted(full.errors)
    wanted = (full.energy + 1 - worst**2) / 2  # more than one layer can keep, less than both do
    assert 1 - worst**2 < wanted < full.energy < 1 - best**2
    found = fit_until(EACH, target, {"r": 2}, wanted, sizes=sizes, **SETTINGS)
    assert found.energy >= wanted


@pytest.mark.parametrize("twins", [False, True], ids=["regular", "singular"])
def test_large_systems_are_solved_as_lstsq_would(twins):
    network = parse("W[a b c] = U[a r] V[b r] X[c r]")
    generator, sizes = np.random.default_rng(0), {"a": 9, "b": 8, "c": 5, "r": 40}
    problem = Problem(network, sizes, generator.standard_normal((9, 8, 5)), {})
    cores = {n: generator.standard_normal(s) for n, s in problem.shapes.items()}
    if twins:
        for name in cores:
            cores[name][:, 20:] = cores[name][:, :20]
    matrix = np.einsum("ar,br->abr", cores["U"], cores["V"]).reshape(72, 40)
    wanted = problem.target.reshape(72, 5)
    best = matrix @ np.linalg.lstsq(matrix, wanted, rcond=None)[0]
    solved = {**cores, "X": solve(problem, cores, "X")}
    value = dense(network, solved, sizes)
    np.testing.assert_allclose(value.reshape(72, 5), best, rtol=1e-7, atol=1e-8)
    assert math.isfinite(np.linalg.norm(solved["X"]))


@pytest.mark.parametrize(("seed", "energy", "enough"), [(3, 0.95, "als"), (2, 0.9, "auto")])
def test_cp_is_tried_from_drawn_numbers_and_from_eigenvectors(seed, energy, enough):
    """Far from an exact decomposition either may come closer; ``auto`` starts from eigenvectors."""
    generator, sizes = np.random.default_rng(seed), {"layer": 4, "proj": 3, "out": 24, "in": 24}
    b, a = generator.standard_normal((4, 3, 24, 2)), generator.standard_normal((4, 3, 2, 24))
    one = {
        method: tl.fit(CP, b @ a, {"r": 22}, sizes=sizes, starts=1, method=method, **SETTINGS)
        for method in ("als", "auto")
    }
    assert {method for method, found in one.items() if found.energy >= energy} == {enough}
    assert fit_until(CP, b @ a, {"r": 22}, energy, sizes=sizes, **SETTINGS).energy >= energy


TWO = "W[layer out in] = B[layer out r] A[r in] + D[out s] C[s r] A[r in]"


@pytest.mark.parametrize("scale", [300.0, 1000.0, 10000.0])
def test_a_core_in_two_terms_is_solved_as_lstsq_would(scale):
    """Rows of A of very different length: the small ones come after steps that gain little."""
    family = tl.family(TWO, init={"B": "zeros", "D": "zeros"})
    bound = family.bind({"layer": 3, "out": 12, "in": 10}, ranks=3)
    generator = np.random.default_rng(7)
    cores = {name: generator.standard_normal(shape) for name, shape in bound.shapes.items()}
    cores["A"] *= np.array([1, scale, 1 / scale])[:, None]
    target = dense(bound.network, cores, bound.sizes) + 0.01 * generator.standard_normal(
        (3, 12, 10)
    )
    found = tl.fit(family, target, 3, starts=2, finish=False)
    matrix = (found.cores["B"] + found.cores["D"] @ found.cores["C"]).reshape(36, 3)
    wanted = target.reshape(36, 10)
    best = wanted - matrix @ np.linalg.lstsq(matrix, wanted, rcond=None)[0]
    assert found.error <= 1.001 * np.linalg.norm(best) / np.linalg.norm(wanted)
