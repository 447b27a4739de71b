"""Which adapters run in a forward of a model, and the hooks that open and close its context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from tenslora.nn.context import OVERRIDES, Contexts
from tenslora.nn.hooks import ForwardEnd, ForwardStart, remove_hooks

if TYPE_CHECKING:
    from tenslora.nn.bank import Bank

__all__ = ["Switch"]


class Switch:
    """What the adapters of one model share while it runs.

    Attributes
    ----------
    contexts : of the forwards that are under way.
    default_active : the adapters that are active where no context manager says otherwise.
    """

    def __init__(self) -> None:
        self.contexts = Contexts()
        self.default_active: frozenset[str] = frozenset()
        self._start, self._end = ForwardStart(self), ForwardEnd(self)

    def active_names(self) -> frozenset[str]:
        """The adapters that are active in this thread or task."""
        if OVERRIDES.now is OVERRIDES:  # no context manager says anything
            return self.default_active
        return OVERRIDES.names(self, self.default_active)

    def banks(self) -> Mapping[str, Iterable[Bank]]:
        """The banks of every adapter that can be active."""
        raise NotImplementedError

    def install(self, root: nn.Module) -> None:
        """Open and close a context around each forward of the model."""
        root.register_forward_pre_hook(self._start)
        root.register_forward_hook(self._end, always_call=True)

    def uninstall(self, root: nn.Module) -> None:
        """Undo :meth:`install`."""
        remove_hooks(root, [self._start, self._end])

    @contextmanager
    def override(self, names: Iterable[str]) -> Iterator[None]:
        """Make exactly these adapters active inside a ``with`` block, in this thread or task."""
        with OVERRIDES.override(self, names):
            yield
