"""How close a fit comes, against numpy's and tensorly's own decompositions, and what it reports."""

from __future__ import annotations

import numpy as np
import pytest
import tensorly
from tensorly.decomposition import parafac, tensor_train, tucker

import tenslora as tl
from tenslora.decompose.als import alternate, linear_cores, solve
from tenslora.decompose.problem import Problem
from tenslora.decompose.starts import drawn
from tenslora.testing import random_bound
from tenslora.testing.oracle import dense, gradient

TUCKER = tl.tucker("W[layer out in]")
TRAIN = tl.tensor_train("W[layer proj out in]", ["layer", "proj", "out", "in"])
CP = tl.cp("W[layer out in]")


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(3).standard_normal((5, 9, 8))


def distance(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_lora_is_the_svd_of_each_matrix(noise):
    found = tl.fit("lora", noise[:, None], ranks=3)
    s = np.linalg.svd(noise, compute_uv=False)
    best = np.sqrt((s[:, 3:] ** 2).sum(axis=1) / (s**2).sum(axis=1))  # Eckart and Young 1936
    np.testing.assert_allclose(found.errors[:, 0], best, rtol=1e-10)
    assert found.error == pytest.approx(np.sqrt((s[:, 3:] ** 2).sum() / (s**2).sum()), rel=1e-10)
    assert found.energy == pytest.approx(1 - found.error**2)


def test_a_tied_matrix_is_the_svd_of_the_mean(noise):
    tied = tl.family("W[layer out in] = B[out r] A[r in]", init={"B": "zeros"})
    u, s, vt = np.linalg.svd(noise.mean(axis=0))
    best = (u[:, :4] * s[:4]) @ vt[:4]
    assert tl.fit(tied, noise, 4).error == pytest.approx(distance(best, noise), rel=1e-10)


def with_tensorly(method, *arguments, **options):
    with tensorly.backend_context("numpy", local_threadsafe=True):
        return distance(method(*arguments, **options).to_tensor(), arguments[0])


def test_tucker_is_as_close_as_tensorlys(noise):
    found = tl.fit(TUCKER, noise, {"a": 3, "b": 4, "c": 2})
    sizes = [TUCKER.network.cores[name].slots[0][0] for name in ("U", "V", "D")]
    assert sizes == ["in", "out", "layer"]
    theirs = with_tensorly(tucker, noise, rank=[2, 4, 3], tol=1e-12, n_iter_max=300)
    assert found.error == pytest.approx(theirs, rel=1e-6)


def test_a_train_is_tensorlys_and_then_closer(noise):
    noise = noise.reshape(5, 3, 3, 8)
    ranks = dict(zip(TRAIN.bonds, (3, 4, 3), strict=True))
    theirs = with_tensorly(tensor_train, noise, rank=[1, 3, 4, 3, 1])
    assert tl.fit(TRAIN, noise, ranks, method="svd").error == pytest.approx(theirs, rel=1e-9)
    assert tl.fit(TRAIN, noise, ranks).error < theirs


def test_cp_is_tensorlys_or_closer(noise):
    theirs = with_tensorly(parafac, noise, rank=4, n_iter_max=500, random_state=0)
    assert tl.fit(CP, noise, 4).error <= theirs * (1 + 1e-4)


def test_a_rank_above_what_a_mode_carries_is_filled_with_zeros(noise):
    with pytest.warns(tl.RedundantRankWarning):
        found = tl.fit(TUCKER, noise, {"a": 11, "b": 12, "c": 7})
    assert found.error < 1e-12
    assert found.cores["G"].shape == (11, 12, 7)


def test_a_target_may_have_an_axis_for_each_index_or_each_slot():
    target = np.random.default_rng(0).standard_normal((2, 3, 6, 5))
    name = "tenslora.att_qkv_depth"
    slots = tl.fit(name, target, 2, sizes={"head": 2})
    indices = tl.fit(name, target.reshape(2, 3, 2, 3, 5), 2)
    assert slots.bound == indices.bound
    assert slots.error == pytest.approx(indices.error)


def test_the_scale_belongs_to_the_target(noise):
    plain = tl.fit("lora", noise[:, None], ranks=2)
    scaled = tl.fit("lora", noise[:, None], ranks=2, alpha=16)
    assert (plain.bound.scale, scaled.bound.scale) == (1.0, 8.0)
    assert scaled.error == pytest.approx(plain.error)
    np.testing.assert_allclose(scaled.delta(), plain.delta(), atol=1e-12)
    update = 8.0 * dense(scaled.bound.network, scaled.cores, scaled.bound.sizes)
    np.testing.assert_allclose(scaled.delta(), update, atol=1e-12)


def test_a_budget_chooses_the_ranks(noise):
    found = tl.fit(TUCKER, noise, params=150)
    assert found.parameters <= 150
    assert found.bound.ranks == tl.ranks(TUCKER, {"layer": 5, "out": 9, "in": 8}, params=150)


def test_frozen_cores_stay_as_given_or_as_the_seed_draws_them(noise):
    vera = tl.resolve("vera")
    found = tl.fit("vera", noise[:, None], 6, seed=4)
    drawn_ones = found.bound.arrays(4)
    for name in vera.frozen:
        np.testing.assert_array_equal(found.cores[name], drawn_ones[name])
    mine = np.random.default_rng(1).standard_normal((9, 6))
    given = tl.fit("vera", noise[:, None], 6, cores={"B": mine}, seed=4)
    np.testing.assert_array_equal(given.cores["B"], mine)


def test_a_site_without_an_update_has_no_error_of_its_own():
    target = np.zeros((2, 1, 4, 4))
    assert tl.fit("lora", target, 2).error == 0.0
    target[0] = np.eye(4)
    found = tl.fit("lora", target, 2)
    assert found.errors[:, 0].tolist() == [pytest.approx(np.sqrt(0.5)), 0.0]
    shared = tl.fit("lotr", target, 2)
    assert np.isfinite(shared.errors[1]).all() or np.isinf(shared.errors[1]).all()


def test_the_same_seed_gives_the_same_fit_and_nothing_else_is_touched(noise):
    state = np.random.get_state()[1].copy()
    backend, kept = tensorly.get_backend(), noise.copy()
    for family in (CP, TUCKER, tl.tensor_ring("W[layer out in]")):
        first, second = (tl.fit(family, noise, 2, seed=2, sweeps=20) for _ in range(2))
        assert all((first.cores[n] == second.cores[n]).all() for n in first.cores)
    assert (np.random.get_state()[1] == state).all()
    assert tensorly.get_backend() == backend
    assert (noise == kept).all()


def test_what_a_fit_says_of_itself(noise):
    found = tl.fit("lora", noise[:, None], ranks=2)
    low, high = found.errors.min(), found.errors.max()
    assert repr(found) == (
        f"<Fit of lora: r=2, 170 parameters, relative error {found.error:.3g} (svd),\n"
        f" of sites {low:.3g} to {high:.3g}>"
    )
    data = found.to_dict()
    assert data["parameters"] == 170 == 5 * (9 + 8) * 2
    assert np.asarray(data["errors"]).shape == (5, 1)


@pytest.mark.parametrize("method", ["als", "gradient"])
def test_iterations_come_as_close_as_the_decomposition(noise, method):
    best = tl.fit(TUCKER, noise, 3, sweeps=500).error
    assert tl.fit(TUCKER, noise, 3, method=method, sweeps=500).error == pytest.approx(
        best, rel=1e-3
    )


def random_problem(seed):
    bound = random_bound(seed)
    generator = np.random.default_rng(seed)
    target = generator.standard_normal([bound.sizes[i] for i in bound.network.target.indices])
    fixed = {n: bound.arrays(seed)[n] for n in bound.family.frozen}
    return bound, Problem(bound.network, bound.sizes, target, fixed)


@pytest.mark.parametrize("seed", range(40))
def test_on_any_network_a_core_is_solved_as_lstsq_would(seed):
    bound, problem = random_problem(seed)
    cores = drawn(problem, seed, 0)
    network, sizes = bound.network, bound.sizes
    for name in linear_cores(problem):
        zero = {**cores, name: np.zeros_like(cores[name]), **problem.fixed}
        constant = dense(network, zero, sizes).reshape(-1)
        columns = []
        for at in np.ndindex(cores[name].shape):
            unit = np.zeros_like(cores[name])
            unit[at] = 1.0
            columns.append(dense(network, {**zero, name: unit}, sizes).reshape(-1) - constant)
        matrix = np.stack(columns, axis=1)
        wanted = problem.target.reshape(-1) - constant
        best = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
        least = np.linalg.norm(matrix @ best - wanted)
        solved = {**cores, name: solve(problem, cores, name)}
        assert problem.error(solved) * problem.norm == pytest.approx(least, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_value_and_gradient_are_those_of_the_definition(seed):
    bound, problem = random_problem(seed)
    cores = drawn(problem, seed, 0)
    every = {**cores, **problem.fixed}
    value = dense(bound.network, every, bound.sizes).reshape(problem.target.shape)
    np.testing.assert_allclose(problem.value(cores), value, rtol=1e-10, atol=1e-10)
    expected = gradient(bound.network, every, bound.sizes, problem.target)
    for name, found in problem.gradient(cores, problem.target, list(problem.shapes)).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_a_sweep_never_loses(seed):
    _, problem = random_problem(seed)
    cores = drawn(problem, seed, 0)
    before = problem.error(cores)
    for _ in range(3):
        found = alternate(problem, cores, sweeps=1, gain=0.0)
        assert found.error <= before * (1 + 1e-9) + 1e-12
        cores, before = found.cores, found.error
