"""Files: written whole or not at all, read with a message that names them, found writable before the work begins."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from .errors import UserError


def atomic_write(path: Path, data: bytes) -> None:
    """Replace a file, so that whoever looks, and whenever the power fails, finds the old content or the new.

    Raises
    ------
    UserError
        The folder cannot be written or the disk is full; the old file is untouched.

    Notes
    -----
    The new content goes to a temporary file in the same folder (a rename works within one file system only) and is
    forced to disk *before* the rename, or a crash could leave the new name with empty content. The folder is forced
    to disk after it, or the rename itself could be lost.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        kept = "; the file of that name is unchanged" if path.exists() else ""
        raise UserError(f"cannot write {path}: {error.strerror or error}{kept}") from error
    finally:
        with contextlib.suppress(OSError):  # it is there only if something went wrong, an interruption for example
            temporary.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, atomically."""
    # a file name that is no UTF-8 becomes \udcXX, which JSON reads back as it was
    atomic_write(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one is a ``UserError`` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def prepare(folder: Path) -> None:
    """Create the folder and try to write into it, so that a hopeless run ends before it begins.

    Raises
    ------
    UserError
        The folder cannot be made, is a file, or cannot be written to.
    """
    probe = folder / ".writable.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror or error}") from error


def prepare_file(path: Path) -> None:
    """Find out, before the work begins, whether a file can be written.

    Raises
    ------
    UserError
        There is a folder of that name, or its own folder cannot be made or written to.
    """
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; expected the name of a file")
    prepare(path.parent)
