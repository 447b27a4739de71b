"""A small model of an architecture with its inputs, and an adapter on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import tenslora
from tenslora.testing.architectures import Architecture

__all__ = ["LORA", "Bench"]

#: What stands on every architecture.
LORA = "W[layer proj out in] = B[layer proj out r] A[layer proj r in]"


class Bench:
    """A model of an architecture, and its inputs."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        with torch.random.fork_rng():
            self.model = architecture.make().double().eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                gain = parameter.ndim == 1 and name.endswith("weight")
                parameter.copy_(1 + 0.1 * drawn if gain else 0.2 * drawn)

    def run(self, model: nn.Module | None = None) -> Tensor:
        """Return the output of the model, or of one in its place."""
        out = (self.model if model is None else model)(**self.architecture.inputs())
        return out if isinstance(out, Tensor) else out[0]  # type: ignore[no-any-return]

    def attach(self, equation: str = LORA, **options: Any) -> tenslora.Adapter:
        """Attach to the projections of attention, with random numbers in all cores."""
        targets = list(self.architecture.attention)
        settings = {"targets": targets, "ranks": 2, **options}
        adapter = tenslora.attach(self.model, equation, **settings)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in adapter.parameters():
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.5 * drawn)
        return adapter
