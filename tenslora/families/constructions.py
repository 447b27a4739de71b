"""The seven constructions of TensLoRA, for any shape of network.

What a construction aggregates (``att``: the heads, ``qkv``: the projections, ``depth``: the layers)
is a mode of its own. What it does not aggregate stands on every core.
"""

from __future__ import annotations

from collections.abc import Callable

from tenslora.family import Family, register

__all__ = ["CONSTRUCTIONS", "EVALUATED", "REPOSITORY", "SOURCE", "construction"]

SOURCE = "Marmoret et al. 2025, arXiv 2509.19391"
REPOSITORY = "ax-le/TensLoRA"
EVALUATED = "ViT-base (EuroSAT, DTD), RoBERTa-base (CoLA, MRPC)"

#: Construction -> what is aggregated, in words.
CONSTRUCTIONS = {
    "att": "the heads of each weight",
    "qkv": "the projections of each layer",
    "depth": "the layers, for each projection",
    "att_qkv": "the heads and projections of each layer",
    "att_depth": "the heads and layers, for each projection",
    "qkv_depth": "the projections and layers",
    "att_qkv_depth": "the heads, projections and layers",
}
_PLAIN, _HEADS = "W[layer proj out in]", "W[layer proj (head head_dim) in]"
_NOTE = "The construction of the paper in another shape: the paper tries Tucker and CP"


def construction(group: str, name: str, build: Callable[..., Family]) -> Family:
    """Register a construction in the shape that ``build`` gives it: its inputs' core at zero.

    Examples
    --------
    >>> from tenslora.families import tenslora_tt
    >>> tenslora_tt.att_qkv.equation  # doctest: +NORMALIZE_WHITESPACE
    'W[layer proj (head head_dim) in] =
     U[layer in a] V[layer a head_dim b] H[layer b head c] P[layer c proj]'
    """
    parts = name.split("_")
    features = ["in", "head_dim", "head"] if "att" in parts else ["in", "out"]
    sites = [s for s, word in (("proj", "qkv"), ("layer", "depth")) if word in parts]
    shape = build.__name__.removeprefix("tensor_")
    return register(
        build(
            _HEADS if "att" in parts else _PLAIN,
            [*features, *sites],
            name=f"{group}.{name}",
            summary=f"a tensor {shape} over {CONSTRUCTIONS[name]}",
            source=SOURCE,
            repository=REPOSITORY,
            notes=_NOTE,
        )
    )
