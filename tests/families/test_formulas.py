"""Every family against its formula, written out for numpy in the order of a weight matrix."""

from __future__ import annotations

import numpy as np
import pytest

import tenslora as tl
from tenslora import families

PLAIN = {"layer": 2, "proj": 3, "out": 6, "in": 7}
HEADS = {"layer": 2, "proj": 3, "head": 3, "head_dim": 4, "in": 5}
SPLIT = {"layer": 2, "proj": 3, "o1": 2, "o2": 3, "o3": 2, "i1": 3, "i2": 2, "i3": 2}
SITES = {"site": 5, "out": 6, "in": 7}

# l layer, p proj, s site, o out, h head, j head_dim, i in. Of (h j) the head varies slowest.
FORMULAS = {
    "lora": ("lpor,lpri->lpoi", "BA", PLAIN),
    "vera": ("lpo,or,lpr,ri->lpoi", "bBdA", PLAIN),
    "tied_lora": ("lpo,or,lpr,ri->lpoi", "bBdA", PLAIN),
    "loha": ("lpor,lpri,lpos,lpsi->lpoi", ["B1", "A1", "B2", "A2"], PLAIN),
    "lotr": ("pos,lpsr,pri->lpoi", "BGA", PLAIN),
    "fact_tt": ("ob,sba,ia->soi", "VSU", SITES),
    "fact_tk": ("ob,abc,sc,ia->soi", "VCPU", SITES),
    "metatt4": ("oc,cpb,bla,ai->lpoi", "BPDA", PLAIN),
    "lorta": ("ir,hr,jr,lr,pr->lphji", "AHBDP", HEADS),
    "lokr": ("lpac,lpbr,lprd->lpabcd", "CBA", SPLIT),
    "tt_lora": (
        "lpax,lpxby,lpycz,lpzdu,lpuev,lpvf->lpabcdef",
        ["G1", "G2", "G3", "G4", "G5", "G6"],
        SPLIT,
    ),
    "tenslora.att": ("lpia,lpjb,lphc,lpabc->lphji", "UVHG", HEADS),
    "tenslora.qkv": ("lia,lob,lpc,labc->lpoi", "UVPG", PLAIN),
    "tenslora.depth": ("pia,pob,plc,pabc->lpoi", "UVDG", PLAIN),
    "tenslora.att_qkv": ("lia,ljb,lhc,lpd,labcd->lphji", "UVHPG", HEADS),
    "tenslora.att_depth": ("pia,pjb,phc,pld,pabcd->lphji", "UVHDG", HEADS),
    "tenslora.qkv_depth": ("ia,ob,pc,ld,abcd->lpoi", "UVPDG", PLAIN),
    "tenslora.att_qkv_depth": ("ia,jb,hc,pd,le,abcde->lphji", "UVHPDG", HEADS),
    "tenslora_cp.att": ("lpir,lpjr,lphr->lphji", "UVH", HEADS),
    "tenslora_cp.qkv": ("lir,lor,lpr->lpoi", "UVP", PLAIN),
    "tenslora_cp.depth": ("pir,por,plr->lpoi", "UVD", PLAIN),
    "tenslora_cp.att_qkv": ("lir,ljr,lhr,lpr->lphji", "UVHP", HEADS),
    "tenslora_cp.att_depth": ("pir,pjr,phr,plr->lphji", "UVHD", HEADS),
    "tenslora_cp.qkv_depth": ("ir,or,pr,lr->lpoi", "UVPD", PLAIN),
    "tenslora_cp.att_qkv_depth": ("ir,jr,hr,pr,lr->lphji", "UVHPD", HEADS),
}
WITH_HEADS = [name for name, (_, _, sizes) in FORMULAS.items() if sizes is HEADS]


def made(make, name, **cores):
    """A family with a different rank on every bond."""
    network = tl.resolve(name).network
    sizes = {i: n for i, n in FORMULAS[name][2].items() if i in network.target.indices}
    ranks = {bond: 2 + n % 3 for n, bond in enumerate(network.bonds)}
    return make(name, {**sizes, **ranks}, **cores)


def test_every_family_has_its_formula():
    catalogue = [getattr(families, name) for name in families.__all__]
    groups = [families.tenslora, families.tenslora_cp]
    catalogue += [getattr(group, name) for group in groups for name in group.__all__]
    assert {f.name for f in catalogue if isinstance(f, tl.Family)} == set(FORMULAS)


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name, make):
    subscripts, cores, _ = FORMULAS[name]
    family = made(make, name)
    expected = np.einsum(subscripts, *(family.core[core] for core in cores))
    delta = family.delta
    assert delta.shape == tuple(
        np.prod([family.bound.sizes[i] for i in slot]) for slot in family.bound.network.target.slots
    )
    np.testing.assert_allclose(delta, expected.reshape(delta.shape), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", WITH_HEADS)
@pytest.mark.parametrize("head", range(HEADS["head"]))
def test_a_head_is_a_block_of_rows(name, head, make):
    """Rows head * head_dim ... of W are that head's, as in a Hugging Face projection."""
    before = made(make, name)
    factor = before.core["H"].copy()
    axis = before.bound.network.cores["H"].indices.index("head")
    factor[(slice(None),) * axis + (head,)] = 0.0
    after = made(make, name, H=factor).delta
    rows = slice(head * HEADS["head_dim"], (head + 1) * HEADS["head_dim"])
    assert not np.any(after[:, :, rows])
    others = np.delete(np.arange(HEADS["head"] * HEADS["head_dim"]), rows)
    assert np.all(np.any(before.delta[:, :, rows], axis=-1))
    np.testing.assert_allclose(after[:, :, others], before.delta[:, :, others], atol=1e-12)


@pytest.mark.parametrize("name", WITH_HEADS)
def test_one_head_at_a_time_with_loops(name, make):
    """Without einsum: the sum over all bonds, an entry at a time, for one weight matrix."""
    family = made(make, name)
    subscripts, names, _ = FORMULAS[name]
    inputs, _ = subscripts.split("->")
    label = {"l": 1, "p": 2}
    cores = []
    for text, core in zip(inputs.split(","), names, strict=True):
        at = tuple(label.get(letter, slice(None)) for letter in text)
        cores.append(("".join(c for c in text if c not in label), family.core[core][at]))
    bonds = sorted({c for text, _ in cores for c in text if c not in "hji"})
    length = {c: a.shape[n] for text, a in cores for n, c in enumerate(text)}
    row, column = 7, 3  # head 1 of 3, entry 3 of 4
    total = 0.0
    for values in np.ndindex(*(length[b] for b in bonds)):
        at = {**dict(zip(bonds, values, strict=True)), "h": 1, "j": 3, "i": column}
        total += np.prod([array[tuple(at[c] for c in text)] for text, array in cores])
    assert family.delta[1, 2, row, column] == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_cut_rank_is_the_rank_of_a_random_update(name, make):
    """So every family is in LoRA at that rank, weight by weight."""
    family = made(make, name)
    ranks = np.linalg.matrix_rank(family.delta)
    assert np.all(ranks == family.bound.cut_rank)
