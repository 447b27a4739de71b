"""What the gallery says of a family, read from its equation: shape, sharing, counts."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from html import escape

from tenslora.draw import hues
from tenslora.draw.colours import hue_class
from tenslora.errors import RedundantRankWarning, TensloraError
from tenslora.family import Family, model_shape
from tenslora.spec import Core, Network

#: The models of the tables, and what they are called there. The first two have the same matrices.
MODELS = {
    "roberta-base": "ViT-base and RoBERTa-base: 12 layers of 768 x 768",
    "llama-3-8b": "Llama-3-8B: 32 layers, queries of 4096 x 4096, keys and values of 1024 x 4096",
}
RANKS = (4, 8, 16)

SHAPES = {
    "matrix": "product of matrices",
    "train": "tensor train",
    "ring": "tensor ring",
    "tucker": "Tucker",
    "cp": "CP",
    "hadamard": "Hadamard product",
    "kronecker": "Kronecker product",
    "sum": "sum",
    "other": "no rank",
}


def shape_of(network: Network) -> str:
    """Return the kind of network, a key of :data:`SHAPES`."""
    if len(network.terms) > 1:
        return "sum"
    cores = [core for core in network.terms[0].cores if not _is_rider(core, network)]
    bonds = {b: [c for c in cores if b in c.indices] for b in network.bonds}
    features = Counter(i for core in cores for i in set(core.indices) if i in network.features)
    if any(number > 1 for number in features.values()):
        return "hadamard"
    if not network.bonds:
        return "other" if len(cores) < 2 else "kronecker"
    if _parts(cores, network) > 1:
        return "kronecker"
    if any(sum(b in core.indices for b in bonds) > 2 for core in cores):
        return "tucker"
    if any(len(held) > 2 for held in bonds.values()):
        return "cp"
    joined = sum(len(held) == 2 for held in bonds.values())
    if joined >= len(cores) > 2:
        return "ring"
    return "matrix" if joined < 2 else "train"


def _is_rider(core: Core, network: Network) -> bool:
    """Whether a core only scales: one index beside its sites, or none."""
    return (
        len(set(core.indices) - set(network.sites)) < 2
        and any(
            i in network.features or sum(i in c.indices for c in network.terms[0].cores) > 2
            for i in core.indices
        )
        and not _carries_alone(core, network)
    )


def _carries_alone(core: Core, network: Network) -> bool:
    """Whether a core is the only one with one of its target indices: a factor, not a scaling."""
    others = {i for c in network.terms[0].cores if c is not core for i in c.indices}
    return any(i in network.target.indices and i not in others for i in core.indices)


def _parts(cores: list[Core], network: Network) -> int:
    groups: list[set[str]] = []
    for core in cores:
        held = {i for i in core.indices if i not in network.sites}
        near = [g for g in groups if g & held]
        groups = [g for g in groups if not g & held] + [held.union(*near)]
    return len(groups)


def shared_over(family: Family) -> dict[str, list[str]]:
    """Return, for each site index, the trained or frozen cores that are shared over it."""
    network = family.network
    found = {
        site: [name for name, core in network.cores.items() if site not in core.indices]
        for site in network.sites
    }
    return {site: names for site, names in found.items() if names}


def formula(family: Family) -> str:
    """Return the number of trained parameters as HTML: a sum of products of sizes.

    What every product has is written once: ``layer proj r (out + in)``.
    """
    known = hues(family.network)

    def word(index: str) -> str:
        return f'<span class="{hue_class(index, known)}">{escape(index)}</span>'

    products = [
        list(core.indices)
        for name, core in family.network.cores.items()
        if name not in family.frozen
    ]
    if not products:
        return "0"
    common = [i for i in products[0] if all(i in product for product in products)]
    rests = Counter(tuple(i for i in p if i not in common) for p in products)
    parts = [
        _product([*([str(n)] if n > 1 or not rest else []), *map(word, rest)])
        for rest, n in rests.items()
    ]
    head = [word(index) for index in common]
    if len(parts) > 1:
        return _product([*head, f"({' + '.join(parts)})"]) if head else " + ".join(parts)
    return _product([*head, *([] if head and parts == ["1"] else parts)])


def _product(factors: list[str]) -> str:
    return "&middot;".join(factors)


@dataclass(frozen=True)
class Cost:
    """Counts of a family on the query, key and value of a model."""

    rank: int
    parameters: int
    flops: int
    cut: int


def costs(family: Family, model: str) -> list[Cost]:
    """Return the costs at each of :data:`RANKS`; none where the sizes do not fit the model."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RedundantRankWarning)
        for rank in RANKS:
            try:
                bounds = [
                    family.bind(group.sizes(family.network), ranks=rank)
                    for group in model_shape(model).weights
                ]
            except TensloraError:
                return []
            parameters = sum(bound.trainable_parameters for bound in bounds)
            flops = sum(bound.flops_per_token for bound in bounds)
            found.append(Cost(rank, parameters, flops, min(bound.cut_rank for bound in bounds)))
    return found
