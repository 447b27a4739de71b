"""Whether one network is a special case of another: a proof, a counterexample, or neither."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tenslora.algebra.align import align
from tenslora.algebra.limits import UNLIMITED, Limits
from tenslora.algebra.proof import Proof, check_networks
from tenslora.algebra.refute import Refutation, refute_networks
from tenslora.algebra.search import LIMIT, find_witness
from tenslora.errors import SpecError
from tenslora.spec import Network

__all__ = ["Undecided", "Verdict", "embed_networks"]


@dataclass(frozen=True)
class Undecided:
    """That neither a witness nor a counterexample was found, and how far the search looked."""

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
    one, two, steps = align(special, general)
    found = find_witness(
        one,
        two,
        frozen_special=frozen_special,
        frozen_general=frozen_general,
        given=limits_general.given,
        limit=limit,
    )
    wanted = (found.free, found.witness) if free else (found.witness, found.free)
    for witness in (*wanted, _itself(one, two)):
        if witness is not None:
            try:
                return check_networks(
                    one,
                    two,
                    witness,
                    frozen_special=frozen_special,
                    frozen_general=frozen_general,
                    limits_special=limits_special,
                    limits_general=limits_general,
                    aligned=steps,
                )
            except SpecError as error:
                found.notes.append(_refused(error))
    refutation = refute_networks(
        one,
        two,
        frozen_special=frozen_special,
        frozen_general=frozen_general,
        limits_special=limits_special,
        limits_general=limits_general,
    )
    return (
        refutation
        if refutation is not None
        else Undecided(one, two, found.tried, tuple(found.notes))
    )


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
