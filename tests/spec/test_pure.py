"""The language alone: no numpy, no torch, nothing but Python."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numpy", "torch", "jax", "opt_einsum", "tensorly", "hypothesis")
EQUATION = "W[layer proj (head head_dim) in] = B[layer (head head_dim) r] A[proj r in]"


def brought_by(code: str) -> tuple[str, list[str]]:
    """Run code in a fresh process; what it printed, and the heavy modules that it imported."""
    code += f"\nimport sys; print([m for m in {HEAVY} if m in sys.modules])"
    command = [sys.executable, "-W", "error", "-c", code]
    *lines, modules = subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return "\n".join(lines), [word.strip("', ") for word in modules[1:-1].split()]


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        (f"from tenslora.spec import parse; print(parse({EQUATION!r}))", EQUATION),
        (
            "from tenslora.spec import complete_sizes, core_shape, parse\n"
            f"n = parse({EQUATION!r})\n"
            "sizes = complete_sizes(n, dict(layer=2, proj=3, head=4, out=12, r=2, **{'in': 8}))\n"
            "print([core_shape(core, sizes) for core in n.cores.values()])",
            "[(2, 12, 2), (3, 2, 8)]",
        ),
        (
            "from tenslora.spec import from_json, parse, to_json\n"
            "print(from_json(to_json(parse('W[out in] = B[out s] A[s in]'))).canonical())",
            "W[out in] = A[b0 in] B[out b0]",
        ),
        (
            "import tenslora as tl\n"
            f"f = tl.family({EQUATION!r}, init=dict(B='zeros'), frozen='A')\n"
            "b = f.bind(dict(layer=2, proj=3, head=4, out=12, r=2, **{'in': 8}))\n"
            "print(b.shapes, b.counts, b.trainable_parameters, b.frozen_parameters, b.nbytes)",
            "{'B': (2, 12, 2), 'A': (3, 2, 8)} {'B': 48, 'A': 48} 48 48 384",
        ),
        (
            "import tenslora as tl\n"
            "print(tl.resolve('lora').bind(\n"
            "    dict(layer=12, proj=3, out=768, **{'in': 768}), r=8).trainable_parameters)",
            "442368",
        ),
    ],
    ids=["parse", "sizes", "json and canonical form", "bind and count", "catalogue"],
)
def test_no_library_is_imported(code, printed):
    assert brought_by(code) == (printed, [])
