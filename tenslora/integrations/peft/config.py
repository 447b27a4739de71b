"""The configuration, as ``adapter_config.json`` holds it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from typing import Any

from peft.config import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import PeftType

from tenslora.errors import AttachError
from tenslora.family import Family, Wrapped, Wrapper, registered, resolve, unwrap
from tenslora.nn.tunerfile import HOUSES, METHOD

__all__ = ["TensLoraConfig"]

_BIASES = ("none", "all", "tenslora_only")


@dataclass
class TensLoraConfig(PeftConfig):
    """How a family is put on a model by PEFT.

    Fields that PEFT's other methods have mean what they mean there; the others are arguments of
    :func:`tenslora.attach`.

    Parameters
    ----------
    family : a family's name, an equation, or a :class:`tenslora.Family`; or one of these in a
        wrapper, such as ``tl.dora("lora")`` or ``"dora(lora)"``.
    ranks : one rank for every bond, or a rank for each by name. 8 where neither it nor ``like`` nor
        ``params`` is given and the family has none of its own.
    like, params : ranks by a budget: as many parameters as another family (``"lora:8"``), or at
        most so many.
    target_modules : as PEFT reads it: endings of module names, a regular expression, or
        ``"all-linear"``. A part of a fused layer has a name too: ``"c_attn.q"``.
    exclude_modules, layers_to_transform, layers_pattern, modules_to_save : as in LoraConfig.
    bias : ``"none"``, ``"all"`` or ``"tenslora_only"``.
    alpha : the numerator of the family's scale rule.
    dropout : of the input, in training; by default the family's.
    sizes : sizes of feature indices that the model does not tell, such as ``{"head": 12}``, and of
        the experts of a router.
    ragged : for targets of several shapes: ``"group"``, ``"prefix"`` or ``"error"``.
    block : cut every target into square blocks of so many features.
    seed : of the first values, the same numbers as :func:`tenslora.attach` draws.
    init_weights : ``False`` draws cores that start at zero too, other numbers for each name of an
        adapter, so that the adapter changes the model from its first step. For tests.
    save_frozen : write frozen cores to checkpoints. They follow from ``seed``, so it is not needed.
    bank : where the cores stand. ``"tuner"``: once, beside the model. ``"first_layer"``: on the
        first layer that they cover, for ``model.add_adapter`` and ``model.load_adapter`` of
        transformers, which keep no tuner. Not for FSDP, which shards each layer by itself;
        :func:`tenslora.integrations.peft.convert_bank` makes a checkpoint of one that of the other.
    plan : for which machine, as in :func:`tenslora.attach`. It is not saved: give it again, as
        ``config.plan``, where an adapter is loaded.
    recompute : keep next to nothing for the backward pass, as in :func:`tenslora.attach`. It is not
        saved either: set ``config.recompute``.
    fan_in_fan_out : whether weights stand as (in, out). It is read from the modules, and set here.
    rank_pattern, alpha_pattern : names of LoraConfig that are refused where they say anything: a
        core that several modules share has one rank for all of them, and a bond one scale.
    site_map : where the cores are used. It is found when the adapter is put on a model, written to
        ``adapter_config.json``, and checked when that is read again; set it to ``None`` to look for
        the targets anew.

    Raises
    ------
    TensloraError
        A family that cannot be read, or a setting that is out of range.

    Examples
    --------
    >>> import torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 4))
    >>> import peft
    >>> config = tl.TensLoraConfig(family="lora", ranks=2, target_modules="all-linear")
    >>> tuned = peft.get_peft_model(model, config)
    >>> tuned.get_nb_trainable_parameters()
    (52, 144)
    """

    family: Any = field(default="lora", metadata={"help": "A family's name, or an equation."})
    ranks: int | dict[str, int] | None = field(
        default=None, metadata={"help": "Rank of the bonds."}
    )
    like: Any = field(default=None, metadata={"help": "As many parameters as this family."})
    params: int | None = field(default=None, metadata={"help": "Trained parameters at most."})
    target_modules: list[str] | set[str] | str | None = field(
        default=None, metadata={"help": "Names, a regular expression, or 'all-linear'."}
    )
    exclude_modules: list[str] | set[str] | str | None = field(
        default=None, metadata={"help": "Names, or a regular expression."}
    )
    layers_to_transform: list[int] | int | None = field(
        default=None, metadata={"help": "Numbers of the layers that get an adapter."}
    )
    layers_pattern: list[str] | str | None = field(
        default=None, metadata={"help": "The name of the list of layers."}
    )
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules that are trained whole and saved."}
    )
    bias: str = field(default="none", metadata={"help": f"One of {', '.join(_BIASES)}."})
    alpha: float | None = field(default=None, metadata={"help": "Numerator of the scale rule."})
    dropout: float | None = field(default=None, metadata={"help": "Dropout of the input."})
    sizes: dict[str, int] | None = field(default=None, metadata={"help": "Sizes of indices."})
    ragged: str = field(default="group", metadata={"help": "Targets of several shapes."})
    block: int | None = field(default=None, metadata={"help": "Cut targets into blocks."})
    seed: int = field(default=0, metadata={"help": "Seed of the first values."})
    init_weights: bool = field(default=True, metadata={"help": "Start as the family says."})
    save_frozen: bool = field(default=False, metadata={"help": "Write frozen cores too."})
    fan_in_fan_out: bool = field(default=False, metadata={"help": "Read from the modules."})
    bank: str = field(default="tuner", metadata={"help": f"One of {', '.join(HOUSES)}."})
    plan: dict[str, Any] | None = field(
        default=None, metadata={"help": "Options of the planner; not saved."}
    )
    recompute: bool = field(
        default=False, metadata={"help": "Keep less for the backward pass; not saved."}
    )
    site_map: dict[str, Any] | None = field(
        default=None, metadata={"help": "Where the cores are used; written when saving."}
    )

    rank_pattern: InitVar[dict[str, int] | None] = None
    alpha_pattern: InitVar[dict[str, float] | None] = None

    def __post_init__(
        self, rank_pattern: dict[str, int] | None, alpha_pattern: dict[str, float] | None
    ) -> None:
        super().__post_init__()
        for name, given in (("rank_pattern", rank_pattern), ("alpha_pattern", alpha_pattern)):
            if given:
                what = f"{name}={str(given)[:60]}, and modules that share a core share its rank"
                advice = (
                    "Give ranks of bonds, ranks={'r': 8}, and alpha; for another rank in some "
                    "modules add a second adapter with target_modules of its own."
                )
                raise AttachError("E531", what, advice=advice)
        self.peft_type = PeftType[METHOD]
        self.family = _plain(self.family)
        self.like = None if self.like is None else _plain(_inside(self.like))
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            setattr(self, name, set(value) if isinstance(value, list) else value)
            _check_pattern(name, value)
        if self.layers_pattern and not _given(self.layers_to_transform):
            what = "layers_pattern is given, and layers_to_transform is not"
            advice = "When `layers_pattern` is specified, `layers_to_transform` must be, too."
            raise AttachError("E531", what, advice=advice)
        if isinstance(self.target_modules, str):
            for name in ("layers_to_transform", "layers_pattern"):
                if _given(getattr(self, name)):
                    what = f"{name} goes with a list of target_modules, and that is a `str`"
                    advice = "Write the layers into the regular expression."
                    raise AttachError("E531", what, advice=advice)
        if self.bank not in HOUSES:
            what = f"bank={self.bank!r}"
            raise AttachError("E531", what, advice=f"Choose one of {', '.join(HOUSES)}.")
        if self.bias not in _BIASES:
            what = f"bias={self.bias!r}"
            raise AttachError("E531", what, advice=f"Choose one of {', '.join(_BIASES)}.")
        if self.bias != "none" and not hasattr(BaseTuner, "_get_adapter_state_dict"):
            what = f"bias={self.bias!r}, and this peft would not save the biases of this method"
            raise AttachError("E531", what, advice="Install peft 0.21 or later.")
        self.resolved: dict[str, Any] | None = None  # the site map on the last model
        self.places: frozenset[str] | None = None  # its modules

    @property
    def equation(self) -> Family:
        """The family itself, without a wrapper."""
        return _read(self.family)[0]

    @property
    def wrapper(self) -> Wrapper | None:
        """What the family stands in, if it does."""
        return _read(self.family)[1]

    @property
    def budget(self) -> dict[str, Any]:
        """How the ranks are chosen, as arguments of :meth:`tenslora.Family.bind`."""
        ranks = self.ranks
        if ranks is None and self.like is None and self.params is None:
            family = self.equation
            ranks = {bond: family.ranks.get(bond, 8) for bond in family.bonds}
        like = None if self.like is None else _read(self.like)[0]
        return {"ranks": ranks, "like": like, "params": self.params, "alpha": self.alpha}

    def rename(self, old: str, new: str) -> None:
        """Say that modules have another name than when the adapter was saved.

        A library may rename its modules from one version to the next. The cores stay where they
        were: only paths of the site map change.

        Parameters
        ----------
        old, new : one word of a path, or several with dots: ``rename("query", "q_proj")``.

        Raises
        ------
        AttachError
            E531 without a site map, where no path of it has that word, or with the bank on a layer,
            whose path stands in the names of the tensors.
        """
        if self.bank == "first_layer":
            what = "with bank='first_layer' the tensors in the file have names of modules too"
            advice = "Convert it first: `tenslora export ADAPTER OUT --to tuner`."
            raise AttachError("E531", what, advice=advice)
        word = re.compile(rf"(?<![^.]){re.escape(old)}(?![^.])")
        found = json.dumps(self.site_map)
        made = json.loads(found, object_hook=lambda obj: _renamed(obj, word, new))
        if self.site_map is None or made == self.site_map:
            what = f"there is no module {old!r} in the site map"
            raise AttachError("E531", what, advice="Read the config from its folder first.")
        self.site_map = made

    def to_dict(self) -> dict[str, Any]:
        """Return what is saved as a JSON object, with the site map that was found last."""
        found: dict[str, Any] = super().to_dict()
        del found["plan"], found["recompute"]
        if self.resolved is not None:
            found["site_map"] = self.resolved
        return found


def _renamed(obj: dict[str, Any], word: re.Pattern[str], new: str) -> dict[str, Any]:
    """Rename in the path of a site, and in the keys of ``base``."""

    def rename(path: str) -> str:
        return word.sub(lambda _: new, path)

    if "path" in obj:
        return {**obj, "path": rename(obj["path"])}
    if "base" in obj:
        return {**obj, "base": {rename(path): weight for path, weight in obj["base"].items()}}
    return obj


def _check_pattern(name: str, value: Any) -> None:
    """Refuse text that is no regular expression (E503)."""
    try:
        re.compile(value if isinstance(value, str) else "")
    except re.error as error:
        what = f"{name}={value!r} is not a regular expression: {error}"
        raise AttachError("E503", what, advice="Escape dots, close brackets.") from None


def _given(value: Any) -> bool:
    return value is not None and value != []


def _plain(value: Any) -> Any:
    """A family as JSON: its name where it is registered under it, else all that it is.

    A wrapper stands around the name, or in the object.
    """
    if isinstance(value, Wrapped):
        inside = _plain(value.family)
        return f"{value.wrapper}({inside})" if isinstance(inside, str) else value.to_json()
    if isinstance(value, Family):
        known = value.name is not None and registered().get(value.name) == value
        return value.name if known else value.to_json()
    if value is not None:
        _read(value)  # what cannot be read is refused here
    return value


def _inside(value: Any) -> Any:
    """The same, if it is no family in a wrapper (E312)."""
    resolve(_from_json(value))
    return value


def _from_json(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return (Wrapped if "wrapper" in value else Family).from_json(value)


def _read(value: Any) -> tuple[Family, Wrapper | None]:
    return unwrap(_from_json(value))
