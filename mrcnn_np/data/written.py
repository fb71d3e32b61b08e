"""A record of the files that were written into a folder, by which those are known that somebody has changed since."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from ..errors import UserError
from ..files import atomic_write, open_own, open_to_read, read_bytes

#: hidden, so that no reader takes it for a part of the data; our temporary files begin so, too
_OURS = ".mrcnn-np."
RECORD = f"{_OURS}written"
#: what programs that show folders leave in them
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}


class WrittenFiles:
    """The files that were written into a folder, each with the SHA-256 of every content that it was given.

    The record is a hidden file in the folder, a line of JSON for each content. A line is added before its file is
    written, so that an interruption leaves no file without.

    Parameters
    ----------
    folder : Path
        It need not exist before ``write``. What the record says of a folder that holds nothing else counts no longer.

    Attributes
    ----------
    names : list of str
        Files that were written before, in their order.

    Raises
    ------
    UserError
        The folder or the record cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        except OSError as error:
            raise UserError(f"cannot read {folder}: {error.strerror}") from error
        self._there = [name for name in there if name not in _LITTER and not name.startswith(_OURS)]
        self._known: dict[str, set[str]] = {}
        self._last = ""
        if self._there and RECORD in there:
            for line in read_bytes(folder / RECORD).splitlines():
                self._read(line)
        self.names = list(self._known)
        self._keep = bool(self.names)

    def _read(self, line: bytes) -> None:
        """Take over a line of the record; of a kill, one may be cut short."""
        try:
            value = json.loads(line)
            name, digest = str(value["name"]), str(value["sha256"])
        except (ValueError, KeyError, TypeError):
            return
        self._known.setdefault(name, set()).add(digest)
        self._last = name

    def changed(self) -> str:
        """Return what in the folder is not as it was written, in words; empty if all is, or the folder is."""
        for name in self._there:
            if name not in self._known:
                return f"it holds {name}, of which there is no record that detect wrote it"
            try:
                digest = _digest(self.folder / name)
            except OSError as error:
                return f"{name} in it cannot be read ({error.strerror})"
            if digest not in self._known[name]:
                return f"{name} in it was changed since detect wrote it"
        gone = [name for name in self._known if name not in set(self._there) and name != self._last]
        return f"{gone[0]} in it was removed since detect wrote it" if gone else ""

    def as_written(self, ends: tuple[str, ...]) -> list[str]:
        """Return the files with names that end so which are still as they were written; what cannot be read is not."""
        same = []
        for name in self._there:
            if name in self._known and name.endswith(ends):
                with suppress(OSError):
                    same += [name] if _digest(self.folder / name) in self._known[name] else []
        return same

    def same(self, name: str, data: bytes) -> bool:
        """Say whether this content was written under that name."""
        return hashlib.sha256(data).hexdigest() in self._known.get(name, ())

    def write(self, name: str, data: bytes) -> None:
        """Record a file and write it, atomically.

        Parameters
        ----------
        name : str
            Within the folder.
        data : bytes

        Raises
        ------
        UserError
            It cannot be written.
        """
        if not self.same(name, data):
            digest = hashlib.sha256(data).hexdigest()
            line = json.dumps({"name": name, "sha256": digest})
            try:
                with open_own(self.folder / RECORD, keep=self._keep) as file:
                    file.write(f"\n{line}".encode())  # ends a line that a kill cut short
            except OSError as error:
                raise UserError(f"cannot write {self.folder / RECORD}: {error.strerror}") from error
            self._keep = True
            self._known.setdefault(name, set()).add(digest)
        atomic_write(self.folder / name, data)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open_to_read(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
