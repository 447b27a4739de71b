"""Law 3 for families: an operator keeps starts, frozen cores and the scale, or refuses."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenslora.algebra import compose, modify
from tenslora.errors import RedundantRankWarning, TensloraError
from tenslora.family import Bound, Family, combining, family, operators
from tenslora.spec import Core, Network, Term, core_shape
from tenslora.testing.laws.common import weights
from tenslora.testing.oracle import dense, numbers
from tenslora.testing.report import agree, equal, fail

__all__ = ["law_settings"]

_ALPHA = 3.0

#: What an operator may refuse with: names, indices that stay, starts, settings that do not fit.
_REFUSALS = ("E120", "E122", "E123", "E302", "E303", "E304", "E310")


def law_settings(bound: Bound, *, seed: int = 0) -> None:
    """Law 3: an operator on a family keeps its start, frozen cores, rates and scale, or refuses.

    Every operator on one family is tried. A start from the weights has to fill the cores of the
    result with what it fills those of the family with, up to signs, where the weights are what the
    operator makes of them. A sum with a dense family keeps the settings of both, and the scaled
    update of ``f + 2 * f`` is the sum of the two. A family times 0 is refused.

    Parameters
    ----------
    bound : a family with sizes.
    seed : of the weights and values.

    Examples
    --------
    >>> import tenslora as tl
    >>> law_settings(tl.resolve("pissa").bind(layer=2, proj=2, out=3, r=2, **{"in": 4}))
    """
    for operator in _operators(bound):
        made = _made(bound, operator.what, operator.make)
        if made is not None:
            _check_settings(bound, operator, made)
            _check_start(bound, operator, made, seed)
    _check_multiples(bound)
    _check_sum(bound, seed)
    _check_product(bound)


@dataclass(frozen=True)
class _Operator:
    """What it is called, the family it makes, and names, sizes, weights and cores after it."""

    what: str
    make: Callable[[], Family]
    names: Mapping[str, str]
    sizes: Mapping[str, int]
    weights: Callable[[Any], Any] | None = None
    factor: float = 1.0
    site: str | None = None


def _operators(bound: Bound) -> Iterator[_Operator]:
    one, network, sizes = bound.family, bound.network, bound.sizes
    same = {name: name for name in network.cores}
    new = {name: f"{name}_x" for name in (*network.cores, *network.indices)}
    yield _Operator("2 * f", lambda: operators.scaled(one, 2.0), same, sizes, _same, 2.0)
    after = {new[i]: n for i, n in sizes.items()}
    yield _Operator("rename", lambda: operators.rename(one, new), new, after, _same)
    last = network.cores and list(network.cores)[-1:]
    yield _Operator("freeze", lambda: operators.freeze(one, *last), same, sizes, _same)
    yield _Operator("f.T", lambda: operators.transpose(one), same, _turned(bound), _swapped)
    for index in network.indices:
        yield _split(bound, index, same)
    for n, site in enumerate(network.sites):
        yield _Operator(f"untie {site}", lambda s=site: operators.untie(one, s), same, sizes)  # type: ignore[misc]
        yield _Operator(f"tie {site}", lambda s=site: operators.tie(one, s), same, sizes)  # type: ignore[misc]
        left = {i: size for i, size in sizes.items() if i != site}
        yield _Operator(
            f"restrict {site}",
            lambda s=site: operators.restrict(one, **{s: 0}),  # type: ignore[misc]
            same,
            left,
            lambda w, n=n: np.take(w, 0, n),  # type: ignore[misc]
            site=site,
        )


def _split(bound: Bound, index: str, same: Mapping[str, str]) -> _Operator:
    parts = [f"{index}_{n}" for n in (1, 2)]
    while set(parts) & set(bound.network.indices):
        parts = [f"{part}_" for part in parts]
    left = {i: n for i, n in bound.sizes.items() if i != index}
    return _Operator(
        f"split {index}",
        lambda: operators.split(bound.family, index, *parts),
        same,
        {**left, parts[0]: bound.sizes[index], parts[1]: 1},
        _same,
    )


def _same(w: Any) -> Any:
    return w


def _swapped(w: Any) -> Any:
    return np.swapaxes(w, -1, -2)


def _turned(bound: Bound) -> dict[str, int]:
    """The sizes of the transposed: its output has those of the input, whatever they are called."""
    before, after = bound.network, modify.transpose(bound.network)
    sides = (after.output, before.input), (after.input, before.output)
    features = {new: bound.sizes[old] for side in sides for new, old in zip(*side, strict=True)}
    return {**bound.sizes, **features}


def _made(bound: Bound, what: str, make: Callable[[], Family]) -> Family | None:
    try:
        return make()
    except TensloraError as error:
        if error.code not in _REFUSALS or not error.advice:
            fail("3", bound, f"{what} is refused: {error}")
    return None


def _check_settings(bound: Bound, operator: _Operator, made: Family) -> None:
    one, names, what = bound.family, operator.names, operator.what
    init = {names[name]: str(rule.renamed(names)) for name, rule in one.init.items()}
    found = {name: str(rule) for name, rule in made.init.items()}
    equal("3", bound, f"starts after {what}", found, init)
    frozen = {names[name] for name in one.frozen}
    if what != "freeze" or not frozen <= made.frozen:
        equal("3", bound, f"frozen after {what}", set(made.frozen), frozen)
    rates = {names[name]: rate for name, rate in one.lr.items()}
    equal("3", bound, f"learning rates after {what}", dict(made.lr), rates)
    equal("3", bound, f"dropout after {what}", dict(made.dropout), dict(one.dropout))
    equal("3", bound, f"starts_nonzero after {what}", made.starts_nonzero, one.starts_nonzero)
    for alpha in (None,) if one.scale.kind == "constant" else (None, _ALPHA):
        wanted = operator.factor * one.scale.factor(bound.sizes, alpha)
        agree("3", bound, f"scale after {what}", made.scale.factor(operator.sizes, alpha), wanted)


def _check_start(bound: Bound, operator: _Operator, made: Family, seed: int) -> None:
    one, what = bound.family, operator.what
    if one.start is None or made.start is None:
        equal("3", bound, f"the start after {what}", made.start, one.start)
        return
    if operator.weights is None:
        equal("3", bound, f"the start after {what}", str(made.start), str(one.start))
        return
    w = weights(bound, seed) + np.random.default_rng((seed, 7)).random(_shape(bound))
    after = _bind(made, operator.sizes)
    new = after.filled(operator.weights(w).reshape(_shape(after)))
    for name, values in bound.filled(w).items():
        if operator.site is not None:
            values = np.take(values, 0, bound.network.cores[name].slots.index((operator.site,)))
        found, wanted = np.abs(new[operator.names[name]]), np.abs(values)
        agree("3", bound, f"{name} from the weights after {what}", found, wanted, 1e-8)


def _shape(bound: Bound) -> tuple[int, ...]:
    return core_shape(bound.network.target, bound.sizes)


def _bind(made: Family, sizes: Mapping[str, int]) -> Bound:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RedundantRankWarning)
        return made.bind({i: sizes[i] for i in made.network.indices})


def _check_multiples(bound: Bound) -> None:
    for factor in (0, float("nan"), float("inf"), True):
        code = _code(lambda factor=factor: operators.scaled(bound.family, factor))  # type: ignore[misc]
        equal("3", bound, f"the code of {factor} * f", code, "E305")


def _code(make: Callable[[], Family]) -> str | None:
    try:
        make()
    except TensloraError as error:
        return error.code
    return None


def _check_sum(bound: Bound, seed: int) -> None:
    """F + 2 F is what its two terms are: with ranks shared, where no start stands in the way."""
    one, more = bound.family, operators.scaled(bound.family, 2.0)
    made = _made(bound, "f + 2 * f", lambda: combining.add(one, more, share=bound.network.bonds))
    if made is None:
        if one.start is None:
            fail("3", bound, "f + 2 * f is refused")
        return
    cores, names = {}, compose.apart(one.network, one.network)[1]
    for half, values in enumerate(numbers(one.network, bound.sizes, seed + n) for n in (0, 1)):
        cores.update({names[n] if half else n: array for n, array in values.items()})
    sizes = _bind(made, bound.sizes).sizes
    for name in made.network.cores.keys() - cores.keys():  # the factor
        shape = core_shape(made.network.cores[name], sizes)
        cores[name] = np.full(shape, made.init[name].value)
    whole = made.scale.factor(sizes) * dense(made.network, cores, sizes)
    parts = [
        each.scale.factor(bound.sizes)
        * dense(one.network, numbers(one.network, bound.sizes, seed + n), bound.sizes)
        for n, each in enumerate((one, more))
    ]
    room = 1e-12 * (1.0 + np.abs(parts[0]) + np.abs(parts[1]))
    agree("3", bound, "the scaled update of f + 2 * f", whole, parts[0] + parts[1], room)


def _dense_family(bound: Bound, scale: Any) -> Family:
    target = bound.network.target
    core = Core("Q" if target.name != "Q" else "Q_", tuple((i,) for i in target.indices))
    network = Network(target, (Term((core,)),))
    return family(network, init={core.name: "zeros"}, scale=scale)


def _check_product(bound: Bound) -> None:
    """A sum with a dense family keeps a start from the weights; a product does not have one."""
    one, other = bound.family, _dense_family(bound, "constant")
    made = _made(bound, "f + g", lambda: combining.add(one, other, scale=one.scale))
    if made is not None:
        equal("3", bound, "the start of f + g", made.start, one.start)
        kept = {name: str(made.init[name]) for name in one.init}
        equal("3", bound, "starts of f + g", kept, {n: str(r) for n, r in one.init.items()})
        equal("3", bound, "frozen of f + g", set(made.frozen), set(one.frozen))
    made = _made(bound, "f * g", lambda: combining.hadamard(one, other, scale="constant"))
    if made is not None:
        equal("3", bound, "the start of a family with a product", one.start, None)
