"""The encoder of Galileo (nano, RGB) as a classifier: a ViT without class token, mean-pooled.

Source of weights and constants: nasaharvest/galileo. A folder holds ``config.json`` of a ViT and
``model.safetensors`` whose keys are those of transformers' ``ViTModel`` without class token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tenslora.errors import DataError

__all__ = ["Classifier", "is_galileo", "load"]

# Mean and standard deviation of the bands B, G, R (Sentinel-2 reflectance, 0 to 2750 and above).
_MEAN = (1395.3408730676722, 1338.4026921784578, 1343.09883810357)
_STD = (917.7041440370853, 913.2988423581528, 1092.678723527555)
_POSITIONS = "embeddings.position_embeddings"


def is_galileo(folder: Path) -> bool:
    """Whether a folder holds a ViT without class token."""
    from safetensors import SafetensorError, safe_open

    path = folder / "model.safetensors"
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            keys = set(file.keys())
    except SafetensorError:
        return False
    return _POSITIONS in keys and not any(key.endswith("cls_token") for key in keys)


class _Embeddings(nn.Module):
    """Patches plus fixed positions."""

    def __init__(self, width: int, patch: int, positions: int) -> None:
        super().__init__()
        self.patch_embeddings: Any = nn.Module()
        self.patch_embeddings.projection = nn.Conv2d(3, width, patch, stride=patch)
        self.register_buffer("position_embeddings", torch.zeros(1, positions, width))

    def forward(self, pixel_values: Tensor, **_: Any) -> Tensor:
        patches = self.patch_embeddings.projection(pixel_values)
        out: Tensor = patches.flatten(2).transpose(1, 2) + self.position_embeddings
        return out


class Classifier(nn.Module):
    """A ViT, the mean over its patches, and a linear head."""

    base_model_prefix = "vit"

    def __init__(self, vit: nn.Module, classes: int) -> None:
        super().__init__()
        self.vit: Any = vit
        config: Any = vit.config
        self.config = config
        self.classifier = nn.Linear(config.hidden_size, classes)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``logits`` (rows, classes) and, where labels are given, ``loss``."""
        hidden = self.vit(pixel_values=pixel_values).last_hidden_state
        logits: Tensor = self.classifier(hidden.mean(dim=1))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class _Processor:
    """64 x 64 RGB images to normalised bands B, G, R."""

    def __call__(self, images: Sequence[Any], return_tensors: str = "pt") -> dict[str, Tensor]:
        import numpy as np

        pixels = np.stack([np.asarray(i.resize((64, 64))) for i in images]).astype(np.float32)
        bands = pixels[..., ::-1] / 255.0 * 2750.0
        mean, std = np.asarray(_MEAN, np.float32), np.asarray(_STD, np.float32)
        values = (bands - (mean - 2 * std)) / (4 * std)
        return {"pixel_values": torch.from_numpy(values.transpose(0, 3, 1, 2).copy())}


def load(folder: Path, classes: int) -> tuple[nn.Module, Any]:
    """Load the model with a new head, and its image processor.

    Raises
    ------
    DataError
        E707 where the weights are not those of such a model.
    """
    from safetensors.torch import load_file
    from transformers import ViTConfig, ViTModel

    config: Any = ViTConfig.from_pretrained(folder, local_files_only=True)
    vit: Any = ViTModel(config, add_pooling_layer=False)
    patches = (config.image_size // config.patch_size) ** 2
    vit.embeddings = _Embeddings(config.hidden_size, config.patch_size, patches)
    try:
        vit.load_state_dict(load_file(folder / "model.safetensors"))
    except RuntimeError as error:
        what = f"the weights in {folder} are not those of a ViT without class token"
        raise DataError("E707", what, advice=str(error).splitlines()[-1].strip()) from None
    return Classifier(vit, classes), _Processor()
