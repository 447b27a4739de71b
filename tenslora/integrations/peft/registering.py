"""Making PEFT know the method."""

from __future__ import annotations

from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils import PeftType, register_peft_method

from tenslora.errors import AttachError
from tenslora.nn.tunerfile import METHOD

__all__ = ["register"]


def register(config: type, tuner: type) -> None:
    """Register configuration and tuner; a second call changes nothing.

    Raises
    ------
    AttachError
        E530 where the installed peft has a method of that name already, which is not this one.
    """
    if METHOD in PeftType.__members__:
        if PEFT_TYPE_TO_TUNER_MAPPING.get(PeftType[METHOD]) is tuner:
            return
        what = f"this peft has a method {METHOD} of its own"
        advice = "Use that one, or an older peft."
        raise AttachError("E530", what, advice=advice)
    _add_member()
    register_peft_method(
        name=METHOD.lower(), config_cls=config, model_cls=tuner, prefix="tenslora_"
    )


def _add_member() -> None:
    """Add a member to PEFT's closed list of methods, as if it stood in the class body.

    PEFT asks for ``PeftType`` everywhere, and for a member whose name is its value.
    """
    member = str.__new__(PeftType, METHOD)
    member._name_, member._value_ = METHOD, METHOD
    member._sort_order_ = len(PeftType)  # type: ignore[attr-defined]
    type.__setattr__(PeftType, METHOD, member)
    PeftType._member_names_.append(METHOD)
    PeftType._member_map_[METHOD] = member
    PeftType._value2member_map_[METHOD] = member
