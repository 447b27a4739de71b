"""From an adapter, a file or a folder to a portrait."""

from __future__ import annotations

from pathlib import Path

from tenslora.nn.adapter import Adapter
from tenslora.nn.portrait.measured import Portrait, make_portrait
from tenslora.nn.standin import load_alone

__all__ = ["portrait"]


def portrait(source: Adapter | str | Path, *, heads: int | None = None) -> Portrait:
    """Measure the updates of an adapter: norms by place, and spectra mode by mode.

    Nothing is changed, and no model is needed.

    Parameters
    ----------
    source : an adapter; a file that :meth:`tenslora.Adapter.save` wrote, or the folder with it; or
        the folder of PEFT of a plain LoRA or of an adapter of :class:`tenslora.TensLoraConfig`.
    heads : heads in the output of a weight, for an equation without an index ``head``.

    Raises
    ------
    StateError
        E610 to E620 for what is none of these, or broken.
    SizeError
        E213 where no weight has so many heads.

    Examples
    --------
    >>> import torch, tenslora as tl
    >>> model = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(2)))
    >>> adapter = tl.attach(model, "lotr", targets="all-linear", ranks={"r": 3, "s": 2})
    >>> with torch.no_grad():
    ...     _ = [core.copy_(torch.arange(core.numel()).reshape(core.shape).sin())
    ...          for core in adapter.parameters()]
    >>> print(tl.portrait(adapter))
    lotr: 2 weights, 52 parameters
    W[layer proj out in] = B[proj out s] G[layer proj s r] A[proj r in]
    <BLANKLINE>
    norm of the update
    layer  linear
    0        4.37 ▇
    1        5.15 █
    <BLANKLINE>
    spectra of 8x8: ranks that keep so much of the energy
    mode   size  rank allowed  effective  90 %  99 %  99.9 %  singular values
    layer     2             2        1.4     1     2       2  █▇
    proj      1             1        1.0     1     1       1  █
    out       8             2        1.4     1     2       2  █▇|······
    in        8             3        1.5     1     2       2  █▇·|·····
    one weight, in | out: rank 2 allowed  █▇
    >>> adapter.detach()
    """
    return make_portrait(source if isinstance(source, Adapter) else load_alone(source), heads)
