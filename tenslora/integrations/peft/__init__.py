"""tenslora in PEFT: any family as a tuner beside LoRA.

Importing this module makes PEFT know the method ``TENSLORA``; ``import tenslora`` does the same as
soon as peft itself is imported. From then on everything that PEFT has works by PEFT's own names:

>>> import torch, peft, tenslora
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
>>> config = tenslora.TensLoraConfig(
...     family="W[site out in] = B[out r] A[site r in]", ranks=2, target_modules=["0", "1"]
... )
>>> model = peft.get_peft_model(model, config)
>>> model.print_trainable_parameters()
trainable params: 48 || all params: 192 || trainable%: 25.0000

The cores stand once, on the tuner: ``model.base_model.tenslora_8x8.default.A``.
"""

from __future__ import annotations

from tenslora.integrations.peft.config import TensLoraConfig
from tenslora.integrations.peft.converting import Converted, convert_bank
from tenslora.integrations.peft.layers import TensLoraLinear
from tenslora.integrations.peft.registering import register
from tenslora.integrations.peft.tuner import TensLoraModel

__all__ = ["Converted", "TensLoraConfig", "TensLoraLinear", "TensLoraModel", "convert_bank"]

register(TensLoraConfig, TensLoraModel)
