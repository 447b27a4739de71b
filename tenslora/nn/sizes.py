"""The sizes of an equation's feature indices, read from a module and the model's config."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from torch import nn

from tenslora.errors import AttachError
from tenslora.nn.grid import Grid
from tenslora.nn.layouts import heads_beside
from tenslora.nn.site import Site
from tenslora.spec import Network, Slot, balanced, is_count, slot_size

__all__ = [
    "HEAD_NAMES",
    "check_heads",
    "check_prefixes",
    "complete",
    "heads",
    "largest",
    "other_heads",
]

HEAD_NAMES = ("head", "heads")


def complete(
    model: nn.Module,
    network: Network,
    site: Site,
    grid: Grid,
    given: Mapping[str, int],
) -> dict[str, int]:
    """Return the size of every site, output and input index for one shape group.

    Parameters
    ----------
    site : any site of the group; its module gives the totals of output and input.
    grid : gives the sizes of the site indices.
    given : the caller's sizes, which come first.

    Returns
    -------
    dict
        In a group such as ``(head head_dim)`` the number of heads is the config's for a matrix of
        this height (``num_key_value_heads`` for keys and values; without a config the
        ``num_heads`` of the module around it), a single unknown index follows
        from the product, and several unknown ones split it as evenly as integers can, the larger
        factors last.

    Raises
    ------
    AttachError
        E506 where sizes contradict the module, or the number of heads is not known.
    """
    for name, value in given.items():
        if name not in network.target.indices or not is_count(value):
            what = f"sizes: {name}={value!r}"
            advice = f"Positive integers for {', '.join(network.features)}; ranks go into ranks=."
            raise AttachError("E506", what, advice=advice)
    sizes = dict(grid.sizes)
    sizes.update({n: given[n] for n in network.sites if n in given and n not in sizes})
    for name, size in grid.sizes.items():
        if given.get(name, size) != size:
            what = f"sizes: {name}={given[name]}, and the targets have {name}={size}"
            raise AttachError("E506", what, advice="Leave it out: it is counted.")
    for slot, total, side in (
        (network.output, site.out_features, "output"),
        (network.input, site.in_features, "input"),
    ):
        sizes.update(_split(model, slot, total, site, given, side))
    return sizes


def largest(sites: Sequence[Site]) -> Site:
    """The site with the most output features, with the most input features of any."""
    width = max(site.in_features for site in sites)
    return replace(max(sites, key=lambda site: site.out_features), in_features=width)


def check_prefixes(network: Network, sizes: Mapping[str, int], sites: Sequence[Site]) -> None:
    """Refuse a site whose leading rows or columns end within a head, say, of the shared matrix.

    Raises
    ------
    AttachError
        E507 where the features of a site are no whole number of steps of the first index.
    """
    for site in sites:
        for slot, total in ((network.output, site.out_features), (network.input, site.in_features)):
            step = slot_size(slot[1:], sizes)
            if total % step:
                what = f"{site} has {total} features, which end within a {slot[0]} of {step}"
                advice = 'Use ragged="group": a bank for each shape.'
                raise AttachError("E507", what, advice=advice)


def check_heads(
    model: nn.Module, network: Network, sizes: Mapping[str, int], sites: Sequence[Site]
) -> None:
    """Refuse sites of one shape whose modules have other heads, as a decoder may beside an encoder.

    Raises
    ------
    AttachError
        E506 with the first two that differ.
    """
    other = other_heads(model, network, sizes, sites)
    if other is not None:
        index, site, found = other
        what = f"{sites[0]} has {sizes[index]} heads, and {site} of the same shape has {found}"
        advice = f'Attach to them apart, or give sizes={{"{index}": ...}} for both.'
        raise AttachError("E506", what, advice=advice)


def other_heads(
    model: nn.Module, network: Network, sizes: Mapping[str, int], sites: Sequence[Site]
) -> tuple[str, Site, int] | None:
    """The first site whose config states other heads than ``sizes`` has: index, site, number."""
    for slot, side in ((network.output, 0), (network.input, 1)):
        if len(slot) == 1 or slot[0] not in HEAD_NAMES:
            continue
        whole, count = slot_size(slot, sizes), sizes[slot[0]]
        for site in sites:
            config = _config(model, site.path)
            if config is None or site.shape[side] != whole:
                continue
            found = heads(config, whole, decoder=_in_decoder(site))
            if found is not None and found != count:
                return slot[0], site, found
    return None


def _in_decoder(site: Site) -> bool:
    return "decoder" in site.path.split(".")


def _split(
    model: nn.Module,
    slot: Slot,
    total: int,
    site: Site,
    given: Mapping[str, int],
    side: str,
) -> dict[str, int]:
    sizes = {name: given[name] for name in slot if name in given}
    unknown = [name for name in slot if name not in sizes]
    named_heads = [name for name in unknown if name in HEAD_NAMES]
    if len(slot) > 1 and named_heads and len(unknown) > 1:
        sizes[named_heads[0]] = _heads_of(model, site, total, slot)
        unknown.remove(named_heads[0])
    part = math.prod(sizes.values())
    if total % part or (not unknown and part != total):
        text = " x ".join(f"{name}={sizes[name]}" for name in slot if name in sizes)
        what = f"{text} does not give the {total} {side} features of {site}"
        advice = f"Give sizes whose product is {total}" + (
            f", or leave out {slot[-1]}: it follows." if len(slot) > 1 else "."
        )
        raise AttachError("E506", what, advice=advice)
    factors = balanced(total // part, len(unknown))
    sizes.update(zip(unknown, factors, strict=True))
    return {name: sizes[name] for name in slot}


def _heads_of(model: nn.Module, site: Site, total: int, slot: Slot) -> int:
    config = _config(model, site.path)
    if config is None:
        told = getattr(model.get_submodule(site.path), "told_heads", 0)  # of a stand-in
        beside = told or heads_beside(model.get_submodule(site.path.rpartition(".")[0]))
        if beside and total % beside == 0:
            return beside
        what = f"the number of heads of {site} is not known: the model has no config that says it"
        advice = f'Give sizes={{"{slot[0]}": ...}}.'
        raise AttachError("E506", what, advice=advice)
    found = heads(config, total, decoder=_in_decoder(site))
    if found is None:
        name = type(config).__name__
        what = f"{site} has {total} features, which are no heads of {name}"
        advice = f"Choose attention projections, or give sizes for {', '.join(slot)}."
        raise AttachError("E506", what, advice=advice)
    return found


def heads(config: object, features: int, *, decoder: bool = False) -> int | None:
    """The number of heads in ``features`` features, or ``None`` where they are no whole heads.

    The config's ``head_dim`` (or ``hidden_size / num_attention_heads``) tells queries from keys
    and values, which may have fewer heads. A ``decoder`` may have a number of its own.
    """
    number = getattr(config, "num_attention_heads", None)
    if decoder:
        number = getattr(config, "decoder_attention_heads", number)
    hidden = getattr(config, "hidden_size", None)
    if not isinstance(number, int) or number < 1:
        return None
    width = getattr(config, "head_dim", None)
    if not isinstance(width, int):
        width = hidden // number if isinstance(hidden, int) else None
    if not width:
        return number if features % number == 0 else None
    fewer = (getattr(config, name, None) for name in ("num_key_value_heads", "num_kv_heads"))
    for count in (number, *fewer, 1 if getattr(config, "multi_query", False) else None):
        if isinstance(count, int) and count * width == features:
            return count
    return None


def _config(model: nn.Module, path: str) -> object | None:
    """The config of the nearest module above ``path`` that states a number of heads."""
    for module in _upwards(model, path):
        config = getattr(module, "config", None)
        if isinstance(getattr(config, "num_attention_heads", None), int):
            return config
    return None


def _upwards(model: nn.Module, path: str) -> Iterator[nn.Module]:
    words = path.split(".")
    for length in range(len(words), -1, -1):
        yield model.get_submodule(".".join(words[:length]))
