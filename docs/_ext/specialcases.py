"""The page on special cases: every pair of the catalogue, and the relations written by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from order import Order, order_of

import tenslora
from tenslora.algebra.proof import format_ranks
from tenslora.families.inclusions import INCLUSIONS
from tenslora.families.relation import prove
from tenslora.families.relations import RELATIONS


def special_cases(folder: Path) -> str:
    """Return every pair of the catalogue: counts, picture, table; and the relations by hand."""
    found = order_of(tenslora.registered(), folder / "order.json")
    counts = found.counts()
    undecided = [
        f"- in `{general}`: {', '.join(f'`{name}`' for name in names)}"
        for general, names in found.undecided_in().items()
    ]
    lines = [
        "## The whole catalogue\n",
        f"Of the {counts['pairs']:,} ordered pairs of the {counts['families']} families,",
        f"**{counts['proved']:,} are proved**, {counts['free']:,} of them at ranks made of ranks",
        f"alone; **{counts['refuted']:,} are refuted** by a counterexample; and",
        f"**{counts['undecided']:,} are undecided**.",
        "`tenslora lattice --counts` prints the same. The refuted are all in a few families:\n",
        *_refuted(found),
        "",
        "With ranks as large as you please every family that reaches all of the tensor contains",
        "every other. The picture is of the stricter order, in which no rank grows with the number",
        "of layers or features: the general families at the top, special cases below them,",
        "in one box those that are special cases of each other.\n",
        "Each name leads to the page of the family, where the proofs are.\n",
        "```{lattice}\n```\n",
        _fold("Every pair, as a table", f"```text\n{found.table()}\n```"),
        _fold(f"What is undecided ({counts['undecided']:,})", "\n".join(undecided))
        if undecided
        else "",
        "## Equalities and inclusions of the literature\n",
        "Each line has a witness that was written by hand, in `tenslora.families.relations` and",
        "`tenslora.families.inclusions`; the tests check it, run it on drawn numbers, and see it",
        "refused after each small change. A rank of several sizes is their product.\n",
        "| what it says | ranks of the larger one |\n|---|---|",
    ]
    for relation in (*RELATIONS, *INCLUSIONS):
        ranks = format_ranks(prove(relation).ranks).replace("*", " ") or "none"
        text = relation.text[:1].upper() + relation.text[1:]
        lines.append(f"| {text} | {ranks} |")
    return "\n".join(lines) + "\n"


def _fold(title: str, body: str) -> str:
    return f":::{{dropdown}} {title}\n{body}\n:::\n"


def _refuted(found: Order) -> list[str]:
    """Return a table of the families that are not everything, and what LoRA has that they lack."""
    pairs = [pair for pair in found.verdicts if found.kind(*pair) == "refuted"]
    counts = Counter(general for _, general in pairs)

    def reason(general: str) -> str:
        text: str = found.record("lora", general).get("reason", "")
        return text.replace("|", "and")

    rows = [
        f"| [{name}](families/{name}.md) | {count} | {reason(name)} |"
        for name, count in counts.most_common()
    ]
    return ["| larger family | refuted | why LoRA is not in it |", "|---|---|---|", *rows]
