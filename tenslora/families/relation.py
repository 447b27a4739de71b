"""One method a special case of another: the data of a relation, and how it is checked."""

from __future__ import annotations

from dataclasses import dataclass

from tenslora.algebra.proof import Proof
from tenslora.family import family
from tenslora.family.proving import check

__all__ = ["Relation", "prove"]

# Methods that are named in an equality, as equations over the targets of the catalogue.
TUCKER2 = "W[layer proj out in] = V[layer proj out b] G[layer proj b a] U[layer proj a in]"
LOTR_ONE_PAIR = "W[layer proj out in] = B[out s] G[layer proj s r] A[r in]"
METATT5 = (
    "W[layer proj (head head_dim) in] = B[head_dim d] H[d head c] P[c proj b] D[b layer a] A[a in]"
)
CARA = "W[site (head head_dim) in] = A[in r] H[head r] B[head_dim r] S[site r] w[r]"
MOSLORA = "W[layer proj out in] = B[layer proj out b] M[layer proj b a] A[layer proj a in]"
LORA_XS = "W[layer proj out in] = U[layer proj out s] R[layer proj s r] V[layer proj r in]"
TINYLORA = "W[layer proj out in] = U[layer proj out s] v[layer proj u] P[u r s] V[layer proj r in]"
CP3 = "W[site out in] = B[out r] d[site r] A[in r]"
TT_MATRIX2 = "W[layer proj (o1 o2) (i1 i2)] = G1[layer proj o1 i1 a] G2[layer proj a o2 i2]"
LOKR_UNIT = "W[layer proj out in] = C[layer proj] B[layer proj out r] A[layer proj r in]"
TRAIN2 = "W[layer proj out in] = G1[layer proj out a] G2[layer proj a in]"
RING = "W[layer proj out in] = V[layer proj out b t] G[layer proj a b] U[layer proj t in a]"
FULL = "W[layer proj out in] = T[layer proj out in]"


@dataclass(frozen=True)
class Relation:
    """That ``special`` is a special case of ``general``, by ``witness``.

    Attributes
    ----------
    number : of the equality in the list of the documentation; 0 for an inclusion that is none.
    text : what it says.
    special, general : names or equations.
    witness : one definition a core of ``general``.
    frozen_special, frozen_general : frozen cores of equations that have no name.
    """

    number: int
    text: str
    special: str
    general: str
    witness: str
    frozen_special: tuple[str, ...] = ()
    frozen_general: tuple[str, ...] = ()


def prove(relation: Relation) -> Proof:
    """Check the witness of a relation.

    Examples
    --------
    >>> from tenslora.families.relations import RELATIONS
    >>> prove(RELATIONS[0]).ranks
    {'a': ('layer', 'proj', 'r'), 'b': ('layer', 'proj', 'r'), 'c': ('proj',), 'd': ('layer',)}
    """
    special: object = relation.special
    general: object = relation.general
    if relation.frozen_special:
        special = family(relation.special, frozen=relation.frozen_special, starts_nonzero=True)
    if relation.frozen_general:
        general = family(relation.general, frozen=relation.frozen_general, starts_nonzero=True)
    return check(special, general, relation.witness)  # type: ignore[arg-type]
