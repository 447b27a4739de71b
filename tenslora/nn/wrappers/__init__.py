"""How wrappers run: one file each, and the table that names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from tenslora.errors import AttachError
from tenslora.nn.bank import Bank
from tenslora.nn.hooks import Piece, SiteHook
from tenslora.nn.wrappers.base import Runner
from tenslora.nn.wrappers.dora import Dora
from tenslora.nn.wrappers.hira import Hira
from tenslora.nn.wrappers.hook import WrappedHook, not_alone
from tenslora.nn.wrappers.router import Router

if TYPE_CHECKING:
    from tenslora.nn.groups import Member
    from tenslora.nn.switch import Switch

__all__ = [
    "RUNNERS",
    "Runner",
    "WrappedHook",
    "check_wrapped",
    "hook_of",
    "not_alone",
    "runner_of",
    "start_wrapper",
]

#: The runner of each wrapper of :data:`tenslora.family.WRAPPERS`.
RUNNERS: dict[str, Runner] = {"dora": Dora(), "hira": Hira(), "router": Router()}


def runner_of(bank: Bank) -> Runner | None:
    """The runner of a bank's wrapper, ``None`` where it has no wrapper.

    Examples
    --------
    >>> import tenslora as tl
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(6, 4))
    >>> adapter = tl.attach(model, tl.dora("lora"), targets="all-linear", ranks=2)
    >>> type(runner_of(adapter.banks["4x6"])).__name__
    'Dora'
    >>> adapter.detach()
    """
    return None if bank.wrapper is None else RUNNERS[bank.wrapper.name]


def hook_of(
    registry: Switch, path: str, pieces: list[Piece], member: Member | None = None
) -> SiteHook:
    """Make the hook of one target module; ``member`` says how it adds in place, where it can.

    Examples
    --------
    >>> import tenslora as tl
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(6, 4))
    >>> adapter = tl.attach(model, tl.dora("lora"), targets="all-linear", ranks=2)
    >>> (bank,) = adapter.banks.values()
    >>> type(hook_of(adapter.registry, "0", [(None, bank, 0)])).__name__
    'WrappedHook'
    >>> adapter.detach()
    """
    runner = runner_of(pieces[0][1])
    if runner is None:
        return SiteHook(registry, path, pieces, member)
    return WrappedHook(registry, path, pieces, runner)


def check_wrapped(model: nn.Module, bank: Bank) -> None:
    """Refuse targets that the wrapper of a bank cannot work with.

    Raises
    ------
    AttachError
        E521 for a weight that is no floating-point matrix, or some columns of one.

    Examples
    --------
    >>> import tenslora as tl
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(6, 4))
    >>> adapter = tl.attach(model, tl.hira("lora"), targets="all-linear", ranks=2)
    >>> check_wrapped(model, adapter.banks["4x6"])  # float weights: it says nothing
    >>> adapter.detach()
    """
    runner = runner_of(bank)
    for site in bank.weights if runner is not None and runner.reads_weight else ():
        weight = getattr(model.get_submodule(site.path), "weight", None)
        if not isinstance(weight, torch.Tensor) or not weight.is_floating_point():
            what = f"{bank.wrapper} reads the weight of {site}, which is no floating-point matrix"
            raise AttachError("E521", what, advice="Load the base without quantisation.")
        if runner is not None and runner.whole_rows and site.columns is not None:
            what = f"{bank.wrapper} needs whole rows of a weight, and {site} has some columns"
            raise AttachError("E521", what, advice="Leave out block=, or the columns of the site.")


def start_wrapper(model: nn.Module, bank: Bank, seed: int, key: str) -> None:
    """Give what a wrapper trains of its own its first values; on the meta device nothing is done.

    Raises
    ------
    AttachError
        E519 for weights without values.

    Examples
    --------
    >>> import tenslora as tl
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(6, 4))
    >>> adapter = tl.attach(model, tl.dora("lora"), targets="all-linear", ranks=2)
    >>> (bank,) = adapter.banks.values()
    >>> start_wrapper(model, bank, seed=0, key="")
    >>> bool((bank.magnitude == model[0].weight.norm(dim=1)).all())
    True
    >>> adapter.detach()
    """
    runner = runner_of(bank)
    if runner is not None and bank.device.type != "meta":
        with torch.no_grad():
            runner.start(model, bank, seed, key)
