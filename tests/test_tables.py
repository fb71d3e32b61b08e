"""The one writer of tables: columns by hand, and nobody writes his own."""

import re
from pathlib import Path

import numpy as np
import pytest

import mrcnn_np
from mrcnn_np.tables import counted, markdown_row, markdown_table, of_each_class, one_of, text_table

PACKAGE = Path(mrcnn_np.__file__).parent


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [("a", "1.25", ""), ("longest", "2", "x")]
    assert text_table(("name", "value", "note"), rows) == "name     value  note\na        1.25\nlongest  2      x"


def test_sides_least_widths_indent_gap_and_rule():
    rows = [("a", "1", "10"), ("bcd", "22", "7")]
    assert text_table(("n", "x", "y"), rows, align="<>", least=(0, 4), indent="..", gap=" | ", rule=True) == (
        "..n   |    x |  y\n..--- | ---- | --\n..a   |    1 | 10\n..bcd |   22 |  7"
    )


def test_tables_without_head_or_rows():
    assert text_table((), [("a", "b"), ("cc", "d")], indent="  ") == "  a   b\n  cc  d"
    assert text_table(("a", "b"), []) == "a  b"
    assert text_table((), []) == text_table((), [], rule=True, least=(3,)) == ""


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ValueError):
        text_table(("a", "b"), [("1",)])


def test_markdown():
    assert markdown_table(("a", "b"), [("1|2", "x")]) == "| a | b |\n|---|---|\n| 1\\|2 | x |"
    assert markdown_table(("a",), []) == "| a |\n|---|"
    assert markdown_row(("a", "")) == "| a |  |"


def test_articles():
    assert [one_of(n) for n in ("object", "kite", "Apple", "")] == ["an object", "a kite", "an Apple", "a "]


def test_how_many_of_each_class():
    names = ("background", "nucleus", "box", "sheep")
    assert of_each_class([3, 1, 1, 3, 1], names) == ["3 x nucleus", "2 x sheep"]
    assert of_each_class(np.array([2]), names) == ["1 x box"] and of_each_class([], names) == []


def test_nobody_else_writes_tables():
    own = re.compile(r"\.[lr]just\(|\|\s?---|\" \| \"\.join")
    writers = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if own.search(path.read_text())}
    assert writers == {"tables.py"}


def test_a_number_with_its_noun():
    assert [counted(n, "image") for n in (0, 1, 2, 1000)] == ["0 images", "1 image", "2 images", "1000 images"]
    assert [counted(n, "class", "classes") for n in (1, 3)] == ["1 class", "3 classes"]
