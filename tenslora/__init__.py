"""tenslora: low-rank and tensor adapters, written as equations."""

__version__ = "0.1.0"
