"""Families and bound families as pictures, and as what a notebook shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenslora.draw import Drawing, draw, layout_plan, summary

if TYPE_CHECKING:
    from tenslora.family.bound import Bound
    from tenslora.family.family import Family

__all__ = ["bound_page", "draw_bound", "draw_family", "family_page"]


def draw_family(family: Family) -> Drawing:
    """Return the picture of a family's network."""
    zero = [core for core, rule in family.init.items() if rule.is_zero]
    return draw(family.network, frozen=family.frozen, zero=zero)


def draw_bound(bound: Bound, what: str) -> Drawing:
    """Return the picture of a bound family's network, or of its plan."""
    return Drawing(layout_plan(bound.plan())) if what == "plan" else draw_family(bound.family)


def family_page(family: Family) -> str:
    """Return the picture, the equation and the cores as HTML."""
    table = [("core", "start", "trained", "shared over")]
    table += [(str(core), *_core(family, name)) for name, core in family.network.cores.items()]
    facts = f"scale {family.scale}" + (f"; {family.summary}" if family.summary else "")
    scene = draw_family(family).scene
    return summary(family.network, scene, family.name or "", table, facts)


def bound_page(bound: Bound) -> str:
    """Return the picture, the counts and the cores with their shapes as HTML."""
    family = bound.family
    table = [("core", "shape", "entries", "start", "trained", "shared over")]
    table += [
        (
            str(core),
            " x ".join(map(str, bound.shapes[name])),
            f"{bound.counts[name]:,}",
            *_core(family, name),
        )
        for name, core in family.network.cores.items()
    ]
    sizes = ", ".join(f"{index} {size}" for index, size in bound.sizes.items())
    facts = f"{bound.trainable_parameters:,} trained parameters at {sizes}"
    scene = draw_family(family).scene
    return summary(family.network, scene, family.name or "", table, facts)


def _core(family: Family, name: str) -> tuple[str, str, str]:
    held = family.network.cores[name].indices
    shared = " ".join(site for site in family.network.sites if site not in held)
    return str(family.init[name]), "frozen" if name in family.frozen else "yes", shared
