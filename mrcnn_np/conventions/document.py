"""The parts of a page that a command writes: they stand between two comments that Markdown does not show.

::

    <!-- numbers: make docs-numbers -->
    ...
    <!-- end of numbers -->
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UserError
from ..files import atomic_write
from .plots import save_chart, save_crops
from .report import markdown
from .switchboard import Switchboard
from .symptoms import markdown_index
from .table import markdown_table

PARTS = ("symptoms", "numbers", "fields")
#: pictures beside the page
CHART, CROPS = "conventions.png", "conventions-crops.png"


def rewrite(path: Path, board: Switchboard, class_names: Sequence[str], title: str) -> None:
    """Write the index of symptoms, a measurement with its two pictures, and the table of all fields into a page.

    Parameters
    ----------
    path : Path
        A Markdown file with the comments for ``symptoms``, ``numbers`` and ``fields``; ``CHART`` and ``CROPS`` are
        written beside it.
    board : Switchboard
    class_names : sequence of str
        Entry 0 is background.
    title : str
        What was measured on what.

    Raises
    ------
    UserError
        The file cannot be read, or lacks a comment.
    """
    text = read_page(path)
    numbers = markdown(board, class_names, title).replace("(conventions.png)", f"({CHART})")
    parts = {"symptoms": markdown_index(), "numbers": numbers.replace("(crops.png)", f"({CROPS})")}
    text = replaced(text, parts | {"fields": markdown_table()}, path)
    save_chart(path.parent / CHART, board, title)
    save_crops(path.parent / CROPS, board, class_names, title)
    atomic_write(path, text.encode())


def read_page(path: Path) -> str:
    """Read a page that ``rewrite`` can do with, else raise ``UserError``: called before anything is measured."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}; expected a page of Markdown") from error
    replaced(text, dict.fromkeys(PARTS, ""), path)
    return text


def replaced(text: str, parts: Mapping[str, str], source: object) -> str:
    """Put new parts between their comments.

    Parameters
    ----------
    text : str
        The page.
    parts : mapping of str to str
        What is to stand between ``<!-- name: ... -->`` and ``<!-- end of name -->``.
    source : object
        The file, for the message.

    Raises
    ------
    UserError
        A comment is missing, or there are several.
    """
    for name, part in parts.items():
        places = list(comments(name).finditer(text))
        if len(places) != 1:
            raise UserError(
                f"{source} has no one place for {name}; expected <!-- {name}: HOW IT IS MADE --> before it and "
                f"<!-- end of {name} --> behind"
            )
        before, behind = places[0].start(2), places[0].end(2)
        text = f"{text[:before]}\n{part.strip()}\n\n{text[behind:]}"
    return text


def part_of(text: str, name: str) -> str:
    """Return what stands between the comments of one name."""
    found = comments(name).search(text)
    return found[2].strip() + "\n" if found else ""


def comments(name: str) -> re.Pattern[str]:
    """Return the pattern of a part: its first comment, what it holds, its last comment."""
    return re.compile(rf"(<!-- {name}: [^\n]* -->)\n(.*?)(<!-- end of {name} -->)", re.DOTALL)
