"""Tiny models for the tuner, each made anew with the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
transformers = pytest.importorskip("transformers", reason="needs the hf extra")
pytest.importorskip("peft", reason="needs the peft extra")

from peft.tuners.tuners_utils import BaseTuner  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import tenslora as tl  # noqa: E402

IDS = torch.tensor([[3, 5, 7, 2, 11], [1, 4, 1, 5, 9]])
SMALL = {"vocab_size": 20, "num_hidden_layers": 2, "intermediate_size": 20}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Some ranks are more than some modes of such small models can carry."""
    quiet = pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(quiet)


@pytest.fixture(scope="session")
def asks() -> bool:
    """Whether this peft asks the tuner about a state dict for an adapter that is there.

    peft 0.20 does not (docs/peft.md says what it does instead).
    """
    return hasattr(BaseTuner, "_remap_adapter_state_dict_for_load")


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"q": nn.Linear(12, 12), "v": nn.Linear(12, 12)}) for _ in range(2)
        )
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer["v"](layer["q"](x).tanh())
        return self.head(x)


def bert() -> nn.Module:
    config = transformers.BertConfig(
        hidden_size=12, num_attention_heads=3, max_position_embeddings=16, **SMALL
    )
    return transformers.BertForSequenceClassification(config)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=20,
        n_embd=12,
        n_layer=2,
        n_head=3,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        hidden_size=16, num_attention_heads=4, num_key_value_heads=2, use_cache=False, **SMALL
    )
    return transformers.LlamaForCausalLM(config)


def t5() -> nn.Module:
    config = transformers.T5Config(
        vocab_size=20, d_model=12, d_kv=4, d_ff=20, num_layers=2, num_heads=3,
        decoder_start_token_id=0,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)


@dataclass(frozen=True)
class Kind:
    """A class of models, and what to target in it."""

    make: Callable[[], nn.Module]
    targets: list[str]
    inputs: dict[str, Tensor]


X = torch.linspace(-1, 1, 120).reshape(2, 5, 12).sin()
KINDS = {
    "bert": Kind(bert, ["query", "key", "value"], {"input_ids": IDS}),
    "gpt2": Kind(gpt2, ["c_attn"], {"input_ids": IDS}),
    "llama": Kind(llama, ["q_proj", "k_proj", "v_proj"], {"input_ids": IDS}),
    "plain": Kind(Plain, ["q", "v"], {"x": X}),
    "t5": Kind(t5, ["q", "v"], {"input_ids": IDS, "decoder_input_ids": IDS}),
}


def model(kind: str = "bert") -> nn.Module:
    """Make a model in eval mode; the same kind has the same numbers each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = KINDS[kind].make().eval()
        with torch.no_grad():  # away from symmetric starts, at which effects cancel
            for parameter in made.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made


@pytest.fixture
def make() -> Callable[..., nn.Module]:
    return model


def run(model: nn.Module, kind: str = "bert", **more: Any) -> Tensor:
    found = model(**KINDS[kind].inputs, **more)
    return found if isinstance(found, Tensor) else found[0]


@pytest.fixture(name="run")
def run_fixture() -> Callable[..., Tensor]:
    return run


@pytest.fixture
def kinds() -> dict[str, Kind]:
    return KINDS


@pytest.fixture
def config() -> Callable[..., Any]:
    """A configuration of TensLoRA over the projections of BERT, or with other settings."""

    def made(**settings: Any) -> Any:
        family = settings.get("family", "tenslora.att_qkv_depth")
        known = {"ranks": 2} if not settings.keys() & {"ranks", "like", "params"} else {}
        known |= {"target_modules": ["query", "key", "value"], "family": family}
        return tl.TensLoraConfig(**{**known, **settings})

    return made


def randomize(model: nn.Module, name: str = "default", seed: int = 1, std: float = 0.3) -> None:
    """Give every core of an adapter, trained or frozen, numbers that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for bank in model.base_model.shared.adapters[name].values():
            for core in bank.parameters():
                core.copy_(std * torch.randn(core.shape, generator=generator))


@pytest.fixture(name="randomize")
def randomize_fixture() -> Callable[..., None]:
    return randomize


class Snapshot:
    """All that a mistake has to leave alone: numbers bit for bit, modules, hooks, flags."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.before = model, self._look(model)

    @staticmethod
    def _look(model: nn.Module) -> dict[str, Any]:
        tables = ("_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks")
        return {
            "modules": {name: (id(m), type(m)) for name, m in model.named_modules()},
            "parameters": {n: (id(p), p.requires_grad) for n, p in model.named_parameters()},
            "hooks": {n: [list(vars(m)[t]) for t in tables] for n, m in model.named_modules()},
            "training": [m.training for m in model.modules()],
            "configs": list(getattr(model, "peft_config", ())),
            "bits": {
                name: (value.dtype, value.shape, value.contiguous().view(torch.uint8).clone())
                for name, value in model.state_dict().items()
                if value.ndim
            },
        }

    def check(self) -> None:
        before, after = dict(self.before), self._look(self.model)
        bits, now = before.pop("bits"), after.pop("bits")
        assert before == after
        assert bits.keys() == now.keys()
        for name, (*kind, value) in bits.items():
            assert kind == list(now[name][:2])
            assert torch.equal(value, now[name][2]), name


@pytest.fixture
def snapshot() -> type[Snapshot]:
    return Snapshot


ROUTER = (
    "router[expert](W[layer proj expert out in] = B[layer proj expert out r] A[layer proj r in])"
)
#: Families in wrappers, each with further settings.
WRAPPED: dict[str, tuple[str, dict[str, Any]]] = {
    "dora": ("dora(lora)", {}),
    "hira": ("hira(tenslora.qkv_depth)", {}),
    "router": (ROUTER, {"sizes": {"expert": 3}}),
    "dora heads": ("dora(tenslora.att_qkv_depth)", {}),
    "dora vera": ("dora(vera)", {}),
    "hira lotr": ("hira(lotr)", {}),
}


def wrapped_settings(name: str, kind: str = "bert") -> dict[str, Any]:
    """What a configuration says of a family in a wrapper."""
    family, more = WRAPPED[name]
    more = {**more, "sizes": {"head": 3}} if kind == "plain" and "heads" in name else more
    return {"family": family, "ranks": 2, **more}


@pytest.fixture(name="wrapped_settings")
def wrapped_settings_fixture() -> Callable[..., dict[str, Any]]:
    return wrapped_settings


@pytest.fixture
def router() -> str:
    return ROUTER


@pytest.fixture
def tuned() -> Callable[..., nn.Module]:
    """Make a model of PEFT with a family in a wrapper, and no number at its start."""
    import peft

    def made(name: str = "dora", kind: str = "bert", **more: Any) -> nn.Module:
        chosen = {**wrapped_settings(name, kind), "target_modules": KINDS[kind].targets, **more}
        wrapped = peft.get_peft_model(model(kind), tl.TensLoraConfig(**chosen)).eval()
        randomize(wrapped)
        return wrapped

    return made
