"""Why a figure is missed, as far as profiling has shown, and what was tried. By key of the
figure.
"""

from __future__ import annotations

__all__ = ["REASONS"]

#: What the core of five modes costs at a rank above what its modes carry.
_CORE = (
    "At one rank of 16 for all five bonds the core has 16^5 entries, most of them redundant: "
    "three projections carry a rank of 3, twelve heads one of 12."
)

REASONS: dict[str, str] = {
    "bytes": (
        f"{_CORE} It is read in each pass; code written by hand moves as much (0.27). At r = 4 "
        "the worst is 0.25 for both."
    ),
    "flops": (
        "Where q, k and v do not share the input factor, x A B costs what LoRA's does, and what "
        "is computed once a forward from the cores comes on top: 1 % at r = 16, 0.1 % at r = 4. "
        "Code written by hand needs the same."
    ),
    "saved": (
        f"{_CORE} The parts of A and B that are computed from it are kept for its gradient, in "
        "code written by hand too (1.09). recompute=True keeps next to nothing."
    ),
    "bound": (
        f"One layer pays here for what a model shares over all its layers. {_CORE} Code written "
        "by hand needs nearly as much (15 against 18 % of the floor). At r = 4 our overhead is 6 "
        "to 11 % of the floor, that of hand-written code 3 to 8 %, the bound 1 to 2 %: products "
        "of four ranks do not reach the speed of the frozen ones. Rows in blocks that stay in "
        "the cache were tried and are slower."
    ),
    "group": (
        f"The same case, against LoRA without such a core. {_CORE} At r = 4 LoRA and the "
        "constructions are at 0.31 to 0.50 in this one layer; a model pays for its cores once."
    ),
    "group-any": (
        "Ranks of 76 and 96 against PEFT's rank of 4: with as many parameters the products with "
        "x are 19 and 24 times as wide. Dearer by nature: hand-written code is at 1.6 to 2.0. In "
        "whole models the step is equal (below)."
    ),
    "hand": (
        "The worst is a difference of 6 points of the floor where the twins differ by 4. Over "
        "all families ours is 1 to 6 points behind an autograd.Function for exactly this shape: "
        "the library asks in each call whether the tensor is the same, what is trained, whether "
        "there are hooks or autocast. The body of the hook in one function gained 4 of 40 "
        "microseconds and was left out."
    ),
    "hand-16": (
        "Within the noise. A call is a dozen operations of microseconds here, and Python around "
        "them counts."
    ),
    "named": (
        "At a rank of 76 the products are the overhead, and three quarters of it are their "
        "FLOPs. At r = 4 these families are at 0.34 to 0.51."
    ),
    "step": (
        "A step of 0.75 s in which all adapters are 2 to 5 % of the floor: the difference is "
        "within the noise of eight rounds. In every other model each construction is below 1.00."
    ),
    "growth": (
        "Within what such an exponent differs by: PEFT's own, which does the same in every "
        "layer, comes out at 1.17 in the same run."
    ),
    "trees": (
        "The cost is a sum of FLOPs and bytes at fixed speeds, and batched products of thin "
        "matrices run at other speeds, by shapes that such a sum does not see. About forty other "
        "costs (weights of FLOPs and bytes, a price for each call, for copies, for the largest "
        "array) gained nothing in the mean or lost it elsewhere."
    ),
    "inference": (
        "Within the noise at 128 tokens, where hand-written code is at 0.71. At 394 tokens it is "
        "0.46 to 0.56, by hand 0.37 to 0.43. Merged, nothing is left."
    ),
    "inference-4": (
        "Four rows: a call is a few operations of microseconds, and hand-written code is at 1.09 "
        "for LoRA and 2.89 for this family, which computes its parts of A and B in each forward "
        "where ours keeps them. Profiled at width 32, where products cost little, our overhead is "
        "0.70 of PEFT's (plain autograd by hand: 0.72): a quarter of it are the operations, an "
        "eighth is torch calling hooks, a fifth is opening and closing the forward, with the "
        "question whether cores have changed, and two fifths are what each hook has to ask and "
        "look up. Merged, nothing is left."
    ),
}
