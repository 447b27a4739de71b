"""The parameters of one shape group, each core once, and the running of its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tenslora.backends import Executable, executable, get
from tenslora.errors import AttachError
from tenslora.family import Bound, Wrapper
from tenslora.init import draw
from tenslora.nn.autograd import autocast_state
from tenslora.nn.context import Call, SharedInput
from tenslora.nn.grid import Grid, input_key, reads_one_input
from tenslora.nn.halves import Halves, Layout, make_layout
from tenslora.nn.kept import Kept
from tenslora.nn.site import Site
from tenslora.spec import slot_size

__all__ = ["Bank", "Hoisted", "add_wide"]

#: A and B of every site; or, where another order is better, for each chain, for each stage, the
#: local tensors of all sites, or the one that all share.
Hoisted = Halves | tuple[tuple[Any, ...], ...]


#: What is found once, from the plan.
_PLANNED = ("width", "program", "layout", "_varies", "_reused")


class Bank(nn.Module):
    """The cores of one adapter for the sites of one shape.

    Parameters
    ----------
    adapter, group : the names under which it stands: ``root.tenslora[adapter][group]``.
    bound : the family with every size.
    sites, grid : what it covers, and where each site stands in the equation's site indices.
    dropout : probability of dropping an entry of the input, in training.
    dtype, device : of the cores, which have no values before :meth:`draw` or a load.
    keep_frozen : whether frozen cores stand in the state dict; a seed draws them again.
    plan : options of :meth:`tenslora.Bound.plan`: the machine, the tokens, a limit on memory.
    wrapper : what the family stands in, if it does. Its own tensors are parameters here too. Under
        a router every weight is a site for each expert.
    recompute : whether what backward needs is computed again there, not kept.

    A trained core is a parameter, a frozen one a buffer; both have the core's name.

    Attributes
    ----------
    weights : the matrices of the model that it covers.
    sites, grid : where W is run; as many as the weights but under a router.

    Examples
    --------
    >>> import tenslora as tl
    >>> from torch import nn
    >>> model = nn.Sequential(*(nn.Linear(6, 4) for _ in range(3)))
    >>> equation = "W[layer out in] = B[layer out r] A[r in]"
    >>> adapter = tl.attach(model, equation, targets="all-linear", ranks=2)
    >>> (bank,) = adapter.banks.values()
    >>> {name: tuple(core.shape) for name, core in bank.named_parameters()}
    {'B': (3, 4, 2), 'A': (2, 6)}
    >>> bank.bound.trainable_parameters, len(bank.sites)
    (36, 3)
    >>> adapter.detach()
    """

    def __init__(
        self,
        adapter: str,
        group: str,
        bound: Bound,
        sites: Sequence[Site],
        grid: Grid,
        *,
        dropout: float = 0.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        keep_frozen: bool = True,
        plan: Mapping[str, Any] | None = None,
        wrapper: Wrapper | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.adapter, self.group = adapter, group
        self.bound, self.weights, self.wrapper = bound, tuple(sites), wrapper
        self.sites, self.grid = self.weights, grid
        if wrapper is not None and wrapper.over:
            experts = bound.sizes[wrapper.over]
            self.sites = tuple(site for site in self.weights for _ in range(experts))
            self.grid = grid.beside(wrapper.over, experts)
        self.planning, self.recompute = dict(plan or {}), recompute
        # as text: a captured graph takes a text for a constant, and a float for an input
        self._scale, self._dropout = repr(float(bound.scale)), repr(float(dropout))
        self._kept: Kept | None = None
        own = wrapper.own(bound.network, bound.sizes, len(self.weights)) if wrapper else {}
        for name in own:
            if name in bound.network.cores:
                what = f"a core cannot be called {name!r} in {wrapper}, which has that itself"
                raise AttachError("E509", what, advice="Rename the core in the equation.")
        for name in bound.network.cores:
            if hasattr(self, name):
                what = f"a core cannot be called {name!r}: torch modules have an attribute {name!r}"
                raise AttachError("E509", what, advice="Rename the core in the equation.")
        for name, shape in bound.shapes.items():
            value = torch.empty(shape, dtype=dtype, device=device)
            if name in bound.family.frozen:
                self.register_buffer(name, value, persistent=keep_frozen)
            else:
                self.register_parameter(name, nn.Parameter(value))
        for name, shape in own.items():
            value = torch.empty(shape, dtype=dtype, device=device)
            self.register_parameter(name, nn.Parameter(value))

    def draw(self, seed: int, key: str) -> None:
        """Give every core its first values; cores on the meta device are left alone."""
        bound = self.bound
        for name, core in bound.network.cores.items():
            held = self.cores()[name]
            if held.is_meta:
                continue
            rule = bound.family.init[name]
            values = draw(rule, core, bound.network, bound.sizes, seed, key)
            with torch.no_grad():
                held.copy_(torch.from_numpy(values))

    def cores(self) -> dict[str, Tensor]:
        """Every core by name, parameters and buffers."""
        held = {**self._parameters, **self._buffers}
        try:
            return {name: held[name] for name in self.bound.network.cores}  # type: ignore[misc]
        except KeyError as missing:
            what = f"adapter {self.adapter!r} has no core {missing} any more"
            advice = "A core can be neither pruned nor parametrized, nor flattened by FSDP: use "
            advice += "fully_shard, or use_orig_params=True."
            raise AttachError("E514", what, advice=advice) from None

    def tensors(self) -> dict[str, Tensor]:
        """Every core, and what a wrapper has of its own."""
        cores = self.cores()
        own = {n: p for n, p in self._parameters.items() if n not in cores and p is not None}
        return {**cores, **own}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, whole where it lies in parts on several processes."""
        bound, wrapper = self.bound, self.wrapper
        if wrapper is None:
            return bound.shapes
        own = wrapper.own(bound.network, bound.sizes, len(self.weights))
        return {**bound.shapes, **own}

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the cores."""
        return next(
            t for t in (*self._parameters.values(), *self._buffers.values()) if t is not None
        ).dtype

    @property
    def device(self) -> torch.device:
        """Where the cores are."""
        return next(
            t for t in (*self._parameters.values(), *self._buffers.values()) if t is not None
        ).device

    @property
    def scale(self) -> float:
        """What updates are multiplied by."""
        return float(self._scale)

    @property
    def dropout(self) -> float:
        """The probability of dropping an entry of the input, in training."""
        return float(self._dropout)

    @dropout.setter
    def dropout(self, value: float) -> None:
        self._dropout = repr(float(value))

    @property
    def drops(self) -> bool:
        """Whether entries of the input are dropped now."""
        return self.training and self._dropout != "0.0"

    @cached_property
    def width(self) -> int:
        """The input features of W; a site of fewer has its leading columns, and leading rows."""
        return slot_size(self.bound.network.input, self.bound.sizes)

    @cached_property
    def program(self) -> Executable:
        """The executable of the plan."""
        labels = self.grid.labels.get("proj", ())
        shared = ("proj",) if "proj" in self.grid.labels and reads_one_input(labels) else ()
        if self.wrapper is not None and self.wrapper.over:
            shared = (*shared, self.wrapper.over)
        return executable(self.bound.plan(shared=shared, **self.planning), get("torch"))

    @cached_property
    def layout(self) -> Layout | None:
        """How the normal form is laid out, ``None`` where another order is better."""
        plan = self.program.plan
        product = plan.product if plan.normal else None
        if product is None:
            return None
        groups: dict[object, list[int]] = {}
        for number, site in enumerate(self.sites):
            groups.setdefault(input_key(site), []).append(number)
        first, second = product.first_sites, product.second_sites
        positions, sizes = self.grid.positions, self.bound.sizes
        return make_layout(product.rank, positions, sizes, first, second, list(groups.values()))

    @cached_property
    def _varies(self) -> tuple[tuple[tuple[str, ...], ...], ...]:
        """For each stage of each chain, the site indices that its result varies over."""
        order = self.bound.network.sites
        return tuple(
            tuple(tuple(s for s in order if s in stage.varies) for stage in chain.stages)
            for chain in self.program.plan.chains
        )

    @cached_property
    def _reused(self) -> tuple[tuple[bool, ...], ...]:
        """Whether the result of a stage may serve several sites that read one input."""
        places = self.grid.positions
        return tuple(
            tuple(len({tuple(p[n] for n in names) for p in places}) < len(places) for names in row)
            for row in self._varies
        )

    def prepare(self) -> None:
        """Plan now, and emit the program: a graph that is being captured cannot do it."""
        for name in _PLANNED:
            getattr(self, name)
        if self.layout is not None:
            self.program.prepare("factors")

    def __getstate__(self) -> dict[str, Any]:
        # Emitted functions cannot be pickled; they are made again.
        held = {name: value for name, value in self.__dict__.items() if name not in _PLANNED}
        return {**held, "_kept": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.prepare()

    def hoist(self, cores: Mapping[str, Tensor] | None = None) -> Hoisted:
        """Compute what does not depend on x, for all sites, and take the sites apart once."""
        program, layout = self.program, self.layout
        held = self.cores() if cores is None else cores
        if layout is not None:
            return Halves(layout, *program.factors(held))
        unbound: Hoisted = program.unbind(program.hoist(held))
        return unbound

    def hoist_again(self) -> Hoisted:
        """As :meth:`hoist`, without gradients: what was hoisted before, while no core changed."""
        kept = self._kept
        if kept is None or not kept.holds(self._parameters, self._buffers):
            self._kept = None
            cores = self.cores()
            hoisted = self.hoist(cores)
            self._kept = Kept.of(cores, hoisted)
            return hoisted
        hoisted = kept.hoisted
        if isinstance(hoisted, Halves):
            hoisted.forget()
        return hoisted

    def forget(self) -> None:
        """Let go of what :meth:`hoist_again` has kept."""
        self._kept = None

    def update(self, site: int, x: Tensor, call: Call) -> Tensor:
        """Return the unscaled update of one site for x (..., in): (n, out), n rows in all."""
        hoisted = self.hoist() if call.hoisted is None else call.hoisted
        return self._leading(site, self._run(site, hoisted, self.read(x, call)))

    def add(self, site: int, x: Tensor, call: Call, output: Tensor) -> Tensor:
        """Return ``output`` (..., out) with the scaled update of one site that covers all of it."""
        scale = self.scale
        hoisted = self.hoist() if call.hoisted is None else call.hoisted
        shared = self.read(x, call)
        same = x.dtype == output.dtype == self.dtype and autocast_state(x.device.type) is None
        if same and isinstance(hoisted, Halves):
            thin, b = self._thin(site, hoisted, shared)
            b = b if b.shape[-1] == output.shape[-1] else b[:, : output.shape[-1]]
            flat = output.reshape(-1, output.shape[-1])
            return torch.addmm(flat, thin, b, alpha=scale).view(output.shape)
        update = self._leading(site, self._run(site, hoisted, shared))
        return add_wide(output, update.reshape(output.shape), scale)

    def dense(self, site: int, hoisted: Hoisted, like: Tensor) -> Tensor:
        """Return the unscaled W (out, in) of one site, in the dtype and device of ``like``."""
        width = self.sites[site].in_features
        if isinstance(hoisted, Halves):
            a, b = (half.to(like) for half in hoisted.of(site))
            a = a if width == self.width else a[:, :width]
            return self._leading(site, a.mT @ b).mT
        rows = torch.eye(width, self.width, dtype=like.dtype, device=like.device)
        return self._leading(site, self._run(site, hoisted, SharedInput(rows, None, rows))).mT

    def covers(self, site: int) -> bool:
        """Whether a site has all rows and columns of its matrix, not the leading ones alone."""
        out = slot_size(self.bound.network.output, self.bound.sizes)
        return self.sites[site].shape == (out, self.width)

    def _leading(self, site: int, update: Tensor) -> Tensor:
        out = self.sites[site].out_features
        return update if update.shape[-1] == out else update[..., :out]

    def read(self, x: Tensor, call: Call) -> SharedInput:
        """Return x (..., in) as rows (n, in): cast, filled up to W's width, dropped out."""
        context = call.context
        key = None if context is None else SharedInput.key_of(x, call.moment, self.training)
        if key is not None and context is not None:
            last = context.inputs.get(self)
            if last is not None and last.x is x and last.key == key:
                return last
        rows = x.reshape(-1, x.shape[-1])
        if rows.shape[-1] < self.width:  # a site that reads the leading columns of W
            rows = functional.pad(rows, (0, self.width - rows.shape[-1]))
        if rows.dtype != self.dtype and autocast_state(x.device.type) is None:
            rows = rows.to(self.dtype)
        if self.drops:
            rows = functional.dropout(rows, self.dropout, training=True)
        made = SharedInput(x, key, rows)
        if key is not None and context is not None:
            context.inputs[self] = made
        return made

    def _run(self, site: int, hoisted: Hoisted, shared: SharedInput) -> Tensor:
        if isinstance(hoisted, Halves):
            return self._run_halves(site, hoisted, shared)
        place = self.grid.positions[site]
        program = self.program
        local = program.pick(hoisted, place)
        total: Tensor | None = None
        for c, chain in enumerate(program.chains):
            h = shared.rows
            for s, stage in enumerate(chain):
                at = (c, s, *(place[name] for name in self._varies[c][s]))
                known = shared.stages.get(at)
                if known is None:
                    tensor = local[c][s]
                    # a model that is spread over devices: its bank stands on one of them
                    tensor = tensor if tensor.device == h.device else tensor.to(h.device)
                    known = stage(h, tensor)
                    if shared.key is not None and self._reused[c][s]:
                        shared.stages[at] = known
                h = known
            total = h if total is None else total + h
        if total is None:  # an equation always has a term
            raise AttachError("E504", "the plan has no chain", advice="Report this equation.")
        return total

    def _run_halves(self, site: int, hoisted: Halves, shared: SharedInput) -> Tensor:
        thin, b = self._thin(site, hoisted, shared)
        return thin @ b

    def _thin(self, site: int, hoisted: Halves, shared: SharedInput) -> tuple[Tensor, Tensor]:
        """The rows in the rank of one site, x A (n, rank), and B (rank, out)."""
        rows = shared.rows
        # a captured graph does equal products once: there each site asks for those of its group
        if shared.key is None and (self.drops or not torch.compiler.is_compiling()):
            a, b = (half.to(rows.device) for half in hoisted.of(site))
            return functional.linear(rows, a), b
        place, rank = hoisted.layout.places[site], hoisted.layout.rank
        pieces = shared.stages.get(place.group)
        if pieces is None:
            thin = functional.linear(rows, hoisted.a[place.group].to(rows.device))
            pieces = (thin,) if thin.shape[-1] == rank else thin.split(rank, -1)
            shared.stages[place.group] = pieces
        return pieces[place.start // rank], hoisted.b[place.second].to(rows.device)


def add_wide(output: Tensor, update: Tensor, scale: float) -> Tensor:
    """Add in the wider of the two dtypes, and round once to the output's."""
    return torch.add(output, update, alpha=scale).to(output.dtype)
