"""Why a figure is missed, as far as profiling has shown, and what was tried. By key of the
figure.
"""

from __future__ import annotations

__all__ = ["REASONS"]

REASONS: dict[str, str] = {}
