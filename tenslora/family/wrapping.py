"""Putting a wrapper around a family, and reading one from text."""

from __future__ import annotations

from tenslora.family.family import Family
from tenslora.family.registry import resolve
from tenslora.family.wrapped import Wrapped
from tenslora.family.wrapper import Wrapper, take_text_apart

__all__ = ["dora", "hira", "router", "unwrap", "wrap"]


def wrap(wrapper: str | Wrapper, family: str | Family) -> Wrapped:
    """Put a wrapper around a family.

    Parameters
    ----------
    wrapper : ``dora``, ``hira``, or ``router[expert]`` with a site index of the equation.
    family : a family, its name, or an equation.

    Raises
    ------
    FamilyError
        E313 for an unknown wrapper, one that does not fit the family, or a second one; E306 and
        others as :func:`tenslora.resolve` says.

    Examples
    --------
    >>> import tenslora as tl
    >>> tl.wrap("dora", "lora")(r=8)
    dora: W' = m (W0 + W) / |W0 + W|, row by row
    lora: W[layer proj out in] = B[layer proj out r] A[layer proj r in]
      start B zeros, A kaiming; scale alpha/r
      ranks r=8
    """
    chosen = Wrapper.parse(wrapper) if isinstance(wrapper, str) else wrapper
    if isinstance(family, Wrapped) or (isinstance(family, str) and take_text_apart(family)):
        return Wrapped(chosen, family)  # type: ignore[arg-type]  # refused there
    return Wrapped(chosen, resolve(family))


def dora(family: str | Family) -> Wrapped:
    """Train the length of each row of the weights apart from its direction (Liu et al. 2024).

    ``W' = m (W0 + W) / |W0 + W|``, row by row, and m starts as the lengths of the rows. The norm
    counts as a constant in the gradients, as in section 4.3 of the paper.

    Examples
    --------
    >>> import tenslora as tl
    >>> tl.dora("tenslora.qkv_depth").label
    'dora(tenslora.qkv_depth)'
    """
    return wrap("dora", family)


def hira(family: str | Family) -> Wrapped:
    """Multiply the update with the weight, entry by entry (Huang et al. 2025).

    ``W' = W0 + W0 * W``: the update may have a high rank, with the parameters of a low one.

    Examples
    --------
    >>> import tenslora as tl
    >>> tl.hira("tenslora.qkv_depth").label
    'hira(tenslora.qkv_depth)'
    """
    return wrap("hira", family)


def router(family: str | Family, over: str = "expert") -> Wrapped:
    """Weigh the experts of a site index for each token (MoLoRA; Zadouri et al. 2023).

    ``y = W0 x + sum over e of softmax(gate x)[e] W[e] x``. The experts are an index of the
    equation: cores that carry it differ from expert to expert, the others are shared.

    Parameters
    ----------
    family : has the site index.
    over : its name. Its size is said by ``sizes={"expert": 4}``.

    Examples
    --------
    >>> import tenslora as tl
    >>> mixture = tl.router("W[layer expert out in] = B[layer expert out r] A[layer r in]")
    >>> bound = mixture.bind({"layer": 2, "expert": 4, "out": 8, "in": 6}, r=2)
    >>> bound.own_shapes
    {'gate': (2, 4, 6)}
    """
    return wrap(Wrapper("router", over), family)


def unwrap(value: str | Family | Wrapped) -> tuple[Family, Wrapper | None]:
    """Return the family and the wrapper that a value or a text means.

    >>> family, wrapper = unwrap("dora(lora:8)")
    >>> dict(family.ranks), str(wrapper)
    ({'r': 8}, 'dora')
    """
    if isinstance(value, str) and (apart := take_text_apart(value)) is not None:
        value = wrap(*apart)
    return (value.family, value.wrapper) if isinstance(value, Wrapped) else (resolve(value), None)
