"""Starts from the weights: singular vectors, trains, Tucker; the model stays as it was."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import tensorly

torch = pytest.importorskip("torch", reason="torch is not installed")

import tenslora as tl  # noqa: E402
from tenslora.errors import AttachError, FamilyError  # noqa: E402

IN, OUT, LAYERS = 12, 8, 3


class Stack(torch.nn.Module):
    def __init__(self, layers=LAYERS):
        super().__init__()
        torch.manual_seed(0)
        linears = [torch.nn.Linear(IN, OUT, dtype=torch.float64) for _ in range(layers)]
        self.layers = torch.nn.ModuleList(torch.nn.ModuleDict({"fc": one}) for one in linears)

    def forward(self, x):
        return torch.stack([layer["fc"](x) for layer in self.layers])


SETTINGS = {
    "pissa": {"ranks": 3},
    "lora_xs": {"ranks": 3},
    "tinylora": {"ranks": 3},
    "dota": {
        "ranks": {"a": 3, "b": 2},
        "sizes": {"o1": 2, "o2": 2, "o3": 2, "i1": 2, "i2": 3, "i3": 2},
    },
    "craft": {"ranks": {"a": 3, "x": 3, "b": 4, "y": 4, "c": 2, "z": 2}},
}


def attach(model, name, **changes):
    settings = {**SETTINGS[name], **changes}
    return tl.attach(model, name, targets=["fc"], **settings)


def cores_of(adapter):
    (bank,) = adapter.banks.values()
    return {name: core.detach() for name, core in bank.cores().items()}


def weights_of(model):
    return torch.stack([layer["fc"].weight.detach() for layer in model.layers])


def test_every_family_with_a_start_from_the_weights_is_here():
    assert {n for n, f in tl.registered().items() if f.start is not None} == set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_model_computes_the_same_and_gets_its_bits_back(name):
    model = Stack()
    twin, x = copy.deepcopy(model), torch.randn(5, IN, dtype=torch.float64)
    adapter = attach(model, name)
    room = 1e-3 if name == "lora_xs" else 1e-12  # LoRA-XS starts R at N(0, 1e-5)
    torch.testing.assert_close(model(x), twin(x), rtol=room, atol=room)
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
    model(x).sin().sum().backward()
    assert any(p.grad.abs().max() > 0 for p in adapter.parameters())
    optimizer.step()
    assert (model(x) - twin(x)).abs().max() > 1e-4
    adapter.merge()
    adapter.unmerge()
    adapter.detach()
    assert torch.equal(model(x), twin(x))
    for one, two in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", ["lora_xs", "tinylora"])
def test_frozen_singular_vectors(name):
    model = Stack()
    cores = cores_of(attach(model, name))
    left, values, right = torch.linalg.svd(weights_of(model), full_matrices=False)
    product = cores["U"][:, 0] @ cores["V"][:, 0]
    wanted = left[..., :3] * values[:, None, :3] @ right[:, :3]
    torch.testing.assert_close(product, wanted, rtol=1e-10, atol=1e-12)
    lengths = torch.linalg.norm(cores["U"][:, 0], dim=1)
    torch.testing.assert_close(lengths, values[:, :3])


def test_pissa_is_that_of_peft():
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    model = Stack().float()  # PEFT starts PiSSA in float32 or less
    cores = cores_of(attach(Stack(), "pissa"))
    config = peft.LoraConfig(r=3, lora_alpha=3, init_lora_weights="pissa", target_modules=["fc"])
    theirs = peft.get_peft_model(model, config).base_model.model
    for n, layer in enumerate(theirs.layers):
        a, b = (getattr(layer["fc"], f"lora_{k}")["default"].weight.detach().double() for k in "AB")
        found = cores["B"][n, 0] @ cores["A"][n, 0]
        torch.testing.assert_close(found, b @ a, rtol=1e-5, atol=1e-6)
        lengths = torch.linalg.norm(cores["A"][n, 0], dim=1), torch.linalg.norm(a, dim=1)
        torch.testing.assert_close(*lengths, rtol=1e-5, atol=1e-6)
    for minus, of in (("N", "B"), ("M", "A")):
        assert torch.equal(cores[minus], -cores[of] if minus == "N" else cores[of])


def test_dota_is_tensorlys_train_of_each_weight():
    from tensorly.decomposition import tensor_train_matrix
    from tensorly.tt_matrix import tt_matrix_to_tensor

    model = Stack()
    adapter = attach(model, "dota")
    cores = {n: c.numpy() for n, c in cores_of(adapter).items()}
    with tensorly.backend_context("numpy", local_threadsafe=True):
        for n in range(LAYERS):
            weight = weights_of(model)[n].numpy().reshape(2, 2, 2, 2, 3, 2)
            theirs = tensor_train_matrix(weight, rank=(1, 3, 2, 1))
            mine = [cores["G1"][n, 0][None], cores["G2"][n, 0], cores["G3"][n, 0][..., None]]
            wanted, found = tt_matrix_to_tensor(theirs), tt_matrix_to_tensor(mine)
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_craft_is_the_tucker_of_the_stacked_weights():
    from tensorly.decomposition import partial_tucker
    from tensorly.tucker_tensor import tucker_to_tensor

    model = Stack()
    cores = {n: c.numpy() for n, c in cores_of(attach(model, "craft")).items()}
    stacked = weights_of(model).numpy()  # layer, out, in
    factors = [cores["D"][0], cores["V"][0], cores["U"][0]]
    found = tucker_to_tensor((cores["G"][0].transpose(2, 1, 0), factors))
    with tensorly.backend_context("numpy", local_threadsafe=True):
        (_, theirs), _ = partial_tucker(stacked, rank=[2, 4, 3], init="svd")
    for mine in factors:
        np.testing.assert_allclose(mine.T @ mine, np.eye(mine.shape[1]), atol=1e-12)
    best = tucker_to_tensor((np.einsum("loi,lz,oy,ix->zyx", stacked, *theirs), theirs))
    errors = [np.linalg.norm(stacked - w) for w in (found, best)]
    assert errors[1] * 0.999 <= errors[0] <= 3**0.5 * errors[1]  # quasi-optimal, of three modes
    for axis, factor in enumerate(factors):
        unfolded = np.moveaxis(stacked, axis, 0).reshape(stacked.shape[axis], -1)
        _, vectors = np.linalg.eigh(unfolded @ unfolded.T)
        top = vectors[:, ::-1][:, : factor.shape[1]]
        np.testing.assert_allclose(factor @ factor.T, top @ top.T, atol=1e-10)


@pytest.mark.parametrize("name", SETTINGS)
def test_saved_and_loaded(name, tmp_path):
    model, x = Stack(), torch.randn(5, IN, dtype=torch.float64)
    adapter = attach(model, name)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1)
    adapter.save(tmp_path / "adapter.safetensors")
    again = Stack()
    loaded = tl.load(again, tmp_path / "adapter.safetensors")
    assert torch.equal(again(x), model(x))
    assert loaded.family == adapter.family


def test_a_transposed_weight_is_read_as_it_is_used():
    conv = pytest.importorskip("transformers.pytorch_utils", reason="no transformers").Conv1D
    model = torch.nn.Sequential(conv(OUT, IN)).double()
    adapter = tl.attach(model, "pissa", targets=["0"], ranks=OUT)
    cores = cores_of(adapter)
    product = cores["B"][0, 0] @ cores["A"][0, 0]
    torch.testing.assert_close(product, model[0].weight.detach().T)


def test_refusals_leave_the_model_alone():
    model = Stack()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(FamilyError, match=r"E311.*rank r=9: the weights have 8"):
        attach(model, "pissa", ranks=9)
    with pytest.raises(FamilyError, match=r"E311.*not those of its factors"):
        attach(model, "craft", ranks={**SETTINGS["craft"]["ranks"], "a": 2})
    with torch.no_grad():
        model.layers[0]["fc"].weight[0, 0] = float("nan")
    with pytest.raises(FamilyError, match="E311"):
        attach(model, "pissa")
    with torch.no_grad():
        model.layers[0]["fc"].weight.copy_(before["layers.0.fc.weight"])
    meta = Stack().to("meta")
    with pytest.raises(AttachError, match=r"E519.*with values"):
        attach(meta, "pissa", device="cpu")
    assert not hasattr(model, "tenslora")
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("svd", "unknown start from the weights"),
        ("qr(B, A)", "Rules: svd, root_svd"),
        ("svd(B, C)", "names 'C', no core"),
        ("svd(A, B)", "the whole output or input"),
        ("svd(B)", "two cores"),
        ("tt_svd(B, A)", "as many cores as"),
        ("hosvd(B, A)", "one factor for each part"),
    ],
)
def test_wrong_starts(start, message):
    equation = "W[layer out in] = B[layer out r] A[layer r in]"
    with pytest.raises(FamilyError, match="E311") as info:
        tl.family(equation, init={"B": "zeros"}, start=start)
    assert message in str(info.value)


def test_arrays_take_weights():
    bound = tl.families.pissa.bind({"layer": 1, "proj": 1, "in": 4, "out": 3}, r=3)
    weights = np.random.default_rng(0).standard_normal((1, 1, 3, 4))
    arrays = bound.arrays(weights=weights)
    np.testing.assert_allclose(arrays["B"] @ arrays["A"], weights, atol=1e-12)
    np.testing.assert_array_equal(arrays["N"], -arrays["B"])
    assert tl.families.lora.bind({"layer": 1, "proj": 1, "in": 4, "out": 3}, r=3).filled(0) == {}
    again = tl.Family.from_json(tl.families.pissa.to_json())
    assert again == tl.families.pissa
