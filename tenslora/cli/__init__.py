"""The command ``tenslora``.

Data goes to standard output and talk to standard error. A mistake of the user is one line and exit
code 2; a mistake of the program is one line and exit code 1. ``--debug`` shows the traceback.
"""

from __future__ import annotations

from tenslora.cli.app import main

__all__ = ["main"]
