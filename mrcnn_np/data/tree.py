"""The files below a folder, or inside a zip file, which is read without unpacking it."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

from ..errors import DataError
from ..files import did_you_mean_path

#: folders below each other that are looked into
_DEPTH = 6
#: bytes of one file in a zip after which it is refused: a small zip can hold a file that fills the memory
_MOST_BYTES = 1 << 30


class Tree:
    """What is in a folder or a zip file.

    Parameters
    ----------
    root : path
        Of the folder or the zip file.
    only : str, optional
        ``root`` is a file of this name, and the tree is its folder with, of files of its kind, that one alone.

    Attributes
    ----------
    root : Path
    names : list of str
        Files, as ``a/b.png`` whatever the system's separator, in order. Hidden files and what macOS adds to a zip are
        left out.
    empty : set of str
        Folders, ending with "/", in which there may be nothing; of a zip all that it lists.

    Raises
    ------
    DataError
        It does not exist, or is neither a folder nor a zip file.
    """

    def __init__(self, root: str | Path, *, only: str | None = None) -> None:
        self.root = Path(root) if only is None else Path(root).parent
        self._zip: zipfile.ZipFile | None = None
        if self.root.is_dir():
            found = _below(self.root, "", _DEPTH if only is None else 1)
        elif self.root.is_file():
            self._zip = self._opened()
            self._entries = {name.replace("\\", "/"): name for name in self._zip.namelist()}
            found = list(self._entries)
        else:
            raise DataError(f"does not exist; expected a folder, or a zip file{did_you_mean_path(root)}", path=root)
        self.names = sorted(name for name in found if not name.endswith("/") and not _is_hidden(name))
        if only is not None:
            suffix = Path(only).suffix.lower()
            self.names = [name for name in self.names if name == only or not name.lower().endswith(suffix)]
        self.empty = {name for name in found if name.endswith("/")}

    def _opened(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.root)
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            cut = "; it begins like one and may be cut off: fetch it again" if self._begins_like_a_zip() else ""
            raise DataError(f"is no zip file that can be read ({error}){cut}; expected a folder, or a zip file that is "
                            "whole", path=self.root) from error  # fmt: skip

    def _begins_like_a_zip(self) -> bool:
        try:
            with open(self.root, "rb") as file:
                return file.read(2) == b"PK"
        except OSError:
            return False

    def path(self, name: str) -> Path:
        """Return the path of a file; of one in a zip that of the zip with the file's name behind it, for messages."""
        return self.root / name

    def content(self, name: str) -> bytes | None:
        """Return what a file in a zip holds; None in a folder, where the file itself can be opened."""
        if self._zip is None:
            return None
        try:
            entry = self._zip.getinfo(self._entries[name])
            if entry.file_size > _MOST_BYTES:
                raise ValueError(f"it has {entry.file_size} bytes")
            return self._zip.read(entry)
        except (KeyError, OSError, EOFError, ValueError, RuntimeError, NotImplementedError, MemoryError,
                zlib.error, zipfile.BadZipFile) as error:  # fmt: skip
            # RuntimeError: it is encrypted
            raise DataError(f"cannot be read ({error}); expected a zip file that is whole", path=self.path(name)) from (
                error
            )

    def read(self, name: str) -> bytes:
        """Return what a file holds."""
        content = self.content(name)
        if content is not None:
            return content
        try:
            return self.path(name).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"cannot be read ({reason})", path=self.path(name)) from error


def _below(folder: Path, prefix: str, depth: int) -> list[str]:
    """Return what is below a folder; links to folders are followed, and ``depth`` ends those that lead in a circle."""
    found: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir() and depth:
                    inside = _below(folder / entry.name, f"{prefix}{entry.name}/", depth - 1)
                    found += inside or [f"{prefix}{entry.name}/"]
                elif not entry.is_dir():
                    found.append(f"{prefix}{entry.name}")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}); expected a folder", path=folder) from error
    return found


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX/")) or "/." in name
