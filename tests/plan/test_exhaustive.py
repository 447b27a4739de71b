"""The plan costs as little as any way there is: against an exhaustive search of its own.

    pytest -m slow tests/plan/test_exhaustive.py -rP

asks 10,000 random networks of up to six cores; the default run a hundred and fifty. The search here
goes through every state that contracting two arrays after the other can come to, and shares nothing
with the planner but the rule of what an operation costs, which is written out once more.
"""

from __future__ import annotations

import itertools
import math
import random
import re
import time

import pytest

from tenslora.errors import PlanError
from tenslora.plan import CPU, H200_BF16, Profile, find_ways, make_plan
from tenslora.plan.operands import operands_of
from tenslora.spec import parse
from tenslora.testing import random_bound

PARTS, EACH = 10, 1_000
PROFILES = (CPU, H200_BF16, Profile("arithmetic", 0.0, 4), Profile("calls", 10.0, 4, 2e5))
TOKENS = "*"  # the index of the tokens


class Rule:
    """What operations cost. An array is (its indices, whether it needs a gradient, whether x)."""

    def __init__(self, sizes, output, sites, profile, limit=None):
        self.sizes, self.output, self.sites = sizes, frozenset(output), frozenset(sites)
        self.profile, self.limit = profile, limit

    def volume(self, indices):
        return math.prod(self.sizes[i] for i in indices)

    def meet(self, one, two, kept):
        """Forward, and the gradient of each side that needs one: a contraction of the other two."""
        (a, a_trained, a_x), (b, b_trained, b_x) = one, two
        flops = self.volume(a | b) * (2 if (a | b) - kept else 1)
        moved = self.profile.itemsize * sum(map(self.volume, (a, b, kept)))
        calls = self.volume((a | b) & self.sites) if a_x or b_x else 1
        once = flops + self.profile.flops_per_byte * moved + self.profile.flops_per_call * calls
        return once * (1 + a_trained + b_trained)

    def pairs(self, arrays):
        """Each two arrays that may be contracted: what is left then, and the cost."""
        for i, one in enumerate(arrays):
            for j in range(i):
                two = arrays[j]
                rest = [a for n, a in enumerate(arrays) if n not in (i, j)]
                kept = (one[0] | two[0]) & self.output.union(*(a[0] for a in rest))
                if rest and self.limit and self.profile.itemsize * self.volume(kept) > self.limit:
                    continue
                joined = (kept, one[1] or two[1], one[2] or two[2])
                yield tuple(sorted([*rest, joined], key=repr_of)), self.meet(one, two, kept)


def repr_of(array):
    return sorted(array[0]), array[1], array[2]


def cheapest(rule, arrays):
    """The least cost over all orders; infinite where the limit admits none."""
    known = {}

    def from_here(state):
        if len(state) == 1:
            return 0.0
        if state not in known:
            every = (cost + from_here(after) for after, cost in rule.pairs(state))
            known[state] = min(every, default=math.inf)
        return known[state]

    return from_here(tuple(sorted(arrays, key=repr_of)))


def follow(rule, plan, chain):
    """The cost of what a plan really does, from its steps and stages."""
    trained = {
        array.name: operand.name in plan.network.cores and operand.name not in plan.problem.frozen
        for stage in chain.stages
        for array, operand in stage.part.operands
    }
    sites = {*plan.problem.varying()}
    needs, total = True, 0.0
    for n, stage in enumerate(chain.stages):
        for step in stage.part.steps:
            left, right = (
                (frozenset(a.indices), trained[a.name], False) for a in (step.left, step.right)
            )
            total += rule.meet(left, right, frozenset(step.result.indices))
            trained[step.result.name] = left[1] or right[1]
        h = frozenset({TOKENS, *sites, *stage.before})
        t = frozenset(stage.part.result.indices)
        sites |= set(stage.varies)
        last = n == len(chain.stages) - 1
        kept = rule.output if last else frozenset({TOKENS, *sites, *stage.after})
        total += rule.meet((h, needs, True), (t, trained[stage.part.result.name], False), kept)
    return total


def random_question(seed):
    """A network with sizes that make a difference, and what else a plan depends on."""
    draw = random.Random(seed)
    if seed % 2:
        network, frozen = crowded(draw)
    else:
        bound = random_bound(seed)
        network, frozen = bound.network, bound.family.frozen
    sizes = {index: draw.choice([1, 2, 3, 7, 40, 300]) for index in network.indices}
    if seed % 2 == 0:  # groups and constants tie sizes to each other: scale those that stand
        sizes = {index: size * draw.choice([1, 1, 8]) for index, size in bound.sizes.items()}
        if any(core.name == "eye" for term in network.terms for core in term.cores):
            sizes = dict(bound.sizes)
    shared = [site for site in network.sites if draw.random() < 0.4]
    options = {"shared": shared, "frozen": frozen, "profile": draw.choice(PROFILES)}
    return network, sizes, {**options, "tokens": draw.choice([1, 16, 512, 8192])}


def crowded(draw):
    """One term of three to six cores with copies, elementwise products and sites anywhere."""
    count = draw.randint(3, 6)
    cores = [[] for _ in range(count)]
    sites = ["layer", "proj"][: draw.randint(0, 2)]
    for index in ("out", "in", *sites):
        for n in draw.sample(range(count), draw.choice([1, 1, 2])):
            cores[n].append(index)
    for bond in "abcdef"[: draw.randint(count - 1, count)]:
        for n in draw.sample(range(count), draw.choice([2, 2, 3])):
            cores[n].append(bond)
    kept = {f"C{n}": core for n, core in enumerate(cores) if core}
    text = " ".join(f"{name}[{' '.join(core)}]" for name, core in kept.items())
    held = {index for core in kept.values() for index in core}
    target = [*(site for site in sites if site in held), "out", "in"]
    network = parse(f"W[{' '.join(target)}] = {text}")
    return network, [name for name in kept if draw.random() < 0.3]


def ask(seed):
    """Compare a plan's cost, told and followed, with the least there is."""
    network, sizes, options = random_question(seed)
    plan = make_plan(network, sizes, **options)
    for chain, term in zip(plan.chains, network.terms, strict=True):
        arrays, rule = question(plan, term)
        least = cheapest(rule, arrays)
        assert chain.cost == pytest.approx(least, rel=1e-9)
        assert follow(rule, plan, chain) == pytest.approx(least, rel=1e-9)
    return network


def question(plan, term):
    problem, network = plan.problem, plan.network
    operands = operands_of(network, term)
    x = frozenset({TOKENS, *problem.varying(), *network.input})
    arrays = [
        (frozenset(o.indices), not o.is_constant and o.name not in problem.frozen, False)
        for o in operands
    ]
    arrays.append((x, True, True))
    held = frozenset().union(*(array[0] for array in arrays))
    output = {TOKENS, *(s for s in network.sites if s in held), *network.output}
    sizes = {**plan.sizes, TOKENS: problem.tokens}
    return arrays, Rule(sizes, output, network.sites, problem.profile, problem.memory_limit)


def run(seeds):
    different, seed = set(), None
    try:
        for seed in seeds:
            different.add(ask(seed))
    except Exception as error:
        raise AssertionError(f"seed {seed}: {random_question(seed)}") from error
    return len(different)


def test_a_sample():
    assert run(range(150)) > 120


def test_under_a_limit_on_memory():
    """The least limit is told, held, and never missed: one byte less admits no order at all."""
    dearer = 0
    for seed in range(1, 101, 2):  # one term each
        network, sizes, options = random_question(seed)
        with pytest.raises(PlanError, match="memory_limit=1 bytes") as told:
            make_plan(network, sizes, **options, memory_limit=1)
        least = int(re.search(r"least is ([\d,]+) bytes", str(told.value))[1].replace(",", ""))
        assert told.value.code == "E411"
        plan = make_plan(network, sizes, **options, memory_limit=least)
        arrays, rule = question(plan, network.terms[0])
        expected = cheapest(rule, arrays)
        assert plan.chains[0].cost == pytest.approx(expected, rel=1e-9)
        assert follow(rule, plan, plan.chains[0]) == pytest.approx(expected, rel=1e-9)
        rule.limit = least - 1
        assert cheapest(rule, arrays) == math.inf
        ways = find_ways(plan)
        assert ways[0].cost == pytest.approx(plan.cost())
        dearer += expected > make_plan(network, sizes, **options).chains[0].cost * 1.001
    assert dearer > 3


def one_by_one(rule, arrays):
    """The least cost of multiplying x, the last array, with the others in some sequence."""
    *cores, x = arrays
    least = math.inf
    for sequence in itertools.permutations(cores):
        h, cost = x, 0.0
        for n, core in enumerate(sequence):
            rest = (a[0] for a in sequence[n + 1 :])
            kept = (h[0] | core[0]) & rule.output.union(*rest)
            cost += rule.meet(h, core, kept)
            h = (kept, True, True)
        least = min(least, cost)
    return least


def test_what_other_ways_cost():
    """Told beside the plan: a sequence without hoisting, and W before x."""
    checked = 0
    for seed in range(1, 121, 2):  # one term each
        network, sizes, options = random_question(seed)
        plan = make_plan(network, sizes, **options)
        ways = {way.what: way.cost for way in find_ways(plan)}
        adding = ways["the steps above"] - plan.chains[0].cost
        assert min(ways.values()) == pytest.approx(plan.cost())
        arrays, rule = question(plan, network.terms[0])
        if (told := ways.get("x through one core after the other")) is not None:
            assert told - adding == pytest.approx(one_by_one(rule, arrays), rel=1e-9)
            checked += 1
        if (told := ways.get("W first, then x W")) is not None:
            *cores, x = arrays
            held = frozenset().union(*(core[0] for core in cores))
            w = held & (rule.output | x[0])
            whole = Rule(rule.sizes, w, network.sites, rule.profile)
            last = rule.meet((w, any(c[1] for c in cores), False), x, rule.output)
            assert told - adding == pytest.approx(cheapest(whole, cores) + last, rel=1e-9)
            checked += 1
    assert checked > 60


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
def test_many(part):
    start = time.process_time()
    different = run(range(part * EACH, (part + 1) * EACH))
    spent = time.process_time() - start
    print(f"part {part}: {EACH} networks, {different} different, {spent:.0f} s")  # noqa: T201
    assert different > 0.8 * EACH
