"""PEFT knows the method after ``import tenslora``, whatever is imported first."""

from __future__ import annotations

import subprocess
import sys

import peft
import pytest

import tenslora as tl
from tenslora.errors import AttachError
from tenslora.integrations.peft.registering import register


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("first", ["tenslora, peft", "peft, tenslora"])
def test_peft_knows_it_whatever_comes_first(first):
    code = f"import sys, {first}; print('TENSLORA' in peft.PeftType.__members__)\n"
    code += "print([type(f).__name__ for f in sys.meta_path if 'tenslora' in type(f).__module__])\n"
    code += "print(type(peft.__loader__).__name__, peft.__loader__ is peft.__spec__.loader)"
    assert python(code) == "True\n[]\nSourceFileLoader True\n"


def test_a_member_of_the_enum_like_any_other():
    kinds = peft.PeftType
    assert kinds.TENSLORA == kinds("TENSLORA") == kinds["TENSLORA"] == "TENSLORA"
    assert kinds.TENSLORA in list(kinds)
    assert kinds.TENSLORA.name == kinds.TENSLORA.value == "TENSLORA"
    import copy
    import pickle

    assert copy.deepcopy(kinds.TENSLORA) is pickle.loads(pickle.dumps(kinds.TENSLORA))


def test_a_method_of_that_name_in_peft_itself_is_left_alone():
    with pytest.raises(AttachError) as caught:
        register(tl.TensLoraConfig, object)
    assert str(caught.value) == (
        "E530: this peft has a method TENSLORA of its own\n  Use that one, or an older peft."
    )
    from tenslora.integrations.peft import TensLoraModel

    register(tl.TensLoraConfig, TensLoraModel)  # a second time changes nothing


def test_what_keeps_the_integration_away_is_told_and_peft_is_imported_all_the_same(tmp_path):
    (tmp_path / "fake_library.py").write_text("value = 1\n")
    (tmp_path / "fake_integration.py").write_text("import nowhere_at_all\n")
    code = (
        f"import sys, warnings; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from tenslora.late import when_imported\n"
        "when_imported('fake_library', 'fake_integration')\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    import fake_library\n"
        "print(fake_library.value, caught[0].category.__name__, caught[0].message)\n"
    )
    expected = "1 TensloraWarning fake_library does not know tenslora: No module named "
    assert python(code) == expected + "'nowhere_at_all'\n"
