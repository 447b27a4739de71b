"""Published methods inside others, each with the witness that proves it: no equalities.

The TensLoRA constructions in the one that aggregates everything, the shared families in the
construction that contains them, and LoRA in every family that reaches all of the tensor. A group
of indices for a rank says what the inclusion costs.
"""

from __future__ import annotations

from tenslora.families.inclusions_construction import CONSTRUCTIONS_IN
from tenslora.families.inclusions_lora import LORA_IN
from tenslora.families.relation import Relation

__all__ = ["INCLUSIONS"]

INCLUSIONS: tuple[Relation, ...] = (*CONSTRUCTIONS_IN, *LORA_IN)
