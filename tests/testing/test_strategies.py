"""The strategies reach every corner of the language, and say what they need."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from hypothesis import Phase, given, settings

from tenslora.spec import complete_sizes, parse, slot_size
from tenslora.testing import bounds, families, sized_networks


def stored(term):
    return [core for core in term.cores if not core.is_constant]


def times(term, index):
    return sum(index in core.indices for core in term.cores)


CORNERS = {
    "no site": lambda n: not n.sites,
    "three sites": lambda n: len(n.sites) == 3,
    "a site on no core": lambda n: any(times(t, s) == 0 for t in n.terms for s in n.sites),
    "a site on every core": lambda n: bool(n.independent_sites) and len(n.cores) > 1,
    "features in groups": lambda n: len(n.output) > 1 and len(n.input) > 1,
    "groups on cores": lambda n: any(len(s) > 1 for c in n.cores.values() for s in c.slots),
    "a bond and a site in one slot": lambda n: any(
        {"site", "bond"} <= {n.role(i) for i in s} for c in n.cores.values() for s in c.slots
    ),
    "a bond in three cores": lambda n: any(times(t, b) > 2 for t in n.terms for b in n.bonds),
    "an elementwise product": lambda n: any(times(t, f) > 1 for t in n.terms for f in n.features),
    "one core": lambda n: [len(t.cores) for t in n.terms] == [1],
    "six cores": lambda n: sum(len(t.cores) for t in n.terms) == 6,
    "three terms": lambda n: len(n.terms) == 3,
    "a core twice in a term": lambda n: any(
        max(Counter(c.name for c in stored(t)).values(), default=0) > 1 for t in n.terms
    ),
    "a core in two terms": lambda n: any(
        sum(name in {c.name for c in t.cores} for t in n.terms) > 1 for name in n.cores
    ),
    "a core with other indices elsewhere": lambda n: len(
        {c for t in n.terms for c in stored(t)}
    ) > len(n.cores),
    "eye": lambda n: any(c.name == "eye" for t in n.terms for c in t.cores),
    "eye of three": lambda n: any(
        c.name == "eye" and len(c.slots) == 3 for t in n.terms for c in t.cores
    ),
    "ones": lambda n: any(c.name == "ones" for t in n.terms for c in t.cores),
    "four bonds": lambda n: len(n.bonds) >= 4,
}  # fmt: skip
KINDS = {
    "a size of one": lambda b: 1 in b.sizes.values(),
    "a size of five": lambda b: 5 in b.sizes.values(),
    "a start at zero": lambda b: not b.family.starts_nonzero,
    "another start": lambda b: b.family.starts_nonzero,
    "a frozen core beside a zero one": lambda b: b.family.frozen and not b.family.starts_nonzero,
    "a scale by a rank": lambda b: b.family.scale.kind == "root",
}


def test_every_corner_is_reached():
    seen: Counter[str] = Counter()

    @settings(max_examples=500, derandomize=True, database=None, phases=[Phase.generate])
    @given(bounds())
    def look(bound):
        seen.update(name for name, holds in CORNERS.items() if holds(bound.network))
        seen.update(name for name, holds in KINDS.items() if holds(bound))

    look()
    rare = {name: seen[name] for name in (*CORNERS, *KINDS) if seen[name] < 2}
    assert not rare, f"of 500 networks too few have {rare}"


@given(families(max_cores=2))
def test_families_have_a_core(family):
    assert family.network.cores


@given(sized_networks(max_cores=3, max_terms=1, max_size=2, constants=False))
def test_limits(sized):
    network, sizes = sized
    assert len(network.terms) == 1
    assert len(network.terms[0].cores) <= 3
    assert max(sizes.values()) <= 2
    assert not any(core.is_constant for core in network.terms[0].cores)


@given(sized_networks())
def test_networks_are_valid_and_small(sized):
    network, sizes = sized
    assert parse(str(network)) == network
    assert complete_sizes(network, sizes) == sizes
    assert slot_size(network.target.indices, sizes) <= 2_000


@given(bounds())
def test_bounds_hold_a_core(bound):
    assert bound.network.cores
    assert bound.sizes.keys() == set(bound.network.indices)


def test_without_hypothesis_the_laws_work_and_the_strategies_say_what_to_install():
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import tenslora.testing as t\n"
        "t.law_text(t.assert_lawful and __import__('tenslora').family(\n"
        "    'W[out in] = A[out in]', init={'A': 'zeros'}).bind({'out': 2, 'in': 2}))\n"
        "try: t.networks()\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert out == (
        "UsageError E805: random equations need hypothesis, which is not installed\n"
        '  Run: pip install "tenslora[test]".\n'
    )
