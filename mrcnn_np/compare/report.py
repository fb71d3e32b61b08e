"""A report of facts, a verdict, pictures and tables, as Markdown and as a web page of one file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from ..files import atomic_write, prepare
from ..tables import markdown_table

STYLE = """\
.compare { font: 15px/1.5 system-ui, sans-serif; max-width: 72em; color: #222 }
.compare table { border-collapse: collapse; font-size: 13px }
.compare td, .compare th { border: 1px solid #ddd; padding: 2px 8px; text-align: left }
.compare tr.bad { background: #fbd9d3 } .compare tr.first { background: #d55e00; color: white }
.compare tr.none { color: #888 } .compare img { max-width: 100%; display: block; margin: 1em 0 }
"""


@dataclass(frozen=True)
class Table:
    """One table of a report.

    Attributes
    ----------
    head : sequence of str
    rows : sequence of sequence of str
    kinds : sequence of str
        The rows' classes in the web page, which colours them; empty: none.
    title : str
        Stands above it.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    kinds: Sequence[str] = ()
    title: str = ""

    def markdown(self) -> str:
        """Return the table with its title."""
        lines = markdown_table(self.head, self.rows)
        return f"## {self.title}\n\n{lines}" if self.title else lines

    def html(self) -> str:
        """Return the table with its title."""
        top = "".join(f"<th>{escape(name)}</th>" for name in self.head)
        rows = [
            f'<tr class="{kind}">' + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>"
            for kind, row in zip(self.kinds or [""] * len(self.rows), self.rows)
        ]
        title = f"<h3>{escape(self.title)}</h3>" if self.title else ""
        return f"{title}<table><tr>{top}</tr>{''.join(rows)}</table>"


@dataclass(frozen=True)
class Report:
    """What a comparison has to say.

    Attributes
    ----------
    title : str
    facts : mapping of str to str
        What was compared, on what.
    verdict : str
    tables : sequence of Table
    pictures : mapping of str to bytes
        PNG files by their names.
    """

    title: str
    facts: Mapping[str, str]
    verdict: str
    tables: Sequence[Table]
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    def markdown(self) -> str:
        """Return a document that shows the pictures from files beside it."""
        facts = "\n".join(f"- {key}: {value}" for key, value in self.facts.items())
        shown = "\n\n".join(f"![{Path(name).stem.replace('_', ' ')}]({name})" for name in self.pictures)
        parts = [f"# {self.title}", facts, f"**{self.verdict}**", *(table.markdown() for table in self.tables), shown]
        return "\n\n".join(part for part in parts if part) + "\n"

    def html(self, *, whole: bool = True) -> str:
        """Return a web page that needs no other file, or (``whole=False``) the part of one that a notebook shows."""
        facts = "".join(f"<li>{escape(key)}: {escape(value)}</li>" for key, value in self.facts.items())
        images = "".join(
            f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
            for name, png in self.pictures.items()
        )
        body = (
            f'<style>{STYLE}</style><div class="compare"><h2>{escape(self.title)}</h2><ul>{facts}</ul>'
            f"<p><b>{escape(self.verdict)}</b></p>{images}{''.join(table.html() for table in self.tables)}</div>"
        )
        if not whole:
            return body
        head = f'<meta charset="utf-8"><title>{escape(self.title)}</title>'
        return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write ``name.md``, ``name.html`` and the pictures; return their paths.

        Raises
        ------
        UserError
            The folder cannot be written.
        """
        prepare(folder)
        texts = {f"{name}.md": self.markdown(), f"{name}.html": self.html()}
        documents = {name: text.encode(errors="backslashreplace") for name, text in texts.items()}
        for file, data in {**documents, **self.pictures}.items():
            atomic_write(folder / file, data)
        return [folder / file for file in (*documents, *self.pictures)]
