"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from tenslora.errors import StateError

__all__ = ["check_new", "write_folder", "write_new", "write_whole"]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one.

    The bytes go to a temporary file beside it, which is synced and then renamed; the folder is
    synced last, so that the name survives a power cut too.

    Raises
    ------
    OSError
        It cannot be written; what stood there stands there still, and no temporary file is left.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "a.bin", b"old")
    ...     write_whole(Path(folder) / "a.bin", b"new")
    ...     [(file.name, file.read_bytes()) for file in Path(folder).iterdir()]
    [('a.bin', b'new')]
    """
    temporary = _beside(path)
    try:
        _write_synced(temporary, data)
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder with these files in it: all of them, or no folder.

    Raises
    ------
    OSError
        It cannot be written, or something other than an empty folder stands there already.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_folder(Path(folder) / "new", {"a": b"1", "b": b"2"})
    ...     sorted(file.name for file in Path(folder).glob("*/*"))
    ['a', 'b']
    """
    temporary = _beside(path)
    try:
        temporary.mkdir()
        for name, data in files.items():
            _write_synced(temporary / name, data)
        _sync_folder(temporary)
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_new(path: Path) -> None:
    """Refuse a path at which something other than an empty folder stands.

    Raises
    ------
    StateError
        E616.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        what = f"{path} is there already, and not an empty folder"
        raise StateError("E616", what, advice="Give a new folder.")


def write_new(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder that a user has named, as `write_folder` does.

    Raises
    ------
    StateError
        E616 where it cannot be written.
    """
    check_new(path)
    try:
        write_folder(path, files)
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror or error}"
        advice = "Give a folder in one that exists and can be written."
        raise StateError("E616", what, advice=advice) from error


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # other systems cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
