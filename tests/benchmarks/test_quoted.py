"""The numbers that reasons quote are those of the kept results."""

from __future__ import annotations

import string

from benchmarks import reasons
from benchmarks.quoted import quoted


def side(over, part):
    both = {"minima": 9.9, "paired": over}
    return {"overhead": both, "of_peft": {"minima": 9.9, "paired": part}}


def test_numbers_come_from_the_rows_that_they_name():
    row = {"width": 768, "tokens": 394, "mode": "step", "rank": 4, "bound": 0.014}
    sides = {"hand": side(0.05, 0.3), "hand, plain autograd": side(0.04, 0.28)}
    rows = [
        {**row, "family": "lora", "sides": {"tenslora": side(0.1, 0.41), **sides}},
        {**row, "family": "tenslora.att", "sides": {"tenslora": side(0.2, 0.52), **sides}},
        {**row, "family": "vera", "sides": {"tenslora": side(0.9, 7.0), **sides}},
        {**row, "family": "lora", "rank": 8, "sides": {"tenslora": side(0.9, 7.0), **sides}},
    ]
    many = {"PEFT": {"many": 200.0}, "tenslora": {"many": 90.0}, "hand": {"many": 50.0}}
    part = {"family": "lora", "mode": "step", "layers": [1, 12], "sides": many}
    parts = [{**part, "tokens": 16}, {**part, "tokens": 394}]
    found = quoted({"group": {"rows": rows}, "parts": {"rows": parts}})
    assert found["group_4"] == "0.41 to 0.52"
    assert found["group_4_hand"] == "0.28"
    assert found["over_4"] == "10 to 20"
    assert found["bound_4"] == "1"
    assert found["hand_4"] == "2.50 to 22.50"  # beside the better of the two
    assert found["hand_4_mean"] == f"{(2.5 * 5.0 * 22.5) ** (1 / 3):.2f}"
    assert (found["deep_layer"], found["deep_layer_hand"]) == ("8", "4")
    assert (found["deep_step_16"], found["deep_step_16_hand"]) == ("0.45", "0.25")
    assert found["inference_4"] == "?"


def test_every_name_in_a_reason_is_a_number_of_the_kept_results():
    from benchmarks.figures import load

    kept = {name: load(name) for name in ("counters", "group", "parts", "whole", "growth")}
    numbers = quoted(kept)
    for text in reasons.REASONS.values():
        for _, name, _, _ in string.Formatter().parse(text):
            assert name is None or numbers[name] != "?", name
