"""Lightning: the numbers of a plain loop, checkpoints of the adapter alone, and its own file."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="the torch half is tested where torch is installed")
L = pytest.importorskip("lightning", reason="lightning is not installed")

from torch import nn  # noqa: E402
from torch.nn.functional import cross_entropy, scaled_dot_product_attention  # noqa: E402

import tenslora as tl  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

GENERATOR = torch.Generator().manual_seed(2)
X = torch.randn(24, 4, 12, generator=GENERATOR)
LABELS = torch.arange(24) % 3


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(12, 12) for _ in range(3))

    def forward(self, x):
        return x + scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class Module(L.LightningModule):
    """As docs/howto/lightning.md has it."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model
        self.adapter = tl.attach(
            model, "lotr", targets=["q", "k", "v"], ranks=2, train="head", dropout=0.1
        )
        self.losses = []

    def training_step(self, batch, number):
        loss = cross_entropy(self.model(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.adapter.param_groups(lr=1e-2))

    def on_save_checkpoint(self, checkpoint):
        checkpoint["state_dict"] = self.adapter.state_dict()

    def on_load_checkpoint(self, checkpoint):
        self.adapter.load_state_dict(checkpoint.pop("state_dict"))
        checkpoint["state_dict"] = self.state_dict()


def loader():
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, LABELS), batch_size=8)


def trainer(folder, epochs):
    return L.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, barebones=False,
    )  # fmt: skip


@pytest.fixture
def base():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model()


def test_the_losses_of_a_plain_loop_to_the_last_bit(base, tmp_path):
    module = Module(copy.deepcopy(base))
    torch.manual_seed(5)
    trainer(tmp_path, 2).fit(module, loader())

    adapter = tl.attach(base, "lotr", targets=["q", "k", "v"], ranks=2, train="head", dropout=0.1)
    optimizer = torch.optim.AdamW(adapter.param_groups(lr=1e-2))
    torch.manual_seed(5)
    losses = []
    for _ in range(2):
        for x, labels in loader():
            loss = cross_entropy(base(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert module.losses == losses
    assert losses[-1] < losses[0]
    expected = base.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in module.model.state_dict().items())


def test_going_on_from_a_checkpoint_that_holds_the_adapter_alone(base, tmp_path):
    whole = Module(copy.deepcopy(base))
    first = Module(copy.deepcopy(base))
    for part in (whole, first):  # no masks are drawn, so that no generator has to be kept
        part.adapter.banks["12x12"].dropout = 0.0
    trainer(tmp_path / "whole", 4).fit(whole, loader())
    begun = trainer(tmp_path / "first", 2)
    begun.fit(first, loader())
    begun.save_checkpoint(tmp_path / "a.ckpt")
    held = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert held.keys() == first.adapter.state_dict().keys()
    assert not any("layers" in name for name in held)

    second = Module(copy.deepcopy(base))
    second.adapter.banks["12x12"].dropout = 0.0
    trainer(tmp_path / "second", 4).fit(second, loader(), ckpt_path=tmp_path / "a.ckpt")
    assert first.losses + second.losses == whole.losses
    expected = whole.adapter.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in second.adapter.state_dict().items())


def test_the_file_of_the_adapter_needs_no_lightning(base, tmp_path):
    module = Module(copy.deepcopy(base))
    trainer(tmp_path, 1).fit(module, loader())
    module.adapter.save(tmp_path / "adapter.safetensors")
    tl.load(base, tmp_path / "adapter.safetensors")
    assert torch.equal(base.eval()(X), module.model.eval()(X))
