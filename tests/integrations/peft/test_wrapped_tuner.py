"""Families in wrappers under PEFT: against tenslora.attach, to the last bit, and PEFT's own."""

from __future__ import annotations

import copy
import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy

import tenslora as tl
from tenslora.errors import AttachError, FamilyError, StateError

BASIC = ["dora", "hira", "router"]
ALL = [*BASIC, "dora heads", "dora vera", "hira lotr"]
OWN = {"dora": "magnitude", "router": "gate"}
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"


def losses_of(run, parameters, steps=4):
    """Take steps of AdamW, and return the losses with the last gradients."""
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    losses = []
    for _ in range(steps):
        out = run()
        loss = cross_entropy(out.flatten(0, -2), torch.arange(out[..., 0].numel()) % 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.grad.clone() for p in parameters]


RUNS = [("bert", name) for name in ALL]
RUNS += [(kind, name) for kind in ("gpt2", "llama", "plain", "t5") for name in BASIC]


@pytest.mark.parametrize(("kind", "name"), RUNS)
def test_training_gives_the_numbers_of_attach_to_the_last_bit(
    make, run, kinds, wrapped_settings, kind, name
):
    chosen, targets = wrapped_settings(name, kind), kinds[kind].targets
    by_hand, wrapped = make(kind), make(kind)
    family = chosen.pop("family")
    adapter = tl.attach(by_hand, family, targets=targets, seed=3, **chosen)
    config = tl.TensLoraConfig(family=family, target_modules=targets, seed=3, **chosen)
    model = peft.get_peft_model(wrapped, config).eval()
    assert model.get_nb_trainable_parameters()[0] == adapter.trainable_parameters
    assert torch.equal(run(model, kind), run(by_hand, kind))
    expected, wanted = losses_of(lambda: run(by_hand, kind), list(adapter.parameters()))
    mine = [p for p in model.parameters() if p.requires_grad]
    losses, gradients = losses_of(lambda: run(model, kind), mine)
    assert losses == expected
    assert len(set(losses)) == len(losses)  # it did learn something
    assert all(torch.equal(a, b) for a, b in zip(gradients, wanted, strict=True))
    assert torch.equal(run(model, kind), run(by_hand, kind))
    if name != "router":
        adapter.merge()
        assert torch.equal(run(model.merge_and_unload(), kind), run(by_hand, kind))


#: wrapper -> PEFT's configuration, the scale, and what PEFT calls each tensor.
THEIRS = {
    "dora": (
        lambda **kw: peft.LoraConfig(r=2, lora_alpha=4, use_dora=True, **kw),
        "constant(2.0)",
        {
            "A": lambda m: m.lora_A["default"].weight,
            "B": lambda m: m.lora_B["default"].weight,
            "magnitude": lambda m: m.lora_magnitude_vector["default"].weight,
        },
    ),
    "hira": (
        lambda **kw: peft.HiraConfig(r=2, **kw),
        "constant(1.0)",
        {"A": lambda m: m.hira_A["default"], "B": lambda m: m.hira_B["default"]},
    ),
}


SIDES = [
    ("bert", ["query", "value"]),
    ("llama", ["q_proj", "k_proj", "down_proj"]),
    ("gpt2", ["attn.c_proj", "c_fc"]),  # weights as (in, out)
]


@pytest.mark.parametrize(("kind", "targets"), SIDES)
@pytest.mark.parametrize("name", THEIRS)
def test_the_same_numbers_in_a_method_of_peft(name, kind, targets, make, run):
    """Outputs, gradients and merged weights against LoraConfig(use_dora=True) and HiraConfig."""
    if name == "hira" and not hasattr(peft, "HiraConfig"):
        pytest.skip("this peft has no HiRA")
    config, scale, where = THEIRS[name]
    theirs = peft.get_peft_model(
        make(kind).double(), config(target_modules=targets), autocast_adapter_dtype=False
    ).eval()
    equation = "W[site out in] = B[site out r] A[site r in]"
    family = tl.wrap(name, tl.family(equation, init={"B": "zeros"}, scale=scale))
    chosen = tl.TensLoraConfig(family=family, ranks=2, target_modules=targets)
    model = peft.get_peft_model(make(kind).double(), chosen, autocast_adapter_dtype=False).eval()
    pairs, generator = [], torch.Generator().manual_seed(0)
    for bank in model.base_model.shared.adapters["default"].values():
        for number, site in enumerate(bank.weights):
            layer = theirs.base_model.model.get_submodule(site.path)
            for tensor, get in where.items():
                held = bank.tensors()[tensor]
                if tensor == "magnitude":  # PEFT's start is ours
                    torch.testing.assert_close(held[number].detach(), get(layer).detach())
                drawn = torch.randn(held[number].shape, generator=generator).double() * 0.3
                held.data[number] = drawn
                get(layer).data.copy_(drawn.reshape(get(layer).shape))
                pairs.append((held, number, get(layer)))
    ours, other = run(model, kind), run(theirs, kind)
    torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-10)
    for out in (ours, other):
        out.sin().sum().backward()
    for held, number, their in pairs:
        grad = their.grad.reshape(held.grad[number].shape)
        torch.testing.assert_close(held.grad[number], grad, rtol=1e-8, atol=1e-10)
    trained = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    assert model.get_nb_trainable_parameters()[0] == trained
    merged, expected = model.merge_and_unload(), theirs.merge_and_unload()
    for path, weight in expected.named_parameters():
        torch.testing.assert_close(merged.get_parameter(path), weight, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bank", ["tuner", "first_layer"])
@pytest.mark.parametrize("name", ALL)
def test_a_checkpoint_gives_the_numbers_back(
    name, bank, tuned, make, run, wrapped_settings, tmp_path
):
    model = tuned(name, bank=bank)
    model.save_pretrained(tmp_path)
    held = load_file(tmp_path / WEIGHTS)
    assert sum(t.numel() for t in held.values()) == model.get_nb_trainable_parameters()[0]
    written = json.loads((tmp_path / SETTINGS).read_text())
    assert written["family"] == wrapped_settings(name)["family"]
    assert written["site_map"]["wrapper"] == name.partition(" ")[0].replace("er", "er[expert]")
    for low in (False, True):
        again = peft.PeftModel.from_pretrained(make(), tmp_path, low_cpu_mem_usage=low)
        assert torch.equal(run(again), run(model))
    trained = peft.PeftModel.from_pretrained(make(), tmp_path, is_trainable=True)
    assert trained.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()


@pytest.mark.parametrize("name", OWN)
def test_what_a_wrapper_trains_is_checked_like_cores(
    name, tuned, make, run, randomize, snapshot, asks, tmp_path
):
    model = tuned(name)
    model.save_pretrained(tmp_path)
    tensors, key = load_file(tmp_path / WEIGHTS), f"base_model.tenslora_12x12.{OWN[name]}"
    shape, word = tuple(tensors[key].shape), rf"\S*{OWN[name]}"
    wrong = {
        rf"E612: .*missing tensors {word}": lambda t: t.pop(key),
        rf"E613: .*{word} has shape \(2,\), and": lambda t: t.update({key: torch.ones(2)}),
        rf"E613: .*{word} has numbers that are not finite": lambda t: t[key].fill_(torch.nan),
        rf"E613: .*{word} is of .*int": lambda t: t.update({key: torch.ones(shape).long()}),
    }
    other = tuned(name)
    randomize(other, seed=5)
    for text, change in wrong.items():
        changed = copy.deepcopy(tensors)
        change(changed)
        save_file(changed, tmp_path / WEIGHTS, {"format": "pt"})
        base = make()
        before, held = snapshot(base), snapshot(other)
        with pytest.raises(StateError, match=text):
            peft.PeftModel.from_pretrained(base, tmp_path)
        before.check()
        if asks:
            with pytest.raises(StateError, match=text):
                other.load_adapter(tmp_path, "default")
            held.check()
    save_file(tensors, tmp_path / WEIGHTS, {"format": "pt"})
    other.load_adapter(tmp_path, "default")
    other.set_adapter("default")
    assert torch.equal(run(other), run(model))


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("lora", r"family is lora, and the site map was saved with dora\(lora\)"),
        ("hira(lora)", r"family is hira\(lora\), and the site map was saved with dora\(lora\)"),
        ("dora(lotr)", r"family is lotr, and the site map was saved with lora"),
    ],
)
def test_a_family_that_was_edited_beside_the_site_map(
    family, text, tuned, make, snapshot, tmp_path
):
    tuned().save_pretrained(tmp_path)
    config = json.loads((tmp_path / SETTINGS).read_text())
    (tmp_path / SETTINGS).write_text(json.dumps({**config, "family": family}))
    base = make()
    before = snapshot(base)
    with pytest.raises(StateError, match=rf"E602: {text}"):
        peft.PeftModel.from_pretrained(base, tmp_path)
    del config["site_map"]["wrapper"]
    (tmp_path / SETTINGS).write_text(json.dumps(config))
    with pytest.raises(StateError, match=r"E602: family is dora\(lora\), .* was saved with lora"):
        peft.PeftModel.from_pretrained(base, tmp_path)
    config["site_map"]["wrapper"] = "router[layers]"
    (tmp_path / SETTINGS).write_text(json.dumps(config))
    with pytest.raises(StateError, match=r"E603: the wrapper in the file is not valid: .*layers"):
        peft.PeftModel.from_pretrained(base, tmp_path)
    before.check()


@pytest.mark.parametrize(
    ("name", "sizes", "held"),
    [("router", {"expert": 5}, 3), ("dora heads", {"head": 2}, 3), ("hira", {"head": 3}, None)],
)
def test_sizes_that_were_edited_beside_the_site_map(
    name, sizes, held, tuned, make, snapshot, tmp_path
):
    """More experts than were saved are not read as those that were."""
    tuned(name).save_pretrained(tmp_path)
    config = json.loads((tmp_path / SETTINGS).read_text())
    (tmp_path / SETTINGS).write_text(json.dumps({**config, "sizes": sizes}))
    base, ((index, size),) = make(), sizes.items()
    before = snapshot(base)
    text = f"E602: sizes is {{'{index}': {size}}}, and the site map was saved with "
    with pytest.raises(StateError, match=text + f"{{'{index}': {held}}}"):
        peft.PeftModel.from_pretrained(base, tmp_path)
    before.check()


@pytest.mark.parametrize("name", BASIC)
def test_half_precision_autocast_and_checkpointing(name, make, run, kinds, wrapped_settings):
    """As tenslora.attach runs there; a forward that runs again in backward gives equal numbers."""
    chosen, targets = wrapped_settings(name), kinds["bert"].targets
    family = chosen.pop("family")

    def both(dtype):
        by_hand, wrapped = make().to(dtype), make().to(dtype)
        adapter = tl.attach(by_hand, family, targets=targets, **chosen)
        config = tl.TensLoraConfig(family=family, target_modules=targets, **chosen)
        model = peft.get_peft_model(wrapped, config).eval()
        mine = [p for p in model.parameters() if p.requires_grad]
        with torch.no_grad():
            for one, two in zip(adapter.parameters(), mine, strict=True):
                one.add_(0.3 * torch.randn(one.shape, generator=torch.Generator().manual_seed(2)))
                two.copy_(one)
        return by_hand, model, mine

    by_hand, model, _ = both(torch.bfloat16)
    assert run(model).dtype == torch.bfloat16
    assert torch.equal(run(model), run(by_hand))
    by_hand, model, mine = both(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(model), run(by_hand))
    gradients = []
    for again in (False, True):
        if again:
            model.train()
            model.base_model.model.gradient_checkpointing_enable()
        torch.manual_seed(0)
        for module in model.modules():  # nothing else changes by the mode
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        run(model).square().sum().backward()
        gradients.append([p.grad.clone() for p in mine])
        model.zero_grad()
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_without_a_peft_model(make, run, randomize, tmp_path):
    """``add_adapter`` and ``load_adapter`` of transformers, and one folder made of the other."""
    from tenslora.integrations.peft import convert_bank

    model = make()
    family, targets = "dora(lora)", ["query", "value"]
    model.add_adapter(
        tl.TensLoraConfig(family=family, ranks=2, target_modules=targets, bank="first_layer")
    )
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.2)
    model.save_pretrained(tmp_path / "layer")
    again = make()
    again.load_adapter(tmp_path / "layer")
    torch.testing.assert_close(run(again.eval()), run(model.eval()), rtol=1e-6, atol=1e-6)
    made = convert_bank(tmp_path / "layer", tmp_path / "tuner", to="tuner")
    assert made.tensors == 3
    assert "base_model.tenslora_12x12.magnitude" in load_file(tmp_path / "tuner" / WEIGHTS)
    tuner = peft.PeftModel.from_pretrained(make(), tmp_path / "tuner")
    torch.testing.assert_close(run(tuner), run(model), rtol=1e-6, atol=1e-6)
    convert_bank(tmp_path / "tuner", tmp_path / "back", to="first_layer")
    one, two = (load_file(tmp_path / name / WEIGHTS) for name in ("layer", "back"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_parts_of_a_fused_layer_and_smaller_ones(tuned, run, make):
    for kind, more in (
        ("gpt2", {"target_modules": ["c_attn.q", "c_attn.v"]}),
        ("llama", {"ragged": "prefix", "target_modules": ["q_proj", "k_proj", "v_proj"]}),
    ):
        for name in ("dora", "hira"):
            model = tuned(name, kind, **more)
            expected = run(model, kind)
            torch.testing.assert_close(
                run(model.merge_and_unload(), kind), expected, rtol=1e-3, atol=1e-5
            )


def test_starts_that_change_the_model(make, run, config):
    """Without init_weights DoRA's lengths are those of the weights with the update."""
    base = run(make())
    for family in ("dora(lora)", "hira(lora)"):
        for other in (True, False):
            model = peft.get_peft_model(make(), config(family=family, init_weights=other)).eval()
            assert torch.allclose(run(model), base, atol=1e-5) == other
    model = peft.get_peft_model(make(), config(family="dora(lora)", init_weights=False))
    plain = peft.get_peft_model(make(), config(family="lora", init_weights=False))
    torch.testing.assert_close(run(model.eval()), run(plain.eval()), rtol=1e-4, atol=1e-5)


def test_a_config_is_read_back_as_it_was(config, tmp_path):
    inside = tl.family("W[layer out in] = B[layer out r] A[r in]", init={"B": "zeros"})
    for family, text in (
        ("dora(lora:3)", "dora(lora:3)"),
        (tl.dora("lora"), "dora(lora)"),
        (tl.hira(inside), None),
    ):
        made = config(family=family)
        assert text in (made.family, None)
        made.save_pretrained(tmp_path)
        again = peft.PeftConfig.from_pretrained(tmp_path)
        assert again == made
        assert (again.equation, again.wrapper) == (made.equation, made.wrapper)
    assert again.equation == inside
    assert str(again.wrapper) == "hira"


def test_what_is_refused(make, config, snapshot, router):
    base = make()
    before = snapshot(base)
    for like in ("dora(lora:2)", tl.dora("lora")(2)):
        with pytest.raises(FamilyError, match=r"E312: dora\(lora.* is a family in a wrapper"):
            config(like=like)
    with pytest.raises(FamilyError, match="E313: dora goes around a family, not around hira"):
        config(family="dora(hira(lora))")
    wrong = [
        (config(family="dora(lora)", block=6), "default", "E521: dora needs whole rows"),
        (config(family=router), "default", "E202: .*expert"),
        (config(family="dora(lora)"), "magnitude", "E535: 'magnitude' is the name of an adapter"),
    ]
    for settings, name, text in wrong:
        with pytest.raises(tl.TensloraError, match=text):
            peft.get_peft_model(base, settings, adapter_name=name)
        before.check()
    model = peft.get_peft_model(base, config(family="dora(lora)"))
    with pytest.raises(AttachError, match="E535: 'magnitude'"):
        model.add_adapter("magnitude", config(family="lora"))


def test_a_budget_counts_what_the_wrapper_trains(make, config):
    for budget in ({"like": "lora:4"}, {"params": 600}):
        settings = config(family="dora(lora)", ranks=None, **budget)
        count = peft.get_peft_model(make(), settings).get_nb_trainable_parameters()[0]
        most = budget.get("params", 6 * 4 * 24)
        assert most - 6 * 24 < count <= most


class Packed(nn.Linear):
    """A layer whose weight is no matrix of numbers, as of a quantised base."""

    def __init__(self):
        super().__init__(4, 4)
        self.weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.uint8), requires_grad=False)


@pytest.mark.parametrize("name", ["dora", "hira"])
def test_a_weight_without_plain_values(name):
    model = nn.Sequential(Packed())
    config = tl.TensLoraConfig(family=f"{name}(lora)", ranks=1, target_modules=["0"])
    with pytest.raises(AttachError, match=f"E521: {name} reads the weight of 0"):
        peft.get_peft_model(model, config)
    assert type(model[0]) is Packed
