"""Lower ranks of cores that are there already, without ever making W, and what became of each bond.

Every index of the target that stands on one core is written in a basis of what that core spans, so
that the tensor which is decomposed is as small as the cores are; the decomposition is that of
:func:`tenslora.fit`. A bond of the old cores is turned into the new one by a matrix: what stood
behind it, S, becomes S' = S T, as nearly as least squares come. So a gradient with respect to the
core before it, and whatever an optimiser made of gradients, turns by T too.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import index

import numpy as np

from tenslora.decompose.contraction import Array, Operand, contract
from tenslora.decompose.fitting import fit
from tenslora.decompose.problem import Arrays, Problem
from tenslora.decompose.ranking import keep_energy
from tenslora.decompose.reduction import Reduction, movable
from tenslora.decompose.shape import Shape, find_shape
from tenslora.decompose.tree import make_tree
from tenslora.errors import FitError, RedundantRankWarning
from tenslora.family import Bound, Scale
from tenslora.spec import Network, core_shape, is_count

__all__ = ["Cut", "cut"]

_ROUNDING = 1e-10


@dataclass(frozen=True, eq=False)
class Cut:
    """What :func:`cut` returns.

    Attributes
    ----------
    network, sizes : the equation, and its sizes before.
    cores : the new cores.
    ranks : their bonds.
    error : the norm of what W lost over that of W.
    norm : the norm of W, without the scale, before.
    turns : for each core and each of its bonds the matrix (batch, old, new) that turns the bond.

    Examples
    --------
    >>> import numpy as np, tenslora as tl
    >>> bound = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"}).bind(
    ...     {"out": 3, "in": 4}, r=3)
    >>> found = cut(bound, {"B": np.diag([3.0, 2.0, 1.0]), "A": np.eye(3, 4)}, {"r": 2})
    >>> {name: core.shape for name, core in found.cores.items()}
    {'B': (3, 2), 'A': (2, 4)}
    >>> round(found.error * found.norm, 3)
    1.0
    >>> found.carried("B", np.ones((3, 3))).shape
    (3, 2)
    """

    network: Network
    sizes: Mapping[str, int]
    cores: Arrays
    ranks: Mapping[str, int]
    error: float
    norm: float
    batch: tuple[str, ...]
    turns: Mapping[str, Mapping[str, Array]]

    def carried(self, name: str, values: Array, *, squared: bool = False) -> Array:
        """Turn what belongs to the entries of an old core, such as a mean of its gradients.

        Parameters
        ----------
        name : of the core.
        values : in the shape of the old core.
        squared : for means of squares: each new one is the sum of the old ones times T squared,
            what it would be if the entries of a gradient were independent.
        """
        indices = self.network.cores[name].indices
        shape = [
            self.turns[name][i].shape[-2] if i in self.ranks else self.sizes[i] for i in indices
        ]
        operands: list[Operand] = [(values.reshape(shape), indices)]
        for bond, turn in self.turns[name].items():
            operands.append((turn**2 if squared else turn, (*self.batch, bond, f"{bond}'")))
        output = [f"{i}'" if i in self.turns[name] else i for i in indices]
        made = contract(operands, output, {})
        return made.reshape(self.cores[name].shape)


def cut(
    bound: Bound,
    cores: Arrays,
    ranks: Mapping[str, int] | None = None,
    *,
    tolerance: float | None = None,
) -> Cut:
    """Cut the bonds of given cores down, and lose as little of W as can be.

    Parameters
    ----------
    bound : the family at the sizes of the cores; its cores have to form a tree.
    cores : an array for each core, in float64.
    ranks : the new ranks, of some bonds or all, none above what it is.
    tolerance : instead of ranks: the lowest that lose at most this part of the norm of W.

    Raises
    ------
    FitError
        E903 for a family whose cores are no tree, E905 for a rank that there is not, or a tolerance
        outside (0, 1).

    Examples
    --------
    >>> import numpy as np, tenslora as tl
    >>> bound = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"}).bind(
    ...     {"out": 3, "in": 3}, r=3)
    >>> found = cut(bound, {"B": np.diag([3.0, 1.0, 0.5]), "A": np.eye(3)}, {"r": 2})
    >>> found.ranks, round(found.error, 3)
    ({'r': 2}, 0.156)
    """
    network, label = bound.network, bound.family.label
    shape = find_shape(network, bound.family.frozen)
    tree = None if shape is None or shape.kind in ("cp", "ring") else make_tree(shape)
    if shape is None or tree is None or any(len(edge) > 1 for edge in tree.edges.values()):
        what = f"the cores of {label} are no tree with one bond between two trained cores"
        raise FitError("E903", what, advice="Its ranks stay as they are; compress fits another.")
    wanted = {**bound.ranks, **_checked(bound, ranks or {})}
    small, bases = _reduced(bound, cores)
    sizes = {**bound.sizes, **{i: basis.shape[1] for i, basis in bases.items()}}
    given = {i: sizes[i] for i in network.target.indices}
    value = _problem(network, sizes).value(small)
    unit = replace(bound.family, scale=Scale("constant"))
    with warnings.catch_warnings():  # a basis may be shorter than a rank is
        warnings.simplefilter("ignore", RedundantRankWarning)
        if tolerance is None:
            found = fit(unit, value, wanted, sizes=given)
        else:
            found = keep_energy(unit, value, 1.0 - _part(tolerance) ** 2, sizes=given)
    chosen = found.bound.ranks
    after = {**sizes, **chosen}
    whole = _problem(network, {**bound.sizes, **chosen})
    made = Reduction(whole, _problem(network, after), bases).back(found.cores)
    norm = float(np.linalg.norm(value))
    turns = _turns(network, shape, (small, sizes), (found.cores, after))
    return Cut(network, bound.sizes, made, chosen, found.error, norm, shape.batch, turns)


def _checked(bound: Bound, ranks: Mapping[str, int]) -> dict[str, int]:
    for bond, rank in ranks.items():
        most = bound.ranks.get(bond)
        if most is None:
            what = f"{bond!r} is no bond of {bound.family.label}"
            raise FitError("E905", what, advice=f"The bonds are {', '.join(bound.ranks)}.")
        if not is_count(rank) or rank > most:
            what = f"the rank {bond}={rank!r} is no count up to the {most} that is there"
            raise FitError("E905", what, advice="Ranks are cut down; they cannot grow.")
    return {bond: index(rank) for bond, rank in ranks.items()}


def _part(tolerance: float) -> float:
    good = isinstance(tolerance, (int, float)) and not isinstance(tolerance, bool)
    if not good or not 0.0 < tolerance < 1.0:
        what = f"tolerance={tolerance!r} is out of range"
        raise FitError("E905", what, advice="Give a part between 0 and 1, such as 0.01.")
    return float(tolerance)


def _problem(network: Network, sizes: Mapping[str, int]) -> Problem:
    shape = tuple(sizes[i] for i in network.target.indices)
    return Problem(network, sizes, np.broadcast_to(np.zeros(()), shape), {})


def _reduced(bound: Bound, cores: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
    """Write each index that stands on one core in a basis of what that core spans along it."""
    network, bases = bound.network, {}
    small = {
        name: cores[name].reshape([bound.sizes[i] for i in core.indices])
        for name, core in network.cores.items()
    }
    for name, core in network.cores.items():
        for axis, along in enumerate(core.indices):
            if along in movable(network, {}):
                front = np.moveaxis(small[name], axis, 0)
                if len(front) > front[0].size:
                    bases[along], rest = np.linalg.qr(front.reshape(len(front), -1))
                    rest = rest.reshape(-1, *front.shape[1:])
                    small[name] = np.moveaxis(rest, 0, axis)
    sizes = {**bound.sizes, **{i: basis.shape[1] for i, basis in bases.items()}}
    slots = {name: core_shape(core, sizes) for name, core in network.cores.items()}
    return {name: array.reshape(slots[name]) for name, array in small.items()}, bases


#: Cores, and the sizes that they have.
_Sized = tuple[Arrays, Mapping[str, int]]


def _turns(network: Network, shape: Shape, old: _Sized, new: _Sized) -> dict[str, dict[str, Array]]:
    """For each core and bond, the least-squares T in S' = S T, from the products of S with both."""
    neighbours = {
        node.name: {
            bond: next(n.name for n in shape.nodes if n.name != node.name and bond in n.bonds)
            for bond in node.bonds
        }
        for node in shape.nodes
    }
    found: dict[str, dict[str, Array]] = {}
    for name, bonds in neighbours.items():
        found[name] = {}
        for bond, other in bonds.items():
            behind = _behind(neighbours, other, name)
            inner = {b for n in behind for b in neighbours[n]}
            one = [_operand(network, n, old, inner, "") for n in behind]
            products = [
                contract(
                    one + [_operand(network, n, side, inner, "'") for n in behind],
                    (*shape.batch, bond, f"{bond}'"),
                    {},
                )
                for side in (old, new)
            ]
            inverse = np.linalg.pinv(products[0], rcond=_ROUNDING, hermitian=True)
            found[name][bond] = inverse @ products[1]
    return found


def _behind(neighbours: Mapping[str, Mapping[str, str]], start: str, without: str) -> list[str]:
    """The cores that are reached from one without going through another."""
    found = [start]
    for name in found:  # grows while it is read
        found += [n for n in neighbours[name].values() if n not in (*found, without)]
    return found


def _operand(network: Network, name: str, sized: _Sized, bonds: set[str], mark: str) -> Operand:
    """A core with its bonds marked, so that it may stand beside itself."""
    arrays, sizes = sized
    indices = network.cores[name].indices
    array = arrays[name].reshape([sizes[i] for i in indices])
    return array, tuple(f"{i}{mark}" if i in bonds else i for i in indices)
