"""From the arguments of ``attach`` to a checked design: sites, sizes and ranks of each bank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from tenslora.errors import AttachError, SizeError
from tenslora.family import Bound, Family, Wrapped, Wrapper
from tenslora.nn.grid import Grid, group_by_shape, make_grid
from tenslora.nn.registry import Registry
from tenslora.nn.site import Site
from tenslora.nn.sites import find_sites, resolve_sites
from tenslora.nn.sizes import check_heads, check_prefixes, complete, largest

__all__ = [
    "Budget",
    "Design",
    "Group",
    "check_planning",
    "choose_sites",
    "make_groups",
    "trained_modules",
]


@dataclass(frozen=True)
class Group:
    """The sites of one shape, placed in a grid, with every size known."""

    name: str
    sites: tuple[Site, ...]
    grid: Grid
    bound: Bound


@dataclass(frozen=True)
class Budget:
    """How the ranks are chosen; see :meth:`tenslora.family.Family.bind`."""

    ranks: int | Mapping[str, int] | None = None
    like: Family | None = None
    params: int | None = None
    alpha: float | None = None


@dataclass(frozen=True)
class Design:
    """Everything about an adapter but its numbers; nothing of the model was changed for it."""

    family: Family
    groups: tuple[Group, ...]
    dropout: float
    train: tuple[str, ...]
    wrapper: Wrapper | None = None

    @property
    def label(self) -> str:
        """What the family, in its wrapper, is called."""
        label = self.family.label
        return label if self.wrapper is None else f"{self.wrapper}({label})"

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites of every group."""
        return tuple(site for group in self.groups for site in group.sites)

    def key(self, group: Group) -> str:
        """What tells the draws of one group from another's; empty where there is one group."""
        return group.name if len(self.groups) > 1 else ""

    def own(self, group: Group) -> dict[str, tuple[int, ...]]:
        """The shapes of what the wrapper has of its own in one group."""
        if self.wrapper is None:
            return {}
        bound = group.bound
        return self.wrapper.own(bound.network, bound.sizes, len(group.sites))

    def shapes(self, group: Group) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor of one group."""
        return {**group.bound.shapes, **self.own(group)}


def choose_sites(
    model: nn.Module,
    targets: str | Sequence[str] | None,
    layers: int | Iterable[int] | None,
    sites: Iterable[Site] | None,
    *,
    block: int | None = None,
    modes: Sequence[str] = (),
) -> tuple[Site, ...]:
    """Find the sites by ``targets``, or check the ones that were written by hand.

    Raises
    ------
    AttachError
        E501, E502, E503 as :func:`~tenslora.nn.sites.find_sites` says.
    """
    if (targets is None) == (sites is None):
        kind = "neither targets nor sites is" if targets is None else "targets and sites are both"
        advice = 'Write targets=["query", "value"], or sites=[Site(...), ...].'
        raise AttachError("E503", f"{kind} given", advice=advice)
    for word, given in (("layers", layers), ("block", block)):
        if sites is not None and given is not None:
            what = f"{word} goes with targets"
            raise AttachError("E503", what, advice=f"Leave out sites or {word}.")
    if sites is not None:
        found = resolve_sites(model, sites)
    else:
        assert targets is not None  # narrows the type; checked above
        found = find_sites(model, targets, layers, block=block, modes=modes)
    owners: dict[int, str] = {}
    for path in dict.fromkeys(site.path for site in found):
        module = model.get_submodule(path)
        other = owners.setdefault(id(module), path)
        if other != path:
            what = f"{other} and {path} are one module under two names"
            raise AttachError("E502", what, advice="Target it under one of them.")
    return found


def make_groups(
    model: nn.Module,
    family: Family,
    sites: Sequence[Site],
    *,
    sizes: Mapping[str, int],
    budget: Budget,
    ragged: str,
    wrapper: Wrapper | None = None,
) -> tuple[Group, ...]:
    """Bind the family once for each shape.

    ``budget.params`` is the number for the whole adapter: each group has its share by the number of
    its sites times (in + out).

    Raises
    ------
    AttachError, SizeError
        As :mod:`tenslora.nn.grid`, :mod:`tenslora.nn.sizes` and ``bind`` say, with the group named.
    """
    by_shape = group_by_shape(sites, ragged)
    several = len(by_shape) > 1
    params = _share(by_shape, budget.params)
    groups = []
    for name, members in by_shape.items():
        over = "" if wrapper is None else wrapper.over
        grid = make_grid(family.network, members, name if several else "", over=over)
        known = complete(model, family.network, largest(members), grid, sizes)
        check_prefixes(family.network, known, members)
        if not set(sizes) & {family.network.output[0], family.network.input[0]}:
            check_heads(model, family.network, known, members)
        try:
            bound = _bind(family, wrapper, known, budget, params[name], len(members))
        except SizeError as error:
            error.what += f" (for {members[0]}{f', shape {name}' if several else ''})"
            raise
        groups.append(Group(name, members, grid, bound))
    return tuple(groups)


def _bind(
    family: Family,
    wrapper: Wrapper | None,
    sizes: Mapping[str, int],
    budget: Budget,
    params: int | None,
    weights: int,
) -> Bound:
    ranks, like, alpha = budget.ranks, budget.like, budget.alpha
    if wrapper is None:
        return family.bind(sizes, ranks=ranks, like=like, params=params, alpha=alpha)
    wrapped = Wrapped(wrapper, family)
    return wrapped.bind(
        sizes, ranks=ranks, like=like, params=params, alpha=alpha, weights=weights
    ).bound


def _share(groups: Mapping[str, Sequence[Site]], params: int | None) -> dict[str, int | None]:
    if params is None or len(groups) == 1 or not isinstance(params, int):
        return dict.fromkeys(groups, params)
    weights = {name: sum(sum(s.shape) for s in sites) for name, sites in groups.items()}
    shares: dict[str, int | None] = {}
    total, used, seen = sum(weights.values()), 0, 0
    for name, weight in weights.items():
        seen += weight
        shares[name] = params * seen // total - used
        used = params * seen // total
    return shares


def check_dropout(family: Family, dropout: float | None) -> float:
    """The probability of dropping an input entry: the caller's, else the family's, else 0."""
    if dropout is None:
        return float(family.dropout.get("input", 0.0))
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        what = f"dropout={dropout!r} is no probability"
        raise AttachError("E515", what, advice="Give a number from 0 up to, but not, 1.")
    return float(dropout)


def check_planning(plan: Mapping[str, Any] | None) -> None:
    """Refuse options that the planner does not have; which sites share x, the model tells."""
    known = ("memory_limit", "profile", "tokens")
    unknown = sorted(map(str, set(plan or ()) - set(known)))
    if unknown:
        what = f"plan names {', '.join(map(repr, unknown))}, no option of the planner"
        raise AttachError("E503", what, advice=f"The options are {', '.join(known)}.")


def trained_modules(
    model: nn.Module,
    train: str | Iterable[str],
    sites: Sequence[Site],
    registry: Registry | None,
) -> tuple[str, ...]:
    """Return the paths of the modules that stay trainable beside the adapter.

    A name is the ending of a path, as in ``targets``.

    Raises
    ------
    AttachError
        E514 for a name that matches nothing, a module without parameters, a module that holds a
        target or is trained by another adapter.
    """
    modules = dict(model.named_modules())
    found: list[str] = []
    for name in [train] if isinstance(train, str) else list(train):
        hits = [p for p in modules if p and (p == name or p.endswith(f".{name}"))]
        hits = [p for p in hits if next(modules[p].parameters(), None) is not None]
        if not hits:
            what = f"train names {name!r}, and no module of that name has parameters"
            tops = ", ".join(n for n, _ in model.named_children() if n != "tenslora")
            raise AttachError("E514", what, advice=f"Top-level modules: {tops}.")
        found.extend(hits)
    outer = [p for p in dict.fromkeys(found) if not any(_inside(p, q) for q in found if q != p)]
    taken = [p for e in (registry.entries.values() if registry else ()) for p in e.design.train]
    for path in outer:
        for site in sites:
            if _inside(site.path, path):
                what = f"{path} is to be trained whole, and {site} in it is a target"
                raise AttachError("E514", what, advice="Choose one of the two.")
        for other in taken:
            if _inside(path, other) or _inside(other, path):
                what = f"{path} is trained by another adapter already"
                raise AttachError("E514", what, advice="Leave it out of train here.")
    return tuple(outer)


def _inside(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}.")
