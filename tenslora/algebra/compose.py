"""Operators on networks: each gives the network whose W is what numpy says of the W it is given.

W is taken site by site: (f + g)[site] = f[site] + g[site], and so on. Cores and bonds of the second
network are renamed where the first has the name already, so that no array is shared by accident;
cores in ``share`` stay one array.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tenslora.algebra.edit import check_name, fresh, map_network, renamed
from tenslora.algebra.modify import split
from tenslora.errors import SpecError
from tenslora.spec import Core, Network, Slot, Term

__all__ = ["add", "apart", "compose", "hadamard", "kron", "shared_names"]


def apart(
    first: Network, second: Network, share: Collection[str] = (), bonds: Collection[str] = ()
) -> tuple[Network, dict[str, str]]:
    """Rename cores and bonds of ``second`` that ``first`` has; return it with the new core names.

    Cores in ``share`` and bonds in ``bonds`` keep their names.

    >>> from tenslora.spec import parse
    >>> lora = parse("W[out in] = B[out r] A[r in]")
    >>> renamed, cores = apart(lora, lora, share=["A"])
    >>> str(renamed), cores
    ('W[out in] = B2[out r2] A[r2 in]', {'B': 'B2', 'A': 'A'})
    """
    for name in share:
        if name not in first.cores or name not in second.cores:
            what = f"core {name!r} is not in both {first} and {second}"
            raise SpecError("E120", what, advice="share names cores that both have.")
    names, indices = {first.target.name, *first.cores}, {*first.indices, *second.indices}
    taken = {*names, *second.cores}
    cores = {n: n if n in share else fresh(n, names, taken) for n in second.cores}
    new = {b: b if b in bonds else fresh(b, set(first.indices), indices) for b in second.bonds}
    return map_network(second, lambda core: renamed(core, cores, new)), cores


def add(first: Network, second: Network, *, share: Collection[str] = ()) -> Network:
    """Return the sum: W = F + G.

    Parameters
    ----------
    first, second : networks over one target.
    share : cores that stay one array, and bonds that stay one rank.

    Raises
    ------
    SpecError
        E121 where the targets differ, E120 for a name in ``share`` that one of them lacks.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> lora = parse("W[out in] = B[out r] A[r in]")
    >>> str(add(lora, lora))
    'W[out in] = B[out r] A[r in] + B2[out r2] A2[r2 in]'
    >>> str(add(lora, lora, share=["r"]))
    'W[out in] = B[out r] A[r in] + B2[out r] A2[r in]'
    """
    _same_target(first, second, "the sum")
    cores, bonds = shared_names(first, second, share)
    other, _ = apart(first, second, cores, bonds)
    return Network(first.target, first.terms + other.terms)


def shared_names(
    first: Network, second: Network, share: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell the cores from the bonds among the names that two networks share.

    Raises
    ------
    SpecError
        E120 for a name that is neither a core nor a bond of both.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> one, two = parse("W[out in] = B[out r] A[r in]"), parse("W[out in] = C[out r] A[r in]")
    >>> shared_names(one, two, ["A", "r"])
    (('A',), ('r',))
    """
    bonds = tuple(
        name
        for name in share
        if name not in first.cores and name in first.bonds and name in second.bonds
    )
    cores = tuple(name for name in share if name not in bonds)
    for name in cores:
        if name not in first.cores or name not in second.cores:
            what = f"{name!r} is not in both {first} and {second}"
            raise SpecError("E120", what, advice="share names cores or bonds that both have.")
    return cores, bonds


def hadamard(first: Network, second: Network, *, share: Collection[str] = ()) -> Network:
    """Return the elementwise product: W = F * G.

    Raises
    ------
    SpecError
        E121 where the targets differ.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> lora = parse("W[out in] = B[out r] A[r in]")
    >>> str(hadamard(lora, lora))  # LoHa
    'W[out in] = B[out r] A[r in] B2[out r2] A2[r2 in]'
    """
    _same_target(first, second, "the elementwise product")
    other, _ = apart(first, second, share)
    return Network(first.target, _products(first, other))


def kron(
    first: Network,
    second: Network,
    *,
    out: Sequence[str] | None = None,
    in_: Sequence[str] | None = None,
    share: Collection[str] = (),
) -> Network:
    """Return the Kronecker product at each site: ``W[site] = numpy.kron(F[site], G[site])``.

    Parameters
    ----------
    first, second : networks with the same sites.
    out, in_ : names for the parts of the output and the input, those of ``first`` before those of
        ``second``. By default names that both have get a 1 and a 2.
    share : cores that stay one array.

    Raises
    ------
    SpecError
        E121 where the sites differ, E122 for a wrong number of names, or one that stands twice.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> dense, lora = parse("W[out in] = C[out in]"), parse("W[out in] = B[out r] A[r in]")
    >>> str(kron(dense, lora, out=("o1", "o2"), in_=("i1", "i2")))  # LoKr
    'W[(o1 o2) (i1 i2)] = C[o1 i1] B[o2 r] A[r i2]'
    """
    if first.sites != second.sites:
        raise _differ(first, second, "the Kronecker product", "the same sites")
    outputs = _names(first.output, second.output, out, "out")
    inputs = _names(first.input, second.input, in_, "in_")
    _check_different((*first.sites, *outputs[0], *outputs[1], *inputs[0], *inputs[1]))
    one = _with_features(first, outputs[0] + inputs[0], outputs[1] + inputs[1])
    two = _with_features(second, outputs[1] + inputs[1], outputs[0] + inputs[0])
    other, _ = apart(one, two, share)
    sides = one.output + other.output, one.input + other.input
    slots = (*one.target.slots[:-2], *sides)
    return Network(Core(first.target.name, slots), _products(one, other))


def compose(first: Network, second: Network, *, share: Collection[str] = ()) -> Network:
    """Return the product of matrices: W = F @ G, ``first`` after ``second``.

    The input of ``first`` and the output of ``second`` meet in bonds ``mid`` (``mid1``, ``mid2``
    ... where they are groups), whose sizes are ranks.

    Raises
    ------
    SpecError
        E121 where the sites differ, or two groups of different lengths meet.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> lora = parse("W[out in] = B[out r] A[r in]")
    >>> str(compose(lora, lora))
    'W[out in] = B[out r] A[r mid] B2[mid r2] A2[r2 in]'
    """
    if first.sites != second.sites:
        raise _differ(first, second, "the product", "the same sites")
    left, right = first.input, second.output
    count = max(len(left), len(right))
    if len(left) != len(right) and min(len(left), len(right)) > 1:
        raise _differ(first, second, "the product", "groups of one length where they meet")
    both = [index for index in second.input if index in first.output]
    if both:
        what = f"{both[0]!r} is an output of {first} and an input of {second}"
        raise SpecError("E122", what, advice="Rename one of them.")
    taken = {*first.indices, *second.indices}
    names = ["mid"] if count == 1 else [f"mid{n + 1}" for n in range(count)]
    middle = tuple(fresh(name, taken, taken) for name in names)
    one = _clear(_write_as(first, left, middle), second.input)
    two, _ = apart(one, _write_as(second, right, middle), share)
    slots = (*first.target.slots[:-2], one.output, two.input)
    return Network(Core(first.target.name, slots), _products(one, two))


def _products(first: Network, second: Network) -> tuple[Term, ...]:
    return tuple(Term(a.cores + b.cores) for a in first.terms for b in second.terms)


def _clear(network: Network, names: Iterable[str]) -> Network:
    """Rename bonds that have one of these names."""
    taken = {*network.indices, *names}
    clash = {bond: fresh(bond, set(names), taken) for bond in network.bonds if bond in names}
    return map_network(network, lambda core: renamed(core, {}, clash))


def _write_as(network: Network, old: Slot, new: Slot) -> Network:
    """Write the output or input ``old`` as ``new``, which has its length or takes one apart."""
    if len(old) == len(new):
        names = dict(zip(old, new, strict=True))
        return map_network(network, lambda core: renamed(core, {}, names))
    return split(network, old[0], *new)


def _names(first: Slot, second: Slot, given: Sequence[str] | None, what: str) -> tuple[Slot, Slot]:
    if given is None:
        both = set(first) & set(second)
        return (
            tuple(f"{i}1" if i in both else i for i in first),
            tuple(f"{i}2" if i in both else i for i in second),
        )
    if isinstance(given, str) or len(given) != len(first) + len(second):
        text = f"{what}={given!r} does not name the {len(first)} + {len(second)} parts"
        raise SpecError("E122", text, advice=f"Write {what}=('a', 'b') with a name for each part.")
    for name in given:
        check_name(name, f"a part of {what}")
    return tuple(given[: len(first)]), tuple(given[len(first) :])


def _check_different(names: Slot) -> None:
    for name in names:
        if names.count(name) > 1:
            what = f"{name!r} would stand twice in the target of the Kronecker product"
            advice = "Give out=('o1', 'o2') and in_=('i1', 'i2') names that are all different."
            raise SpecError("E122", what, advice=advice)


def _with_features(network: Network, names: Slot, others: Slot) -> Network:
    """Give the features these names, with bonds of any of the names out of the way."""
    cleared = _clear(network, (*names, *others))
    features = dict(zip(network.features, names, strict=True))
    return map_network(cleared, lambda core: renamed(core, {}, features))


def _same_target(first: Network, second: Network, what: str) -> None:
    if first.target.slots != second.target.slots:
        raise _differ(first, second, what, "equal targets")


def _differ(first: Network, second: Network, what: str, needs: str) -> SpecError:
    text = f"{what} of {first.target} and {second.target} needs {needs}"
    return SpecError("E121", text, advice="Bring them there by split, join, rename or squeeze.")
