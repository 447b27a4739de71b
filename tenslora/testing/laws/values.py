"""Laws 5 and 8: what is said of the arrays before they exist, and how they start."""

from __future__ import annotations

import math

import numpy as np

from tenslora.backends import executable, get
from tenslora.family import Bound
from tenslora.family.start import cancels
from tenslora.spec import core_shape
from tenslora.testing.laws.common import weights
from tenslora.testing.oracle import dense, gradient
from tenslora.testing.report import agree, equal, fail

__all__ = ["law_counts", "law_start"]


def law_counts(bound: Bound, *, seed: int = 0) -> None:
    """Law 5: parameters and bytes said before any array exists are those of the arrays.

    Parameters
    ----------
    bound : a family with sizes.
    seed : of the drawn start.

    Examples
    --------
    >>> import tenslora as tl
    >>> bound = tl.resolve("vera").bind({"layer": 2, "proj": 1, "out": 3, "in": 4}, r=2)
    >>> law_counts(bound)  # the counts below are those of the arrays
    >>> bound.trainable_parameters, bound.frozen_parameters
    (10, 14)
    """
    arrays = bound.arrays(seed)
    equal("5", bound, "the cores", list(arrays), list(bound.network.cores))
    for name, array in arrays.items():
        core = bound.network.cores[name]
        entries = math.prod(bound.sizes[index] for index in core.indices)
        equal("5", bound, f"entries of {name}", bound.counts[name], entries)
        equal("5", bound, f"entries allocated for {name}", array.size, entries)
        equal("5", bound, f"shape of {name}", array.shape, bound.shapes[name])
    frozen = sum(arrays[name].size for name in bound.family.frozen)
    total = sum(array.size for array in arrays.values())
    equal("5", bound, "frozen parameters", bound.frozen_parameters, frozen)
    equal("5", bound, "trainable parameters", bound.trainable_parameters, total - frozen)
    equal("5", bound, "bytes", bound.nbytes, 4 * total)


def law_start(bound: Bound, *, seed: int = 0) -> None:
    """Law 8: W is zero at the start, unless the family means otherwise, and training can leave it.

    Some trained core has a gradient that is not zero. The start depends on the seed alone.

    Parameters
    ----------
    bound : a family with sizes.
    seed : of the start.

    Examples
    --------
    >>> import tenslora as tl
    >>> lora = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
    >>> law_start(lora.bind({"out": 3, "in": 4}, r=2))  # W is zero, the gradient of B is not
    """
    network, sizes, family = bound.network, bound.sizes, bound.family
    arrays = bound.arrays(seed)
    w = executable(bound.plan(), get("numpy")).delta(arrays, np.zeros(1))
    oracle = dense(network, arrays, sizes)
    scale = dense(network, {name: np.abs(array) for name, array in arrays.items()}, sizes)
    if not family.starts_nonzero:  # where terms take each other away, within rounding
        room = 1e-12 * scale if cancels(network, family.init) else 0.0
        agree("8", bound, "W at the start", w, np.zeros(core_shape(network.target, sizes)), room)
    agree("8", bound, "W at the start", w, oracle, 1e-12 * scale)
    for name, again in bound.arrays(seed).items():
        agree("8", bound, f"{name}, drawn again", again, arrays[name])
    trained = [name for name in network.cores if name not in family.frozen]
    slopes = gradient(network, arrays, sizes, weights(bound, seed))
    if trained and not any(np.any(slopes[name]) for name in trained):
        fail("8", bound, f"the gradient of every trained core ({', '.join(trained)}) is zero")
