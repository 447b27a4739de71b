"""A picture in characters: boxes and wires from Unicode's box drawing."""

from __future__ import annotations

from tenslora.draw.scene import Box, Scene, Wire

__all__ = ["to_text"]

_N, _E, _S, _W = 1, 2, 4, 8
_LINES = {
    _N | _S: "│", _E | _W: "─", _S | _E: "╭", _S | _W: "╮", _N | _E: "╰", _N | _W: "╯",
    _N | _S | _E: "├", _N | _S | _W: "┤", _E | _W | _S: "┬", _E | _W | _N: "┴",
    _N | _E | _S | _W: "┼", _N: "│", _S: "│", _E: "─", _W: "─",
}  # fmt: skip
_BORDERS = {"frozen": ("┄", "┊"), "constant": ("┄", "┊")}


def to_text(scene: Scene) -> str:
    """Return the picture as lines of text, without spaces at their ends.

    A frozen core has a dashed border, a core that is zero at the start a 0 in it; the legs of sites
    are dotted and a copy is a dot.

    Examples
    --------
    >>> from tenslora.draw.layout import layout
    >>> from tenslora.spec import parse
    >>> scene = layout(parse("W[out in] = B[out r] A[r in]"), frozen=["A"], zero=["B"])
    >>> print(to_text(scene))
          ╭┄┄┄╮  r  ╭──0╮
    in ───┤ A ├─────┤ B ├─── out
          ╰┄┄┄╯     ╰───╯
    """
    canvas = _Canvas(scene.width, scene.height)
    for wire in scene.wires:
        canvas.wire(wire)
    for box in scene.boxes:
        canvas.box(box)
    for dot in scene.dots:
        canvas.put(dot.x, dot.y, "●")
    for label in scene.labels:
        for n, letter in enumerate(label.text):
            canvas.put(label.x + n, label.y, letter)
    return canvas.text()


class _Canvas:
    """A rectangle of characters; lines that meet are joined."""

    def __init__(self, width: int, height: int) -> None:
        self.rows = [[" "] * width for _ in range(height)]
        self.ends: dict[tuple[int, int], int] = {}

    def put(self, x: int, y: int, letter: str) -> None:
        self.rows[y][x] = letter

    def text(self) -> str:
        return "\n".join("".join(row).rstrip() for row in self.rows).strip("\n")

    def wire(self, wire: Wire) -> None:
        for (x1, y1), (x2, y2) in zip(wire.points, wire.points[1:], strict=False):
            if y1 == y2:
                for x in range(min(x1, x2), max(x1, x2) + 1):
                    ways = (_E if x < max(x1, x2) else 0) | (_W if x > min(x1, x2) else 0)
                    self._meet(x, y1, ways, dotted=False)
            else:
                for y in range(min(y1, y2), max(y1, y2) + 1):
                    ways = (_S if y < max(y1, y2) else 0) | (_N if y > min(y1, y2) else 0)
                    self._meet(x1, y, ways, dotted=wire.dotted)

    def _meet(self, x: int, y: int, ways: int, *, dotted: bool) -> None:
        self.ends[x, y] = self.ends.get((x, y), 0) | ways
        letter = _LINES[self.ends[x, y]]
        self.put(x, y, "┊" if dotted and letter == "│" else letter)

    def box(self, box: Box) -> None:
        across, down = _BORDERS.get(box.kind, ("─", "│"))
        for x in range(box.left, box.right + 1):
            for y in range(box.top, box.bottom + 1):
                self.put(x, y, self._border(box, x, y, across, down))
        for n, letter in enumerate(box.text):
            self.put(box.x - (len(box.text) - 1) // 2 - (len(box.text) + 1) % 2 + n, box.y, letter)
        if box.zero:
            self.put(box.right - 1, box.top, "0")

    def _border(self, box: Box, x: int, y: int, across: str, down: str) -> str:
        at_side, at_edge = x in (box.left, box.right), y in (box.top, box.bottom)
        if at_side and at_edge:
            return "╭╮╰╯"[(x == box.right) + 2 * (y == box.bottom)]
        ways = self.ends.get((x, y), 0)
        if at_side and ways & (_E | _W):
            return "┤" if x == box.left else "├"
        if at_edge and ways & (_N | _S):
            return "┴" if y == box.top else "┬"
        return down if at_side else across if at_edge else " "
