"""The pieces of a plan: arrays with named axes, pairwise steps, and stages on the path of x."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tenslora.plan.cost import Profile, entries, pair_flops
from tenslora.plan.operands import Operand

__all__ = ["Array", "Chain", "Pair", "Part", "Stage", "Step", "pair_up"]


@dataclass(frozen=True)
class Array:
    """An intermediate result, with one axis an index.

    Examples
    --------
    >>> print(Array("t0", ("layer", "out", "in")))
    t0[layer out in]
    """

    name: str
    indices: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}[{' '.join(self.indices)}]"


@dataclass(frozen=True)
class Pair:
    """How the indices of two arrays meet. The result has the axes ``batch + left + right``.

    Attributes
    ----------
    batch : on both sides, kept.
    summed : on both sides, summed.
    left, right : on one side only.

    Examples
    --------
    >>> pair_up(("layer", "out", "r"), ("layer", "r", "in"), {"layer", "out", "in"})
    Pair(batch=('layer',), summed=('r',), left=('out',), right=('in',))
    """

    batch: tuple[str, ...]
    summed: tuple[str, ...]
    left: tuple[str, ...]
    right: tuple[str, ...]


def pair_up(left: Sequence[str], right: Sequence[str], kept: Collection[str]) -> Pair:
    """Sort the indices of two arrays into what is matched, summed, or only on one side.

    >>> pair_up(("l", "o", "r"), ("l", "r", "i"), {"l", "o", "i"})
    Pair(batch=('l',), summed=('r',), left=('o',), right=('i',))
    """
    both = [index for index in left if index in right]
    return Pair(
        batch=tuple(i for i in both if i in kept),
        summed=tuple(i for i in both if i not in kept),
        left=tuple(i for i in left if i not in right),
        right=tuple(i for i in right if i not in left),
    )


@dataclass(frozen=True)
class Step:
    """One pairwise contraction of arrays that do not depend on x.

    Examples
    --------
    >>> from tenslora.plan import CPU
    >>> kept, sizes = {"out", "in"}, {"out": 4, "r": 2, "in": 3}
    >>> step = Step.make("t0", Array("B", ("out", "r")), Array("A", ("r", "in")), kept, sizes, CPU)
    >>> print(step)
    t0[out in] = B[out r] A[r in]
    >>> step.flops, step.nbytes
    (48, 104)
    """

    result: Array
    left: Array
    right: Array
    flops: int
    nbytes: int

    def __str__(self) -> str:
        return f"{self.result} = {self.left} {self.right}"

    @classmethod
    def make(
        cls,
        name: str,
        left: Array,
        right: Array,
        kept: Collection[str],
        sizes: Mapping[str, int],
        profile: Profile,
    ) -> Step:
        """Contract ``left`` with ``right``, keeping the indices that something later needs."""
        pair = pair_up(left.indices, right.indices, kept)
        result = Array(name, pair.batch + pair.left + pair.right)
        touched = sum(entries(a.indices, sizes) for a in (left, right, result))
        flops = pair_flops(left.indices, right.indices, kept, sizes)
        return cls(result, left, right, flops, profile.itemsize * touched)


@dataclass(frozen=True)
class Part:
    """Operands and steps that make one array: a term's W, or a tensor that meets x.

    Attributes
    ----------
    operands : each input with the name of its variable.
    steps : in order.
    result : the last step's result, or the one input.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> plan = make_plan(parse("W[out in] = B[out r] A[r in]"), {"out": 4, "in": 3, "r": 2})
    >>> (part,) = plan.delta
    >>> [str(array) for array, _ in part.operands], [str(step) for step in part.steps]
    (['B[out r]', 'A[r in]'], ['w0[out in] = B[out r] A[r in]'])
    """

    operands: tuple[tuple[Array, Operand], ...]
    steps: tuple[Step, ...]
    result: Array


@dataclass(frozen=True)
class Stage:
    """One step on the path of x: ``h`` of a token meets a tensor that does not depend on x.

    At run time every site index is fixed, so both sides carry local indices only.

    Attributes
    ----------
    part : how the tensor is made, for all sites.
    sites : the site indices that the tensor carries, in the target's order.
    varies : the site indices that the stage's result varies over through the tensors so far; x may
        add others.
    before, after : the local indices of ``h`` before and after, in order; after the last stage the
        output's.
    pair : how the local indices meet; ``left`` is of ``h``, ``right`` of the tensor.
    flops : for one token, at all sites that differ.
    nbytes : of ``h`` before and after, for one token, at all sites that differ.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = B[layer out r] A[r in]")
    >>> plan = make_plan(n, {"layer": 2, "out": 64, "in": 32, "r": 2})
    >>> first, second = plan.chains[0].stages
    >>> first.before, first.after, first.sites
    (('in',), ('r',), ())
    >>> second.before, second.after, second.sites
    (('r',), ('out',), ('layer',))
    """

    part: Part
    sites: tuple[str, ...]
    varies: frozenset[str]
    before: tuple[str, ...]
    after: tuple[str, ...]
    pair: Pair
    flops: int
    nbytes: int

    @property
    def layout(self) -> tuple[tuple[str, ...], ...]:
        """The axes of the tensor at one site, each a group of indices, merged.

        ``batch`` where there is any, ``summed`` where there is any, and ``right`` (an axis of
        length 1 where it is empty but something is summed).
        """
        pair = self.pair
        groups = [pair.batch] if pair.batch else []
        groups += [pair.summed] if pair.summed else []
        groups += [pair.right] if pair.right or pair.summed else []
        return tuple(groups)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The axes of the tensor at all sites: those of the sites first, if there are any."""
        return (self.sites, *self.layout) if self.sites else self.layout


@dataclass(frozen=True)
class Chain:
    """The path of x through one term.

    Attributes
    ----------
    stages : in order.
    cost : of a step in training, in FLOPs of the profile, as ``tenslora.plan.path.order_cost``
        counts.
    fixed : the part of the cost that does not grow with the tokens.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = B[out r] A[r in] + T[out in]")
    >>> plan = make_plan(n, {"out": 64, "in": 32, "r": 2})
    >>> [len(chain.stages) for chain in plan.chains]
    [2, 1]
    """

    stages: tuple[Stage, ...]
    cost: float = 0.0
    fixed: float = 0.0
