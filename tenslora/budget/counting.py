"""How many numbers an adapter has, and the two budgets of the TensLoRA paper."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from tenslora.spec import Network, slot_size

__all__ = ["count_parameters", "isorank", "lora_parameters"]


def isorank(network: Network, rank: int) -> dict[str, int]:
    """Give every bond the same rank, as in the paper's comparison at equal rank.

    >>> from tenslora.spec import parse
    >>> isorank(parse("W[out in] = B[out s] G[s r] A[r in]"), 4)
    {'s': 4, 'r': 4}
    """
    return dict.fromkeys(network.bonds, rank)


def lora_parameters(network: Network, sizes: Mapping[str, int], rank: int) -> int:
    """Count the parameters of plain LoRA of a rank on the weights that a network covers.

    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = V[out b] D[layer c] G[b a c] U[in a]")
    >>> lora_parameters(n, {"layer": 12, "out": 768, "in": 768}, 8)
    147456
    """
    sites = math.prod(sizes[site] for site in network.sites)
    return sites * rank * (slot_size(network.output, sizes) + slot_size(network.input, sizes))


def count_parameters(
    network: Network, sizes: Mapping[str, int], frozen: Collection[str] = frozenset()
) -> tuple[int, int]:
    """Count the entries of the trained and of the frozen cores.

    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out r] A[r in]")
    >>> count_parameters(n, {"out": 10, "in": 20, "r": 4}, frozen={"A"})
    (40, 80)
    """
    counts = {name: slot_size(core.indices, sizes) for name, core in network.cores.items()}
    still = sum(count for name, count in counts.items() if name in frozen)
    return sum(counts.values()) - still, still
