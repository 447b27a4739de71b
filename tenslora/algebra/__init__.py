"""The algebra of networks: operators, laws of rewriting, and proofs of special cases.

Everything here is structure: no sizes, no arrays, except where a proof is run on them. The
functions that take families, names and equations are in :mod:`tenslora.family`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# a function with the name of its module: once that is imported, the module would hide it
from tenslora.algebra.align import align, assigned
from tenslora.lazy import find

if TYPE_CHECKING:
    from tenslora.algebra.constants import eliminate
    from tenslora.algebra.embed import Undecided, Verdict, embed_networks
    from tenslora.algebra.forms import normal_form, same
    from tenslora.algebra.lattice import Lattice
    from tenslora.algebra.lifting import lift_arrays, lifted_sizes
    from tenslora.algebra.limits import Limits
    from tenslora.algebra.picture import lattice_svg
    from tenslora.algebra.proof import Proof, check_networks
    from tenslora.algebra.redundancy import Redundancy, redundancies
    from tenslora.algebra.refute import Refutation, refute_networks
    from tenslora.algebra.rewrite import (
        Rewrite,
        Simplified,
        absorb,
        drop_constants,
        drop_unit_bonds,
        join_bonds,
        join_group,
        merge,
        simplify,
        split_group,
    )
    from tenslora.algebra.witness import Definition, Witness, parse_witness

__all__ = [
    "Definition",
    "Lattice",
    "Limits",
    "Proof",
    "Redundancy",
    "Refutation",
    "Rewrite",
    "Simplified",
    "Undecided",
    "Verdict",
    "Witness",
    "absorb",
    "align",
    "assigned",
    "check_networks",
    "drop_constants",
    "drop_unit_bonds",
    "eliminate",
    "embed_networks",
    "join_bonds",
    "join_group",
    "lattice_svg",
    "lift_arrays",
    "lifted_sizes",
    "merge",
    "normal_form",
    "parse_witness",
    "redundancies",
    "refute_networks",
    "same",
    "simplify",
    "split_group",
]

#: The names of each module, which is imported when one of them is first used.
_NAMES = {
    "constants": ("eliminate",),
    "embed": ("Undecided", "Verdict", "embed_networks"),
    "forms": ("normal_form", "same"),
    "lattice": ("Lattice",),
    "lifting": ("lift_arrays", "lifted_sizes"),
    "limits": ("Limits",),
    "picture": ("lattice_svg",),
    "proof": ("Proof", "check_networks"),
    "redundancy": ("Redundancy", "redundancies"),
    "refute": ("Refutation", "refute_networks"),
    "rewrite": (
        "Rewrite", "Simplified", "absorb", "drop_constants", "drop_unit_bonds", "join_bonds",
        "join_group", "merge", "simplify", "split_group",
    ),
    "witness": ("Definition", "Witness", "parse_witness"),
}  # fmt: skip
_PLACES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    return find(__name__, name, _PLACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
