"""The algebra of networks: operators, laws of rewriting, and proofs of special cases.

Everything here is structure: no sizes, no arrays, except where a proof is run on them.
"""

from __future__ import annotations
