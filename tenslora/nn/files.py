"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

__all__ = ["write_whole"]


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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # other systems cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
