"""The parts of docs/conventions.md that a command writes."""

from pathlib import Path

import pytest
from nets import small_config

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.cli.main import main
from mrcnn_np.conventions.document import part_of, replaced, rewrite
from mrcnn_np.conventions.report import MOVES_HEADER
from mrcnn_np.conventions.switchboard import switchboard
from mrcnn_np.conventions.table import flips, markdown_table, own_sizes
from mrcnn_np.errors import UserError
from mrcnn_np.synthetic import params_that_detect, picture

PAGE = Path(__file__).parents[2] / "docs" / "conventions.md"
EMPTY = "\n".join(
    ["# Title", *(f"<!-- {n}: how -->\nold {n}\n<!-- end of {n} -->\nkept" for n in ("symptoms", "numbers", "fields"))]
)
LONGEST = 34


def test_the_measured_section_has_every_row_of_the_switchboard():
    """The network is the tiny preset; each of its flips is a row of a table or one of those that change nothing."""
    section = part_of(PAGE.read_text(), "numbers")
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    (unchanged,) = (line for line in section.splitlines() if line.startswith("No tensor changes here"))
    missing, count = [], 0
    for flip in flips(presets.tiny()):
        old, new = (v if len(v) <= LONGEST else v[: LONGEST - 1] + "…" for v in (flip.old, flip.new))
        cells = [f"| `{flip.field}{star}` | {old} | {new} | {flip.whose} |" for star in ("", "*")]
        in_tables = sum(row.startswith(tuple(cells)) for row in rows)
        count += in_tables
        if in_tables + (f"{flip.field} ({flip.old} to {flip.new})" in unchanged) != 1:
            missing.append(flip.label)
    assert not missing, f"run make docs-numbers: {missing}"
    assert count == len(rows)
    for name in own_sizes(presets.tiny()):
        assert f"{name} = " in section


def test_the_page_says_how_its_numbers_are_made():
    text = PAGE.read_text()
    assert "<!-- numbers: make docs-numbers -->" in text and "<!-- symptoms: make docs-numbers -->" in text
    target = (PAGE.parents[1] / "Makefile").read_text().partition("docs-numbers: ")[2].partition("\n\n")[0]
    assert "train --data shapes --preset tiny" in target and "conventions --run" in target
    assert f"--rewrite {PAGE.relative_to(PAGE.parents[1])}" in target
    section = part_of(text, "numbers")
    assert "(tiny, 1500 steps) on a generated image of shapes, seed 5" in section
    for name in ("conventions.png", "conventions-crops.png"):
        assert f"]({name})" in section and (PAGE.parent / name).is_file()


@pytest.fixture(scope="module")
def board():
    model = MaskRCNN(small_config(), params_that_detect(small_config()))
    return switchboard(model, picture((50, 64)), ["roi_aligned", "mask_paste"])


def test_a_page_is_rewritten_between_its_comments_only(board, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(EMPTY)
    names = ("background", "a", "b", "c")
    rewrite(page, board, names, "Measured here")
    text = page.read_text()
    assert text.startswith("# Title\n<!-- symptoms: how -->\n\n| what one sees") and text.count("\nkept") == 3
    assert "old" not in [line.split()[0] for line in text.splitlines() if line]
    assert part_of(text, "fields") == markdown_table() and part_of(text, "numbers").startswith("Measured here.\n")
    assert " | ".join(MOVES_HEADER) in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["conventions-crops.png", "conventions.png", "page.md"]
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    rewrite(page, board, names, "Measured here")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before  # the same bytes twice


def test_the_command_rewrites_a_page(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(EMPTY)
    small = ["--config=image_min_size=64", "--config=image_max_size=64", "--only=roi_aligned", "--quiet"]
    assert main(["conventions", *small, "--out", str(tmp_path / "out"), "--rewrite", str(page)]) == 0
    assert f"rewritten: {page}" in capsys.readouterr().out
    assert "| `roi_aligned` |" in part_of(page.read_text(), "numbers")


@pytest.mark.parametrize(
    "text", ["", EMPTY.replace("end of numbers", "end"), EMPTY + "\n<!-- numbers: x -->\n<!-- end of numbers -->"]
)
def test_a_page_without_the_comments_is_one_message(text, tmp_path, capsys):
    with pytest.raises(UserError, match=r"p has no one place for \w+; expected <!-- \w+: HOW IT IS MADE --> before"):
        replaced(text, {"symptoms": "", "numbers": "", "fields": ""}, "p")
    page = tmp_path / "page.md"
    page.write_text(text)
    small = ["--config=image_min_size=64", "--config=image_max_size=64", "--only=roi_aligned", "--quiet"]
    assert main(["conventions", *small, "--out", str(tmp_path / "out"), "--rewrite", str(page)]) == 2
    assert "has no one place for" in capsys.readouterr().err and page.read_text() == text


@pytest.mark.parametrize("kind", ["missing", "a folder", "no text"])
def test_a_page_that_cannot_be_read(kind, board, tmp_path):
    page = tmp_path / "page.md"
    if kind == "a folder":
        page.mkdir()
    elif kind == "no text":
        page.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        rewrite(page, board, ("background", "a", "b", "c"), "title")


def test_what_is_put_in_is_not_a_pattern():
    assert r"\1 \g<0> \n" in replaced(EMPTY, {"numbers": r"\1 \g<0> \n"}, "p")
