"""The order of contraction: found exactly, explained, and emitted as a readable program."""

from tenslora.plan.cost import CPU, H200_BF16, PROFILES, Profile
from tenslora.plan.cut import cut_rank
from tenslora.plan.profiles import find_profile, profile_to_json
from tenslora.plan.program import Plan, make_plan
from tenslora.plan.saved import (
    inputs_per_token,
    listed_inputs,
    reads_input,
    saved_by_dense,
    saved_once,
    saved_per_token,
    shared_sites,
    updates_per_token,
)
from tenslora.plan.steps import Array, Chain, Pair, Part, Stage, Step
from tenslora.plan.table import Table
from tenslora.plan.ways import Way, find_ways

__all__ = [
    "CPU",
    "H200_BF16",
    "PROFILES",
    "Array",
    "Chain",
    "Pair",
    "Part",
    "Plan",
    "Profile",
    "Stage",
    "Step",
    "Table",
    "Way",
    "cut_rank",
    "find_profile",
    "find_ways",
    "inputs_per_token",
    "listed_inputs",
    "make_plan",
    "profile_to_json",
    "reads_input",
    "saved_by_dense",
    "saved_once",
    "saved_per_token",
    "shared_sites",
    "updates_per_token",
]
