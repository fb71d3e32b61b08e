"""HTML in one piece, that needs no other file and no network: a page, and what a notebook shows of an object.

Whatever is handed in as text is escaped: names of classes and files may hold any sign.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

from PIL.Image import Image

from ..errors import printable

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1060px; margin: 2rem auto; padding: 0 1rem; color: #222; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: 13px; }
section { border-top: 1px solid #ddd; margin-top: 2rem; } img { max-width: 100%; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } pre { background: #262626; } }
"""


def page(title: str, parts: Iterable[str], *, style: str = "", refresh: int | None = None) -> str:
    """Return a page, light or dark as the reader's system is.

    Parameters
    ----------
    title : str
    parts : iterable of str
        HTML, below the title.
    style : str
        CSS beside ``STYLE``.
    refresh : int, optional
        Seconds after which a browser loads the page again.
    """
    again = "" if refresh is None else f"<meta http-equiv=refresh content={refresh}>"
    head = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<meta name=viewport content='width=device-width, initial-scale=1'>{again}"
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style><h1>{html.escape(title)}</h1>"
    )
    return printable("\n".join([head, *parts]), keep="\n") + "\n</html>\n"


def picture(image: Image, alt: str) -> str:
    """Return a picture with the text that stands for it where there are no pictures."""
    png = io.BytesIO()
    image.save(png, format="PNG")
    source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode('ascii')}"
    return f'<img alt="{html.escape(alt)}" src="{source}">'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table: headings, and rows of as many cells each."""
    return f"<table>{''.join([_row('th', head), *(_row('td', row) for row in rows)])}</table>"


def picture_and_table(
    said: str, shown: Image, head: Sequence[str], rows: Sequence[Sequence[str]], *, left_out: int = 0
) -> str:
    """Return HTML that needs no other file.

    Parameters
    ----------
    said : str
        Above the picture, and what stands for it where there are no pictures.
    shown : PIL.Image.Image
    head : sequence of str
        Headings.
    rows : sequence of sequence of str
        As many cells each. All texts are written as they are, whatever signs they have.
    left_out : int
        Rows that are not shown.
    """
    more = f"<p>and {left_out} more</p>" if left_out else ""
    return f"<p>{html.escape(said)}</p>{picture(shown, said)}{table(head, rows)}{more}"


def _row(kind: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells) + "</tr>"
