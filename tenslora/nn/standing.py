"""An adapter as it stands on a model: what it trains, and whether forwards use it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from tenslora.errors import AttachError, FamilyError
from tenslora.family import Bound, Family, Wrapper
from tenslora.nn import install, merge
from tenslora.nn.bank import Bank
from tenslora.nn.design import Design
from tenslora.nn.norms import NormHook
from tenslora.nn.site import Site

if TYPE_CHECKING:
    from tenslora.nn.registry import Registry

__all__ = ["Standing"]


class Standing:
    """Everything that an :class:`~tenslora.nn.adapter.Adapter` knows of itself.

    Attributes
    ----------
    name : its name on the model.
    banks : one :class:`~tenslora.nn.bank.Bank` for each shape of target, by name ("768x768").
    """

    def __init__(
        self,
        model: nn.Module,
        registry: Registry,
        name: str,
        design: Design,
        banks: Mapping[str, Bank],
    ) -> None:
        self.model, self.registry = model, registry
        self.name, self.design, self.banks = name, design, dict(banks)
        self.module = nn.ModuleDict(self.banks)  # what stands at root.tenslora[name]
        self.hooks = install.make_hooks(registry, self.banks)
        self.norm_hook = NormHook(registry)
        self.merged_weights: list[merge.MergedWeight] = []
        self.before_training: dict[str, Tensor] = {}
        self.attached = False

    @property
    def family(self) -> Family:
        """The family that it runs."""
        return self.design.family

    @property
    def wrapper(self) -> Wrapper | None:
        """What the family stands in, if it does: DoRA, HiRA or a router."""
        return self.design.wrapper

    @property
    def sites(self) -> tuple[Site, ...]:
        """The weight matrices that it covers, shape by shape."""
        return self.design.sites

    @property
    def bounds(self) -> dict[str, Bound]:
        """The family with the sizes of each shape group, by the group's name."""
        return {group.name: group.bound for group in self.design.groups}

    @property
    def trainable_parameters(self) -> int:
        """The number of trained entries of its cores, and of what a wrapper has of its own.

        The modules in ``train`` are not counted.
        """
        own = sum(
            math.prod(shape)
            for group in self.design.groups
            for shape in self.design.own(group).values()
        )
        return own + sum(bound.trainable_parameters for bound in self.bounds.values())

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what an optimiser trains: bank by bank, then the modules in ``train``."""
        for bank in self.banks.values():
            yield from bank.parameters()
        for path in self.design.train:
            yield from self.model.get_submodule(path).parameters()

    def param_groups(
        self, lr: float, *, core_lr_multiplier: float | Mapping[str, float] = 1.0, **options: Any
    ) -> list[dict[str, Any]]:
        """Return an optimiser's groups, with learning rates by core.

        Parameters
        ----------
        lr : the rate of a core without a multiplier, and of the modules in ``train``.
        core_lr_multiplier : a number for the inner cores, those without an output or input feature
            (Tucker's core, the middle of a train); or numbers by the names of cores, such as
            ``{"B": 16}`` for LoRA+. The family's own multipliers come on top.
        options : ``weight_decay``, ... for every group.

        Raises
        ------
        FamilyError
            E301 for the name of a core that the equation does not have.

        Examples
        --------
        >>> import torch, tenslora as tl
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8))
        >>> adapter = tl.attach(model, "W[out in] = B[out s] G[s r] A[r in]", targets="0", ranks=2)
        >>> [group["lr"] for group in adapter.param_groups(1e-3, core_lr_multiplier=4)]
        [0.001, 0.004]
        """
        rates = self._rates(core_lr_multiplier)
        by_rate: dict[float, list[nn.Parameter]] = {}
        for bank in self.banks.values():
            for core, parameter in bank.named_parameters():
                by_rate.setdefault(rates.get(core, 1.0), []).append(parameter)
        for path in self.design.train:
            by_rate.setdefault(1.0, []).extend(self.model.get_submodule(path).parameters())
        return [{"params": p, "lr": lr * rate, **options} for rate, p in by_rate.items()]

    def _rates(self, multiplier: float | Mapping[str, float]) -> dict[str, float]:
        network = self.family.network
        given: dict[str, float] = {}
        if isinstance(multiplier, Mapping):
            given.update(multiplier)
        else:
            features = set(network.features)
            inner = [n for n, core in network.cores.items() if not features & set(core.indices)]
            given.update(dict.fromkeys(inner, multiplier))
        for name in given:
            if name not in network.cores:
                what = f"core_lr_multiplier names a core {name!r}"
                raise FamilyError("E301", what, advice=f"The cores are {', '.join(network.cores)}.")
        lr = self.family.lr
        return {name: lr.get(name, 1.0) * given.get(name, 1.0) for name in network.cores}

    @property
    def active(self) -> bool:
        """Whether forwards of this thread use it."""
        return self.attached and (self.merged or self.name in self.registry.active_names())

    def activate(self, *, only: bool = True) -> None:
        """Make it active, and every other adapter inactive unless ``only=False``."""
        self._check_attached()
        others = frozenset() if only else self.registry.default_active
        self.registry.set_active(others | {self.name})

    def deactivate(self) -> None:
        """Make it inactive, until :meth:`activate`."""
        self._check_attached()
        self._check_merged(False, "Unmerge it first: a merged adapter is part of the weights.")
        self.registry.set_active(self.registry.default_active - {self.name})

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Switch this adapter off inside a ``with`` block, for this thread or task.

        Modules in ``train`` keep what they learned.
        """
        self._check_attached()
        self._check_merged(False, "Unmerge it first: a merged adapter is part of the weights.")
        with self.registry.override(self.registry.active_names() - {self.name}):
            yield

    @property
    def merged(self) -> bool:
        """Whether the update stands in the weights."""
        return bool(self.merged_weights)

    def __repr__(self) -> str:
        state = "detached" if not self.attached else "merged" if self.merged else "attached"
        return (
            f"<Adapter {self.name!r} {self.design.label}: {len(self.sites)} sites, "
            f"{self.trainable_parameters:,} parameters, {state}>"
        )

    def _check_attached(self) -> None:
        if not self.attached:
            what = f"adapter {self.name!r} is not on a model any more"
            raise AttachError("E510", what, advice="Attach or load it again.")

    def _check_plain(self, what: str) -> None:
        if self.wrapper is not None:
            what = f"adapter {self.name!r} is {self.design.label}, and cannot {what}"
            raise AttachError("E520", what, advice="That is for updates that an equation says.")

    def _check_merged(self, expected: bool, advice: str) -> None:
        if self.merged != expected:
            what = f"adapter {self.name!r} is {'not ' if expected else ''}merged"
            raise AttachError("E511", what, advice=advice)
