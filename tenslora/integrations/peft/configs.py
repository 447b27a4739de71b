"""The configurations of a model's adapters, by name."""

from __future__ import annotations

from peft.config import PeftConfig

__all__ = ["Configs"]


class Configs(dict[str, PeftConfig]):
    """What PEFT calls ``peft_config``: a dict that an adapter refused for its name leaves alone.

    peft 0.20 writes the configuration of a new adapter over that of an adapter of the same name
    before it asks the tuner, and deletes what stands there when the tuner refuses. Later versions
    look first.
    """

    def keep(self, name: str, config: PeftConfig) -> None:
        """Put a configuration back that was written over; the deletion that follows is void."""
        if self[name] is not config:
            self[name] = config
            self._kept = name

    def __delitem__(self, name: str) -> None:
        if self.__dict__.pop("_kept", None) != name:
            super().__delitem__(name)
