"""Ranks from what is in the updates: the fewest that keep a part of their energy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from tenslora.decompose.apart import take_apart
from tenslora.decompose.checking import check_target, complete_from
from tenslora.decompose.contraction import Array
from tenslora.decompose.fitting import Fit, fit
from tenslora.decompose.problem import Problem
from tenslora.decompose.reduction import reduce
from tenslora.decompose.searching import Search, enough
from tenslora.decompose.shape import Shape, find_shape
from tenslora.decompose.starts import slices
from tenslora.decompose.tree import Tree, make_tree, nested_svd
from tenslora.errors import FitError
from tenslora.family import Family, resolve
from tenslora.spec import Network

__all__ = ["bond_spectra", "has_spectra", "keep_energies", "keep_energy"]

_STEPS = 6

#: Sweeps of a fit that only tells whether ranks are enough: of a tree, which starts from its
#: singular values, and of a search, where no Gauss-Newton steps follow.
_TREE_SWEEPS, _SEARCH_SWEEPS = 2, 60

#: A part of the energy beyond which sweeps alone take too many to tell.
_SWEPT = 0.9999


def bond_spectra(
    family: Family | str, target: ArrayLike, *, sizes: Mapping[str, int] | None = None
) -> dict[str, Array]:
    """Return the singular values of the updates at each bond of a family whose cores form a tree.

    What is below a bond of rank r is the least that any choice of cores misses there.

    Parameters
    ----------
    family, target, sizes : as for :func:`fit`.

    Returns
    -------
    dict
        For each bond an array (independent sites, values), falling along each row.

    Raises
    ------
    FitError
        E903 for a family whose cores are no tree with one bond between two cores.

    Examples
    --------
    >>> import numpy as np
    >>> bond_spectra("lora", np.ones((2, 1, 3, 3)))["r"].round(9).tolist()
    [[3.0], [3.0]]
    """
    family = resolve(family)
    array = check_target(target)
    known = complete_from(family.network, array, sizes or {})
    network = family.network
    hung = _hang(family)
    if hung is None:
        what = f"the cores of {family.label} are no tree with one bond between two trained cores"
        raise FitError("E903", what, advice="Choose its ranks by a budget: params=...")
    shape, tree = hung
    target = array.reshape([known[i] for i in network.target.indices])
    whole = {**known, **dict.fromkeys(network.bonds, 1)}
    found: dict[str, list[Array]] = {bond: [] for bond in network.bonds}
    for part in take_apart(Problem(network, whole, target, {})):
        small = reduce(part).small
        full = {**small.sizes, **_widest(network, small)}
        for _, tensor in slices(replace(small, sizes=full), shape):
            _, spectra = nested_svd(tree, tensor, full)
            for name, values in spectra.items():
                found[tree.edges[name][0]].append(values)
    longest = {bond: max(map(len, rows)) for bond, rows in found.items()}
    return {
        bond: np.array([np.pad(row, (0, longest[bond] - len(row))) for row in rows])
        for bond, rows in found.items()
    }


def has_spectra(family: Family) -> bool:
    """Whether the ranks of a family are told by singular values: its cores form a tree.

    >>> has_spectra(resolve("metatt4")), has_spectra(resolve("lorta"))
    (True, False)
    """
    return _hang(family) is not None


def _hang(family: Family) -> tuple[Shape, Tree] | None:
    shape = find_shape(family.network, family.frozen)
    tree = None if shape is None or shape.kind in ("cp", "ring") else make_tree(shape)
    if shape is None or tree is None or any(len(edge) > 1 for edge in tree.edges.values()):
        return None
    return shape, tree


def _widest(network: Network, small: Problem) -> dict[str, int]:
    """Ranks at which nothing is cut: at most what either side of a bond holds."""
    total = small.target.size
    ranks = {}
    shape = find_shape(network)
    assert shape is not None  # checked by the caller
    tree = make_tree(shape)
    below: dict[str, int] = {}
    for node in tree.order[:-1]:
        rows = math.prod(small.sizes[i] for i in node.open)
        rows *= math.prod(below[child] for child in tree.children[node.name])
        below[node.name] = ranks[tree.edges[node.name][0]] = min(
            rows, max(1, total // max(1, rows))
        )
    return ranks


def keep_energy(
    family: Family | str,
    target: ArrayLike,
    energy: float,
    *,
    sizes: Mapping[str, int] | None = None,
    sweeps: int = 20,
    most: int | None = None,
) -> Fit:
    """Fit a family at the fewest parameters that keep a part of the energy of the updates.

    Where the cores form a tree, the ranks cut every bond where the energy behind it falls below one
    threshold, common to all bonds. It lies between the whole of what may be lost (each bond loses
    at least its tail) and an equal share for each bond (a nested decomposition loses at most the
    sum), and is halved in on. Other families (CP, rings, products, frozen cores) have no spectrum:
    they are fitted at budgets that rise by a tenth, the ranks chosen as by :func:`tenslora.ranks`,
    and the budget is halved in on. Each fit ends where it keeps enough, or where what it gains in a
    sweep, in all that are left, would not come to it. A fit can miss what a family could do, so
    that what such a search finds is enough, and not always the least.

    Parameters
    ----------
    family, target, sizes, sweeps : as for :func:`fit`; the ranks are found by quicker fits.
    energy : the part of the squared norm that is to stay, such as 0.99.
    most : parameters at which a search ends; by default twice those of LoRA of the updates' own
        ranks. A search also ends where frozen cores hold 2 million numbers. The cores of a tree
        need none.

    Raises
    ------
    FitError
        E903 for a family whose frozen cores come from the weights of the model, E904 where a search
        ends before so much is kept, E905 for an energy outside (0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> target = np.diag([3.0, 1.0, 0.1])[None, None]
    >>> [keep_energy("lora", target, part).bound.ranks["r"] for part in (0.8, 0.99, 0.9999)]
    [1, 2, 3]
    >>> keep_energy("lorta", target, 0.99, sizes={"head": 1}).bound.ranks
    {'r': 2}
    """
    family = resolve(family)
    (quick,), search = _keep(family, target, [energy], sizes, most)
    ranks = quick.bound.ranks
    found = fit(family, target, ranks, sizes=sizes, sweeps=sweeps, starts=1)
    found = found if found.error <= quick.error else quick
    if found.energy < energy:
        held = " ".join(f"{bond}={rank}" for bond, rank in found.bound.ranks.items())
        what = f"{family.label} keeps {100 * found.energy:.3g} % of the energy at {held}, "
        what += f"{found.parameters:,} parameters, and {100 * energy:g} % is wanted"
        advice = "Search further: most=..., or take another family."
        if search is not None and search.ends_at_frozen:
            frozen = found.bound.frozen_parameters
            what += f"; its frozen cores, of {frozen:,} numbers, end the search"
            advice = "Fit it at ranks of your choice, or take another family."
        raise FitError("E904", what, advice=advice)
    return found


def keep_energies(
    family: Family,
    target: ArrayLike,
    energies: Sequence[float],
    *,
    sizes: Mapping[str, int] | None = None,
    most: int | None = None,
) -> list[Fit]:
    """Fit a family for several parts of the energy, as :func:`keep_energy` does for one.

    The fits take a few sweeps only, as many as tell whether the ranks are enough. A search that
    ends too soon gives its largest fit: look at its energy. The smallest part comes first: where
    it is out of reach, so are the others.
    """
    return _keep(family, target, energies, sizes, most)[0]


def _keep(
    family: Family,
    target: ArrayLike,
    energies: Sequence[float],
    sizes: Mapping[str, int] | None,
    most: int | None,
) -> tuple[list[Fit], Search | None]:
    """See :func:`keep_energies`; with the search, if there was one."""
    for energy in energies:
        number = isinstance(energy, (int, float)) and not isinstance(energy, bool)
        if not number or not 0.0 < energy < 1.0:
            what = f"energy={energy!r} is out of range"
            raise FitError("E905", what, advice="Give a part between 0 and 1, such as 0.99.")
    array = check_target(target)
    if has_spectra(family):
        spectra = bond_spectra(family, array, sizes=sizes)
        return [_by_spectra(family, array, part, spectra, sizes) for part in energies], None
    limit = enough(array) if most is None else most
    finish = max(energies) > _SWEPT
    search = Search(family, array, sizes or {}, limit, 20 if finish else _SEARCH_SWEEPS, finish)
    found = {part: search.keep(part) for part in sorted(energies)}
    return [found[part] for part in energies], search


def _by_spectra(
    family: Family,
    array: Array,
    energy: float,
    spectra: Mapping[str, Array],
    sizes: Mapping[str, int] | None,
) -> Fit:
    total = float((array**2).sum())
    lost = 1.0 - energy

    def attempt(threshold: float) -> Fit:
        ranks = {bond: _rank(values, threshold * total) for bond, values in spectra.items()}
        return fit(family, array, ranks, sizes=sizes, sweeps=_TREE_SWEEPS)

    low, high = lost / max(1, len(spectra)), lost
    best, found = attempt(low), attempt(high)
    if found.energy >= energy:
        return found
    tried = {tuple(best.bound.ranks.values()), tuple(found.bound.ranks.values())}
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        ranks = tuple(_rank(values, middle * total) for values in spectra.values())
        if ranks in tried:  # the same as one side: look on the other
            low, high = (
                (middle, high) if ranks == tuple(best.bound.ranks.values()) else (low, middle)
            )
            continue
        tried.add(ranks)
        found = attempt(middle)
        if found.energy >= energy:
            low = middle
            best = found if found.parameters <= best.parameters else best
        else:
            high = middle
    return best


def _rank(values: Array, allowed: float) -> int:
    """The smallest rank that leaves out at most this energy, over all independent sites."""
    energy = (values**2).sum(axis=0)
    tails = np.concatenate([np.cumsum(energy[::-1])[::-1], [0.0]])
    return max(1, int(np.argmax(tails <= allowed)))
