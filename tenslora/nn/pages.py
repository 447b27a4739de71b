"""Memory for many new tensors on a CPU.

The system gives out new memory page by page, at the first writing to each page: for pages of 4 kB
that takes longer than the writing. Linux has pages of 2 MB for those who ask.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor

__all__ = ["empty_like"]

_PAGE = 2**21

#: Bytes that are asked for at once. They are given back when the last tensor in them goes.
_POOL = 2**26

#: Tensors begin at multiples of so many bytes.
_STEP = 64


def empty_like(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield a new tensor without values for each, each with a storage of its own.

    Examples
    --------
    >>> made = list(empty_like([torch.ones(800, 900), torch.ones(900, 800).half()]))
    >>> [(tuple(m.shape), m.dtype) for m in made]
    [((800, 900), torch.float32), ((900, 800), torch.float16)]
    """
    left = sum(_size(tensor) for tensor in tensors if _is_plain(tensor))
    pool: mmap.mmap | None = None
    used = 0
    for tensor in tensors:
        if not _is_plain(tensor):
            yield torch.empty_like(tensor, requires_grad=False)
            continue
        size = _size(tensor)
        if pool is None or used + size > len(pool):
            pool, used = _pool(max(size, min(left, _POOL))), 0
        if pool is None:
            yield torch.empty_like(tensor, requires_grad=False)
        else:
            count = tensor.numel()
            flat = torch.frombuffer(pool, dtype=tensor.dtype, count=count, offset=used)
            yield flat.view(tensor.shape)
        used, left = used + size, left - size


def _is_plain(tensor: Tensor) -> bool:
    plain = tensor.device.type == "cpu" and tensor.layout == torch.strided
    return plain and tensor.is_contiguous() and tensor.numel() > 0


def _size(tensor: Tensor) -> int:
    return -(-tensor.nbytes // _STEP) * _STEP


def _pool(size: int) -> mmap.mmap | None:
    """So many bytes in large pages; ``None`` where there are none, or one would be too large."""
    if sys.platform != "linux" or size < _PAGE:
        return None
    pool = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a system without large pages has small ones
        pool.madvise(mmap.MADV_HUGEPAGE)
    return pool
