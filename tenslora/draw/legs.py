"""What leaves a box upwards or downwards, and how wide a box has to be for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenslora.draw.scene import Box, Sheet

__all__ = ["LEG", "Prong", "Side", "half_width", "hang", "sites_prong", "spread"]

LEG = 2  # lines from the border to the end of a leg


@dataclass(frozen=True)
class Prong:
    """One thing that leaves a box on its upper or lower side.

    Attributes
    ----------
    indices : one, or the sites, whose dotted legs stand close together with their names in a stack.
    kind : ``leg`` and ``sites`` end with words; a ``stem`` goes on as a wire.
    room : columns that a stem takes with what hangs from it.
    """

    indices: tuple[str, ...]
    kind: str
    room: int = 1

    @property
    def width(self) -> int:
        """Columns that it takes, words included."""
        if self.kind == "stem":
            return self.room
        return max(len(self.indices), *map(len, self.indices))

    @property
    def depth(self) -> int:
        """Lines that it takes beyond the border, words included."""
        return 0 if self.kind == "stem" else LEG + len(self.indices)


@dataclass(frozen=True)
class Side:
    """Where the prongs of one side leave, from the middle of the box, and the room they take."""

    ports: tuple[int, ...]
    left: int
    right: int

    @property
    def reach(self) -> int:
        """From the middle to the farthest port."""
        return max(map(abs, self.ports), default=0)


def spread(prongs: Sequence[Prong]) -> Side:
    """Set the prongs of one side beside each other, with two columns between their words."""
    ports, at = [], 0
    for prong in prongs:
        ports.append(at + prong.width // 2)
        at += prong.width + (1 if prong.width == 1 and prong.kind == "stem" else 2)
    shift = (ports[0] + ports[-1]) // 2 if ports else 0
    ends = [
        (port - prong.width // 2, port - prong.width // 2 + prong.width - 1)
        for port, prong in zip(ports, prongs, strict=True)
    ]
    left = min((e[0] - shift for e in ends), default=0)
    right = max((e[1] - shift for e in ends), default=0)
    return Side(tuple(p - shift for p in ports), left, right)


def half_width(text: str, *sides: Side) -> int:
    """Return half the width of a box: room for its name, and a column beyond its farthest port."""
    return max(2, (len(text) + 3) // 2, *(s.reach + 1 for s in sides))


def sites_prong(sites: Sequence[str]) -> list[Prong]:
    """Return the legs of the sites as one prong, or none."""
    return [Prong(tuple(sites), "sites")] if sites else []


def hang(sheet: Sheet, box: Box, prong: Prong, port: int, way: int, end: int | None = None) -> None:
    """Draw a leg or the legs of sites from a box, with their names.

    Parameters
    ----------
    port : the column, from the middle of the box.
    way : 1 for down, -1 for up.
    end : the line where the legs end; by default :data:`LEG` beyond the border.
    """
    border = box.bottom if way > 0 else box.top
    stop = border + way * LEG if end is None else end
    x, count = box.x + port, len(prong.indices)
    dotted = prong.kind == "sites"
    for n, index in enumerate(prong.indices):
        column = x - (count - 1) // 2 + n
        sheet.wire(index, (column, border), (column, stop), dotted=dotted)
    names = prong.indices if way > 0 else prong.indices[::-1]
    for n, index in enumerate(names):
        sheet.centred(index, x, stop + way * (n + 1), index)
