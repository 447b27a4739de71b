"""One adapter from an object, from its file and from PEFT's folder; before and after."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import tenslora as tl
from tenslora.errors import DataError, StateError

pytestmark = pytest.mark.filterwarnings("ignore::tenslora.errors.RedundantRankWarning")


def test_a_file_and_a_folder_of_lora_show_what_the_adapter_is(attached, tmp_path):
    adapter = attached("lotr", depth=11)
    (tmp_path / "run").mkdir()
    adapter.save(tmp_path / "run" / "adapter.safetensors")
    adapter.export_lora(tmp_path / "lora")
    whole = tl.portrait(adapter)
    for source in (tmp_path / "run" / "adapter.safetensors", tmp_path / "run"):
        np.testing.assert_array_equal(tl.portrait(source).norms.values, whole.norms.values)
        assert tl.portrait(str(source)).text() == whole.text()
    lora = tl.portrait(tmp_path / "lora")
    assert lora.label == "lora"
    assert lora.norms.layers == tuple(map(str, range(11)))  # 2 before 10
    found = {name: n for n, name in enumerate(lora.norms.projections)}
    order = [found[name] for name in whole.norms.projections]
    np.testing.assert_allclose(lora.norms.values[:, order], whole.norms.values, rtol=1e-5)
    assert whole.compare(lora).total < 1e-6


def test_a_head_that_was_trained_whole_is_no_obstacle(tmp_path):
    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(4, 4)])})
    model["score"] = torch.nn.Linear(4, 2)
    adapter = tl.attach(model, "lora", targets=["layers.0"], ranks=1, train="score")
    adapter.export_lora(tmp_path / "lora")
    assert tl.portrait(tmp_path / "lora").norms.values.shape == (1, 1)


def test_a_folder_without_an_adapter(tmp_path):
    with pytest.raises(StateError, match=r"E610: .* holds neither adapter.safetensors nor"):
        tl.portrait(tmp_path)


def test_changes_are_what_numpy_says(attached, dense):
    one, other = attached("lora"), attached("lora", seed=1)
    found, old, new = tl.portrait(other).compare(tl.portrait(one)), dense(one), dense(other)
    for layer in range(3):
        for n, name in enumerate(("q", "k")):
            w, v = (updates[f"layers.{layer}.{name}"] for updates in (old, new))
            norms = np.linalg.norm(w), np.linalg.norm(v)
            shown = found.norms_before.values[layer, n], found.norms_after.values[layer, n]
            np.testing.assert_allclose(shown, norms, rtol=1e-5)
            change = np.linalg.norm(v - w) / norms[0]
            np.testing.assert_allclose(found.change.values[layer, n], change, rtol=1e-5)
            cosine = (w * v).sum() / norms[0] / norms[1]
            np.testing.assert_allclose(found.cosine.values[layer, n], cosine, rtol=1e-4)
    differences = [np.linalg.norm(new[path] - old[path]) for path in old]
    total = np.linalg.norm(differences) / np.linalg.norm([np.linalg.norm(w) for w in old.values()])
    assert found.total == pytest.approx(total, rel=1e-5)
    assert found.alone == 0


def test_what_one_adapter_covers_alone_is_counted(attached):
    small, large = attached("lora", depth=2), attached("lora", depth=3)
    found = tl.portrait(large).compare(tl.portrait(small))
    assert found.alone == 2
    assert found.change.layers == ("0", "1")
    assert "weights that one of the two covers alone: 2" in found.text()


def test_an_update_that_was_zero_before(attached):
    fresh = attached("lora")
    with torch.no_grad():
        for core in fresh.parameters():
            core.zero_()
    found = tl.portrait(attached("lora")).compare(tl.portrait(fresh))
    assert np.isposinf(found.change.values).all()
    assert "from 0" in found.text()
    json.dumps(found.to_dict(), allow_nan=False)


def test_adapters_of_two_models_are_not_compared(attached):
    one, other = attached("lora"), attached("lora", out={"v": 8})
    with pytest.raises(DataError, match=r"E716: lora and lora have no weight"):
        tl.portrait(one).compare(tl.portrait(other))


def test_every_number_is_plain_data(attached):
    found = tl.portrait(attached("tenslora.att_qkv_depth", sizes={"head": 2}))
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["norms"]["projections"] == ["q", "k"]
    assert again["shapes"][0]["allowed"]["in"] == 2
    assert len(again["shapes"][0]["weights"]["singular_values"]) == 6
