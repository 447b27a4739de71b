"""Write constraints.txt: the exact versions of the environment that this script runs in.

Usage: .venv/bin/python tools/pin.py > constraints.txt
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

_SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
_LEFT_OUT = {"pip", "setuptools", "wheel", "tenslora"}
_HEADER = """\
# The whole tested environment, made by tools/pin.py from a real one (CPython {python}).
# A package that no longer runs on an old Python is left free there.
"""


def marker(dist: Distribution) -> str:
    """Return the environment marker that leaves out the Pythons that ``dist`` does not run on."""
    wanted = SpecifierSet(dist.metadata["Requires-Python"] or "")
    able = [python for python in _SUPPORTED if f"{python}.99" in wanted]
    return "" if able == list(_SUPPORTED) else f' ; python_version >= "{able[0]}"'


def main() -> None:
    """Print one line for each installed distribution."""
    found = {canonicalize_name(dist.metadata["Name"]): dist for dist in distributions()}
    python = ".".join(map(str, sys.version_info[:2]))
    sys.stdout.write(_HEADER.format(python=python))
    for name in sorted(found.keys() - _LEFT_OUT):
        version = re.sub(r"\+.*", "", found[name].version)  # 2.13.0+cpu: any build of it
        sys.stdout.write(f"{name}=={version}{marker(found[name])}\n")


if __name__ == "__main__":
    main()
