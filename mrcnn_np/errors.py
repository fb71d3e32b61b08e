"""Errors that a user can cause and can mend: the command line prints them as one message and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Something the user gave is wrong. The message names what, where, and what was expected."""

    def __str__(self) -> str:
        """Return the message; what it quotes from files may not give orders to the terminal."""
        return printable(super().__str__(), keep="\n")


class ConfigError(UserError):
    """A configuration value is unknown, of the wrong type, or contradicts another."""


class DataError(UserError):
    """An image, an annotation or a data set on disk cannot be used.

    Parameters
    ----------
    message : str
        What is wrong and what was expected.
    path : object, optional
        The file concerned; it is put in front of the message.
    image_id : str, optional
        The image concerned, so that a training loop can name it or skip it.
    """

    def __init__(self, message: str, *, path: object = None, image_id: str | None = None) -> None:
        self.path, self.image_id = path, image_id
        super().__init__(printable(f"{path}: {message}" if path is not None else message))


class DataWarning(UserWarning):
    """Something in the data was read by a rule that its owner may not expect."""


class CheckpointError(UserError):
    """A checkpoint is cut short, damaged, or belongs to another configuration."""


class DeviceMemoryError(UserError, MemoryError):
    """The memory of a GPU is full; the message says how much is needed and how much there is."""


class NonFiniteError(UserError):
    """A tensor holds NaN or infinity; the message names the first one met."""


class WeightFileError(UserError):
    """A file of weights cannot be read: it is no such file, cut short, damaged, or asks for more than arrays."""


class WeightMismatchError(WeightFileError):
    """Weights do not fit the network or its conventions; the message is a table."""


def some_of(words: Sequence[str], shown: int = 12) -> str:
    """Return the first words, and how many are left out: ``a, b and 3 more``."""
    rest = len(words) - shown
    return ", ".join(words[:shown]) + (f" and {rest} more" if rest > 0 else "")


def printable(text: object, keep: str = "") -> str:
    """Return a text from a file such that a terminal shows it and does not obey it: control characters as escapes.

    Parameters
    ----------
    text : object
        Whatever ``str`` makes a text of.
    keep : str
        Control characters that stay, as line breaks in a text of several lines.
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in str(text))


def did_you_mean(wrong: object, known: Iterable[str]) -> str:
    """Return "; did you mean 'that'?" with the most similar of the known names, an empty text if none is similar."""
    similar = most_similar(wrong, known)
    return "" if similar is None else f"; did you mean {similar!r}?"


def most_similar(wrong: object, known: Iterable[str]) -> str | None:
    """Return the most similar of the known names, None if none is similar."""
    names = {name.lower(): name for name in known}
    similar = difflib.get_close_matches(str(wrong)[:100].lower(), names, n=1) if isinstance(wrong, str) else []
    return names[similar[0]] if similar else None
