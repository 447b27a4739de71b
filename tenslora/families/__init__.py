"""The catalogue: published families, one value each, registered under their names.

>>> from tenslora import families
>>> families.lora.equation
'W[layer proj out in] = B[layer proj out r] A[layer proj r in]'
>>> families.tenslora.att_qkv_depth(rank=4).ranks
{'a': 4, 'b': 4, 'c': 4, 'd': 4, 'e': 4}
"""

from tenslora.families import tenslora, tenslora_cp
from tenslora.families.matrix import loha, lokr, lora, tied_lora, vera
from tenslora.families.shared import fact_tk, fact_tt, lotr
from tenslora.families.trains import lorta, metatt4, tt_lora

__all__ = [
    "fact_tk",
    "fact_tt",
    "loha",
    "lokr",
    "lora",
    "lorta",
    "lotr",
    "metatt4",
    "tenslora",
    "tenslora_cp",
    "tied_lora",
    "tt_lora",
    "vera",
]
