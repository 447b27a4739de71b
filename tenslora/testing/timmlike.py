"""A vision transformer of timm, and one of the same layout where timm is not installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType

from torch import Tensor, nn

__all__ = ["TimmLike", "timm_vit"]


def timm_vit() -> nn.Module:
    """Make a small one of timm.

    Raises
    ------
    ImportError
        timm is not installed.
    """
    with _stand_in_for_torchvision():
        import timm

    return timm.models.VisionTransformer(  # type: ignore[no-any-return]
        img_size=8, patch_size=4, in_chans=1, num_classes=3, embed_dim=12, depth=2, num_heads=3
    )


@contextmanager
def _stand_in_for_torchvision() -> Iterator[None]:
    """Let timm be imported without torchvision, of which its transformers need nothing.

    It imports names of it for data and pretrained weights. The wheels of torchvision are built for
    one build of torch each, and do not load beside another.
    """
    if "timm" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        yield
        return
    finder = _Finder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


class _Finder:
    """Finds torchvision and every module in it, as modules in which any name is an empty class."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        known = name.partition(".")[0] == "torchvision"
        return ModuleSpec(name, self, is_package=True) if known else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class _AnyName(type):
    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyName(name, (), {})


class TimmAttention(nn.Module):
    """Attention with the fused layout of timm's vision transformers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each row of the batch."""
        batch, tokens, width = x.shape
        parts = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, width // self.num_heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))  # type: ignore[no-any-return]


class TimmBlock(nn.Module):
    """A block as timm has it: ``attn`` with ``qkv`` and ``proj``, ``mlp`` with ``fc1``, ``fc2``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width)})
        self.mlp["fc2"] = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Add attention, then the feed-forward part."""
        x = x + self.attn(x)
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](x)))  # type: ignore[no-any-return]


class TimmLike(nn.Module):
    """A stack of such blocks, for tests where timm itself is not installed."""

    def __init__(self, width: int = 12, heads: int = 3, depth: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TimmBlock(width, heads) for _ in range(depth))
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, tokens, width) to (batch, 3)."""
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))  # type: ignore[no-any-return]


#: timm's layouts are known by the class's name and package.
Attention = type("Attention", (TimmAttention,), {"__module__": "timm.layers.attention"})
