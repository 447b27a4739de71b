"""Every way in which an equation can be ill formed, with the whole text of its error."""

from __future__ import annotations

import pytest

from tenslora.errors import SpecError
from tenslora.spec import parse
from tenslora.spec.check import MAX_CORES, MAX_NAME, MAX_TEXT

EXAMPLE = "An equation looks like W[out in] = B[out r] A[r in]."
NAMES = "Names are letters, digits and _; marks are [ ] ( ) = and +."
GROUP = "A group joins two or more: (head head_dim). Write a single index without ( )."
TWICE = "Use two names; join them by a core eye[i j] if they must agree."

# Each block: the first line of the error, the equation, the carets, the advice.
ERRORS = f"""
E101: the language has no character ','
    W[out in] = B[out, r] A[r in]
                     ^
  Indices are separated by spaces.

E101: the language has no character '*'
    W[out in] = B[out r] * A[r in]
                         ^
  Cores side by side are multiplied; no sign is needed.

E101: the language has no character '-'
    W[out in] = B[out r] A[r in] - C[out in]
                                 ^
  Terms are added; put a sign into a core's start or into the scale.

E101: the language has no character '&'
    W[out in] = B[out r] & A[r in]
                         ^
  {NAMES}

E101: the language has no character '8'
    W[out in] = B[out 8] A[8 in]
                      ^
  {NAMES}

E101: the language has no character 'é'
    W[été in] = A[été in]
      ^
  {NAMES}

E102: expected '[' after W, found the end of the text
    W
     ^
  {EXAMPLE}

E102: expected '=' after the target, found the end of the text
    W[out in]
             ^
  {EXAMPLE}

E102: expected a core, such as A[r in], found the end of the text
    W[out in] =
               ^
  {EXAMPLE}

E102: expected an index or the ']' that closes B[, found '['
    W[out in] = B[out r A[r in]
                         ^
  {EXAMPLE}

E102: expected a core, such as A[r in], found the end of the text
    W[out in] = B[out r] A[r in] +
                                  ^
  {EXAMPLE}

E102: expected a core, '+' or the end, found ']'
    W[out in] = B[out r] A[r in]]
                                ^
  {EXAMPLE}

E102: expected the target, such as W[out in], found '['
    [out in] = B[out in]
    ^
  {EXAMPLE}

E102: expected an index or the ')' that closes the group, found '('
    W[out in] = B[((out r) s) in]
                   ^
  {EXAMPLE}

E102: core C has no index
    W[out in] = B[out] A[in] C[]
                             ^^^
  Write C[i] with an index; a factor belongs in the scale.

E103: bond 'j' ends nowhere: it occurs in one core only.
    W[out in] = B[out r] A[r j]
                             ^
  Did you mean A[r in]?

E103: bond 'r' ends nowhere: it occurs in one core only.
    W[out in] = B[out r] A[rr in]
                      ^
  Did you mean B[out rr]?

E103: bond 'laer' ends nowhere: it occurs in one core only.
    W[layer out in] = B[out laer] A[r in]
                            ^^^^
  Did you mean B[out layer]?

E103: bond 'x' ends nowhere: it occurs in one core only.
    W[out (i1 i2)] = B[out r] A[r i1 x]
                                     ^
  Did you mean A[r i1 i2]?

E103: bond 'r' ends nowhere: it occurs in one core only.
    W[out in] = B[out in r]
                         ^
  Give 'r' to a second core of the term, or drop it.

E103: bond 'r' ends nowhere: it occurs in one core only.
    W[out in] = B[out r] A[r in] + C[out in r]
                                            ^
  Give 'r' to a second core of the term, or drop it.

E104: input index 'in' has no core
    W[out in] = B[out]
          ^^
  Let a core carry 'in', or write ones[in].

E104: output index 'head' has no core
    W[(head head_dim) in] = B[head_dim in]
       ^^^^
  Let a core carry 'head', or write ones[head].

E104: output index 'out' has no core in term 2, A[in]
    W[out in] = B[out in] + A[in]
      ^^^
  Let a core carry 'out', or write ones[out].

E105: index 'r' stands twice in core B
    W[out in] = B[out r r] A[r in]
                        ^
  {TWICE}

E105: index 'r' stands twice in core B
    W[out in] = B[out (r s) r] A[r s in]
                            ^
  {TWICE}

E105: index 'out' stands twice in the target
    W[out out] = B[out r] A[r in]
          ^^^
  {TWICE}

E106: the target W[in] needs an output and an input slot
    W[in] = A[in]
    ^^^^^
  Write W[out in] or with sites before.

E107: a group of one index
    W[out in] = B[(out) in]
                  ^^^^^
  {GROUP}

E107: an empty group
    W[out in] = B[out () in]
                      ^^
  {GROUP}

E107: the site slot 'layer proj' is a group
    W[(layer proj) out in] = B[out in]
       ^^^^^
  Write the sites one by one: layer proj.

E108: 'eye' is a reserved constant core
    eye[out in] = B[out in]
    ^^^^^^^^^^^
  Give the target another name, such as W.

E108: the target 'W' stands on the right-hand side
    W[out in] = B[out r] W[r in]
                         ^^^^^^^
  Give the core another name.

E108: eye[out] needs two slots or more: it is 1 where they agree
    W[out in] = eye[out] A[in]
                ^^^^^^^^
  Use ones[...] for a constant vector.

E109: core B has 2 slots in B[out r] and 3 here
    W[out in] = B[out r] B[r in s] A[s in]
                         ^^^^^^^^^
  The same name is the same array: give them two names.
"""
BLOCKS = ERRORS.strip().split("\n\n")


@pytest.mark.parametrize("block", BLOCKS, ids=[b.splitlines()[1].strip() for b in BLOCKS])
def test_the_error_says_what_where_and_what_to_do(block):
    first, equation, _, _ = block.splitlines()
    with pytest.raises(SpecError) as info:
        parse(equation[4:])
    assert str(info.value) == block
    assert info.value.code == first[:4]


def test_the_empty_text():
    with pytest.raises(SpecError) as info:
        parse("")
    assert str(info.value) == (
        "E102: expected the target, such as W[out in], found the end of the text\n"
        f"    \n    ^\n  {EXAMPLE}"
    )


@pytest.mark.parametrize("value", [3, None, b"W[out in] = A[out in]", ["W"]])
def test_what_is_no_text(value):
    with pytest.raises(SpecError) as info:
        parse(value)
    kind = type(value).__name__
    assert str(info.value) == f"E102: an equation is a string, not {kind}\n  {EXAMPLE}"


def test_the_caret_stands_under_the_line_that_is_wrong():
    with pytest.raises(SpecError) as info:
        parse("W[out in] =\n  B[out r]\n\tA[r j]")
    assert str(info.value).splitlines()[1:3] == ["     A[r j]", "         ^"]


def test_of_a_long_line_the_part_around_the_mistake_is_shown():
    cores = " ".join(f"A{n}[out in]" for n in range(40))
    with pytest.raises(SpecError) as info:
        parse(f"W[out in] = {cores} B[out in j] {cores}")
    line, caret = str(info.value).splitlines()[1:3]
    assert len(line) < 110
    assert line.startswith("    ...")
    assert line.endswith("...")
    assert line[caret.index("^")] == "j"
    assert caret.strip() == "^"


def test_too_long_a_text():
    with pytest.raises(SpecError) as info:
        parse("W[out in] = B[out in]" + " " * MAX_TEXT)
    assert str(info.value) == (
        f"E110: the text has {MAX_TEXT + 21:,} characters; the limit is {MAX_TEXT:,}\n"
        "  Share cores by a site index instead."
    )


def test_too_many_cores():
    parse("W[out in] = " + "B[out in] " * MAX_CORES)
    with pytest.raises(SpecError) as info:
        parse("W[out in] = " + "B[out in] " * (MAX_CORES + 1))
    first, _, carets, advice = str(info.value).splitlines()
    assert first == f"E110: the equation has {MAX_CORES + 1} cores; the limit is {MAX_CORES}"
    assert carets == "    ^^^^^^^^^"
    assert advice == "  Share cores by a site index instead."


def test_too_long_a_name():
    good, bad = "r" * MAX_NAME, "r" * (MAX_NAME + 1)
    parse(f"W[out in] = B[out {good}] A[{good} in]")
    with pytest.raises(SpecError) as info:
        parse(f"W[out in] = B[out {bad}] A[{bad} in]")
    first, line, _, advice = str(info.value).splitlines()
    assert first == f"E110: a name of {MAX_NAME + 1} characters; the limit is {MAX_NAME}"
    assert line.startswith("    W[out in] = B[out rrr")
    assert advice == "  Use a shorter name."


def test_deep_nesting_is_no_recursion():
    with pytest.raises(SpecError, match="E102"):
        parse("W[out in] = B[" + "(" * 10_000)
