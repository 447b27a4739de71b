"""Every family against its formula, written out for numpy in the order of a weight matrix."""

from __future__ import annotations

import numpy as np
import pytest

import tenslora as tl
from tenslora import families

PLAIN = {"layer": 2, "proj": 3, "out": 6, "in": 7}
HEADS = {"layer": 2, "proj": 3, "head": 3, "head_dim": 4, "in": 5}
SPLIT = {"layer": 2, "proj": 3, "o1": 2, "o2": 3, "o3": 2, "i1": 3, "i2": 2, "i3": 2}
SPLIT2 = {"layer": 2, "proj": 3, "o1": 2, "o2": 3, "i1": 3, "i2": 2}
SITE2 = {"layer": 2, "proj": 3}
SITES_HEADS = {"site": 5, "head": 3, "head_dim": 4, "in": 5}
SITES = {"site": 5, "out": 6, "in": 7}

# l layer, p proj, s site, o out, h head, j head_dim, i in. Of (h j) the head varies slowest.
FORMULAS = {
    "lora": ("lpor,lpri->lpoi", "BA", PLAIN),
    "share_a": ("lpor,pri->lpoi", "BA", PLAIN),
    "share_b": ("por,lpri->lpoi", "BA", PLAIN),
    "moslora": ("lpob,lpba,lpai->lpoi", "BMA", PLAIN),
    "lora_xs": ("lpos,lpsr,lpri->lpoi", "URV", PLAIN),
    "tinylora": ("lpos,lpu,usr,lpri->lpoi", "UvPV", PLAIN),
    "randlora": ("onr,lprn,ri,lpni->lpoi", "BlAg", PLAIN),
    "tensor_ring": ("bot,lpab,tia->lpoi", "VGU", PLAIN),
    "block_term": ("zob,lpzab,zia->lpoi", "VGU", PLAIN),
    "hierarchical_tucker": (
        "ia,ob,abc,pd,le,def,cf->lpoi",
        ["U", "V", "G1", "P", "D", "G2", "G"],
        PLAIN,
    ),
    "cara": ("ir,hr,jr,sr,r->shji", "AHBSw", SITES_HEADS),
    "metatt5": ("jd,dhc,cpb,bla,ai->lphji", "BHPDA", HEADS),
    "cp_matrix": ("lpr,lpar,lpbr,lpdr,lper->lpabde", "wPQRS", SPLIT2),
    "tera": (
        "lpw,lpx,lpy,lpz,aw,bx,dy,ez,wxyz->lpabde",
        ["s1", "s2", "s3", "s4", "P", "Q", "R", "S", "G"],
        SPLIT2,
    ),
    "tt_matrix": ("lpadx,lpxbey,lpycf->lpabcdef", ["G1", "G2", "G3"], SPLIT),
    "loretta": (
        "lpax,lpxby,lpycz,lpzr,lprm,lpmdn,lpneq,lpqf->lpabcdef",
        ["B1", "B2", "B3", "B4", "A1", "A2", "A3", "A4"],
        SPLIT,
    ),
    "gralora": ("lptnso,lpncts->lptonc", "BA", {**SITE2, "t": 2, "o": 3, "n": 4, "c": 2}),
    "monarch": ("lpmsku,lpkumq->lpsmkq", "RL", {**SITE2, "s": 2, "l": 3, "k": 4, "p": 2}),
    "c3a": ("lpmnk,oik->lpmoni", "cE", {**SITE2, "m": 2, "o": 3, "n": 4, "i": 3}),
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
CONSTRUCTIONS = {
    "att": ("lpi lpj lph", HEADS),
    "qkv": ("li lo lp", PLAIN),
    "depth": ("pi po pl", PLAIN),
    "att_qkv": ("li lj lh lp", HEADS),
    "att_depth": ("pi pj ph pl", HEADS),
    "qkv_depth": ("i o p l", PLAIN),
    "att_qkv_depth": ("i j h p l", HEADS),
}
CORES = {"i": "U", "o": "V", "j": "V", "h": "H", "p": "P", "l": "D"}


def chained(modes, ring):
    """The subscripts of a train or a ring: bonds w x y z between the modes."""
    modes = modes.split()
    bonds = ["v" if ring else "", *"wxyz"[: len(modes) - 1], "v" if ring else ""]
    alone = modes[0][:-1]
    parts = [alone + bonds[n] + m[-1] + bonds[n + 1] for n, m in enumerate(modes)]
    return ",".join(parts), [CORES[m[-1]] for m in modes]


for word, (letters, sizes) in CONSTRUCTIONS.items():
    result = "lphji" if sizes is HEADS else "lpoi"
    for group in ("tenslora_tt", "tenslora_tr"):
        subscripts, names = chained(letters, group == "tenslora_tr")
        FORMULAS[f"{group}.{word}"] = (f"{subscripts}->{result}", names, sizes)

#: Families of two terms: the formulas of both, with their cores.
GATES = "lpabxy,lpxcdz,lpyzef->lpabcdef"
SUMS = {
    "pissa": ([("lpor,lpri->lpoi", "BA"), ("lpor,lpri->lpoi", "NM")], PLAIN),
    "fourierft": ([("lpn,on,ni->lpoi", "cCQ"), ("lpn,on,ni->lpoi", "cST")], PLAIN),
    "dota": (
        [("lpadx,lpxbey,lpycf->lpabcdef", [f"{k}{n}" for n in (1, 2, 3)]) for k in "GN"],
        SPLIT,
    ),
    "quanta": ([(GATES, [f"{k}{n}" for n in (3, 2, 1)]) for k in "TS"], SPLIT),
    "craft": (
        [
            ("pabc,pix,pxa,poy,pyb,plz,pzc->lpoi", cores)
            for cores in ("GUJVKDL", ["G", "U", "J0", "V", "K0", "D", "L0"])
        ],
        PLAIN,
    ),
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
    groups = [families.tenslora, families.tenslora_cp, families.tenslora_tt, families.tenslora_tr]
    catalogue += [getattr(group, name) for group in groups for name in group.__all__]
    named = {f.name for f in catalogue if isinstance(f, tl.Family)}
    assert named == set(FORMULAS) | set(SUMS)


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


@pytest.mark.parametrize("name", SUMS)
def test_formula_of_two_terms(name, make):
    terms, sizes = SUMS[name]
    network = tl.resolve(name).network
    ranks = {bond: 2 + n % 3 for n, bond in enumerate(network.bonds)}
    family = make(name, {**sizes, **ranks})
    expected = sum(np.einsum(text, *(family.core[c] for c in cores)) for text, cores in terms)
    delta = family.delta
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
