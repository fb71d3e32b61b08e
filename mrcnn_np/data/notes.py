"""What was read otherwise than a file says: each kind once, with how many files it concerns and the first of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ..errors import DataWarning, printable


class Notes:
    """A collection of remarks about files.

    The first remark of a kind is a `DataWarning` at once, unless it is a quiet one; all are kept, so that they can be
    counted at the end. A file that is read again, in the next epoch say, counts once.

    Parameters
    ----------
    quiet : bool
        Say nothing, only keep.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._files: dict[str, dict[str, None]] = {}  # a dict as an ordered set

    def __bool__(self) -> bool:
        """Say whether there are any."""
        return bool(self._files)

    def add(self, kind: str, where: object, *, quiet: bool = False) -> None:
        """Note that the rule ``kind``, a sentence, was applied to ``where``: a file, or a place in one.

        Parameters
        ----------
        kind : str
        where : object
        quiet : bool
            It is no warning: nothing can be done about it, and only who asks what was noted hears of it.
        """
        first = kind not in self._files
        self._files.setdefault(kind, {})[str(where)] = None
        if first and not (quiet or self._quiet):
            warnings.warn(f"{printable(where)}: {kind}", DataWarning, stacklevel=3)

    def add_all(self, kind: str, where: Sequence[object]) -> None:
        """Note a kind of several places at once; what is said at once tells how many there are."""
        first = kind not in self._files
        for one in where:
            self.add(kind, one, quiet=True)
        if where and first and not self._quiet:
            more = f" and {len(where) - 1} more" if len(where) > 1 else ""
            warnings.warn(f"{printable(where[0])}{more}: {kind}", DataWarning, stacklevel=3)

    def take_over(self, others: Notes) -> None:
        """Add what others have, which has been said there."""
        for kind, files in others._files.items():
            self._files.setdefault(kind, {}).update(files)

    def count(self, kind: str) -> int:
        """Return how many files or places a kind concerns."""
        return len(self._files.get(kind, ()))

    def concerns(self, kind: str, where: object) -> bool:
        """Say whether a kind was noted of a file."""
        return str(where) in self._files.get(kind, {})

    def repeated(self) -> list[str]:
        """Return the lines of those kinds that concern more than what was said at once."""
        return [line for line, files in zip(self.lines(), self._files.values()) if len(files) > 1]

    def lines(self) -> list[str]:
        """Return one line for each kind: count, what it is, and the first example."""
        return [
            f"{len(files)} x {kind} (such as {printable(next(iter(files)))})" for kind, files in self._files.items()
        ]
