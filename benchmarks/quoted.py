"""The numbers that the reasons for a missed figure quote, from the kept results: medians.

Knows no tensor library: the documentation imports it.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

__all__ = ["NAMED", "quoted"]

#: Published families that have a goal of their own.
NAMED = ("lotr", "fact_tt", "fact_tk", "lorta", "metatt4", "lora")

Row = Mapping[str, Any]
Results = Mapping[str, Mapping[str, Any]]


def quoted(results: Results) -> Mapping[str, str]:
    """Every quoted number by name; what was not measured is a question mark.

    >>> quoted({})["group_4"]
    '?'
    """
    found: dict[str, str] = defaultdict(lambda: "?")
    for numbers in (_counters, _group, _inference, _parts, _whole):
        found.update(numbers(results))
    return found


def _span(values: Iterable[float | None], write: Callable[[float], str] | None = None) -> str:
    """From the least to the greatest, as they are written.

    >>> _span([0.5, 0.251]), _span([0.4])
    ('0.25 to 0.50', '0.40')
    """
    write = write or (lambda value: f"{value:.2f}")
    known = sorted(value for value in values if value is not None)
    if not known:
        return "?"
    least, most = write(known[0]), write(known[-1])
    return least if least == most else f"{least} to {most}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}"


def _rows(results: Results, name: str, **wanted: Any) -> list[Row]:
    rows = results.get(name, {}).get("rows", ())
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _hand(row: Row, key: str) -> float | None:
    """The better one of the two that are written by hand."""
    sides = [side[key]["paired"] for name, side in row["sides"].items() if name.startswith("hand")]
    known = [value for value in sides if value is not None]
    return min(known) if known else None


def _ours(row: Row, key: str) -> float | None:
    value: float | None = row["sides"]["tenslora"][key]["paired"]
    return value


def _counters(results: Results) -> Iterator[tuple[str, str]]:
    """Of a core of five modes at a rank of 16, and of all constructions at 4."""
    rows = [r for r in _rows(results, "counters") if r["model"].startswith("ViT 12")]
    core = [r for r in rows if (r["family"], r["rank"]) == ("tenslora.att_qkv_depth", 16)]
    thin = [r for r in rows if r["rank"] == 4 and r["family"].startswith("tenslora")]
    wide = [r for r in rows if r["rank"] == 16 and r["family"].startswith("tenslora")]
    for side, ending in (("tenslora", ""), ("hand", "_hand")):
        known = [r["ratio"] for r in core if r["side"] == side]
        yield f"core_bytes{ending}", _span(ratio["nbytes"] for ratio in known)
        yield f"core_saved{ending}", _span(ratio["saved"] for ratio in known)
        most = max((r["ratio"]["nbytes"] for r in thin if r["side"] == side), default=None)
        yield f"thin_bytes{ending}", _span([most])
    for found, name in ((thin, "thin"), (wide, "wide")):
        most = max((r["ratio"]["flops"] for r in found if r["side"] == "tenslora"), default=1.0)
        yield f"{name}_flops", f"{100 * (most - 1):.1f}"


def _group(results: Results) -> Iterator[tuple[str, str]]:
    unit = _rows(results, "group", width=768, tokens=394, mode="step")
    thin = [r for r in unit if r["rank"] == 4]
    thin = [r for r in thin if r["family"] == "lora" or r["family"].startswith("tenslora")]
    four = [r for r in unit if r["rank"] == 4]
    ratios = [(_ours(r, "overhead") or 0.0) / (_hand(r, "overhead") or math.inf) for r in four]
    known = [ratio for ratio in ratios if ratio > 0]
    yield "hand_4", _span(known)
    if known:
        yield "hand_4_mean", f"{statistics.geometric_mean(known):.2f}"
    yield "group_4", _span(_ours(r, "of_peft") for r in thin)
    yield "group_4_hand", _span(_hand(r, "of_peft") for r in thin)
    yield "over_4", _span((_ours(r, "overhead") for r in thin), _percent)
    yield "over_4_hand", _span((_hand(r, "overhead") for r in thin), _percent)
    yield "bound_4", _span((r["bound"] for r in thin), _percent)
    core = [r for r in unit if r["family"] == "tenslora.att_qkv_depth" and r["rank"] == 16]
    yield "core", _span((_ours(r, "overhead") for r in core), _percent)
    yield "core_hand", _span((_hand(r, "overhead") for r in core), _percent)
    equal = [r for r in unit if not isinstance(r["rank"], int)]
    yield "equal_hand", _span(_hand(r, "of_peft") for r in equal)
    named = [r for r in unit if r["rank"] == 4 and r["family"] in NAMED]
    yield "named_4", _span(_ours(r, "of_peft") for r in named)
    wide = [r for r in unit if r["rank"] == 76 and r["family"] in NAMED]
    worst = max(wide, key=lambda r: _ours(r, "of_peft") or 0.0, default=None)
    if worst is not None:
        yield "named_family", worst["family"]
        yield "named_flops", _percent(worst["bound"] / (_ours(worst, "overhead") or 1.0))


def _inference(results: Results) -> Iterator[tuple[str, str]]:
    rows = _rows(results, "group", width=768, mode="inference")
    for tokens in (4, 128, 394):
        found = [row for row in rows if row["tokens"] == tokens]
        yield f"inference_{tokens}", _span(_ours(r, "of_peft") for r in found)
        yield f"inference_{tokens}_hand", _span(_hand(r, "of_peft") for r in found)


def _parts(results: Results) -> Iterator[tuple[str, str]]:
    """The overhead of LoRA (``deep``) and of ``att_qkv_depth`` (``core``) in many layers, in parts
    of PEFT's.
    """
    for row in _rows(results, "parts"):
        word = "deep" if row["family"] == "lora" else "deep_core"
        sides, case = row["sides"], f"{row['mode']}_{row['tokens']}"
        names = {"tenslora": "", "hand": "_hand", "products in hooks": "_products"}
        for side, ending in names.items():
            if side in sides and sides["PEFT"]["many"] > 0:
                part = sides[side]["many"] / sides["PEFT"]["many"]
                yield f"{word}_{case}{ending}", f"{part:.2f}"
                if (word, case) == ("deep", "step_394"):
                    yield f"deep_layer{ending}", f"{sides[side]['many'] / row['layers'][1]:,.0f}"


def _whole(results: Results) -> Iterator[tuple[str, str]]:
    """Whole steps at as many parameters as PEFT's LoRA has."""
    equal = [r for r in _rows(results, "whole") if "equal parameters" in r["side"]]
    yield "step_equal", _span(r["step"]["paired"] for r in equal)
