"""Random equations, sizes and families for property-based tests (hypothesis)."""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING, Any

from tenslora.algebra import Proof, embed_networks
from tenslora.errors import RedundantRankWarning, UsageError
from tenslora.family import Bound, Family, family, resolve
from tenslora.spec import Network
from tenslora.testing.drawing import draw_connected, draw_network, draw_sizes

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = [
    "bounds",
    "families",
    "networks",
    "random_bound",
    "ranks",
    "sized_networks",
    "sizes",
    "witnesses",
]

_RULES = ("kaiming", "normal(0.5)", "uniform(1.0)", "xavier", "orthogonal", "ones", "const(-0.5)")


def sized_networks(
    *, max_cores: int = 6, max_terms: int = 3, max_size: int = 5, constants: bool = True
) -> SearchStrategy[tuple[Network, dict[str, int]]]:
    """Draw a valid network and a size for each of its indices.

    Small and odd cases are frequent: sizes of 1, sites on no core, one core on its own, bonds in
    three and more cores, elementwise products, one array in several places, groups of indices on
    features and on cores, several terms, ``eye`` and ``ones``.

    Parameters
    ----------
    max_cores, max_terms : upper limits for the whole equation.
    max_size : upper limit for the size of an index (joined bonds may be larger).
    constants : whether ``eye`` and ``ones`` may occur.

    Raises
    ------
    UsageError
        E805 where hypothesis is not installed.

    Examples
    --------
    >>> from hypothesis import given
    >>> from tenslora.spec import complete_sizes
    >>> @given(sized_networks())
    ... def test_sizes_are_complete(sized):
    ...     network, sizes = sized
    ...     assert complete_sizes(network, sizes) == sizes
    """
    limits = {"max_cores": max_cores, "max_terms": max_terms, "max_size": max_size}
    make = hypothesis_strategies().composite(draw_network)
    strategy: SearchStrategy[tuple[Network, dict[str, int]]] = make(constants=constants, **limits)
    return strategy


def random_bound(seed: int) -> Bound:
    """Return a random family with sizes: those of :func:`bounds`, by a seed and without hypothesis.

    It is for long runs: the same seed gives the same family, drawing it takes no time, and nothing
    makes a failing one smaller. All starts are numbers other than zero.

    Examples
    --------
    >>> random_bound(3) == random_bound(3)
    True
    """
    generator = random.Random(seed)  # noqa: S311
    while True:
        network, sizes = draw_network(
            generator, max_cores=6, max_terms=3, max_size=5, constants=True
        )
        if network.cores:
            break
    frozen = [name for name in network.cores if generator.random() < 0.25]
    made = family(network, init=dict.fromkeys(network.cores, "kaiming"), frozen=frozen,
                  starts_nonzero=True)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RedundantRankWarning)
        return made.bind(sizes)


def networks(**options: Any) -> SearchStrategy[Network]:
    """Draw a valid network; the options are those of :func:`sized_networks`.

    Examples
    --------
    >>> from hypothesis import given
    >>> from tenslora.spec import parse
    >>> @given(networks(max_cores=3))
    ... def test_round_trip(network):
    ...     assert parse(str(network)) == network
    """
    return sized_networks(**options).map(lambda sized: sized[0])


def families(**options: Any) -> SearchStrategy[Family]:
    """Draw a family with at least one core; the options are those of :func:`sized_networks`.

    Most start at W = 0 with a gradient; the others say ``starts_nonzero``. Some cores are frozen.

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(families(max_terms=1))
    ... def test_json(family):
    ...     assert type(family).from_json(family.to_json()) == family
    """
    return bounds(**options).map(lambda bound: bound.family)


def bounds(**options: Any) -> SearchStrategy[Bound]:
    """Draw a family with a size for each index: what a law is asked of.

    Examples
    --------
    >>> from hypothesis import given
    >>> from tenslora.testing import law_contraction
    >>> @given(bounds())
    ... def test_contraction(bound):
    ...     law_contraction(bound)
    """
    strategies = hypothesis_strategies()
    stored = sized_networks(**options).filter(lambda sized: bool(sized[0].cores))
    strategy: SearchStrategy[Bound] = strategies.composite(_draw_bound)(stored)
    return strategy


def sizes(value: str | Network | Family, *, max_size: int = 4) -> SearchStrategy[dict[str, int]]:
    """Draw a size for each index of a network or family, ranks included, such that they fit.

    Where the equation ties sizes to each other (``eye[(a b) in]``), they are equal or 1.

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(sizes("lokr", max_size=3))
    ... def test_sizes(drawn):
    ...     assert set(drawn) == {"layer", "proj", "o1", "o2", "i1", "i2", "r"}
    """
    make = hypothesis_strategies().composite(draw_sizes)
    found: SearchStrategy[dict[str, int]] = make(_network(value), max_size=max_size, bonds=False)
    return found


def ranks(value: str | Network | Family, *, max_rank: int = 4) -> SearchStrategy[dict[str, int]]:
    """Draw a rank for each bond of a network or family.

    Examples
    --------
    >>> from hypothesis import given
    >>> import tenslora as tl
    >>> @given(ranks("lotr"))
    ... def test_ranks(drawn):
    ...     assert tl.resolve("lotr").bind(layer=2, proj=2, out=9, **{"in": 9}, **drawn)
    """
    make = hypothesis_strategies().composite(draw_sizes)
    found: SearchStrategy[dict[str, int]] = make(_network(value), max_size=max_rank, bonds=True)
    return found


def witnesses(**options: Any) -> SearchStrategy[Proof]:
    """Draw a network, another one that contains it, and a witness of that: a proof.

    The larger network has the target of the first, and its cores are joined to a tree by bonds, so
    that at some ranks it contains every network; the witness is searched for. ``proof.special``,
    ``proof.general`` and ``proof.witness`` are the three. The options are those of
    :func:`sized_networks`.

    Examples
    --------
    >>> from hypothesis import given
    >>> from tenslora.algebra import check_networks
    >>> @given(witnesses(max_cores=3))
    ... def test_witness(proof):
    ...     assert check_networks(proof.special, proof.general, str(proof.witness))
    """
    options = {"max_terms": 2, "max_cores": 4, "constants": False, **options}
    strategy: SearchStrategy[Proof] = hypothesis_strategies().composite(_draw_proof)(
        networks(**options)
    )
    return strategy


def hypothesis_strategies() -> Any:
    """Import ``hypothesis.strategies``, or say what to install (E805)."""
    try:
        from hypothesis import strategies
    except ImportError as error:
        what = "random equations need hypothesis, which is not installed"
        raise UsageError("E805", what, advice='Run: pip install "tenslora[test]".') from error
    return strategies


def _network(value: str | Network | Family) -> Network:
    return value if isinstance(value, Network) else resolve(value, any_start=True).network


def _draw_proof(draw: Any, special: SearchStrategy[Network]) -> Proof:
    one = draw(special)
    verdict = embed_networks(one, draw_connected(draw, one.target))
    if not isinstance(verdict, Proof):
        raise AssertionError(f"no witness was found, and there is one\n{verdict}")
    return verdict


def _draw_bound(draw: Any, sized: SearchStrategy[tuple[Network, dict[str, int]]]) -> Bound:
    strategies = hypothesis_strategies()
    network, sizes = draw(sized)
    rules = {core: draw(strategies.sampled_from(_RULES)) for core in network.cores}
    frozen = {core for core in network.cores if draw(strategies.integers(0, 3)) == 0}
    zeros = {draw(strategies.sampled_from(names)) for names in _stored(network) if names}
    starts_zero = _can_start(network, zeros) and draw(strategies.integers(0, 4)) > 0
    if starts_zero:
        rules.update(dict.fromkeys(zeros, "zeros"))
        frozen -= zeros
    scales = ["constant", "constant(-0.5)"]
    scales += [rule for bond in network.bonds for rule in (f"alpha/{bond}", f"alpha/sqrt({bond})")]
    made = family(
        network,
        init=rules,
        frozen=frozen,
        scale=draw(strategies.sampled_from(scales)),
        starts_nonzero=not starts_zero,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RedundantRankWarning)
        return made.bind(sizes, alpha=draw(strategies.sampled_from([None, 2.0])))


def _stored(network: Network) -> list[list[str]]:
    return [[c.name for c in term.cores if not c.is_constant] for term in network.terms]


def _can_start(network: Network, zeros: set[str]) -> bool:
    """Whether W is zero and has a gradient when these cores are zero and trained."""
    counts = [sum(name in zeros for name in names) for names in _stored(network)]
    return min(counts) >= 1 and 1 in counts
