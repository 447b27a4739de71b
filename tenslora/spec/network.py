"""The frozen structure of an equation: what is summed, what is shared, what is a feature."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module

from tenslora.spec.check import find_problem, locate
from tenslora.spec.index import Core, Term

__all__ = ["Network"]


@dataclass(frozen=True)
class Network:
    """An equation ``target = term + term + ...`` without sizes or values.

    Checked when it is made (:class:`~tenslora.errors.SpecError`), hashable, and equal to what its
    own text parses to.

    >>> from tenslora.spec import parse
    >>> n = parse("W[layer (head head_dim) in] = V[head_dim r] H[head r] D[layer r] A[r in]")
    >>> n.sites, n.output, n.input, n.bonds
    (('layer',), ('head', 'head_dim'), ('in',), ('r',))
    >>> n.role("layer"), n.role("r"), list(n.cores)
    ('site', 'bond', ['V', 'H', 'D', 'A'])
    >>> parse(str(n)) == n
    True
    """

    target: Core
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        problem = find_problem(self.target, self.terms)
        if problem is not None:
            raise problem.error(*locate(self.target, self.terms, problem.place))

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """The indices that say which weight matrix, in the target's order."""
        return tuple(slot[0] for slot in self.target.slots[:-2])

    @property
    def output(self) -> tuple[str, ...]:
        """The indices of the output features, the slowest first."""
        return self.target.slots[-2]

    @property
    def input(self) -> tuple[str, ...]:
        """The indices of the input features, the slowest first."""
        return self.target.slots[-1]

    @property
    def features(self) -> tuple[str, ...]:
        """Output indices, then input indices."""
        return self.output + self.input

    @cached_property
    def bonds(self) -> tuple[str, ...]:
        """The summed indices, in order of first appearance."""
        known = set(self.target.indices)
        return tuple(
            dict.fromkeys(i for term in self.terms for i in term.indices if i not in known)
        )

    @cached_property
    def indices(self) -> tuple[str, ...]:
        """Every index: sites, output, input, bonds."""
        return self.target.indices + self.bonds

    @cached_property
    def cores(self) -> dict[str, Core]:
        """The arrays that hold parameters, by name, in order of first appearance."""
        found: dict[str, Core] = {}
        for term in self.terms:
            for core in term.cores:
                if not core.is_constant:
                    found.setdefault(core.name, core)
        return found

    @cached_property
    def independent_sites(self) -> tuple[str, ...]:
        """The sites that every core carries: nothing is shared over them."""
        stored = [set(c.indices) for t in self.terms for c in t.cores if not c.is_constant]
        return tuple(s for s in self.sites if stored and all(s in held for held in stored))

    def role(self, index: str) -> str:
        """Say whether ``index`` is a ``site``, ``output``, ``input`` or ``bond``.

        Raises ``KeyError`` for a name that the equation does not have.
        """
        for role, names in (
            ("output", self.output),
            ("input", self.input),
            ("site", self.sites),
            ("bond", self.bonds),
        ):
            if index in names:
                return role
        raise KeyError(index)

    def canonical(self) -> Network:
        """Return the network with bonds renamed and cores and terms ordered in one fixed way.

        Networks that differ in these alone have equal canonical forms.

        >>> from tenslora.spec import parse
        >>> str(parse("W[out in] = B[out s] A[s in]").canonical())
        'W[out in] = A[b0 in] B[out b0]'
        """
        from tenslora.spec.canonical import canonical

        return canonical(self)

    def _repr_svg_(self) -> str:
        # Pictures are made above the language: this is for notebooks, which ask for it by name.
        svg: str = import_module("tenslora.draw").draw(self).svg()
        return svg

    def _repr_html_(self) -> str:
        page: str = import_module("tenslora.draw").network_page(self)
        return page

    def __str__(self) -> str:
        return f"{self.target} = {' + '.join(map(str, self.terms))}"
