"""A family with every size known: counts, bytes, cost and the report, before any array exists."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

from tenslora.errors import FamilyError
from tenslora.family.memory import Memory, memory_of_cores
from tenslora.init import draw, from_weights
from tenslora.plan import (
    CPU,
    Plan,
    Profile,
    cut_rank,
    make_plan,
    saved_per_token,
)
from tenslora.spec import Network, core_shape, slot_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tenslora.draw import Drawing
    from tenslora.family.family import Family

__all__ = ["Bound", "boxed", "report"]

_WIDTH = 96


@dataclass(frozen=True, repr=False)
class Bound:
    """What :meth:`Family.bind` returns.

    Attributes
    ----------
    family : the family.
    sizes : every index, bonds included, with its size.
    scale : the number in front of the update.

    Examples
    --------
    >>> import tenslora as tl
    >>> bound = tl.resolve("lora").bind({"layer": 2, "proj": 3, "out": 8, "in": 6}, r=4, alpha=8)
    >>> bound.shapes, bound.scale, bound.trainable_parameters
    ({'B': (2, 3, 8, 4), 'A': (2, 3, 4, 6)}, 2.0, 336)
    """

    family: Family
    sizes: Mapping[str, int]
    scale: float

    @property
    def network(self) -> Network:
        """The equation's structure."""
        return self.family.network

    @property
    def ranks(self) -> dict[str, int]:
        """The sizes of the bonds."""
        return {bond: self.sizes[bond] for bond in self.network.bonds}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each core, one axis a slot."""
        return {name: core_shape(core, self.sizes) for name, core in self.network.cores.items()}

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of entries of each core."""
        return {n: slot_size(core.indices, self.sizes) for n, core in self.network.cores.items()}

    @property
    def trainable_parameters(self) -> int:
        """Entries of the trained cores."""
        return sum(n for core, n in self.counts.items() if core not in self.family.frozen)

    @property
    def frozen_parameters(self) -> int:
        """Entries of the frozen cores."""
        return sum(n for core, n in self.counts.items() if core in self.family.frozen)

    @property
    def nbytes(self) -> int:
        """Bytes of all cores in float32."""
        return 4 * (self.trainable_parameters + self.frozen_parameters)

    @cached_property
    def cut_rank(self) -> int:
        """The largest rank that the update of one site can have: the smallest in|out cut."""
        return cut_rank(self.network, self.sizes)

    def plan(
        self,
        *,
        shared: tuple[str, ...] | None = None,
        tokens: int = 512,
        profile: Profile | str | PathLike[str] = CPU,
        memory_limit: int | None = None,
    ) -> Plan:
        """Find the contraction order.

        Parameters
        ----------
        shared : sites over which the layers read the same input; by default ``proj`` where the
            equation has it, as for the query, key and value of attention.
        tokens : the number of tokens (rows of x) to plan for.
        profile : the machine: ``"cpu"``, ``"h200-bf16"``, or the path of a file that
            ``tenslora tune`` wrote.
        memory_limit : bytes that the largest array between the cores and y may have, over all
            sites, as training keeps it.

        Raises
        ------
        PlanError
            As :func:`tenslora.plan.make_plan` says.

        Examples
        --------
        >>> import tenslora as tl
        >>> bound = tl.families.lora.bind({"layer": 12, "proj": 3, "out": 768, "in": 768}, r=8)
        >>> bound.plan(tokens=4096, memory_limit=1000)
        Traceback (most recent call last):
        tenslora.errors.PlanError: E411: memory_limit=1,000 bytes is less than ...
          The least is 4,718,592 bytes, for 4,096 tokens; or plan for fewer.
        """
        if shared is None:
            shared = tuple(site for site in self.network.sites if site == "proj")
        frozen = self.family.frozen
        return make_plan(
            self.network,
            self.sizes,
            shared=shared,
            tokens=tokens,
            profile=profile,
            frozen=frozen,
            memory_limit=memory_limit,
        )

    @property
    def flops_per_token(self) -> int:
        """FLOPs (two for a multiply-add) of the update for one token through all sites, forward.

        Parts that do not depend on the token are computed once a forward and not counted here.
        """
        return self.plan().flops_per_token

    @property
    def saved_per_token(self) -> int:
        """Numbers that a forward keeps for its backward, of one token through all sites.

        The input of the sites is among them, once for those that read the same.
        """
        return saved_per_token(self.plan())

    def memory(
        self,
        tokens: int = 512,
        *,
        optimizer: str = "adamw",
        itemsize: int = 4,
        inputs: Sequence[Hashable] | None = None,
    ) -> Memory:
        """Estimate what training the cores takes, in bytes: no array is made.

        Counted are the cores, a gradient and the optimiser's state for each trained number, and
        what a forward of ``tokens`` tokens keeps for its backward, the input of the sites included.
        Of the model nothing is counted; :meth:`tenslora.Adapter.memory` does, by trying it out.

        Parameters
        ----------
        tokens : rows of the input of a site: rows of a batch times their length.
        optimizer : ``adamw``, ``adam``, ``momentum`` or ``sgd``.
        itemsize : bytes of a number: 4 for float32, 2 for bfloat16.
        inputs : which input each site reads, equal for the same, in the order of the site indices,
            the last fastest. By default one for each position of the site indices but ``proj``: say
            it where query, key and value are counted by one index ``site``. Where a site stands for
            several weights (the equation has no index that tells them apart; as many for each),
            those of all, the ones of a site together.

        Raises
        ------
        SizeError
            E212 for an optimiser that is not known, or tokens or an itemsize that are no count.
        PlanError
            E403 for a number of inputs that is no multiple of that of the sites, and for what does
            not name them in an order.

        Examples
        --------
        >>> import tenslora as tl
        >>> bound = tl.families.lora.bind({"layer": 12, "proj": 3, "out": 768, "in": 768}, r=8)
        >>> bound.memory(tokens=4096)
        weights        1.7 MB
        gradients      1.7 MB
        optimizer      3.4 MB
        activations  148.5 MB
        together     155.2 MB
        """
        return memory_of_cores(self, tokens, optimizer, itemsize, inputs)

    def arrays(
        self, seed: int = 0, key: str = "", weights: Any = None
    ) -> dict[str, NDArray[np.float64]]:
        """Draw the start of every core, in float64; the same numbers for the same seed and key.

        ``weights``, stacked in the shape of the target, fill the cores of a family with a start
        from the weights. Without them these are drawn like the others.
        """
        init, network = self.family.init, self.network
        drawn = {
            name: draw(init[name], core, network, self.sizes, seed, key)
            for name, core in network.cores.items()
        }
        return drawn if weights is None else {**drawn, **self.filled(weights)}

    def filled(self, weights: Any) -> dict[str, NDArray[np.float64]]:
        """Return the cores that the weights fill, and the copies of these; none without a start.

        Raises
        ------
        FamilyError
            E311 where the weights have another shape, or less than a rank.
        """
        if self.family.start is None:
            return {}
        found = from_weights(self.family.start, self.network, self.sizes, weights)
        copies = {
            name: (rule.value or 1.0) * found[rule.of]
            for name, rule in self.family.init.items()
            if rule.of in found and rule.of is not None
        }
        return {**found, **copies}

    def draw(self, path: str | PathLike[str] | None = None, *, what: str = "network") -> Drawing:
        """Draw the network or the plan, and write the picture where a path is given.

        Parameters
        ----------
        path : ends in ``.svg``, ``.txt`` or ``.tex``.
        what : ``"network"``, or ``"plan"``: the tree of contractions with its costs.

        Raises
        ------
        FamilyError
            E320 for another ending, or another ``what``.
        """
        if what not in ("network", "plan"):
            advice = "Draw the 'network' or the 'plan'."
            raise FamilyError("E320", f"{what!r} is nothing that can be drawn", advice=advice)
        from tenslora.family.picture import draw_bound

        drawing = draw_bound(self, what)
        return drawing if path is None else drawing.save(path)

    def _repr_html_(self) -> str:
        from tenslora.family.picture import bound_page

        return bound_page(self)

    def _repr_svg_(self) -> str:
        return self.draw().svg()

    def to_dict(self) -> dict[str, Any]:
        """Return the report's figures as plain data."""
        plan = self.plan()
        return {
            "name": self.family.name,
            "equation": self.family.equation,
            "sizes": {n: s for n, s in self.sizes.items() if n not in self.network.bonds},
            "ranks": self.ranks,
            "cores": {
                name: {
                    "shape": list(shape),
                    "parameters": self.counts[name],
                    "init": str(self.family.init[name]),
                    "frozen": name in self.family.frozen,
                }
                for name, shape in self.shapes.items()
            },
            "trainable_parameters": self.trainable_parameters,
            "frozen_parameters": self.frozen_parameters,
            "bytes": self.nbytes,
            "scale": self.scale,
            "cut_rank": self.cut_rank,
            "flops_per_token": plan.flops_per_token,
            "hoisted_flops": plan.hoist_flops,
        }

    def __repr__(self) -> str:
        return boxed(self.family.name or "family", report(self))


def report(bound: Bound) -> list[tuple[str, str]]:
    """Return the rows of the report, each a word and a text."""
    network, family, plan = bound.network, bound.family, bound.plan()
    sizes = " ".join(f"{n}={s}" for n, s in bound.sizes.items() if n not in network.bonds)
    cores = ", ".join(
        f"{name} {'x'.join(map(str, shape))} {family.init[name]}"
        + (" (frozen)" if name in family.frozen else "")
        for name, shape in bound.shapes.items()
    )
    features = [slot_size(slot, bound.sizes) for slot in (network.output, network.input)]
    steps = [line.rstrip() for line in plan.outline().splitlines()]
    return [
        ("equation", family.equation),
        ("sizes", sizes),
        ("ranks", " ".join(f"{b}={r}" for b, r in bound.ranks.items()) or "none"),
        ("cores", cores),
        (
            "parameters",
            f"{bound.trainable_parameters:,} trained, {bound.frozen_parameters:,} frozen",
        ),
        ("bytes", f"{bound.nbytes:,} in float32"),
        ("scale", f"{bound.scale:g} ({family.scale})"),
        ("in|out cut", f"rank {bound.cut_rank} of {min(features)}"),
        ("FLOPs", f"{plan.flops_per_token:,} a token, and {plan.hoist_flops:,} once a forward"),
        *[("steps" if n == 0 else "", line) for n, line in enumerate(steps)],
    ]


def boxed(title: str, rows: list[tuple[str, str]]) -> str:
    """Draw a box around rows."""
    label = max(len(name) for name, _ in rows)
    room = _WIDTH - label - 6
    lines = []
    for name, text in rows:
        indent = " " * (len(text) - len(text.lstrip()))
        for n, part in enumerate(textwrap.wrap(text, room, subsequent_indent=indent) or [""]):
            lines.append(f"{name if n == 0 else '':{label}}  {part}")
    width = max(len(title) + 2, *(len(line) for line in lines))
    top = f"╭─ {title} " + "─" * (width - len(title) - 1) + "╮"
    body = "\n".join(f"│ {line:{width}} │" for line in lines)
    return f"{top}\n{body}\n╰{'─' * (width + 2)}╯"
