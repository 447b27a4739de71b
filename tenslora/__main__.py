"""``python -m tenslora`` is the command ``tenslora``."""

from __future__ import annotations

from tenslora.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
