"""The memory of a training run on a real model, from two small forwards."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tenslora.errors import SizeError
from tenslora.family.memory import Memory, check_tokens, state_numbers
from tenslora.nn.grid import input_key
from tenslora.plan import reads_input, saved_once, saved_per_token

if TYPE_CHECKING:
    from typing_extensions import Self

    from tenslora.nn.adapter import Adapter
    from tenslora.nn.bank import Bank

__all__ = ["SavedTensors", "estimate", "saved_bound"]


class SavedTensors:
    """Counts what autograd keeps for a backward: each piece of memory once.

    Parameters
    ----------
    apart : tensors that are counted elsewhere, such as the weights.
    """

    def __init__(self, apart: Iterable[Tensor] = ()) -> None:
        self._apart = {_piece(tensor)[0] for tensor in apart}
        self._found: dict[int, int] = {}
        self._held: list[Tensor] = []  # an address is not given away while it is counted

    def __enter__(self) -> Self:
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def _keep(self, tensor: Tensor) -> Tensor:
        place, size = _piece(tensor)
        if place not in self._apart:
            self._found[place] = size
            self._held.append(tensor)
        return tensor

    @property
    def nbytes(self) -> int:
        """Bytes so far."""
        return sum(self._found.values())

    @property
    def largest(self) -> int:
        """Bytes of the largest piece."""
        return max(self._found.values(), default=0)


def _piece(tensor: Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


def estimate(
    adapter: Adapter, batch: Any, rows: int | None = None, *, optimizer: str = "adamw"
) -> Memory:
    """See :meth:`tenslora.nn.Adapter.memory`."""
    model = adapter.model
    known = _rows(batch)
    check_tokens(rows if rows is not None else known, "rows")
    states = state_numbers(optimizer)
    few = min(2, known)
    with _unchanged(model):
        saved = [_saved(model, _first(batch, n)) for n in range(1, few + 1)]
    wanted = known if rows is None else rows
    kept, largest = (
        one + (two - one if few == 2 else one) * (wanted - 1)
        for one, two in zip(saved[0], saved[-1], strict=True)
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = sum(map(_nbytes, trained))
    return Memory(
        {
            "weights": sum(map(_nbytes, {*model.parameters(), *model.buffers()})),
            "gradients": gradients,
            "optimizer": states * gradients,
            "activations": kept,
            "passing gradients": 2 * largest,
        }
    )


def saved_bound(adapter: Adapter, tokens: int) -> int:
    """Bound the bytes that a forward keeps for the backward of an adapter, beyond the frozen model.

    It is written down from the plan, and holds without autocast and dropout. Kept are x, once for
    all sites that read it, if what meets it in the plan is trained; the thin products that meet
    trained tensors; and once what is hoisted, and matrices laid together to meet one x. Which sites
    read one x is known from their names.

    Parameters
    ----------
    adapter : without a wrapper.
    tokens : rows of x.

    Raises
    ------
    AttachError
        E520 in a wrapper.

    Examples
    --------
    >>> import tenslora as tl
    >>> model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    >>> lora = tl.attach(model, "W[layer out in] = B[layer out r] A[layer r in]",
    ...                  targets="all-linear", ranks=2)
    >>> saved_bound(lora, 10) == 4 * 2 * 10 * (8 + 2)  # in float32 x and A x at two sites
    True
    """
    adapter._check_plain("say what it keeps")
    total, read = _joined(adapter), dict[Hashable, int]()
    for bank in adapter.banks.values():
        plan, size = bank.program.plan, _itemsize(bank)
        each = _inputs(bank)
        total += size * saved_once(plan, each[0])
        for inputs in each:
            kept = saved_per_token(plan, inputs)
            if reads_input(plan):
                kept -= bank.width * len(set(inputs))
                read.update(dict.fromkeys(inputs, size * bank.width))
            total += size * tokens * kept
    return total + tokens * sum(read.values())


def _joined(adapter: Adapter) -> int:
    """Bytes of A that are copied below each other, for they meet one x.

    Those of one bank are where the A of its groups do not follow each other, and those of several
    banks.
    """
    met: dict[Hashable, dict[Bank, int]] = {}
    copied = 0
    for bank in adapter.banks.values():
        layout = bank.layout
        if layout is None:
            continue
        if not layout.blocks:
            together = sum(len(row) for row in layout.rows if len(row) > 1)
            copied += _itemsize(bank) * bank.width * layout.rank * together
        for site, place in zip(bank.sites, layout.places, strict=True):
            rows = layout.rank * len(layout.rows[place.group])
            met.setdefault(input_key(site), {})[bank] = _itemsize(bank) * bank.width * rows
    return copied + sum(sum(sizes.values()) for sizes in met.values() if len(sizes) > 1)


def _itemsize(bank: Bank) -> int:
    return next(iter(bank.cores().values())).element_size()


def _inputs(bank: Bank) -> list[list[Hashable]]:
    """Which input each site of the equation reads; several times where matrices are tied."""
    names, sizes = bank.bound.network.sites, bank.bound.sizes
    found: dict[tuple[int, ...], list[Hashable]] = {}
    for site, place in zip(bank.sites, bank.grid.positions, strict=True):
        found.setdefault(tuple(place[name] for name in names), []).append(input_key(site))
    rows = [found[place] for place in itertools.product(*(range(sizes[n]) for n in names))]
    return [[row[min(n, len(row) - 1)] for row in rows] for n in range(max(map(len, rows)))]


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensors(batch: Any) -> list[Tensor]:
    values = batch.values() if isinstance(batch, Mapping) else batch
    values = [batch] if isinstance(batch, Tensor) else list(values)
    return [value for value in values if isinstance(value, Tensor)]


def _rows(batch: Any) -> int:
    tensors = _tensors(batch) if isinstance(batch, (Mapping, Tensor, tuple, list)) else []
    if not tensors or any(t.ndim == 0 for t in tensors):
        what = f"the batch is a {type(batch).__name__} without tensors that have rows"
        raise SizeError("E212", what, advice="Give what the model is called with: a dict of names.")
    if len({len(tensor) for tensor in tensors}) > 1:
        what = f"the tensors of the batch have {', '.join(str(len(t)) for t in tensors)} rows"
        raise SizeError("E212", what, advice="Rows come first, as many in each tensor.")
    return len(tensors[0])


def _first(batch: Any, rows: int) -> Any:
    def cut(value: Any) -> Any:
        return value[:rows] if isinstance(value, Tensor) else value

    if isinstance(batch, Mapping):
        return {name: cut(value) for name, value in batch.items()}
    return cut(batch) if isinstance(batch, Tensor) else tuple(map(cut, batch))


def _saved(model: nn.Module, batch: Any) -> tuple[int, int]:
    given = _tensors(batch)
    with torch.enable_grad(), SavedTensors([*model.parameters(), *model.buffers()]) as saved:
        if isinstance(batch, Mapping):
            held = model(**batch)
        else:
            held = model(batch) if isinstance(batch, Tensor) else model(*batch)
        del held, given
    return saved.nbytes, saved.largest


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Run in train mode, and put modes, buffers and random states back."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})
    try:
        with torch.random.fork_rng(devices=devices):
            model.train()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
