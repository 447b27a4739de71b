"""Every architecture of the table: where its matrices lie, and everything an adapter does on it."""

from __future__ import annotations

import copy
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import tenslora as tl
from tenslora.errors import AttachError
from tenslora.nn.spans import features
from tenslora.testing.architectures import ARCHITECTURES

LORA = tl.family(
    "W[layer proj out in] = B[layer proj out r] A[layer proj r in]", init={"B": "zeros"}
)
HEADS = tl.family(
    "W[layer proj (head head_dim) in] = U[in a] V[head_dim b] H[head c] P[proj d] D[layer e] "
    "G[a b c d e]",
    init={"G": "zeros"},
)
ALL = {a.name: a for a in ARCHITECTURES}
FUSED = [name for name, a in ALL.items() if a.layout.startswith("fused")]


@pytest.fixture
def made():
    """Make a model of the table in float64, with random numbers away from symmetric starts."""

    def make(name):
        if name == "timm's ViT" and find_spec("timm") is None:
            pytest.skip("timm is not installed")
        elif "timm" not in name:
            pytest.importorskip("transformers", reason="the hf extra is not installed")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = ALL[name].make().double().eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))
        return model

    return make


def run(name, model):
    out = model(**ALL[name].inputs())
    return out if isinstance(out, torch.Tensor) else out[0]


def index(site):
    """The rows and columns of a site as lists of numbers."""
    module_rows = range(site.out_features) if site.rows is None else features(site.rows)
    columns = range(site.in_features) if site.columns is None else features(site.columns)
    return np.array(list(module_rows)), np.array(list(columns))


def matrix(model, site):
    """The weight that a site lies in as a view (out, in)."""
    weight = model.get_submodule(site.path).weight.data
    return weight.T if site.transposed else weight


# -- the rows of a fused layer are the queries, keys and values that the model takes them for --


def first_sites(model, targets):
    sites = tl.nn.find_sites(model, list(targets))
    first = [site for site in sites if site.coord("layer") == sites[0].coord("layer")]
    return {str(site.coord("proj")).rpartition(".")[2]: site for site in first}


class Reader:
    """What the first module called ``ending`` reads, with some rows of a weight set or scaled."""

    def __init__(self, name, model, ending):
        self.name, self.model = name, model
        self.module = next(m for path, m in model.named_modules() if path.endswith(ending))

    def __call__(self, site=None, rows=(), factor=0.0):
        found = []
        handle = self.module.register_forward_pre_hook(lambda m, args: found.append(args[0]))
        model_rows = [] if site is None else index(site)[0][np.array(rows)]
        with torch.no_grad():
            if site is not None:
                weight, kept = matrix(self.model, site), matrix(self.model, site).clone()
                weight[model_rows] *= factor
            run(self.name, self.model)
            if site is not None:
                weight.copy_(kept)
        handle.remove()
        return found[0].reshape(-1, found[0].shape[-1]).numpy()


def without_bias(model, path):
    module = model.get_submodule(path)
    parent = model.get_submodule(path.rpartition(".")[0])
    with torch.no_grad():
        for bias in (module.bias, getattr(parent, "q_bias", None), getattr(parent, "v_bias", None)):
            if bias is not None:
                bias.zero_()


@pytest.mark.parametrize("name", FUSED)
def test_a_row_of_a_fused_layer_is_what_it_is_called(name, made):
    """Values of a head at zero silence it; queries or keys at zero make its attention uniform."""
    model, a = made(name), ALL[name]
    sites = first_sites(model, a.attention)
    q, k, v = (sites[part] for part in "qkv")
    without_bias(model, q.path)
    read = Reader(name, model, a.reads)
    whole, uniform = read(), read(k, range(k.out_features))
    width = heads_of(model, q)
    heads, fewer = q.out_features // width, v.out_features // width
    assert whole.shape[1] == q.out_features
    assert heads % fewer == 0
    for head in range(heads):
        group = head // (heads // fewer)
        mine = slice(head * width, (head + 1) * width)
        others = [n for n in range(whole.shape[1]) if n // width != head]
        rows = range(group * width, (group + 1) * width)
        silent = read(v, rows)
        assert not silent[:, mine].any()
        assert np.abs(
            silent[:, [n for n in others if n // width // (heads // fewer) != group]]
        ).all()
        no_query = read(q, range(head * width, (head + 1) * width))
        np.testing.assert_allclose(no_query[:, mine], uniform[:, mine], atol=1e-12)
        np.testing.assert_allclose(no_query[:, others], whole[:, others], atol=1e-12)
        assert not np.allclose(no_query[:, mine], whole[:, mine])
        no_key = read(k, rows)
        np.testing.assert_allclose(no_key[:, mine], uniform[:, mine], atol=1e-12)


def heads_of(model, site):
    """The features of one head, from the equation's own sizes."""
    bound = next(iter(tl.attach(model, HEADS, sites=[site], ranks=1).bounds.values()))
    tl.adapters(model)["default"].detach()
    return bound.sizes["head_dim"]


@pytest.mark.parametrize("name", [name for name, a in ALL.items() if a.gated])
def test_a_row_of_a_fused_gate_is_what_it_is_called(name, made):
    """The product is linear in what the gate multiplies, and not in what the activation reads."""
    model = made(name)
    first, second, reads = ALL[name].gated
    sites = first_sites(model, [first, second])
    read = Reader(name, model, reads)
    active, plain = sites["gate"], sites[second.rpartition(".")[2]]
    if name == "ModernBERT":  # here the activation reads the part called input
        active, plain = plain, active
    whole = read()
    half = range(plain.out_features // 2)
    np.testing.assert_allclose(read(plain, half, 2.0)[:, list(half)], 2 * whole[:, list(half)])
    assert not np.allclose(read(active, half, 2.0)[:, list(half)], 2 * whole[:, list(half)])
    np.testing.assert_allclose(read(active, half, 2.0)[:, half.stop :], whole[:, half.stop :])


# -- attach, dense formula, training, merging, saving ----------------------------------------------


def add_dense(model, adapter, literal):
    """A copy of the base with each site's update, from one einsum a bank, added to its weight."""
    for bank in adapter.banks.values():
        cores = {n: c.detach().double().numpy() for n, c in bank.cores().items()}
        network = bank.bound.network
        update = bank.bound.scale * literal(network, bank.bound.sizes, cores, np)
        for site, place in zip(bank.sites, bank.grid.positions, strict=True):
            here = update[tuple(place[name] for name in network.sites)]
            here = torch.from_numpy(here[: site.out_features, : site.in_features].copy())
            weight = matrix(model, site)
            rows, columns = index(site)
            weight[np.ix_(rows, columns)] += here
    return model


def attach(model, name, kind):
    if kind == "every linear layer":
        return tl.attach(model, LORA, targets="all-linear", ranks=2, alpha=3.0)
    ragged = "prefix" if kind == "heads, prefix" else "group"
    return tl.attach(model, HEADS, targets=list(ALL[name].attention), ranks=2, ragged=ragged)


KINDS = ("every linear layer", "heads", "heads, prefix")
RAGGED = {n for n, a in ALL.items() if "fewer" in a.layout or "one key" in a.layout}
RAGGED |= {"Falcon (new decoder)"}


def cases():
    for name in ALL:
        for kind in KINDS:
            if kind == "heads, prefix" and name not in RAGGED:
                continue
            if kind == "heads" and name == "BART":
                continue  # its decoder has another number of heads here: see below
            yield pytest.param(name, kind, id=f"{name}-{kind}")


@pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")
@pytest.mark.parametrize(("name", "kind"), cases())
def test_an_adapter_does_everything(name, kind, made, literal, randomized, snapshot, tmp_path):
    model = made(name)
    base, before = copy.deepcopy(model), snapshot(model)
    start = run(name, model)
    adapter = attach(model, name, kind)
    torch.testing.assert_close(run(name, model), start, rtol=0, atol=1e-12)
    randomized(adapter, std=0.5)
    changed = run(name, model)
    assert not torch.allclose(changed, start, atol=1e-4)
    dense = add_dense(copy.deepcopy(base), adapter, literal)
    torch.testing.assert_close(changed, run(name, dense), rtol=1e-10, atol=1e-10)

    adapter.save(tmp_path / "a.safetensors")
    again = tl.load(copy.deepcopy(base), tmp_path / "a.safetensors")
    assert again.sites == adapter.sites
    assert torch.equal(run(name, again.model), changed)

    adapter.merge()
    torch.testing.assert_close(run(name, model), changed, rtol=1e-10, atol=1e-10)
    adapter.unmerge()

    loss = run(name, model).square().mean()
    loss.backward()
    assert all(p.grad is not None for p in adapter.parameters())
    steep = sum(float(p.grad.square().sum()) for p in adapter.parameters())
    torch.optim.SGD(adapter.parameters(), lr=1e-4 * loss.item() / steep).step()
    assert run(name, model).square().mean() < loss
    adapter.detach()
    before.check(model)


def test_a_decoder_with_other_heads_is_told(made, snapshot):
    model = made("BART")
    before = snapshot(model)
    with pytest.raises(AttachError, match=r"E506: .*encoder.* has 3 heads, and .*decoder.* has 2"):
        tl.attach(model, HEADS, targets=["q_proj", "v_proj"], ranks=1)
    before.check(model)
    sides = r"model\.decoder\..*\.(self|encoder)_attn\.(q|v)_proj"
    adapter = tl.attach(model, HEADS, targets=sides, ranks=1)
    assert adapter.bounds["12x12"].sizes["head"] == 2
    assert adapter.bounds["12x12"].sizes["layer"] == 4


def test_the_input_of_an_output_projection_is_split_by_heads(made, literal, randomized):
    """What o_proj reads is laid out (head head_dim): the family has them on its input."""
    equation = "W[layer out (head head_dim)] = U[out a] H[layer head a] V[head_dim a]"
    family = tl.family(equation, init={"H": "zeros"})
    for name, target, heads in (("Llama", "o_proj", 4), ("GPT-NeoX", "attention.dense", 2)):
        model = made(name)
        base = copy.deepcopy(model)
        adapter = tl.attach(model, family, targets=target, ranks=2)
        assert next(iter(adapter.bounds.values())).sizes["head"] == heads
        randomized(adapter)
        dense = add_dense(base, adapter, literal)
        torch.testing.assert_close(run(name, model), run(name, dense), rtol=1e-10, atol=1e-10)


FACT = tl.family(
    "W[site out in] = V[out b] S[site b a] U[a in]", init={"V": "zeros"}, name="fact_tt_here"
)


def test_feed_forward_blocks_are_those_of_facts_code(made, randomized):
    """fc1 in four row blocks, fc2 in four column blocks, against FacT's forward written out."""
    model = made("timm's layout")
    adapter = tl.attach(model, FACT, targets=["qkv", "proj", "fc1", "fc2"], ranks=3, block=12)
    bank = adapter.banks["12x12"]
    assert bank.bound.sizes["site"] == 2 * 12
    assert [str(s) for s in adapter.sites[4:12]] == [
        *[f"blocks.0.mlp.fc1[{n}:{n + 12}]" for n in (0, 12, 24, 36)],
        *[f"blocks.0.mlp.fc2[:, {n}:{n + 12}]" for n in (0, 12, 24, 36)],
    ]
    randomized(adapter)
    u, v, s = (bank.cores()[name] for name in "UVS")

    def linear(module, x, updates):
        return module(x) + updates

    def forward(x):
        for n, block in enumerate(model.blocks):
            q, k, v_, o, *rest = s[12 * n : 12 * (n + 1)]
            up, down = torch.cat(rest[:4]), torch.cat(rest[4:], 1)
            own = torch.cat([x @ u.T @ part.T @ v.T for part in (q, k, v_)], -1)
            qkv = linear(block.attn.qkv, x, own).reshape(2, 5, 3, 3, 4).permute(2, 0, 3, 1, 4)
            mixed = torch.nn.functional.scaled_dot_product_attention(*qkv)
            mixed = mixed.transpose(1, 2).reshape(2, 5, 12)
            x = x + linear(block.attn.proj, mixed, mixed @ u.T @ o.T @ v.T)
            wide = (x @ u.T @ up.T).reshape(2, 5, 4, 3) @ v.T
            h = torch.nn.functional.gelu(linear(block.mlp.fc1, x, wide.reshape(2, 5, 48)))
            thin = (h.reshape(2, 5, 4, 12) @ u.T).reshape(2, 5, 12) @ down.T @ v.T
            x = x + linear(block.mlp.fc2, h, thin)
        return model.head(x.mean(1))

    found = run("timm's layout", model)
    adapter.deactivate()
    expected = forward(_features())
    adapter.activate()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def _features():
    return ALL["timm's layout"].inputs()["x"]


def test_blocks_of_fused_parts_and_blocks_that_do_not_fit(made):
    model = made("GPT-NeoX")
    sites = tl.nn.find_sites(model, ["query_key_value.k"], layers=0, block=6)
    assert [str(site) for site in sites] == [
        f"gpt_neox.layers.0.attention.query_key_value[{rows}, {columns}]"
        for rows in ("6:12", "24:30")
        for columns in ("0:6", "6:12")
    ]
    with pytest.raises(AttachError, match="E503: blocks of 4 rows cut through heads of 6"):
        tl.nn.find_sites(model, ["query_key_value.k"], block=4)
    with pytest.raises(AttachError, match="E503: block=5 does not divide"):
        tl.nn.find_sites(model, ["query_key_value.k"], block=5)
    with pytest.raises(AttachError, match="E503: block=0"):
        tl.nn.find_sites(model, ["query_key_value.k"], block=0)


def test_a_prefix_is_the_leading_heads_of_a_shared_core(made, randomized):
    model = made("Llama")
    equation = "W[layer proj (head head_dim) in] = B[head head_dim r] A[layer proj r in]"
    family = tl.family(equation, init={"B": "zeros"})
    adapter = tl.attach(model, family, targets=["q_proj", "k_proj"], ranks=2, ragged="prefix")
    assert list(adapter.banks) == ["16x16"]
    randomized(adapter)
    bank = adapter.banks["16x16"]
    wide, narrow = (adapter.delta(f"model.layers.1.self_attn.{p}_proj") for p in "qk")
    b, a = bank.cores()["B"].reshape(16, 2), bank.cores()["A"]
    torch.testing.assert_close(wide, b @ a[1, 0])
    torch.testing.assert_close(narrow, b[:8] @ a[1, 1])
    with pytest.raises(AttachError, match=r"E507: .*end within a head of 16"):
        tl.attach(
            model,
            family,
            targets=["q_proj", "k_proj"],
            ranks=1,
            ragged="prefix",
            name="b",
            sizes={"head_dim": 16},
        )
