"""Updates as matrices: one site's W, merging into the weights and taking it out again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tenslora.errors import AttachError
from tenslora.nn import install
from tenslora.nn.exact import ExactBank, Piece, cannot_overflow, merged_weight
from tenslora.nn.finite import is_finite
from tenslora.nn.pages import empty_like
from tenslora.nn.shards import is_sharded, reshard
from tenslora.nn.site import Site
from tenslora.nn.spans import spread
from tenslora.nn.starting import weight_of
from tenslora.nn.targets import Linear, find_linears
from tenslora.nn.wrappers import runner_of

if TYPE_CHECKING:
    from tenslora.nn.adapter import Adapter

__all__ = ["MergedWeight", "delta", "merge", "unmerge"]


@dataclass
class MergedWeight:
    """A weight that holds an update: its first value if it was kept, and its version when merged.

    A copy of a model counts versions anew: there the version is not known, and not checked.
    """

    path: str
    original: Tensor | None
    version: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return MergedWeight, (self.path, self.original)


def delta(adapter: Adapter, where: str | Site) -> Tensor:
    """See :meth:`tenslora.nn.adapter.Adapter.delta`."""
    pieces = [
        (bank, number, site)
        for bank in adapter.banks.values()
        for number, site in enumerate(bank.sites)
        if where in (site, site.path)
    ]
    if not pieces:
        paths = list(dict.fromkeys(site.path for site in adapter.sites))
        what = f"adapter {adapter.name!r} does not cover {where}"
        raise AttachError("E501", what, advice=f"It covers {paths[0]} ... {paths[-1]}.")
    hoisted = {bank: bank.hoist() for bank in dict.fromkeys(bank for bank, _, _ in pieces)}
    found = []
    for bank, number, site in pieces:
        like = next(iter(bank.cores().values()))
        update = bank.bound.scale * bank.dense(number, hoisted[bank], like)
        runner = runner_of(bank)
        if runner is not None:
            weight = weight_of(adapter.model, site).to(update)
            update = runner.new_weight(bank, number, weight, update) - weight
        if isinstance(where, Site) or (site.rows is None and site.columns is None):
            return update
        found.append((site, update))
    linear = find_linears(adapter.model)[pieces[0][2].path]
    return _whole(linear, found)


def _whole(linear: Linear, found: Iterable[tuple[Site, Tensor]]) -> Tensor:
    """Put the updates of all sites of a module into one matrix (out, in), zero elsewhere."""
    parts = [
        (site.rows, spread(linear.in_features, [(site.columns, update)]).mT)
        for site, update in found
    ]
    return spread(linear.out_features, parts).mT


def merge(adapter: Adapter, *, safe: bool, reversible: bool) -> None:
    """Compute every new weight, check it, and only then put all of them in place.

    The tensors of before stay as they are, and are kept for :func:`unmerge` if it is reversible.
    """
    weights = _plain_weights(adapter)
    with torch.no_grad():
        pieces = _pieces(adapter, weights)
        if not reversible:
            _merge_for_good(adapter, weights, pieces, safe=safe)
            return
        empty = empty_like(list(weights.values()))
        made = {
            path: _checked(weight, pieces[path], next(empty), safe=safe)
            for path, weight in weights.items()
        }
    first = {path: weight.data for path, weight in weights.items()}
    with ExitStack() as undo:
        undo.callback(_swap, weights, first)
        undo.callback(install.add_hooks, adapter)
        install.drop_hooks(adapter)
        _swap(weights, made)
        undo.pop_all()
    _record(adapter, weights, first)


def _merge_for_good(
    adapter: Adapter,
    weights: Mapping[str, nn.Parameter],
    pieces: Mapping[str, Sequence[Piece]],
    *,
    safe: bool,
) -> None:
    """Make the new weights one by one, the largest first, and let go of each old one.

    What the updates do not show is tried before. Once the first new weight is made there is no way
    back: an interruption is raised when all are done.
    """
    for path, weight in weights.items() if safe else ():
        _check_updates(pieces[path])
        if not cannot_overflow(pieces[path], weight.dtype):
            _checked(weight, pieces[path], torch.empty_like(weight), safe=True)
    left, made = sorted(weights, key=lambda path: weights[path].nbytes), dict[str, Tensor]()

    def make() -> None:
        path = left[-1]
        if path not in made:
            made.clear()
            (empty,) = empty_like([weights[path]])
            made[path] = merged_weight(weights[path], pieces[path], empty)

    def put() -> None:
        while left:
            make()
            weights[left[-1]].data = made[left[-1]]
            left.pop()

    make()
    with ExitStack() as end:
        end.callback(_record, adapter, weights, {})
        end.callback(install.drop_hooks, adapter)
        end.callback(put)
        put()


def _record(
    adapter: Adapter, weights: Mapping[str, nn.Parameter], first: Mapping[str, Tensor]
) -> None:
    adapter.merged_weights = [
        MergedWeight(path, first.get(path), weight._version) for path, weight in weights.items()
    ]
    adapter.registry.merge_order.append(adapter.name)


def _pieces(adapter: Adapter, weights: Mapping[str, nn.Parameter]) -> dict[str, list[Piece]]:
    """The sites of each weight."""
    found: dict[str, list[Piece]] = {path: [] for path in weights}
    for bank in adapter.banks.values():
        exact = ExactBank(bank, weights[bank.sites[0].path].device)
        for number, site in enumerate(bank.sites):
            found[site.path].append((exact, number))
    return found


def _checked(weight: Tensor, pieces: Sequence[Piece], value: Tensor, *, safe: bool) -> Tensor:
    """Write the weight with its updates to ``value``; ``safe`` wants both finite."""
    if safe:
        _check_updates(pieces)
    merged_weight(weight, pieces, value)
    sure = not safe or cannot_overflow(pieces, value.dtype)
    if not sure and not is_finite(value) and is_finite(weight):
        exact, number = pieces[0]
        path = exact.bank.sites[number].path
        what = f"the merged weight of {path} is not finite in {value.dtype}"
        raise AttachError("E512", what, advice="Merge into a model of a wider dtype.")
    return value


def _check_updates(pieces: Iterable[Piece]) -> None:
    for exact, number in pieces:
        if not math.isfinite(exact.greatest(number)):
            what = f"the update of {exact.bank.sites[number]} is not finite"
            advice = "Training diverged; merge(safe=False) merges it all the same."
            raise AttachError("E512", what, advice=advice)


def unmerge(adapter: Adapter) -> None:
    """Put the first values back."""
    _check_on_top(adapter)
    weights, first = {}, {}
    for item in adapter.merged_weights:
        if item.original is None:
            what = f"adapter {adapter.name!r} was merged without keeping the weights of before"
            advice = "detach(keep=True) leaves them merged; load the base anew to have them back."
            raise AttachError("E511", what, advice=advice)
        weight = _weight(adapter.model.get_submodule(item.path))
        if weight is None or item.version not in (None, weight._version):
            what = f"the weight of {item.path} was changed since {adapter.name!r} was merged"
            advice = "Undo that change first, or keep everything: detach(keep=True)."
            raise AttachError("E511", what, advice=advice)
        weights[item.path], first[item.path] = weight, item.original.to(weight.data)
    merged = {path: weight.data for path, weight in weights.items()}
    adapter.module.to(next(iter(weights.values())).device)
    with ExitStack() as undo:
        undo.callback(_swap, weights, merged)
        undo.callback(install.drop_hooks, adapter)
        _swap(weights, first)
        install.add_hooks(adapter)
        undo.pop_all()
    adapter.merged_weights = []
    adapter.registry.merge_order.remove(adapter.name)


def _swap(weights: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for path, value in values.items():
        weights[path].data = value


def _check_on_top(adapter: Adapter) -> None:
    mine = {m.path for m in adapter.merged_weights}
    order = adapter.registry.merge_order
    for name in order[order.index(adapter.name) + 1 :]:
        other = adapter.registry.entries[name]
        shared = [m.path for m in other.merged_weights if m.path in mine]
        if shared:
            what = f"adapter {name!r} was merged after {adapter.name!r}, into {shared[0]} too"
            raise AttachError("E511", what, advice=f"Unmerge {name!r} first.")


def _weight(module: nn.Module) -> nn.Parameter | None:
    return module._parameters.get("weight")


def _plain_weights(adapter: Adapter) -> dict[str, nn.Parameter]:
    """The weights of the targets, each a matrix that nothing else uses."""
    model = adapter.model
    reshard(model)  # a weight that was gathered for a forward is in parts too
    linears = find_linears(model)
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(_storage(parameter), []).append(name)
    weights = {}
    for path in dict.fromkeys(site.path for site in adapter.sites):
        linear, weight = linears[path], _weight(linears[path].module)
        shape = (linear.out_features, linear.in_features)
        shape = shape[::-1] if linear.transposed else shape
        if weight is None or not weight.is_floating_point() or tuple(weight.shape) != shape:
            what = f"the weight of {path} is not a plain floating-point matrix of shape {shape}"
            raise AttachError("E513", what, advice="Leave the adapter unmerged.")
        if weight.is_meta:
            what = f"the weight of {path} is on the meta device: it has no values"
            raise AttachError("E513", what, advice="Load the model's weights first.")
        if is_sharded(weight):
            what = f"the weight of {path} lies in parts on several processes"
            advice = "Save the adapter, and merge it into the model in one process."
            raise AttachError("E513", what, advice=advice)
        others = [name for name in owners[_storage(weight)] if name != f"{path}.weight"]
        if others:
            what = f"the weight of {path} is also {others[0]}: merging would change both"
            raise AttachError("E513", what, advice="Leave the adapter unmerged, or untie them.")
        weights[path] = weight
    return weights


def _storage(tensor: Tensor) -> int:
    pointer = 0 if tensor.is_meta or is_sharded(tensor) else tensor.untyped_storage().data_ptr()
    return pointer or id(tensor)
