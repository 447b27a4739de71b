"""Tensor families against tensorly's reconstruction on torch: the stacked W, and its gradients.

tensorly rebuilds each independent tensor from our cores with its own contraction; a loss of both
has the same derivative in every core.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

import tenslora as tl
from tenslora import backends
from tenslora.errors import RedundantRankWarning

torch = pytest.importorskip("torch", reason="torch is not installed")
import tensorly  # noqa: E402
from tensorly.cp_tensor import cp_to_tensor  # noqa: E402
from tensorly.tr_tensor import tr_to_tensor  # noqa: E402
from tensorly.tt_matrix import tt_matrix_to_tensor  # noqa: E402
from tensorly.tt_tensor import tt_to_tensor  # noqa: E402
from tensorly.tucker_tensor import tucker_to_tensor  # noqa: E402

SEVEN = ["att", "qkv", "depth", "att_qkv", "att_depth", "qkv_depth", "att_qkv_depth"]
SIZES = {
    "layer": 2, "proj": 3, "site": 4, "head": 3, "head_dim": 4, "out": 6, "in": 5,
    "o1": 2, "o2": 3, "o3": 2, "i1": 3, "i2": 2, "i3": 4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def torch_backend():
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        yield


def tucker(cores):
    return tucker_to_tensor((cores[-1], list(cores[:-1])))


def cp(cores):
    return cp_to_tensor((None, list(cores)))


def train(cores):
    first = cores[0][None] if cores[0].ndim == 2 else cores[0]
    last = cores[-1][..., None] if cores[-1].ndim == 2 else cores[-1]
    return tt_to_tensor([first, *cores[1:-1], last])


def ring(cores):
    return tr_to_tensor(list(cores))


def weighted(cores):
    """CP whose weights are the last of the cores."""
    return cp_to_tensor((cores[-1], list(cores[:-1])))


def matrix(cores):
    """A tensor-train matrix: cores of (bond, row, column, bond)."""
    whole = [cores[0][None], *cores[1:-1], cores[-1][..., None]]
    rows_first = tt_matrix_to_tensor(whole)
    return rows_first.reshape([core.shape[axis] for axis in (1, 2) for core in whole])


def blocks(cores):
    """A sum of Tuckers: every core has the block first."""
    return sum(tucker([core[z] for core in cores]) for z in range(cores[0].shape[0]))


#: family -> how tensorly builds it, our cores with their indices in its order, and its modes
CASES = {
    **{f"tenslora.{n}": (tucker, None) for n in SEVEN},
    **{f"tenslora_cp.{n}": (cp, None) for n in SEVEN},
    **{f"tenslora_tt.{n}": (train, None) for n in SEVEN},
    **{f"tenslora_tr.{n}": (ring, None) for n in SEVEN},
    "lora": (train, ["B out r", "A r in"]),
    "lorta": (cp, ["A in r", "H head r", "B head_dim r", "D layer r", "P proj r"]),
    "cara": (weighted, ["A in r", "H head r", "B head_dim r", "S site r", "w r"]),
    "cp_matrix": (weighted, ["P o1 r", "Q o2 r", "R i1 r", "S i2 r", "w r"]),
    "metatt4": (train, ["B out c", "P c proj b", "D b layer a", "A a in"]),
    "metatt5": (train, ["B head_dim d", "H d head c", "P c proj b", "D b layer a", "A a in"]),
    "tt_lora": (
        train,
        ["G1 o1 a", "G2 a o2 b", "G3 b o3 c", "G4 c i1 d", "G5 d i2 e", "G6 e i3"],
    ),
    "tt_matrix": (matrix, ["G1 o1 i1 a", "G2 a o2 i2 b", "G3 b o3 i3"]),
    "fact_tt": (train, ["V out b", "S b site a", "U a in"]),
    "fact_tk": (tucker, ["U in a", "V out b", "P site c", "C a b c"]),
    "lotr": (train, ["B out s", "G s layer r", "A r in"]),
    "block_term": (blocks, ["U z in a", "V z out b", "G z a b"]),
}


def prepare(name):
    network = tl.resolve(name).network
    sizes = {index: SIZES[index] for index in network.target.indices}
    ranks = {bond: 2 + n % 2 for n, bond in enumerate(network.bonds)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RedundantRankWarning)
        bound = tl.resolve(name).bind(sizes, **ranks)
    rng = np.random.default_rng(0)
    cores = {
        core: torch.tensor(rng.standard_normal(shape), requires_grad=True)
        for core, shape in bound.shapes.items()
    }
    return bound, cores


def rebuild(bound, cores, build, order):
    """W as tensorly gives it, for each combination of the sites that the tensors do not hold."""
    network, sizes = bound.network, bound.sizes
    alone = [s for s in network.sites if all(s in c.indices for c in network.cores.values())]
    if order is None:
        order = [
            " ".join([n, *(i for i in c.indices if i not in alone)])
            for n, c in network.cores.items()
        ]
    words = [text.split() for text in order]
    held = {index for _, *indices in words for index in indices}
    alone = [s for s in network.sites if s not in held]
    parts = []
    for at in itertools.product(*(range(sizes[s]) for s in alone)):
        place = dict(zip(alone, at, strict=True))
        parts.append(build([arranged(bound, cores[n], n, ix, place) for n, *ix in words]))
    bonds = set(network.bonds)
    modes = modes_of(build, [[i for i in ix if i not in bonds] for _, *ix in words])
    whole = torch.stack(parts).reshape([sizes[i] for i in (*alone, *modes)])
    names = [*alone, *modes]
    target = network.target.indices
    order_of = [names.index(i) for i in target]
    return whole.permute(order_of)


def modes_of(build, groups):
    """The modes of what tensorly returns, in its order."""
    if build is matrix:
        return [group[axis] for axis in (0, 1) for group in groups]
    return [index for group in groups for index in group]


def arranged(bound, core, name, indices, place):
    """One core at a place, its axes in tensorly's order."""
    own = bound.network.cores[name].indices
    core = core[tuple(place.get(i, slice(None)) for i in own)]
    left = [i for i in own if i not in place]
    return core.permute([left.index(i) for i in indices])


@pytest.mark.parametrize("name", CASES)
def test_w_and_its_gradients(name):
    bound, cores = prepare(name)
    build, order = CASES[name]
    theirs = rebuild(bound, cores, build, order)
    ours = backends.executable(bound.plan(), backends.get("torch")).delta(cores)
    ours = ours.reshape(theirs.shape)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    weight = torch.tensor(np.random.default_rng(1).standard_normal(tuple(ours.shape)))
    wanted = torch.autograd.grad((theirs * weight).sum(), list(cores.values()), retain_graph=True)
    found = torch.autograd.grad((ours * weight).sum(), list(cores.values()))
    for core, one, two in zip(cores, found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10, msg=f"gradient of {core}")
