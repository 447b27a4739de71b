"""What is measured: models with their adapted projections, families with their ranks and values."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import tenslora as tl
from tenslora.algebra.redundancy import rank_cap
from tenslora.family import Bound, Family

__all__ = [
    "CONSTRUCTIONS",
    "MODELS",
    "Bank",
    "Case",
    "Stack",
    "draw_values",
    "every_rank",
    "share",
    "stack_case",
]

#: Up to this, one rank for all bonds is taken as it stands.
_SMALL = 16

_NAMES = ("att", "qkv", "depth", "att_qkv", "att_depth", "qkv_depth", "att_qkv_depth")

#: The seven constructions, in Tucker and CP.
CONSTRUCTIONS = tuple(f"{kind}.{name}" for kind in ("tenslora", "tenslora_cp") for name in _NAMES)


class Layer(nn.Module):
    """Query, key and value projections of one layer."""

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, narrow)
        self.v = nn.Linear(width, narrow)


class Stack(nn.Module):
    """The q, k, v groups of a transformer and nothing else; one layer is the unit of timing.

    Every layer but the last hands on the normalised sum of its three outputs, so that a gradient
    flows through all of them. The last returns the three.
    """

    def __init__(self, layers: int, width: int, narrow: int | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, narrow or width) for _ in range(layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        for layer in self.layers:
            outputs = layer.q(x), layer.k(x), layer.v(x)
            if layer is self.layers[-1]:
                return outputs
            total = outputs[0]
            for other in outputs[1:]:
                repeats = total.shape[-1] // other.shape[-1]
                total = total + (other if repeats == 1 else other.repeat(1, repeats))
            x = self.norm(total)
        raise ValueError("a stack has at least one layer")


@contextmanager
def every_rank() -> Iterator[None]:
    """Ranks above what a mode can carry are compared too: every side pays for them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tl.RedundantRankWarning)
        yield


@dataclass(frozen=True)
class Bank:
    """Projections of one shape: ``paths[layer][proj]``, and the family bound to them."""

    paths: tuple[tuple[str, ...], ...]
    bound: Bound

    def places(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Yield each path with its position on every site index."""
        for layer, row in enumerate(self.paths):
            for proj, path in enumerate(row):
                known = {"layer": layer, "proj": proj, "site": layer * len(row) + proj}
                yield path, {site: known[site] for site in self.bound.network.sites}


@dataclass(frozen=True)
class Case:
    """A frozen model with its input.

    Attributes
    ----------
    name : for tables.
    model : its weights are shared by every side.
    inputs : keyword arguments of the forward.
    groups : for each layer the paths of its q, k and v.
    heads : of the queries; keys and values have heads of the same width.
    tokens : rows of x that each projection sees.
    head : path of the task head, trained in every side; empty where there is none.
    input_grad : whether the input itself needs a gradient, as in the middle of a model.
    """

    name: str
    model: nn.Module
    inputs: Mapping[str, Tensor]
    groups: tuple[tuple[str, ...], ...]
    heads: int
    tokens: int
    head: str = ""
    input_grad: bool = False
    cotangents: list[Tensor] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """The last parts of the projections' names."""
        return list(dict.fromkeys(path.rpartition(".")[2] for row in self.groups for path in row))

    def banks(self, family: Family, ranks: int | Mapping[str, int]) -> dict[str, Bank]:
        """Bind a family to the projections, one bank a shape.

        A rank for all bonds that is large is no more than what each mode carries: a core of 76 in
        five modes has ten gigabytes.
        """
        modules = dict(self.model.named_modules())
        shapes: dict[tuple[int, int], None] = {}
        for path in self.groups[0]:
            shapes[tuple(modules[path].weight.shape)] = None  # type: ignore[index]
        dim = modules[self.groups[0][0]].weight.shape[0] // self.heads
        found = {}
        for out, width in shapes:
            paths = tuple(
                tuple(p for p in row if tuple(modules[p].weight.shape) == (out, width))
                for row in self.groups
            )
            sizes = _sizes(family, paths, out, width, dim)
            with every_rank():
                bound = family.bind(sizes, ranks=ranks)
                if isinstance(ranks, int) and ranks > _SMALL:
                    caps = {b: rank_cap(bound.network, b, bound.sizes) for b in bound.ranks}
                    carried = {b: min(ranks, cap or ranks) for b, cap in caps.items()}
                    bound = family.bind(sizes, ranks=carried)
            found[f"{out}x{width}"] = Bank(paths, bound)
        return found

    def run(self, model: nn.Module) -> tuple[Tensor, ...]:
        """The outputs of a side's forward."""
        found = model(**self.inputs)
        if isinstance(found, tuple):
            return found
        return (found.logits,)

    def step(self, model: nn.Module) -> None:
        """Forward and backward, with a fixed gradient at the outputs."""
        outputs = self.run(model)
        if not self.cotangents:
            generator = torch.Generator().manual_seed(1)
            for out in outputs:
                made = torch.randn(out.shape, generator=generator)
                self.cotangents.append(made.to(out.device, out.dtype))
        torch.autograd.backward(outputs, self.cotangents)

    def clear(self, model: nn.Module) -> None:
        """Drop the gradients of a step."""
        for parameter in model.parameters():
            parameter.grad = None
        for value in self.inputs.values():
            value.grad = None


def _sizes(
    family: Family, paths: Sequence[Sequence[str]], out: int, width: int, dim: int
) -> dict[str, int]:
    """Sizes of the target's indices; splits that the model does not tell are as even as can be."""
    network = family.network
    known = {
        "layer": len(paths),
        "proj": len(paths[0]),
        "site": len(paths) * len(paths[0]),
        "head": out // dim,
        "head_dim": dim,
        "out": out,
        "in": width,
    }
    sizes = {index: known[index] for index in network.target.indices if index in known}
    for slot, total in ((network.output, out), (network.input, width)):
        if any(index not in known for index in slot):
            sizes.update(zip(slot, _even(total, len(slot)), strict=True))
    return sizes


def _even(total: int, parts: int) -> list[int]:
    """Split a number into factors as even as integers can, the larger last."""
    found = []
    for left in range(parts, 0, -1):
        root = round(total ** (1 / left))
        size = next(n for n in range(root, 0, -1) if total % n == 0)
        found.append(size)
        total //= size
    return sorted(found)


def share(model: nn.Module) -> nn.Module:
    """Copy a model whose weights stay where they are: new parameters over the same memory."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.data, requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer
    return copy.deepcopy(model, memo)


def draw_values(bank: Bank, device: torch.device | str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Values for every core, none of them zero: an update of about a tenth of the output.

    A core is normal with a deviation that keeps the size of what passes through it.
    """
    bound, generator = bank.bound, torch.Generator().manual_seed(0)
    count = len(bound.shapes)
    feature_in = math.prod(bound.sizes[i] for i in bound.network.input)
    bonds = math.prod(bound.ranks.values())
    size = (0.1 / abs(bound.scale) / math.sqrt(feature_in * bonds)) ** (1 / count)
    found = {}
    for name, shape in bound.shapes.items():
        if torch.device(device).type == "meta":
            found[name] = torch.empty(shape, device=device, dtype=dtype)
        else:
            made = torch.randn(shape, generator=generator, dtype=torch.float64) * size
            found[name] = made.to(device, dtype)
    return found


def stack_case(
    layers: int,
    width: int,
    tokens: int,
    *,
    narrow: int | None = None,
    heads: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Case:
    """A :class:`Stack` with its input; one layer alone takes a gradient of its input."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        model = Stack(layers, width, narrow)
    model = _fill(model, generator, device, dtype)
    x = torch.randn(tokens, width, generator=generator)
    x = x.to(device, dtype).requires_grad_(layers == 1)
    groups = tuple(tuple(f"layers.{n}.{p}" for p in "qkv") for n in range(layers))
    heads = heads or max(1, width // 64)
    name = f"{layers} x {width}, {tokens} tokens"
    return Case(name, model, {"x": x}, groups, heads, tokens, input_grad=layers == 1)


def _fill(
    model: nn.Module, generator: torch.Generator, device: torch.device | str, dtype: torch.dtype
) -> nn.Module:
    """Give a model that was made on the meta device seeded weights; elsewhere nothing is drawn."""
    if torch.device(device).type == "meta":
        return model.to(dtype=dtype)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)
            else:
                parameter.fill_(1.0 if "norm" in name.lower() and "weight" in name else 0.0)
        for path, module in model.named_modules():
            for name, buffer in module.named_buffers(recurse=False):
                _fill_buffer(f"{path}.{name}", module, buffer)
    return model.to(device, dtype)


def _fill_buffer(path: str, module: nn.Module, buffer: Tensor) -> None:
    """Buffers are computed by a model's constructor: say what it would have computed."""
    name = path.rpartition(".")[2]
    if name == "position_ids":
        buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    elif name == "token_type_ids":
        buffer.zero_()
    elif name.endswith("inv_freq"):
        buffer.copy_(getattr(type(module)(module.config), name))  # type: ignore[arg-type]
    else:
        raise ValueError(f"the buffer {path} has no known value")


def _hf_case(
    name: str,
    made: Callable[[], nn.Module],
    inputs: Mapping[str, Tensor],
    pattern: str,
    *,
    layers: int,
    heads: int,
    tokens: int,
    head: str,
    device: torch.device | str,
    dtype: torch.dtype,
) -> Case:
    generator = torch.Generator().manual_seed(0)
    names = ("query", "key", "value") if "roberta" in pattern else ("q_proj", "k_proj", "v_proj")
    with torch.device("meta"):
        model = made()
    model = _fill(model, generator, device, dtype).train()
    groups = tuple(tuple(pattern.format(n, p) for p in names) for n in range(layers))
    inputs = {
        key: v.to(device, dtype if v.is_floating_point() else None) for key, v in inputs.items()
    }
    return Case(name, model, inputs, groups, heads, tokens, head=head)


def vit(layers: int, width: int, images: int, **options: Any) -> Case:
    """A vision transformer on 197 tokens an image."""
    from transformers import ViTConfig, ViTForImageClassification

    heads = max(1, width // 64)
    config = ViTConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        num_labels=10,
    )
    pixels = torch.randn(images, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    return _hf_case(
        f"ViT {layers} x {width}",
        lambda: ViTForImageClassification(config),
        {"pixel_values": pixels},
        "vit.layers.{}.attention.{}",
        layers=layers,
        heads=heads,
        tokens=197 * images,
        head="classifier",
        **options,
    )


def roberta(layers: int, width: int, rows: int, length: int, **options: Any) -> Case:
    """RoBERTa, a text classifier."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    heads = max(1, width // 64)
    config = RobertaConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    ids = torch.randint(2, 50000, (rows, length), generator=torch.Generator().manual_seed(2))
    return _hf_case(
        f"RoBERTa {layers} x {width}",
        lambda: RobertaForSequenceClassification(config),
        {"input_ids": ids},
        "roberta.encoder.layer.{}.attention.self.{}",
        layers=layers,
        heads=heads,
        tokens=rows * length,
        head="classifier",
        **options,
    )


def llama(layers: int, width: int, rows: int, length: int, **options: Any) -> Case:
    """Llama with grouped-query attention: a quarter as many heads of keys and values."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    heads = max(4, width // 64)
    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=heads // 4,
        intermediate_size=8 * width // 3,
        vocab_size=1000,
        pad_token_id=0,
        num_labels=2,
    )
    ids = torch.randint(1, 1000, (rows, length), generator=torch.Generator().manual_seed(2))
    return _hf_case(
        f"Llama {layers} x {width}, GQA",
        lambda: LlamaForSequenceClassification(config),
        {"input_ids": ids},
        "model.layers.{}.self_attn.{}",
        layers=layers,
        heads=heads,
        tokens=rows * length,
        head="score",
        **options,
    )


#: The whole models that are measured, at the sizes of the published comparison and around it.
MODELS: Mapping[str, Callable[..., Case]] = {
    "vit-small": lambda **o: vit(6, 384, 4, **o),
    "vit-base": lambda **o: vit(12, 768, 8, **o),
    "roberta-base": lambda **o: roberta(12, 768, 4, 128, **o),
    "deep": lambda **o: vit(48, 192, 2, **o),
    "llama": lambda **o: llama(8, 512, 2, 256, **o),
    "tiny": lambda **o: vit(2, 64, 1, **o),
    "tiny-llama": lambda **o: llama(2, 64, 2, 5, **o),
    "tiny-roberta": lambda **o: roberta(2, 64, 2, 5, **o),
}


def resolve(name: str) -> Family:
    """A family of the catalogue."""
    return tl.registered()[name]
