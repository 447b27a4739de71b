"""Shape groups, and where each site stands in the site indices of an equation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenslora.errors import AttachError
from tenslora.nn.site import Label, Site
from tenslora.spec import Network

__all__ = ["Grid", "group_by_shape", "input_key", "make_grid", "reads_one_input"]

_RAGGED = ("group", "error", "prefix")

#: Names of projections that read the same input, whatever they are called.
_PARALLEL = (
    {"q", "k", "v", "query", "key", "value", "q_proj", "k_proj", "v_proj", "q_lin", "k_lin"}
    | {"v_lin", "query_proj", "key_proj", "value_proj", "to_q", "to_k", "to_v"},
    {"gate_proj", "up_proj", "w1", "w3", "wi_0", "wi_1"},
)

#: Modules whose keys and values read what another part of the model gave, and their queries.
_CROSS = {"EncDecAttention", "encoder_attn", "crossattention", "cross_attention", "cross_attn"}
_CROSS |= {"attn2"}
_QUERIES = {"q", "query", "q_proj", "q_lin", "query_proj", "to_q"}


@dataclass(frozen=True)
class Grid:
    """The sites of one bank in the site indices of an equation.

    ``labels`` holds the label of each position of each site index; ``positions`` the place of each
    site (equal places share one matrix).
    """

    labels: Mapping[str, tuple[Label, ...]]
    positions: tuple[Mapping[str, int], ...]

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each site index."""
        return {name: len(labels) for name, labels in self.labels.items()}

    def beside(self, name: str, size: int) -> Grid:
        """The grid in which each site stands ``size`` times, along one more site index."""
        positions = tuple({**place, name: n} for place in self.positions for n in range(size))
        return Grid({**self.labels, name: tuple(range(size))}, positions)


def group_by_shape(sites: Sequence[Site], ragged: str) -> dict[str, tuple[Site, ...]]:
    """Put sites of one shape together, under names such as ``"576x192"`` (out x in).

    Under ``"prefix"`` all sites are together, under the largest numbers of features: a smaller one
    has the leading rows and columns of its matrix.

    Raises
    ------
    AttachError
        E507 for several shapes under ``ragged="error"``, and for an unknown policy.
    """
    if ragged not in _RAGGED:
        what = f"ragged={ragged!r} is no policy for sites of several shapes"
        raise AttachError("E507", what, advice=f"Policies: {', '.join(_RAGGED)}.")
    groups: dict[str, list[Site]] = {}
    for site in sites:
        groups.setdefault(f"{site.out_features}x{site.in_features}", []).append(site)
    if len(groups) > 1 and ragged == "error":
        listed = ", ".join(f"{name} ({members[0]}, ...)" for name, members in groups.items())
        what = f"the targets have {len(groups)} shapes: {listed}"
        advice = 'Choose targets of one shape, ragged="group" for a bank for each shape, or '
        advice += 'ragged="prefix" for leading rows of one.'
        raise AttachError("E507", what, advice=advice)
    if len(groups) > 1 and ragged == "prefix":
        out, width = (max(site.shape[n] for site in sites) for n in (0, 1))
        return {f"{out}x{width}": tuple(sites)}
    return {name: tuple(members) for name, members in groups.items()}


def make_grid(network: Network, sites: Sequence[Site], group: str = "", *, over: str = "") -> Grid:
    """Place ``sites`` in the site indices of ``network``, but for the one that a router is over.

    The index ``site`` counts all sites, unless the sites have a coordinate of that name. An index
    that the equation does not have is one over which the matrices are tied.

    Raises
    ------
    AttachError
        E504 for a site index that the sites have no coordinate for, E505 where a combination of
        coordinates has no site.
    """
    names = tuple(name for name in network.sites if name != over)
    rows = [_row(names, site, n) for n, site in enumerate(sites)]
    labels = {name: tuple(dict.fromkeys(row[name] for row in rows)) for name in names}
    there = {tuple(row.values()) for row in rows}
    for wanted in itertools.product(*labels.values()):
        if wanted not in there:
            raise _incomplete(names, dict(zip(labels, wanted, strict=True)), labels, group)
    places = {name: {label: n for n, label in enumerate(found)} for name, found in labels.items()}
    positions = tuple({name: places[name][label] for name, label in row.items()} for row in rows)
    return Grid(labels, positions)


def _row(wanted: Sequence[str], site: Site, number: int) -> dict[str, Label]:
    known: dict[str, Label] = {"site": number, **dict(site.coords)}
    for name in wanted:
        if name not in known:
            what = f"the site index {name!r} of the equation has no value for {site}"
            names = ", ".join(known)
            advice = f"Read from names: {names}. Say the rest with sites=[Site(path, coords), ...]."
            if name == "layer":
                advice = "Its path holds no number. " + advice
            raise AttachError("E504", what, advice=advice)
    return {name: known[name] for name in wanted}


def _incomplete(
    names: Sequence[str],
    wanted: Mapping[str, Label],
    labels: Mapping[str, Sequence[Label]],
    group: str,
) -> AttachError:
    combination = ", ".join(f"{name}={label}" for name, label in wanted.items())
    sizes = " x ".join(f"{name} {len(found)}" for name, found in labels.items())
    where = f" of shape {group}" if group else ""
    what = f"the sites{where} do not fill the grid {sizes}: there is no {combination}"
    advice = "Choose targets that every layer has, limit them with layers=..., or index them by "
    advice += f"one index 'site' instead of {', '.join(names)}."
    return AttachError("E505", what, advice=advice)


def reads_one_input(labels: Sequence[Label]) -> bool:
    """Whether projections of these names read one input (query, key and value do).

    A hint for the planner: what is shared at run time is found from the tensors themselves.

    >>> reads_one_input(["q_proj", "v_proj"]), reads_one_input(["query", "attention.output.dense"])
    (True, False)
    """
    last = {str(label).rpartition(".")[2] for label in labels}
    return any(last <= names for names in _PARALLEL)


def input_key(site: Site) -> tuple[object, ...]:
    """Equal for sites that read one input as far as their names tell.

    As in :func:`reads_one_input` this is a hint: which tensor they read is looked at in each call.

    >>> input_key(Site("h.0.attn.q_proj")) == input_key(Site("h.0.attn.k_proj"))
    True
    >>> input_key(Site("h.0.attn.q_proj")) == input_key(Site("h.1.attn.k_proj"))
    False
    >>> input_key(Site("h.0.encoder_attn.q_proj")) == input_key(Site("h.0.encoder_attn.k_proj"))
    False
    """
    parent, _, last = site.path.rpartition(".")
    for number, names in enumerate(_PARALLEL):
        if last in names:
            asks = last in _QUERIES and not _CROSS.isdisjoint(parent.split("."))
            return parent, number, asks, site.columns
    return site.path, site.columns
