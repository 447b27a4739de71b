"""Linear layers of a model, and the patterns that choose among them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from tenslora.errors import AttachError
from tenslora.nn.layouts import find_parts
from tenslora.nn.spans import Span

__all__ = ["Linear", "Pattern", "find_linears", "nearest", "parse_targets", "tuner_of"]

_PLAIN = re.compile(r"[\w.]+")
_ALL = "all-linear"


@dataclass(frozen=True)
class Linear:
    """A linear layer as found in a model.

    ``refusal`` says why it cannot carry an adapter; ``parts`` are the matrices of a fused one, by
    name, with their rows.
    """

    path: str
    module: nn.Module
    out_features: int
    in_features: int
    transposed: bool
    parts: Mapping[str, Span] = field(default_factory=dict)
    refusal: str = ""

    def check(self) -> None:
        """Raise E502 where the module cannot carry an adapter."""
        if self.refusal:
            what = f"{self.path} cannot carry an adapter: {self.refusal}"
            raise AttachError("E502", what, advice="Choose other targets.")


def find_linears(model: nn.Module) -> dict[str, Linear]:
    """Return every linear layer of ``model`` by path, in the model's order.

    ``nn.Linear`` and its subclasses count, and transformers' ``Conv1D``, known by its name and
    layout. A module that stands under several names is found under each.
    """
    found = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    tuners = {f"{path}.": tuner for path, m in modules.items() if (tuner := tuner_of(m))}
    for path, module in modules.items():
        shape = _shape(module)
        if shape is None or path == "tenslora" or path.startswith("tenslora."):
            continue
        parent = modules.get(path.rpartition(".")[0], model) if path else module
        out, width, transposed = shape
        parts = find_parts(parent, path.rpartition(".")[2], out, width)
        tuned = next((kind for outer, kind in tuners.items() if path.startswith(outer)), "")
        refusal = f"it belongs to {tuned}" if tuned else _refusal(path, module, parent)
        found[path] = Linear(path, module, out, width, transposed, parts, refusal)
    return found


def tuner_of(module: nn.Module) -> str:
    """What a module is called where it is a layer of PEFT around another one, else nothing.

    >>> tuner_of(nn.Linear(2, 2))
    ''
    """
    kind = type(module)
    if not any(
        c.__name__ == "BaseTunerLayer" and c.__module__[:5] == "peft." for c in kind.__mro__
    ):
        return ""
    names = getattr(module, "active_adapters", ())
    named = f", with {', '.join(map(repr, names))}" if names else ""
    return f"an adapter of PEFT: {kind.__module__}.{kind.__qualname__}{named}"


def _shape(module: nn.Module) -> tuple[int, int, bool] | None:
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features, False
    weight = getattr(module, "weight", None)
    if type(module).__name__ == "Conv1D" and isinstance(weight, Tensor) and weight.ndim == 2:
        return weight.shape[1], weight.shape[0], True
    return None


def _refusal(path: str, module: nn.Module, parent: nn.Module) -> str:
    if not path:
        return "it is the model itself, which has to hold the adapter; wrap it in nn.Sequential"
    if isinstance(parent, nn.MultiheadAttention):
        return "torch.nn.MultiheadAttention reads its weight without calling it"
    if isinstance(module, nn.modules.lazy.LazyModuleMixin) and module.has_uninitialized_params():
        return "its size is not known before its first call"
    return ""


@dataclass(frozen=True)
class Pattern:
    """One way of choosing linear layers: ``ending``, ``regex``, ``exact`` or ``all-linear``."""

    kind: str
    text: str

    @staticmethod
    def exact(path: str) -> Pattern:
        """The pattern that one path alone matches."""
        return Pattern("exact", path)

    def matches(self, path: str, part: str | None, layer: int | None) -> bool:
        """Whether a linear layer, or the part ``part`` of a fused one, is chosen."""
        names = [path] if part is None else [path, f"{path}.{part}"]
        if self.kind == "ending":
            return any(name == self.text or name.endswith(f".{self.text}") for name in names)
        if self.kind == "regex":
            return any(re.fullmatch(self.text, name) for name in names)
        return layer is not None if self.kind == _ALL else path == self.text

    def unmatched(self, model: nn.Module, linears: Mapping[str, Linear]) -> AttachError:
        """The error for a pattern that chooses nothing, with the nearest names."""
        others = [
            (path, type(module).__name__)
            for path, module in model.named_modules()
            if path and path not in linears and self.matches(path, None, 0)
        ]
        if others and self.kind != _ALL:
            path, kind = others[0]
            tuner = tuner_of(model.get_submodule(path))
            if tuner:
                what = f"target {self.text!r} matches {path}, {tuner}"
                advice = (
                    "merge_and_unload() it first; or use PEFT's add_adapter for this family too."
                )
                return AttachError("E501", what, advice=advice)
            what = f"target {self.text!r} matches {path}, a {kind}, and no linear layer"
            return AttachError("E501", what, advice=nearest(self.text, linears))
        if self.kind == _ALL:
            what = "'all-linear' finds no linear layer inside a numbered layer"
            return AttachError("E501", what, advice="Name the targets. " + nearest("", linears))
        what = f"target {self.text!r} matches no module of {type(model).__name__}"
        return AttachError("E501", what, advice=nearest(self.text, linears))


def nearest(text: str, linears: Mapping[str, Linear]) -> str:
    """What to do where a text names no linear layer: names like it, and those that there are."""
    if not linears:
        return "The model has no nn.Linear or Conv1D."
    last = text.rpartition(".")[2]
    names = list(dict.fromkeys(path.rpartition(".")[2] for path in linears))
    pool = list(linears) if "." in text else names
    close = difflib.get_close_matches(text if "." in text else last, pool, n=3, cutoff=0.5)
    listed = ", ".join(names[:16]) + (", ..." if len(names) > 16 else "")
    return (f"Did you mean {' or '.join(close)}? " if close else "") + f"Linear layers: {listed}."


def parse_targets(targets: str | Sequence[str]) -> list[Pattern]:
    r"""Read the ``targets`` argument of :func:`tenslora.attach`.

    >>> [p.kind for p in parse_targets(["query", "attn.c_attn"])]
    ['ending', 'ending']
    >>> parse_targets(r".*\.(q|k|v)_proj")[0].kind, parse_targets("all-linear")[0].kind
    ('regex', 'all-linear')

    Raises
    ------
    AttachError
        E503 for an empty list, something that is not text, a broken regular expression.
    """
    single = isinstance(targets, str)
    texts = [targets] if isinstance(targets, str) else list(targets)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        what = f"targets={targets!r} names no module"
        advice = 'Write targets=["query", "value"], a regular expression, or "all-linear".'
        raise AttachError("E503", what, advice=advice)
    return [_parse(text, single) for text in texts]


def _parse(text: str, single: bool) -> Pattern:
    if text == _ALL:
        return Pattern(_ALL, text)
    if _PLAIN.fullmatch(text):
        return Pattern("ending", text)
    if not single:
        what = f"target {text!r} in a list is not the ending of a module's name"
        raise AttachError("E503", what, advice="Give a regular expression alone, as a string.")
    try:
        re.compile(text)
    except re.error as error:
        what = f"targets={text!r} is not a regular expression: {error}"
        raise AttachError("E503", what, advice="Escape dots, close brackets.") from None
    return Pattern("regex", text)
