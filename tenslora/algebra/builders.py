"""Networks of the usual shapes over any list of modes: Tucker, CP, trains, rings, blocks, trees.

A *mode* is an index of the target, or a group of them written ``"(layer proj)"``. A site that is
not among the modes stands on every core: the tensors for its values are independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tenslora.algebra.edit import check_name
from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Slot, Term, format_slot, parse_definition

__all__ = [
    "block_term",
    "cp",
    "hierarchical_tucker",
    "tensor_ring",
    "tensor_train",
    "tucker",
]

_LETTERS = {"in": "U", "out": "V", "head_dim": "V", "head": "H", "proj": "P", "layer": "D"}

#: A list of modes, or a text such as ``"in (head head_dim)"``; ``None`` is every index.
Modes = str | Sequence[str] | None


def tucker(target: str, modes: Modes = None, names: Mapping[str, str] | None = None) -> Network:
    """Return a factor for each mode and a core that joins their bonds.

    Parameters
    ----------
    target : such as ``"W[layer proj out in]"``.
    modes : what gets a factor, in the order of the factors, as a list or in one text such as
        ``"in (layer proj) out"``; by default every index: the inputs, the outputs from the fastest,
        the sites from the last.
    names : names of factors by mode, and of the core as ``"core"``.

    Raises
    ------
    SpecError
        E124 for a mode that the target does not have or that is named twice, or a feature that is
        in no mode; E120 for a name that is reserved, or given to two cores.

    Examples
    --------
    >>> str(tucker("W[layer proj out in]", ["in", "out"]))
    'W[layer proj out in] = U[layer proj in a] V[layer proj out b] G[layer proj a b]'
    >>> str(tucker("W[layer proj out in]", ["in", "out", "(layer proj)"]))
    'W[layer proj out in] = U[in a] V[out b] S[(layer proj) c] G[a b c]'
    """
    plan = _Plan(target, modes, names)
    bonds = plan.bonds(len(plan.modes))
    cores = [plan.factor(mode, (bond,)) for mode, bond in zip(plan.modes, bonds, strict=True)]
    return plan.network([*cores, plan.core("core", "G", bonds)])


def cp(
    target: str,
    modes: Modes = None,
    names: Mapping[str, str] | None = None,
    *,
    weights: bool = False,
) -> Network:
    """Return a factor for each mode, all on one bond, and a vector of weights if asked for.

    >>> str(cp("W[layer out in]", weights=True))
    'W[layer out in] = U[in r] V[out r] D[layer r] w[r]'
    """
    plan = _Plan(target, modes, names)
    (bond,) = plan.bonds(1, "r")
    cores = [plan.factor(mode, (bond,)) for mode in plan.modes]
    return plan.network([*cores, plan.core("weights", "w", (bond,))] if weights else cores)


def tensor_train(
    target: str, modes: Modes = None, names: Mapping[str, str] | None = None
) -> Network:
    """Return a chain of cores, one a mode, each joined to the next by a bond.

    >>> str(tensor_train("W[layer out in]", ["out", "layer", "in"]))
    'W[layer out in] = V[out a] D[a layer b] U[b in]'
    """
    plan = _Plan(target, modes, names)
    bonds = plan.bonds(len(plan.modes) - 1)
    return plan.network(list(plan.chain((), bonds, ())))


def tensor_ring(
    target: str, modes: Modes = None, names: Mapping[str, str] | None = None
) -> Network:
    """Return a chain of cores whose ends are joined as well.

    >>> str(tensor_ring("W[layer out in]", ["out", "layer", "in"]))
    'W[layer out in] = V[c out a] D[a layer b] U[b in c]'
    """
    plan = _Plan(target, modes, names)
    if len(plan.modes) < 2:
        raise SpecError("E124", "a ring of one core", advice="Name two or more modes.")
    bonds = plan.bonds(len(plan.modes))
    return plan.network(list(plan.chain((bonds[-1],), bonds[:-1], (bonds[-1],))))


def block_term(
    target: str,
    modes: Modes = None,
    names: Mapping[str, str] | None = None,
    *,
    blocks: str = "z",
) -> Network:
    """Return a sum of Tuckers: every factor and the core carry the index ``blocks`` as well.

    >>> str(block_term("W[layer out in]", ["in", "out"]))
    'W[layer out in] = U[layer z in a] V[layer z out b] G[layer z a b]'
    """
    plan = _Plan(target, modes, names)
    (over,) = plan.bonds(1, blocks)
    bonds = plan.bonds(len(plan.modes))
    plan.before = (*plan.before, (over,))
    cores = [plan.factor(mode, (bond,)) for mode, bond in zip(plan.modes, bonds, strict=True)]
    return plan.network([*cores, plan.core("core", "G", bonds)])


def hierarchical_tucker(
    target: str, modes: Modes = None, names: Mapping[str, str] | None = None
) -> Network:
    """Return a binary tree: a factor for each mode, a core for each pair of subtrees.

    The modes are halved until one is left; the core at the top is ``G``, the others ``G1`` ...

    >>> str(hierarchical_tucker("W[layer proj out in]"))  # doctest: +NORMALIZE_WHITESPACE
    'W[layer proj out in] = U[in a] V[out b] G1[a b c] P[proj d] D[layer e] G2[d e f] G[c f]'
    """
    plan = _Plan(target, modes, names)
    cores: list[Core] = []
    count = iter(range(1, len(plan.modes)))

    def grow(modes: Sequence[Slot], top: bool) -> tuple[str, ...]:
        if len(modes) == 1:
            (bond,) = plan.bonds(1)
            cores.append(plan.factor(modes[0], (bond,)))
            return (bond,)
        half = (len(modes) + 1) // 2
        ends = grow(modes[:half], False) + grow(modes[half:], False)
        above = () if top else plan.bonds(1)
        name = "core" if top else f"core{next(count)}"
        cores.append(plan.core(name, name.replace("core", "G"), ends + above))
        return above

    grow(plan.modes, True)
    return plan.network(cores)


class _Plan:
    """The target, its modes, and the names that are still free."""

    def __init__(self, target: str, modes: Modes, names: Mapping[str, str] | None) -> None:
        self.target = _target(target)
        self.modes = _modes(self.target, modes)
        held = {index for mode in self.modes for index in mode}
        self.before: tuple[Slot, ...] = tuple(
            slot for slot in self.target.slots[:-2] if slot[0] not in held
        )
        self.names = dict(names or {})
        self.cores = {self.target.name, *self.names.values()}
        self.indices = set(self.target.indices)
        known = {format_slot(mode) for mode in self.modes} | {"core", "weights"}
        known |= {f"core{n}" for n in range(1, len(self.modes))}
        for name in self.names:
            if name not in known:
                what = f"names has {name!r}, which is no mode of {self.target}"
                raise SpecError("E124", what, advice=f"It may name {', '.join(sorted(known))}.")
        self._check_names()

    def _check_names(self) -> None:
        """Refuse a name of a core that is none, or that stands for something else already."""
        taken = {self.target.name: "the target"}
        for mode, name in self.names.items():
            check_name(name, f"the core {mode!r} of {self.target}")
            if name in taken:
                what = f"names gives {name!r}, which is {taken[name]}, to {mode!r} of {self.target}"
                raise SpecError("E120", what, advice="Choose another: one name is one array.")
            taken[name] = f"the name of {mode!r}"

    def bonds(self, count: int, stem: str = "") -> tuple[str, ...]:
        """Return new names for bonds: ``stem`` or letters from a."""
        found: list[str] = []
        while len(found) < count:
            name = next(n for n in _bond_names(stem) if n not in self.indices)
            self.indices.add(name)
            found.append(name)
        return tuple(found)

    def name(self, key: str, default: str) -> str:
        if key in self.names:
            return self.names[key]
        n, chosen = 1, default
        while chosen in self.cores:
            n, chosen = n + 1, f"{default}{n + 1}"
        self.cores.add(chosen)
        return chosen

    def factor(self, mode: Slot, after: Sequence[str], before: Sequence[str] = ()) -> Core:
        letter = _LETTERS.get(mode[0], mode[0][0].upper()) if len(mode) == 1 else "S"
        name = self.name(format_slot(mode), letter)
        slots = (*((b,) for b in before), mode, *((a,) for a in after))
        return Core(name, (*self.before, *slots))

    def core(self, key: str, default: str, bonds: Sequence[str]) -> Core:
        return Core(self.name(key, default), (*self.before, *((bond,) for bond in bonds)))

    def chain(
        self, first: Sequence[str], bonds: Sequence[str], last: Sequence[str]
    ) -> Iterator[Core]:
        lefts = [tuple(first), *((bond,) for bond in bonds)]
        rights = [*((bond,) for bond in bonds), tuple(last)]
        for mode, left, right in zip(self.modes, lefts, rights, strict=True):
            yield self.factor(mode, right, left)

    def network(self, cores: Sequence[Core]) -> Network:
        return Network(self.target, (Term(tuple(cores)),))


def _bond_names(stem: str) -> Iterator[str]:
    if not stem:
        yield from "abcdefghijklmnopqrstuvwxyz"
    else:
        yield stem
    n = 2
    while True:
        yield f"{stem or 'a'}{n}"
        n += 1


def _target(text: str) -> Core:
    if not isinstance(text, str) or "=" in text:
        what = f"{text!r} is not the target of an equation"
        raise SpecError("E124", what, advice="Write it as W[layer proj out in].")
    core, _ = parse_definition(f"{text} = ones[]")
    Network(core, (Term((Core("ones", tuple((i,) for i in core.indices)),)),))  # well formed?
    return core


def _modes(target: Core, modes: Modes) -> tuple[Slot, ...]:
    if modes is None:
        features = (*reversed(target.slots[-1]), *reversed(target.slots[-2]))
        sites = tuple(slot[0] for slot in reversed(target.slots[:-2]))
        return tuple((index,) for index in (*features, *sites))
    found = [
        slot for mode in _texts(modes) for slot in parse_definition(f"M[{mode}] = ones[]")[0].slots
    ]
    flat = [index for mode in found for index in mode]
    for index in flat:
        if index not in target.indices or flat.count(index) > 1:
            why = "stands twice among the modes" if index in target.indices else "is no index"
            what = f"mode {index!r} {why} of {target}"
            raise SpecError("E124", what, advice=f"Its indices are {', '.join(target.indices)}.")
    for slot in target.slots[-2:]:
        for index in slot:
            if index not in flat:
                what = f"feature {index!r} of {target} is in no mode"
                raise SpecError("E124", what, advice="Only sites may be left out of the modes.")
    return tuple(found)


def _texts(modes: Modes) -> list[str]:
    """Return the texts of the modes: one of all, or one of each."""
    texts = [modes] if isinstance(modes, str) else modes
    if not isinstance(texts, Sequence) or not all(isinstance(mode, str) for mode in texts):
        what = f"modes={modes!r} is neither a text nor a list of texts"
        raise SpecError("E124", what, advice='Write modes=["in", "(head head_dim)"].')
    return list(texts)
