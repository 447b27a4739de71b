"""One table for each experiment, as Markdown, from its kept result.

Knows no tensor library: the documentation imports it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["SECTIONS", "table"]

Row = Mapping[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column on the left, numbers on the right.

    >>> print(table(["side", "ms"], [["floor", "3.0"]]))
    | side | ms |
    |---|---:|
    | floor | 3.0 |
    """
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _ratio(value: float | None, digits: int = 2) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f} %"


def _counters(kept: Mapping[str, Any]) -> str:
    rows = kept["rows"]
    first = [r for r in rows if r["model"] == rows[0]["model"]]
    floor = first[0]["extra"]
    peft = next(r for r in first if r["side"] == "PEFT" and r["rank"] == 4)["extra"]
    text = (
        f"{first[0]['model']}, forward and backward, extra over the "
        f"frozen model, in parts of PEFT LoRA's extra at the same rank (at rank 4: {peft['calls']} "
        f"calls and {peft['nbytes'] / 1e9:.2f} GB more than the frozen model's {floor['calls']} "
        f"and {floor['nbytes'] / 1e9:.2f} GB, {peft['flops'] / 1e9:.2f} GFLOP, "
        f"{peft['saved'] / 2**20:.0f} MiB saved). By hand: `benchmarks/hand.py`.\n\n"
    )
    head = ["family", "rank", "FLOPs", "calls", "bytes", "saved"]
    head += ["by hand: FLOPs", "calls", "bytes", "saved"]
    sides: dict[tuple[str, str, str], Row] = {
        (r["family"], str(r["rank"]), r["side"]): r["ratio"] for r in first
    }
    lines = []
    for family, rank, side in sides:
        if side != "tenslora":
            continue
        cells = []
        for other in ("tenslora", "hand"):
            found = sides.get((family, rank, other))
            cells += [
                _ratio(found[q]) if found else "-" for q in ("flops", "calls", "nbytes", "saved")
            ]
        lines.append([family, _rank(rank), *cells])
    text += table(head, lines)
    rebuilt = [r for r in first if r["side"] == "rebuild"]
    if rebuilt:
        calls = [r["extra"]["calls"] for r in rebuilt]
        more = [r["extra"]["nbytes"] / floor["nbytes"] for r in rebuilt]
        saved = [r["extra"]["saved"] / 2**20 for r in rebuilt]
        text += (
            f"\n\nRebuilding the tensor at every site takes {min(calls):,} to {max(calls):,} calls "
            f"more than the frozen model, moves {min(more):+.0%} to {max(more):+.0%} bytes and "
            f"saves {min(saved):,.0f} to {max(saved):,.0f} MiB."
        )
    return text


def _rank(rank: Any) -> str:
    text = str(rank).strip("{}").replace("'", "").replace(": ", "=")
    return text if "=" in text else str(rank)


def _group(kept: Mapping[str, Any]) -> str:
    text = (
        "One layer's q, k and v, forward and backward. Over the floor: what a side takes beyond "
        "the frozen linears. Of PEFT: that over what PEFT's LoRA of the same rank takes beyond. "
        "Two numbers are the ratio of minima and that of the medians of paired rounds.\n\n"
    )
    head = ["case", "rank", "FLOP bound", "tenslora over the floor", "tenslora of PEFT"]
    head += ["by hand, of PEFT", "plain autograd by hand", "einsum", "opt_einsum", "noise"]
    lines = []
    for row in kept["rows"]:
        sides = row["sides"]
        ours = sides["tenslora"]
        name = f"{row['family']}, d = {row['width']}, {row['tokens']:,} tokens"
        if row["mode"] == "inference":
            name += ", inference"
        cells = [_percent(row["bound"]), _pair(ours["overhead"], _percent), _pair(ours["of_peft"])]
        cells += [
            _pair(sides[side]["of_peft"]) if side in sides else "-"
            for side in ("hand", "hand, plain autograd", "einsum", "opt_einsum")
        ]
        lines.append([name, _rank(row["rank"]), *cells, _percent(row["noise"]).lstrip("+")])
    text += table(head, lines)
    own = []
    for row in kept["rows"]:
        theirs = row["sides"].get(f"PEFT {row['family']}")
        if theirs is not None and row["case"].startswith("1 x 768, 394"):
            ours = _pair(row["sides"]["tenslora"]["overhead"], _percent)
            pair = _pair(theirs["overhead"], _percent)
            own.append(f"{row['family']}: tenslora {ours}, PEFT {pair}")
    if own:
        text += f"\n\nPEFT's own other methods, over the floor: {'; '.join(own)}."
    return text


def _pair(found: Mapping[str, float], write: Callable[[float | None], str] = _ratio) -> str:
    return f"{write(found['minima'])} / {write(found['paired'])}"


def _compiled(kept: Mapping[str, Any]) -> str:
    lines = []
    for row in kept["rows"]:
        case = f"{row['family']}, {row['case'].partition(', ')[2]}"
        for side, found in row["sides"].items():
            if side.endswith("again"):
                continue
            over, part = found.get("overhead"), found.get("of_peft")
            cells = [f"{1e3 * found['minimum']:.2f}", _pair(found["step"], lambda v: _ratio(v, 3))]
            cells += [_pair(over, _percent) if over else "-", _pair(part) if part else "-"]
            cells.append(_percent(row["noise"]).lstrip("+"))
            lines.append([case, _rank(row["rank"]), side, *cells])
    head = ["case", "rank", "side", "ms", "step of eager PEFT's", "over the floor"]
    head += ["of PEFT's overhead", "noise"]
    text = (
        "One layer's q, k and v, forward and backward, in eager mode and as one graph of "
        "`torch.compile(fullgraph=True)`. A compiled side is measured over the compiled frozen "
        "model, and against the overhead of PEFT's compiled. Pairs are the ratio of minima and "
        "that of the medians of paired rounds.\n\n" + table(head, lines)
    )
    failed = {
        f"{side} ({row['family']}, r = {row['rank']}): {reason}"
        for row in kept["rows"]
        for side, reason in row["failed"].items()
        if not side.endswith("again")
    }
    if failed:
        text += f"\n\nNot compiled: {'; '.join(sorted(failed))}."
    return text


def _parts(kept: Mapping[str, Any]) -> str:
    few, many = kept["rows"][0]["layers"]
    lines = []
    for row in kept["rows"]:
        case = f"{row['family']}, d = {row['width']}, {row['tokens']:,} tokens"
        case += ", inference" if row["mode"] == "inference" else ""
        peft = row["sides"]["PEFT"]
        for side, found in row["sides"].items():
            cells = [f"{found['few'] / few:,.0f}", f"{found['many'] / many:,.0f}"]
            cells += [_ratio(found[k] / peft[k]) if peft[k] > 0 else "-" for k in ("few", "many")]
            lines.append([case, side, *cells])
    head = ["case, rank 4", "side", f"{few} layer, us", f"each of {many}, us"]
    head += [f"{few} layer, of PEFT", f"{many} layers, of PEFT"]
    return (
        "Microseconds of a layer's q, k and v beyond the frozen model (the median of the "
        f"differences within each round), in a stack of {few} and of {many}. PEFT is its LoRA. Of "
        "the floor run twice comes what is no difference. Empty hooks, and hooks that do the "
        "products with A and B at hand and ask nothing, are no adapters, but about the least that "
        "one made of hooks can cost.\n\n" + table(head, lines)
    )


def _whole(kept: Mapping[str, Any]) -> str:
    head = ["model", "side", "step of PEFT's", "over the floor", "of PEFT's overhead", "noise"]
    lines = []
    for row in kept["rows"]:
        if row["side"] in ("floor again", "PEFT"):
            continue
        lines.append(
            [
                f"{row['model']}, {row['tokens']:,} tokens",
                row["side"] if row["side"] != "hand" else "lora by hand",
                _pair(row["step"], lambda v: _ratio(v, 3)),
                _pair(row["overhead"], _percent),
                _pair(row["of_peft"]),
                _percent(row["noise"]).lstrip("+"),
            ]
        )
    return (
        "Training steps at rank 4, all sides in one race on the same frozen weights. Pairs are the "
        "ratio of minima and the median of paired ratios.\n\n" + table(head, lines)
    )


def _memory(kept: Mapping[str, Any]) -> str:
    first: dict[str, Row] = {}
    lines = []
    for row in kept["rows"]:
        base = first.setdefault(row["model"], row)
        more = (row["peak"] - base["peak"]) / 2**20, (row["saved"] - base["saved"]) / 2**20
        lines.append(
            [
                f"{row['model']}, {row['side']} {row['family']}",
                f"{row['peak'] / 2**20:,.0f}",
                f"{more[0]:+.1f}",
                f"{more[1]:+.2f}",
            ]
        )
    head = ["variant (rank 4)", "high-water mark, MiB", "over the floor", "saved over the floor"]
    return "One process a variant, two training steps.\n\n" + table(head, lines)


def _handling(kept: Mapping[str, Any]) -> str:
    lines = []
    for row in kept["rows"]:
        if row["what"] == "merged":
            continue
        name = " ".join(
            str(row[key]) for key in ("what", "model", "side", "family") if row.get(key)
        )
        name += f" ({row['sites']} sites)" if "sites" in row else ""
        lines.append([name, f"{row['milliseconds']:.1f}"])
    merged = next(row for row in kept["rows"] if row["what"] == "merged")
    return (
        table(["what", "ms of processor time"], lines)
        + f"\n\nAfter merging: {merged['hooks']} hooks and {merged['replaced']} replaced modules "
        f"on the targets, {merged['calls']:.2f} times the calls of the original model."
    )


def _growth(kept: Mapping[str, Any]) -> str:
    lines = [
        [
            f"{row['axis']}: {', '.join(map(str, row['sizes']))}",
            row["side"],
            ", ".join(_ratio(1e3 * v, 1) for v in row["seconds"]),
            _ratio(row["exponent"]),
        ]
        for row in kept["rows"]
    ]
    against = [
        [
            f"{row['layers']} x {row['width']}, {row['tokens']} tokens",
            row["family"],
            _ratio(1e3 * row["ours"], 1),
            _ratio(1e3 * row["rebuilt"], 1),
            _ratio(row["times"], 0),
        ]
        for row in kept["against"]
    ]
    head = ["stack", "family", "our part, ms", "rebuilding, ms", "times"]
    return (
        "The part of a step beyond the frozen model (the median over the rounds), and the slope of "
        "its logarithm.\n\n"
        + table(["growing", "side", "ms", "exponent"], lines)
        + "\n\nThe same part against rebuilding the tensor at every site (timed at one site, times "
        "the number of sites):\n\n" + table(head, against)
    )


def _trees(kept: Mapping[str, Any]) -> str:
    lines = []
    for kind in ("catalogue", "random"):
        ratios = sorted(row["ratio"] for row in kept["rows"] if row["kind"] == kind)
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        high = ratios[int(0.95 * (len(ratios) - 1))]
        lines.append([kind, str(len(ratios)), f"{mean:.3f}", f"{high:.2f}", f"{ratios[-1]:.2f}"])
    worst = sorted(kept["rows"], key=lambda row: -row["ratio"])[:3]
    listed = "\n".join(
        f"- {row['ratio']:.2f}: `{row['equation']}`, {row['tokens']} tokens" for row in worst
    )
    head = ["networks", "count", "geometric mean", "19 of 20 below", "worst"]
    return (
        "Time of the planner's order of contraction over that of the best measured one, run by one "
        f"executor.\n\n{table(head, lines)}\n\nThe worst:\n\n{listed}"
    )


def _gpu(kept: Mapping[str, Any]) -> str:
    speed = kept["roofline"]
    lines = [
        [
            f"{row['case']}, {row['family']}, r = {row['rank']}",
            row["side"],
            "not captured" if "failed" in row else f"{1e3 * row['seconds']:.3f}",
            "-" if "failed" in row else _pair(row["overhead"], _percent),
            "-" if "failed" in row else _pair(row["of_peft"]),
        ]
        for row in kept["rows"]
    ]
    head = ["case", "side", "ms", "over the floor", "of PEFT's"]
    return (
        f"Roofline measured in the same run: {speed['flops_per_second'] / 1e12:.0f} TFLOP/s, "
        f"{speed['bytes_per_second'] / 1e12:.2f} TB/s.\n\n" + table(head, lines)
    )


#: Name of an experiment, its heading, and what makes the table of its result.
SECTIONS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("counters", "Counters", _counters),
    ("group", "The q, k, v group of one layer", _group),
    ("parts", "One layer alone, and each of twelve", _parts),
    ("compiled", "The same group, compiled", _compiled),
    ("whole", "Whole models", _whole),
    ("memory", "Memory", _memory),
    ("handling", "Before and after training", _handling),
    ("growth", "Growth, and rebuilding", _growth),
    ("trees", "The planner's order", _trees),
    ("gpu", "On a GPU", _gpu),
)
