"""What stands at ``root.tenslora``: the banks of every adapter, and the state that they share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

from tenslora.errors import AttachError
from tenslora.nn.switch import Switch

if TYPE_CHECKING:
    from tenslora.nn.adapter import Adapter
    from tenslora.nn.bank import Bank

__all__ = [
    "ATTRIBUTE",
    "Registry",
    "active",
    "adapters",
    "check_name",
    "check_nesting",
    "registry_of",
]

#: The attribute of the root model that holds everything.
ATTRIBUTE = "tenslora"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


class Registry(nn.ModuleDict, Switch):
    """``root.tenslora[adapter][group]`` is a :class:`~tenslora.nn.bank.Bank`.

    Beside the banks of the adapters that are not merged it keeps the adapters, which of them are
    active, which are merged (in order), and what ``requires_grad`` was before the first came.
    """

    def __init__(self) -> None:
        super().__init__()
        Switch.__init__(self)
        self._entries: dict[str, Adapter] = {}
        self.required_grad: dict[str, bool] = {}
        self.merge_order: list[str] = []

    def forward(self, x: Any) -> Any:
        """Return ``x``: a root that calls each child, as ``nn.Sequential`` does, calls this too."""
        return x

    @property
    def entries(self) -> dict[str, Adapter]:
        """The adapters by name, in the order in which they were attached."""
        return self._entries

    def set_active(self, names: Iterable[str]) -> None:
        """Make exactly these adapters active, for every thread that does not say otherwise."""
        self.default_active = frozenset(names)

    def banks(self) -> Mapping[str, Iterable[Bank]]:
        """The banks of every adapter that is not merged."""
        return {name: group.values() for name, group in self.items()}  # type: ignore[operator]

    def install(self, root: nn.Module) -> None:
        """Stand at ``root.tenslora``, with the hooks that open and close a forward's context."""
        root.add_module(ATTRIBUTE, self)
        super().install(root)

    def uninstall(self, root: nn.Module) -> None:
        """Undo :meth:`install`."""
        super().uninstall(root)
        root._modules.pop(ATTRIBUTE, None)


def registry_of(model: nn.Module) -> Registry | None:
    """The registry of a model that has adapters.

    Raises
    ------
    AttachError
        E509 where the model's attribute ``tenslora`` is something else.
    """
    found: Any = getattr(model, ATTRIBUTE, None)
    if found is None or isinstance(found, Registry):
        return found
    what = f"{type(model).__name__} has an attribute {ATTRIBUTE!r} of its own"
    raise AttachError("E509", what, advice="Rename it: the banks of adapters stand there.")


def check_nesting(model: nn.Module) -> None:
    """Refuse a model that holds, somewhere inside, a module with adapters of its own (E509)."""
    for path, module in model.named_modules():
        if isinstance(module, Registry) and path != ATTRIBUTE:
            inner = path.rpartition(".")[0]
            what = f"{inner} has adapters of its own: {', '.join(module.entries)}"
            advice = f"Detach them, or attach to model.{inner} again."
            raise AttachError("E509", what, advice=advice)


def adapters(model: nn.Module) -> dict[str, Adapter]:
    """Return the adapters that are attached to ``model``, by name.

    >>> import torch
    >>> adapters(torch.nn.Linear(2, 2))
    {}
    """
    registry = registry_of(model)
    return {} if registry is None else dict(registry.entries)


@contextmanager
def active(model: nn.Module, names: str | Sequence[str]) -> Iterator[None]:
    """Make exactly the adapters ``names`` active inside a ``with`` block.

    Only the thread or asyncio task that runs the block sees it. An empty list switches every
    adapter off. A merged adapter is part of the weights and cannot be switched.

    Raises
    ------
    AttachError
        E508 for a name that the model has no adapter of.

    Examples
    --------
    >>> import torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 4))
    >>> equation = "W[out in] = B[out r] A[r in]"
    >>> adapter = tl.attach(model, equation, targets="all-linear", ranks=2, name="mine")
    >>> with tl.active(model, []):
    ...     adapter.active
    False
    >>> adapter.active
    True
    """
    registry = registry_of(model)
    wanted = [names] if isinstance(names, str) else list(names)
    known = {} if registry is None else registry.entries
    for name in wanted:
        if name not in known:
            what = f"{type(model).__name__} has no adapter {name!r}"
            raise AttachError("E508", what, advice=f"It has: {', '.join(known) or 'none'}.")
    if registry is None:
        yield
        return
    for name in registry.merge_order:
        if name not in wanted:
            what = f"adapter {name!r} is merged: it is part of the weights"
            raise AttachError("E511", what, advice="Unmerge it to switch it off.")
    with registry.override(wanted):
        yield


def check_name(name: object, registry: Registry | None) -> str:
    """Return ``name`` as the name of a new adapter, or raise E508."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or hasattr(nn.ModuleDict, name):
        what = f"{name!r} cannot be the name of an adapter"
        advice = "Use up to 64 letters, digits, '_' and '-', and no name of a method of ModuleDict."
        raise AttachError("E508", what, advice=advice)
    if registry is not None and name in registry.entries:
        what = f"the model has an adapter {name!r} already"
        raise AttachError("E508", what, advice="Detach it, or give another name=...")
    return name
