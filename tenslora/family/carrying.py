"""A start from the weights under an operator: kept where it means the same, refused elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from tenslora.errors import FamilyError
from tenslora.family.family import Family
from tenslora.init import WeightStart, parse_start
from tenslora.spec import Network

__all__ = ["carried", "of_product", "of_sum", "turned"]

_ADVICE = "Give start='...' for the result, or start='' for none."


def carried(
    one: Family, network: Network, cores: Mapping[str, str], advice: str = _ADVICE
) -> WeightStart | None:
    """Return the start of ``one`` for ``network``, whose cores have new names.

    The decomposition is of the weights as the new target has them: a group of features stays one
    mode, and a site that is taken at one value leaves the weights of that value.

    Raises
    ------
    FamilyError
        E310 where the cores do not have the shape of the decomposition any more.
    """
    if one.start is None:
        return None
    names = tuple(cores.get(name, name) for name in one.start.cores)
    start = replace(one.start, cores=names)
    try:
        return parse_start(str(start), network)
    except FamilyError as error:
        what = f"the start of {one.label} does not fit {network}: {error.what}"
        raise FamilyError("E310", what, advice=advice) from None


def turned(one: Family) -> WeightStart | None:
    """Return the start of the family of transposes.

    The two matrices of ``root_svd`` change places; a train and Tucker factors are of modes, whose
    order in the weight says nothing. The singular values of ``svd`` stand on the output's side.

    Raises
    ------
    FamilyError
        E310 for ``svd``, which has its singular values on the side of the output.
    """
    if one.start is None or one.start.kind in ("tt_svd", "hosvd"):
        return one.start
    if one.start.kind == "root_svd":
        return replace(one.start, cores=one.start.cores[::-1])
    what = f"the start {one.start} of {one.label} has the singular values on the output's side"
    what += ", which becomes the input's"
    raise FamilyError("E310", what, advice=_ADVICE)


def of_sum(
    one: Family, two: Family, cores: Mapping[str, str], share: Collection[str]
) -> WeightStart | None:
    """Return the start of a sum: that of the one family that has one, or one that both share.

    Raises
    ------
    FamilyError
        E310 for two starts, and for a shared core that only one of them fills.
    """
    first, second = one.start, two.start
    if second is not None:
        second = replace(second, cores=tuple(cores[name] for name in second.cores))
    if first is not None and second is not None and first != second:
        what = f"a sum of {one.label}, started by {first}, and {two.label}, by {second}"
        raise FamilyError("E310", what, advice=f"A family has one start. {_ADVICE}")
    for core in share:
        filled = [start is not None and core in start.cores for start in (first, second)]
        if filled[0] != filled[1]:
            what = f"the shared core {core} is filled from the weights in one of {one.label} and "
            raise FamilyError("E310", f"{what}{two.label}", advice=_ADVICE)
    return first or second


def of_product(one: Family, two: Family, what: str) -> None:
    """Refuse the starts of the factors of a product: they are no decompositions of its weights.

    Raises
    ------
    FamilyError
        E310 where one of them has a start.
    """
    for family in (one, two):
        if family.start is not None:
            text = f"the start {family.start} of {family.label} fills it from the weights, and the"
            text += f" {what} is another matrix than its factors"
            raise FamilyError("E310", text, advice=_ADVICE)
