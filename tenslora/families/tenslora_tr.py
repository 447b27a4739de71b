"""TensLoRA (arXiv 2509.19391) as tensor rings: trains whose ends are joined."""

from __future__ import annotations

from tenslora.families.constructions import construction
from tenslora.family import tensor_ring

__all__ = [
    "att",
    "att_depth",
    "att_qkv",
    "att_qkv_depth",
    "depth",
    "qkv",
    "qkv_depth",
]

att = construction("tenslora_tr", "att", tensor_ring)
qkv = construction("tenslora_tr", "qkv", tensor_ring)
depth = construction("tenslora_tr", "depth", tensor_ring)
att_qkv = construction("tenslora_tr", "att_qkv", tensor_ring)
att_depth = construction("tenslora_tr", "att_depth", tensor_ring)
qkv_depth = construction("tenslora_tr", "qkv_depth", tensor_ring)
att_qkv_depth = construction("tenslora_tr", "att_qkv_depth", tensor_ring)
