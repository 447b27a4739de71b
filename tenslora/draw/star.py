"""A hub with leaves around it: inputs at the left, outputs at the right, sites below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenslora.draw.legs import LEG, half_width, hang, sites_prong
from tenslora.draw.parts import Parts, Tie
from tenslora.draw.row import offsets, ride, riders_room
from tenslora.draw.scene import Box, Dot, Sheet
from tenslora.draw.style import Style

__all__ = ["draw_star", "find_hub"]

_GAP = 5


@dataclass(frozen=True)
class Hub:
    """A star: the core in its middle (``None`` where a copy is), and each leaf with its bond."""

    core: int | None
    west: tuple[tuple[int, Tie], ...]
    east: tuple[tuple[int, Tie], ...]
    south: tuple[tuple[int, Tie], ...]


def find_hub(parts: Parts, component: Sequence[int]) -> Hub | None:
    """Return how a component is a star, or ``None``.

    It is one where every other core has one bond alone, to the hub; or where one bond joins three
    cores or more and there is no other. The hub has no features, and a leaf those of one role.
    Vectors may ride on the bonds that go to the sides.
    """
    bonds = parts.inside(component)
    if len(component) < 3:
        return None
    if len(bonds) == 1:
        return _sorted_leaves(parts, None, [(core, bonds[0]) for core in component])
    if any(len(tie.ends) != 2 for tie in bonds):
        return None
    for hub in component:
        ties = [tie for tie in bonds if hub in tie.ends]
        leaves = [next(core for core in tie.ends if core != hub) for tie in ties]
        whole = len(ties) == len(bonds) and len(set(leaves)) == len(leaves) == len(component) - 1
        if len(ties) > 2 and whole and not _features(parts, hub):
            return _sorted_leaves(parts, hub, list(zip(leaves, ties, strict=True)))
    return None


def _features(parts: Parts, core: int) -> set[str]:
    return {tie.role for tie in parts.ties if tie.role != "bond" and core in tie.ends}


def _sorted_leaves(parts: Parts, hub: int | None, leaves: list[tuple[int, Tie]]) -> Hub | None:
    roles = {core: _features(parts, core) for core, _ in leaves}
    if any(len(found) > 1 for found in roles.values()):
        return None
    sides: dict[str, list[tuple[int, Tie]]] = {"input": [], "output": [], "": []}
    for core, tie in leaves:
        sides[next(iter(roles[core]), "")].append((core, tie))
    west, east, south = (tuple(sorted(side, key=lambda leaf: leaf[0])) for side in sides.values())
    whole = west and east and not any(tie.riders for _, tie in south)
    return Hub(hub, west, east, south) if whole else None


def draw_star(parts: Parts, hub: Hub, style: Style) -> Sheet:
    """Draw a star, its hub around line 0."""
    sheet = Sheet()
    south = _south_columns(parts, hub)
    core = _middle(parts, hub, style)
    if core is None:
        sheet.dots.append(Dot(hub.west[0][1].index, 0, 0))
    else:
        sheet.boxes.append(core)
        _hub_sites(parts, hub, core, sheet)
    half = core.half_width if core else 0
    gap = _gap(parts, hub, half, south)
    _side(parts, hub.west, -1, core, gap, style, sheet)
    _side(parts, hub.east, 1, core, gap, style, sheet)
    _south(parts, hub, core, south, style, sheet)
    return sheet


def _middle(parts: Parts, hub: Hub, style: Style) -> Box | None:
    if hub.core is None:
        return None
    half = max(half_width(parts.names[hub.core]), len(hub.south) + 1)
    sites = parts.sites[hub.core]
    if sites and hub.south:
        half = max(half, _sites_port(hub, len(sites)) + (len(sites) + 1) // 2 + 1)
    tall = max(1, len(hub.west), len(hub.east), *(_reach(parts, s) for s in (hub.west, hub.east)))
    return style.box(parts.cores[hub.core], 0, 0, half, tall)


def _reach(parts: Parts, leaves: Sequence[tuple[int, Tie]]) -> int:
    """Half the height of a hub that meets two leaves without sites or riders by straight wires."""
    bare = all(not parts.sites[leaf] and not tie.riders for leaf, tie in leaves)
    return 3 if len(leaves) == 2 and bare and _heights(parts, leaves) == [1, 1] else 0


def _heights(parts: Parts, leaves: Sequence[tuple[int, Tie]]) -> list[int]:
    """Half the height of each leaf: room for its features."""
    return [
        max(1, len(parts.features(leaf, "input")), len(parts.features(leaf, "output")))
        for leaf, _ in leaves
    ]


def _sites_port(hub: Hub, count: int) -> int:
    """How far left of the middle the legs of the hub's sites are, beside the bonds below it."""
    return len(hub.south) + 1 + count // 2 if hub.south else 0


def _hub_sites(parts: Parts, hub: Hub, core: Box, sheet: Sheet) -> None:
    sites = parts.sites[hub.core] if hub.core is not None else ()
    if not hub.south:
        for prong in sites_prong(sites):
            hang(sheet, core, prong, 0, 1)
        return
    first = core.x - _sites_port(hub, len(sites)) - (len(sites) - 1) // 2
    for n, site in enumerate(sites):
        stop = core.bottom + max(LEG, len(sites))
        sheet.wire(site, (first + n, core.bottom), (first + n, stop), dotted=True)
        sheet.word(site, first - 1 - len(site), core.bottom + 1 + n, site)


def _gap(parts: Parts, hub: Hub, half: int, south: Sequence[tuple[int, int]]) -> int:
    """Columns between the hub and the leaves at its sides."""
    sides = (*hub.west, *hub.east)
    lanes = max(len(hub.west), len(hub.east))
    rooms = [len(tie.index) + _riders_room(parts, tie) for _, tie in sides]
    gap = max(_GAP, 2 + max(rooms) + (lanes if lanes > 1 else 0))
    if hub.core is None:
        return max(gap + 2, *(abs(x) + room + 2 for x, room in south), 0)
    words = max((len(site) + 3 for site in parts.sites[hub.core]), default=0) if hub.south else 0
    return max(gap, words, *(abs(x) + room + 2 - half for x, room in south), 0)


def _riders_room(parts: Parts, tie: Tie) -> int:
    room = riders_room(parts, tie)
    return room + 4 if room else 0


def _side(
    parts: Parts,
    leaves: Sequence[tuple[int, Tie]],
    way: int,
    core: Box | None,
    gap: int,
    style: Style,
    sheet: Sheet,
) -> None:
    """Draw the leaves at one side, their bonds, and where their features leave."""
    role, side = ("input", "w") if way < 0 else ("output", "e")
    half = core.half_width if core else 0
    heights = _heights(parts, leaves)
    boxes = []
    places = _stack(parts, leaves, heights)
    for (leaf, _), line, height in zip(leaves, places, heights, strict=True):
        wide = half_width(parts.names[leaf])
        x = way * (half + gap + 1 + wide)
        boxes.append(style.box(parts.cores[leaf], x, line, wide, height))
    lines = offsets(len(leaves)) if core else [0] * len(leaves)
    if core and core.half_height > len(leaves) and len(leaves) > 1:
        lines = [box.y for box in boxes]
    lanes = _bends(lines, [box.y for box in boxes]) if core else [1] * len(leaves)
    for (leaf, tie), box, line, lane in zip(leaves, boxes, lines, lanes, strict=True):
        sheet.boxes.append(box)
        near = box.left if way > 0 else box.right
        turn = way * (half + 1 + lane)
        sheet.wire(tie.index, (way * half, line), (turn, line), (turn, box.y), (near, box.y))
        start = turn if line != box.y else way * half
        if tie.riders:
            left = min(start, near) + 2
            sheet.word(tie.index, left, box.y - 1, tie.index)
            ride(parts, tie, left + len(tie.index) + 1, box.y, box.y, style, sheet)
        elif core or (leaf == leaves[0][0] and way < 0):
            sheet.centred(tie.index, (start + near) // 2, box.y - 1, tie.index)
        for prong in sites_prong(parts.sites[leaf]):
            hang(sheet, box, prong, 0, 1)
        features = parts.features(leaf, role)
        for feature, at in zip(features, offsets(len(features)), strict=True):
            sheet.exit(feature.index, side, (box.left if way < 0 else box.right, box.y + at))


def _stack(parts: Parts, leaves: Sequence[tuple[int, Tie]], heights: Sequence[int]) -> list[int]:
    """Return the lines of leaves one above the other, with room for their sites, around 0."""
    found: list[int] = []
    free = 0
    for (leaf, tie), height in zip(leaves, heights, strict=True):
        above = [4 + LEG + len(parts.sites[rider]) for rider in tie.riders]
        free += max(0, *above, height) - height
        found.append(free + height)
        depth = max((prong.depth for prong in sites_prong(parts.sites[leaf])), default=0)
        free += 2 * height + 2 + depth
    middle = (found[0] + found[-1]) // 2
    return [line - middle for line in found]


def _bends(ports: Sequence[int], lines: Sequence[int]) -> list[int]:
    """Return the lane in which each wire goes from its port to its line, so that none cross.

    >>> _bends([-2, 0, 2], [-6, 0, 6]), _bends([-1, 1], [-8, -4])
    ([0, 0, 0], [0, 1])
    """
    pairs = list(zip(ports, lines, strict=True))
    up = [n for n, (port, line) in enumerate(pairs) if line < port]
    down = [n for n, (port, line) in enumerate(pairs) if line > port][::-1]
    lanes = [0] * len(pairs)
    for group in (up, down):
        for lane, n in enumerate(group):
            lanes[n] = lane
    return lanes


def _south_columns(parts: Parts, hub: Hub) -> list[tuple[int, int]]:
    """Return for each leaf below its column and half the room that it takes."""
    found, free = [], 0
    for leaf, _ in hub.south:
        prongs = sites_prong(parts.sites[leaf])
        room = max(half_width(parts.names[leaf]), *(p.width // 2 for p in prongs), 0)
        found.append((free + room, room))
        free += 2 * room + 3
    middle = (found[0][0] + found[-1][0]) // 2 if found else 0
    return [(x - middle, room) for x, room in found]


def _south(
    parts: Parts,
    hub: Hub,
    core: Box | None,
    columns: Sequence[tuple[int, int]],
    style: Style,
    sheet: Sheet,
) -> None:
    """Draw the leaves below the hub: what runs over sites alone."""
    bottom = core.bottom if core else 0
    ports = offsets(len(columns)) if core else [0] * len(columns)
    lanes = _bends(ports, [x for x, _ in columns]) if core else [0] * len(columns)
    if core and len(columns) > 1:  # below the legs of the hub's sites, and their names
        legs = parts.sites[hub.core] if hub.core is not None else ()
        lanes = [lane + (max(LEG, len(legs)) if legs else 0) for lane in lanes]
    top = bottom + (4 if len(columns) > 1 else 3) + max(lanes, default=0)
    if not core:  # below every wire that goes to a side
        bottom = max(wire.points[n][1] for wire in sheet.wires for n in (0, -1) if not wire.dotted)
        top = max(bottom, 0) + 3
    for (leaf, tie), port, (x, _), lane in zip(hub.south, ports, columns, lanes, strict=True):
        wide = half_width(parts.names[leaf])
        box = style.box(parts.cores[leaf], x, top + 1, wide, 1)
        sheet.boxes.append(box)
        turn = bottom + 1 + lane
        start = core.bottom if core else 0
        sheet.wire(tie.index, (port, start), (port, turn), (x, turn), (x, top))
        if core:
            sheet.word(tie.index, x + 1, top - 1, tie.index)
        for prong in sites_prong(parts.sites[leaf]):
            hang(sheet, box, prong, 0, 1)
