"""Laws 6 and 9: derivatives are those of the equation, and the backends agree."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from tenslora.backends import Executable, executable, get
from tenslora.family import Bound
from tenslora.testing.laws.common import arrays_of, every_site, inputs, run_stages, weights
from tenslora.testing.oracle import dense, gradient, numbers
from tenslora.testing.report import agree, equal

__all__ = ["law_backends", "law_derivatives", "law_gradients"]


def law_derivatives(bound: Bound, *, seed: int = 0) -> None:
    """Law 6 without autograd: the derivatives of a plan on numpy are the product rule's.

    A step of 1e-30 i in a random direction leaves its derivative in the imaginary part to the last
    digit, since an equation is a polynomial. The same is asked of central differences in float64,
    to within their error.

    Parameters
    ----------
    bound : a family with sizes.
    seed : of values and directions.

    Examples
    --------
    >>> import tenslora as tl
    >>> lora = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
    >>> law_derivatives(lora.bind({"out": 3, "in": 4}, r=2))  # nothing is said: it holds
    """
    network, sizes = bound.network, bound.sizes
    cores, directions = numbers(network, sizes, seed), numbers(network, sizes, seed + 1)
    loss = weights(bound, seed)
    slopes = gradient(network, cores, sizes, loss)
    sure = gradient(network, {n: np.abs(c) for n, c in cores.items()}, sizes, np.abs(loss))
    run = executable(bound.plan(shared=network.sites), get("numpy"))
    for name, direction in directions.items():
        slope, scale = float((slopes[name] * direction).sum()), float(2 * sure[name].sum())
        others = {n: c.astype(complex) for n, c in cores.items()}
        others[name] = cores[name] + 1e-30j * direction
        for what, w in (("delta", run.delta(others)), ("W", dense(network, others, sizes))):
            found = (w * loss).sum().imag / 1e-30
            agree("6", bound, f"derivative of {what} along {name}", found, slope, 1e-13 * scale)
        difference = _central(lambda c: (run.delta(c) * loss).sum(), cores, name, direction)
        agree("6", bound, f"central difference along {name}", difference, slope, 1e-5 * scale)


def _central(loss: Any, cores: dict[str, Any], name: str, direction: Any) -> float:
    """Differences of order four: their error is that of a fifth derivative."""
    step = 2.0**-10
    up, down, far_up, far_down = (
        float(loss({**cores, name: cores[name] + n * step * direction})) for n in (1, -1, 2, -2)
    )
    return (8 * (up - down) - (far_up - far_down)) / (12 * step)


def law_gradients(bound: Bound, *, seed: int = 0) -> None:
    """Law 6 with torch's autograd: gradients through a plan are those of the equation.

    The gradients of the cores through ``delta``, and of the cores and x through ``apply`` at every
    site, equal the product rule written out in numpy.

    Parameters
    ----------
    bound : a family with sizes.
    seed : of the values.

    Examples
    --------
    >>> import tenslora as tl
    >>> lora = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
    >>> law_gradients(lora.bind({"out": 3, "in": 4}, r=2))  # nothing is said: it holds
    """
    import torch

    network, sizes = bound.network, bound.sizes
    cores, x = numbers(network, sizes, seed), inputs(bound, 3, seed)
    run = executable(bound.plan(shared=network.sites, tokens=1), get("torch"))
    loss = weights(bound, seed)
    slopes = gradient(network, cores, sizes, loss)
    leaves = arrays_of("torch", cores, requires_grad=True)
    (run.delta(leaves) * torch.from_numpy(loss)).sum().backward()  # type: ignore[no-untyped-call]
    for name, leaf in leaves.items():
        agree("6", bound, f"gradient of delta by {name}", leaf.grad, slopes[name])

    leaves, rows = arrays_of("torch", cores, requires_grad=True), torch.tensor(x)
    rows.requires_grad_()
    outer = np.random.default_rng((seed, 3)).integers(-3, 4, (*loss.shape[:-1], 3)) + 0.5
    unbound, total = run.unbind(run.hoist(leaves, rows)), torch.zeros(())
    for site in every_site(bound):
        y = run_stages(run, unbound, rows, site)
        total = total + (y * torch.from_numpy(outer[tuple(site.values())]).mT).sum()
    total.backward()
    slopes = gradient(network, cores, sizes, np.einsum("...on,ni->...oi", outer, x))
    for name, leaf in leaves.items():
        agree("6", bound, f"gradient of apply by {name}", leaf.grad, slopes[name])
    w = dense(network, cores, sizes).reshape(-1, *loss.shape[-2:])
    expected = np.einsum("son,soi->ni", outer.reshape(len(w), -1, 3), w)
    agree("6", bound, "gradient of apply by x", rows.grad, expected)


def law_backends(bound: Bound, *, backends: Sequence[str] | None = None, seed: int = 0) -> None:
    """Law 9: one plan gives the same numbers on numpy, torch and jax.

    Compared in float32, which every backend has by default, against numpy's float64: an entry may
    differ by the rounding that its largest possible sum allows. On jax the plan runs under ``jit``.

    Parameters
    ----------
    bound : a family with sizes.
    backends : which to try; ``None`` for numpy and those that are installed.
    seed : of the values.

    Examples
    --------
    >>> import tenslora as tl
    >>> lora = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
    >>> bound = lora.bind({"out": 3, "in": 4}, r=2)
    >>> law_backends(bound, backends=["numpy", "torch"])  # nothing is said: it holds
    """
    network, sizes = bound.network, bound.sizes
    generator = np.random.default_rng((seed, 4))
    cores = {n: generator.standard_normal(s).astype(np.float32) for n, s in bound.shapes.items()}
    x = inputs(bound, 2, seed).astype(np.float32)
    exact = {n: c.astype(float) for n, c in cores.items()}
    expected = dense(network, exact, sizes)
    room = 1e-5 * dense(network, {n: np.abs(c) for n, c in exact.items()}, sizes)
    if backends is None:
        backends = ["numpy", *(b for b in ("torch", "jax") if importlib.util.find_spec(b))]
    plan = bound.plan(shared=network.sites, tokens=1)
    for backend in backends:
        arrays, rows = arrays_of(backend, cores), arrays_of(backend, {"x": x})["x"]
        w, y = map(np.asarray, _both(executable(plan, get(backend)), arrays, rows))
        agree("9", bound, f"delta on {backend}", w, expected, room)
        equal("9", bound, f"dtype of apply on {backend}", str(y.dtype), "float32")
        slack = np.abs(x) @ np.swapaxes(room, -1, -2)
        wanted = x.astype(float) @ np.swapaxes(expected, -1, -2)
        agree("9", bound, f"apply on {backend}", y, wanted, slack)


def _both(run: Executable, cores: Any, x: Any) -> tuple[Any, Any]:
    """W, and the update at every site."""

    def both(cores: Any, x: Any) -> tuple[Any, Any]:
        return run.delta(cores, x), run.apply_stacked(cores, x)

    if run.backend.name == "jax":
        import jax

        both = jax.jit(both)
    return both(cores, x)
