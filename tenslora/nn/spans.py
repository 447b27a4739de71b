"""Which features of a module a site covers: a range, or equal blocks at equal steps.

A span is ``(start, stop)``, or ``(start, stop, step, width)``: the features of ``range(start, stop,
step)``, each with the ``width - 1`` behind it. Fused layers that keep query, key and value head by
head have spans of the second kind.

>>> list(features((0, 4))), list(features((2, 12, 6, 2)))
([0, 1, 2, 3], [2, 3, 8, 9])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

__all__ = [
    "Span",
    "collide",
    "features",
    "normal",
    "put",
    "size",
    "spread",
    "take",
    "text",
    "view",
    "within",
]

Span = tuple[int, ...]


def normal(span: Sequence[int]) -> Span:
    """The shortest way to write a span.

    >>> normal([0, 8, 4, 4]), normal((3, 9, 6, 2)), normal((0, 12, 6, 2)), normal((0, 20, 6, 2))
    ((0, 8), (3, 5), (0, 8, 6, 2), (0, 20, 6, 2))
    """
    span = tuple(span)
    if len(span) != 4:
        return span
    start, stop, step, width = span
    if not 0 < width <= step or stop <= start:
        return span
    last = start + (stop - 1 - start) // step * step  # where the last block begins
    if width == step or last == start:
        return start, last + width
    return start, last + width, step, width


def within(span: Sequence[int], total: int) -> bool:
    """Whether ``span`` is a span of ``total`` features, and not empty."""
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in span)
    if not whole or len(span) not in (2, 4) or not 0 <= span[0] < span[1] <= total:
        return False
    return len(span) == 2 or (0 < span[3] <= span[2] and (span[1] - span[0]) % span[2] == span[3])


def size(span: Span) -> int:
    """How many features it has.

    >>> size((3, 9)), size((0, 8, 6, 2))
    (6, 4)
    """
    return span[1] - span[0] if len(span) == 2 else _count(span) * span[3]


def _count(span: Span) -> int:
    start, stop, step, width = span
    return (stop - start - width) // step + 1


def features(span: Span) -> Iterator[int]:
    """Yield the numbers of its features, in the order in which the site has them."""
    if len(span) == 2:
        yield from range(*span)
        return
    start, stop, step, width = span
    for block in range(start, stop, step):
        yield from range(block, block + width)


def text(span: Span | None) -> str:
    """A span as one writes a slice; blocks as ``start:stop:step/width``.

    >>> text((0, 8)), text((0, 8, 6, 2)), text(None)
    ('0:8', '0:8:6/2', ':')
    """
    if span is None:
        return ":"
    plain = f"{span[0]}:{span[1]}"
    return plain if len(span) == 2 else f"{plain}:{span[2]}/{span[3]}"


def collide(a: Span | None, b: Span | None) -> bool:
    """Whether two spans share a feature; ``None`` is all of them."""
    if a is None or b is None:
        return True
    if len(a) == len(b) == 2:
        return a[0] < b[1] and b[0] < a[1]
    return not set(features(a)).isdisjoint(features(b))


def view(tensor: Tensor, dim: int, span: Span | None) -> Tensor:
    """The features of a span as a view: one axis at ``dim``; for blocks a second one behind it.

    ``view(t, -1, (0, 8, 6, 2))`` has the shape (..., 2, 2): blocks, then features of a block.
    """
    if span is None:
        return tensor
    dim %= tensor.ndim
    found = tensor.narrow(dim, span[0], span[1] - span[0])
    if len(span) == 2:
        return found
    return found.unfold(dim, span[3], span[2]).movedim(-1, dim + 1)


def take(tensor: Tensor, dim: int, span: Span | None) -> Tensor:
    """The features of a span along ``dim``: a view of a range, a copy of blocks.

    >>> take(torch.arange(12), 0, (2, 12, 6, 2))
    tensor([2, 3, 8, 9])
    """
    dim %= tensor.ndim
    found = view(tensor, dim, span)
    return found if span is None or len(span) == 2 else found.flatten(dim, dim + 1)


def put(target: Tensor, dim: int, span: Span | None, values: Tensor) -> None:
    """Write the features of a span in place."""
    dim %= target.ndim
    place = view(target, dim, span)
    place.copy_(values.reshape(place.shape))


def spread(total: int, parts: Iterable[tuple[Span | None, Tensor]]) -> Tensor:
    """Add updates (..., features of the span) into a tensor of ``total`` features, zero elsewhere.

    Parts whose spans have one period are laid side by side; others are written into zeros.
    """
    whole: Tensor | None = None
    placed: dict[Span, Tensor] = {}
    for span, part in parts:
        if span is None:
            whole = part if whole is None else whole + part
        else:
            placed[span] = placed[span] + part if span in placed else part
    if placed:
        made = _side_by_side(total, placed)
        whole = made if whole is None else whole + made
    assert whole is not None  # there is one part or more
    return whole


def _side_by_side(total: int, placed: dict[Span, Tensor]) -> Tensor:
    period = _period(total, placed)
    first = next(iter(placed.values()))
    if period is None:
        made = first.new_zeros(*first.shape[:-1], total)
        for span, part in placed.items():
            put(made, -1, span, take(made, -1, span) + part)
        return made
    pieces, end = [], 0
    for span, part in sorted(placed.items(), key=lambda item: item[0][0] % period):
        start = span[0] % period
        width = span[3] if len(span) == 4 else span[1] - span[0]
        blocks = part.unflatten(-1, (-1, width))
        if start > end:
            pieces.append(blocks.new_zeros(*blocks.shape[:-1], start - end))
        pieces.append(blocks)
        end = start + width
    if end < period:
        pieces.append(pieces[-1].new_zeros(*pieces[-1].shape[:-1], period - end))
    return torch.cat(pieces, -1).flatten(-2)


def _period(total: int, placed: Iterable[Span]) -> int | None:
    """The step in which all spans repeat over all of ``total`` features, if they have one."""
    steps = {span[2] if len(span) == 4 else total for span in placed}
    if len(steps) != 1:
        return None
    (step,) = steps
    end = 0
    for span in sorted(placed, key=lambda span: span[0] % step):
        count = _count(span) if len(span) == 4 else 1
        width = span[3] if len(span) == 4 else span[1] - span[0]
        if count * step != total or span[0] % step < end or span[0] >= step:
            return None
        end = span[0] + width
    return step if end <= step else None
