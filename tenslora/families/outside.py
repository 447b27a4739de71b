"""Methods that are no equation of this language, each with the reason and what there is instead.

What goes around a family (DoRA, HiRA, a router) is in :data:`tenslora.family.WRAPPERS`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OUTSIDE", "Outside"]


@dataclass(frozen=True)
class Outside:
    """A published method that is not multilinear in what it trains.

    Attributes
    ----------
    name : the method.
    reason : why no equation says it.
    instead : what comes closest here; empty where nothing does.
    source : where it was published.
    """

    name: str
    reason: str
    source: str
    instead: str = ""


OUTSIDE: tuple[Outside, ...] = (
    Outside(
        "OFT",
        "multiplies the weight by a Cayley transform, a matrix inverse of what is trained",
        "Qiu et al. 2023, arXiv 2306.07280",
    ),
    Outside(
        "BOFT",
        "multiplies the weight by a chain of Cayley transforms",
        "Liu et al. 2023, arXiv 2311.06243",
    ),
    Outside(
        "HRA",
        "multiplies the weight by reflections, which divide by the norm of what is trained",
        "Yuan et al. 2024, arXiv 2405.17484",
    ),
    Outside(
        "DeLoRA",
        "divides each rank-one part by its norm",
        "Bini et al. 2025, arXiv 2503.18225",
    ),
    Outside(
        "AdaLoRA",
        "is the equation of moslora with a diagonal mixer, pruned while it is trained",
        "Zhang et al. 2023, arXiv 2303.10512",
        "W[layer proj out in] = P[layer proj out r] L[layer proj r] Q[layer proj r in]",
    ),
    Outside(
        "IA3",
        "multiplies activations, of the feed-forward layer after its nonlinearity",
        "Liu et al. 2022, arXiv 2205.05638",
    ),
    Outside(
        "Uni-LoRA",
        "gathers every entry from one vector at random places: a gather is no core",
        "Li et al. 2025, arXiv 2506.00799",
    ),
    Outside(
        "VB-LoRA",
        "chooses vectors of a bank by the largest of softmax weights",
        "Li et al. 2024, arXiv 2405.15179",
    ),
    Outside(
        "SHiRA",
        "trains single entries at chosen places: a scatter is no core",
        "Bhardwaj et al. 2024, arXiv 2406.13175",
    ),
    Outside(
        "X-LoRA",
        "weighs adapters by gates that read the hidden states of a forward without them",
        "Buehler and Buehler 2024, arXiv 2402.07148",
        "tl.router around a family with a site index of experts: a gate for each layer",
    ),
    Outside(
        "rsLoRA, LoRA+, LoRA-FA",
        "are the equation of LoRA with another scale, learning rate or frozen core",
        "Kalajdzievski 2023, arXiv 2312.03732; Hayou et al. 2024, arXiv 2402.12354; "
        "Zhang et al. 2023, arXiv 2308.03303",
        "tl.family(lora.equation, init={'B': 'zeros'}, scale='alpha/sqrt(r)'), lr= or frozen=",
    ),
)
