"""Tiny random models of the architectures that adapters are tested on, made without any hub.

The table :data:`ARCHITECTURES` is what the tests run over and what the documentation's page of
supported models is made from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tenslora.testing.timmlike import TimmLike, timm_vit

__all__ = ["ARCHITECTURES", "Architecture"]

_IDS = ((3, 5, 7, 2, 11), (1, 4, 1, 5, 9))


@dataclass(frozen=True)
class Architecture:
    """A model class with few and small layers.

    Attributes
    ----------
    name : as people call it.
    kind : encoder, decoder, encoder-decoder, vision or plain.
    make : makes the model, with random weights.
    inputs : makes keyword arguments for a forward.
    attention : targets that name the queries, keys and values.
    layout : how the rows of queries, keys and values lie.
    reads : the ending of the module that reads the heads' output, for fused layouts.
    gated : the fused feed-forward targets (gate, up) and the module that reads their product.
    """

    name: str
    kind: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Tensor]]
    attention: tuple[str, ...]
    layout: str = "separate"
    reads: str = ""
    gated: tuple[str, str, str] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def _tokens() -> dict[str, Tensor]:
    return {"input_ids": torch.tensor(_IDS)}


def _pairs() -> dict[str, Tensor]:
    return {"input_ids": torch.tensor(_IDS), "decoder_input_ids": torch.tensor(_IDS)[:, :3]}


def _pixels() -> dict[str, Tensor]:
    return {"pixel_values": torch.linspace(-1, 1, 128, dtype=torch.float64).reshape(2, 1, 8, 8)}


def _sound() -> dict[str, Tensor]:
    wave = torch.linspace(-2, 2, 2 * 4 * 16, dtype=torch.float64).sin().reshape(2, 4, 16)
    return {"input_features": wave, "decoder_input_ids": torch.tensor(_IDS)[:, :3]}


def _made(name: str, config: str, **settings: Any) -> Callable[[], nn.Module]:
    """Make the model class ``name`` of transformers with a small config."""

    def make() -> nn.Module:
        import transformers

        made = getattr(transformers, f"{config}Config")(**settings)
        made.use_cache = False
        made._experts_implementation = "eager"  # grouped kernels have no float64
        return getattr(transformers, name)(made)  # type: ignore[no-any-return]

    return make


_SMALL: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_GROUPED: dict[str, Any] = {
    **_SMALL,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_GPT2: dict[str, Any] = {
    "vocab_size": 20,
    "n_embd": 12,
    "n_layer": 2,
    "n_head": 3,
    "n_positions": 16,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_FALCON: dict[str, Any] = {
    **{
        k: v for k, v in _SMALL.items() if k not in ("intermediate_size", "max_position_embeddings")
    },
    "hidden_size": 16,
    "num_attention_heads": 4,
    "ffn_hidden_size": 20,
    "alibi": False,
    "bias": False,
}
_BERT = ("query", "key", "value")
_PROJ = ("q_proj", "k_proj", "v_proj")
_FUSED = ("query_key_value",)
_PER_HEAD, _THIRDS = "fused: (head, 3, head_dim)", "fused: (3, head, head_dim)"


def _features() -> dict[str, Tensor]:
    return {"x": torch.linspace(-1, 1, 120, dtype=torch.float64).reshape(2, 5, 12).sin()}


def _image() -> dict[str, Tensor]:
    return {"x": _pixels()["pixel_values"]}


_T5: dict[str, Any] = {
    "vocab_size": 20,
    "d_model": 12,
    "d_kv": 4,
    "d_ff": 20,
    "num_layers": 2,
    "num_heads": 3,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.0,
}
_BART: dict[str, Any] = {
    "vocab_size": 20,
    "d_model": 12,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 20,
    "decoder_ffn_dim": 20,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 0,
}
_WHISPER = {
    **_BART,
    "num_mel_bins": 4,
    "max_source_positions": 8,
    "max_target_positions": 16,
    "decoder_attention_heads": 3,
}

#: Every architecture that the tests run over.
ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture("BERT", "encoder", _made("BertModel", "Bert", **_SMALL), _tokens, _BERT),
    Architecture(
        "RoBERTa",
        "encoder",
        _made("RobertaModel", "Roberta", **{**_SMALL, "max_position_embeddings": 32}),
        _tokens,
        _BERT,
    ),
    Architecture(
        "DeBERTa-v2",
        "encoder",
        _made("DebertaV2Model", "DebertaV2", **_SMALL),
        _tokens,
        ("query_proj", "key_proj", "value_proj"),
    ),
    Architecture(
        "DeBERTa",
        "encoder",
        _made("DebertaModel", "Deberta", **_SMALL),
        _tokens,
        ("in_proj",),
        _PER_HEAD,
        "attention.output.dense",
    ),
    Architecture(
        "ModernBERT",
        "encoder",
        _made("ModernBertModel", "ModernBert", **_SMALL, cls_token_id=1, sep_token_id=2),
        _tokens,
        ("Wqkv",),
        _THIRDS,
        "attn.Wo",
        ("Wi.gate", "Wi.input", "mlp.Wo"),
    ),
    Architecture(
        "GPT-2",
        "decoder",
        _made("GPT2LMHeadModel", "GPT2", **_GPT2),
        _tokens,
        ("c_attn",),
        _THIRDS + ", transposed",
        "attn.c_proj",
    ),
    Architecture(
        "GPT-NeoX",
        "decoder",
        _made("GPTNeoXForCausalLM", "GPTNeoX", **{**_SMALL, "num_attention_heads": 2}),
        _tokens,
        _FUSED,
        _PER_HEAD,
        "attention.dense",
    ),
    Architecture(
        "BLOOM",
        "decoder",
        _made("BloomForCausalLM", "Bloom", vocab_size=20, hidden_size=12, n_layer=2, n_head=3),
        _tokens,
        _FUSED,
        _PER_HEAD,
        "self_attention.dense",
    ),
    Architecture(
        "GPT-BigCode (one key head)",
        "decoder",
        _made("GPTBigCodeForCausalLM", "GPTBigCode", **_GPT2),
        _tokens,
        ("c_attn",),
        "fused: q, k, v with one key head",
        "attn.c_proj",
    ),
    Architecture(
        "CodeGen",
        "decoder",
        _made(
            "CodeGenForCausalLM", "CodeGen", **{**_GPT2, "n_embd": 16, "n_head": 4}, rotary_dim=2
        ),
        _tokens,
        ("qkv_proj",),
        "fused: 4 slices of q, v, k",
        "attn.out_proj",
    ),
    Architecture(
        "MPT",
        "decoder",
        _made(
            "MptForCausalLM",
            "Mpt",
            vocab_size=20,
            d_model=12,
            n_layers=2,
            n_heads=3,
            max_seq_len=16,
        ),
        _tokens,
        ("Wqkv",),
        _THIRDS,
        "attn.out_proj",
    ),
    Architecture(
        "Persimmon",
        "decoder",
        _made(
            "PersimmonForCausalLM",
            "Persimmon",
            **{**_SMALL, "hidden_size": 16, "num_attention_heads": 2},
            qk_layernorm=False,
        ),
        _tokens,
        _FUSED,
        _PER_HEAD,
        "self_attn.dense",
    ),
    Architecture(
        "Llama",
        "decoder",
        _made("LlamaForCausalLM", "Llama", **_GROUPED),
        _tokens,
        _PROJ,
        "separate, fewer key heads",
    ),
    Architecture(
        "Qwen2",
        "decoder",
        _made("Qwen2ForCausalLM", "Qwen2", **_GROUPED),
        _tokens,
        _PROJ,
        "separate, fewer key heads",
    ),
    Architecture(
        "Qwen3",
        "decoder",
        _made("Qwen3ForCausalLM", "Qwen3", **_GROUPED, head_dim=6),
        _tokens,
        _PROJ,
        "separate, fewer key heads",
    ),
    Architecture(
        "Gemma",
        "decoder",
        _made("GemmaForCausalLM", "Gemma", **_GROUPED, head_dim=4),
        _tokens,
        _PROJ,
        "separate, fewer key heads",
    ),
    Architecture(
        "Phi-3",
        "decoder",
        _made("Phi3ForCausalLM", "Phi3", **_GROUPED),
        _tokens,
        ("qkv_proj",),
        "fused: q, k, v, fewer key heads",
        "self_attn.o_proj",
        ("gate_up_proj.gate", "gate_up_proj.up", "mlp.down_proj"),
    ),
    Architecture(
        "Falcon (first)",
        "decoder",
        _made("FalconForCausalLM", "Falcon", **_FALCON, multi_query=False),
        _tokens,
        _FUSED,
        _PER_HEAD,
        "self_attention.dense",
    ),
    Architecture(
        "Falcon (multi-query)",
        "decoder",
        _made("FalconForCausalLM", "Falcon", **_FALCON, multi_query=True),
        _tokens,
        _FUSED,
        "fused: q, k, v with one key head",
        "self_attention.dense",
    ),
    Architecture(
        "Falcon (new decoder)",
        "decoder",
        _made(
            "FalconForCausalLM", "Falcon", **_FALCON, new_decoder_architecture=True, num_kv_heads=2
        ),
        _tokens,
        _FUSED,
        "fused: (group, queries + 2, head_dim)",
        "self_attention.dense",
    ),
    Architecture(
        "Mixtral",
        "decoder",
        _made(
            "MixtralForCausalLM", "Mixtral", **_GROUPED, num_local_experts=3, num_experts_per_tok=2
        ),
        _tokens,
        _PROJ,
        "separate, fewer key heads",
    ),
    Architecture(
        "T5",
        "encoder-decoder",
        _made("T5ForConditionalGeneration", "T5", **_T5),
        _pairs,
        ("q", "k", "v"),
    ),
    Architecture(
        "BART",
        "encoder-decoder",
        _made("BartForConditionalGeneration", "Bart", **_BART),
        _pairs,
        _PROJ,
    ),
    Architecture(
        "Whisper",
        "encoder-decoder",
        _made("WhisperForConditionalGeneration", "Whisper", **_WHISPER),
        _sound,
        _PROJ,
    ),
    Architecture(
        "ViT",
        "vision",
        _made(
            "ViTModel",
            "ViT",
            **{
                k: v
                for k, v in _SMALL.items()
                if k
                in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
            },
            image_size=8,
            patch_size=4,
            num_channels=1,
        ),
        _pixels,
        _PROJ,
    ),
    Architecture("timm's ViT", "vision", timm_vit, _image, ("qkv",), _THIRDS, "attn.proj"),
    Architecture("timm's layout", "vision", TimmLike, _features, ("qkv",), _THIRDS, "attn.proj"),
)
