"""Making PEFT know the method."""

from __future__ import annotations

from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils import PeftType, register_peft_method

from tenslora.errors import AttachError

__all__ = ["NAME", "register"]

#: The method's name in PEFT, and the value of ``peft_type`` in a checkpoint.
NAME = "TENSLORA"


def register(config: type, tuner: type) -> None:
    """Register configuration and tuner; a second call changes nothing.

    Raises
    ------
    AttachError
        E530 where the installed peft has a method of that name already, which is not this one.
    """
    if NAME in PeftType.__members__:
        if PEFT_TYPE_TO_TUNER_MAPPING.get(PeftType[NAME]) is tuner:
            return
        what = f"this peft has a method {NAME} of its own"
        advice = "Use that one, or an older peft."
        raise AttachError("E530", what, advice=advice)
    _add_member()
    register_peft_method(name=NAME.lower(), config_cls=config, model_cls=tuner, prefix="tenslora_")


def _add_member() -> None:
    """Add a member to PEFT's closed list of methods, as if it stood in the class body.

    PEFT asks for ``PeftType`` everywhere, and for a member whose name is its value.
    """
    member = str.__new__(PeftType, NAME)
    member._name_, member._value_ = NAME, NAME
    member._sort_order_ = len(PeftType)  # type: ignore[attr-defined]
    type.__setattr__(PeftType, NAME, member)
    PeftType._member_names_.append(NAME)
    PeftType._member_map_[NAME] = member
    PeftType._value2member_map_[NAME] = member
