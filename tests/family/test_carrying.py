"""A start from the weights goes with its cores through every operator, or is refused."""

from __future__ import annotations

import pytest

import tenslora as tl
from tenslora.family import Family

LORA = tl.resolve("lora")
LOTR = tl.resolve("lotr")

STARTED = ["lora_xs", "pissa", "craft", "dota", "tinylora"]


@pytest.mark.parametrize("name", STARTED)
def test_a_start_from_the_weights_stays(name):
    f = tl.resolve(name)
    assert str((2 * f).start) == str(f.start)
    first, *others = f.start.cores
    renamed = tl.rename(f, **{first: "Z"})
    assert renamed.start.cores == ("Z", *others)
    assert tl.freeze(f, first).start == f.start
    assert tl.untie(f, "proj").start == f.start
    assert tl.restrict(f, proj="q").start == f.start
    target = f.network.target
    dense = tl.resolve(f"{target} = Q[{' '.join(target.indices)}]")
    assert tl.add(f, dense, scale="constant").start == f.start
    assert tl.add(dense, f, scale="constant").start == f.start
    assert Family.from_json((2 * f).to_json()) == 2 * f


REFUSED = {
    "svd transposed": (lambda: tl.resolve("lora_xs").T, "singular values on the output's side"),
    "svd tied": (lambda: tl.tie("pissa", "layer"), r"does not fit .*: root_svd\(B, A\) cannot"),
    "svd's rank split": (lambda: tl.split("tinylora", "s", "a", "b"), "it needs one rank"),
    "train tied": (lambda: tl.tie("dota", "layer"), "it needs every site, o1 and i1"),
    "train's mode split": (lambda: tl.split("dota", "o1", "x", "y"), "as many cores as the output"),
    "factor untied": (lambda: tl.untie("craft", "layer"), "one factor for each part of the target"),
    "factor gone": (lambda: tl.restrict("craft", layer=0), "one factor for each part"),
    "two": (lambda: tl.resolve("pissa") + tl.resolve("pissa"), "A family has one start"),
    "shared": (
        lambda: tl.add("pissa", tl.family(tl.resolve("pissa").network, starts_nonzero=True,
                       init={"B": "orthogonal", "A": "orthogonal"}), share=["B"]),
        "the shared core B is filled from the weights in one",
    ),
    "hadamard": (lambda: tl.hadamard("pissa", LOTR, scale="constant"), "is another matrix"),
    "compose": (lambda: tl.resolve("pissa") @ tl.resolve("pissa"), "the product is another"),
    "kron": (lambda: tl.kron("pissa", "pissa"), "the Kronecker product is another"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_start_from_the_weights_is_refused(name):
    call, text = REFUSED[name]
    with pytest.raises(tl.TensloraError, match=text) as info:
        call()
    assert info.value.code == "E310"
    assert "start=" in info.value.advice


def test_a_start_may_be_said_anew():
    assert tl.tie("pissa", "layer", start="").start is None
    assert str(tl.transpose("lora_xs", start="svd(V, U)").start) == "svd(V, U)"
    assert tl.hadamard("pissa", "pissa", start="").start is None
    assert str(tl.resolve("pissa").T.start) == "root_svd(A, B)"
