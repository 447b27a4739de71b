"""The catalogue: published families, one value each, registered under their names.

>>> from tenslora import families
>>> families.lora.equation
'W[layer proj out in] = B[layer proj out r] A[layer proj r in]'
>>> families.tenslora.att_qkv_depth(rank=4).ranks
{'a': 4, 'b': 4, 'c': 4, 'd': 4, 'e': 4}
"""

from tenslora.families import tenslora, tenslora_cp, tenslora_tr, tenslora_tt
from tenslora.families.canonical import cara, cp_matrix, lorta
from tenslora.families.decompositions import block_term, hierarchical_tucker, tensor_ring
from tenslora.families.matrix import (
    lora,
    lora_xs,
    moslora,
    pissa,
    randlora,
    share_a,
    share_b,
    tied_lora,
    tinylora,
    vera,
)
from tenslora.families.shared import craft, fact_tk, fact_tt, lotr, tera
from tenslora.families.structured import c3a, fourierft, gralora, loha, lokr, monarch, quanta
from tenslora.families.trains import dota, loretta, metatt4, metatt5, tt_lora, tt_matrix

__all__ = [
    "block_term",
    "c3a",
    "cara",
    "cp_matrix",
    "craft",
    "dota",
    "fact_tk",
    "fact_tt",
    "fourierft",
    "gralora",
    "hierarchical_tucker",
    "loha",
    "lokr",
    "lora",
    "lora_xs",
    "loretta",
    "lorta",
    "lotr",
    "metatt4",
    "metatt5",
    "monarch",
    "moslora",
    "pissa",
    "quanta",
    "randlora",
    "share_a",
    "share_b",
    "tenslora",
    "tenslora_cp",
    "tenslora_tr",
    "tenslora_tt",
    "tensor_ring",
    "tera",
    "tied_lora",
    "tinylora",
    "tt_lora",
    "tt_matrix",
    "vera",
]
