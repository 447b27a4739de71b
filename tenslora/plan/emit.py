"""Plain source from a plan: reshape, permute, ``@`` and ``*``, the same for every backend."""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tenslora.plan.operands import Operand
from tenslora.plan.product import Product
from tenslora.plan.steps import Array, Chain, Part, Stage, Step, pair_up
from tenslora.spec import Core, Network, Slot

__all__ = ["INJECTED", "emit_apply", "emit_delta", "emit_factors", "load_program", "stage_name"]

#: What a backend puts into the namespace of an emitted program: ``permute(a, *axes)``,
#: ``eye(like, size, axes)``, ``ones(like, *shape)``, ``broadcast(a, *shape)``, ``concat(arrays,
#: axis)``.
INJECTED = ("permute", "eye", "ones", "broadcast", "concat")

_RESERVED = {*keyword.kwlist, *INJECTED, "cores", "like", "h", "T"}


def stage_name(chain: int, stage: int) -> str:
    """The name of the function of a stage.

    >>> stage_name(0, 1)
    'stage_0_1'
    """
    return f"stage_{chain}_{stage}"


def load_program(source: str, title: str, injected: Mapping[str, Any]) -> dict[str, Any]:
    """Run the text of a program with what a backend injects; return the functions by name."""
    namespace = dict(injected)
    # The text is made of numbers and of names that the grammar of the language has admitted.
    exec(compile(source, f"<tenslora {title}>", "exec"), namespace)  # noqa: S102
    return namespace


def emit_apply(chains: Sequence[Chain], sizes: Mapping[str, int]) -> str:
    """Write ``hoist(cores, like)`` and one function ``stage_c_s(h, T)`` for each stage."""
    body: list[str] = []
    results: list[str] = []
    stages: list[str] = []
    for c, chain in enumerate(chains):
        for s, stage in enumerate(chain.stages):
            variable, lines = _emit_part(stage.part, sizes)
            body += (line for line in lines if line not in body)
            text = _arrange(variable, stage.part.result.indices, stage.groups, sizes)
            results.append(text)
            stages += ["", "", *_emit_stage(stage_name(c, s), stage, sizes)]
    lines = ["def hoist(cores, like):", *_indent(body), "    return ("]
    lines += [f"        {text}," for text in results]
    return "\n".join([*lines, "    )", *stages]) + "\n"


def emit_delta(parts: Iterable[Part], target: Core, sizes: Mapping[str, int]) -> str:
    """Write ``delta(cores, like)``, which returns W with one axis a target slot."""
    body: list[str] = []
    total: list[str] = []
    full = [sizes[index] for index in target.indices]
    for part in parts:
        variable, lines = _emit_part(part, sizes)
        body += (line for line in lines if line not in body)
        have = part.result.indices
        order = [index for index in target.indices if index in have]
        text = _permute(variable, have, order)
        if len(order) < len(full):
            shape = [sizes[index] if index in have else 1 for index in target.indices]
            text = f"broadcast({_reshape(text, None, shape)}, {_numbers(full)})"
        total.append(text)
    slots = [math.prod(sizes[index] for index in slot) for slot in target.slots]
    text = total[0] if len(total) == 1 else f"({' + '.join(total)})"
    lines = ["def delta(cores, like):", *_indent(body)]
    return "\n".join([*lines, f"    return {_reshape(text, full, slots)}"]) + "\n"


def emit_factors(product: Product, network: Network, sizes: Mapping[str, int]) -> str:
    """Write ``factors(cores, like)``, which returns A (sites, rank, in) and B (sites, rank, out).

    The axis of the sites is absent where none is carried.
    """
    body: list[str] = []
    halves = []
    for half, features in (("first", network.input), ("second", network.output)):
        sites = product.first_sites if half == "first" else product.second_sites
        pieces = []
        for factor in product.factors:
            part: Part = getattr(factor, half)
            variable, lines = _emit_part(part, sizes)
            body += (line for line in lines if line not in body)
            pieces.append(
                _matrix(variable, part.result.indices, sites, factor.bonds, features, sizes)
            )
        axis = 1 if sites else 0
        halves.append(pieces[0] if len(pieces) == 1 else f"concat(({', '.join(pieces)}), {axis})")
    lines = ["def factors(cores, like):", *_indent(body), "    return ("]
    lines += [f"        {text}," for text in halves]
    return "\n".join([*lines, "    )"]) + "\n"


def _matrix(
    text: str,
    have: Sequence[str],
    sites: Slot,
    bonds: Slot,
    features: Slot,
    sizes: Mapping[str, int],
) -> str:
    """One half of one term for all sites: (sites, bonds, features), each merged."""
    groups = [*([sites] if sites else []), bonds, features]
    if set(sites) <= set(have):
        return _arrange(text, have, groups, sizes)
    order = [index for group in groups for index in group]
    text = _permute(text, have, [index for index in order if index in have])
    text = _reshape(text, None, [sizes[index] if index in have else 1 for index in order])
    text = f"broadcast({text}, {_numbers(sizes[index] for index in order)})"
    merged = [math.prod(sizes[index] for index in group) for group in groups]
    return _reshape(text, [sizes[index] for index in order], merged)


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _variable(name: str) -> str:
    """A Python name for a core's; a trailing underscore keeps it apart from words of Python."""
    return f"{name}_" if name.rstrip("_") in _RESERVED else name


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(map(str, values)) or "()"


def _reshape(text: str, have: Sequence[int] | None, want: Sequence[int]) -> str:
    return (
        text
        if have is not None and list(have) == list(want)
        else f"{text}.reshape({_numbers(want)})"
    )


def _permute(text: str, have: Sequence[str], want: Sequence[str]) -> str:
    if list(have) == list(want):
        return text
    return f"permute({text}, {_numbers(list(have).index(index) for index in want)})"


def _arrange(
    text: str,
    have: Sequence[str],
    groups: Sequence[Sequence[str]],
    sizes: Mapping[str, int],
) -> str:
    """Permute axes into the order of the groups, and merge each group into one axis."""
    order = [index for group in groups for index in group]
    text = _permute(text, have, order)
    merged = [math.prod(sizes[index] for index in group) for group in groups]
    return _reshape(text, [sizes[index] for index in order], merged)


def _emit_part(part: Part, sizes: Mapping[str, int]) -> tuple[str, list[str]]:
    lines = [_emit_load(array, operand, sizes) for array, operand in part.operands]
    lines += [_emit_step(step, sizes) for step in part.steps]
    return _variable(part.result.name), lines


def _emit_load(array: Array, operand: Operand, sizes: Mapping[str, int]) -> str:
    stored = [math.prod(sizes[index] for index in slot) for slot in operand.slots]
    if operand.name == "eye":
        text = f"eye(like, {stored[0]}, {len(stored)})"
    elif operand.name == "ones":
        text = f"ones(like, {_numbers(stored)})"
    else:
        text = f'cores["{operand.name}"]'
    text = _reshape(text, stored, [sizes[index] for index in operand.indices])
    return f"{_variable(array.name)} = {text}"


def _emit_step(step: Step, sizes: Mapping[str, int]) -> str:
    """Write a contraction; its result has the axes batch, left, right."""
    left, right = step.left, step.right
    pair = pair_up(left.indices, right.indices, step.result.indices)
    names = _variable(left.name), _variable(right.name)
    shape = [sizes[index] for index in step.result.indices]
    if pair.summed:
        batch = [pair.batch] if pair.batch else []
        first = _arrange(names[0], left.indices, [*batch, pair.left, pair.summed], sizes)
        second = _arrange(names[1], right.indices, [*batch, pair.summed, pair.right], sizes)
        merged = [math.prod(sizes[i] for i in g) for g in (*batch, pair.left, pair.right)]
        product = f"{first} @ {second}"
        text = product if merged == shape else _reshape(f"({product})", merged, shape)
    else:
        # Each side has an axis of length 1 for what only the other has.
        widths = [sizes[i] for i in pair.batch]
        ends = [sizes[i] for i in pair.left], [sizes[i] for i in pair.right]
        first = _permute(names[0], left.indices, pair.batch + pair.left)
        first = _reshape(first, widths + ends[0], widths + ends[0] + [1] * len(ends[1]))
        second = _permute(names[1], right.indices, pair.batch + pair.right)
        second = _reshape(second, widths + ends[1], widths + [1] * len(ends[0]) + ends[1])
        text = f"{first} * {second}"
    return f"{_variable(step.result.name)} = {text}"


def _emit_stage(name: str, stage: Stage, sizes: Mapping[str, int]) -> list[str]:
    """Write one stage: ``h`` (n, before) and ``T``, the tensor at one site, give (n, after)."""
    pair = stage.pair
    size = {g: math.prod(sizes[i] for i in getattr(pair, g)) for g in ("batch", "left", "right")}
    last = pair.batch + pair.left + pair.right
    if pair.summed:
        text, shaped = _matmul(stage, sizes, size)
    else:
        text, shaped = _product(stage, sizes, size)
    if stage.after != last:
        each = _numbers(sizes[i] for i in last)
        axes = _numbers([0, *(1 + last.index(i) for i in stage.after)])
        text, shaped = f"permute({_atom(text)}.reshape(-1, {each}), {axes})", True
    if shaped:
        text = f"{_atom(text)}.reshape(-1, {math.prod(size.values())})"
    tensor = f"{stage.part.result.name}[{' '.join(i for g in stage.layout for i in g)}]"
    head = f"def {name}(h, T):"
    comment = f"    # h[{' '.join(stage.before)}], T = {tensor} -> h[{' '.join(stage.after)}]"
    return [head, comment, f"    return {text}"]


def _atom(text: str) -> str:
    """Put brackets around a product, so that a method can be called on it."""
    depth = 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and sign == " ":
            return f"({text})"
    return text


def _rows(
    stage: Stage, sizes: Mapping[str, int], order: Sequence[str], shape: Sequence[int]
) -> str:
    """``h`` with its local indices in another order, merged to ``shape`` behind the tokens."""
    text = "h"
    if tuple(order) != stage.before:
        each = _numbers(sizes[index] for index in stage.before)
        axes = _numbers([0, *(1 + stage.before.index(index) for index in order)])
        text = f"permute(h.reshape(-1, {each}), {axes})"
    elif len(shape) == 1:
        return text
    return f"{text}.reshape(-1, {_numbers(shape)})"


def _matmul(stage: Stage, sizes: Mapping[str, int], size: Mapping[str, int]) -> tuple[str, bool]:
    """A stage that sums: a matrix product. Also whether its result is not (n, after) yet."""
    pair = stage.pair
    summed = math.prod(sizes[index] for index in pair.summed)
    order = pair.batch + pair.left + pair.summed
    if not pair.batch:
        shape = [size["left"], summed] if pair.left else [summed]
        return f"{_rows(stage, sizes, order, shape)} @ T", bool(pair.left)
    rows = _rows(stage, sizes, order, [size["batch"], size["left"] * summed])
    # batch goes to the front, and the tokens are merged with left
    first = f"permute({rows}, 1, 0, 2)"
    first = f"{first}.reshape({size['batch']}, -1, {summed})"
    width = size["left"] * size["right"]
    return f"permute(({first} @ T).reshape({size['batch']}, -1, {width}), 1, 0, 2)", True


def _product(stage: Stage, sizes: Mapping[str, int], size: Mapping[str, int]) -> tuple[str, bool]:
    """A stage without a sum. Also whether its result is not (n, after) yet."""
    pair = stage.pair
    order = pair.batch + pair.left
    axes = [size[g] for g in ("batch", "left") if getattr(pair, g)]
    if not pair.right:
        if not (pair.left and pair.batch):  # T is (batch,) or a number
            return f"{_rows(stage, sizes, order, [math.prod(axes)])} * T", False
        return f"{_rows(stage, sizes, order, axes)} * T.reshape({size['batch']}, 1)", True
    if not axes:  # h is (n, 1)
        return "h * T", False
    tensor = "T"
    if pair.batch and pair.left:
        tensor = f"T.reshape({size['batch']}, 1, {size['right']})"
    return f"{_rows(stage, sizes, order, [*axes, 1])} * {tensor}", True
