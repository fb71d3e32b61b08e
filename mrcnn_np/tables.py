"""Tables as text for a terminal and as Markdown: cells come as strings, lines go out; control characters escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .errors import printable


def text_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    align: str = "<",
    least: Sequence[int] = (),
    indent: str = "",
    gap: str = "  ",
    rule: bool = False,
) -> str:
    """Return rows in columns, each as wide as its widest cell; no line ends in spaces.

    Parameters
    ----------
    head : sequence of str
        The headings; empty for a table without.
    rows : iterable of sequence of str
        As many cells each as there are headings.
    align : str
        ``<`` or ``>`` for each column: to the left or to the right. The last one holds for all further columns.
    least : sequence of int
        Least widths of the first columns.
    indent : str
        Before each line.
    gap : str
        Between columns.
    rule : bool
        Draw a line of dashes below the headings.

    Returns
    -------
    str
        Without a line break at its end; empty if there are neither headings nor rows.

    Raises
    ------
    ValueError
        Rows have different numbers of cells.
    """
    lines = [tuple(map(printable, row)) for row in (*([head] if head else []), *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths = [max(width, floor) for width, floor in zip(widths, (*least, *[0] * len(widths)))]
    sides = align + align[-1] * len(widths)
    if rule and head:
        lines.insert(1, tuple("-" * width for width in widths))
    padded = [
        [cell.rjust(width) if side == ">" else cell.ljust(width) for cell, width, side in zip(line, widths, sides)]
        for line in lines
    ]
    return "\n".join(f"{indent}{gap.join(line)}".rstrip() for line in padded)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown; a ``|`` within a cell is escaped.

    Parameters
    ----------
    head : sequence of str
        The headings.
    rows : iterable of sequence of str
        As many cells each.

    Returns
    -------
    str
        Without a line break at its end.
    """
    rule = "|" + "---|" * len(head)
    return "\n".join([markdown_row(head), rule, *map(markdown_row, rows)])


def markdown_row(cells: Sequence[str]) -> str:
    """Return one line of a table of Markdown."""
    return "| " + " | ".join(printable(cell).replace("|", "\\|") for cell in cells) + " |"


def one_of(name: str) -> str:
    """Return a name of a class with its article: "a kite", "an object"; that of its first letter, without exceptions.

    Parameters
    ----------
    name : str
    """
    return f"{'an' if name[:1].lower() in tuple('aeiou') else 'a'} {name}"


def of_each_class(class_ids: Iterable[int], class_names: Sequence[str]) -> list[str]:
    """Return how many there are of each class, in the order of the ids: "47 x nucleus"; no name needs a plural so.

    Parameters
    ----------
    class_ids : iterable of int
        Of the objects; an array of shape (D,), say.
    class_names : sequence of str
        Entry 0 is background.
    """
    return [f"{count} x {class_names[k]}" for k, count in sorted(Counter(map(int, class_ids)).items())]


def counted(count: int, noun: str, many: str | None = None) -> str:
    """Return a number with its noun: "1 image", "2 images".

    Parameters
    ----------
    count : int
    noun : str
        Of one.
    many : str, optional
        Of several; by default ``noun`` with an s.
    """
    return f"{count} {noun if count == 1 else many or f'{noun}s'}"
