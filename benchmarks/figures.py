"""The figures that the project wants to reach, each computed from the kept results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.quoted import NAMED, quoted
from benchmarks.reasons import REASONS
from benchmarks.results import load

__all__ = ["FIGURES", "Figure", "Reached", "reached"]

Row = Mapping[str, Any]
Results = Mapping[str, Mapping[str, Any]]

#: Constructions whose q, k and v read one input factor.
SHARING = tuple(f"{k}.{n}" for k in ("tenslora", "tenslora_cp")
                for n in ("qkv", "att_qkv", "qkv_depth", "att_qkv_depth"))  # fmt: skip

_SMALL = "1 x 768, 394 tokens"
_EQUAL = "equal parameters"


@dataclass(frozen=True)
class Reached:
    """A number with the case that it is of, and where it is no better than noise."""

    value: float
    where: str
    noise: float | None = None


@dataclass(frozen=True)
class Figure:
    """A quantity with its goal.

    Attributes
    ----------
    key : short, for the list of reasons.
    quantity : what it is.
    goal : the limit.
    find : the worst value in the kept results; ``None`` where it was not measured.
    most : whether the goal is an upper limit.
    unit : ``"x"`` for ratios, ``"%"`` for points of the frozen model's time, ``"ms"``.
    """

    key: str
    quantity: str
    goal: float
    find: Callable[[Results], Reached | None]
    most: bool = True
    unit: str = "x"

    def met(self, found: Reached) -> bool:
        """Whether the goal is reached, at two digits after the point as it is written."""
        value = round(found.value, 2 if self.unit == "x" else 4)
        return value <= self.goal if self.most else value >= self.goal


def _worst(
    rows: Iterable[tuple[float | None, str, float | None]], *, least: bool = False
) -> Reached | None:
    known = [Reached(v, where, noise) for v, where, noise in rows if v is not None]
    pick = min if least else max
    return pick(known, key=lambda r: r.value) if known else None


def _mean(rows: Iterable[tuple[float | None, str, float | None]]) -> Reached | None:
    known = [(v, noise) for v, _, noise in rows if v is not None and v > 0]
    if not known:
        return None
    mean = math.exp(sum(math.log(v) for v, _ in known) / len(known))
    noises = [n for _, n in known if n is not None]
    return Reached(mean, f"{len(known)} cases", max(noises) if noises else None)


# --- counters


def _counters(
    quantity: str, families: Iterable[str] | None = None
) -> Callable[[Results], Reached | None]:
    def find(results: Results) -> Reached | None:
        return _worst(
            (row["ratio"][quantity], f"{row['family']}, r = {row['rank']}", None)
            for row in results.get("counters", {}).get("rows", ())
            if row["side"] == "tenslora"
            and row["family"].startswith("tenslora")
            and isinstance(row["rank"], int)
            and row["model"].startswith("ViT 12")
            and (families is None or row["family"] in families)
        )

    return find


def _recomputed(results: Results) -> Reached | None:
    """What is saved with ``recompute=True``, in parts of what the frozen model saves."""
    rows = results.get("counters", {}).get("rows", ())
    floor = {row["model"]: row["extra"]["saved"] for row in rows if row["side"] == "floor"}
    return _worst(
        (row["extra"]["saved"] / floor[row["model"]], f"{row['family']}, {row['model']}", None)
        for row in rows
        if row["side"] == "tenslora, recompute" and _is_construction(row)
    )


# --- the group of one layer


def _group(results: Results, **wanted: Any) -> Iterator[Row]:
    for row in results.get("group", {}).get("rows", ()):
        if all(row[key] == value for key, value in wanted.items()):
            yield row


def _is_construction(row: Row) -> bool:
    return row["family"] == "lora" or row["family"].startswith("tenslora")


def _label(row: Row) -> str:
    rank = row["rank"]
    return f"{row['family']}, r = {rank}" if isinstance(rank, int) else f"{row['family']}, {_EQUAL}"


def _over_bound(results: Results) -> Reached | None:
    return _worst(
        (
            max(row["sides"]["tenslora"]["overhead"].values()) - row["bound"],
            _label(row),
            row["noise"],
        )
        for row in _group(results, case=_SMALL)
        if row["mode"] == "step" and _is_construction(row)
    )


def _part(row: Row) -> tuple[float | None, str, float | None]:
    """Of PEFT's overhead, by the worse of the two statistics."""
    sides = row["sides"]
    over = min(sides["PEFT"]["overhead"].values())
    noise = row["noise"] / over if over > 0 else None
    parts = [part for part in sides["tenslora"]["of_peft"].values() if part is not None]
    return max(parts, default=None), _label(row), noise


def _of_peft(keep: Callable[[Row], bool]) -> Callable[[Results], Reached | None]:
    def find(results: Results) -> Reached | None:
        return _worst(
            _part(row)
            for row in _group(results, case=_SMALL)
            if row["mode"] == "step" and keep(row)
        )

    return find


def _small_rank(row: Row) -> bool:
    return _is_construction(row) and isinstance(row["rank"], int) and row["rank"] <= 16


def _of_hand(tokens: int) -> Callable[[Results], Reached | None]:
    def rows(results: Results) -> Iterator[tuple[float | None, str, float | None]]:
        for row in _group(results, tokens=tokens, width=768):
            sides = row["sides"]
            hands = [s for name, s in sides.items() if name.startswith("hand")]
            if row["mode"] != "step" or not hands or row["rank"] != 4:
                continue
            ratios = []
            for statistic, ours in sides["tenslora"]["overhead"].items():
                best = min(side["overhead"][statistic] for side in hands)
                if best > row["noise"] / 2:
                    ratios.append((ours / best, _label(row), row["noise"] / best))
            yield from sorted(ratios)[-1:]

    return lambda results: _worst(rows(results))


def _inference(tokens: Callable[[int], bool]) -> Callable[[Results], Reached | None]:
    def find(results: Results) -> Reached | None:
        rows = [r for r in _group(results, width=768) if r["mode"] == "inference"]
        parts = [(_part(row), row["tokens"]) for row in rows if tokens(row["tokens"])]
        return _worst((v, f"{where}, {count} tokens", noise) for (v, where, noise), count in parts)

    return find


# --- whole models


def _whole(
    keep: Callable[[Row], bool],
) -> Callable[[Results], list[tuple[float, str, float | None]]]:
    def rows(results: Results) -> list[tuple[float, str, float | None]]:
        return [
            (row["step"]["paired"], f"{row['side']}, {row['model']}", row["noise"])
            for row in results.get("whole", {}).get("rows", ())
            if (row["side"] == "lora" or row["side"].startswith("tenslora")) and keep(row)
        ]

    return rows


def _plain(row: Row) -> bool:
    return _EQUAL not in row["side"]


# --- the rest


def _rebuild(keep: Callable[[Row], bool], *, mean: bool) -> Callable[[Results], Reached | None]:
    def find(results: Results) -> Reached | None:
        rows = [
            (
                row["times"],
                f"{row['family']}, {row['layers']} layers",
                None if mean else row["times"] * 2 * row["gap"] / row["ours"],
            )
            for row in results.get("growth", {}).get("against", ())
            if keep(row)
        ]
        return _mean(rows) if mean else _worst(rows, least=True)

    return find


def _growth(results: Results) -> Reached | None:
    rows = [
        row
        for row in results.get("growth", {}).get("rows", ())
        if row["axis"] == "layers" and "rebuilt" not in row["side"] and row["side"] != "PEFT"
    ]
    if any(row["exponent"] is None for row in rows):  # a part that was lost in the noise
        return None
    return _worst((row["exponent"], row["side"], None) for row in rows)


def _trees(*, mean: bool) -> Callable[[Results], Reached | None]:
    def find(results: Results) -> Reached | None:
        rows = [(r["ratio"], r["name"], None) for r in results.get("trees", {}).get("rows", ())]
        return _mean(rows) if mean else _worst(rows)

    return find


def _handled(what: str, key: str, **wanted: Any) -> Callable[[Results], Reached | None]:
    def find(results: Results) -> Reached | None:
        return _worst(
            (row[key], ", ".join(str(row[k]) for k in ("family", "model") if k in row), None)
            for row in results.get("handling", {}).get("rows", ())
            if row["what"] == what and all(row.get(k) == v for k, v in wanted.items())
        )

    return find


def _deep(row: Row) -> bool:
    return row["layers"] == 12


_CONSTRUCTIONS = (
    "constructions in Tucker and CP, r = 4, 8, 16, extra over floor against PEFT LoRA's"
)
_UNIT = "q, k, v group, overhead"

#: Everything that is wanted.
FIGURES: tuple[Figure, ...] = (
    Figure("bytes", f"{_CONSTRUCTIONS}: bytes", 0.25, _counters("nbytes")),
    Figure("calls", f"{_CONSTRUCTIONS}: calls", 0.45, _counters("calls")),
    Figure("flops", f"{_CONSTRUCTIONS}: FLOPs", 1.00, _counters("flops")),
    Figure("flops-shared", "the same where q, k, v share the input factor: FLOPs", 0.70,
           _counters("flops", SHARING)),
    Figure("saved", "saved activations over floor against PEFT LoRA's", 1.00, _counters("saved")),
    Figure("saved-again", "saved with recompute=True over the floor, in parts of the floor's", 0.02,
           _recomputed),
    Figure("bound", f"{_UNIT} over the FLOP bound, in points of the floor", 0.03, _over_bound,
           unit="%"),
    Figure("group", f"{_UNIT} against PEFT's, r <= 16", 0.35, _of_peft(_small_rank)),
    Figure("group-any", f"{_UNIT} against PEFT's, any rank", 0.60, _of_peft(_is_construction)),
    Figure("hand", "any catalogue family, adapter part against the best hand-written", 1.05,
           _of_hand(394)),
    Figure("hand-16", "the same at 16 tokens, lora and att_qkv_depth", 1.15, _of_hand(16)),
    Figure("named", "LoTR, FacT, LoRTA, MetaTT, lora: overhead against PEFT LoRA's", 0.70,
           _of_peft(lambda row: row["family"] in NAMED)),
    Figure("step", "forward and backward of a model against PEFT LoRA's: constructions", 1.00,
           lambda r: _worst(_whole(_plain)(r))),
    Figure("step-mean", "the same: geometric mean", 0.97, lambda r: _mean(_whole(_plain)(r))),
    Figure("step-deep", "the same at 48 x 192: geometric mean", 0.92,
           lambda r: _mean(_whole(lambda row: "48 x 192" in row["model"])(r))),
    Figure("step-equal", "the same at equal parameters (ranks of 76 and 96)", 1.03,
           lambda r: _worst(_whole(lambda row: not _plain(row))(r))),
    Figure("rebuild", "rebuilding at every site, 12 x 768, 394 tokens: times our part, mean",
           100, _rebuild(_deep, mean=True), most=False),
    Figure("rebuild-qkv", "the same: qkv_depth and att_qkv_depth", 400,
           _rebuild(lambda r: _deep(r) and r["family"].endswith("qkv_depth"), mean=False),
           most=False),
    Figure("rebuild-48", "the same at 48 layers", 1500,
           _rebuild(lambda r: r["layers"] == 48 and r["family"].endswith("qkv_depth"), mean=False),
           most=False),
    Figure("growth", "growth of our part in layers: exponent", 1.1, _growth),
    Figure("trees-mean", "planner's order against the best measured: geometric mean", 1.05,
           _trees(mean=True)),
    Figure("trees", "the same: worst", 1.3, _trees(mean=False)),
    Figure("inference", "inference, unmerged, overhead against PEFT's at 128 tokens and more", 0.35,
           _inference(lambda n: n >= 128)),
    Figure("inference-4", "the same at 4 tokens", 0.50, _inference(lambda n: n == 4)),
    Figure("merged", "merged: calls against the original model's", 1.00,
           _handled("merged", "calls")),
    Figure("plan-7b", "plan and attach, Llama 7B: milliseconds", 500,
           _handled("plan and attach", "milliseconds", model="Llama 7B"), unit="ms"),
    Figure("plan-70b", "plan and attach, Llama 70B: milliseconds", 1000,
           _handled("plan and attach", "milliseconds", model="Llama 70B"), unit="ms"),
    Figure("import", "import tenslora, without torch: milliseconds", 150,
           _handled("import tenslora", "milliseconds", torch=False), unit="ms"),
)  # fmt: skip


def reached() -> Iterator[tuple[Figure, Reached | None, str]]:
    """Each figure with what the kept results say, and the known reason where it is missed."""
    names = ("counters", "group", "parts", "whole", "growth", "trees", "handling", "memory", "gpu")
    results = {name: found for name in names if (found := load(name)) is not None}
    numbers = quoted(results)
    for figure in FIGURES:
        found = figure.find(results)
        missed = found is not None and not figure.met(found)
        reason = REASONS.get(figure.key, "") if missed else ""
        yield figure, found, reason.format_map(numbers)
