"""Special cases under test: a proof, and the same in numbers at sizes of every kind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from tenslora.algebra import Proof, Witness, lift_arrays, lifted_sizes
from tenslora.errors import SizeError
from tenslora.family import Family, check, embeds
from tenslora.spec import Network, complete_sizes, core_shape
from tenslora.testing.oracle import dense

__all__ = ["assert_special_case", "holds_in_numbers"]


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
        There is no proof, or it gives another W for drawn values.
    SpecError
        The witness is not one for these families; see :func:`tenslora.check`.

    Examples
    --------
    >>> proof = assert_special_case("lotr", "tenslora.depth")
    >>> proof.ranks
    {'a': ('r',), 'b': ('s',), 'c': ('layer',)}
    """
    found = embeds(special, general) if witness is None else check(special, general, witness)
    if not isinstance(found, Proof):
        raise AssertionError(str(found))
    for seed, sizes in enumerate(_sizes(found.special)):
        if not holds_in_numbers(found, sizes, seed):
            text = " ".join(f"{name}={size}" for name, size in sizes.items())
            raise AssertionError(f"a proof that is false in numbers, at {text}\n{found}")
    return found


def holds_in_numbers(proof: Proof, sizes: Mapping[str, int], seed: int = 0) -> bool:
    """Whether both families give one W, within 1e-10, for normal values drawn from ``seed``.

    ``sizes`` are the sizes and ranks of ``proof.special``. W is made by :func:`dense`, which shares
    no code with the algebra.

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
    found = dense(proof.general, lifted, lifted_sizes(proof, known))
    scale = float(np.abs(wanted).max())
    return bool(np.abs(found - wanted).max() <= 1e-10 * scale)


def _sizes(network: Network) -> Iterator[dict[str, int]]:
    """Yield sizes of 1, of 2, and different ones, as far as the equation admits them."""
    names = network.indices
    for chosen in (
        dict.fromkeys(names, 1),
        dict.fromkeys(names, 2),
        {name: 1 + n % 3 for n, name in enumerate(names)},
        {name: 1 + (n // 2 + 1) % 2 for n, name in enumerate(names)},
    ):
        with contextlib.suppress(SizeError):  # an equation that ties sizes to each other
            yield complete_sizes(network, chosen)
