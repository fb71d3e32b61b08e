"""What a notebook shows of an object: a sentence, a picture and a table, as HTML in one piece."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from PIL.Image import Image


def picture_and_table(
    said: str, picture: Image, head: Sequence[str], rows: Sequence[Sequence[str]], *, left_out: int = 0
) -> str:
    """Return HTML that needs no other file.

    Parameters
    ----------
    said : str
        Above the picture, and what stands for it where there are no pictures.
    picture : PIL.Image.Image
    head : sequence of str
        Headings.
    rows : sequence of sequence of str
        As many cells each. All texts are written as they are, whatever signs they have.
    left_out : int
        Rows that are not shown.
    """
    png = io.BytesIO()
    picture.save(png, format="PNG")
    source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode('ascii')}"
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    more = f"<p>and {left_out} more</p>" if left_out else ""
    said = html.escape(said)
    return f'<p>{said}</p><img alt="{said}" src="{source}"><table>{"".join(lines)}</table>{more}'


def _row(kind: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells) + "</tr>"
