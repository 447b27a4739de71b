"""families, show, cost and plan: what they print for a reader and for a program."""

from __future__ import annotations

import ast

import numpy as np
import pytest

import tenslora as tl

BERT = ["layer=12", "proj=3", "in=768", "head=12", "head_dim=64"]
SHARED = "W[layer proj out in] = B[layer proj out r] A[r in]"
PLAIN = "W[out in] = B[out r] A[r in]"


def test_families_lists_every_registered_family_with_its_equation(cli):
    outcome = cli("families")
    assert (outcome.code, outcome.err) == (0, "")
    for name, family in tl.registered().items():
        assert name in outcome.out
        assert family.equation in outcome.out


def test_families_as_json_are_one_object_that_can_be_read_back(cli):
    listed = cli("families", "--json").data["families"]
    assert [entry["name"] for entry in listed] == list(tl.registered())
    for entry in listed:
        assert str(tl.parse(entry["equation"])) == entry["equation"]
        assert entry["cores"].keys() == tl.parse(entry["equation"]).cores.keys()


def test_families_can_be_searched(cli):
    listed = cli("families", "ATT_qkv_depth", "--json").data["families"]
    assert "tenslora.att_qkv_depth" in {entry["name"] for entry in listed}
    assert len(listed) < len(tl.registered())


def test_wrappers_are_listed_with_what_they_do(cli):
    out = cli("families").out
    for text in ("dora(FAMILY)", "hira(FAMILY)", "router[SITE](FAMILY)", "(W0 + W) / |W0 + W|"):
        assert text in out
    found = cli("families", "molora", "--json").data
    assert [wrapper["name"] for wrapper in found["wrappers"]] == ["router"]
    assert found["families"] == []
    assert (
        "E312: dora(lora) is a family" in cli("cost", "dora(lora)", "out=8", "in=8", "rank=2").err
    )


def test_show_tells_roles_starts_and_what_is_shared(cli):
    data = cli("show", SHARED, "--json").data
    assert data["sites"] == ["layer", "proj"]
    assert (data["output"], data["input"], data["bonds"]) == (["out"], ["in"], ["r"])
    assert data["cores"]["A"] == {
        "slots": [["r"], ["in"]],
        "shared_over": ["layer", "proj"],
        "init": "kaiming",
        "frozen": False,
    }
    assert data["cores"]["B"]["init"] == "zeros"
    assert data["name"] is None
    text = cli("show", SHARED).out
    assert "A[r in]" in text
    assert "shared over layer proj" in text


@pytest.mark.parametrize("name", ["lora", "vera", "tenslora.att_qkv_depth"])
def test_show_of_a_name_has_its_equation_and_source(cli, name):
    family = tl.resolve(name)
    data = cli("show", name, "--json").data
    assert (data["name"], data["equation"]) == (name, family.equation)
    assert data["source"] == family.source
    assert {c for c, core in data["cores"].items() if core["frozen"]} == set(family.frozen)
    assert family.equation in cli("show", name).out


def test_show_reads_an_equation_that_could_not_train(cli):
    assert cli("show", "W[out in] = ones[out] ones[in]").code == 0


def test_settings_complete_an_equation(cli):
    words = ["--init", "A=zeros", "--init", "B=normal(0.02)", "--scale", "alpha/r"]
    data = cli("show", PLAIN, *words, "--json").data
    assert (data["cores"]["A"]["init"], data["cores"]["B"]["init"]) == ("zeros", "normal(0.02)")
    assert data["scale"] == "alpha/r"


def test_the_first_trained_core_is_zero_where_no_other_is(cli):
    data = cli("show", PLAIN, "--frozen", "B", "--json").data
    assert (data["cores"]["A"]["init"], data["cores"]["B"]["frozen"]) == ("zeros", True)


def test_settings_change_a_named_family_which_then_has_no_name(cli):
    data = cli("show", "lora", "--init", "A=orthogonal", "--json").data
    assert data["name"] is None
    assert data["cores"]["A"]["init"] == "orthogonal"
    assert data["scale"] == str(tl.resolve("lora").scale)


def test_cost_of_the_issue_s_example(cli):
    outcome = cli("cost", "tenslora.att_qkv_depth", *BERT, "rank=4", "--json")
    data = outcome.data
    assert data["trainable_parameters"] == 4460
    assert data["frozen_parameters"] == 0
    assert data["bytes"] == 4 * 4460
    assert data["sizes"] == {"layer": 12, "proj": 3, "in": 768, "head": 12, "head_dim": 64}
    assert set(data["ranks"].values()) == {4}
    assert data["cut_rank"] == 4
    assert data["flops_per_token"] > 0
    assert data["equation"] == tl.resolve("tenslora.att_qkv_depth").equation


def test_a_redundant_rank_is_one_line_on_stderr(cli):
    outcome = cli("cost", PLAIN, "out=4", "in=4", "r=9", "--json")
    assert outcome.data["trainable_parameters"] == 72
    assert outcome.err.startswith("warning: W201: rank r=9 is above 4")
    assert outcome.err.count("\n") == 1


def test_cost_reads_words_in_any_order(cli):
    first = cli("cost", PLAIN, "out=6", "in=5", "r=2", "--json")
    for words in (
        ["--json", PLAIN, "out=6", "in=5", "r=2"],
        [PLAIN, "--json", "out=6", "in=5", "r=2"],
        [PLAIN, "out=6", "--json", "in=5", "--alpha", "1", "r=2"],
    ):
        assert cli("cost", *words) == first
    assert cli("--json", "cost", PLAIN, "out=6", "in=5", "r=2") == first


def test_cost_prints_the_boxed_report(cli):
    out = cli("cost", PLAIN, "out=6", "in=5", "r=2").out
    assert out == repr(tl.resolve(PLAIN).bind({"out": 6, "in": 5, "r": 2})) + "\n"


def test_cost_at_the_size_of_another_family(cli):
    lora = 2 * 8 * 768 * 36
    for words in (["--like", "lora:8"], ["--params", str(lora)]):
        data = cli("cost", SHARED, "layer=12", "proj=3", "out=768", "in=768", *words, "--json").data
        r = data["ranks"]["r"]
        assert data["trainable_parameters"] == r * 768 * 37 <= lora < (r + 1) * 768 * 37


def test_alpha_sets_the_scale(cli):
    words = ["cost", PLAIN, "out=6", "in=5", "r=2", "--scale", "alpha/r", "--alpha", "8", "--json"]
    assert cli(*words).data["scale"] == 4.0


def test_frozen_cores_are_counted_apart(cli):
    data = cli("cost", PLAIN, "out=6", "in=5", "r=2", "--frozen", "A", "--json").data
    assert (data["trainable_parameters"], data["frozen_parameters"]) == (12, 10)


def test_plan_prints_steps(cli):
    outcome = cli("plan", SHARED, "layer=2", "proj=3", "out=8", "in=8", "r=2")
    bound = tl.resolve(SHARED).bind({"layer": 2, "proj": 3, "out": 8, "in": 8, "r": 2})
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == bound.plan().explain() + "\n"


def test_plan_as_json(cli):
    data = cli("plan", SHARED, "layer=2", "proj=3", "out=8", "in=8", "r=2", "--json").data
    assert data["equation"] == SHARED
    assert data["sizes"] == {"layer": 2, "proj": 3, "out": 8, "in": 8}
    assert (data["ranks"], data["tokens"], data["profile"]) == ({"r": 2}, 512, "cpu")
    assert data["plan"]


def test_sharing_an_input_costs_less(cli):
    words = ["plan", "W[proj out in] = B[proj out r] A[r in]", "proj=3", "out=64", "in=64", "r=2"]
    together = cli(*words, "--json").data["flops_per_token"]
    assert together == cli(*words, "--shared", "proj", "--json").data["flops_per_token"]
    apart = cli(*words, "--shared", "none", "--json").data["flops_per_token"]
    assert (together, apart) == (2 * 128 + 3 * 256, 3 * 256 + 3 * 256)


@pytest.mark.parametrize("mode", ["apply", "delta"])
def test_the_program_is_python(cli, mode):
    words = ["plan", PLAIN, "out=6", "in=5", "r=2", "--source", "--mode", mode]
    text = cli(*words).out
    ast.parse(text)
    data = cli(*words, "--json").data
    assert data["mode"] == mode
    assert data["source"] + "\n" == text or data["source"] == text


def test_the_emitted_delta_is_the_equation(cli):
    text = cli("plan", PLAIN, "out=6", "in=5", "r=2", "--source", "--mode", "delta").out
    scope = {"permute": lambda a, *axes: np.transpose(a, axes)}
    exec(compile(text, "plan", "exec"), scope)
    rng = np.random.default_rng(0)
    cores = {"B": rng.normal(size=(6, 2)), "A": rng.normal(size=(2, 5))}
    made = scope["delta"](cores, cores["B"])
    np.testing.assert_allclose(made, np.einsum("or,ri->oi", cores["B"], cores["A"]), atol=1e-12)


def test_plans_for_another_machine_and_token_count(cli):
    words = ["plan", PLAIN, "out=6", "in=5", "r=2", "--tokens", "7", "--profile", "h200-bf16"]
    data = cli(*words, "--json").data
    assert (data["tokens"], data["profile"]) == (7, "h200-bf16")


def test_a_limit_on_memory_is_held_or_told(cli):
    words = ["plan", PLAIN, "out=8", "in=16", "r=2", "--tokens", "1000"]
    free = cli(*words, "--json").data["plan"]
    bound = cli(*words, "--memory-limit", "512", "--json").data["plan"]
    assert (len(free["chains"][0]), len(bound["chains"][0])) == (2, 1)  # B A first: 8 x 16 x 4
    told = cli(*words, "--memory-limit", "511")
    assert told.code == 2
    assert "E411" in told.err
    assert "The least is 512 bytes, for 1,000 tokens" in told.err


def test_show_draws_and_plan_draws(cli, tmp_path):
    text = cli("show", "lora", "--text").out
    assert text.splitlines()[1] == "in ───┤ A ├─────┤ B ├─── out"
    assert cli("show", "lora", "--latex").out.startswith(r"\Delta W_{")
    assert r"\begin{tikzpicture}" in cli("show", "lora", "--tikz").out
    path = tmp_path / "lora.svg"
    assert cli("show", "lora", "--svg", str(path)).out == f"picture: {path}\n"
    assert cli("show", "lora", "--svg", "-").out == path.read_text("utf-8")
    sizes = ("layer=2", "proj=3", "in=8", "out=8", "rank=2")
    assert "each token" in cli("plan", "lora", *sizes, "--text").out
    assert cli("show", "lora", "--svg", str(tmp_path / "x.png")).code == 2
