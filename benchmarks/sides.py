"""The sides of a comparison: one frozen model, run with an adapter by different code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

import tenslora as tl
from benchmarks import hand, naive
from benchmarks.cases import Bank, Case, draw_values, every_rank, resolve, share

__all__ = ["PEFT_FAMILIES", "SIDES", "Side", "make_side", "sides_of"]


@dataclass(frozen=True)
class Side:
    """A model that runs one implementation.

    Attributes
    ----------
    name : of the implementation.
    model : shares the frozen weights of the case's.
    gradients : for each bank and core its gradient after a step, in the catalogue's shape; empty
        for the frozen model.
    """

    name: str
    model: nn.Module
    gradients: Callable[[], dict[str, dict[str, Tensor]]]


def make_side(
    name: str, case: Case, family: str = "lora", ranks: int | Mapping[str, int] = 4
) -> Side:
    """Make a side by its name in :data:`SIDES`, with values that are the same for all."""
    banks = case.banks(resolve(family), ranks)
    weight = next(case.model.parameters())
    values = {
        key: {
            core: value.requires_grad_(core not in bank.bound.family.frozen)
            for core, value in draw_values(bank, weight.device, weight.dtype).items()
        }
        for key, bank in banks.items()
    }
    model = share(case.model)
    model.requires_grad_(False)
    side = replace(SIDES[name](case, model, family, banks, values), name=name)
    if case.head:
        side.model.get_submodule(_path(side.model, case.head)).requires_grad_(True)
    return side


def _path(model: nn.Module, ending: str) -> str:
    """A module by its path in the frozen model, inside wrappers too.

    PEFT keeps a module that it trains as two; the copy is the one that runs.
    """
    return next(path for path, _ in model.named_modules() if path.endswith(ending))


Banks = Mapping[str, Bank]
Values = dict[str, dict[str, Tensor]]


def _floor(case: Case, model: nn.Module, family: str, banks: Banks, values: Values) -> Side:
    """Frozen, but for the biases of the first layer's projections and the task head.

    Pays every activation gradient that any adapter must pay. Where the input itself has a gradient
    nothing need be trained for that.
    """
    if not case.input_grad:
        for path in case.groups[0]:
            bias = model.get_submodule(path).bias
            if bias is None:  # Llama's projections have none: the first normalisation stands for it
                layer = path.rpartition(".self_attn")[0]
                bias = model.get_submodule(f"{layer}.input_layernorm").weight
            bias.requires_grad_(True)
    return Side("floor", model, dict)


def _ours(
    case: Case,
    model: nn.Module,
    family: str,
    banks: Banks,
    values: Values,
    *,
    recompute: bool = False,
) -> Side:
    """tenslora.attach, as any user calls it."""
    sizes = {}
    if "head" in resolve(family).network.indices:
        sizes = {"head_dim": next(iter(banks.values())).bound.sizes["head_dim"]}
    with every_rank():
        adapter = tl.attach(
            model,
            resolve(family),
            targets=case.targets,
            ranks=next(iter(banks.values())).bound.ranks,
            sizes=sizes,
            dtype=next(model.parameters()).dtype,
            recompute=recompute,
        )
    for key, bank in adapter.banks.items():
        with torch.no_grad():
            for core, tensor in bank.cores().items():
                tensor.copy_(values[key][core])

    def gradients() -> dict[str, dict[str, Tensor]]:
        return {
            key: {n: p.grad for n, p in bank.named_parameters() if p.grad is not None}
            for key, bank in adapter.banks.items()
        }

    return Side("tenslora", model, gradients)


def _leaves(values: Values) -> dict[str, dict[str, Tensor]]:
    return {
        key: {n: v.grad for n, v in cores.items() if v.grad is not None}
        for key, cores in values.items()
    }


def _hand(
    case: Case,
    model: nn.Module,
    family: str,
    banks: Banks,
    values: Values,
    form: str,
) -> Side:
    if family == "lokr":
        return _by_update(case, model, banks, values, "hand", _lokr)
    held = {key: (bank, family, values[key]) for key, bank in banks.items()}
    hand.install(case, model, held, form)
    return _with_cores("hand", model, values)


def _with_cores(name: str, model: nn.Module, values: Values) -> Side:
    """Register the cores, so that their gradients are dropped with the model's."""
    for key, cores in values.items():
        for core, value in cores.items():
            cores[core] = nn.Parameter(value.detach(), requires_grad=value.requires_grad)
            model.register_parameter(f"core_{key}_{core}", cores[core])
    return Side(name, model, lambda: _leaves(values))


def _lokr(bank: Bank, cores: Mapping[str, Tensor], place: dict[str, int], x: Tensor) -> Tensor:
    return hand.lokr_update(cores, x, place["layer"], place["proj"])


def _by_update(
    case: Case,
    model: nn.Module,
    banks: Banks,
    values: Values,
    name: str,
    update: naive.Update,
) -> Side:
    side = _with_cores(name, model, values)
    naive.install(model, {key: (bank, values[key]) for key, bank in banks.items()}, update)
    return side


def _naive(
    case: Case,
    model: nn.Module,
    family: str,
    banks: Banks,
    values: Values,
    kind: str,
) -> Side:
    return _by_update(case, model, banks, values, kind, naive.NAIVE[kind])


#: Family -> PEFT's configuration for a rank, and where PEFT keeps each core.
PEFT_FAMILIES: Mapping[str, tuple[str, dict[str, object], dict[str, str]]] = {
    "lora": ("LoraConfig", {}, {"A": "lora_A", "B": "lora_B"}),
    "vera": (
        "VeraConfig",
        {},
        {"A": "vera_A", "B": "vera_B", "d": "vera_lambda_d", "b": "vera_lambda_b"},
    ),
    "loha": (
        "LoHaConfig",
        {},
        {"B1": "hada_w1_a", "A1": "hada_w1_b", "B2": "hada_w2_a", "A2": "hada_w2_b"},
    ),
    "lokr": ("LoKrConfig", {}, {"C": "lokr_w1", "B": "lokr_w2_a", "A": "lokr_w2_b"}),
}


def _peft(case: Case, model: nn.Module, family: str, banks: Banks, values: Values) -> Side:
    """HF PEFT; where it does not have the family, its LoRA of the same rank."""
    import peft

    family = family if family in PEFT_FAMILIES else "lora"
    kind, options, names = PEFT_FAMILIES[family]
    rank = next(iter(next(iter(banks.values())).bound.ranks.values()))
    alpha = {"lora": {"lora_alpha": rank}, "vera": {}}.get(family, {"alpha": rank})
    config = getattr(peft, kind)(r=rank, target_modules=case.targets, **alpha, **options)
    device = next(model.parameters())
    wrapped = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    wrapped = wrapped.to(device.device, device.dtype)
    first = next(iter(banks.values()))
    if set(first.bound.family.network.cores) == set(names):
        _copy_to_peft(wrapped, banks, values, names)
    runs = wrapped.base_model.model

    def gradients() -> dict[str, dict[str, Tensor]]:
        found: dict[str, dict[str, Tensor]] = {}
        for key, bank in banks.items():
            found[key] = {}
            for core, where in names.items():
                if core in bank.bound.family.frozen:
                    continue
                grads = [_in_peft(runs, path, where).grad for path, _ in bank.places()]
                found[key][core] = torch.stack(grads).view(bank.bound.shapes[core])
        return found

    return Side("PEFT", runs, gradients)


def _in_peft(model: nn.Module, path: str, where: str) -> Tensor:
    held = getattr(model.get_submodule(path), where)["default"]
    return held.weight if isinstance(held, nn.Module) else held


def _copy_to_peft(model: nn.Module, banks: Banks, values: Values, names: Mapping[str, str]) -> None:
    with torch.no_grad():
        for key, bank in banks.items():
            for path, place in bank.places():
                for core, where in names.items():
                    spec = bank.bound.network.cores[core]
                    at = tuple(place[i] for i in spec.indices if i in place)
                    held = _in_peft(model.base_model.model, path, where)  # type: ignore[union-attr]
                    held.copy_(values[key][core][at])


#: Name -> how it is made.
SIDES: Mapping[str, Callable[..., Side]] = {
    "floor": _floor,
    "floor again": _floor,
    "PEFT": _peft,
    "PEFT again": _peft,
    "tenslora": _ours,
    "tenslora, recompute": partial(_ours, recompute=True),
    "hand": partial(_hand, form="function"),
    "hand, plain autograd": partial(_hand, form="plain"),
    "rebuild": partial(_naive, kind="rebuild"),
    "einsum": partial(_naive, kind="einsum"),
    "opt_einsum": partial(_naive, kind="opt_einsum"),
}


def sides_of(family: str) -> tuple[str, ...]:
    """The sides that can run a family, the frozen model left out.

    >>> sides_of("lora")
    ('PEFT', 'tenslora', 'hand', 'hand, plain autograd', 'einsum', 'opt_einsum')
    """
    found = ["tenslora", "hand", "hand, plain autograd", "einsum", "opt_einsum"]
    if family.startswith("tenslora"):
        found.append("rebuild")
    if family == "lokr":
        found.remove("hand, plain autograd")
    return tuple((["PEFT"] if family in PEFT_FAMILIES else []) + found)
