"""A ring of cores: half of it above and half below, between the input and the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tenslora.draw.legs import Prong, half_width, hang, sites_prong, spread
from tenslora.draw.parts import Parts, Tie
from tenslora.draw.row import offsets
from tenslora.draw.scene import Box, Sheet
from tenslora.draw.style import Style

__all__ = ["draw_ring", "find_ring"]

_GAP = 5  # columns between neighbours
_RISE = 3  # lines from a row to what is between the rows


@dataclass(frozen=True)
class Ring:
    """A cycle of cores, cut into a row above and a row below, each from left to right.

    Attributes
    ----------
    west, east : the cores of the input and the output, where each is alone with its role.
    """

    above: tuple[int, ...]
    below: tuple[int, ...]
    west: int | None
    east: int | None

    def cycle(self) -> tuple[int, ...]:
        """Return the cores in order, clockwise from the west."""
        west = () if self.west is None else (self.west,)
        east = () if self.east is None else (self.east,)
        return (*west, *self.above, *east, *reversed(self.below))


def find_ring(parts: Parts, component: Sequence[int]) -> Ring | None:
    """Return how a component is a ring, or ``None``.

    It is one where each of three cores or more has two bonds, to two others, with nothing riding
    on them, and where the features end in one core each.
    """
    bonds = parts.inside(component)
    ends = {frozenset(tie.ends) for tie in bonds}
    plain = all(len(tie.ends) == 2 and not tie.riders for tie in bonds)
    if len(component) < 3 or not plain or not len(ends) == len(bonds) == len(component):
        return None
    if any(sum(core in pair for pair in ends) != 2 for core in component):
        return None
    if any(not t.is_plain for t in parts.ties if t.role != "bond" and {*t.ends} & {*component}):
        return None
    cycle = _walk(component[0], ends)
    held = {role: [c for c in cycle if parts.features(c, role)] for role in ("input", "output")}
    if len(held["input"]) == len(held["output"]) == 1 and held["input"] != held["output"]:
        return _between(cycle, held["input"][0], held["output"][0])
    return _halves(parts, cycle)


def _walk(start: int, pairs: set[frozenset[int]]) -> list[int]:
    cycle, last = [start], -1
    while True:
        near = sorted(c for pair in pairs if cycle[-1] in pair for c in pair - {cycle[-1]})
        step = next(c for c in near if c != last)
        if step == start:
            return cycle
        last = cycle[-1]
        cycle.append(step)


def _between(cycle: list[int], west: int, east: int) -> Ring:
    at = cycle.index(west)
    turned = cycle[at:] + cycle[:at]
    cut = turned.index(east)
    above, below = turned[1:cut], turned[cut + 1 :][::-1]
    if len(above) < len(below):
        above, below = below, above
    return Ring(tuple(above), tuple(below), west, east)


def _halves(parts: Parts, cycle: list[int]) -> Ring:
    """Cut the cycle so that outputs are above and inputs below, as far as they can be."""

    def merit(ring: Ring) -> tuple[int, ...]:
        good = sum(len(parts.features(c, "output")) for c in ring.above)
        good += sum(len(parts.features(c, "input")) for c in ring.below)
        return (-good, *ring.cycle())

    count, half = len(cycle), (len(cycle) + 1) // 2
    turned = [way[n:] + way[:n] for way in (cycle, [cycle[0], *cycle[:0:-1]]) for n in range(count)]
    found = [Ring(tuple(t[:half]), tuple(t[half:][::-1]), None, None) for t in turned]
    return min(found, key=merit)


def draw_ring(parts: Parts, ring: Ring, style: Style) -> Sheet:
    """Draw a ring."""
    closed = ring.west is not None and not ring.below  # west and east are neighbours
    prongs = {core: _prongs(parts, ring, core, closed) for core in ring.cycle()}
    columns = _columns(parts, ring, prongs)
    lines = _lines(parts, ring, prongs, closed)
    sheet = Sheet()
    boxes: dict[int, Box] = {}
    for core, (up, down) in prongs.items():
        half = half_width(parts.names[core], spread(up), spread(down))
        tall = 1
        if core in (ring.west, ring.east):
            tall = max(1, len(parts.features(core, "input" if core == ring.west else "output")))
        boxes[core] = style.box(parts.cores[core], columns[core], lines[core], half, tall)
    sheet.boxes += boxes.values()
    ports = {core: _hang(sheet, boxes[core], *prongs[core]) for core in boxes}
    _join(parts, ring, boxes, ports, sheet)
    for end, role, side in ((ring.west, "input", "w"), (ring.east, "output", "e")):
        if end is not None:
            ties, box = parts.features(end, role), boxes[end]
            for tie, line in zip(ties, offsets(len(ties)), strict=True):
                sheet.exit(tie.index, side, (box.left if side == "w" else box.right, box.y + line))
    return sheet


_Prongs = tuple[list[Prong], list[Prong]]
_STEM = Prong(("",), "stem")


def _prongs(parts: Parts, ring: Ring, core: int, closed: bool) -> _Prongs:
    """Return what leaves a core upwards and downwards, bonds round a corner included."""
    sites = sites_prong(parts.sites[core])
    features = [
        Prong((tie.index,), "leg")
        for role in ("input", "output")
        for tie in parts.features(core, role)
    ]
    if core == ring.west:
        return [_STEM], sites + ([_STEM] if ring.below else [])
    if core == ring.east:
        return [_STEM], ([_STEM] if ring.below else []) + sites
    ends = ring.west is None and core in (*ring.above[:1], *ring.above[-1:])
    if core in ring.above:
        stem = [_STEM] if ends else []
        return (features, sites) if closed else (features + sites, stem)
    corner = ring.west is None and len(ring.below) > 1 and core in (ring.below[0], ring.below[-1])
    return [_STEM] if corner else [], features + sites


def _columns(parts: Parts, ring: Ring, prongs: dict[int, _Prongs]) -> dict[int, int]:
    """Return the column of each core: rows one under the other, west and east outside."""
    reach = {}
    for core, (up, down) in prongs.items():
        one, two = spread(up), spread(down)
        half = half_width(parts.names[core], one, two)
        reach[core] = (half, max(half, -one.left, -two.left), max(half, one.right, two.right))
    found = _line(ring.above, reach)
    lower = _line(ring.below, reach)
    last = max(found[c] for c in ring.above)
    if len(ring.below) > 1 and ring.west is None:  # the ends stand under the ends
        first = lower[ring.below[0]]
        span = max(lower.values()) - first
        if last - found[ring.above[0]] < span:
            _stretch(found, ring.above, span)
            last = max(found[c] for c in ring.above)
        _stretch(lower, ring.below, last - found[ring.above[0]])
        shift = found[ring.above[0]]
    else:
        if len(ring.below) == 1 and ring.west is None:  # room for a wire at both of its sides
            _stretch(found, ring.above, max(last, 2 * (reach[ring.below[0]][0] + 3)))
            last = max(found[c] for c in ring.above)
        shift = (last - max(lower.values(), default=0)) // 2
    found.update({core: x + shift for core, x in lower.items()})
    if ring.west is not None and ring.east is not None:
        left = min(found[c] - reach[c][1] for c in found)
        right = max(found[c] + reach[c][2] for c in found)
        found[ring.west] = left - 3 - reach[ring.west][2]
        found[ring.east] = right + 3 + reach[ring.east][1]
    return found


def _line(cores: Sequence[int], reach: dict[int, tuple[int, int, int]]) -> dict[int, int]:
    found: dict[int, int] = {}
    last: int | None = None
    for core in cores:
        half, left, _ = reach[core]
        if last is None:
            found[core] = 0
        else:
            far = reach[last]
            found[core] = found[last] + max(far[0] + _GAP + half + 1, far[2] + 2 + left + 1)
        last = core
    return found


def _stretch(columns: dict[int, int], cores: Sequence[int], span: int) -> None:
    """Set the cores of a row apart until its ends are ``span`` apart."""
    first, natural = columns[cores[0]], columns[cores[-1]] - columns[cores[0]]
    for n, core in enumerate(cores):
        extra = (span - natural) * n // max(1, len(cores) - 1)
        columns[core] += extra - first


def _lines(parts: Parts, ring: Ring, prongs: dict[int, _Prongs], closed: bool) -> dict[int, int]:
    """Return the line of each core: those above at 0."""
    found = dict.fromkeys(ring.above, 0)
    if ring.west is None or ring.east is None:
        found.update(dict.fromkeys(ring.below, 6 if len(ring.below) > 1 else 4))
        return found
    depth = max((p.depth for core in ring.above for p in prongs[core][1]), default=0)
    tall = max(1, len(parts.features(ring.west, "input")), len(parts.features(ring.east, "output")))
    middle = (max(depth + 4, 5) if closed else 4) + tall - 1
    found.update({ring.west: middle, ring.east: middle})
    found.update(dict.fromkeys(ring.below, 2 * middle))
    return found


def _hang(
    sheet: Sheet, box: Box, up: Sequence[Prong], down: Sequence[Prong]
) -> tuple[int | None, int | None]:
    """Draw the legs of a box, and return the columns of the stems above and below."""
    found: list[int | None] = []
    for way, prongs in ((-1, up), (1, down)):
        stem = None
        for prong, port in zip(prongs, spread(prongs).ports, strict=True):
            if prong.kind == "stem":
                stem = box.x + port
            else:
                hang(sheet, box, prong, port, way)
        found.append(stem)
    return found[0], found[1]


def _join(
    parts: Parts,
    ring: Ring,
    boxes: dict[int, Box],
    ports: dict[int, tuple[int | None, int | None]],
    sheet: Sheet,
) -> None:
    """Draw every bond: straight in a row, or round a corner."""
    bonds = {frozenset(tie.ends): tie for tie in parts.inside(ring.cycle())}
    rows = [ring.above, ring.below]
    if ring.west is not None and ring.east is not None and not ring.below:
        rows.append((ring.west, ring.east))
    for row in rows:
        for left, right in pairwise(row):
            _straight(bonds.pop(frozenset((left, right))), boxes[left], boxes[right], sheet)
    for pair, tie in bonds.items():
        one, two = sorted(pair, key=lambda core: (boxes[core].y, boxes[core].x))
        _corner(tie, (boxes[one], ports[one][1]), (boxes[two], ports[two][0]), sheet)


def _straight(tie: Tie, left: Box, right: Box, sheet: Sheet) -> None:
    sheet.wire(tie.index, (left.right, left.y), (right.left, right.y))
    sheet.centred(tie.index, (left.right + right.left) // 2, left.y - 1, tie.index)


def _corner(
    tie: Tie, upper: tuple[Box, int | None], lower: tuple[Box, int | None], sheet: Sheet
) -> None:
    """Draw a bond between two rows: where only one has a stem, the other is met at its side."""
    (top, down), (low, up) = upper, lower
    if down is not None and up is not None:
        sheet.wire(tie.index, (down, top.bottom), (down, low.y - 3), (up, low.y - 3), (up, low.top))
        sheet.word(tie.index, up + 2, low.top - 1, tie.index)
    elif up is not None:
        side = top.left if up < top.x else top.right
        sheet.wire(tie.index, (side, top.y), (up, top.y), (up, low.top))
        sheet.centred(tie.index, (side + up) // 2, top.y - 1, tie.index)
    elif down is not None:
        side = low.left if down < low.x else low.right
        sheet.wire(tie.index, (down, top.bottom), (down, low.y), (side, low.y))
        column = down - 1 - len(tie.index) if down < low.x else down + 2
        sheet.word(tie.index, column, low.y - 1, tie.index)
