"""Text to network and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenslora.errors import SpecError
from tenslora.spec import Core, parse
from tenslora.testing import networks


def test_an_equation_whole():
    n = parse("W[layer (h d) in] = B[(h d) r] eye[r s] A[s in] + c[h] ones[d] u[in]")
    assert n.target == Core("W", (("layer",), ("h", "d"), ("in",)))
    assert [[core.name for core in term.cores] for term in n.terms] == [
        ["B", "eye", "A"],
        ["c", "ones", "u"],
    ]
    assert n.terms[0].cores[0].slots == (("h", "d"), ("r",))


@pytest.mark.parametrize(
    "text",
    [
        "W[out in]=B[out r]A[r in]",
        "  W [ out in ]\n  =\n\tB[out\nr] A[  r in ]  ",
        "W[out in] = B[out r] A[r in]",
    ],
)
def test_white_space_means_nothing(text):
    assert str(parse(text)) == "W[out in] = B[out r] A[r in]"


@pytest.mark.parametrize(
    "text",
    [
        "W[out in] = D[out in]",
        "delta_W[_a b2] = _x[_a b2]",  # any name
        "W[out in] = B[out r] M[r r2] A[r2 in]",
        "W[in out] = B[in r] A[r out]",  # the place counts, not the word
        "W[l p out in] = B[out] A[in]",  # sites on no core
        "W[out in] = A[out r] A[in r]",  # one array twice
        "W[out in] = B1[out r] A1[r in] B2[out s] A2[s in]",  # a Hadamard product
        "W[l (h d) in] = V[d r] H[h r] D[l r] A[in r]",  # one bond in four cores
        "W[(t o) (n c)] = B[t n s o] A[n c t s]",
        "W[out in] = B[out (r s)] A[(r s) in]",  # groups on cores
        "W[out in] = B[(out r)] A[(r in)]",
        "W[out in] = eye[out in]",
        "W[out in] = ones[out in] eye[out in] ones[out in]",
        "W[out in] = B[out r] A[r in] + b[out] ones[in] + B[out r] C[r in]",
        "W[out in] = B[out in] C[r] D[r]",  # a scalar factor
    ],
)
def test_round_trips(text):
    n = parse(text)
    assert str(n) == text
    assert parse(str(n)) == n


@given(networks())
def test_what_is_printed_is_read_back(network):
    assert parse(str(network)) == network


@given(networks(), st.randoms(use_true_random=False))
def test_white_space_is_free_everywhere(network, random):
    text = str(network)
    for mark in "[]()=+":
        text = text.replace(mark, random.choice(["", " ", "\n", "\t "]).join(["", mark, ""]))
    assert parse(text) == network


def outcome(text):
    """The network, or the error."""
    try:
        return parse(text)
    except SpecError as error:
        return error


@given(st.text(alphabet="WABout in[]()=+ ri,\n", max_size=40))
def test_any_text_is_a_network_or_an_error_with_code_and_place(text):
    found = outcome(text)
    if isinstance(found, SpecError):
        assert found.code.startswith("E1")
        assert found.advice
        assert found.text == text
        assert 0 <= found.span[0] < found.span[1] <= len(text) + 1
    else:
        assert parse(str(found)) == found


@given(networks(), st.data())
def test_a_text_that_is_cut_or_garbled_never_fails_in_another_way(network, data):
    text = str(network)
    at = data.draw(st.integers(0, len(text)))
    middle = data.draw(st.sampled_from(["", " ", "x", "[", "]", "(", ")", "+", "="]))
    garbled = text[:at] + middle + text[at + data.draw(st.integers(0, 2)) :]
    found = outcome(garbled)
    if isinstance(found, SpecError):
        assert str(found).startswith(f"{found.code}: ")
        first = garbled[: found.span[0]].rfind("\n") + 1
        assert 0 <= first <= found.span[0] <= len(garbled)
    else:
        assert parse(str(found)) == found
