"""Running plans on arrays: numpy, torch and jax, each imported when it is first asked for."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

from tenslora.backends.base import Backend, Executable
from tenslora.errors import PlanError
from tenslora.plan import Plan

__all__ = ["NAMES", "Backend", "Executable", "executable", "get", "infer"]

#: The backends there are.
NAMES = ("numpy", "torch", "jax")

#: The package that an array's type comes from, and the backend for it.
_PACKAGES = {"numpy": "numpy", "torch": "torch", "jax": "jax", "jaxlib": "jax"}


def get(name: str) -> Backend:
    """Return a backend by name, importing its library.

    Raises
    ------
    PlanError
        E408 for an unknown name, or a library that is not installed.

    Examples
    --------
    >>> get("numpy").name
    'numpy'
    """
    if name not in NAMES:
        what = f"{name!r} is not a backend"
        raise PlanError("E408", what, advice=f"The backends are {', '.join(NAMES)}.")
    try:
        module = importlib.import_module(f"tenslora.backends.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != name:
            raise
        what = f"the {name} backend needs {name}, which is not installed"
        raise PlanError("E408", what, advice=f'Run: pip install "tenslora[{name}]".') from error
    backend: Backend = module.BACKEND
    return backend


def infer(array: Any) -> Backend:
    """Return the backend of an array, from its type.

    Raises
    ------
    PlanError
        E408 for a type of no backend.

    Examples
    --------
    >>> import numpy as np
    >>> infer(np.zeros(3)).name
    'numpy'
    """
    for kind in type(array).__mro__:
        name = _PACKAGES.get(kind.__module__.partition(".")[0])
        if name is not None:
            return get(name)
    what = f"{type(array).__name__} is an array of no backend"
    raise PlanError("E408", what, advice=f"The backends are {', '.join(NAMES)}.")


@lru_cache(maxsize=512)
def executable(plan: Plan, backend: Backend) -> Executable:
    """Compile a plan for a backend; the same object for the same two.

    Examples
    --------
    >>> import numpy as np
    >>> from tenslora.plan import make_plan
    >>> from tenslora.spec import parse
    >>> plan = make_plan(parse("W[out in] = B[out r] A[r in]"), {"out": 2, "in": 3, "r": 1})
    >>> run = executable(plan, get("numpy"))
    >>> cores = {"B": np.array([[1.0], [2.0]]), "A": np.array([[1.0, 0.0, 1.0]])}
    >>> run.delta(cores)
    array([[1., 0., 1.],
           [2., 0., 2.]])
    >>> run.apply(cores, np.array([[1.0, 1.0, 1.0]]), {})
    array([[2., 4.]])
    """
    return Executable(plan, backend)
