"""Tiny models of every class that is supported, and the update written out as one einsum."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

torch = pytest.importorskip("torch", reason="the torch half is tested where torch is installed")

from torch import Tensor, nn  # noqa: E402

from tenslora.spec import Network, parse  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The models here are so small that rank 3 is more than some of their modes can carry."""
    quiet = pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(quiet)


@dataclass
class Case:
    """A model, an input, the targets, and what they are."""

    model: nn.Module
    inputs: dict[str, Tensor]
    targets: list[str]
    layers: list[str]  # the path of each layer
    projs: list[str]  # the path of each projection under a layer, a part of a fused one after ":"
    heads: tuple[int, ...]  # of each projection

    def run(self, model: nn.Module | None = None) -> Tensor:
        out = (self.model if model is None else model)(**self.inputs)
        return out if isinstance(out, Tensor) else out[0]


class Block(nn.Module):
    """Attention-like arithmetic in plain torch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.o = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        scores = (self.q(x) @ self.k(x).mT).softmax(-1)
        return x + self.o(scores @ self.v(x))


class Plain(nn.Module):
    def __init__(self, width: int = 12, depth: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


_IDS = {"input_ids": torch.tensor([[3, 5, 7, 2, 11], [1, 4, 1, 5, 9]])}


def _bert() -> Case:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=20,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=20,
        max_position_embeddings=16,
    )
    layers = [f"bert.encoder.layer.{n}.attention.self" for n in range(2)]
    names = ["query", "key", "value"]
    return Case(BertForSequenceClassification(config), _IDS, names, layers, names, (3, 3, 3))


def _roberta() -> Case:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = RobertaConfig(
        vocab_size=20,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=16,
    )
    layers = [f"roberta.encoder.layer.{n}.attention.self" for n in range(2)]
    names = ["query", "key", "value"]
    return Case(RobertaForSequenceClassification(config), _IDS, names, layers, names, (2, 2, 2))


def _vit() -> Case:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=20,
        image_size=8,
        patch_size=4,
        num_channels=1,
    )
    x = {"pixel_values": torch.linspace(-1, 1, 128, dtype=torch.float64).reshape(2, 1, 8, 8)}
    names = ["q_proj", "k_proj", "v_proj"]
    layers = [f"vit.layers.{n}.attention" for n in range(2)]
    return Case(ViTForImageClassification(config), x, names, layers, names, (3, 3, 3))


def _gpt2() -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=20,
        n_embd=12,
        n_layer=2,
        n_head=3,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    layers = [f"transformer.h.{n}.attn" for n in range(2)]
    projs = ["c_attn:0", "c_attn:1", "c_attn:2"]
    return Case(GPT2LMHeadModel(config), _IDS, ["c_attn"], layers, projs, (3, 3, 3))


def _llama() -> Case:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=20,
        use_cache=False,
    )
    layers = [f"model.layers.{n}.self_attn" for n in range(2)]
    names = ["q_proj", "k_proj", "v_proj"]
    return Case(LlamaForCausalLM(config), _IDS, names, layers, names, (4, 2, 2))


def _plain() -> Case:
    x = {"x": torch.linspace(-1, 1, 120, dtype=torch.float64).reshape(2, 5, 12).sin()}
    return Case(Plain(), x, ["q", "k", "v"], ["blocks.0", "blocks.1"], ["q", "k", "v"], (3, 3, 3))


KINDS: dict[str, Callable[[], Case]] = {
    "bert": _bert,
    "roberta": _roberta,
    "vit": _vit,
    "gpt2": _gpt2,
    "llama": _llama,
    "plain": _plain,
}


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """Make a model in float64, in eval mode, with numbers that a seed settles."""

    def make(kind: str, seed: int = 0) -> Case:
        if kind != "plain":
            pytest.importorskip("transformers", reason="the hf extra is not installed")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            case = KINDS[kind]()
            case.model.double().eval()
            with torch.no_grad():  # away from symmetric starts, at which effects cancel
                for parameter in case.model.parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))
        return case

    return make


def einsum_of(
    network: Network | str, sizes: Mapping[str, int], cores: Mapping[str, Any], lib: Any
) -> Any:
    """W, one axis a site, then out and in: the equation as one einsum a term (numpy or torch)."""
    network = parse(network) if isinstance(network, str) else network
    letters = {index: chr(97 + n) for n, index in enumerate(network.indices)}
    target = network.target.indices
    total: Any = 0
    for term in network.terms:
        arrays, inputs = [], []
        for core in term.cores:
            shape = [sizes[index] for index in core.indices]
            slots = [math.prod(sizes[index] for index in slot) for slot in core.slots]
            if core.name == "ones":
                value = lib.ones(slots)
            elif core.name == "eye":
                flat = np.zeros(slots)
                flat[tuple(np.arange(slots[0]) for _ in slots)] = 1
                value = lib.asarray(flat)
            else:
                value = cores[core.name]
            arrays.append(value.reshape(shape))
            inputs.append("".join(letters[index] for index in core.indices))
        there = set("".join(inputs))
        for index in target:  # a target index on no core: the update is the same over it
            if letters[index] not in there:
                arrays.append(lib.ones([sizes[index]], dtype=arrays[0].dtype))
                inputs.append(letters[index])
        spec = ",".join(inputs) + "->" + "".join(letters[index] for index in target)
        total = total + lib.einsum(spec, *arrays)
    sites = [sizes[index] for index in network.sites]
    out = math.prod(sizes[index] for index in network.output)
    return total.reshape([*sites, out, math.prod(sizes[index] for index in network.input)])


@pytest.fixture
def literal() -> Callable[..., Any]:
    return einsum_of


def randomize(adapter: Any, seed: int = 1, std: float = 0.3) -> None:
    """Give every core numbers that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for bank in adapter.banks.values():
            for core in bank.cores().values():
                drawn = torch.randn(core.shape, generator=generator, dtype=torch.float64)
                core.copy_(std * drawn)


@pytest.fixture
def randomized() -> Callable[..., None]:
    return randomize


def weight_rows(model: nn.Module, layer: str, proj: str) -> Tensor:
    """A view (out, in) of the matrix of one projection."""
    name, _, part = proj.partition(":")
    module = model.get_submodule(f"{layer}.{name}")
    matrix = module.weight.data
    if type(module).__name__ == "Conv1D":
        matrix = matrix.T
    if part:
        third = matrix.shape[0] // 3
        matrix = matrix[int(part) * third : (int(part) + 1) * third]
    return matrix


@pytest.fixture
def add_dense() -> Callable[..., nn.Module]:
    """A copy of a case's base with W[layer, proj] added to its weights."""

    def add(case: Case, base: nn.Module, dense: Callable[[int, int], np.ndarray]) -> nn.Module:
        model = copy.deepcopy(base)
        for n, layer in enumerate(case.layers):
            for m, proj in enumerate(case.projs):
                rows = weight_rows(model, layer, proj)
                rows += torch.from_numpy(dense(n, m))
        return model

    return add


@dataclass
class Snapshot:
    """Everything about a model, and about torch, that an adapter may not change."""

    parts: dict[str, Any]

    @staticmethod
    def take(model: nn.Module) -> Snapshot:
        parts: dict[str, Any] = {
            "modules": [(n, id(m), type(m)) for n, m in model.named_modules()],
            "attributes": sorted(model.__dict__),
            "keys": list(model.state_dict()),
            "ids": [(n, id(p)) for n, p in model.named_parameters()],
            "grads": [(n, p.requires_grad, p.grad is None) for n, p in model.named_parameters()],
            "rng": torch.get_rng_state().numpy().tobytes(),
            "numpy": str(np.random.get_state()),
            "dtype": torch.get_default_dtype(),
            "threads": torch.get_num_threads(),
            "training": [m.training for m in model.modules()],
        }
        for name, value in model.state_dict().items():
            if not value.is_meta:
                parts[f"value of {name}"] = (
                    value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
                )
        for name, module in model.named_modules():
            for table in sorted(k for k in module.__dict__ if "_hooks" in k):
                parts[f"{name} {table}"] = list(module.__dict__[table].items())
        return Snapshot(parts)

    def check(self, model: nn.Module) -> None:
        now = Snapshot.take(model).parts
        assert now.keys() == self.parts.keys()
        changed = [key for key in now if now[key] != self.parts[key]]
        assert not changed, f"changed: {changed}"


@pytest.fixture
def snapshot() -> Callable[[nn.Module], Snapshot]:
    return Snapshot.take
