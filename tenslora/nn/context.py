"""What one forward of the root model knows: hoisted tensors, shared inputs, active adapters.

A forward of the root opens a context in its thread. Sites read the hoisted tensors from it, and
projections that read one input share the stages that are the same for all of them. Activation
checkpointing runs sites again in backward; they then have to find what they found in the forward:

- non-reentrant: the same hoisted tensors, so that the same tensors are saved. A context therefore
  stays as long as the graph of one of its segments does.
- reentrant (the segment's forward ran without gradients): the segment builds a graph of its own and
  runs it backward at once, so it must own its hoisted part, and makes it anew from the cores.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tenslora.errors import AttachError
from tenslora.nn.autograd import (
    autocast_state,
    graph_task,
    has_modes,
    in_checkpoint,
    is_quiet,
    moment_of,
    saved_tensor_frame,
)

if TYPE_CHECKING:
    from tenslora.nn.bank import Bank, Hoisted
    from tenslora.nn.norms import Normed
    from tenslora.nn.team import Outputs

__all__ = ["OVERRIDES", "Call", "Contexts", "ForwardContext", "Overrides", "SharedInput"]

#: Pairs of a registry and the adapters that a context manager has made active here.
_Pairs = tuple[tuple[object, frozenset[str]], ...]

_OVERRIDES: ContextVar[_Pairs] = ContextVar("tenslora_active")


class Overrides:
    """What context managers say in this thread or task about which adapters are active.

    ``now`` is the pairs, or this object where there are none. A compiled graph asks for it again
    in each call, as it may ask for attributes, but not for context variables.
    """

    now = property(_OVERRIDES.get)

    def names(self, registry: object, default: frozenset[str]) -> frozenset[str]:
        """The adapters that are active."""
        pairs = self.now
        if isinstance(pairs, tuple):
            for known, names in pairs:
                if known is registry:
                    return names
        return default

    @contextmanager
    def override(self, registry: object, names: Iterable[str]) -> Iterator[None]:
        """Make exactly these active inside a ``with`` block, in this thread or task."""
        others = (pair for pair in _OVERRIDES.get(()) if pair[0] is not registry)
        token = _OVERRIDES.set(((registry, frozenset(names)), *others))
        try:
            yield
        finally:
            _OVERRIDES.reset(token)


OVERRIDES = Overrides()

#: So many forwards of reentrant checkpointing, or under hooks of others on what is saved, are
#: remembered until backward comes by.
_UNSEEN = 8


class SharedInput:
    """The last input of a bank, and what was computed from it."""

    __slots__ = ("key", "rows", "stages", "x")

    def __init__(self, x: Tensor, key: Hashable, rows: Tensor) -> None:
        self.x = x
        self.key = key
        self.rows = rows  # (n, in): x cast, flattened and dropped out
        self.stages: dict[Hashable, Any] = {}

    @staticmethod
    def key_of(x: Tensor, moment: Hashable, training: bool) -> Hashable | None:
        """What has to be equal for two readings of ``x`` to be one; ``None``: never share."""
        if x.is_inference():  # changes in place are not counted
            return None
        autocast = autocast_state(x.device.type)
        return moment_of(x), moment, torch.is_grad_enabled(), autocast, training


class ForwardContext:
    """One forward of the root model, in one thread."""

    def __init__(self, active: frozenset[str], task: int) -> None:
        self.active = active
        self.task = task
        self.thread = threading.get_ident()
        self.grad = torch.is_grad_enabled()
        self.whole = False  # the root itself runs inside a segment
        self.replayed = False
        self.hoisted: dict[Bank, Hoisted] = {}
        self.inputs: dict[Bank, SharedInput] = {}
        self.readings: dict[Bank, Any] = {}  # as inputs, of groups of whole layers
        self.outputs: Outputs | None = None  # of layers that were run at once
        self.normed: Normed | None = None  # what the last normalisation gave
        # whether a site was active in its calls: in segments that are seen, with gradients or
        # without; and without gradients, where there may be a segment that is not seen
        self.seen: dict[tuple[object, bool], set[bool]] = {}
        self.ungraded: dict[object, set[bool]] = {}
        self._segments: weakref.WeakSet[Any] | None = None
        self._others: weakref.WeakSet[Any] | None = None  # somebody's own hooks on what is saved

    def settle(self) -> None:
        """Throw away the outputs that nobody has come for."""
        if self.outputs is not None:
            self.outputs.settle()
            self.outputs = None

    @property
    def segments(self) -> weakref.WeakSet[Any]:
        """The checkpointed segments whose graph is alive."""
        if self._segments is None:
            self._segments = weakref.WeakSet()
        return self._segments

    def record(self, site: object, active: bool, frame: Any) -> None:
        """Remember a call inside a checkpointed segment, for backward to find again."""
        graded = torch.is_grad_enabled()
        if frame is not None:
            self.hold(frame)
            self.seen.setdefault((site, graded), set()).add(active)
        if not graded:
            self.ungraded.setdefault(site, set()).add(active)

    def hold(self, frame: Any) -> None:
        """Remember what lives as long as a segment's graph; hooks of others may live for ever."""
        if in_checkpoint():
            self.segments.add(frame)
            return
        if self._others is None:
            self._others = weakref.WeakSet()
        with suppress(TypeError):  # what cannot be held weakly cannot be watched
            self._others.add(frame)

    def seen_in(self, site: object, frame: Any) -> set[bool]:
        """Whether a site was active in the calls in segments that are seen.

        A segment of non-reentrant checkpointing runs again in a frame.
        """
        key = site, torch.is_grad_enabled()
        return set() if frame is None else self.seen.get(key, set())

    @property
    def shares(self) -> bool:
        """Whether sites may share what they computed from one input.

        Not in a part without gradients of a forward with them: it may be a segment of reentrant
        checkpointing, and its borders cannot be seen.
        """
        return torch.is_grad_enabled() or not self.grad

    @property
    def needed(self) -> bool:
        """Whether backward may call sites of this forward again.

        Segments of non-reentrant checkpointing die with their graph. Of reentrant ones nothing can
        be seen: they are waited for until backward came by.
        """
        alive = self._segments is not None and bool(self._segments)
        return alive or (bool(self.ungraded or self._others) and not self.replayed)


class Call:
    """How one call of a site has to run.

    ``hoisted`` holds the bank's tensors of this forward, ``None`` where they are to be made anew;
    ``context`` the place for shared inputs, ``None`` where nothing is to be shared; ``moment`` the
    backward pass and the checkpointed segment that the call belongs to.
    """

    __slots__ = ("context", "hoisted", "moment")

    def __init__(
        self,
        context: ForwardContext | None = None,
        hoisted: Hoisted | None = None,
        moment: Hashable = None,
    ) -> None:
        self.context = context
        self.hoisted = hoisted
        self.moment = moment


class _Captured:
    """What a graph that is being captured, or the one before it, has hoisted for this forward."""

    def __init__(self) -> None:
        self.hoisted: dict[Bank, Hoisted] | None = None


class _Local(threading.local):
    """The open contexts of one thread."""

    def __init__(self) -> None:
        self.stack: list[ForwardContext] = []
        self.captured = _Captured()  # an object: torch loses what it captures of this one's own


class Contexts:
    """The open contexts of each thread, and the closed ones that a backward may still need."""

    def __init__(self) -> None:
        self._local = _Local()
        self._lock = threading.Lock()
        self._kept: list[ForwardContext] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Contexts:
        return Contexts()

    def __reduce__(self) -> tuple[Any, ...]:
        return Contexts, ()

    @property
    def _stack(self) -> list[ForwardContext]:
        return self._local.stack

    def open(self, active: frozenset[str], banks: Mapping[str, Iterable[Bank]]) -> None:
        """Begin a forward of the root: hoist every bank of every active adapter."""
        if torch.compiler.is_compiling():
            held = [bank for name in banks if name in active for bank in banks[name]]
            self._local.captured.hoisted = {bank: bank.hoist() for bank in held}
            return
        task = graph_task()
        if task == -1:
            self._prune()
        else:
            active = self._active_then(active)
        self._local.captured.hoisted = None
        context = ForwardContext(active, task)
        frame = saved_tensor_frame()
        if frame is not None and context.grad:
            context.whole = True
            context.hold(frame)
        keeps = not context.grad and is_quiet() and not has_modes()
        for name in active:
            for bank in banks.get(name, ()):
                context.hoisted[bank] = bank.hoist_again() if keeps else bank.hoist()
                if context.grad:
                    bank.forget()
        stack = self._stack
        if task == -1:  # a forward that was interrupted from outside has left its context open
            stack.clear()
        stack.append(context)

    def close(self) -> None:
        """End the innermost forward of this thread."""
        if torch.compiler.is_compiling():
            self._local.captured.hoisted = None
            return
        stack = self._stack
        if not stack:
            return
        context = stack.pop()
        context.inputs.clear()
        context.readings.clear()
        context.settle()
        context.normed = None
        if context.grad and context.needed:
            with self._lock:
                self._kept.append(context)

    def here(self) -> ForwardContext | None:
        """The context of a call in plain eager mode, of which nothing more has to be asked."""
        if torch.compiler.is_compiling():
            return None
        stack = self._local.stack
        if not stack:
            return None
        context = stack[-1]
        quiet = context.task == -1 and context.grad is torch.is_grad_enabled() and is_quiet()
        return context if quiet else None

    def innermost(self) -> ForwardContext | None:
        """The context of the forward that is under way in this thread, or in its backward."""
        stack = self._stack
        context = stack[-1] if stack else None
        return context if context is not None and context.task == graph_task() else None

    def enter(self, path: str, bank: Bank, active: bool) -> Call | None:
        """Say how a call of the module at ``path`` runs, ``None`` where its adapter is not active.

        Raises
        ------
        AttachError
            E516 where several forwards wait for their backward under checkpointing, with different
            adapters active.
        """
        if torch.compiler.is_compiling():
            return Call(None, self._captured(bank)) if active else None
        stack = self._stack
        context = stack[-1] if stack else None
        task = graph_task()
        if task != -1 and (context is None or context.task != task):
            return self._again(path, bank, active)
        if context is None:
            return Call(None, self._captured(bank)) if active else None
        if task != -1:
            active = bank.adapter in context.active
        frame = saved_tensor_frame()
        if context.grad and (frame is not None or not torch.is_grad_enabled()):
            context.record((path, bank), active, frame)
        if not active:
            return None
        if torch.is_grad_enabled() and not context.grad:
            return Call()  # what was hoisted has no graph
        hoisted = context.hoisted.get(bank)
        if hoisted is None or not context.shares:
            return Call(None, hoisted)
        return Call(context, hoisted, (task, frame))

    def _captured(self, bank: Bank) -> Hoisted | None:
        """What was hoisted in the graph that is being captured, or before it."""
        hoisted = self._local.captured.hoisted
        if hoisted is not None:
            return hoisted.get(bank)
        stack = self._stack
        return stack[-1].hoisted.get(bank) if stack else None

    def _again(self, path: str, bank: Bank, active: bool) -> Call | None:
        """A site is called in backward: find the forward in which it was called first."""
        site, frame = (path, bank), saved_tensor_frame()
        every = (*self._waiting(), *self._stack)
        seen = [c for c in every if c.seen_in(site, frame)]
        ungraded = [c for c in every if site in c.ungraded]
        if ungraded and not in_checkpoint():  # the frame is of somebody's own hooks
            seen = []
        known = seen or ungraded
        was = {a for c in known for a in (c.seen_in(site, frame) if seen else c.ungraded[site])}
        if len(was) > 1:
            raise _ambiguous(f"{path} again, and adapter {bank.adapter!r} was both on and off")
        if not known:
            return Call() if active else None
        context = known[-1]
        context.replayed = True
        if False in was:
            return None
        hoisted = context.hoisted.get(bank)
        if hoisted is None or not seen:
            return Call()
        if not context.shares:  # as in the forward
            return Call(None, hoisted)
        return Call(context, hoisted, (graph_task(), frame))

    def _active_then(self, active: frozenset[str]) -> frozenset[str]:
        """The root is called in backward: the adapters that were active the first time."""
        known = {context.active for context in self._waiting() if context.whole}
        if len(known) > 1:
            raise _ambiguous("the model again, and other adapters were active")
        return known.pop() if known else active

    def _waiting(self) -> list[ForwardContext]:
        """The closed forwards of this thread that backward may need.

        Backward on an accelerator runs in a thread of its own: there, those of every thread.
        """
        with self._lock:
            kept = list(self._kept)
        mine = [context for context in kept if context.thread == threading.get_ident()]
        return mine or kept

    def _prune(self) -> None:
        """Forget what no backward can need; no backward of this thread is running."""
        if not self._kept:
            return
        me, alive = (threading.get_ident(), {thread.ident for thread in threading.enumerate()})
        with self._lock:
            others = [c for c in self._kept if c.thread != me and c.thread in alive]
            mine = [c for c in self._kept if c.thread == me and c.needed]
            unseen = [c for c in mine if not c.segments]
            dropped = set(unseen[:-_UNSEEN])
            self._kept = others + [c for c in mine if c not in dropped]


def _ambiguous(what: str) -> AttachError:
    advice = "Under checkpointing run backward before changing which adapters are active; run a "
    advice += "forward that gets no backward under torch.no_grad(). In one forward "
    advice += "use_reentrant=False tells a call without gradients from one in a segment; two "
    advice += "segments cannot be told apart."
    what = f"backward runs {what} in the forwards that wait for their backward"
    return AttachError("E516", what, advice=advice)
