"""The layer that stands in the place of a target."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn

from tenslora.errors import AttachError
from tenslora.integrations.peft.place import Place
from tenslora.integrations.peft.shared import Shared
from tenslora.nn.bank import Bank
from tenslora.nn.exact import cannot_overflow, merged_weight
from tenslora.nn.finite import is_finite
from tenslora.nn.merge import MergedWeight
from tenslora.nn.wrappers import WrappedHook, not_alone

__all__ = ["TensLoraLinear"]

#: What stands for no adapter in ``adapter_names=``.
_BASE = "__base__"


class TensLoraLinear(nn.Module, BaseTunerLayer):
    """A linear layer with the adapters that cover it.

    Examples
    --------
    >>> import peft, torch, tenslora as tl
    >>> config = tl.TensLoraConfig(family="lora", ranks=2, target_modules=["0"])
    >>> model = peft.get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 6)), config)
    >>> layer = model.base_model.model[0]
    >>> type(layer).__name__, type(layer.base_layer).__name__, layer.active_adapters
    ('TensLoraLinear', 'Linear', ['default'])
    >>> layer(torch.ones(3, 8)).shape
    torch.Size([3, 6])
    """

    adapter_layer_names: tuple[str, ...] = ("tenslora_places",)
    other_param_names = ()

    def __init__(self, base_layer: nn.Module, shared: Shared) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.shared = shared
        self.tenslora_places = nn.ModuleDict()
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._before: list[MergedWeight] = []

    @property
    def in_features(self) -> int:
        """The input features of the base layer."""
        return _features(self.get_base_layer())[0]

    @property
    def out_features(self) -> int:
        """The output features of the base layer."""
        return _features(self.get_base_layer())[1]

    def update_layer(self, adapter_name: str, place: Place, inference_mode: bool = False) -> None:
        """Add an adapter."""
        self.tenslora_places[adapter_name] = place
        self.set_adapter(self.active_adapters, inference_mode=inference_mode)

    def take_in(self, adapter_name: str, bank: Bank) -> None:
        """Register a bank here, as PEFT's layers have their weights."""
        name = f"tenslora_{bank.group}"
        if name not in self._modules:
            self.add_module(name, nn.ModuleDict())
            self.adapter_layer_names = (*self.adapter_layer_names, name)
        self._modules[name][adapter_name] = bank  # type: ignore[index,operator]

    def put_out(self, adapter_name: str) -> None:
        """Undo `take_in` for every bank of an adapter."""
        for name in self.adapter_layer_names[1:]:
            held: Any = self._modules[name]
            if adapter_name in held:
                del held[adapter_name]

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """Make these adapters active; the banks that stand here are trained."""
        super().set_adapter(adapter_names, inference_mode=inference_mode)
        self.shared.heed(() if self.disable_adapters else self.active_adapters)

    def enable_adapters(self, enabled: bool) -> None:
        """Switch all adapters on or off."""
        super().enable_adapters(enabled)
        self.shared.heed(self.active_adapters if enabled else ())

    def delete_adapter(self, adapter_name: str) -> None:
        """Take an adapter off this layer; its banks go with the layer that they stand on.

        Raises
        ------
        AttachError
            E511 while it is merged, here or into another layer.
        """
        self.shared.check_unmerged(adapter_name)
        super().delete_adapter(adapter_name)
        if adapter_name not in self.shared.on_tuner:
            self.shared.drop(adapter_name)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the base layer's output with the updates of the active adapters."""
        names = kwargs.pop("adapter_names", None)
        x = args[0] if args else next(iter(kwargs.values()))
        if names is not None:
            self._check_mixed(x, names)
        if self.disable_adapters and self.merged:
            self.unmerge()
        if names is None and len(args) == 1 and not kwargs:
            done = self._at_once(x)
            if done is not None:
                return done
        result: Tensor = self.base_layer(*args, **kwargs)
        if self.merged:
            return result
        if names is not None and not self.disable_adapters:
            return self._mixed(x, result, names)
        active = () if self.disable_adapters else self.active_adapters
        if len(active) > 1:
            self._check_alone(active)
        layer, fresh = self.base_layer, True
        places: Any = self.tenslora_places
        for name, place in places.items():
            on = name in active
            result = place.add(x, result, layer, active=on, fresh=fresh)
            fresh = fresh and not on
        return result

    def _at_once(self, x: Any) -> Tensor | None:
        """The output, where this layer and the others of its group are run at once."""
        active = self.active_adapters
        places: Any = self.tenslora_places
        if self.disable_adapters or self.merged or len(active) != 1 or active[0] not in places:
            return None
        found: Tensor | None = places[active[0]].at_once(x, self.base_layer)
        return found

    def _check_alone(self, names: Iterable[str], what: str = "active") -> None:
        """Refuse what needs this layer to itself, beside another adapter.

        Raises
        ------
        AttachError
            E521.
        """
        places: Any = self.tenslora_places
        hooks = [places[name].hook for name in dict.fromkeys(names) if name in places]
        for hook in hooks if len(hooks) > 1 else ():
            if isinstance(hook, WrappedHook) and hook.runner.alone:
                other = next(other for other in hooks if other is not hook)
                raise not_alone(hook, other, what, f"Have one of them {what} at a time.")

    def _check_mixed(self, x: Tensor, names: Sequence[str]) -> None:
        advice = ""
        if len(x) != len(names):
            what = "Length of `adapter_names` should be the same as the number of inputs, but got "
            what += f"{len(names)} and {len(x)} respectively."
        elif self.merged:
            what = "Cannot pass `adapter_names` when there are merged adapters, please call "
            what += "`unmerge_adapter` first."
        else:
            return
        raise AttachError("E533", what, advice=advice)

    def _mixed(self, x: Tensor, result: Tensor, names: Sequence[str]) -> Tensor:
        for name in dict.fromkeys(names):
            if name == _BASE or name not in self.tenslora_places:
                continue
            rows = torch.tensor([n for n, other in enumerate(names) if other == name]).to(x.device)
            place: Any = self.tenslora_places[name]
            updated = place.add(x[rows], result[rows], self.base_layer, active=True, fresh=False)
            result = result.index_copy(0, rows, updated)
        return result

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return scale * W in the layout of the base weight and the dtype of the cores.

        In a wrapper it is what the weight becomes, less what it is without the adapter.

        Raises
        ------
        AttachError
            E520 for a router.
        """
        place: Any = self.tenslora_places[adapter]
        weight = self.get_base_weight()
        if place.wrapped is not None:
            with torch.no_grad():
                return self._change(adapter).to(place.hook.pieces[0][1].dtype)
        dtype = torch.float32 if weight.device.type == "mps" else torch.float64
        shape = (self.out_features, self.in_features)
        _, bank, number = place.hook.pieces[0]
        shape = shape[::-1] if bank.sites[number].transposed else shape
        with torch.no_grad():
            value = torch.zeros(shape, dtype=dtype, device=weight.device)
            for exact, n in place.exact(self.shared, weight.device):
                exact.add_to(value, n)
        return value.to(bank.dtype)

    def _change(self, adapter: str) -> Tensor:
        """What a wrapper changes in the weight that the layer has without any adapter."""
        place: Any = self.tenslora_places[adapter]
        weight = self._before[0].original if self._before else self.get_base_weight()
        assert weight is not None  # merge() kept it
        wide = weight.to(torch.float32 if weight.device.type == "mps" else torch.float64)
        return merged_weight(wide, place.exact(self.shared, weight.device)) - wide

    def check_mergeable(self, adapter_names: list[str] | None = None) -> None:
        """Refuse what the weight cannot hold, before it is changed.

        Raises
        ------
        AttachError
            E520 for a router, whose gate depends on the token; E521 for what needs the layer to
            itself beside another adapter, merged before or now.
        """
        names = self.active_adapters if adapter_names is None else adapter_names
        places: Any = self.tenslora_places
        for name in names:
            if name in places and places[name].wrapped is not None:
                places[name].wrapped.runner.check_mergeable(places[name].hook.banks[0])
        self._check_alone([*self.merged_adapters, *names], "merged")

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the updates to the weight. The weight of before is kept for :meth:`unmerge`.

        Raises
        ------
        AttachError
            E512 where ``safe_merge`` finds a merged weight that is not finite; E520 and E521 as
            :meth:`check_mergeable` says.
        """
        self.check_mergeable(adapter_names)
        for name in check_adapters_to_merge(self, adapter_names):
            if name not in self.tenslora_places:
                continue
            merged = self.merged_weight(name, safe=safe_merge)
            before = self.get_base_weight()
            self.set_base_weight(merged)
            self._before.append(MergedWeight(name, before, self.weight._version))
            self.merged_adapters.append(name)
            self.shared.merged.add((name, self._path(name)))

    def merged_weight(self, adapter: str, *, safe: bool) -> Tensor:
        """Return the weight with the update of an adapter, rounded once."""
        place: Any = self.tenslora_places[adapter]
        weight = self.get_base_weight()
        with torch.no_grad():
            if place.wrapped is not None and self.merged:  # it reads the weight without the others
                merged = (weight + self._change(adapter)).to(weight.dtype)
            else:
                merged = merged_weight(weight, place.exact(self.shared, weight.device))
        if safe and not is_finite(merged):
            what = "NaNs detected in the merged weights. "
            what += f"The adapter {adapter} seems to be broken: {place.hook.path}"
            advice = "Training diverged; merge without safe_merge merges it all the same."
            raise AttachError("E512", what, advice=advice)
        return merged

    def check_finite(self, adapter: str) -> None:
        """Refuse what :meth:`merged_weight` refuses; most often without the weight.

        Raises
        ------
        AttachError
            E512.
        """
        place: Any = self.tenslora_places[adapter]
        weight = self.get_base_weight()
        with torch.no_grad():
            pieces = place.exact(self.shared, weight.device)
            sure = cannot_overflow(pieces, weight.dtype) and is_finite(weight)
        if not sure:
            self.merged_weight(adapter, safe=True)

    def unmerge(self) -> None:
        """Put the weight of before back, bit for bit."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        weight = self.weight
        if self._before[-1].version not in (None, weight._version):
            what = "a weight was changed since an adapter was merged into it"
            raise AttachError("E511", what, advice="Undo that change first, or unload().")
        original = self._before[0].original
        assert original is not None  # merge() kept it
        self.set_base_weight(original.to(weight))
        self._before = []
        self.shared.merged -= {(name, self._path(name)) for name in self.merged_adapters}
        self.merged_adapters = []

    def _path(self, adapter: str) -> str:
        place: Any = self.tenslora_places[adapter]
        path: str = place.hook.path
        return path

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """Whether ``peft.convert_to_lora`` can read it: not in a wrapper, which is no sum."""
        places: Any = self.tenslora_places
        return adapter_name not in places or places[adapter_name].wrapped is None

    def __repr__(self) -> str:
        return f"tenslora.{super().__repr__()}"


def _features(layer: Any) -> tuple[int, int]:
    if hasattr(layer, "in_features"):
        return layer.in_features, layer.out_features
    width, out = layer.weight.shape  # transformers' Conv1D
    return width, out
