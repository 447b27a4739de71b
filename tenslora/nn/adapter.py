"""The handle of an attached adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tenslora.family import Family
from tenslora.nn import install, merge, summary
from tenslora.nn.site import Site
from tenslora.nn.standing import Standing

if TYPE_CHECKING:
    from tenslora.algebra import Proof
    from tenslora.family import Memory
    from tenslora.figure import Picture
    from tenslora.nn.export import Exported
    from tenslora.nn.portrait import Portrait

__all__ = ["Adapter"]


class Adapter(Standing):
    """An adapter on a model, made by :func:`tenslora.attach` or :func:`tenslora.load`.

    Attributes
    ----------
    name : its name on the model.
    family : the family that it runs.
    banks : one :class:`~tenslora.nn.bank.Bank` for each shape of target, by name ("768x768").

    Examples
    --------
    >>> import torch, tenslora as tl
    >>> model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 4))
    >>> adapter = tl.attach(model, "W[out in] = B[out r] A[r in]", targets="all-linear", ranks=2)
    >>> adapter
    <Adapter 'default' W[out in] = B[out r] A[r in]: 2 sites, 52 parameters, attached>
    >>> list(adapter.banks)
    ['8x6', '4x8']
    >>> adapter.merge()
    >>> adapter.merged, list(model.state_dict())
    (True, ['0.weight', '0.bias', '1.weight', '1.bias'])
    >>> adapter.unmerge()
    """

    def delta(self, where: str | Site) -> Tensor:
        """Return scale * W (out, in), differentiable, in the dtype of the cores.

        In a wrapper it is what the weight of the model changes by.

        Parameters
        ----------
        where : a site, or the path of a target; for a fused module the rows of all its sites, zero
            where it has none.

        Raises
        ------
        AttachError
            E501 where the adapter does not cover it, E520 for a router.
        """
        return merge.delta(self, where)

    def merge(self, *, safe: bool = True, reversible: bool = True) -> None:
        """Add the update to the weights, and take the bank and the targets' hooks off the model.

        W is computed in float64 (float32 where the device has no float64) and rounded once to the
        weight's dtype. The original weights are kept for :meth:`unmerge`. While it is merged the
        model has no trace of the adapter but an empty ``tenslora`` with its two hooks on the model
        itself, and its ``state_dict`` the keys of the base. ``detach(keep=True)`` takes these off
        too.

        Parameters
        ----------
        safe : refuse an update that is not finite.
        reversible : keep the weights of before. Without them one weight at a time is held twice
            instead of all of them, and :meth:`unmerge` is refused.

        Raises
        ------
        AttachError
            E511 where it is merged already, E512 for an update that is not finite, E513 for a
            weight that is tied, quantised or otherwise not a plain matrix, E520 for a router.
            Nothing was changed.
        """
        self._check_attached()
        self._check_merged(False, "Unmerge it before merging it again.")
        merge.merge(self, safe=safe, reversible=reversible)

    def unmerge(self) -> None:
        """Put the original weights back, bit for bit, and run the adapter by hooks again.

        Raises
        ------
        AttachError
            E511 where it is not merged, or not reversibly, where another adapter was merged on top,
            or where a weight was changed since.
        """
        self._check_attached()
        self._check_merged(True, "Merge it first.")
        merge.unmerge(self)

    def detach(self, *, keep: bool = False) -> None:
        """Take the adapter off, and leave the model bit for bit as it was before.

        Modules in ``train`` get back the values that they had. When the last adapter goes,
        ``requires_grad`` of every parameter is as it was before the first came.

        Parameters
        ----------
        keep : leave merged weights and trained modules as they are now.

        Raises
        ------
        AttachError
            E511 where it is merged and ``keep`` is false.
        """
        self._check_attached()
        if not keep:
            advice = "detach(keep=True) leaves them merged."
            if all(item.original is not None for item in self.merged_weights):
                advice = f"unmerge() gives the weights back; {advice}"
            self._check_merged(False, advice)
        install.detach(self, keep=keep)

    def lift(
        self,
        general: str | Family,
        *,
        proof: Proof | None = None,
        free: bool = False,
        sizes: Mapping[str, int] | None = None,
    ) -> Adapter:
        """Replace this adapter by one of a larger family that has the same update.

        What was trained here is the exact starting point there. Sites, scale, dropout, the modules
        in ``train`` and the name stay; the ranks follow from the proof. A checkpoint is lifted by
        loading, lifting and saving it.

        Parameters
        ----------
        general : the family, its name, or an equation.
        proof : that this family is a special case of it, from :func:`tenslora.check` or
            :func:`tenslora.embeds`; by default it is searched for.
        free : search for ranks that do not grow with a size.
        sizes : sizes of feature indices that the larger family has and neither this adapter nor the
            model tells, such as ``{"head": 12}``. A part that the proof aligns with one of this
            adapter has its size.

        Returns
        -------
        Adapter
            The new adapter; this one is detached. Its parameters are new, and so has to be the
            optimiser.

        Raises
        ------
        AttachError
            E506 for sizes that do not fit or are missing, E511 where it is merged, E517 where no
            proof is found, the one given is about other families, a size is not the one that this
            adapter needs, or the update would differ, E520 in a wrapper; nothing was changed.
        """
        from tenslora.nn.lifting import lifted

        self._check_attached()
        self._check_merged(False, "Unmerge it first.")
        self._check_plain("be lifted")
        return lifted(self, general, proof=proof, free=free, sizes=sizes)

    def memory(self, batch: Any, rows: int | None = None, *, optimizer: str = "adamw") -> Memory:
        """Estimate the memory of a training step, in bytes, from two forwards of one and two rows.

        Counted are the weights and buffers of model and adapter, a gradient for each trained
        number, the optimiser's states, every tensor that autograd keeps from a forward in train
        mode for its backward, and two gradients as large as the largest of these, which backward
        holds at once. Not counted are the batch, results that no backward needs, and what an
        allocator holds in reserve.

        Parameters
        ----------
        batch : what the model is called with, rows first: a mapping from names to tensors, a tuple,
            or one tensor. Labels belong to it where the loss is computed inside.
        rows : rows of a batch in training; by default those of ``batch``, which may have fewer.
        optimizer : ``adamw``, ``adam``, ``momentum`` or ``sgd``.

        Raises
        ------
        SizeError
            E212 for a batch without rows, or an optimiser that is not known; the model is as it
            was, modes, buffers and random states included.
        """
        from tenslora.nn.memory import estimate

        self._check_attached()
        return estimate(self, batch, rows, optimizer=optimizer)

    def save(self, path: str | Path, *, write: bool = True) -> None:
        """Write cores, trained modules and everything needed to read them to one safetensors file.

        The file appears whole or not at all. :func:`tenslora.load` reads it.

        Parameters
        ----------
        path : the file.
        write : where several processes train one model, every process calls this, for FSDP2 has
            left a part of each core with each of them, and one of them writes:
            ``adapter.save(path, write=rank == 0)``.
        """
        from tenslora.nn import state

        state.save(self, path, write=write)

    def export_lora(
        self,
        path: str | Path,
        *,
        rank: int | None = None,
        pad: bool = True,
        dtype: torch.dtype | None = None,
        apart: bool = False,
    ) -> Exported:
        """Write the same update as a plain LoRA, the folder that PEFT, vLLM and others load.

        DoRA around any family becomes PEFT's LoRA with ``use_dora``.

        Every weight gets one pair of matrices of one rank: the smallest at which the export is
        exact to the rounding of its dtype. The scale stands in the numbers (``lora_alpha`` is the
        rank), parts of fused weights share one pair, and modules in ``train`` become
        ``modules_to_save``.

        Parameters
        ----------
        path : a folder that is not there yet, or is empty.
        rank : take the nearest matrices of this rank instead, by a truncated SVD of each update;
            the report says how near.
        pad : fill up with zeros to a rank that servers have room for: 8, 16, 32, 64, 128, 256, 320
            or 512.
        dtype : of the numbers; by default that of the cores, float32 at least.
        apart : write modules in ``train`` to a file of their own, ``trained_modules.safetensors``,
            under their names in the model, for servers that refuse ``modules_to_save``.

        Returns
        -------
        Exported
            The ranks, the largest relative error of an update, and what was written. The adapter
            and the model stay as they are.

        Raises
        ------
        AttachError
            E518 where the exact LoRA would be larger than the weights or of rank above 512, or
            PEFT could not tell a module in ``train`` from another; E512 for values that are not
            finite; E520 for HiRA and a router.
        SizeError
            E206 for a rank that is no positive integer.
        StateError
            E616 where it cannot be written.
        """
        from tenslora.nn.export import export_lora

        self._check_attached()
        return export_lora(self, path, rank=rank, pad=pad, dtype=dtype, apart=apart)

    def load(self, path: str | Path) -> None:
        """Read the values of a file that this adapter, or its equal, saved.

        Raises
        ------
        StateError
            The file is broken or belongs to another adapter; nothing was changed.
        """
        from tenslora.nn import state

        state.load_into(self, path)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of the cores and of the modules in ``train``, under the names of the file.

        With :meth:`load_state_dict` this makes an adapter what ``torch.distributed.checkpoint``
        saves and loads: ``dcp.save({"adapter": adapter}, checkpoint_id=folder)``. Tensors that
        FSDP2 has cut into parts stay so.
        """
        from tenslora.nn import state

        return state.tensors_of(self)

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take the values that :meth:`state_dict` of this adapter, or of its equal, returned.

        Raises
        ------
        StateError
            E612 for missing or unknown tensors, E613 for other shapes, E617 where they belong to an
            adapter of other sites, sizes or scale; nothing was changed.
        """
        from tenslora.nn import state

        state.set_tensors(self, state_dict)

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`save` writes beside the numbers."""
        from tenslora.nn import state

        return state.describe(self)

    def portrait(self, *, heads: int | None = None) -> Portrait:
        """Measure the updates as they are now; see :func:`tenslora.portrait`."""
        from tenslora.nn.portrait import portrait

        return portrait(self, heads=heads)

    def plot(
        self,
        path: str | Path | None = None,
        *,
        what: str | None = None,
        against: Adapter | str | Path | None = None,
        heads: int | None = None,
    ) -> Picture:
        """Draw the updates as they are now, with matplotlib.

        Parameters
        ----------
        path : where to write the picture: ``.svg``, ``.png`` or ``.pdf``.
        what : ``"norms"`` by layer and projection (the default), ``"heads"``, or ``"spectra"`` mode
            by mode with the ranks in use; beside another adapter ``"comparison"`` (the default), or
            ``"spectra"``.
        against : what it was before: another adapter of the same weights, or a file as for
            :func:`tenslora.portrait`.
        heads : heads in the output of a weight, for an equation without an index ``head``.

        Returns
        -------
        Picture
            A notebook shows it; ``figure`` is matplotlib's own.

        Raises
        ------
        DataError
            E710 where matplotlib is not installed, E711 where the file cannot be written, E716 for
            another picture, or adapters without a weight in common.
        """
        from tenslora.nn.portrait import portrait

        now = portrait(self, heads=heads)
        if against is None:
            picture = now.plot(what or "norms")
        else:
            picture = now.compare(portrait(against)).plot(what or "comparison")
        return picture if path is None else picture.save(path)

    def summary(self) -> str:
        """Return a table of the banks and their cores, with parameters."""
        return summary.summary(self)
