"""What a picture is made of, before any ink: boxes, wires, dots and words on a grid of characters.

One unit to the right is one character of a terminal, one unit down is one line. Text is drawn on
this grid as it is; the other inks scale it. So a label that fits here fits in every ink.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

__all__ = ["Box", "Dot", "Frame", "Label", "Point", "Scene", "Sheet", "Wire"]

Point = tuple[int, int]


@dataclass(frozen=True)
class Box:
    """A core, as a box around its name.

    Attributes
    ----------
    text : what stands in it.
    x, y : its centre.
    half_width, half_height : from the centre to the border.
    kind : ``trained``, ``frozen``, ``constant``, or in the picture of a plan ``input``, ``step``.
    zero : whether it is zero at the start.
    title : what a reader is told who points at it.

    Examples
    --------
    >>> box = Box("A", 8, 1, 2, 1)
    >>> box.left, box.right, box.top, box.bottom
    (6, 10, 0, 2)
    """

    text: str
    x: int
    y: int
    half_width: int
    half_height: int
    kind: str = "trained"
    zero: bool = False
    title: str = ""

    @property
    def left(self) -> int:
        """The column of the left border."""
        return self.x - self.half_width

    @property
    def right(self) -> int:
        """The column of the right border."""
        return self.x + self.half_width

    @property
    def top(self) -> int:
        """The line of the upper border."""
        return self.y - self.half_height

    @property
    def bottom(self) -> int:
        """The line of the lower border."""
        return self.y + self.half_height


@dataclass(frozen=True)
class Wire:
    """A line along an index, through corners; the legs of sites are dotted.

    Examples
    --------
    >>> from tenslora.draw import layout
    >>> from tenslora.spec import parse
    >>> [(w.index, w.points) for w in layout(parse("W[out in] = B[out r] A[r in]")).wires]
    [('r', ((10, 1), (16, 1))), ('in', ((6, 1), (3, 1))), ('out', ((20, 1), (23, 1)))]
    """

    index: str
    points: tuple[Point, ...]
    dotted: bool = False


@dataclass(frozen=True)
class Dot:
    """Where three or more ends of an index meet: a copy.

    Examples
    --------
    >>> from tenslora.draw import layout
    >>> from tenslora.spec import parse
    >>> layout(parse("W[layer out in] = V[out r] S[layer r] U[in r]")).dots
    (Dot(index='r', x=16, y=7),)
    """

    index: str
    x: int
    y: int


@dataclass(frozen=True)
class Label:
    """Words on one line, from the column ``x``; those of an index have its colour.

    Examples
    --------
    >>> from tenslora.draw import layout
    >>> from tenslora.spec import parse
    >>> [(word.text, word.x, word.y) for word in layout(parse("W[out in] = T[out in]")).labels]
    [('in', 0, 1), ('out', 15, 1)]
    """

    text: str
    x: int
    y: int
    index: str | None = None
    style: str = "index"  # or "sign", "note", "title"


@dataclass(frozen=True)
class Frame:
    """A region with a heading, behind everything else.

    Examples
    --------
    >>> Frame(0, 0, 4, 2, "band").moved(3, 1)
    Frame(left=3, top=1, right=7, bottom=3, kind='band')
    """

    left: int
    top: int
    right: int
    bottom: int
    kind: str

    def moved(self, dx: int, dy: int) -> Frame:
        """Return the same region elsewhere."""
        return Frame(self.left + dx, self.top + dy, self.right + dx, self.bottom + dy, self.kind)


@dataclass
class Sheet:
    """A picture in the making: parts can be added, and the whole moved.

    Attributes
    ----------
    exits : for each feature and side (``"w"`` or ``"e"``) the points where its wires leave.
    """

    boxes: list[Box] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    exits: dict[tuple[str, str], list[Point]] = field(default_factory=dict)

    def wire(self, index: str, *points: Point, dotted: bool = False) -> None:
        """Add a wire through ``points``, without those that change nothing."""
        kept: list[Point] = []
        for point in points:
            if kept and point == kept[-1]:
                continue
            if len(kept) > 1 and _in_line(kept[-2], kept[-1], point):
                kept.pop()
            kept.append(point)
        if len(kept) > 1:
            self.wires.append(Wire(index, tuple(kept), dotted))

    def word(
        self, text: str, x: int, y: int, index: str | None = None, style: str = "index"
    ) -> None:
        """Add words from column ``x`` on."""
        self.labels.append(Label(text, x, y, index, style))

    def centred(self, text: str, x: int, y: int, index: str | None = None) -> None:
        """Add words whose middle is at ``x``."""
        self.word(text, x - (len(text) - 1) // 2 - (len(text) + 1) % 2, y, index)

    def exit(self, index: str, side: str, point: Point) -> None:
        """Say that a wire of a feature leaves at ``point``."""
        self.exits.setdefault((index, side), []).append(point)

    def bounds(self) -> tuple[int, int, int, int]:
        """Return the smallest and largest column and line: left, top, right, bottom."""
        points = [p for wire in self.wires for p in wire.points]
        points += [(dot.x, dot.y) for dot in self.dots]
        points += [corner for b in self.boxes for corner in ((b.left, b.top), (b.right, b.bottom))]
        points += [p for f in self.frames for p in ((f.left, f.top), (f.right, f.bottom))]
        points += [(w.x + n, w.y) for w in self.labels for n in (0, len(w.text) - 1)]
        columns, lines = zip(*(points or [(0, 0)]), strict=True)
        return min(columns), min(lines), max(columns), max(lines)

    def moved(self, dx: int, dy: int) -> Sheet:
        """Return the same picture elsewhere."""

        def shift(points: Iterable[Point]) -> list[Point]:
            return [(x + dx, y + dy) for x, y in points]

        return Sheet(
            [replace(b, x=b.x + dx, y=b.y + dy) for b in self.boxes],
            [replace(w, points=tuple(shift(w.points))) for w in self.wires],
            [replace(d, x=d.x + dx, y=d.y + dy) for d in self.dots],
            [replace(w, x=w.x + dx, y=w.y + dy) for w in self.labels],
            [f.moved(dx, dy) for f in self.frames],
            {key: shift(points) for key, points in self.exits.items()},
        )

    def add(self, other: Sheet) -> None:
        """Put the parts of another picture into this one; its exits are not taken over."""
        self.boxes += other.boxes
        self.wires += other.wires
        self.dots += other.dots
        self.labels += other.labels
        self.frames += other.frames


@dataclass(frozen=True)
class Scene:
    """A finished picture, from column and line 0 on.

    Attributes
    ----------
    width, height : in characters and lines.
    title : what it shows, for readers who do not see it.
    hues : the number of the colour of each index.

    Examples
    --------
    >>> from tenslora.draw import layout, to_text
    >>> from tenslora.spec import parse
    >>> scene = layout(parse("W[out in] = B[out r] A[r in]"))
    >>> scene.width, scene.height, scene.hues
    (28, 3, {'in': 0, 'out': 1, 'r': 2})
    >>> [box.text for box in scene.boxes], len(scene.wires)
    (['A', 'B'], 3)
    """

    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    dots: tuple[Dot, ...]
    labels: tuple[Label, ...]
    frames: tuple[Frame, ...]
    width: int
    height: int
    title: str
    hues: Mapping[str, int]

    @classmethod
    def of(cls, sheet: Sheet, title: str, hues: Mapping[str, int]) -> Scene:
        """Finish a picture."""
        left, top, right, bottom = sheet.bounds()
        moved = sheet.moved(-left, -top)
        return cls(
            boxes=tuple(moved.boxes),
            wires=tuple(moved.wires),
            dots=tuple(moved.dots),
            labels=tuple(moved.labels),
            frames=tuple(moved.frames),
            width=right - left + 1,
            height=bottom - top + 1,
            title=title,
            hues=dict(hues),
        )


def _in_line(a: Point, b: Point, c: Point) -> bool:
    """Whether going on from ``b`` to ``c`` is going on in the direction from ``a`` to ``b``."""
    return (a[0] == b[0] == c[0] and (b[1] - a[1]) * (c[1] - b[1]) > 0) or (
        a[1] == b[1] == c[1] and (b[0] - a[0]) * (c[0] - b[0]) > 0
    )
