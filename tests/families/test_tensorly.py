"""Tucker, CP and train families against tensorly's own reconstruction of the stacked tensor."""

from __future__ import annotations

import numpy as np
import pytest
import tensorly
from tensorly.cp_tensor import cp_to_tensor
from tensorly.tt_tensor import tt_to_tensor
from tensorly.tucker_tensor import tucker_to_tensor

import tenslora as tl

HEADS = {"layer": 2, "proj": 3, "head": 3, "head_dim": 4, "in": 5}
PLAIN = {"layer": 2, "proj": 3, "out": 6, "in": 5}
SEVEN = ["att", "qkv", "depth", "att_qkv", "att_depth", "qkv_depth", "att_qkv_depth"]


@pytest.fixture(autouse=True)
def numpy_backend():
    with tensorly.backend_context("numpy", local_threadsafe=True):
        yield


def prepare(make, name):
    network = tl.resolve(name).network
    sizes = {**HEADS, **PLAIN}
    sizes = {index: sizes[index] for index in network.target.indices}
    ranks = {bond: 2 + n % 3 for n, bond in enumerate(network.bonds)}
    return make(name, {**sizes, **ranks})


def stacked(family, decomposed):
    """Rebuild W from a function of (core or None, factors) for each independent site."""
    network, sizes = family.bound.network, family.bound.sizes
    alone = network.independent_sites
    factors = {n: core for n, core in network.cores.items() if n != "G"}
    modes = [
        next(i for i in c.indices if i not in (*alone, *network.bonds)) for c in factors.values()
    ]
    result = np.empty([sizes[i] for i in (*alone, *modes)])
    for at in np.ndindex(*(sizes[i] for i in alone)):
        core = family.core["G"][at] if "G" in network.cores else None
        result[at] = decomposed(core, [family.core[n][at] for n in factors])
    held = [*alone, *modes]
    order = [held.index(i) for i in network.target.indices]
    return result.transpose(order).reshape(family.delta.shape)


@pytest.mark.parametrize("name", SEVEN)
def test_tenslora_is_a_tucker_tensor_for_each_independent_site(name, make):
    family = prepare(make, f"tenslora.{name}")
    expected = stacked(family, lambda core, factors: tucker_to_tensor((core, factors)))
    np.testing.assert_allclose(family.delta, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [*(f"tenslora_cp.{n}" for n in SEVEN), "lorta"])
def test_cp_is_a_cp_tensor_for_each_independent_site(name, make):
    family = prepare(make, name)
    expected = stacked(family, lambda _, factors: cp_to_tensor((None, factors)))
    np.testing.assert_allclose(family.delta, expected, rtol=1e-12, atol=1e-12)


def test_metatt_is_a_tensor_train(make):
    family = prepare(make, "metatt4")
    core = family.core
    train = tt_to_tensor([core["B"][None], core["P"], core["D"], core["A"][..., None]])
    np.testing.assert_allclose(family.delta, train.transpose(2, 1, 0, 3), rtol=1e-12, atol=1e-12)


def test_tt_lora_is_a_tensor_train_for_each_weight(make):
    sizes = {"layer": 2, "proj": 1, "o1": 2, "o2": 3, "o3": 2, "i1": 3, "i2": 2, "i3": 4}
    family = make("tt_lora", {**sizes, "a": 2, "b": 3, "c": 4, "d": 3, "e": 2})
    for layer in range(2):
        cores = [family.core[f"G{n}"][layer, 0] for n in range(1, 7)]
        train = tt_to_tensor([cores[0][None], *cores[1:-1], cores[-1][..., None]])
        expected = train.reshape(2 * 3 * 2, 3 * 2 * 4)
        np.testing.assert_allclose(family.delta[layer, 0], expected, rtol=1e-12, atol=1e-12)


def test_fact_tt_is_a_train_and_fact_tk_a_tucker_tensor_over_the_slices(make):
    sizes = {"site": 5, "out": 6, "in": 7}
    tt = make("fact_tt", {**sizes, "a": 2, "b": 3})
    train = tt_to_tensor(
        [tt.core["V"][None], tt.core["S"].transpose(1, 0, 2), tt.core["U"].T[..., None]]
    )
    np.testing.assert_allclose(tt.delta, train.transpose(1, 0, 2), rtol=1e-12, atol=1e-12)
    tk = make("fact_tk", {**sizes, "a": 2, "b": 3, "c": 4})
    tucker = tucker_to_tensor((tk.core["C"], [tk.core[n] for n in "UVP"]))
    np.testing.assert_allclose(tk.delta, tucker.transpose(2, 1, 0), rtol=1e-12, atol=1e-12)


def test_the_backend_of_tensorly_is_left_alone(make):
    before = tensorly.get_backend()
    prepare(make, "tenslora.att").delta  # noqa: B018
    assert tensorly.get_backend() == before
