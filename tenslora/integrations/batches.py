"""Which rows make a batch, and which of them are whose where several processes train."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tenslora.integrations.distributed import Process
from tenslora.integrations.transformers import Features

__all__ = ["WEIGHT", "Batches", "Shares", "shared_loader"]

#: Where a batch holds the weight of each row in the mean over the rows of all processes.
WEIGHT = "row_weight"


class Batches(Sampler[list[int]]):
    """Batches of rows of similar length, so that little is padded.

    With a seed, rows are shuffled, sorted by length within groups of fifty batches, and the batches
    are shuffled again; each pass is another order, the same for every run of that seed. No global
    generator is used. Without a seed: all rows, the longest first.
    """

    def __init__(self, lengths: Sequence[int], size: int, seed: int | None) -> None:
        self.lengths, self.size, self.seed, self.epoch = np.asarray(lengths), size, seed, 0

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.size)

    def __iter__(self) -> Iterator[list[int]]:
        if self.seed is None:
            order = np.argsort(-self.lengths, kind="stable")
            return iter([rows.tolist() for rows in self._cut(order, self.size)])
        generator = np.random.Generator(np.random.Philox(key=[self.seed, self.epoch]))
        self.epoch += 1
        order = generator.permutation(len(self.lengths))
        groups = self._cut(order, 50 * self.size)
        ordered = [group[np.argsort(-self.lengths[group], kind="stable")] for group in groups]
        batches = [rows.tolist() for group in ordered for rows in self._cut(group, self.size)]
        return iter([batches[i] for i in generator.permutation(len(batches))])

    @staticmethod
    def _cut(rows: Any, size: int) -> list[Any]:
        return [rows[i : i + size] for i in range(0, len(rows), size)]


class Shares(Sampler[list[tuple[int, float]]]):
    """The rows of each batch that are those of one process, with their weights.

    The weighted sum over a process's rows, averaged over the processes, is the mean over the batch,
    also where the rows do not come out even. A process without a row gets the first one at weight
    zero, for every process has to take part in every step.

    >>> batches = Batches([3, 3, 3, 3, 3], 4, None)
    >>> list(Shares(batches, Process(rank=1, count=2)))
    [[(1, 0.5), (3, 0.5)], [(4, 0.0)]]
    """

    def __init__(self, batches: Batches, process: Process) -> None:
        self.batches, self.process = batches, process

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, float]]]:
        rank, count = self.process.rank, self.process.count
        for rows in self.batches:
            mine = [(row, count / len(rows)) for row in rows[rank::count]]
            yield mine or [(rows[0], 0.0)]


@dataclass(frozen=True)
class _Rows(Dataset):
    rows: Sequence[Any]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, float]) -> tuple[Any, float]:
        return self.rows[key[0]], key[1]


@dataclass(frozen=True)
class _Collate:
    collate: Callable[[list[Any]], dict[str, Tensor]]

    def __call__(self, rows: list[tuple[Any, float]]) -> dict[str, Any]:
        weights = torch.tensor([weight for _, weight in rows], dtype=torch.float32)
        return {**self.collate([row for row, _ in rows]), WEIGHT: weights}


def shared_loader(features: Features, batches: Batches, process: Process) -> DataLoader:
    """Return the batches of one process; each has the weights of its rows under ``WEIGHT``."""
    return DataLoader(
        _Rows(features.rows),
        batch_sampler=Shares(batches, process),
        collate_fn=_Collate(features.collate),
    )
