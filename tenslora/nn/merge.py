"""Updates as matrices: one site's W, merging into the weights and taking it out again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tenslora.errors import AttachError
from tenslora.nn import install
from tenslora.nn.halves import Halves
from tenslora.nn.shards import is_sharded, reshard
from tenslora.nn.site import Site
from tenslora.nn.spans import spread, view
from tenslora.nn.starting import weight_of
from tenslora.nn.targets import Linear, find_linears
from tenslora.nn.wrappers import Runner, runner_of

if TYPE_CHECKING:
    from tenslora.nn.adapter import Adapter
    from tenslora.nn.bank import Bank

__all__ = ["ExactBank", "MergedWeight", "delta", "is_finite", "merge", "unmerge"]


@dataclass
class MergedWeight:
    """A weight that holds an update: its first value, and its version when it was merged.

    A copy of a model counts versions anew: there the version is not known, and not checked.
    """

    path: str
    original: Tensor
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


def merge(adapter: Adapter, *, safe: bool) -> None:
    """Compute every new weight, check it, and only then put all of them in place."""
    weights = _plain_weights(adapter)
    with torch.no_grad():
        made = dict(_merged_values(adapter, weights, safe=safe))
    merged = [MergedWeight(path, weights[path].data) for path in made]
    with ExitStack() as undo:
        undo.callback(_swap, weights, {item.path: item.original for item in merged})
        undo.callback(install.add_hooks, adapter)
        install.drop_hooks(adapter)
        _swap(weights, made)
        undo.pop_all()
    for item in merged:
        item.version = weights[item.path]._version
    adapter.merged_weights = merged
    adapter.registry.merge_order.append(adapter.name)


def unmerge(adapter: Adapter) -> None:
    """Put the first values back."""
    _check_on_top(adapter)
    weights = {}
    for item in adapter.merged_weights:
        weight = _weight(adapter.model.get_submodule(item.path))
        if weight is None or item.version not in (None, weight._version):
            what = f"the weight of {item.path} was changed since {adapter.name!r} was merged"
            advice = "Undo that change first, or keep everything: detach(keep=True)."
            raise AttachError("E511", what, advice=advice)
        weights[item.path] = weight
    merged = {path: weight.data for path, weight in weights.items()}
    first = {m.path: m.original.to(merged[m.path]) for m in adapter.merged_weights}
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


def _merged_values(
    adapter: Adapter, weights: dict[str, nn.Parameter], *, safe: bool
) -> Iterator[tuple[str, Tensor]]:
    values: dict[str, Tensor] = {}
    for bank in adapter.banks.values():
        runner = runner_of(bank)
        exact = ExactBank(bank, weights[bank.sites[0].path].device)
        for number, site in enumerate(bank.sites):
            if safe and not exact.is_finite(number):
                what = f"the update of {site} is not finite"
                advice = "Training diverged; merge(safe=False) merges it all the same."
                raise AttachError("E512", what, advice=advice)
            weight = weights[site.path]
            value = values.get(site.path)
            if value is None:
                value = values[site.path] = weight.detach().clone()
            if runner is None:
                exact.add_to(value, number)
            else:
                _put_wrapped(exact, runner, value, number)
    for path, value in values.items():
        if safe and not is_finite(value) and is_finite(weights[path]):
            what = f"the merged weight of {path} is not finite in {value.dtype}"
            raise AttachError("E512", what, advice="Merge into a model of a wider dtype.")
    yield from values.items()


def _put_wrapped(exact: ExactBank, runner: Runner, value: Tensor, number: int) -> None:
    """Write the rows and columns of a weight that a wrapper makes of it, rounding once."""
    update = exact.update(number)
    place = _place(value, exact.bank.sites[number])
    with _no_autocast(value.device):
        weight = place.reshape(update.shape).to(update)
        made = runner.new_weight(exact.bank, number, weight, update)
    place.copy_(made.reshape(place.shape))


def _place(value: Tensor, site: Site) -> Tensor:
    matrix = value.mT if site.transposed else value
    return view(view(matrix, 1, site.columns), 0, site.rows)


class ExactBank:
    """A bank whose updates are computed for merging: in float64 where the device has it."""

    def __init__(self, bank: Bank, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.bank, self._like = bank, torch.empty(0, dtype=dtype, device=device)
        with _no_autocast(device):
            cores = {name: core.detach().to(self._like) for name, core in bank.cores().items()}
            self._hoisted = bank.hoist(cores)

    def update(self, number: int) -> Tensor:
        """Return scale * W (out, in) of one site."""
        with _no_autocast(self._like.device):
            return self.bank.bound.scale * self.bank.dense(number, self._hoisted, self._like)

    def is_finite(self, number: int) -> bool:
        """Whether the update of one site is finite: it is where both of its matrices are."""
        if isinstance(self._hoisted, Halves):
            return all(is_finite(half) for half in self._hoisted.of(number))
        return is_finite(self.update(number))

    def add_to(self, value: Tensor, number: int) -> None:
        """Add scale * W to the rows and columns of a weight that a site covers, rounding once.

        A whole matrix is done some rows at a time, in one buffer that stays in the cache.
        """
        site = self.bank.sites[number]
        if not isinstance(self._hoisted, Halves) or site.rows or site.columns:
            add_to(value, site, self.update(number))
            return
        a, b = (half.to(value.device) for half in self._hoisted.of(number))
        matrix = value.mT if site.transposed else value
        a, b = a[:, : matrix.shape[1]], b[:, : matrix.shape[0]]
        rows, width = matrix.shape
        buffer = torch.empty(min(_ROWS, rows), width, dtype=b.dtype, device=b.device)
        with _no_autocast(value.device):
            for start in range(0, rows, _ROWS):
                place = matrix[start : start + _ROWS]
                wide = buffer[: len(place)].copy_(place)
                wide.addmm_(b[:, start : start + _ROWS].mT, a, alpha=self.bank.bound.scale)
                place.copy_(wide)


#: So many rows of a weight are merged at a time.
_ROWS = 128


def is_finite(tensor: Tensor) -> bool:
    """Whether every number is, in one pass: a NaN is the least and the greatest of all."""
    if tensor.numel() == 0:
        return True
    least, greatest = torch.aminmax(tensor.detach())
    return bool(torch.isfinite(least) & torch.isfinite(greatest))


def add_to(value: Tensor, site: Site, update: Tensor) -> None:
    """Add an update to the rows and columns of a weight that a site covers, rounding once."""
    place = _place(value, site)
    update = update.reshape(place.shape)
    place.copy_(place.to(update.dtype) + update)


@contextmanager
def _no_autocast(device: torch.device) -> Iterator[None]:
    with torch.autocast(device.type, enabled=False):
        yield
