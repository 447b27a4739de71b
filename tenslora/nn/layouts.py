"""Fused layers: which rows of one module are queries, keys and values, for each architecture.

Read from the attention code of transformers and timm. An entry names a class, the module in it, and
the layout; a layout names the parts and gives the rows of each.

>>> per_head(12, Numbers(heads=2))
{'q': (0, 8, 6, 2), 'k': (2, 10, 6, 2), 'v': (4, 12, 6, 2)}
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from tenslora.nn.spans import Span, normal

__all__ = ["LAYOUTS", "Numbers", "find_parts", "heads_beside", "per_head"]

Parts = dict[str, Span]


@dataclass(frozen=True)
class Numbers:
    """What a layout has to know of the module around a fused layer: 0 where it does not say.

    ``fewer`` is the number of heads of keys and values.
    """

    heads: int = 0
    fewer: int = 0
    grouped: bool = False
    width: int = 0  # input features


Layout = Callable[[int, Numbers], Parts]


def _blocks(names: str, sizes: list[int]) -> Parts:
    found: Parts = {}
    start = 0
    for name, size in zip(names.split(), sizes, strict=True):
        found[name] = (start, start + size)
        start += size
    return found


def equal(names: str) -> Layout:
    """Parts of equal size, one behind the other: (parts, head, head_dim)."""
    number = len(names.split())

    def layout(out: int, known: Numbers) -> Parts:
        return {} if out % number else _blocks(names, [out // number] * number)

    return layout


def self_or_cross(out: int, known: Numbers) -> Parts:
    """GPT-2: queries, keys, values; in cross-attention keys and values alone."""
    return equal("k v" if out == 2 * known.width else "q k v")(out, known)


def grouped(out: int, known: Numbers) -> Parts:
    """All queries, then all keys, then all values; keys and values may have fewer heads."""
    fewer = known.fewer or known.heads
    whole = known.heads + 2 * fewer
    if not known.heads or out % whole:
        return {}
    return _blocks("q k v", [out // whole * n for n in (known.heads, fewer, fewer)])


def per_head(out: int, known: Numbers) -> Parts:
    """Head by head its query, key and value: (head, parts, head_dim)."""
    return per_group(out, Numbers(known.heads, known.heads))


def per_group(out: int, known: Numbers) -> Parts:
    """Group by group its queries, its key and its value: (group, queries + 2, head_dim)."""
    groups = known.fewer
    if not known.heads or not groups or known.heads % groups:
        return {}
    queries = known.heads // groups
    if out % (groups * (queries + 2)):
        return {}
    width = out // (groups * (queries + 2))
    step, last = width * (queries + 2), out - width * (queries + 2)
    return {
        name: normal((first * width, last + (first + many) * width, step, many * width))
        for name, first, many in (("q", 0, queries), ("k", queries, 1), ("v", queries + 1, 1))
    }


def falcon(out: int, known: Numbers) -> Parts:
    """Falcon: a group for each key head in the new decoders, else one group, or one a head."""
    fewer = known.fewer if known.grouped else 1
    if out == 3 * known.width and not known.grouped:
        fewer = known.heads
    return per_group(out, Numbers(known.heads, fewer))


def bigcode(out: int, known: Numbers) -> Parts:
    """GPT-BigCode: queries, one key head, one value head; or head by head."""
    if out == 3 * known.width:
        return per_head(out, known)
    return {} if out == 2 * known.width else grouped(out, Numbers(known.heads, 1))


def codegen(out: int, known: Numbers) -> Parts:
    """CodeGen: four slices, each with its queries, values and keys."""
    if out % 12:
        return {}
    width = out // 12
    last = out - 3 * width
    return {
        name: (n * width, last + (n + 1) * width, 3 * width, width)
        for n, name in enumerate(("q", "v", "k"))
    }


_QKV, _GATED = equal("q k v"), equal("gate up")

#: "Class.module" (in timm "timm.Class.module"): the layout of its rows.
LAYOUTS: dict[str, Layout] = {
    "GPT2Attention.c_attn": self_or_cross,
    "DecisionTransformerGPT2Attention.c_attn": self_or_cross,
    "ImageGPTAttention.c_attn": self_or_cross,
    "GPTNeoXAttention.query_key_value": per_head,
    "GPTNeoXJapaneseAttention.query_key_value": per_head,
    "BloomAttention.query_key_value": per_head,
    "PersimmonAttention.query_key_value": per_head,
    "DisentangledSelfAttention.in_proj": per_head,  # the first DeBERTa
    "FalconAttention.query_key_value": falcon,
    "GPTBigCodeAttention.c_attn": bigcode,
    "CodeGenAttention.qkv_proj": codegen,
    "MptAttention.Wqkv": _QKV,
    "ModernBertAttention.Wqkv": _QKV,
    "ModernBertMLP.Wi": equal("input gate"),
    "DbrxAttention.Wqkv": grouped,
    "Phi3Attention.qkv_proj": grouped,
    "Phi4MultimodalAttention.qkv_proj": grouped,
    "Phi3MLP.gate_up_proj": _GATED,
    "Phi4MultimodalMLP.gate_up_proj": _GATED,
    "GlmMLP.gate_up_proj": _GATED,
    "Glm4MLP.gate_up_proj": _GATED,
    "BlipAttention.qkv": _QKV,
    "Blip2Attention.qkv": _QKV,
    "InstructBlipAttention.qkv": _QKV,
    "SamVisionAttention.qkv": _QKV,
    "TimesformerSelfAttention.qkv": _QKV,
    "VisionAttention.qkv": _QKV,  # Qwen2-VL
    "Qwen2_5_VLVisionAttention.qkv": _QKV,
    "Qwen3VLVisionAttention.qkv": _QKV,
    "Glm4vVisionAttention.qkv": _QKV,
    "VitDetAttention.qkv": _QKV,
    "MgpstrAttention.qkv": _QKV,
    "timm.Attention.qkv": _QKV,
    "timm.AttentionRope.qkv": _QKV,
    "timm.EvaAttention.qkv": _QKV,
    "timm.WindowAttention.qkv": _QKV,
}

_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
_FEWER = ("num_key_value_heads", "num_kv_heads")


def find_parts(parent: nn.Module, name: str, out: int, width: int) -> Parts:
    """The rows of each part of the module ``name`` of ``parent``; empty where it is not fused."""
    kind = type(parent)
    key = f"{kind.__name__}.{name}"
    if kind.__module__.partition(".")[0] == "timm":
        key = f"timm.{key}"
    layout = LAYOUTS.get(key)
    if layout is None:
        return {}
    known = Numbers(
        heads=_number(parent, _HEADS),
        fewer=_number(parent, _FEWER),
        grouped=getattr(parent, "new_decoder_architecture", False) is True,
        width=width,
    )
    return layout(out, known)


def heads_beside(parent: nn.Module) -> int:
    """The number of heads that the module around a projection states itself, 0 where it does not.

    A hint for models without a config, such as timm's.
    """
    values = (getattr(parent, name, None) for name in _HEADS)
    return next((n for n in values if isinstance(n, int) and n > 0), 0)


def _number(parent: nn.Module, names: tuple[str, ...]) -> int:
    for source in (parent, getattr(parent, "config", None)):
        for name in names:
            value: Any = getattr(source, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return 0
