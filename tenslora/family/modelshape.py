"""The weights of a model as far as a budget needs them: read from its config, without the model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenslora.errors import SizeError
from tenslora.spec import Network, Slot, balanced, is_count

__all__ = ["KNOWN_MODELS", "ModelShape", "Weights", "model_shape"]


def _encoder(layers: int, hidden: int) -> dict[str, int]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": 12,
        "intermediate_size": 4 * hidden,
    }


#: Models by name: the entries of their configs that matter here.
KNOWN_MODELS: Mapping[str, Mapping[str, int]] = {
    "minilm": _encoder(6, 384),
    "bert-base": _encoder(12, 768),
    "roberta-base": _encoder(12, 768),
    "vit-base": _encoder(12, 768),
    "llama-3-8b": {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 14336,
    },
    "llama-3.2-3b": {
        "num_hidden_layers": 28,
        "hidden_size": 3072,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 8192,
    },
}

#: What the entries are called in configs of other kinds of models.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "fewer": ("num_key_value_heads",),
    "width": ("head_dim", "d_kv"),
    "inner": ("intermediate_size", "n_inner", "d_ff", "hidden_dim"),
}


#: The projections of a model, each with the first one that reads the same input.
_READERS = {"q": "q", "k": "q", "v": "q", "o": "o", "gate": "gate", "up": "gate", "down": "down"}


@dataclass(frozen=True)
class Weights:
    """Weight matrices of one shape: in every layer one for each projection.

    Attributes
    ----------
    projections : their names.
    layers, out, inputs : the sizes.
    heads : heads in the output, ``None`` where there are none.

    Examples
    --------
    >>> from tenslora.spec import parse
    >>> weights = Weights(("q", "k", "v"), layers=12, out=768, inputs=768, heads=12)
    >>> weights.count
    36
    >>> weights.sizes(parse("W[layer proj (head dim) in] = H[head r] D[dim r] L[layer proj r in]"))
    {'layer': 12, 'proj': 3, 'head': 12, 'dim': 64, 'in': 768}
    """

    projections: tuple[str, ...]
    layers: int
    out: int
    inputs: int
    heads: int | None = None

    @property
    def count(self) -> int:
        """The number of matrices."""
        return self.layers * len(self.projections)

    def sizes(self, network: Network) -> dict[str, int]:
        """Return the size of every index of a network's target on these weights.

        Raises
        ------
        SizeError
            E213 where the network has a site index that a model's config does not tell, or heads
            where there are none.
        """
        known = {"layer": self.layers, "proj": len(self.projections), "site": self.count}
        for site in network.sites:
            if site not in known:
                what = f"a model's config says nothing of the site index {site}"
                raise SizeError("E213", what, advice="Give its size in words: name=value.")
        sizes = {site: known[site] for site in network.sites}
        sizes.update(self._split(network.output, self.out))
        sizes.update(self._split(network.input, self.inputs))
        return sizes

    def inputs_of(self, network: Network) -> list[tuple[int, str]]:
        """Return the input that each site of a network reads: of its layer, and of which part.

        Query, key and value read one, and so do gate and up; projections of other names read one,
        too. The order is that of the site indices;
        ``site`` counts the projections of the first layer, then those of the next.

        Examples
        --------
        >>> from tenslora.spec import parse
        >>> weights = Weights(("q", "k", "o"), layers=1, out=4, inputs=4)
        >>> weights.inputs_of(parse("W[layer proj out in] = B[layer proj out r] A[r in]"))
        [(0, 'q'), (0, 'q'), (0, 'o')]
        """
        found = []
        sizes = self.sizes(network)
        for place in itertools.product(*(range(sizes[site]) for site in network.sites)):
            known = dict(zip(network.sites, place, strict=True))
            layer, number = divmod(known.get("site", 0), len(self.projections))
            layer, number = known.get("layer", layer), known.get("proj", number)
            found.append((layer, _READERS.get(self.projections[number], "")))
        return found

    def _split(self, slot: Slot, total: int) -> dict[str, int]:
        sizes: dict[str, int] = {}
        rest = [name for name in slot if name not in ("head", "heads") or len(slot) == 1]
        if len(rest) < len(slot):
            if self.heads is None:
                listed = ", ".join(self.projections)
                what = f"the {total} features of {listed} are no heads"
                raise SizeError("E213", what, advice="Choose query, key, value or output.")
            sizes[next(name for name in slot if name not in rest)] = self.heads
            total //= self.heads
        sizes.update(zip(rest, balanced(total, len(rest)), strict=True))
        return {name: sizes[name] for name in slot}


@dataclass(frozen=True)
class ModelShape:
    """What :func:`model_shape` returns: a name, and the weights by shape.

    Examples
    --------
    >>> shape = model_shape("llama-3.2-3b", ["q", "k", "v"])
    >>> shape.name, shape.count
    ('llama-3.2-3b', 84)
    >>> [(group.projections, group.out, group.inputs) for group in shape.weights]
    [(('q',), 3072, 3072), (('k', 'v'), 1024, 3072)]
    """

    name: str
    weights: tuple[Weights, ...]

    @property
    def count(self) -> int:
        """The number of matrices."""
        return sum(group.count for group in self.weights)


def model_shape(
    config: str | Path | Mapping[str, Any], targets: Sequence[str] = ("q", "k", "v")
) -> ModelShape:
    """Read which weights an adapter would cover.

    Parameters
    ----------
    config : a ``config.json``, the folder that holds one, its content, or a name of
        :data:`KNOWN_MODELS`.
    targets : of ``q k v o`` and of ``gate up down`` (a feed-forward part without gate has ``up``
        and ``down``).

    Raises
    ------
    SizeError
        E213 for a config that is not there or lacks an entry, and for unknown targets.

    Examples
    --------
    >>> for group in model_shape("llama-3.2-3b").weights:
    ...     print(group)
    Weights(projections=('q',), layers=28, out=3072, inputs=3072, heads=24)
    Weights(projections=('k', 'v'), layers=28, out=1024, inputs=3072, heads=8)
    """
    name, entries = _read(config)
    entries = entries.get("text_config", entries)
    found = {key: _number(name, entries, key) for key in _NAMES}
    layers, hidden, heads = (_needed(name, found, key) for key in ("layers", "hidden", "heads"))
    width = found["width"] or hidden // heads
    fewer = found["fewer"] or heads
    inner = found["inner"] or 4 * hidden
    shapes: dict[str, tuple[int, int, int | None]] = {
        "q": (heads * width, hidden, heads),
        "k": (fewer * width, hidden, fewer),
        "v": (fewer * width, hidden, fewer),
        "o": (hidden, heads * width, heads if hidden == heads * width else None),
        "gate": (inner, hidden, None),
        "up": (inner, hidden, None),
        "down": (hidden, inner, None),
    }
    groups: dict[tuple[int, int, int | None], list[str]] = {}
    for target in dict.fromkeys(targets):
        if target not in shapes:
            what = f"targets names {target!r}"
            raise SizeError("E213", what, advice=f"The targets are {', '.join(shapes)}.")
        groups.setdefault(shapes[target], []).append(target)
    if not groups:
        raise SizeError("E213", "no target is named", advice="Give q k v, say.")
    weights = [Weights(tuple(names), layers, *shape) for shape, names in groups.items()]
    return ModelShape(name, tuple(weights))


def _read(config: str | Path | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(config, Mapping):
        return "model", config
    if str(config) in KNOWN_MODELS:
        return str(config), KNOWN_MODELS[str(config)]
    path = Path(config).expanduser()
    path = path / "config.json" if path.is_dir() else path
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else "cannot be read"
        advice = f"Give a config.json, its folder, or one of {', '.join(KNOWN_MODELS)}."
        raise SizeError("E213", f"the config {config} {reason}", advice=advice) from None
    if not isinstance(entries, dict):
        raise SizeError("E213", f"{path} holds no config", advice="Give a model's config.json.")
    return path.parent.name or str(path), entries


def _number(name: str, entries: Mapping[str, Any], key: str) -> int | None:
    value = next((entries[n] for n in _NAMES[key] if entries.get(n) is not None), None)
    if value is not None and not is_count(value):
        what = f"{name}: {_NAMES[key][0]}={value!r} is not a positive integer"
        raise SizeError("E213", what, advice="The config is of another kind: give sizes in words.")
    return None if value is None else int(value)


def _needed(name: str, found: Mapping[str, int | None], key: str) -> int:
    value = found[key]
    if value is None:
        what = f"the config of {name} says no {_NAMES[key][0]}"
        raise SizeError("E213", what, advice="Give sizes in words: layer=12 proj=3 in=768 out=768.")
    return value
