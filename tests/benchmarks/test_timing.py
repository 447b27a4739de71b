"""Races and their statistics, on a clock that the test turns."""

from __future__ import annotations

import pytest

from benchmarks.growth import exponent
from benchmarks.timing import Times, race


def turned(costs):
    """Steps that take the given times on a clock of their own."""
    now = [0.0]

    def step(name):
        def run():
            now[0] += costs[name]

        return run

    return {name: step(name) for name in costs}, lambda: now[0]


def test_a_race_measures_every_side_in_every_round():
    steps, clock = turned({"floor": 0.010, "floor again": 0.010, "PEFT": 0.013, "ours": 0.011})
    times = race(steps, 7, clock=clock)
    assert {name: len(v) for name, v in times.seconds.items()} == dict.fromkeys(steps, 7)
    assert times.overhead("ours").minima == pytest.approx(0.1)
    assert times.overhead("ours").paired == pytest.approx(0.1)
    assert times.part("ours", "PEFT").minima == pytest.approx(1 / 3)
    assert times.noise() == pytest.approx(0)


def test_short_steps_are_repeated_within_a_turn():
    steps, clock = turned({"floor": 1e-5})
    calls = []
    counted = {"floor": lambda: (calls.append(1), steps["floor"]())}
    times = race(counted, 3, clock=clock, least=1e-3, warmup=2)
    assert len(calls) == 2 + 3 * 100
    assert times.seconds["floor"] == pytest.approx([1e-5] * 3)


def test_noise_is_twice_the_largest_gap_between_twins():
    times = Times({"floor": [1.0, 1.1], "floor again": [1.02, 1.1], "PEFT": [2.0, 2.0]})
    assert times.noise() == pytest.approx(0.04)


def test_both_statistics_are_told_apart():
    times = Times({"floor": [1.0, 2.0, 4.0], "ours": [1.5, 2.2, 4.4]})
    assert times.ratio("ours", "floor").minima == pytest.approx(1.5)
    assert times.ratio("ours", "floor").paired == pytest.approx(1.1)
    assert times.beyond("ours") == pytest.approx(0.4)  # of 0.5, 0.2 and 0.4


def test_an_exponent_is_a_slope_of_logarithms():
    assert exponent([6, 12, 24], [1.0, 2.0, 4.0]) == pytest.approx(1.0)
    assert exponent([1, 10], [1.0, 1000.0]) == pytest.approx(3.0)
