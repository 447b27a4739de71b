"""Stacked updates of one shape, and how an equation reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tenslora.decompose.contraction import Array
from tenslora.errors import FitError
from tenslora.family import Family, Weights
from tenslora.spec import Core, Network

__all__ = ["Updates", "stack"]

Label = int | str


@dataclass(frozen=True, eq=False)
class Updates:
    """The updates of all weights of one shape.

    Attributes
    ----------
    array : (layer, proj, out, in), scale included, in float64.
    layers, projections : the labels along the first two axes.
    heads : heads in the output, where they are known.

    Examples
    --------
    >>> import numpy as np, tenslora as tl
    >>> updates = Updates(np.zeros((12, 3, 8, 6)), tuple(range(12)), ("q", "k", "v"), heads=2)
    >>> updates.name
    '8x6'
    >>> family, target, sizes = updates.read_by(tl.resolve("lora"))
    >>> target.shape, sizes
    ((12, 3, 8, 6), {'layer': 12, 'proj': 3, 'out': 8, 'in': 6})
    """

    array: Array
    layers: tuple[Label, ...]
    projections: tuple[Label, ...]
    heads: int | None = None

    @property
    def name(self) -> str:
        """The shape of one of them, such as ``"384x384"``."""
        return f"{self.array.shape[2]}x{self.array.shape[3]}"

    def read_by(self, family: Family) -> tuple[Family, Array, dict[str, int]]:
        """Return a family, the target and the sizes for :func:`fit`.

        A site index that the equation lacks is one over which its matrices are tied; ``site``
        counts layers and projections in one.

        Raises
        ------
        FitError
            E901 for a site index other than layer, proj and site.
        SizeError
            E213 for heads that are not known.
        """
        network, array = family.network, self.array
        unknown = [s for s in network.sites if s not in ("layer", "proj", "site")]
        if unknown or ("site" in network.sites and len(network.sites) > 1):
            what = f"the updates have layer and proj, and {family.label} {' '.join(network.sites)}"
            raise FitError("E901", what, advice="Rename its sites, or join them to one: site.")
        if network.sites == ("site",):
            array = array.reshape(-1, *array.shape[2:])
        else:
            sites = tuple((s,) for s in ("layer", "proj"))
            features = network.target.slots[-2:]
            target = Core(network.target.name, sites + features)
            family = replace(family, network=Network(target, network.terms))
        count, width = array.shape[-2:]
        names = tuple(map(str, self.projections))
        weights = Weights(names, len(self.layers), count, width, self.heads)
        return family, array, weights.sizes(family.network)


def stack(
    pieces: Iterable[tuple[Mapping[str, Label], Array]], heads: int | None = None
) -> tuple[Updates, ...]:
    """Put updates of single weights together, by shape.

    Parameters
    ----------
    pieces : for each weight its ``layer`` and ``proj``, and its update (out, in).
    heads : heads in the output.

    Raises
    ------
    FitError
        E901 where a shape lacks a projection in some layer, or two updates have one place.

    Examples
    --------
    >>> import numpy as np
    >>> pieces = [({"layer": n, "proj": p}, np.ones((8, 6))) for n in (0, 1) for p in ("q", "v")]
    >>> (updates,) = stack(pieces)
    >>> updates.array.shape, updates.layers, updates.projections
    ((2, 2, 8, 6), (0, 1), ('q', 'v'))
    """
    shapes: dict[tuple[int, ...], dict[tuple[Label, Label], Array]] = {}
    for place, array in pieces:
        key = (place.get("layer", 0), place.get("proj", "all"))
        if shapes.setdefault(array.shape, {}).setdefault(key, array) is not array:
            what = f"two updates of {'x'.join(map(str, array.shape))} stand at layer {key[0]}, "
            advice = "Give each weight a layer and a projection of its own."
            raise FitError("E901", f"{what}projection {key[1]}", advice=advice)
    found = []
    for shape, held in shapes.items():
        layers = tuple(dict.fromkeys(layer for layer, _ in held))
        projections = tuple(dict.fromkeys(proj for _, proj in held))
        for layer in layers:
            for proj in projections:
                if (layer, proj) not in held:
                    what = f"updates of {'x'.join(map(str, shape))}: layer {layer} has no {proj}"
                    raise FitError(
                        "E901", what, advice="Give the projections that all layers have."
                    )

        flat = np.stack([held[layer, proj] for layer in layers for proj in projections])
        array = flat.reshape(len(layers), len(projections), *shape)
        known = heads if heads and shape[0] % heads == 0 else None
        found.append(Updates(array, layers, projections, known))
    return tuple(found)
