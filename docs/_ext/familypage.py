"""The page of one family, as Markdown, from its value alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import facts
from order import Order

from tenslora.draw import to_latex
from tenslora.errors import TensloraError
from tenslora.families.checks import checks_of
from tenslora.family import Bound, Family, model_shape

_SHOWN = 8  # the rank at which the order of contraction is shown


def family_page(family: Family, order: Order) -> str:
    """Return the page of a family; ``order`` knows its place among the others."""
    name = family.label
    parts = [
        f"# {name}",
        sentence(family),
        f"```{{network}} {name}\n```",
        f"$$\n{to_latex(family.network)}\n$$",
        _facts(family),
        "## Cores\n\n" + _cores(family),
        "## Parameters and FLOPs\n\n" + _counts(family),
        _contraction(family),
        "## Special cases\n\n" + _relations(name, order),
        _checks(family),
        "## Use it\n\n" + _use(family),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def sentence(family: Family) -> str:
    """Return the summary as a sentence."""
    return _sentence(family.summary.strip())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("." if text and text[-1] not in ".?!" else "")


def source_link(source: str) -> str:
    """Return a source with its arXiv numbers as links."""
    return re.sub(r"arXiv[: ](\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", source)


def _facts(family: Family) -> str:
    kind = facts.SHAPES[facts.shape_of(family.network)]
    shared = facts.shared_over(family)
    over = "; ".join(f"{_list(cores)} over `{site}`" for site, cores in shared.items())
    items = {
        "Shape": kind,
        "Shared": over or "nothing: each weight matrix has cores of its own",
        "Scale": f"`{family.scale}`",
        "Start": f"`{family.start}` of the weights" if family.start else "",
        "Dropout": ", ".join(f"{point} {p:g}" for point, p in family.dropout.items()),
        "Also called": ", ".join(f"`{alias}`" for alias in family.aliases),
        "Source": source_link(family.source),
        "Code": family.repository
        and f"[{family.repository}](https://github.com/{family.repository})",
        "Tried on": family.evaluated,
        "Notes": _sentence(family.notes),
    }
    listed = "\n\n".join(f"{key}\n: {value}" for key, value in items.items() if value)
    return f":::{{div}} tl-facts\n{listed}\n:::"


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cores(family: Family) -> str:
    network = family.network
    rows = []
    for name, core in network.cores.items():
        held = set(core.indices)
        kinds = (network.features, network.sites, network.bonds)
        carried = [_list(i for i in kind if i in held) for kind in kinds]
        start = f"`{family.init[name]}`" + (", frozen" if name in family.frozen else "")
        rate = f", learning rate x {family.lr[name]:g}" if name in family.lr else ""
        rows.append((f"`{core}`", *carried, start + rate))
    return _table(("core", "features", "sites", "ranks", "start"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], numbers: int = 0) -> str:
    """Return a table; its last columns, so many, are numbers."""
    names = list(head)
    lines = [names, ["---"] * (len(names) - numbers) + ["---:"] * numbers, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counts(family: Family) -> str:
    bonds = len(family.bonds)
    every = "`r`" if bonds == 1 else f"each of the {bonds} ranks"
    head = ("rank", "trained parameters", "FLOPs a token", "rank of an update")
    tables = []
    for model, label in facts.MODELS.items():
        rows = [
            (
                str(cost.rank) if bonds else "none",
                f"{cost.parameters:,}",
                f"{cost.flops:,}",
                f"{cost.cut:,}",
            )
            for cost in facts.costs(family, model)
        ]
        rows = rows if bonds else rows[:1]
        if rows:
            tables.append(f"**{label}**\n\n{_table(head, rows, 4)}")
    formula = f'<p class="tl-formula tenslora">{facts.formula(family)} trained parameters</p>'
    block = f"```{{raw}} html\n{formula}\n```"
    if not tables:
        none = "Its sites are not those of an attention layer: no model is counted."
        return "\n\n".join([block, none, _explorer(family)])
    about = (
        f"On the query, key and value of every layer, with {every} at the number given. FLOPs are "
        "those of one token through all of them, forward; what is computed once a forward is not "
        "in them. The last column is the largest rank that the update of one matrix can have."
    )
    return "\n\n".join([block, *tables, about, _explorer(family)])


def _explorer(family: Family) -> str:
    address = f"../explore.html?family={family.label}"
    return f'```{{raw}} html\n<p><a href="{address}">Other sizes and ranks</a></p>\n```'


def _shown(family: Family) -> Bound | None:
    try:
        group = model_shape("roberta-base").weights[0]
        return family.bind(group.sizes(family.network), ranks=_SHOWN)
    except TensloraError:
        return None


def _contraction(family: Family) -> str:
    bound = _shown(family)
    if bound is None:
        return ""
    return (
        "## Order of contraction\n\n"
        f"At the sizes of RoBERTa-base with ranks of {_SHOWN}, as the planner finds it:\n\n"
        f"```{{plan}} {family.label}\n```\n\n"
        f"```text\n{bound.plan().explain()}\n```"
    )


def _relations(name: str, order: Order) -> str:
    others = [other for other in order.names if other != name]
    above = {other: order.record(name, other) for other in others}
    below = {other: order.record(other, name) for other in others}
    equal = [o for o in others if order.kind(name, o) == "equal"]
    parts = []
    if equal:
        parts.append(
            "**The same updates, at suitable ranks, as** "
            + ", ".join(_link(other) for other in equal)
            + "."
        )
    parts += [
        _block("A special case of", above, equal),
        _block("Contains", below, equal),
    ]
    no = {other: record for other, record in above.items() if record["kind"] == "refuted"}
    if no:
        rows = [
            (_link(other), record["reason"].replace("|", "\\|")) for other, record in no.items()
        ]
        parts.append(
            _fold("Proved not to be a special case of", len(no), _table(("", "why"), rows))
        )
    return "\n\n".join(part for part in parts if part) or "No relation is known."


def _block(title: str, records: Mapping[str, dict[str, str]], equal: list[str]) -> str:
    """Write the relations of one direction: those at ranks of their own, then those that grow."""
    free = {o: r for o, r in records.items() if r["kind"] == "free"}
    grows = {o: r for o, r in records.items() if r["kind"] == "grows"}
    strict = [o for o in free if o not in equal]
    parts = []
    if strict:
        parts.append(f"**{title}** {', '.join(_link(other) for other in strict)}.")
    if free:
        proofs = "\n\n".join(f"{_link(o)}\n\n```text\n{r['proof']}\n```" for o, r in free.items())
        parts.append(_fold(f"{title}: witnesses and proofs", len(free), proofs))
    if grows:
        rows = [(_link(o), f"`{r['ranks']}`") for o, r in grows.items()]
        table = _table(("family", "ranks"), rows)
        parts.append(_fold(f"{title}, at ranks that grow with a size", len(grows), table))
    return "\n\n".join(parts)


def _fold(title: str, number: int, body: str) -> str:
    return f":::{{dropdown}} {title} ({number})\n{body}\n:::"


def _link(name: str) -> str:
    return f"{{doc}}`{name} </families/{name}>`"


def _checks(family: Family) -> str:
    items = [
        f"- {against}: {text}"
        for against, texts in checks_of(family.label).items()
        for text in texts
    ]
    return "## Independent checks\n\n" + "\n".join(items) if items else ""


def _use(family: Family) -> str:
    name = family.label
    return (
        "```python\nimport tenslora as tl\n\n"
        "adapter = tl.attach(\n"
        f'    model, "{name}", targets=["query", "key", "value"], ranks=8\n)\n```\n\n'
        f"```console\n$ tenslora show {name} --text\n```"
    )
