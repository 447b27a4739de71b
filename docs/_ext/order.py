"""Which family of the catalogue is a special case of which, decided once and kept.

Families with one equation, the same frozen cores and the same starts are decided together. What
was decided is read again from ``_generated/order.json`` as long as the algebra's sources are the
same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any

import tenslora
from tenslora.algebra import Lattice, Proof, Refutation
from tenslora.algebra.proof import format_ranks
from tenslora.errors import SpecError
from tenslora.family import Family, embeds

#: An equation, its frozen cores, the start of each core, and the start from the weights.
Key = tuple[str, tuple[str, ...], tuple[tuple[str, str], ...], str]


class Order(Lattice):
    """A lattice whose verdicts are plain records: kind, ranks, proof or reason."""

    def kind(self, special: str, general: str) -> str:
        """As :meth:`tenslora.algebra.Lattice.kind`."""
        if special == general:
            return "equal"
        record = self.record(special, general)
        back = self.record(general, special)
        return "equal" if record["kind"] == back["kind"] == "free" else record["kind"]

    def record(self, special: str, general: str) -> dict[str, Any]:
        """Return what was decided of a pair."""
        found: Any = self.verdicts.get((special, general), {"kind": "apart"})
        return found


def _key(family: Family) -> Key:
    frozen = tuple(sorted(family.frozen))
    if not frozen:  # nothing follows from how trained cores start
        return str(family.network), (), (), ""
    starts = tuple((core, str(rule)) for core, rule in family.init.items())
    return str(family.network), frozen, starts, str(family.start or "")


def _decide(pair: tuple[Key, Key]) -> dict[str, Any]:
    one, two = (
        tenslora.family(text, frozen=frozen, init=dict(init), start=start, starts_nonzero=True)
        for text, frozen, init, start in pair
    )
    try:
        verdict = embeds(one, two, free=True)
    except SpecError as error:
        if error.code != "E130":
            raise
        return {"kind": "apart"}
    if isinstance(verdict, Proof):
        kind = "free" if verdict.free else "grows"
        return {"kind": kind, "ranks": format_ranks(verdict.ranks), "proof": str(verdict)}
    if isinstance(verdict, Refutation):
        return {"kind": "refuted", "reason": verdict.reason}
    return {"kind": "undecided", "reason": str(verdict)}


def _fingerprint() -> str:
    root = Path(tenslora.__file__).parent
    shown = {"lattice.py", "layers.py", "picture.py"}  # what is done with decisions
    paths = [path for path in sorted((root / "algebra").glob("*.py")) if path.name not in shown]
    paths += [root / "family" / name for name in ("limits.py", "proving.py")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _decide_all(pairs: Iterable[tuple[Key, Key]], kept: Path) -> dict[tuple[Key, Key], Any]:
    mark = _fingerprint()
    known: dict[str, Any] = {}
    if kept.exists():
        held = json.loads(kept.read_text(encoding="utf-8"))
        known = held["pairs"] if held["mark"] == mark else {}
    names = {pair: json.dumps(pair) for pair in pairs}
    missing = [pair for pair, name in names.items() if name not in known]
    if missing:
        with ProcessPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            found = pool.map(_decide, missing, chunksize=16)
            known.update(zip((names[pair] for pair in missing), found, strict=True))
        kept.write_text(json.dumps({"mark": mark, "pairs": known}), encoding="utf-8")
    return {pair: known[name] for pair, name in names.items()}


def order_of(families: Mapping[str, Family], kept: Path) -> Order:
    """Decide every ordered pair of families.

    Parameters
    ----------
    kept : the file of earlier decisions; written anew where some were missing.
    """
    keys = {name: _key(family) for name, family in families.items()}
    decided = _decide_all(permutations(dict.fromkeys(keys.values()), 2), kept)
    same = {"kind": "free", "ranks": "the same", "proof": "The equations are the same."}
    verdicts: dict[tuple[str, str], Any] = {
        (a, b): same if keys[a] == keys[b] else decided[keys[a], keys[b]]
        for a, b in permutations(families, 2)
    }
    return Order(tuple(families), verdicts)
