"""Labelled images: a folder with a folder for each class, or an ``.npz`` of JPEG files."""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenslora.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SUFFIXES", "find_images", "open_image", "read_npz"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_ARRAYS = ("jpeg", "offsets", "label", "classes")


def find_images(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the paths of all images and, for each, the name of the folder that it is in.

    Raises
    ------
    DataError
        E705 where a class folder holds no image.
    """
    paths: list[Path] = []
    labels: list[str] = []
    for child in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        found = sorted(p for p in child.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            what = f"{child} holds no image"
            raise DataError("E705", what, advice=f"Images end in {', '.join(SUFFIXES)}.")
        paths += found
        labels += [child.name] * len(found)
    return paths, labels


def read_npz(path: Path) -> tuple[list[bytes], list[str]]:
    """Read JPEG files and class names from an ``.npz``.

    It holds ``jpeg`` (uint8, all files one after another), ``offsets`` (N + 1 integers), ``label``
    (N integers) and ``classes`` (names); image i is ``jpeg[offsets[i]:offsets[i + 1]]``.

    Raises
    ------
    DataError
        E701 where it is missing, E705 where it does not hold these arrays.
    """
    arrays = _load(path)
    offsets, label = arrays["offsets"], arrays["label"]
    names = [str(name) for name in arrays["classes"]]
    data = arrays["jpeg"].tobytes()
    problem = ""
    if len(offsets) != len(label) + 1:
        problem = f"{len(label)} labels go with {len(label) + 1} offsets, not {len(offsets)}"
    elif len(label) == 0:
        problem = "it holds no image"
    elif (offsets[1:] < offsets[:-1]).any() or offsets[0] < 0 or offsets[-1] > len(data):
        problem = "offsets do not rise within jpeg"
    elif label.min() < 0 or label.max() >= len(names):
        problem = f"label has values outside the {len(names)} classes"
    if problem:
        raise DataError("E705", f"{path}: {problem}", advice=_ADVICE)
    bounds = [int(n) for n in offsets]
    images = [data[a:b] for a, b in itertools.pairwise(bounds)]
    return images, [names[int(n)] for n in label]


_ADVICE = "It has to hold jpeg (uint8), offsets (N + 1), label (N) and classes (names)."


def _load(path: Path) -> dict[str, Any]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in _ARRAYS if name not in file.files]
            if missing:
                what = f"{path} has no array {missing[0]!r}"
                raise DataError("E705", what, advice=_ADVICE)
            return {name: file[name] for name in _ARRAYS}
    except FileNotFoundError:
        raise DataError("E701", f"there is no file {path}", advice="Check the path.") from None
    except DataError:
        raise
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        what = f"{path} is no .npz file of arrays: {error}"
        raise DataError("E705", what, advice=_ADVICE) from None


def open_image(source: bytes | Path | Any) -> Image:
    """Decode one image to RGB: from its bytes, its path, or an image already open.

    Raises
    ------
    DataError
        E705 where it cannot be decoded.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if isinstance(source, Image.Image):
            return source.convert("RGB")
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        what = f"an image cannot be decoded: {error}"
        raise DataError("E705", what, advice="Leave it out, or save it again.") from None


def open_images(sources: Sequence[Any]) -> list[Image]:
    """Decode several images; see :func:`open_image`."""
    return [open_image(source) for source in sources]
