"""Files: written whole or not at all, never through a link; read with a message that names what is wrong with them.

Everything that this package writes goes through ``atomic_write`` (a whole file) or ``open_own`` (a file that grows), or
into a folder that it has just made itself. So a link in a folder that others can write never leads elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from . import schema as schemas
from .errors import UserError, most_similar

#: opening a pipe or a device does not wait (some systems lack these flags)
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
#: and a link is not followed
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | _AT_ONCE
#: seconds after which a temporary file belongs to nobody who is still writing
_STALE = 3600
#: the largest JSON file of our own that is read; theirs have a few kilobytes
_MOST_JSON = 64 << 20
#: names of a folder that a wrong one is compared with: more would take seconds
_MOST_COMPARED = 5000


#: folders that were made here, which `only_filled` removes if nothing came into them
_made: list[Path] = []

_TEMPORARY = re.compile(r"\.mrcnn-np\.[0-9a-f]{16}\.tmp")


def _temporary(folder: Path) -> Path:
    """Return a name that nobody can guess; it does not grow with the file's, which may be as long as names can be."""
    return folder / f".mrcnn-np.{secrets.token_hex(8)}.tmp"


# --- writing --------------------------------------------------------------------------------------------------------


def atomic_write(path: Path, data: bytes) -> None:
    """Replace a file, so that whoever looks, and whenever the power fails, finds the old content or the new.

    Parameters
    ----------
    path : Path
        A link of that name is replaced; what it leads to stays as it is.
    data : bytes

    Raises
    ------
    UserError
        The folder cannot be written, the disk is full, or the name belongs to a folder or a device; the old file is
        untouched.

    Notes
    -----
    The new content goes to a temporary file in the same folder (a rename works within one file system only) and is
    forced to disk *before* the rename, or a crash could leave the new name with empty content. The folder is forced
    to disk after it, or the rename itself could be lost. Nobody can guess the temporary name, and it is created, never
    opened: a link that waits there leads nowhere, and two writers do not meet. What a kill leaves behind,
    ``remove_leftovers`` removes.
    """
    path = Path(path)
    temporary = _temporary(path.parent)
    try:
        _require_replaceable(path)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte, or that the locale cannot encode
        kept = "; the file of that name is unchanged" if os.path.lexists(path) else ""
        raise UserError(f"cannot write {path}: {_reason(error)}{kept}") from error
    finally:
        with contextlib.suppress(OSError, ValueError):  # it is there only if something went wrong, an interruption say
            temporary.unlink()
        with contextlib.suppress(OSError, ValueError):
            path.with_name(f".{path.name}.tmp").unlink()  # an earlier version called it so


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically; bytes of a file name in it that are no UTF-8 are written out."""
    atomic_write(path, text.encode(errors="backslashreplace"))


def json_bytes(value: Any) -> bytes:
    """Return what ``write_json`` writes."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, atomically; a file name that is no UTF-8 is read back as it was."""
    atomic_write(path, json_bytes(value))


def open_own(path: Path, *, keep: bool = True) -> IO[bytes]:
    """Open a file that grows, to read it and to write at its end; it is made if it is not there.

    Parameters
    ----------
    path : Path
    keep : bool
        Whether what is in it stays.

    Raises
    ------
    OSError
        It cannot be opened, or is a link, a pipe, a device, or anything else that is no file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_LINK
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link; expected a file", str(path)) from error
        raise
    _require_regular(descriptor)
    file = os.fdopen(descriptor, "ab+")
    if not keep:
        file.truncate(0)
    return file


def prepare(folder: Path) -> None:
    """Create the folder and try to write into it, so that a hopeless run ends before it begins.

    Raises
    ------
    UserError
        The folder cannot be made, is a file, or cannot be written to.
    """
    make_folder(folder)
    try:
        probe = _temporary(folder)
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666))
        probe.unlink()
        remove_leftovers(folder, older=_STALE)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write into {folder}: {_reason(error)}") from error


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, unless it is there; a ``UserError`` names it if it cannot be made."""
    try:
        mkdir(folder)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write into {folder}: {_reason(error)}") from error


def mkdir(folder: Path) -> None:
    """Do what ``make_folder`` does, but raise the ``OSError`` or ``ValueError`` of a folder that cannot be made."""
    where = Path(folder).absolute()
    new = [path for path in (where, *where.parents) if not os.path.lexists(path)]
    where.mkdir(parents=True, exist_ok=True)
    _made.extend(reversed(new))


@contextlib.contextmanager
def only_filled() -> Iterator[None]:
    """Remove in the end the folders that were made meanwhile and hold nothing: a command that failed leaves none."""
    _made.clear()
    try:
        yield
    finally:
        for folder in reversed(_made):
            with contextlib.suppress(OSError):  # something is in it
                folder.rmdir()


def prepare_file(path: Path) -> None:
    """Find out, before the work begins, whether a file can be written.

    Raises
    ------
    UserError
        The name belongs to a folder or a device, or its folder cannot be made or written to.
    """
    path = Path(path)
    try:
        _require_replaceable(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write {path}: {_reason(error)}") from error
    prepare(path.parent)


def own_folder(folder: Path) -> None:
    """Create a folder inside one of ours; a link of its name is refused, because it would lead what we write elsewhere.

    Raises
    ------
    UserError
        It cannot be made, or is no folder.
    """
    try:
        folder.mkdir(exist_ok=True)
        if folder.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link; expected a folder")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write into {folder}: {_reason(error)}") from error


def remove_leftovers(folder: Path, *, older: float = 0.0) -> None:
    """Remove the temporary files that killed programs left in a folder.

    Parameters
    ----------
    folder : Path
    older : float
        Only those that have not changed for so many seconds: another program may still be writing a younger one.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                with contextlib.suppress(OSError):  # its owner may be renaming it just now
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime >= older:
                        os.unlink(entry.path)


def _require_replaceable(path: Path) -> None:
    """Raise ``OSError`` if there is something that a file must not replace; a link is replaced, not followed."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except NotADirectoryError:  # ``prepare`` says that of the folder
        return
    if stat.S_ISLNK(mode) and os.path.isdir(path):
        mode = os.stat(path).st_mode  # a link to a folder is a folder to whoever made it
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "it is a folder; expected the name of a file")
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise OSError(errno.EINVAL, "it is no regular file")


def _require_regular(descriptor: int) -> None:
    """Raise ``OSError``, and close it, if what was opened is no file: a device may never end."""
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a folder" if stat.S_ISDIR(mode) else "it is no regular file")


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# --- reading --------------------------------------------------------------------------------------------------------


def open_to_read(path: Path) -> IO[bytes]:
    """Open a file to read it; an ``OSError`` if it cannot be, or is a pipe or a device, which may never end."""
    descriptor = os.open(path, os.O_RDONLY | _AT_ONCE)
    _require_regular(descriptor)
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, *, most: int = _MOST_JSON) -> bytes:
    """Read a file of bounded size.

    Parameters
    ----------
    path : Path
    most : int
        Bytes.

    Raises
    ------
    UserError
        It cannot be read, is larger, or is a pipe or a device, which may never end.
    """
    try:
        with open_to_read(path) as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        meant = did_you_mean_path(path) if isinstance(error, FileNotFoundError) else ""
        raise UserError(f"cannot read {path}: {_reason(error)}{meant}") from error
    if len(data) > most:
        raise UserError(f"cannot read {path}: it has more than {most:,} bytes; expected a smaller file")
    return data


def read_json(path: Path, schema: Any = object) -> Any:
    """Read a JSON file and check what is in it.

    Parameters
    ----------
    path : Path
    schema : object
        What is expected in it, written as ``mrcnn_np/schema.py`` says; by default anything.

    Raises
    ------
    UserError
        It is missing, broken, or holds something else; the message names the file and the key.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    try:
        return schemas.loads(text, schema, str(path))
    except ValueError as error:
        raise UserError(str(error)) from error


def did_you_mean_path(path: str | Path, names: Iterable[str] = ()) -> str:
    """Return "; did you mean 'folder/that'?" for a path that does not exist, an empty text if nothing is similar.

    Compared are the last part of the path with what lies beside it, and with ``names``, which are no paths.
    """
    path, known = Path(path), {}
    with contextlib.suppress(OSError, ValueError), os.scandir(path.parent) as entries:
        known = {entry.name: str(path.parent / entry.name) for entry in islice(entries, _MOST_COMPARED)}
    known |= {name: name for name in names}
    similar = most_similar(path.name, known)
    return "" if similar is None else f"; did you mean {known[similar]!r}?"
