"""Equalities between published methods, each with the witness that proves it.

``prove(relation)`` checks one; the tests check all, as symbols and in numbers.
"""

from __future__ import annotations

from tenslora.families.equalities_shared import SHARED
from tenslora.families.equalities_single import SINGLE
from tenslora.families.relation import Relation

__all__ = ["RELATIONS"]

RELATIONS: tuple[Relation, ...] = (*SHARED, *SINGLE)
