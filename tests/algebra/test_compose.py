"""Operators on networks mean what numpy says, on random networks with random values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tenslora as tl
from tenslora.algebra import compose as two
from tenslora.algebra import modify as one
from tenslora.spec import parse
from tenslora.testing import dense, networks, numbers, sized_networks

LORA = parse("W[layer out in] = B[layer out r] A[layer r in]")


def single(network):
    """Whether every core stands in one place."""
    return len(network.cores) == sum(not c.is_constant for t in network.terms for c in t.cores)


def can_go(network, index):
    """Whether an index can be taken away: a core and a feature keep one, an array is one array."""
    cores = [c for t in network.terms for c in t.cores if not c.is_constant]
    first = {name: [[i == index for i in s] for s in c.slots] for name, c in network.cores.items()}
    return (
        {index} not in (set(network.output), set(network.input))
        and all(set(c.indices) != {index} for c in cores)
        and all([[i == index for i in s] for s in c.slots] == first[c.name] for c in cores)
        and not any(
            (index,) in c.slots and set(c.indices) != {index}
            for t in network.terms
            for c in t.cores
            if c.name == "eye"
        )
    )


def both(first, sizes, second, others, share=()):
    """Values of both networks, and of both under the names that `apart` gives the second."""
    f, g = numbers(first, sizes, seed=1), numbers(second, others, seed=2)
    g = {name: f[name] if name in share else array for name, array in g.items()}
    renamed, cores = two.apart(first, second, share)
    values = {**f, **{cores[name]: array for name, array in g.items()}}
    bonds = dict(zip(second.bonds, renamed.bonds, strict=True))
    known = {**others, **sizes, **{bonds[b]: others[b] for b in second.bonds}}
    return dense(first, f, sizes), dense(second, g, others), values, known


@given(sized_networks(max_cores=4, max_terms=2, max_size=3))
def test_sum_and_product_with_itself(sized):
    network, sizes = sized
    f, g, values, known = both(network, sizes, network, sizes)
    np.testing.assert_array_equal(dense(two.add(network, network), values, known), f + g)
    np.testing.assert_array_equal(dense(two.hadamard(network, network), values, known), f * g)


@given(data=st.data())
def test_sum_and_product_of_two(data):
    first, sizes = data.draw(sized_networks(max_cores=4, max_terms=2, max_size=3))
    cores = data.draw(st.integers(1, 3))
    # another network over the same target: one core for everything, or a chain of two
    target = " ".join(first.target.indices)
    side = data.draw(st.sampled_from(["first", "second"]))
    text = (
        f"{first.target} = "
        + [f"A0[{target}]", f"A0[{target} a] A1[a b] B[b]", f"Q[{target}]"][cores - 1]
    )
    assume(not {"a", "b"} & set(first.target.indices))
    second = parse(text)
    others = {**{i: sizes[i] for i in first.target.indices}, **dict.fromkeys(second.bonds, 2)}
    args = (first, sizes, second, others) if side == "first" else (second, others, first, sizes)
    f, g, values, known = both(*args)
    np.testing.assert_array_equal(dense(two.add(args[0], args[2]), values, known), f + g)
    np.testing.assert_array_equal(dense(two.hadamard(args[0], args[2]), values, known), f * g)


@given(sized_networks(max_cores=3, max_terms=2, max_size=2))
def test_kronecker(sized):
    network, sizes = sized
    made = two.kron(network, network)
    f, g = numbers(network, sizes, seed=1), numbers(network, sizes, seed=2)
    rows = len(network.output), len(network.input)
    assert len(made.output) == 2 * rows[0]
    known = dict(
        zip(
            made.features,
            [sizes[i] for i in network.output] * 2 + [sizes[i] for i in network.input] * 2,
            strict=True,
        )
    )
    known.update({s: sizes[s] for s in network.sites})
    values, bonds = _values_of(made, network, sizes, f, g)
    w = dense(made, values, {**known, **bonds})
    wf, wg = dense(network, f, sizes), dense(network, g, sizes)
    for site in np.ndindex(w.shape[:-2]):
        np.testing.assert_array_equal(w[site], np.kron(wf[site], wg[site]))


def _values_of(made, network, sizes, f, g):
    """Pair the cores and bonds of a product with the two factors', by place."""
    count = [len(t.cores) for t in network.terms]
    values, bonds = {}, {}
    n = 0
    for a, left in enumerate(network.terms):
        for b, right in enumerate(network.terms):
            term = made.terms[n]
            n += 1
            for k, core in enumerate((*left.cores, *right.cores)):
                new = term.cores[k]
                if not core.is_constant:
                    values[new.name] = (f if k < count[a] else g)[core.name]
                for old, now in zip(core.indices, new.indices, strict=True):
                    if old in network.bonds:
                        bonds[now] = sizes[old]
            assert len(term.cores) == count[a] + count[b]
    return values, bonds


@given(sized_networks(max_cores=3, max_terms=2, max_size=3))
def test_product_of_matrices(sized):
    network, sizes = sized
    square = one.transpose(one.rename(network, **{i: f"{i}_t" for i in network.input}))
    made = two.compose(square, network)  # F.T @ G
    f, g = numbers(network, sizes, seed=1), numbers(network, sizes, seed=2)
    values, bonds = _values_of_composed(made, square, network, sizes, f, g)
    w = dense(made, values, bonds)
    wf, wg = dense(network, f, sizes), dense(network, g, sizes)
    np.testing.assert_array_equal(w, np.swapaxes(wf, -1, -2) @ wg)


def _values_of_composed(made, square, network, sizes, f, g):
    values, known = {}, {}
    back = dict(
        zip(
            [i for t in square.terms for c in t.cores for i in c.indices],
            [i for t in network.terms for c in t.cores for i in c.indices],
            strict=True,
        )
    )
    n = 0
    for left in square.terms:
        for right in network.terms:
            term = made.terms[n]
            n += 1
            for k, core in enumerate((*left.cores, *right.cores)):
                new, first = term.cores[k], k < len(left.cores)
                if not core.is_constant:
                    values[new.name] = (f if first else g)[core.name]
                for old, now in zip(core.indices, new.indices, strict=True):
                    known[now] = sizes[back[old] if first else old]
    for slot, old in zip(
        made.target.slots, square.target.slots[:-1] + network.target.slots[-1:], strict=True
    ):
        for now, was in zip(slot, old, strict=True):
            known.setdefault(now, sizes[was if was in sizes else back.get(was, was)])
    return values, known


@given(sized_networks(max_size=3))
def test_transposed(sized):
    network, sizes = sized
    turned = one.transpose(network)
    names = [i for t in turned.terms for c in t.cores for i in c.indices]
    olds = [i for t in network.terms for c in t.cores for i in c.indices]
    known = {**sizes, **{new: sizes[old] for new, old in zip(names, olds, strict=True)}}
    cores = numbers(network, sizes)
    wanted = np.swapaxes(dense(network, cores, sizes), -1, -2)
    np.testing.assert_array_equal(dense(turned, cores, known), wanted)
    assert one.transpose(turned) == network


@given(data=st.data())
def test_tied_and_untied(data):
    network, sizes = data.draw(sized_networks(max_size=3).filter(lambda s: bool(s[0].sites)))
    site = data.draw(st.sampled_from(network.sites))
    assume(single(network))
    wide = one.untie(network, site)
    cores = numbers(network, sizes)
    # every value of the site the same: the tied network's W
    repeated = {}
    for name, core in wide.cores.items():
        slots = network.cores[name].slots
        axes = [n for n, s in enumerate(core.slots) if s == (site,) and s not in slots]
        array = cores[name]
        for axis in axes:
            array = np.repeat(np.expand_dims(array, axis), sizes[site], axis)
        repeated[name] = array
    np.testing.assert_array_equal(dense(wide, repeated, sizes), dense(network, cores, sizes))
    assert all(site in core.indices for core in wide.cores.values())


def test_tied():
    tied = one.tie(LORA, "layer")
    assert str(tied) == "W[layer out in] = B[out r] A[r in]"
    assert one.untie(tied, "layer") == LORA
    assert str(one.tie(LORA, "layer", "A")) == "W[layer out in] = B[layer out r] A[r in]"
    grouped = parse("W[layer out in] = B[out (layer r)] A[(layer r) in]")
    assert str(one.tie(grouped, "layer")) == "W[layer out in] = B[out r] A[r in]"


@given(data=st.data())
def test_split_and_joined(data):
    network, sizes = data.draw(sized_networks(max_size=2))
    index = data.draw(st.sampled_from(network.indices))
    parts = one.split(network, index, "y0", "y1")
    known = {**sizes, "y0": sizes[index], "y1": 1}
    cores = numbers(network, sizes)
    w = dense(parts, cores, known)
    np.testing.assert_array_equal(
        w.reshape(dense(network, cores, sizes).shape), dense(network, cores, sizes)
    )
    assert one.join(parts, "y0", "y1", into=index) == network


@given(data=st.data())
def test_restricted(data):
    network, sizes = data.draw(
        sized_networks(max_size=3, constants=False).filter(lambda s: bool(s[0].sites))
    )
    site = data.draw(st.sampled_from(network.sites))
    assume(all(set(c.indices) != {site} for t in network.terms for c in t.cores))
    assume(
        all(
            slot == (site,) or site not in slot
            for t in network.terms
            for c in t.cores
            for slot in c.slots
        )
    )
    assume(single(network))
    at = data.draw(st.integers(0, sizes[site] - 1))
    cores = numbers(network, sizes)
    chosen = {
        name: np.take(cores[name], at, core.slots.index((site,)))
        if (site,) in core.slots
        else cores[name]
        for name, core in network.cores.items()
    }
    small = one.restrict(network, site)
    w = np.take(dense(network, cores, sizes), at, network.sites.index(site))
    np.testing.assert_array_equal(dense(small, chosen, sizes), w)


@given(sized_networks())
def test_squeezed(sized):
    network, sizes = sized
    unit = [i for i in network.indices if sizes[i] == 1]
    for index in unit:
        if not can_go(network, index):
            with pytest.raises(tl.TensloraError, match="E123"):
                one.squeeze(network, index)
            continue
        small = one.squeeze(network, index)
        cores = numbers(network, sizes)
        shapes = {
            n: [int(np.prod([sizes[i] for i in s])) for s in c.slots]
            for n, c in small.cores.items()
        }
        values = {name: cores[name].reshape(shapes[name]) for name in small.cores}
        w = dense(small, values, sizes)
        np.testing.assert_array_equal(w.ravel(), dense(network, cores, sizes).ravel())


@given(networks())
def test_renamed_and_back(network):
    names = {n: f"{n}_x" for n in (*network.cores, *network.indices)}
    there = one.rename(network, **names)
    assert one.rename(there, **{new: old for old, new in names.items()}) == network
    assert parse(str(there)) == there


def test_loha_and_lokr_are_products():
    lora = tl.resolve("lora").network
    made = one.rename(two.hadamard(lora, lora), B="B1", A="A1", r2="s")
    assert made.canonical() == tl.resolve("loha").network.canonical()
    full = parse("W[layer proj out in] = C[layer proj out in]")
    made = two.kron(full, lora, out=("o1", "o2"), in_=("i1", "i2"))
    assert made.canonical() == tl.resolve("lokr").network.canonical()


def test_shared_cores_stay_one_array():
    made = two.add(LORA, LORA, share=["A"])
    assert (
        str(made)
        == "W[layer out in] = B[layer out r] A[layer r in] + B2[layer out r2] A[layer r2 in]"
    )
    # the rank of a shared core is one rank
    assert set(made.cores) == {"B", "A", "B2"}


ERRORS = {
    "unknown core": (lambda: one.rename(LORA, X="Y"), "E120: 'X' is no core or index"),
    "reserved": (lambda: one.rename(LORA, A="eye"), "E120: A of .* become the constant 'eye'"),
    "no name": (lambda: one.rename(LORA, A="a b"), "E120: 'a b' for A of .* is no name"),
    "a number": (lambda: one.rename(LORA, r=3), "E120: 3 for r of .* is no name"),
    "taken": (lambda: one.rename(LORA, B="A"), "E120: 'A' would stand for two things"),
    "target": (lambda: two.add(LORA, parse("W[out in] = T[out in]")), "E121: the sum of"),
    "hadamard": (lambda: two.hadamard(LORA, parse("W[out in] = T[out in]")), "E121"),
    "kron": (lambda: two.kron(LORA, parse("W[out in] = T[out in]")), "E121: .* same sites"),
    "kron names": (lambda: two.kron(LORA, LORA, out=("a",)), r"E122: out=\('a',\)"),
    "kron twice": (
        lambda: two.kron(LORA, LORA, out=("a", "b"), in_=("a", "c")),
        "E122: 'a' would stand twice in the target of the Kronecker product\n  Give out=",
    ),
    "kron number": (lambda: two.kron(LORA, LORA, out=("a", 3)), "E120: 3 for a part of out"),
    "compose": (lambda: two.compose(LORA, parse("W[out in] = T[out in]")), "E121"),
    "lengths": (
        lambda: two.compose(
            parse("W[out (a b)] = T[out a b]"), parse("W[(c d e) in] = T[c d e in]")
        ),
        "E121: .* groups of one length",
    ),
    "both sides": (
        lambda: two.compose(parse("W[a b] = T[a b]"), parse("W[c a] = T[c a]")),
        "E122: 'a' is an output of",
    ),
    "share": (lambda: two.add(LORA, LORA, share=["X"]), "E120: 'X' is not in both"),
    "share in a product": (
        lambda: two.hadamard(LORA, LORA, share=["r"]),
        "E120: core 'r' is not in both",
    ),
    "site": (lambda: one.tie(LORA, "proj"), "E120: 'proj' is no site"),
    "cores of tie": (lambda: one.tie(LORA, "layer", 3), "E120: 3 is no core"),
    "core of tie": (lambda: one.tie(LORA, "layer", ["X"]), "E120: 'X' is no core"),
    "nothing left": (
        lambda: one.tie(parse("W[k out in] = d[k] T[out in]"), "k"),
        r"E123: d\[k\] of .* would have no index left",
    ),
    "two places": (
        lambda: one.tie(parse("W[k out in] = M[k r] M[out r] A[r in]"), "k"),
        r"E123: M\[k r\] and M\[out r\] in .* are one array",
    ),
    "untied in two places": (
        lambda: one.untie(parse("W[k out in] = M[k r] M[out r] A[r in]"), "k"),
        "E123: .* are one array",
    ),
    "split": (lambda: one.split(LORA, "out", "a"), "E122: 'out' is split into a"),
    "split taken": (lambda: one.split(LORA, "out", "r", "s"), "E120: 'r' is an index"),
    "split unknown": (lambda: one.split(LORA, "x", "a", "b"), "E120: 'x' is no index"),
    "join": (lambda: one.join(LORA, "out", "in", into="x"), "E122: out in .* side by side"),
    "join nothing": (lambda: one.join(LORA, into="x"), "E122: nothing of .* joined into 'x'"),
    "join one twice": (lambda: one.join(LORA, "out", "out", into="x"), "E122: out, out of"),
    "join into none": (lambda: one.join(LORA, "out", "r", into="a b"), "E120: 'a b' for out r"),
    "split into none": (lambda: one.split(LORA, "out", "a", "1"), "E120: '1' for a part of out"),
    "join unknown": (lambda: one.join(LORA, "a", "b", into="x"), "E120"),
    "restrict": (lambda: one.restrict(LORA, "out"), "E120: 'out' is no site"),
    "eye": (
        lambda: one.restrict(parse("W[k out in] = eye[k r] T[r out in]"), "k"),
        "E123: .* ties 'k' to other indices",
    ),
    "squeeze": (lambda: one.squeeze(LORA, "out"), "E123: the output of"),
    "squeeze tied": (
        lambda: one.squeeze(parse("W[k out in] = eye[k z] T[z out] A[z in]"), "k"),
        "E123: an eye of .* makes z 1 as well as k",
    ),
    "squeeze unknown": (lambda: one.squeeze(LORA, "x"), "E120"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, text = ERRORS[name]
    with pytest.raises(tl.TensloraError, match=text):
        call()
