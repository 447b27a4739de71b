"""Proofs about families by name, equation or value: what is a special case of what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tenslora.algebra.embed import Verdict, check_aligned, embed_networks
from tenslora.algebra.lattice import Lattice, make_lattice
from tenslora.algebra.lifting import lift_arrays
from tenslora.algebra.proof import Proof
from tenslora.algebra.search import LIMIT
from tenslora.algebra.witness import Witness
from tenslora.errors import SpecError
from tenslora.family.family import Family
from tenslora.family.limits import limits_of
from tenslora.family.registry import registered, resolve

__all__ = ["check", "embeds", "lattice", "lift"]


def check(
    special: str | Family, general: str | Family, witness: str | Iterable[str] | Witness
) -> Proof:
    """Check that a witness proves ``special`` to be a special case of ``general``.

    It is substituted into the equation of ``general``, constants are eliminated, and what is left
    is compared with the equation of ``special``: a proof for all sizes and ranks, not a sample.

    Parameters
    ----------
    special, general : families, their names, or equations. Sites and features are aligned first: a
        site or feature of the one is split where the other has several. Where the witness does not
        go so, the sizes of the parts of ``general`` are chosen, as :func:`embeds` does.
    witness : the value of each core of ``general`` in the cores of ``special`` and the constants
        ``eye``, ``ones`` and ``zeros``, one definition a line. A rank may be a group of indices,
        such as ``(layer r)``, or ``()``, which is 1. A frozen core has a constant value, which the
        witness chooses as far as the family leaves a choice (:func:`limits_of`).

    Raises
    ------
    SpecError
        E130 for targets that cannot be aligned, E131 to E133 for a witness that does not fit the
        families, E134 for a value or a rank that a frozen core cannot have, E135 for one that gives
        another W, with the first core where the two differ.

    Examples
    --------
    >>> proof = check(
    ...     "W[k out in] = B[k out r] A[k r in]",
    ...     "W[k out in] = V[out b] S[k b a] U[a in]",
    ...     "V[out (k r)] = B[k out r]; U[(k r) in] = A[k r in];"
    ...     "S[k (l r) (m s)] = eye[k l m] eye[r s]",
    ... )
    >>> print(proof)
    special case  W[k out in] = B[k out r] A[k r in]
    of            W[k out in] = V[out b] S[k b a] U[a in]
    witness
      V[out (k r)] = B[k out r]
      U[(k r) in] = A[k r in]
      S[k (l r) (m s)] = eye[k l m] eye[r s]
    ranks         b = k*r, a = k*r
    proof, for all sizes
      general     W[k out in] = V[out b] S[k b a] U[a in]
      substitute  W[k out in] = B[k2 out r] eye[k k2 m] eye[r s] A[m s in]
      copy, unit  W[k out in] = B[k out s] A[k s in]
      special     W[k out in] = B[k out r] A[k r in]
    """
    one, two = _family(special), _family(general)
    limits = limits_of(one)
    same = _same(one, two)
    return check_aligned(
        one.network,
        two.network,
        witness,
        frozen_special=one.frozen,
        frozen_general=two.frozen,
        limits_special=limits,
        limits_general=limits if same else limits_of(two),
    )


def embeds(
    special: str | Family, general: str | Family, *, free: bool = False, limit: int = LIMIT
) -> Verdict:
    """Search for a proof that ``special`` is a special case of ``general``.

    The claim: for all sizes, ranks and cores of ``special`` there are sizes of the parts of a
    feature, ranks and cores of ``general`` with the same W. LoRA is LoKr with ``o1 = i1 = 1``; what
    sizes a proof chooses is among its steps.

    Parameters
    ----------
    special, general : families, their names, or equations.
    free : take a witness at ranks that are made of the ranks of ``special`` where there is one;
        otherwise the one with the fewest parameters at ordinary sizes is taken.
    limit : how many ways of placing the cores of a term are tried.

    Returns
    -------
    Proof, Refutation or Undecided
        A proof is true in an ``if``, the others are false. A :class:`Refutation` holds at any ranks
        and gives its counterexample; :class:`Undecided` says how far the search looked. Of frozen
        cores :func:`limits_of` says what they can be.

    Raises
    ------
    SpecError
        E130 for targets that cannot be aligned.

    Examples
    --------
    >>> bool(embeds("lotr", "tenslora.depth"))
    True
    >>> embeds("lora", "lokr").steps[0], embeds("lora", "lokr").steps[2]
    (('align', 'o1 is 1'), ('align', 'i1 is 1'))
    >>> print(embeds("lora", "lora_xs").reason)
    frozen cores bound the larger network to 4 dimensions at any ranks; here W has 8
    """
    one, two = _family(special), _family(general)
    limits = limits_of(one)
    same = _same(one, two)
    return embed_networks(
        one.network,
        two.network,
        frozen_special=one.frozen,
        frozen_general=two.frozen,
        limits_special=limits,
        limits_general=limits if same else limits_of(two),
        free=free,
        limit=limit,
    )


def lift(
    cores: Mapping[str, Any], proof: Proof, sizes: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Return the cores of the larger family that give the W which ``cores`` give.

    Parameters
    ----------
    cores : an array of numpy for each core of ``proof.special``, one axis a slot. A tensor of torch
        is read too, with or without a gradient, bfloat16 as float32.
    proof : from :func:`check` or :func:`embeds`.
    sizes : sizes and ranks of ``proof.special``; what the shapes tell may be left out.

    Returns
    -------
    dict
        An array of numpy for each core of ``proof.general``.

    Raises
    ------
    SizeError
        E202 a size that the shapes do not tell, E204 a core that is missing or has another shape.
    SpecError
        E120 a core that ``proof.special`` does not have, E136 something else than a proof.

    Examples
    --------
    >>> import numpy as np
    >>> proof = embeds("W[out in] = B[out r] A[r in]", "W[out in] = T[out in]")
    >>> cores = {"B": np.array([[1.0], [2.0]]), "A": np.array([[3.0, 4.0]])}
    >>> lift(cores, proof)["T"].tolist()
    [[3.0, 4.0], [6.0, 8.0]]
    """
    return lift_arrays(proof, cores, sizes or {})


def lattice(families: Iterable[str | Family] | None = None) -> Lattice:
    """Decide every ordered pair of families; by default those that are registered.

    A proof at ranks made of ranks is preferred to a cheaper one at ranks that grow with sizes.

    Raises
    ------
    SpecError
        E138 for no families, or two that have one name and are not equal.

    Examples
    --------
    >>> print(lattice(["lora", "tied_lora", "lora_xs"]).table())  # doctest: +NORMALIZE_WHITESPACE
                0 1 2
    0 lora      = + .
    1 tied_lora < = .
    2 lora_xs   < + =
    <BLANKLINE>
    the row in the column: = the same set at suitable ranks, < a special case at ranks
    made of its own, + a special case whose ranks grow with a size, . not a special case
    at any ranks, ? undecided
    4 of 6 pairs proved (2 of them = or <), 2 refuted, 0 undecided
    """
    chosen = registered().values() if families is None else map(_family, families)
    by_name: dict[str, Family] = {}
    for one in chosen:
        if by_name.setdefault(one.label, one) != one:
            what = f"two different families are called {one.label}"
            advice = "Give them names: tl.family(..., name='frozen')."
            raise SpecError("E138", what, advice=advice)
    if not by_name:
        what = "there are no families to put in order"
        raise SpecError("E138", what, advice="Name two or more; without any it is the catalogue.")

    def decide(special: str, general: str) -> Verdict | None:
        try:
            return embeds(by_name[special], by_name[general], free=True)
        except SpecError as error:
            if error.code != "E130":
                raise
            return None

    return make_lattice(by_name, decide)


def _same(one: Family, two: Family) -> bool:
    """Whether two families differ in nothing that a proof is about."""
    return all(
        getattr(one, part) == getattr(two, part) for part in ("network", "frozen", "init", "start")
    )


def _family(value: str | Family) -> Family:
    return resolve(value, any_start=True)
