"""Whether one network is a special case of another: a proof, a counterexample, or neither."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from tenslora.algebra.align import align, assigned, assignments, chosen, impossible
from tenslora.algebra.limits import UNLIMITED, Limits
from tenslora.algebra.proof import Proof, check_networks, identity
from tenslora.algebra.refute import Refutation, refute_networks
from tenslora.algebra.search import LIMIT, Search, find_witness
from tenslora.algebra.units import with_units, without_units
from tenslora.algebra.witness import Witness, parse_witness
from tenslora.errors import SpecError
from tenslora.spec import Network, Slot

__all__ = ["Undecided", "Verdict", "check_aligned", "embed_networks"]


#: How many ways to size the parts of the larger network's features and sites are looked at.
WAYS = 128


@dataclass(frozen=True)
class _Way:
    """Both networks over one target, what was done, and the sizes that were chosen for parts."""

    special: Network
    general: Network
    steps: tuple[str, ...]
    parts: Mapping[str, Slot] = field(default_factory=dict)

    @classmethod
    def aligned(cls, special: Network, general: Network) -> _Way:
        return cls(*align(special, general))

    @classmethod
    def all(cls, special: Network, general: Network) -> tuple[list[_Way], int, int]:
        """Return the ways to size the parts of ``general`` that can be written, and their number.

        Of more than are looked at the first are returned. The last is how many there are besides
        that hold no sizes above 1.
        """
        found: list[_Way] = []
        number = none = 0
        for parts in islice(assignments(special, general), WAYS + 1):
            if impossible(general, parts):
                none += 1
                continue
            number += 1
            with contextlib.suppress(SpecError):  # a core would have no index left
                found.append(cls(*assigned(special, general, parts), parts))
        return found[: WAYS - none], number, none


@dataclass(frozen=True)
class Undecided:
    """That neither a witness nor a counterexample was found, and how far the search looked.

    Examples
    --------
    >>> import tenslora as tl
    >>> special = "W[k out in] = B[k out r] A[k r in]"
    >>> general = "W[k out in] = V[out b] S[k b a] U[a in]"
    >>> print(tl.embeds(special, general, limit=0))
    undecided  W[k out in] = B[k out r] A[k r in]
    in         W[k out in] = V[out b] S[k b a] U[a in]
    0 ways of hosting the cores were tried; stopped after 0; there are 9 ways in all; no
    counterexample was found either
    >>> bool(tl.embeds(special, general))
    True
    """

    special: Network
    general: Network
    tried: int
    notes: tuple[str, ...]

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        looked = f"{self.tried:,} ways of hosting the cores were tried"
        return "\n".join(
            [
                f"undecided  {self.special}",
                f"in         {self.general}",
                "; ".join([looked, *self.notes]) + "; no counterexample was found either",
            ]
        )


#: What :func:`~tenslora.algebra.embed_networks` answers; true where it is a proof.
Verdict = Proof | Refutation | Undecided


def embed_networks(
    special: Network,
    general: Network,
    *,
    frozen_special: Collection[str] = (),
    frozen_general: Collection[str] = (),
    limits_special: Limits = UNLIMITED,
    limits_general: Limits = UNLIMITED,
    free: bool = False,
    limit: int = LIMIT,
) -> Verdict:
    """Search for a proof that ``special`` is a special case of ``general``.

    Parameters
    ----------
    special, general : the networks; targets are aligned first (:func:`~tenslora.algebra.align`).
        What is claimed is that for all sizes of ``special`` there are sizes of the parts of
        ``general``, such as ``o1 = 1`` for LoRA in LoKr. It is tried at any sizes of them first,
        then in each way to choose them (:func:`~tenslora.algebra.align.assignments`); it is refuted
        only where each of these is.
    frozen_special, frozen_general : their frozen cores. A frozen core of ``general`` is filled from
        frozen cores and constants only.
    limits_special, limits_general : what more is known of the frozen cores.
    free : take a witness in which no rank grows with a size, where there is one.
    limit : how many ways of hosting the cores of a term are tried.

    Raises
    ------
    SpecError
        E130 where the two cannot be over one target.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> cp = parse("W[layer out in] = V[out r] S[layer r] U[in r]")
    >>> train = parse("W[layer out in] = V[out b] S[layer b a] U[a in]")
    >>> proof = embed_networks(cp, train)
    >>> print(proof.witness)
    V[out r_b] = V[out r_b]
    S[layer r_b r_a] = S[layer r_b] eye[r_b r_a]
    U[r_a in] = U[in r_a]
    """
    known = _Known(
        frozenset(frozen_special), frozenset(frozen_general), limits_special, limits_general
    )
    way = _Way.aligned(special, general)
    found, proof = known.search(way, free, limit)
    if proof is not None:
        return proof
    ways, number, none = _Way.all(special, general)
    if number or none:
        verdict = known.choose(ways, (number, none), general, found, free, limit)
    else:
        verdict = known.refute(way)
    if verdict is not None:
        return verdict
    return Undecided(way.special, way.general, found.tried, tuple(found.notes))


def check_aligned(
    special: Network,
    general: Network,
    witness: str | Iterable[str] | Witness,
    *,
    frozen_special: Collection[str] = (),
    frozen_general: Collection[str] = (),
    limits_special: Limits = UNLIMITED,
    limits_general: Limits = UNLIMITED,
) -> Proof:
    """Check a witness between networks whose targets are aligned first.

    It is read at any sizes of the parts of ``general``, and where it does not go so, in each way to
    choose them: the error is that of the first.

    Raises
    ------
    SpecError
        What :func:`~tenslora.algebra.check_networks` and :func:`~tenslora.algebra.align` say.
    """
    known = _Known(
        frozenset(frozen_special), frozenset(frozen_general), limits_special, limits_general
    )
    parsed = parse_witness(witness)
    try:
        return known.check(_Way.aligned(special, general), parsed)
    except SpecError as error:
        ways = [] if error.code == "E130" else _Way.all(special, general)[0]
        for way in ways:
            with contextlib.suppress(SpecError):
                return known.check(way, parsed)
        raise


@dataclass(frozen=True)
class _Known:
    """What is known of the frozen cores of both networks."""

    special: frozenset[str]
    general: frozenset[str]
    limits_special: Limits
    limits_general: Limits

    def search(self, way: _Way, free: bool, limit: int) -> tuple[Search, Proof | None]:
        """Search for a witness, and check what is found."""
        one, two = way.special, way.general
        small = without_units(two, self.limits_general)
        found = find_witness(
            one,
            small,
            frozen_special=self.special,
            frozen_general=self.general,
            given=[name for name in self.limits_general.given if name in small.cores],
            limit=limit,
        )
        wanted = [found.free, found.witness] if free else [found.witness, found.free]
        if small is not two:
            wanted = [one and with_units(one, two, small) for one in wanted]
        for witness in (*wanted, _itself(one, two)):
            if witness is not None:
                try:
                    return found, self.check(way, witness)
                except SpecError as error:
                    found.notes.append(_refused(error))
        return found, self.identity(one, two)

    def check(self, way: _Way, witness: str | Witness) -> Proof:
        return check_networks(
            way.special,
            way.general,
            witness,
            frozen_special=self.special,
            frozen_general=self.general,
            limits_special=self.limits_special,
            limits_general=self.limits_general,
            aligned=way.steps,
            parts=way.parts,
        )

    def identity(self, one: Network, two: Network) -> Proof | None:
        """Prove that a network is a special case of itself, where no witness can be written.

        That is so where an array has groups of different lengths in two places.
        """
        same = self.general <= self.special, self.limits_special is self.limits_general
        chosen = [name for name in two.cores if name in self.general]
        return identity(two, chosen) if one == two and all(same) else None

    def choose(
        self,
        ways: Sequence[_Way],
        numbers: tuple[int, int],
        general: Network,
        found: Search,
        free: bool,
        limit: int,
    ) -> Proof | Refutation | None:
        """Return a proof in one of the ways to size parts, or a refutation of them all.

        ``numbers`` are how many ways there may be, and how many there are not at sizes above 1:
        these are refuted where the counterexamples of the others have such sizes.
        """
        number, none = numbers
        refuted: list[Refutation] = []
        left: list[_Way] = []
        for way in ways:
            if (refutation := self.refute(way, general, cheap=True)) is not None:
                refuted.append(refutation)
                continue
            more, proof = self.search(way, free, max(0, limit - found.tried))
            if proof is not None:
                return proof
            found.tried += more.tried
            found.notes += [note for note in more.notes if note not in found.notes]
            left.append(way)
        for way in left if len(ways) == number else ():
            if (refutation := self.refute(way, general)) is None:
                break
            refuted.append(refutation)
        at = {tuple(one.sizes[i] for i in one.special.target.indices) for one in refuted}
        large = not none or all(size > 1 for sizes in at for size in sizes)
        if (
            len(refuted) == number
            and large
            and (len(at) == 1 or (at and self.nests(ways[0].special, general)))
        ):
            return refuted[0].at_all(number + none)
        count = f"{len(refuted) + none} of {number + none}"
        found.notes.append(f"{count} ways to size its parts are refuted")
        return None

    def nests(self, special: Network, general: Network) -> bool:
        """Whether a W cut to smaller sizes is one of the same network at these, and all are such.

        What is refuted at some sizes is then refuted at larger ones. An ``eye`` ties sizes to each
        other, and the values of rules and the ranks that weights have change with them.
        """
        terms = (*special.terms, *general.terms)
        eyes = any(core.name == "eye" for term in terms for core in term.cores)
        given = self.limits_special.given or self.limits_general.given
        return not (eyes or given or self.limits_general.words(general))

    def refute(
        self, way: _Way, general: Network | None = None, *, cheap: bool = False
    ) -> Refutation | None:
        """Look for a counterexample, at chosen sizes of the parts of ``general`` where it is given.

        ``cheap`` leaves dimensions out. None is looked for where the value of a rule would need a
        slot that has gone; a site that every core carries is not needed, there being a value for
        each.
        """
        if general is not None and _lost(general, self.limits_general.given, way.parts):
            return None
        return refute_networks(
            way.special,
            way.general,
            frozen_special=self.special,
            frozen_general=self.general,
            limits_special=self.limits_special,
            limits_general=self.limits_general,
            prime=() if general is None else chosen(way.special, general),
            dimensions=not cheap,
        )


def _lost(general: Network, given: Collection[str], parts: Mapping[str, Slot]) -> bool:
    """Whether a core with the value of a rule has lost a slot other than a site of every core."""
    gone = {part for part, group in parts.items() if not group}
    every = set(general.sites).intersection(*(core.indices for core in general.cores.values()))
    slots = [slot for name in given for slot in general.cores[name].slots]
    return any(gone.issuperset(slot) and not every.issuperset(slot) for slot in slots)


def _itself(special: Network, general: Network) -> str | None:
    """Each core as itself, where both networks are one; no group is searched in another order."""
    if special.terms != general.terms:
        return None
    return "\n".join(f"{core} = {core}" for core in general.cores.values())


def _refused(error: SpecError) -> str:
    """Say why a witness that was found is none.

    E132: groups of several bonds that its lines cannot tell apart. E134: a rank that a frozen core
    cannot have. Any other would be a mistake of the search: nothing is claimed.
    """
    kind = {"E132": "cannot be written", "E134": "is not admitted"}.get(error.code, "was refused")
    return f"a witness that {kind}: {error.what}"
