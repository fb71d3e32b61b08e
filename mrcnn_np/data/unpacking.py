"""Zips of formats whose readers open files by their path: unpacked once, into a folder beside the zip."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path, PurePosixPath

from ..errors import DataError
from .tree import Tree

#: in the folder, the size and the time of the zip that it came from
ORIGIN = ".unpacked_from"


def holds_annotations(path: Path) -> bool:
    """Tell whether a file is a zip with files that can be annotations: JSON or XML."""
    return path.suffix.lower() == ".zip" and any(name.lower().endswith((".json", ".xml")) for name in Tree(path).names)


def unpacked(path: Path) -> Path:
    """Return the folder of what a zip holds, which has the name of the zip and lies beside it; made if it is not there.

    A folder that is there is taken if it came from this very zip. It appears whole or not at all. Where all lies in
    one folder of the zip, that one is returned.

    Raises
    ------
    DataError
        The zip is damaged, a name in it leads out of the folder, the disk is full, or the folder is another zip's.
    """
    folder = path.with_name(f"{path.stem}.unpacked")
    status = path.stat()
    origin = f"{path.name} {status.st_size} {status.st_mtime_ns}\n"
    if not folder.exists():
        _unpack(path, folder, origin)
    elif not _came_from(folder, origin):
        raise DataError(
            f"would be unpacked into {folder}, which is there and came from something else; expected no such folder "
            "(remove or rename it, or give the folder itself)",
            path=path,
        )
    inside = [entry for entry in folder.iterdir() if entry.name != ORIGIN]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and inside[0].name != "images" else folder


def _came_from(folder: Path, origin: str) -> bool:
    return (folder / ORIGIN).is_file() and (folder / ORIGIN).read_text(encoding="utf-8") == origin


def _unpack(path: Path, folder: Path, origin: str) -> None:
    """Write all files of a zip below a new folder."""
    tree, part = Tree(path), None
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        for name in tree.names:
            place = PurePosixPath(name)
            # "..", as all that begins with a dot, is not among the tree's names
            if place.is_absolute() or ":" in place.parts[0]:
                raise DataError(f"holds a file {name!r}; expected names that stay in its folder", path=path)
            target = part.joinpath(*place.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(tree.read(name))
        (part / ORIGIN).write_text(origin, encoding="utf-8")
        part.chmod(0o755)  # mkdtemp lets nobody else in
        try:
            part.rename(folder)
        except OSError:  # another process, as of ranks that begin together, may have been first
            if not _came_from(folder, origin):
                raise
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"cannot be unpacked into {folder} ({reason}); unpack it and give the folder", path=path) from (
            error
        )
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
