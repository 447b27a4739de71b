"""Running plans: shapes checked, empty inputs, names of Python as names of cores, autograd."""

from __future__ import annotations

import numpy as np
import pytest

from tenslora import backends
from tenslora.errors import PlanError
from tenslora.plan import make_plan
from tenslora.spec import core_shape, parse

TEXT = "W[layer proj (head k) in] = U[in a] H[head a] V[k a] D[layer a] P[proj a]"
SIZES = {"layer": 2, "proj": 3, "head": 2, "k": 3, "in": 5, "a": 4}


def made(text=TEXT, sizes=SIZES, seed=0, **settings):
    network = parse(text)
    rng = np.random.default_rng(seed)
    cores = {n: rng.standard_normal(core_shape(c, sizes)) for n, c in network.cores.items()}
    plan = make_plan(network, sizes, **settings)
    return backends.executable(plan, backends.get("numpy")), cores


def test_delta_and_apply_are_the_formula():
    run, cores = made(shared=["proj"])
    expected = np.einsum("ia,ha,ka,la,pa->lphki", *(cores[n] for n in "UHVDP"))
    expected = expected.reshape(2, 3, 6, 5)
    np.testing.assert_allclose(run.delta(cores), expected, atol=1e-12)
    x = np.random.default_rng(1).standard_normal((7, 5))
    y = run.apply(cores, x, {"layer": 1, "proj": 2})
    np.testing.assert_allclose(y, x @ expected[1, 2].T, atol=1e-12)
    stacked = run.apply_stacked(cores, x)
    np.testing.assert_allclose(stacked, x @ expected.swapaxes(-1, -2), atol=1e-12)


def test_no_rows_are_no_error():
    run, cores = made()
    assert run.apply_stacked(cores, np.zeros((0, 5))).shape == (2, 3, 0, 6)


def test_cores_may_be_called_as_words_of_python_and_of_the_program():
    text = "W[o i] = lambda[o a] h[a b] cores[b c] t0[c d] T[d e] like[e i]"
    sizes = {"o": 3, "i": 4, **dict.fromkeys("abcde", 2)}
    run, cores = made(text, sizes)
    expected = np.linalg.multi_dot(list(cores.values()))
    np.testing.assert_allclose(run.delta(cores), expected)
    np.testing.assert_allclose(run.apply(cores, np.eye(4), {}).T, expected)


def test_constants_alone_take_the_dtype_of_like():
    network = parse("W[out in] = eye[out in]")
    run = backends.executable(make_plan(network, {"out": 3, "in": 3}), backends.get("numpy"))
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    assert run.apply({}, x, {}).dtype == np.float32
    np.testing.assert_array_equal(run.delta({}, x), np.eye(3, dtype=np.float32))


@pytest.mark.parametrize("text", ["W[a b] = eye[a b] c[a]", "W[a b] = c[a r s] eye[r s] v[r b]"])
@pytest.mark.parametrize("name", backends.NAMES)
def test_constants_on_every_backend(name, text):
    pytest.importorskip(name, reason=f"{name} is not installed")
    run, cores = made(text, dict.fromkeys("abrs", 3))
    expected = run.delta(cores)
    other = backends.executable(run.plan, backends.get(name))
    if name == "torch":
        import torch

        cores = {key: torch.tensor(value) for key, value in cores.items()}
    np.testing.assert_allclose(np.asarray(other.delta(cores)), expected, rtol=1e-5)


def test_a_wrong_shape_is_told_not_broadcast():
    run, cores = made()
    cores["D"] = cores["D"][:1]
    with pytest.raises(PlanError, match=r"core D has shape \(1, 4\).*wants \(2, 4\)") as info:
        run.delta(cores)
    assert info.value.code == "E405"
    del cores["D"]
    with pytest.raises(PlanError, match=r"core D .* is missing") as info:
        run.hoist(cores)
    assert info.value.code == "E404"


def test_a_wrong_input_or_site_is_told():
    run, cores = made()
    with pytest.raises(PlanError, match=r"wants \(n, 5\)") as info:
        run.apply(cores, np.zeros((2, 4)), {"layer": 0, "proj": 0})
    assert info.value.code == "E406"
    for site in ({"layer": 2, "proj": 0}, {"layer": 0}, {"layer": 0, "proj": 0, "x": 1}):
        with pytest.raises(PlanError, match=r"It has layer 0\.\.1, proj 0\.\.2") as info:
            run.apply(cores, np.zeros((2, 5)), site)
        assert info.value.code == "E407"


def test_unknown_backends():
    with pytest.raises(PlanError, match="numpy, torch, jax") as info:
        backends.get("tensorflow")
    assert info.value.code == "E408"
    with pytest.raises(PlanError, match="list is an array of no backend"):
        backends.infer([1.0])


def test_one_executable_for_one_plan():
    first, _ = made()
    second, _ = made()
    assert first is second
