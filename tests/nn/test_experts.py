"""Experts as a site index: a core of their own, or shared by all of them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import tenslora as tl

LAYERS, EXPERTS, WIDTH, HIDDEN = 2, 3, 6, 4
OWN = "W[layer expert proj out in] = B[layer expert proj out r] A[layer proj r in]"
FLAT = "W[layer proj out in] = B[layer proj out r] A[layer proj r in]"


class Expert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w3 = nn.Linear(WIDTH, HIDDEN), nn.Linear(WIDTH, HIDDEN)

    def forward(self, x):
        return self.w1(x) * self.w3(x).tanh()


class Mixture(nn.Module):
    """Each token goes to one expert, by its number."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Expert() for _ in range(EXPERTS))
        self.down = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x, chosen):
        mixed = x.new_zeros(len(x), HIDDEN)
        for number, expert in enumerate(self.experts):
            mixed = mixed.index_copy(0, *self._part(x, chosen == number, expert))
        return x + self.down(mixed)

    @staticmethod
    def _part(x, mine, expert):
        rows = mine.nonzero().flatten()
        return rows, expert(x[rows])


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Mixture() for _ in range(LAYERS))

    def forward(self, x, chosen):
        for layer in self.layers:
            x = layer(x, chosen)
        return x


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model().double()


X = torch.linspace(-1, 1, 7 * WIDTH, dtype=torch.float64).reshape(7, WIDTH).sin()
CHOSEN = torch.tensor([0, 2, 2, 0, 0, 2, 0])  # the middle expert is idle


def test_each_expert_has_its_place_and_its_matrix(model, randomized, tmp_path):
    base = copy.deepcopy(model)
    adapter = tl.attach(model, tl.family(OWN, init={"B": "zeros"}), targets=["w1", "w3"], ranks=2)
    (bank,) = adapter.banks.values()
    assert bank.bound.sizes["expert"] == EXPERTS
    assert bank.grid.labels["expert"] == (0, 1, 2)
    assert bank.grid.labels["proj"] == ("w1", "w3")
    randomized(adapter)
    dense = copy.deepcopy(base)
    with torch.no_grad():
        b, a = bank.cores()["B"], bank.cores()["A"]
        for layer in range(LAYERS):
            for expert in range(EXPERTS):
                for proj, name in enumerate(("w1", "w3")):
                    weight = getattr(dense.layers[layer].experts[expert], name).weight
                    weight += bank.bound.scale * b[layer, expert, proj] @ a[layer, proj]
    torch.testing.assert_close(model(X, CHOSEN), dense(X, CHOSEN), rtol=1e-12, atol=1e-12)

    model(X, CHOSEN).sum().backward()
    reached = bank.cores()["B"].grad.flatten(2).abs().amax(-1) > 0
    assert reached.tolist() == [[True, False, True]] * LAYERS  # an idle expert learns nothing

    adapter.save(tmp_path / "a.safetensors")
    tl.load(base, tmp_path / "a.safetensors")
    assert torch.equal(base(X, CHOSEN), model(X, CHOSEN))


def test_without_an_index_of_theirs_experts_are_projections(model):
    adapter = tl.attach(model, tl.family(FLAT, init={"B": "zeros"}), targets=["w1"], ranks=2)
    (bank,) = adapter.banks.values()
    assert bank.bound.sizes["proj"] == EXPERTS
    assert bank.grid.labels["proj"] == ("0.w1", "1.w1", "2.w1")
