"""Rank changes at given steps, in a loop of one's own or in transformers' Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from tenslora.errors import FitError
from tenslora.integrations.rankchange import RankChange, Ranks, change_ranks
from tenslora.nn import Adapter
from tenslora.spec import is_count

__all__ = ["RankSchedule"]


@dataclass
class RankSchedule:
    """Rank changes at given steps of training, for a loop of one's own or transformers' Trainer.

    Attributes
    ----------
    adapter : as for :func:`change_ranks`.
    at : the number of finished steps -> the ranks from there on.
    state : as there.
    changes : what was done so far.

    Examples
    --------
    In a loop, behind ``optimizer.step()``::

        schedule = RankSchedule(adapter, {100: 8, 200: 4})
        ...
        schedule.step(number, optimizer)

    In transformers: ``Trainer(..., callbacks=[schedule.callback()])``.

    >>> import torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    >>> adapter = tl.attach(model, "W[out in] = B[out r] A[r in]", targets="0", ranks=8)
    >>> schedule = RankSchedule(adapter, {2: 4, 3: 2})
    >>> for number in (1, 2, 3):
    ...     _ = schedule.step(number)
    >>> [change.after["8x8"]["r"] for change in schedule.changes]
    [4, 2]
    """

    adapter: Adapter
    at: Mapping[int, Ranks]
    state: str = "carry"
    changes: list[RankChange] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in self.at:
            if not is_count(number):
                what = f"{number!r} is no number of finished steps"
                raise FitError("E905", what, advice="Write {100: 8, 200: 4}, say.")

    def step(
        self, number: int, optimizer: torch.optim.Optimizer | None = None
    ) -> RankChange | None:
        """Change the ranks where this is a step at which they change.

        Parameters
        ----------
        number : of steps that are finished.
        optimizer : as for :func:`change_ranks`.
        """
        if number not in self.at:
            return None
        made = change_ranks(self.adapter, self.at[number], optimizer=optimizer, state=self.state)
        self.changes.append(made)
        return made

    def callback(self) -> Any:
        """Return a ``TrainerCallback`` that calls :meth:`step` at the end of each step."""
        from transformers import TrainerCallback

        schedule = self

        class RankCallback(TrainerCallback):  # type: ignore[misc]
            """Changes the ranks of an adapter while transformers' Trainer trains it."""

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                """Change the ranks where it is time."""
                schedule.step(state.global_step, kwargs.get("optimizer"))

        return RankCallback()
