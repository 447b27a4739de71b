"""Where the types of other libraries are described: inventories for intersphinx, made here.

The pages are built where nothing can be fetched. So the names that signatures and pages use stand
below, each with the page that it has in the documentation of its library.
"""

from __future__ import annotations

import zlib
from pathlib import Path

__all__ = ["LIBRARIES", "write_inventories"]

_ABC = "library/collections.abc.html#{}"
_TORCH = "generated/{0}.html#{0}"

#: Library -> the address of its documentation; for each name the page and place there.
LIBRARIES: dict[str, tuple[str, dict[str, str]]] = {
    "python": (
        "https://docs.python.org/3/",
        {
            "typing.Any": "library/typing.html#{}",
            "typing.Literal": "library/typing.html#{}",
            "os.PathLike": "library/os.html#{}",
            "pathlib.Path": "library/pathlib.html#{}",
            **dict.fromkeys(
                [
                    f"collections.abc.{name}"
                    for name in ("Callable", "Collection", "Hashable", "Iterable", "Iterator")
                ]
                + ["collections.abc.Mapping", "collections.abc.Sequence"],
                _ABC,
            ),
        },
    ),
    "numpy": (
        "https://numpy.org/doc/stable/",
        {
            "numpy.ndarray": "reference/generated/{0}.html#{0}",
            "numpy.typing.NDArray": "reference/typing.html#{}",
        },
    ),
    "torch": (
        "https://docs.pytorch.org/docs/stable/",
        {
            "torch.Tensor": "tensors.html#{}",
            "torch.dtype": "tensor_attributes.html#{}",
            "torch.device": "tensor_attributes.html#{}",
            "torch.nn.Module": _TORCH,
            "torch.nn.Linear": _TORCH,
            "torch.nn.Parameter": "generated/torch.nn.parameter.Parameter.html"
            "#torch.nn.parameter.Parameter",
        },
    ),
}


def inventory(library: str) -> bytes:
    """Return the inventory of a library: each name in full, and as signatures abbreviate it."""
    _, names = LIBRARIES[library]
    lines = []
    for name, place in names.items():
        parts = name.split(".")
        for start in range(len(parts)):
            short = ".".join(parts[start:])
            lines.append(f"{short} py:class 1 {place.format(name)} {short}\n")
    head = f"# Sphinx inventory version 2\n# Project: {library}\n# Version: \n"
    head += "# The remainder of this file is compressed using zlib.\n"
    return head.encode() + zlib.compress("".join(lines).encode())


def write_inventories(folder: Path) -> dict[str, tuple[str, str]]:
    """Write the inventories into a folder, and return what ``intersphinx_mapping`` is to be."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for library, (address, _) in LIBRARIES.items():
        path = folder / f"{library}.inv"
        path.write_bytes(inventory(library))
        found[library] = (address, str(path))
    return found
