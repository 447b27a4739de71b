"""Which of several processes this is: what ``torchrun`` and ``accelerate launch`` tell.

Nothing heavy is imported here: a command asks before it imports torch.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from tenslora.errors import DataError

__all__ = ["Process", "check_shard", "leave", "refuse_several", "this_process"]


@dataclass(frozen=True)
class Process:
    """One of ``count`` processes that train one model together.

    Attributes
    ----------
    rank : its number; 0 is the leader, which talks and writes.
    count : how many there are.
    local : its number on its machine.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def leader(self) -> bool:
        """Whether it talks and writes."""
        return self.rank == 0

    @property
    def speaks(self) -> bool:
        """Whether it tells its mistakes: one process of each machine does.

        A mistake in the settings is one in every process; a file may be missing on one machine.
        """
        return self.local == 0


def this_process() -> Process:
    """Return which process this is, from ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``.

    >>> this_process()
    Process(rank=0, count=1, local=0)
    """
    rank, count = _number("RANK", 0), _number("WORLD_SIZE", 1)
    return Process(rank, count, _number("LOCAL_RANK", rank)) if count > 1 else Process()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default


def refuse_several(name: str) -> None:
    """Raise where several processes were started for what needs one.

    Raises
    ------
    DataError
        E715.
    """
    count = this_process().count
    if count > 1:
        what = f"{name} starts processes of its own, and this is one of {count}"
        advice = "Start it without a launcher: `--jobs` says how many runs go on at a time."
        raise DataError("E715", what, advice=advice)


def check_shard() -> None:
    """Raise where a model cannot be cut into parts over several processes.

    Raises
    ------
    DataError
        E717.
    """
    if this_process().count == 1:
        what = "shard=True cuts the model over several processes, and this is the only one"
        advice = "Start it by `torchrun --nproc-per-node 2 -m tenslora ...`, or without --shard."
        raise DataError("E717", what, advice=advice)
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1"):
        what = "shard=True and `accelerate launch --use_fsdp` would both cut the model into parts"
        raise DataError("E717", what, advice="Leave --use_fsdp out.")


def leave() -> None:
    """Leave the group of processes at the end of a program, where there is one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available():
        return
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
