"""Telling how far it is: lines to a callback, and a bar on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Progress"]


class Progress:
    """Lines for ``talk``; where there is a ``talk`` and a terminal, a bar on standard error too."""

    def __init__(self, talk: Callable[[str], None] | None) -> None:
        self.talk = talk
        self.bar: Any = None

    def say(self, line: str) -> None:
        """Give one line to ``talk``, above the bar."""
        if self.talk is None:
            return
        if self.bar is not None:
            self.bar.clear()
        self.talk(line)
        if self.bar is not None:
            self.bar.refresh()

    def show(self, done: float, total: float, words: str = "") -> None:
        """Set the bar."""
        if self.talk is None:
            return
        if self.bar is None:
            from tqdm import tqdm  # type: ignore[import-untyped]

            shape = "{percentage:3.0f}% |{bar:30}| {elapsed} < {remaining} {postfix}"
            self.bar = tqdm(total=total, bar_format=shape, disable=None, leave=False)
        self.bar.set_postfix_str(words, refresh=False)
        self.bar.n = min(done, total)
        self.bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
