"""Special cases under test: a proof, and the same in numbers at sizes of every kind."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from tenslora.algebra import Proof, Witness, lift_arrays, lifted_sizes
from tenslora.algebra.drawn import drawn_arrays
from tenslora.errors import SizeError
from tenslora.family import Family, check, embeds, limits_of, resolve
from tenslora.spec import Core, Network, Slot, complete_sizes, core_shape
from tenslora.testing.oracle import dense

__all__ = ["assert_special_case", "holds_in_numbers"]

_TRIES = 2_000  # of drawn sizes for an equation that ties them to each other


def assert_special_case(
    special: str | Family,
    general: str | Family,
    witness: str | Iterable[str] | Witness | None = None,
) -> Proof:
    """Prove that one family is a special case of another, and try the proof on numbers.

    Parameters
    ----------
    special, general : families, their names, or equations.
    witness : the value of each core of ``general``; by default it is searched for.

    Returns
    -------
    Proof
        What :func:`tenslora.check` gives.

    Raises
    ------
    AssertionError
        There is no proof, it gives another W for drawn values, or a frozen core a value that it
        cannot have; or no sizes above 1 were found to try it at.
    SpecError
        The witness is not one for these families; see :func:`tenslora.check`.

    Examples
    --------
    >>> proof = assert_special_case("lotr", "tenslora.depth")
    >>> proof.ranks
    {'a': ('r',), 'b': ('s',), 'c': ('layer',)}
    """
    one, two = (resolve(value, any_start=True) for value in (special, general))
    found = embeds(one, two) if witness is None else check(one, two, witness)
    if not isinstance(found, Proof):
        raise AssertionError(str(found))
    drawn = list(_sizes(found.special))
    if all(max(sizes.values()) == 1 for sizes in drawn):
        raise AssertionError(f"no sizes above 1 were found to try the proof at\n{found}")
    for seed, sizes in enumerate(drawn):
        text = " ".join(f"{name}={size}" for name, size in sizes.items())
        if not holds_in_numbers(found, sizes, seed, general=two.network):
            raise AssertionError(f"a proof that is false in numbers, at {text}\n{found}")
        wrong = _wrong_frozen(found, one, two, sizes, seed)
        if wrong is not None:
            raise AssertionError(f"a frozen core with another value, {wrong}, at {text}\n{found}")
    return found


def _wrong_frozen(
    proof: Proof, special: Family, general: Family, sizes: Mapping[str, int], seed: int
) -> str | None:
    """Return a frozen core of ``general`` whose value or rank it cannot have.

    Its value may not change with trained cores, and is that of its rule where it has one.
    """
    own, limits = limits_of(special), limits_of(general)
    target = {index: sizes[index] for index in proof.special.target.indices}
    most = own.most(proof.special, target)
    chosen = {**sizes, **{bond: min(sizes[bond], most[bond]) for bond in most}}
    try:
        known = complete_sizes(proof.special, chosen)
    except SizeError:  # an equation that ties a rank to a size
        return None
    once = drawn_arrays(proof.special, known, own, seed)
    again = drawn_arrays(proof.special, known, own, seed + 1)
    again |= {name: once[name] for name in special.frozen}
    first, second = (lift_arrays(proof, cores, known) for cores in (once, again))
    wide = lifted_sizes(proof, known)
    for name in proof.chosen:
        if not np.array_equal(first[name], second[name]):
            return name
        whole = len(proof.general.cores[name].slots) == len(general.network.cores[name].slots)
        if name in limits.copies:
            of, sign = limits.copies[name]
            if not np.allclose(first[name], sign * first[of]):
                return name
        elif name in limits.given and whole:
            value = limits.value(proof.general.cores[name], proof.general, wide)
            if not np.allclose(first[name], value):
                return name
    bounds = limits.most(proof.general, target)
    return next((bond for bond, size in bounds.items() if wide[bond] > size), None)


def holds_in_numbers(
    proof: Proof, sizes: Mapping[str, int], seed: int = 0, *, general: Network | None = None
) -> bool:
    """Whether both families give one W, within 1e-10, for normal values drawn from ``seed``.

    ``sizes`` are the sizes and ranks of ``proof.special``. W is made by :func:`dense`, which shares
    no code with the algebra. Where ``general`` is given, the larger network before it was aligned
    has to give it too, at the sizes of its parts that the proof chooses.

    Examples
    --------
    >>> from tenslora.family import embeds
    >>> holds_in_numbers(embeds("W[out in] = B[out r] A[r in]", "W[out in] = T[out in]"),
    ...                  {"out": 3, "in": 4, "r": 2})
    True
    """
    known = complete_sizes(proof.special, sizes)
    generator = np.random.default_rng(seed)
    cores = {
        name: generator.normal(size=core_shape(core, known))
        for name, core in proof.special.cores.items()
    }
    wanted = dense(proof.special, cores, known)
    lifted = lift_arrays(proof, cores, known)
    wide = lifted_sizes(proof, known)
    most = 1e-10 * float(np.abs(wanted).max())
    if np.abs(dense(proof.general, lifted, wide) - wanted).max() > most:
        return False
    return general is None or _gives(proof, general, lifted, wide, wanted, most)


def _gives(
    proof: Proof,
    general: Network,
    arrays: Mapping[str, np.ndarray],
    wide: Mapping[str, int],
    wanted: np.ndarray,
    most: float,
) -> bool:
    """Whether a network before it was aligned gives W, written in its own order of the indices."""
    target = proof.general.target
    groups = _groups(general, target, proof.parts)
    own = {i: math.prod(wide[j] for j in group) for i, group in groups.items()}
    own |= {b: wide[a] for b, a in zip(general.bonds, proof.general.bonds, strict=True)}
    try:
        own = complete_sizes(general, own)
    except SizeError:  # it cannot have these sizes
        return False
    cores = {n: arrays[n].reshape(core_shape(c, own)) for n, c in general.cores.items()}
    apart = wanted.reshape([wide[index] for index in target.indices])
    order = [target.indices.index(j) for i in general.target.indices for j in groups[i]]
    found = dense(general, cores, own)
    return bool(np.abs(found.ravel() - apart.transpose(order).ravel()).max() <= most)


def _groups(network: Network, target: Core, parts: Mapping[str, Slot]) -> dict[str, Slot]:
    """Return what each index of the target of ``network`` is of ``target``, which is aligned."""
    found: dict[str, Slot] = {}
    sites = [slot[0] for slot in target.slots[:-2]]
    for site in network.sites:
        rest = tuple(one for one in sites if one not in network.sites)
        found[site] = parts.get(site, (site,) if site in sites else rest)
    for slot, names in zip((network.output, network.input), target.slots[-2:], strict=True):
        if set(slot) & set(parts):
            found |= {index: parts.get(index, (index,)) for index in slot}
        else:
            found |= {index: (name,) for index, name in zip(slot[:-1], names, strict=False)}
            found[slot[-1]] = names[len(slot) - 1 :]
    return found


def _sizes(network: Network) -> Iterator[dict[str, int]]:
    """Yield sizes of 1, of 2, and different ones, as far as the equation admits them.

    Where it ties sizes to each other, such as ``x`` to ``a b``, others are drawn until three fit.
    """
    names, count = network.indices, 0
    for chosen in (
        dict.fromkeys(names, 1),
        dict.fromkeys(names, 2),
        {name: 1 + n % 3 for n, name in enumerate(names)},
        {name: 1 + (n // 2 + 1) % 2 for n, name in enumerate(names)},
    ):
        with contextlib.suppress(SizeError):  # an equation that ties sizes to each other
            yield complete_sizes(network, chosen)
            count += 1
    generator = random.Random(0)  # noqa: S311
    for _ in range(_TRIES if count < 4 else 0):
        chosen = {name: generator.choice((1, 1, 2, 2, 3, 4, 6)) for name in names}
        with contextlib.suppress(SizeError):
            yield complete_sizes(network, chosen)
            count += 1
            if count == 4:
                return
