"""A folder for compiled kernels into which nobody else can put any.

Numba keeps an index of what it compiled as a pickle, and machine code beside it: whoever can write there runs code as
whoever reads it. So the folder is one's own, and nobody else can change it, or put another in its place.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from pathlib import Path

#: links on the way to a folder; the kernel of Linux follows as many
LINKS = 40


def private_folder(path: Path) -> Path:
    """Return a folder that only its owner, who is the one who runs this, can enter; make it if it is not there.

    Parameters
    ----------
    path : Path
        What is missing of it is made, for the owner alone (0700).

    Returns
    -------
    Path
        The same folder without symbolic links on the way.

    Raises
    ------
    OSError
        It cannot be made or written; it belongs to someone else, or others can enter it; a folder or a link on the way
        belongs to someone else than the owner and root, or can be replaced by others. (In a folder like ``/tmp``, which
        all can write and whose sticky bit is set, only their owners can replace things.)
    """
    if not hasattr(os, "geteuid"):  # Windows: folders in a home are the owner's
        path.mkdir(parents=True, exist_ok=True)
        return path
    folder = _walk(path.absolute())
    status = folder.lstat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"others can enter {folder}; `chmod 700` it, or delete it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written")
    return folder


def temporary_folder() -> Path:
    """Make a folder that nobody knows of before, and that goes when the program ends.

    Raises
    ------
    OSError
        There is no place for temporary files, or others can replace what is in it.
    """
    folder = Path(tempfile.mkdtemp(prefix="mrcnn_np-")).resolve()
    atexit.register(_remove, folder, os.getpid())
    mode = folder.parent.stat().st_mode
    if hasattr(os, "geteuid") and mode & 0o022 and not mode & stat.S_ISVTX:
        raise PermissionError(f"others can replace what is in {folder.parent}; expected its sticky bit, or TMPDIR")
    return folder


def _remove(folder: Path, made_by: int) -> None:
    if os.getpid() == made_by:  # a forked process ends earlier
        shutil.rmtree(folder, ignore_errors=True)


def _walk(path: Path) -> Path:
    """Go down an absolute path, make what is missing, and look at every folder and link on the way."""
    at = Path(path.anchor)
    _check(at, at.lstat())
    todo, links = list(reversed(path.parts[1:])), 0
    while todo:
        part = todo.pop()
        if part == "..":
            at = at.parent
            continue
        here = at / part
        try:
            status = here.lstat()
        except FileNotFoundError:
            here.mkdir(mode=0o700, exist_ok=True)
            status = here.lstat()
        _check(here, status)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > LINKS:
                raise OSError(f"{path} has too many links on the way")
            target = Path(os.readlink(here))
            at = Path(target.anchor) if target.is_absolute() else at
            todo += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        elif stat.S_ISDIR(status.st_mode):
            at = here
        else:
            raise NotADirectoryError(f"{here} is no folder")
    return at


def _check(path: Path, status: os.stat_result) -> None:
    """Refuse a folder or a link that someone else can replace or write into."""
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{path} belongs to another user")
    if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise PermissionError(f"others can write into {path}")
