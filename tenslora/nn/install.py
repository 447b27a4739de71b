"""Putting an adapter on a model and taking it off: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from torch import Tensor, nn

from tenslora.errors import AttachError
from tenslora.nn.autograd import forget_graphs
from tenslora.nn.bank import Bank
from tenslora.nn.groups import find_members
from tenslora.nn.hooks import Piece, SiteHook, remove_hooks
from tenslora.nn.norms import norms_of
from tenslora.nn.registry import ATTRIBUTE, Registry
from tenslora.nn.shards import put, whole
from tenslora.nn.team import Team, join
from tenslora.nn.wrappers import hook_of

if TYPE_CHECKING:
    from tenslora.nn.adapter import Adapter
    from tenslora.nn.design import Design
    from tenslora.nn.reading import Group

__all__ = [
    "add_hooks",
    "attach",
    "base_parameters",
    "detach",
    "drop_hooks",
    "make_hooks",
    "renew",
    "set_trained",
    "trained_tensors",
]


def base_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of the model that belong to no adapter."""
    for name, parameter in model.named_parameters():
        if not name.startswith(f"{ATTRIBUTE}."):
            yield name, parameter


def trained_tensors(model: nn.Module, paths: Iterable[str]) -> dict[str, Tensor]:
    """The parameters and persistent buffers of whole modules, by full name."""
    return {
        f"{path}.{name}": tensor
        for path in paths
        for name, tensor in model.get_submodule(path).state_dict(keep_vars=True).items()
        if isinstance(tensor, Tensor)
    }


def set_trained(adapter: Adapter, values: Mapping[str, Tensor]) -> None:
    """Give the modules in ``train`` these values; ``grad`` of a parameter stays.

    Raises
    ------
    AttachError
        E514 where the modules were replaced by others meanwhile.
    """
    tensors = trained_tensors(adapter.model, adapter.design.train)
    for name, value in values.items():
        if name not in tensors or tensors[name].shape != value.shape:
            what = f"{name} was replaced while adapter {adapter.name!r} was attached"
            raise AttachError("E514", what, advice="Put it back, or detach(keep=True).")
    for name, value in values.items():
        put(tensors[name], value)


def attach(adapter: Adapter, trained: Mapping[str, Tensor] | None = None) -> None:
    """Change the model; on any exception put everything back.

    ``trained`` holds the values of the modules in ``train``, where they come from a file.
    """
    model, registry = adapter.model, adapter.registry
    first = not registry.entries
    tensors = trained_tensors(model, adapter.design.train)
    adapter.before_training = {name: whole(t).clone() for name, t in tensors.items()}
    before = {name: p.requires_grad for name, p in base_parameters(model)}
    active = registry.default_active
    with ExitStack() as undo:
        if first:
            undo.callback(registry.uninstall, model)
            registry.required_grad = before
            registry.install(model)
        undo.callback(_set_required_grad, model, before)
        undo.callback(registry.set_active, active)
        undo.callback(_forget, adapter)
        _enter(adapter)
        if trained:
            undo.callback(set_trained, adapter, adapter.before_training)
            set_trained(adapter, trained)
        _set_required_grad(model, _trainable(registry, model))
        registry.set_active([adapter.name])
        adapter.attached = True
        undo.pop_all()


def detach(adapter: Adapter, *, keep: bool) -> None:
    """Take the adapter off; ``keep`` leaves trained modules and merged weights alone."""
    model, registry = adapter.model, adapter.registry
    if not keep:
        set_trained(adapter, adapter.before_training)
        for tensor in trained_tensors(model, adapter.design.train).values():
            tensor.grad = None
    _forget(adapter)
    registry.set_active(registry.default_active - {adapter.name})
    if adapter.merged:
        registry.merge_order.remove(adapter.name)
    adapter.merged_weights = []
    adapter.before_training = {}
    adapter.attached = False
    if registry.entries:
        _set_required_grad(model, _trainable(registry, model))
    else:
        registry.uninstall(model)
        _set_required_grad(model, registry.required_grad)


def renew(adapter: Adapter, design: Design, banks: Mapping[str, Bank]) -> None:
    """Let an attached adapter stand on the model with other banks; on any exception as it stood."""
    before = adapter.design, adapter.banks, adapter.module, adapter.hooks
    with ExitStack() as undo:
        undo.callback(_stand, adapter, *before)
        hooks = make_hooks(adapter.registry, banks)
        _stand(adapter, design, dict(banks), nn.ModuleDict(banks), hooks)
        undo.pop_all()


def _stand(
    adapter: Adapter,
    design: Design,
    banks: dict[str, Bank],
    module: nn.ModuleDict,
    hooks: dict[str, SiteHook],
) -> None:
    drop_hooks(adapter)
    adapter.design, adapter.banks, adapter.module, adapter.hooks = design, banks, module, hooks
    add_hooks(adapter)


def _enter(adapter: Adapter) -> None:
    adapter.registry.entries[adapter.name] = adapter
    add_hooks(adapter)


def _forget(adapter: Adapter) -> None:
    drop_hooks(adapter)
    adapter.registry.entries.pop(adapter.name, None)


def add_hooks(adapter: Adapter) -> None:
    """Stand on the model: the bank under the root, one hook on each target module."""
    drop_hooks(adapter)
    model, registry = adapter.model, adapter.registry
    registry[adapter.name] = adapter.module.train(model.training)
    _reorder(registry)
    for path, hook in adapter.hooks.items():
        module = model.get_submodule(path)
        module.register_forward_hook(hook, with_kwargs=True)
        if hook.start is not None:
            hook.start.take(module)
            module.register_forward_pre_hook(hook.start)
    if any(bank.recompute for bank in adapter.banks.values()):
        for module in norms_of(model):
            module.register_forward_hook(adapter.norm_hook)
    forget_graphs(model, adapter.hooks)


def drop_hooks(adapter: Adapter) -> None:
    """Undo :func:`add_hooks`, as far as it came."""
    modules = dict(adapter.model.named_modules(remove_duplicate=False))
    paths = [path for path in adapter.hooks if path in modules]
    for path in paths:
        hook = adapter.hooks[path]
        remove_hooks(modules[path], [hook, hook.start])
        if hook.start is not None:
            hook.start.take(None)
    for module in norms_of(adapter.model):
        remove_hooks(module, [adapter.norm_hook])
    forget_graphs(adapter.model, paths)
    if adapter.name in adapter.registry:
        del adapter.registry[adapter.name]


def _reorder(registry: Registry) -> None:
    held = registry._modules
    for name in [name for name in registry.entries if name in held]:
        held[name] = held.pop(name)


def make_hooks(registry: Registry, banks: Mapping[str, Bank]) -> dict[str, SiteHook]:
    """Make the hook of each target module, by its path."""
    found: dict[str, list[Piece]] = {}
    for bank in banks.values():
        for number, site in enumerate(bank.weights):
            found.setdefault(site.path, []).append((site.rows, bank, number))
    for pieces in found.values():
        pieces.sort(key=lambda piece: piece[0] or ())
    members = find_members(banks.values())
    hooks = {p: hook_of(registry, p, pieces, members.get(p)) for p, pieces in found.items()}
    teams: dict[Group, Team] = {}
    for hook in hooks.values():
        join(teams, hook)
    return hooks


def _trainable(registry: Registry, model: nn.Module) -> dict[str, bool]:
    paths = [path for entry in registry.entries.values() for path in entry.design.train]
    held = {id(p) for path in paths for p in model.get_submodule(path).parameters()}
    return {
        name: id(parameter) in held and parameter.is_floating_point()
        for name, parameter in base_parameters(model)
    }


def _set_required_grad(model: nn.Module, wanted: Mapping[str, bool]) -> None:
    for name, parameter in base_parameters(model):
        flag = wanted.get(name, parameter.requires_grad)
        if parameter.requires_grad != flag:
            parameter.requires_grad_(flag)
