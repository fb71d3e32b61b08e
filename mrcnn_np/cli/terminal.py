"""What commands print: characters that a terminal would obey, as names in others' files may hold, are escaped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from ..errors import printable


class Escaped:
    """A stream that is written to with escapes in the place of control characters, and is otherwise what it was.

    Line breaks and tabs stay, and a carriage return at the beginning, with which progress bars draw over themselves.

    Parameters
    ----------
    stream : TextIO
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text and return its length."""
        if not text.isprintable():
            start = "\r" if text.startswith("\r") else ""
            self._stream.write(start + printable(text[len(start) :], keep="\n\t"))
        else:
            self._stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        """Whatever else a stream can do."""
        return getattr(self._stream, name)


@contextmanager
def escaped() -> Iterator[None]:
    """Let a block print to both standard streams without characters that a terminal obeys."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Escaped(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
