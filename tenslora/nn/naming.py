"""The place of a linear layer, read from its path: layer, projection, expert."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from tenslora.nn.site import Label
from tenslora.nn.spans import Span
from tenslora.nn.targets import Linear

__all__ = ["Found", "coordinates", "take_apart"]

#: Words of a path that stand for attention to another sequence.
_CROSS = frozenset(
    (
        "EncDecAttention",
        "encoder_attn",
        "crossattention",
        "cross_attn",
        "cross_attention",
        "multihead_attn",
    )
)


@dataclass(frozen=True)
class Found:
    """A linear layer, or one part of a fused one, with its path taken apart at the layer."""

    linear: Linear
    part: str | None
    rows: Span | None
    prefix: str  # before the layer's number
    layer: int | None
    rest: tuple[str, ...]  # after it, and the part
    stack: str = ""  # what tells its layer from another of that number
    columns: Span | None = None


def take_apart(path: str) -> tuple[str, int | None, tuple[str, ...]]:
    """Split a path at its first number: what is before it, the number, what is behind it.

    >>> take_apart("bert.encoder.layer.3.attention.self.query")
    ('bert.encoder.layer', 3, ('attention', 'self', 'query'))
    """
    words = path.split(".")
    prefix = list(takewhile(lambda word: not word.isdecimal(), words))
    if len(prefix) == len(words):
        return "", None, tuple(words)
    return ".".join(prefix), int(words[len(prefix)]), tuple(words[len(prefix) + 1 :])


def coordinates(found: Sequence[Found], modes: Sequence[str] = ()) -> list[dict[str, Label]]:
    """Return the coordinates of each.

    ``layer`` is the number, with the words before it where the model has several stacks of layers;
    attention to another sequence is a layer of its own beside self-attention. ``proj`` is the
    shortest ending of the path that tells the targets of one layer apart. ``expert`` is a number
    behind the word ``experts``, where ``modes`` asks for it; else it is a part of ``proj``.
    """
    found = _with_cross_layers(found)
    experts: list[int | None] = [None] * len(found)
    if "expert" in modes:
        taken = [_without_expert(item) for item in found]
        found, experts = [item for item, _ in taken], [number for _, number in taken]
    prefixes = {item.prefix for item in found if item.layer is not None}
    names = _short_names(found)
    places = []
    for item, expert in zip(found, experts, strict=True):
        coords: dict[str, Label] = {}
        if item.layer is not None:
            alone = len(prefixes) == 1
            label: Label = item.layer if alone else f"{item.prefix}.{item.layer}"
            coords["layer"] = f"{label}.{item.stack}" if item.stack else label
        coords["proj"] = names[item.rest] or (item.prefix.rpartition(".")[2] or "linear")
        if expert is not None:
            coords["expert"] = expert
        places.append(coords)
    return places


def _with_cross_layers(found: Sequence[Found]) -> list[Found]:
    """Give attention to another sequence the projections' names of self-attention beside it."""
    own = {_tail(item): item.rest for item in found if not _cross(item) and _tail(item)}
    if not own:
        return list(found)
    return [
        replace(item, stack=word, rest=own[_tail(item)])
        if (word := _cross(item)) and _tail(item) in own
        else item
        for item in found
    ]


def _cross(item: Found) -> str:
    return next((word for word in item.rest if word in _CROSS), "")


def _tail(item: Found) -> tuple[str, ...]:
    """What stands behind the attention module's word; empty outside of attention."""
    for n, word in enumerate(item.rest):
        if word in _CROSS or "attn" in word.lower() or "attention" in word.lower():
            return item.rest[n + 1 :]
    return ()


def _without_expert(item: Found) -> tuple[Found, int | None]:
    for n, word in enumerate(item.rest[:-1]):
        if word == "experts" and item.rest[n + 1].isdecimal():
            rest = (*item.rest[: n + 1], *item.rest[n + 2 :])
            return replace(item, rest=rest), int(item.rest[n + 1])
    return item, None


def _short_names(found: Sequence[Found]) -> dict[tuple[str, ...], str]:
    """Give each distinct rest of a path its shortest ending that no other one of its stack has."""
    stacks: dict[str, dict[tuple[str, ...], None]] = {}
    for item in found:
        stacks.setdefault(item.prefix, {})[item.rest] = None
    lengths: dict[tuple[str, ...], int] = {}
    for rests in stacks.values():
        for rest in rests:
            lengths[rest] = max(lengths.get(rest, 0), _shortest(rest, rests))
    return {rest: ".".join(rest[-length:]) if rest else "" for rest, length in lengths.items()}


def _shortest(rest: tuple[str, ...], rests: Iterable[tuple[str, ...]]) -> int:
    others = [r for r in rests if r != rest]
    fits = (n for n in range(1, len(rest)) if all(r[-n:] != rest[-n:] for r in others))
    return next(fits, len(rest))
