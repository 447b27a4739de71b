"""What each family of the catalogue is held against that was not written here.

A statement is data: which families, against what, by which test. The tests look that each test is
there and runs for exactly these families, and the documentation makes its table of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenslora.families.constructions import CONSTRUCTIONS

__all__ = ["AROUND", "CHECKS", "Check", "checks_of"]

_SEVEN = tuple(CONSTRUCTIONS)


def _seven(group: str) -> tuple[str, ...]:
    return tuple(f"{group}.{name}" for name in _SEVEN)


@dataclass(frozen=True)
class Check:
    """Families that are held against one thing.

    Attributes
    ----------
    against : what they are held against, the head of a column.
    text : what is compared.
    test : file and function below ``tests/families``; with one parameter a family where
        ``parametrized``.
    families : the names.
    parametrized : whether the test runs once for each family, under its name.
    """

    against: str
    text: str
    test: str
    families: tuple[str, ...]
    parametrized: bool = True


CHECKS: tuple[Check, ...] = (
    Check(
        "PEFT",
        "PEFT's layer with the same weights: output, gradients of the input and of every core",
        "test_peft.py::test_outputs_and_gradients",
        ("lora", "vera", "loha", "lokr"),
    ),
    Check(
        "PEFT",
        "PEFT's layer with the same weights: output, gradients of the input and of every core",
        "test_peft_structured.py::test_outputs_and_gradients",
        ("randlora", "tinylora", "lora_xs", "gralora", "c3a", "fourierft"),
    ),
    Check(
        "LyCORIS",
        "LyCORIS' module with the same weights: output and gradients",
        "test_lycoris.py::test_outputs_and_gradients",
        ("loha", "lokr"),
    ),
    Check(
        "tensorly",
        "tensorly's reconstruction of the stacked tensor: every entry, gradients of every core",
        "test_tensorly_gradients.py::test_w_and_its_gradients",
        (
            *_seven("tenslora"),
            *_seven("tenslora_cp"),
            *_seven("tenslora_tt"),
            *_seven("tenslora_tr"),
            "lora",
            "lorta",
            "cara",
            "cp_matrix",
            "metatt4",
            "metatt5",
            "tt_lora",
            "tt_matrix",
            "fact_tt",
            "fact_tk",
            "lotr",
            "block_term",
        ),
    ),
    Check(
        "published count",
        "TensLoRA's own predictor at ranks 4 and 8",
        "test_counts.py::test_tenslora_at_equal_ranks",
        _SEVEN,
    ),
    Check(
        "published count",
        "PEFT's method comparison on Llama-3.2-3B",
        "test_counts.py::test_the_figures_of_pefts_method_comparison_on_llama",
        ("lora", "loha", "vera"),
        parametrized=False,
    ),
    Check(
        "published count",
        "its authors' figure for RoBERTa-base: 3,168",
        "test_counts.py::test_lotr_on_roberta_base",
        ("lotr",),
        parametrized=False,
    ),
    Check(
        "published count",
        "its paper's figure of 193 numbers a component",
        "test_counts.py::test_cp_of_a_matrix",
        ("cp_matrix",),
        parametrized=False,
    ),
    Check(
        "published count",
        "its paper's figures for RoBERTa: 0.024 and 0.048 million",
        "test_counts.py::test_fourierft_on_roberta",
        ("fourierft",),
        parametrized=False,
    ),
    Check(
        "published count",
        "its paper's figure for RoBERTa-large: 60 thousand",
        "test_counts.py::test_lora_xs_on_roberta_large",
        ("lora_xs",),
        parametrized=False,
    ),
)

#: What the wrappers, which go around any family, are held against; ``families`` has their names.
AROUND: tuple[Check, ...] = (
    Check(
        "PEFT",
        "PEFT's layers on a model, with the same weights: output, gradients of the input and of "
        "every tensor, merged weights, parameters",
        "test_peft_wrappers.py::test_outputs_and_gradients",
        ("dora", "hira"),
    ),
    Check(
        "numpy formula",
        "the weights of the formula, around LoRA, a tied pair, Tucker and CP on three models",
        "../nn/test_wrappers.py::test_the_model_runs_as_with_the_weights_of_the_formula",
        ("dora", "hira"),
    ),
    Check(
        "numpy formula",
        "the sum over experts written out for numpy.einsum",
        "../nn/test_wrappers.py::test_a_router_against_numpy",
        ("router",),
        parametrized=False,
    ),
)


def checks_of(name: str) -> dict[str, tuple[str, ...]]:
    """Return what a family is held against, and the sentences that say how.

    Parameters
    ----------
    name : of a family of the catalogue.

    Examples
    --------
    >>> list(checks_of("loha"))
    ['PEFT', 'LyCORIS', 'published count']
    """
    found: dict[str, tuple[str, ...]] = {}
    for check in CHECKS:
        if name in _names(check):
            found[check.against] = (*found.get(check.against, ()), check.text)
    return found


def _names(check: Check) -> tuple[str, ...]:
    """The full names: the test of the predictor knows the constructions by their last part."""
    return _seven("tenslora") if check.families == _SEVEN else check.families
