"""TensLoRA (arXiv 2509.19391) as tensor trains: a row of inputs, heads, projections, layers."""

from __future__ import annotations

from tenslora.families.constructions import construction
from tenslora.family import tensor_train

__all__ = [
    "att",
    "att_depth",
    "att_qkv",
    "att_qkv_depth",
    "depth",
    "qkv",
    "qkv_depth",
]

att = construction("tenslora_tt", "att", tensor_train)
qkv = construction("tenslora_tt", "qkv", tensor_train)
depth = construction("tenslora_tt", "depth", tensor_train)
att_qkv = construction("tenslora_tt", "att_qkv", tensor_train)
att_depth = construction("tenslora_tt", "att_depth", tensor_train)
qkv_depth = construction("tenslora_tt", "qkv_depth", tensor_train)
att_qkv_depth = construction("tenslora_tt", "att_qkv_depth", tensor_train)
