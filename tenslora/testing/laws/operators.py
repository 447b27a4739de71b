"""Law 3, second half: an operator means what numpy says."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np

from tenslora.algebra import compose as binary
from tenslora.algebra import modify as unary
from tenslora.errors import SpecError
from tenslora.family import Bound
from tenslora.spec import Core, Network, Term, core_shape, parse
from tenslora.testing.oracle import dense, numbers
from tenslora.testing.report import agree, equal, fail

__all__ = ["law_operators"]

_Arrays = Mapping[str, Any]
_Sizes = Mapping[str, int]


def law_operators(bound: Bound, *, seed: int = 0, indices: int | None = None) -> None:
    r"""Law 3: the operators of the algebra give the network whose W numpy computes.

    F + G, F * G, ``numpy.kron(F, G)`` and F @ G at each site, with F the family and G another
    network whose cores and bonds have the same names; F.T; sites tied, untied and taken at one of
    their values; every index split and joined again; indices of size 1 squeezed out; everything
    renamed and back. Values are small whole numbers: what is compared is equal, not close.

    Parameters
    ----------
    bound : a family with sizes.
    seed : of the values.
    indices : how many indices are split, and how many sites tied and restricted; ``None`` for all.

    Examples
    --------
    >>> import tenslora as tl
    >>> lora = tl.family("W[layer out in] = B[layer out r] A[r in]", init={"B": "zeros"})
    >>> law_operators(lora.bind({"layer": 2, "out": 3, "in": 4}, r=2))
    """
    truth = _Truth(bound, seed, indices)
    for law in (_sums, _krons, _products, _transposed, _sites, _split, _squeezed, _renamed):
        law(truth)


class _Truth:
    """One network with its values and its W, and how a difference is told."""

    def __init__(self, bound: Bound, seed: int, indices: int | None) -> None:
        self.bound, self.seed, self.indices = bound, seed, indices
        self.network, self.sizes = bound.network, bound.sizes
        self.cores = numbers(self.network, self.sizes, seed)
        self.w = dense(self.network, self.cores, self.sizes)
        self.read: set[Network] = set()

    def some(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Choose as many of these indices as are asked for."""
        if self.indices is None or len(names) <= self.indices:
            return names
        return tuple(random.Random(self.seed).sample(names, self.indices))  # noqa: S311

    def free(self, name: str) -> str:
        """Return the name of an index that the network does not have."""
        while name in self.network.indices:
            name += "_"
        return name

    def check(self, what: str, made: Network, cores: _Arrays, sizes: _Sizes, wanted: Any) -> None:
        if made not in self.read:
            equal("3", self.bound, f"{what}: the equation, read back", parse(str(made)), made)
            self.read.add(made)
        agree("3", self.bound, f"W of {what}", dense(made, cores, sizes), wanted)

    def attempt(self, what: str, index: str, make: Callable[[], Network]) -> Network | None:
        """Make a network without ``index``; a refusal has to have its reason in the equation."""
        try:
            return make()
        except SpecError as error:
            if error.code != "E123" or not _stuck(self.network, index):
                fail("3", self.bound, f"{what} is refused: {error}")
        return None

    def partner(self, rows: tuple[str, ...], columns: tuple[str, ...], sizes: _Sizes) -> _Other:
        """Another network over the same sites, with names of this one's cores and bonds."""
        sites = self.network.sites
        bond = next(iter(self.network.bonds), self.free("z"))
        spare = [name for name in ("Y", "X", "Z") if name != self.network.target.name]
        one, two = [*self.network.cores, *spare][:2]
        slots = [(i,) for i in sites]
        target = Core(self.network.target.name, (*slots, rows, columns))
        left = Core(one, (*((i,) for i in (*sites, *rows)), (bond,)))
        right = Core(two, ((bond,), *((i,) for i in columns)))
        network = Network(target, (Term((left, right)),))
        known = {**{s: self.sizes[s] for s in sites}, **sizes, bond: 2}
        return _Other(network, known, self.seed + 1)


class _Other:
    """The second operand."""

    def __init__(self, network: Network, sizes: _Sizes, seed: int) -> None:
        self.network, self.sizes = network, sizes
        self.cores = numbers(network, sizes, seed)
        self.w = dense(network, self.cores, sizes)


def _sums(f: _Truth) -> None:
    n = f.network
    same = {i: f.sizes[i] for i in n.features}
    for g in (f.partner(n.output, n.input, same), _Other(n, f.sizes, f.seed + 1)):
        made = binary.add(n, g.network)
        cores: dict[str, Any] = {}
        sizes = {s: f.sizes[s] for s in n.target.indices}
        _pair(made.terms[: len(n.terms)], n.terms, f.cores, f.sizes, cores, sizes)
        _pair(made.terms[len(n.terms) :], g.network.terms, g.cores, g.sizes, cores, sizes)
        f.check("F + G", made, cores, sizes, f.w + g.w)
        made = binary.hadamard(n, g.network)
        f.check("F * G", made, *_multiplied(made, f, g), f.w * g.w)
    shared = binary.add(n, n, share=tuple(n.cores))
    f.check("F + F, shared", shared, f.cores, {**_bonds_of(shared, n, f.sizes)}, f.w + f.w)


def _krons(f: _Truth) -> None:
    k, l = f.free("k"), f.free("l")  # noqa: E741
    g = f.partner((k,), (l,), {k: 2, l: 3})
    for one, two, name in ((f, g, "kron(F, G)"), (g, f, "kron(G, F)")):
        made = binary.kron(one.network, two.network)
        wanted = np.stack(
            [np.kron(a, b) for a, b in zip(_matrices(one.w), _matrices(two.w), strict=True)]
        ).reshape(*f.w.shape[:-2], one.w.shape[-2] * two.w.shape[-2], -1)
        f.check(name, made, *_multiplied(made, one, two), wanted)


def _products(f: _Truth) -> None:
    n = f.network
    k, m = f.free("k"), f.free("m")
    after = f.partner((k,), n.output, {k: 2, **{i: f.sizes[i] for i in n.output}})
    before = f.partner(n.input, (k,), {k: 2, **{i: f.sizes[i] for i in n.input}})
    whole = {k: 2, m: int(f.w.shape[-2])}
    for g in (after, f.partner((k,), (m,), whole)):  # the middle taken apart, too
        made = binary.compose(g.network, n)
        f.check("G @ F", made, *_multiplied(made, g, f), g.w @ f.w)
    whole = {k: 2, m: int(f.w.shape[-1])}
    for g in (before, f.partner((m,), (k,), whole)):
        made = binary.compose(n, g.network)
        f.check("F @ G", made, *_multiplied(made, f, g), f.w @ g.w)


def _transposed(f: _Truth) -> None:
    made = unary.transpose(f.network)
    cores: dict[str, Any] = {}
    sizes: dict[str, int] = {s: f.sizes[s] for s in f.network.sites}
    _pair(made.terms, f.network.terms, f.cores, f.sizes, cores, sizes)
    f.check("F.T", made, cores, sizes, np.swapaxes(f.w, -1, -2))
    equal("3", f.bound, "F.T.T", unary.transpose(made), f.network)


def _sites(f: _Truth) -> None:
    for site in f.some(f.network.sites):
        axis = f.network.sites.index(site)
        tied = f.attempt(f"tie over {site}", site, lambda s=site: unary.tie(f.network, s))  # type: ignore[misc]
        if tied is not None:
            held = [n for n, core in tied.cores.items() if site in core.indices]
            equal("3", f.bound, f"cores with {site} after tie", held, [])
            small = numbers(tied, f.sizes, f.seed)
            wide = _spread(small, tied, f.network, f.sizes)
            f.check(f"tie over {site}", tied, small, f.sizes, dense(f.network, wide, f.sizes))
        loose = f.attempt(f"untie over {site}", site, lambda s=site: unary.untie(f.network, s))  # type: ignore[misc]
        if loose is not None:
            held = [n for n, core in loose.cores.items() if site in core.indices]
            equal("3", f.bound, f"cores with {site} after untie", held, list(loose.cores))
            wide = _spread(f.cores, f.network, loose, f.sizes)
            f.check(f"untie over {site}", loose, wide, f.sizes, f.w)
        one = f.attempt(f"restrict {site}", site, lambda s=site: unary.restrict(f.network, s))  # type: ignore[misc]
        if one is not None:
            for at in range(f.sizes[site]):
                cores = {n: _taken(f.cores[n], f.network.cores[n], f.sizes, site, at, c)
                         for n, c in one.cores.items()}  # fmt: skip
                f.check(f"restrict {site}={at}", one, cores, f.sizes, np.take(f.w, at, axis))


def _split(f: _Truth) -> None:
    for index in f.some(f.network.indices):
        y0, y1 = f.free("y0"), f.free("y1")
        made = unary.split(f.network, index, y0, y1)
        for parts in ((f.sizes[index], 1), (1, f.sizes[index])):
            sizes = {**f.sizes, y0: parts[0], y1: parts[1]}
            wanted = f.w.reshape(core_shape(made.target, sizes))
            f.check(f"split {index}", made, f.cores, sizes, wanted)
        equal("3", f.bound, f"{index} joined", unary.join(made, y0, y1, into=index), f.network)


def _squeezed(f: _Truth) -> None:
    for index in f.network.indices:
        if f.sizes[index] == 1:
            made = f.attempt(f"squeeze {index}", index, lambda i=index: unary.squeeze(f.network, i))  # type: ignore[misc]
            if made is not None:
                cores = {n: f.cores[n].reshape(core_shape(c, f.sizes))
                         for n, c in made.cores.items()}  # fmt: skip
                wanted = f.w.reshape(core_shape(made.target, f.sizes))
                f.check(f"squeeze {index}", made, cores, f.sizes, wanted)


def _renamed(f: _Truth) -> None:
    names = {n: f"{n}_x" for n in (*f.network.cores, *f.network.indices)}
    made = unary.rename(f.network, **names)
    cores = {names[n]: array for n, array in f.cores.items()}
    f.check("rename", made, cores, {names[i]: n for i, n in f.sizes.items()}, f.w)
    back = unary.rename(made, **{new: old for old, new in names.items()})
    equal("3", f.bound, "renamed and back", back, f.network)


def _pair(
    new: tuple[Term, ...],
    old: tuple[Term, ...],
    arrays: _Arrays,
    known: _Sizes,
    cores: dict[str, Any],
    sizes: dict[str, int],
) -> None:
    """Note the values and sizes of ``new`` terms, which are ``old`` ones under other names."""
    for one, two in zip(new, old, strict=True):
        for core, was in zip(one.cores, two.cores, strict=True):
            if not core.is_constant:
                cores[core.name] = arrays[was.name]
            for slot, before in zip(core.slots, was.slots, strict=True):
                if len(slot) == len(before):  # the other operand tells what was taken apart
                    sizes.update(zip(slot, (known[i] for i in before), strict=True))


def _multiplied(
    made: Network, one: _Truth | _Other, two: _Truth | _Other
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the values and sizes of a product: every term of the one times every of the other."""
    cores: dict[str, Any] = {}
    sizes = {s: one.sizes[s] for s in one.network.sites}
    pairs = list(product(one.network.terms, two.network.terms))
    for term, (left, right) in zip(made.terms, pairs, strict=True):
        at = len(left.cores)
        for part, of in ((term.cores[:at], (left, one)), (term.cores[at:], (right, two))):
            _pair((Term(part),), (of[0],), of[1].cores, of[1].sizes, cores, sizes)
    return cores, sizes


def _bonds_of(made: Network, network: Network, sizes: _Sizes) -> dict[str, int]:
    """Return the sizes of a sum of a network with itself."""
    found: dict[str, int] = {i: sizes[i] for i in network.target.indices}
    count = len(network.terms)
    for terms in (made.terms[:count], made.terms[count:]):
        _pair(terms, network.terms, dict.fromkeys(network.cores), sizes, {}, found)
    return found


def _matrices(w: Any) -> Any:
    return w.reshape(-1, *w.shape[-2:])


def _spread(cores: _Arrays, small: Network, wide: Network, sizes: _Sizes) -> dict[str, Any]:
    """Repeat arrays along the indices that only the cores of ``wide`` have."""
    found = {}
    for name, core in wide.cores.items():
        own = small.cores[name].indices
        array = cores[name].reshape([sizes[i] if i in own else 1 for i in core.indices])
        full = np.broadcast_to(array, [sizes[i] for i in core.indices])
        found[name] = full.reshape(core_shape(core, sizes))
    return found


def _taken(array: Any, core: Core, sizes: _Sizes, site: str, at: int, small: Core) -> Any:
    if site not in core.indices:
        return array
    apart = array.reshape([sizes[i] for i in core.indices])
    return np.take(apart, at, core.indices.index(site)).reshape(core_shape(small, sizes))


def _stuck(network: Network, index: str) -> bool:
    """Whether ``index`` cannot be taken out of, or put into, every core."""
    places = [core for term in network.terms for core in term.cores]
    names = [core.name for core in places if not core.is_constant]
    return (
        len(set(names)) < len(names)
        or {index} in (set(network.output), set(network.input))
        or any(set(core.indices) == {index} for core in places if not core.is_constant)
        or any(core.name == "eye" and index in core.indices for core in places)
    )
