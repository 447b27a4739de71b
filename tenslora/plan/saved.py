"""What a forward keeps for its backward, counted by running the plan's program on shapes."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from tenslora.errors import PlanError
from tenslora.plan.cost import entries
from tenslora.plan.emit import stage_name
from tenslora.plan.product import Product
from tenslora.plan.program import Plan
from tenslora.plan.tracing import Trace, Traced
from tenslora.spec import Network, core_shape

__all__ = [
    "inputs_per_token",
    "listed_inputs",
    "reads_input",
    "saved_by_dense",
    "saved_once",
    "saved_per_token",
    "shared_sites",
    "updates_per_token",
]

#: Two numbers of tokens, to tell what grows with them. One token has views of its own.
_FEW, _MORE = 2, 3


def saved_per_token(plan: Plan, inputs: Sequence[Hashable] | None = None) -> int:
    """Count the numbers that a forward through all sites keeps of each token.

    A stage whose tensor is trained keeps what it reads: the first one of a term x (once for all
    terms and for all sites that read one x), later ones their part of ``h`` for each site over
    which it differs. Where the axes have to be laid out anew, the copy is kept. A plan that runs as
    x A B keeps x and x A.

    Parameters
    ----------
    plan : the plan.
    inputs : which input each site reads, equal for the same, in the order of the site indices, the
        last fastest. By default sites that differ in shared site indices alone read one. Where each
        site stands for several weights, as many for each, those of all, the ones of a site
        together.

    Raises
    ------
    PlanError
        E403 for a number of inputs that is no multiple of that of the sites.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer proj out in] = B[layer proj out r] A[layer r in]")
    >>> sizes = {"layer": 2, "proj": 3, "out": 8, "in": 8, "r": 2}
    >>> saved_per_token(make_plan(n, sizes, shared=["proj"]))  # 2 x 8 of x, 2 x 2 of h
    20
    >>> tied = make_plan(parse("W[out in] = B[out r] A[r in]"), sizes)
    >>> saved_per_token(tied, ["x", "x", "y"])  # three weights that are one: 8 + 2 of x and of y
    20
    """
    readers = _Readers(plan, inputs)
    return _trace(plan, _MORE, readers).total() - _trace(plan, _FEW, readers).total()


def saved_once(plan: Plan, inputs: Sequence[Hashable] | None = None) -> int:
    """Count the numbers that a forward keeps of what is hoisted, whatever the tokens.

    Parameters
    ----------
    plan, inputs : as in :func:`saved_per_token`; the A of sites that read one x lie together.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = V[out b] G[b a] U[in a]")
    >>> saved_once(make_plan(n, {"out": 80, "in": 80, "a": 4, "b": 2}))  # G U, 2 x 80
    160
    """
    readers = _Readers(plan, inputs)
    few, more = (_trace(plan, tokens, readers).total() for tokens in (_FEW, _MORE))
    return few - _FEW * (more - few)


def reads_input(plan: Plan) -> bool:
    """Whether x itself is kept: not where the cores that it meets are frozen, or a copy is.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n, sizes = parse("W[out in] = B[out r] A[r in]"), {"out": 4, "in": 3, "r": 2}
    >>> reads_input(make_plan(n, sizes)), reads_input(make_plan(n, sizes, frozen={"A"}))
    (True, False)
    """
    trace = _trace(plan, _FEW, _Readers(plan, None))
    return trace.x.piece in trace.kept


def inputs_per_token(plan: Plan, inputs: Sequence[Hashable] | None = None) -> int:
    """Count the numbers of x for one token through all sites, each input once.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer proj out in] = B[layer proj out r] A[layer r in]")
    >>> sizes = {"layer": 2, "proj": 3, "out": 4, "in": 8, "r": 2}
    >>> inputs_per_token(make_plan(n, sizes, shared=["proj"]))  # 2 x 8
    16
    """
    return _Readers(plan, inputs).count() * entries(plan.network.input, plan.sizes)


def updates_per_token(plan: Plan, inputs: Sequence[Hashable] | None = None) -> int:
    """Count the numbers of W x for one token through all sites, what several share once.

    Sites share it that read one input and differ in site indices that no core of the plan's one
    chain carries, and so do weights that are one; a plan that runs as x A B makes it for each.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer proj out in] = B[layer proj out r] A[layer r in]")
    >>> sizes = {"layer": 2, "proj": 3, "out": 4, "in": 8, "r": 2}
    >>> updates_per_token(make_plan(n, sizes, shared=["proj"]))  # 2 x 3 x 4
    24
    """
    readers = _Readers(plan, inputs)
    single = not (plan.normal and plan.product is not None) and len(plan.chains) == 1
    made = readers.count(plan.chains[0].stages[-1].varies) if single else readers.weights
    return made * entries(plan.network.output, plan.sizes)


def saved_by_dense(
    plan: Plan, inputs: Sequence[Hashable] | None = None, weights: int | None = None
) -> int:
    """Count the numbers that making W of every weight as a matrix keeps.

    A plan that runs as x A B multiplies its matrices, another one runs on the identity.

    Parameters
    ----------
    plan, inputs : as in :func:`saved_per_token`; the A of sites that read one x lie together.
    weights : how many there are; by default as many as sites.

    Examples
    --------
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n = parse("W[out in] = V[out b] G[b a] U[in a]")
    >>> saved_by_dense(make_plan(n, {"out": 80, "in": 80, "a": 4, "b": 2}))  # G U, 2 x 80
    160
    """
    width = entries(plan.network.input, plan.sizes)
    each = _Apart(plan, weights or entries(plan.network.sites, plan.sizes))
    run = _Run(plan, width, each, trained=False)
    if plan.normal and plan.product is not None:
        run.keep(*_factors(run, plan, plan.product, _Readers(plan, inputs)))
    else:
        _run_chains(run, plan, each)
    return run.total()


def shared_sites(
    network: Network, sizes: Mapping[str, int], inputs: Sequence[Hashable]
) -> tuple[str, ...]:
    """Find the site indices along which sites read one input.

    Parameters
    ----------
    network, sizes : the equation.
    inputs : as in :func:`saved_per_token`.

    Raises
    ------
    PlanError
        E403 for a number of inputs that is no multiple of that of the sites.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer proj out in] = B[layer proj out r] A[layer r in]")
    >>> shared_sites(n, {"layer": 2, "proj": 3}, ["x0", "x0", "x0", "x1", "x1", "x1"])
    ('proj',)
    """
    places = _places(network, sizes, inputs)
    found = []
    for n, site in enumerate(network.sites):
        rest = {(*place[:n], *place[n + 1 :]): xs for place, xs in places}
        if all(rest[(*place[:n], *place[n + 1 :])] == xs for place, xs in places):
            found.append(site)
    return tuple(found)


def listed_inputs(inputs: Iterable[Hashable]) -> list[Hashable]:
    """List what names inputs in an order.

    Raises
    ------
    PlanError
        E403 for what has no order, and for what cannot be compared.

    Examples
    --------
    >>> listed_inputs("xxy")
    ['x', 'x', 'y']
    """
    advice = "Give a list of names, equal for sites that read one input."
    if not isinstance(inputs, Iterable) or isinstance(inputs, (AbstractSet, Mapping)):
        what = f"inputs is a {type(inputs).__name__}, and is to name inputs in an order"
        raise PlanError("E403", what, advice=advice)
    found = list(inputs)
    try:
        set(found)
    except TypeError as error:
        what = f"inputs has names that cannot be compared: {error}"
        raise PlanError("E403", what, advice=advice) from None
    return found


def _places(
    network: Network, sizes: Mapping[str, int], inputs: Sequence[Hashable]
) -> list[tuple[tuple[int, ...], tuple[Hashable, ...]]]:
    """Each site's place on the site indices, with its input, or those of the weights that it is."""
    count = entries(network.sites, sizes)
    times, rest = divmod(len(inputs), count)
    if rest or not times:
        what = f"inputs names {len(inputs)} inputs, and {network} has {count} sites"
        advice = "Give one for each site, or for each weight, those of a site together."
        raise PlanError("E403", what, advice=advice)
    every = itertools.product(*(range(sizes[site]) for site in network.sites))
    groups = (tuple(inputs[n : n + times]) for n in range(0, len(inputs), times))
    return list(zip(every, groups, strict=True))


class _Readers:
    """How many different results there are of what is done at every site."""

    def __init__(self, plan: Plan, inputs: Sequence[Hashable] | None) -> None:
        self.plan, self.varying = plan, frozenset(plan.problem.varying())
        self.places: list[tuple[tuple[int, ...], Hashable]] | None = None
        if inputs is not None:
            grouped = _places(plan.network, plan.sizes, inputs)
            self.places = [(place, x) for place, xs in grouped for x in xs]

    @property
    def weights(self) -> int:
        """How many weights there are, whatever they share."""
        if self.places is None:
            return entries(self.varying.union(self.plan.network.sites), self.plan.sizes)
        return len(self.places)

    def count(self, carried: Iterable[str] = ()) -> int:
        """Of what depends on the input and on some site indices."""
        if self.places is None:
            return entries(self.varying.union(carried), self.plan.sizes)
        held = set(carried)
        kept = [n for n, site in enumerate(self.plan.network.sites) if site in held]
        return len({(x, *(place[n] for n in kept)) for place, x in self.places})


class _Apart(_Readers):
    """So many weights, each by itself."""

    def __init__(self, plan: Plan, weights: int) -> None:
        super().__init__(plan, None)
        self._weights = weights

    def count(self, carried: Iterable[str] = ()) -> int:
        """As many as weights, whatever it depends on."""
        return self._weights


class _Run(Trace):
    """A trace with its x, of which it is said whether it has a gradient."""

    def __init__(self, plan: Plan, tokens: int, readers: _Readers, *, trained: bool = True) -> None:
        super().__init__()
        self.times = 0
        network, frozen = plan.network, plan.problem.frozen
        self.cores = {
            name: self.array(core_shape(core, plan.sizes), trained=name not in frozen)
            for name, core in network.cores.items()
        }
        self.times = readers.count()
        self.x = self.array([tokens, entries(network.input, plan.sizes)], trained=trained)
        self.times = 1


def _trace(plan: Plan, tokens: int, readers: _Readers) -> _Run:
    """Run the program once, with each array counted as often as there is another of it."""
    run = _Run(plan, tokens, readers)
    if plan.normal and plan.product is not None:
        _run_product(run, plan, plan.product, readers)
    else:
        _run_chains(run, plan, readers)
    return run


def _run_product(run: _Run, plan: Plan, product: Product, readers: _Readers) -> None:
    """As tenslora.nn.product does it: x A once for the sites that read one x."""
    a, b = _factors(run, plan, product, readers)
    run.times = readers.count(product.first_sites)
    thin = run.array([run.x.shape[0], product.rank], trained=True)
    run.keep(run.x, a)
    run.keep(thin, b)


def _factors(run: _Run, plan: Plan, product: Product, readers: _Readers) -> tuple[Traced, Traced]:
    a, b = run.program(plan.source("factors"))["factors"](run.cores, run.x)
    if product.first_sites and readers.count(product.first_sites) > readers.count():
        a = a.reshape(-1, a.shape[-1])  # the A of all sites that read one x, below each other
    return a, b


def _run_chains(run: _Run, plan: Plan, readers: _Readers) -> None:
    program = run.program(plan.source("apply"))
    tensors = iter(program["hoist"](run.cores, run.x))
    for c, chain in enumerate(plan.chains):
        h: Traced = run.x
        for s, stage in enumerate(chain.stages):
            tensor: Traced = next(tensors)
            run.times = readers.count(stage.varies)
            h = program[stage_name(c, s)](h, tensor.first() if stage.sites else tensor)
