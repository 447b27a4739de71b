"""What a backend is, and how an emitted program is run by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tenslora.errors import PlanError
from tenslora.plan import Plan
from tenslora.plan.emit import INJECTED, load_program, stage_name
from tenslora.spec import core_shape, slot_size

__all__ = ["Backend", "Executable"]

#: An array of some backend.
Tensor = Any


@dataclass(frozen=True)
class Backend:
    """The few operations that arrays of a library do not share under one name.

    Attributes
    ----------
    name : ``"numpy"``, ``"torch"``, ``"jax"``.
    permute : ``permute(a, *axes)``.
    eye : ``eye(like, size, axes)``: 1 where all indices agree, in the dtype of ``like``.
    ones : ``ones(like, *shape)``.
    broadcast : ``broadcast(a, *shape)``.
    unbind : the slices along the first axis.
    stack : join arrays along a new first axis.
    concat : ``concat(arrays, axis)``: join them along an axis that they have.

    Examples
    --------
    >>> import numpy as np
    >>> from tenslora.backends import get
    >>> numpy = get("numpy")
    >>> numpy.name, sorted(numpy.namespace())
    ('numpy', ['broadcast', 'concat', 'eye', 'ones', 'permute'])
    >>> numpy.eye(np.zeros(1), 2, 2)
    array([[1., 0.],
           [0., 1.]])
    """

    name: str
    permute: Callable[..., Tensor]
    eye: Callable[[Tensor, int, int], Tensor]
    ones: Callable[..., Tensor]
    broadcast: Callable[..., Tensor]
    unbind: Callable[[Tensor], tuple[Tensor, ...]]
    stack: Callable[[list[Tensor]], Tensor]
    concat: Callable[[tuple[Tensor, ...], int], Tensor]

    def namespace(self) -> dict[str, Any]:
        """What an emitted program may call."""
        return {name: getattr(self, name) for name in INJECTED}


class Executable:
    """A plan on the arrays of one backend.

    The cores are given as a mapping from names to arrays, one axis a slot
    (:func:`tenslora.spec.core_shape`), of one dtype and device.

    Attributes
    ----------
    plan : the plan.
    backend : the backend.
    chains : for each term the stages ``fn(h, T) -> h``; ``h`` begins as x (n, in) and ends as
        (n, out).

    Examples
    --------
    >>> import numpy as np
    >>> from tenslora.backends import get
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> n = parse("W[layer out in] = B[layer out r] A[layer r in]")
    >>> run = Executable(make_plan(n, {"layer": 2, "out": 4, "in": 3, "r": 1}), get("numpy"))
    >>> cores = {"B": np.ones((2, 4, 1)), "A": np.ones((2, 1, 3))}
    >>> run.delta(cores).shape
    (2, 4, 3)
    >>> run.apply(cores, np.ones((5, 3)), {"layer": 1}).shape
    (5, 4)
    """

    def __init__(self, plan: Plan, backend: Backend) -> None:
        self.plan = plan
        self.backend = backend
        self._shapes = {
            name: core_shape(core, plan.sizes) for name, core in plan.network.cores.items()
        }
        self._features = slot_size(plan.network.input, plan.sizes)
        namespace = self._compile("apply")
        self._hoist: Callable[..., tuple[Tensor, ...]] = namespace["hoist"]
        self.chains: tuple[tuple[Callable[[Tensor, Tensor], Tensor], ...], ...] = tuple(
            tuple(namespace[stage_name(c, s)] for s in range(len(chain.stages)))
            for c, chain in enumerate(plan.chains)
        )
        self._rows = tuple(
            tuple(self._strides(stage.sites) for stage in chain.stages) for chain in plan.chains
        )

    def _compile(self, mode: str) -> dict[str, Any]:
        title = f"{mode}: {self.plan.network}"
        return load_program(self.plan.source(mode), title, self.backend.namespace())

    def _strides(self, sites: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
        sizes = [self.plan.sizes[site] for site in sites]
        return tuple((site, math.prod(sizes[n + 1 :])) for n, site in enumerate(sites))

    @cached_property
    def _delta(self) -> Callable[..., Tensor]:
        program: Callable[..., Tensor] = self._compile("delta")["delta"]
        return program

    @cached_property
    def _factors(self) -> Callable[..., tuple[Tensor, Tensor]]:
        program: Callable[..., tuple[Tensor, Tensor]] = self._compile("factors")["factors"]
        return program

    def prepare(self, mode: str) -> None:
        """Compile ``"delta"`` or ``"factors"`` now, not when it is first asked for.

        A graph that is being captured cannot do it.
        """
        getattr(self, f"_{mode}")

    def _check(self, cores: Mapping[str, Tensor]) -> Tensor | None:
        """Compare shapes with the equation: an einsum would broadcast a size of 1 silently."""
        for name, shape in self._shapes.items():
            if name not in cores:
                what = f"core {name} of {self.plan.network} is missing"
                raise PlanError("E404", what, advice=f"Give an array of shape {shape}.")
            if cores[name].shape != shape:
                found = tuple(cores[name].shape)
                what = f"core {name} has shape {found}, and {self.plan.network} wants {shape}"
                raise PlanError("E405", what, advice="One axis a slot, of the size of its index.")
        return next((cores[name] for name in self._shapes), None)

    def delta(self, cores: Mapping[str, Tensor], like: Tensor | None = None) -> Tensor:
        r"""Make W at every site.

        Parameters
        ----------
        cores : the arrays by name.
        like : an array of the dtype and device wanted, for an equation of constants alone.

        Returns
        -------
        array
            One axis a slot of the target: (\*sites, out, in), not scaled.

        Raises
        ------
        PlanError
            E404 for a missing core, E405 for a wrong shape.
        """
        first = self._check(cores)
        return self._delta(cores, like if first is None else first)

    def factors(
        self, cores: Mapping[str, Tensor], like: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the normal form of every site, ``W = B.T @ A``, not scaled.

        Returns
        -------
        tuple of two arrays
            A (sites, rank, in) and B (sites, rank, out): the sites that each carries, flattened in
            the order of ``plan.product``; without that axis where it carries none.

        Raises
        ------
        PlanError
            E404 for a missing core, E405 for a wrong shape, E409 for an equation without one.
        """
        first = self._check(cores)
        return self._factors(cores, like if first is None else first)

    def hoist(self, cores: Mapping[str, Tensor], like: Tensor | None = None) -> tuple[Tensor, ...]:
        r"""Compute what does not depend on x, for all sites.

        Returns
        -------
        tuple of arrays
            One for each stage of each chain: (sites, \*axes), the sites that it carries flattened
            in the target's order; without that axis where it carries none.

        Raises
        ------
        PlanError
            E404 for a missing core, E405 for a wrong shape.
        """
        first = self._check(cores)
        return self._hoist(cores, like if first is None else first)

    def unbind(self, hoisted: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], ...]:
        """Take the sites apart, once: indexing a trained stack writes a full gradient each time."""
        flat = [strides for row in self._rows for strides in row]
        return tuple(
            self.backend.unbind(tensor) if strides else (tensor,)
            for tensor, strides in zip(hoisted, flat, strict=True)
        )

    def pick(
        self, unbound: tuple[tuple[Tensor, ...], ...], site: Mapping[str, int]
    ) -> tuple[tuple[Tensor, ...], ...]:
        """The tensors of one site: for each chain one a stage."""
        slices = iter(unbound)
        return tuple(
            tuple(next(slices)[sum(site[s] * step for s, step in strides)] for strides in row)
            for row in self._rows
        )

    def apply(self, cores: Mapping[str, Tensor], x: Tensor, site: Mapping[str, int]) -> Tensor:
        """Return ``x @ W[site].T``, not scaled.

        Parameters
        ----------
        cores : the arrays by name.
        x : (n, in).
        site : the position on each site index, from 0.

        Returns
        -------
        array
            (n, out).

        Raises
        ------
        PlanError
            E404, E405 for the cores, E406 for x, E407 for a site that is not there.
        """
        self._check_input(x)
        self._check_site(site)
        return self._run(self.unbind(self.hoist(cores, x)), x, site)

    def apply_stacked(self, cores: Mapping[str, Tensor], x: Tensor) -> Tensor:
        r"""Apply W of every site to one x (n, in): (\*sites, n, out), not scaled."""
        self._check_input(x)
        unbound = self.unbind(self.hoist(cores, x))
        shape = tuple(self.plan.sizes[site] for site in self.plan.network.sites)
        strides = self._strides(self.plan.network.sites)
        outputs = [
            self._run(unbound, x, {s: n // step % self.plan.sizes[s] for s, step in strides})
            for n in range(math.prod(shape))
        ]
        return self.backend.stack(outputs).reshape(*shape, *outputs[0].shape)

    def _run(
        self, unbound: tuple[tuple[Tensor, ...], ...], x: Tensor, site: Mapping[str, int]
    ) -> Tensor:
        total = None
        for stages, tensors in zip(self.chains, self.pick(unbound, site), strict=True):
            h = x
            for stage, tensor in zip(stages, tensors, strict=True):
                h = stage(h, tensor)
            total = h if total is None else total + h
        return total

    def _check_input(self, x: Tensor) -> None:
        if len(x.shape) != 2 or x.shape[1] != self._features:
            what = (
                f"x has shape {tuple(x.shape)}, and {self.plan.network} wants (n, {self._features})"
            )
            raise PlanError("E406", what, advice="Flatten the leading axes: x.reshape(-1, in).")

    def _check_site(self, site: Mapping[str, int]) -> None:
        sites, sizes = self.plan.network.sites, self.plan.sizes
        if set(site) != set(sites) or any(not 0 <= site[s] < sizes[s] for s in sites):
            ranges = ", ".join(f"{s} 0..{sizes[s] - 1}" for s in sites) or "no site index"
            what = f"site {dict(site)!r} is not a site of {self.plan.network}"
            raise PlanError("E407", what, advice=f"It has {ranges}.")
