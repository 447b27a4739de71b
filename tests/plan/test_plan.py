"""Plans: what is hoisted, what is shared, what it costs, and the errors."""

from __future__ import annotations

import re

import pytest

from tenslora.errors import PlanError
from tenslora.plan import CPU, Profile, make_plan
from tenslora.plan.operands import operands_of
from tenslora.spec import parse

BERT = {"layer": 12, "proj": 3, "in": 768, "out": 768, "head": 12, "head_dim": 64}


def planned(text, shared=("proj",), tokens=512, frozen=(), **ranks):
    network = parse(text)
    sizes = {n: s for n, s in {**BERT, **ranks}.items() if n in network.indices}
    shared = [site for site in shared if site in network.sites]
    return make_plan(network, sizes, shared=shared, tokens=tokens, frozen=frozen)


def test_lora_is_two_products_a_site():
    plan = planned("W[layer proj out in] = B[layer proj out r] A[layer proj r in]", r=8)
    assert plan.hoisted == ()
    assert [stage.part.result.name for stage in plan.chains[0].stages] == ["A", "B"]
    # two multiply-adds for each entry of A and of B
    assert plan.flops_per_token == 36 * 2 * (8 * 768 + 768 * 8)


def test_a_shared_factor_is_applied_once_for_q_k_v():
    plan = planned("W[layer proj out in] = B[layer proj out r] A[layer r in]", r=8)
    down, up = plan.chains[0].stages
    assert down.varies == {"layer"}
    assert up.varies == {"layer", "proj"}
    assert plan.flops_per_token == 2 * 8 * 768 * 12 + 2 * 8 * 768 * 36
    alone = planned("W[layer proj out in] = B[layer proj out r] A[layer r in]", shared=(), r=8)
    assert alone.flops_per_token == 2 * 8 * 768 * 72


def test_small_factors_are_hoisted_for_all_sites_at_once():
    plan = planned(
        "W[layer proj (head head_dim) in] = U[in a] V[head_dim b] H[head c] P[proj d] D[layer e] "
        "G[a b c d e]",
        a=8, b=8, c=8, d=3, e=8,
    )  # fmt: skip
    assert plan.hoisted
    assert plan.chains[0].stages[0].part.result.name == "U"
    assert plan.chains[0].stages[0].varies == frozenset()
    hoisted = {index for step in plan.hoisted for index in step.result.indices}
    assert {"layer", "proj"} <= hoisted
    assert plan.hoist_flops == sum(step.flops for step in plan.hoisted)


def test_frozen_cores_change_the_cost():
    text = "W[layer proj out in] = b[layer proj out] B[out r] d[layer proj r] A[r in]"
    plan = planned(text, r=256, frozen=("A", "B"))
    assert plan.flops_per_token < 36 * 768 * 768 * 2
    assert plan.chains[0].stages[0].part.result.name == "A"


def test_the_same_question_has_the_same_answer():
    text = "W[layer proj out in] = B[layer proj out r] A[r in]"
    assert planned(text, r=4) is planned(text, r=4)
    assert planned(text, r=4) is not planned(text, r=5)


def test_constants_are_taken_out():
    network = parse("W[proj out in] = B[out r] eye[r s] A[s in] ones[out] eye[proj c] P[c]")
    assert [o.name for o in operands_of(network, network.terms[0])] == ["B", "A", "P"]


def test_constants_that_hold_something_stay():
    network = parse("W[out in] = v[out] ones[in]")
    assert [o.name for o in operands_of(network, network.terms[0])] == ["v", "ones"]
    # renaming s to r would put r twice on A
    network = parse("W[out in] = A[out r s] eye[r s] B[r in]")
    assert [o.name for o in operands_of(network, network.terms[0])] == ["A", "eye", "B"]


def test_to_dict_and_explain_hold_the_figures():
    plan = planned("W[layer proj out in] = B[proj out s] G[layer proj s r] A[proj r in]", r=4, s=4)
    data = plan.to_dict()
    assert data["flops_per_token"] == plan.flops_per_token
    assert len(data["chains"][0]) == len(plan.chains[0].stages)
    assert data["profile"] == "cpu"
    text = plan.outline()
    assert text.splitlines()[-1].strip().startswith("y[out]")
    assert f"{plan.chains[0].stages[0].flops:,} FLOPs" in text
    assert text in repr(plan)
    assert data["starts"] == list(plan.table.starts)
    assert data["ways"][0]["cost"] == pytest.approx(plan.cost())


def test_an_explanation_says_all_there_is_to_say():
    """VeRA over 36 sites of 768 x 768 at rank 4; every number worked out by hand."""
    text = "W[layer proj out in] = b[layer proj out] B[out r] d[layer proj r] A[r in]"
    plan = planned(text, r=4)
    found = plan.explain().splitlines()
    assert found[:12] == [
        "once a forward",
        # b: 36 x 768, B: 768 x 4, and 36 times that
        "  t0[out layer proj r] = b[layer proj out] B[out r]  110,592 FLOPs, 565,248 bytes",
        "each token",
        "  h[r] = x[in] A[r in]     for each layer: 73,728 FLOPs, 37,056 bytes",
        "  h[r] = h[r] d[r]         for each layer proj: 144 FLOPs, 768 bytes",
        "  y[out] = h[r] t0[out r]  for each layer proj: 221,184 FLOPs, 111,168 bytes",
        "together",
        "  once a forward, for all sites: 110,592 FLOPs, 565,248 bytes",
        "  each token: 295,056 FLOPs, 148,992 bytes",
        "  shared by all proj: what meets A",
        "a training step of 512 tokens, on cpu",
        f"  x A B of rank 4, added in place: {plan.cost():.4g} FLOPs' worth",
    ]
    assert [line.split(":")[0].strip() for line in found[12:16]] == [
        "nothing shared over proj",
        "the steps above",
        "x through one core after the other",
        "W first, then x W",
    ]
    assert all(re.fullmatch(r" .*: \d+\.\d\d times that", line) for line in found[12:16])
    assert found[16] == "the best by the number of tokens"
    assert found[17] == "  from 1: x A d B b"
    assert found[-1] == f"  from {plan.table.starts[-1]}: x A B of rank 4"


def test_a_measured_machine_tells_the_time():
    network, sizes = parse("W[out in] = B[out r] A[r in]"), {"out": 64, "in": 64, "r": 4}
    fast = Profile("fast", 10.0, 4, flops_per_second=1e9)
    plan = make_plan(network, sizes, profile=fast)
    line = next(line for line in plan.explain().splitlines() if "worth" in line)
    assert line.endswith(f"({1e3 * plan.cost() / 1e9:,.3g} ms)")


def test_peak_bytes():
    plan = planned("W[layer proj out in] = B[layer proj out r] A[layer proj r in]", tokens=10, r=8)
    assert plan.peak_bytes == 4 * 10 * (768 + 8)


def test_the_source_is_readable():
    plan = make_plan(
        parse("W[layer out in] = B[out r] D[layer r] A[r in]"),
        {"layer": 2, "out": 4, "in": 3, "r": 2},
    )
    assert "def hoist(cores, like):" in plan.source()
    assert "return h @ T" in plan.source()
    assert plan.source("delta").startswith("def delta(cores, like):")


@pytest.mark.parametrize(
    ("change", "code", "part"),
    [
        ({"sizes": {"out": 4, "in": 3}}, "E402", "no size for r"),
        ({"shared": ["proj"]}, "E403", "no site"),
        ({"frozen": ["C"]}, "E403", "The cores are B, A."),
        ({"tokens": 0}, "E403", "tokens=0"),
        ({"tokens": 1.5}, "E403", "tokens=1.5"),
    ],
)
def test_wrong_questions(change, code, part):
    network = parse("W[out in] = B[out r] A[r in]")
    given = {"sizes": {"out": 4, "in": 3, "r": 2}, "profile": CPU, **change}
    with pytest.raises(PlanError, match=part) as info:
        make_plan(network, given.pop("sizes"), **given)
    assert info.value.code == code


def test_an_unknown_mode():
    plan = make_plan(parse("W[out in] = A[out in]"), {"out": 2, "in": 2})
    with pytest.raises(PlanError, match="'apply', 'delta' and 'factors'") as info:
        plan.source("einsum")
    assert info.value.code == "E401"


def test_the_normal_form_of_an_equation_that_has_none():
    plan = make_plan(parse("W[(o p) (i j)] = C[o i] D[p j]"), dict.fromkeys("opij", 2))
    assert plan.product is None
    assert not plan.normal
    with pytest.raises(PlanError, match="no product of a matrix") as info:
        plan.source("factors")
    assert info.value.code == "E409"
