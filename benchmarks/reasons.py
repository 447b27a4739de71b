"""Why a figure is missed, as far as profiling has shown, and what was tried. By key of the
figure. Names in braces are numbers from the kept results (`quoted.py`).
"""

from __future__ import annotations

__all__ = ["REASONS"]

#: What the core of five modes costs at a rank above what its modes carry.
_CORE = (
    "At one rank of 16 for all five bonds the core has 16^5 entries, most of them redundant: "
    "three projections carry a rank of 3, twelve heads one of 12."
)

#: What a call costs after a product of the frozen model.
_COLD = (
    "What asks and keeps books around the products runs after one that has emptied the cache, and "
    "its Python takes several times what it takes warm"
)

#: What one layer pays for a whole model.
_ONE = (
    "One layer pays here for what a model shares over all its layers: opening the forward, the "
    "hoisted part, the books of gradients."
)

REASONS: dict[str, str] = {
    "bytes": (
        f"{_CORE} It is read in each pass; code written by hand moves {{core_bytes_hand}}, ours "
        "{core_bytes}. At r = 4 the worst is {thin_bytes}, by hand {thin_bytes_hand}."
    ),
    "flops": (
        "Where q, k and v do not share the input factor, x A B costs what LoRA's does, and what "
        "is computed once a forward from the cores comes on top: up to {wide_flops} % at r = 16, "
        "{thin_flops} % at r = 4. "
        "Code written by hand needs the same."
    ),
    "saved": (
        f"{_CORE} The parts of A and B that are computed from it are kept for its gradient, in "
        "code written by hand too ({core_saved_hand}). recompute=True keeps next to nothing."
    ),
    "bound": (
        f"{_ONE} {_CORE} Ours is at "
        "{core} % of the floor there, by hand at {core_hand} %. At r = 4 our overhead is {over_4} "
        "% of the floor, by hand {over_4_hand} %, the bound {bound_4} %: products "
        f"of four ranks do not reach the speed of the frozen ones. {_COLD}. Rows in blocks that "
        "stay in the cache were tried and are slower."
    ),
    "group": (
        f"The same case, against LoRA without such a core. {_CORE} At r = 4 LoRA and the "
        "constructions are at {group_4} in this one layer, by hand at {group_4_hand}. In 12 layers "
        "LoRA is at {deep_step_394} and att_qkv_depth at {deep_core_step_394}, by hand at "
        "{deep_step_394_hand} and {deep_core_step_394_hand}."
    ),
    "group-any": (
        "Ranks of 76 and 96 against PEFT's rank of 4: with as many parameters the products with "
        "x are 19 and 24 times as wide. Dearer by nature: hand-written code is at {equal_hand}. In "
        "a whole model the step is at {step_equal} of PEFT's."
    ),
    "hand": (
        f"{_ONE} By medians the families are at {{hand_4}}, {{hand_4_mean}} in the mean; in 12 "
        "layers a layer takes {deep_layer} us of LoRA, by hand {deep_layer_hand}. Both run q, k "
        f"and v in one function. {_COLD}: the library asks in each call whether the tensor is the "
        "same, what is trained, who else watches. Hooks that run the layers one by one took "
        "longer; A and B taken apart late, and fewer questions where an output is fetched, gained "
        "nothing."
    ),
    "hand-16": (
        "A call is a dozen operations of microseconds here, and Python around them counts: in 12 "
        "layers of 16 tokens LoRA is at {deep_step_16} of PEFT's overhead, by hand at "
        "{deep_step_16_hand}. So few rows are added by plain operations; the function that runs "
        "all layers at once was tried for them and takes longer."
    ),
    "named": (
        "At a rank of 76 the products are the overhead: {named_flops} % of that of {named_family} "
        "is the time of their FLOPs at the speed of the frozen ones. At r = 4 these families are "
        "at {named_4}."
    ),
    "trees": (
        "The cost is a sum of FLOPs and bytes at fixed speeds, and batched products of thin "
        "matrices run at other speeds, by shapes that such a sum does not see. About forty other "
        "costs (weights of FLOPs and bytes, a price for each call, for copies, for the largest "
        "array) gained nothing in the mean or lost it elsewhere."
    ),
    "inference": (
        "One layer pays for opening and closing the forward. At 128 tokens the families are at "
        "{inference_128}, by hand at {inference_128_hand}; at 394 at {inference_394}, by hand at "
        "{inference_394_hand}. In 12 layers of 394 tokens LoRA is at {deep_inference_394} and "
        "att_qkv_depth at {deep_core_inference_394}, hooks that do the products of LoRA and ask "
        "nothing at {deep_inference_394_products}. Merged, nothing is left."
    ),
    "inference-4": (
        "Four rows: a call is a few operations of microseconds. In 12 layers LoRA is at "
        "{deep_inference_4} and att_qkv_depth at {deep_core_inference_4}, by hand at "
        "{deep_inference_4_hand} and {deep_core_inference_4_hand}; hooks that do the products with "
        "A and B at hand and ask nothing are at {deep_inference_4_products}, about the least that "
        f"hooks can reach. {_COLD}. Written in one function, all that a hook has to ask took "
        "less and did not reach the goal. Merged, nothing is left."
    ),
}
