"""A proof run on arrays reads what holds numbers, and says what is wrong with anything else."""

from __future__ import annotations

import numpy as np
import pytest

import tenslora as tl

LORA = "W[out in] = B[out r] A[r in]"
PROOF = tl.embeds(LORA, "W[out in] = T[out in]")
B, A = np.arange(6.0).reshape(3, 2), np.arange(8.0).reshape(2, 4)
HEADS = tl.embeds(
    "W[(head head_dim) in] = B[(head head_dim) r] A[r in]",
    "W[(head head_dim) in] = T[head head_dim in]",
)

ERRORS = {
    "missing": (lambda: tl.lift({"B": B}, PROOF), "E204: core A of W.* is missing"),
    "unknown": (lambda: tl.lift({"B": B, "A": A, "b": A}, PROOF), "E120: 'b' is no core of"),
    "axes": (lambda: tl.lift({"B": B[0], "A": A}, PROOF), r"E204: core B\[out r\]: an array of 1"),
    "shape": (
        lambda: tl.lift({"B": B, "A": A.T}, PROOF),
        r"E204: core A of .*: \(4, 2\), where \(2, 2\) is wanted",
    ),
    "no numbers": (lambda: tl.lift({"B": B, "A": "x"}, PROOF), "E204: core A is a str, no array"),
    "none": (lambda: tl.lift({"B": B, "A": None}, PROOF), "E204: core A is a NoneType, no array"),
    "ragged": (lambda: tl.lift({"B": B, "A": [[1], [1, 2]]}, PROOF), "E204: core A is a list"),
    "swapped": (lambda: tl.lift(PROOF, {"B": B, "A": A}), "E136: a proof is wanted, not {'B'"),
    "no mapping": (lambda: tl.lift([B, A], PROOF), "E204: the cores are a list, no mapping"),
    "text": (lambda: tl.lift({"B": B, "A": A}, "x"), "E136: a proof is wanted, not 'x'"),
    "refuted": (
        lambda: tl.lift({"B": B, "A": A}, tl.embeds("lora", "fourierft")),
        "E136: no proof but Refutation: .*\n  Only a proof",
    ),
    "size": (
        lambda: tl.lift({"B": np.ones((6, 2)), "A": A}, HEADS),
        r"E202: missing: size of head, head_dim.*\n  The shapes do not tell it: .* sizes={...}",
    ),
    "unknown size": (lambda: tl.lift({"B": B, "A": A}, PROOF, {"x": 3}), "E201: 'x' is no index"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, text = ERRORS[name]
    with pytest.raises(tl.TensloraError, match=f"(?s){text}"):
        call()


def test_sizes_that_the_shapes_do_not_tell():
    cores = {"B": np.arange(12.0).reshape(6, 2), "A": A}
    lifted = tl.lift(cores, HEADS, {"head": 2, "head_dim": 3})
    np.testing.assert_array_equal(lifted["T"].reshape(6, 4), cores["B"] @ A)


def test_tensors_are_read():
    torch = pytest.importorskip("torch")
    plain = {"B": torch.from_numpy(B), "A": torch.from_numpy(A)}
    trained = {name: torch.nn.Parameter(tensor) for name, tensor in plain.items()}
    half = {name: tensor.to(torch.bfloat16) for name, tensor in trained.items()}
    for cores in (plain, trained, half):
        made = tl.lift(cores, PROOF)["T"]
        assert isinstance(made, np.ndarray)
        np.testing.assert_array_equal(made, B @ A)  # whole numbers, exact in bfloat16
    assert tl.lift(half, PROOF)["T"].dtype == np.float32
    assert tl.lift(trained, PROOF)["T"].dtype == np.float64
