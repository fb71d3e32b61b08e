"""Every question that is asked of Mask R-CNN has its answer in the project, and docs/questions.md says where.

The page names a section and a test for each; here stand which themes there are, and a phrase or number that the answer
and what it leads to must both contain.
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "questions.md"

#: theme: rows of the page by their anchors, each with what answer and section have in common
THEMES = {
    "T1": {"half-pixel": "108.16"},
    "T2": {"crop-and-resize": "4.833"},
    "T3": {"max-or-mean": "46.2"},
    "T4": {"roi-pool": "0.96"},
    "T5": {"plus-one": "$y_2 - y_1$"},
    "T6": {"anchor-centre": "0.784"},
    "T7": {"ratio": "181"},
    "T8": {"anchor-sizes": "one on each of P2..P6"},
    "T9": {"level": "447"},
    "T10": {"coordinates": "box_frame"},
    "T11": {"std": "0.102"},
    "T12": {"p6": "every second row and column of P5", "stop-gradient": "stop gradient"},
    "T13": {"nan": "without height"},
    "T14": {"few-positives": "45 pixels"},
    "T15": {"nothing-found": "at which stage it was lost"},
    "T16": {"which-loss": "3.0445"},
    "T17": {"sigmoid": "24.8"},
    "T18": {"blocky": "a thousandth"},
    "T19": {"mini-mask": "56 × 56"},
    "T20": {"pasting": "the box's last pixel"},
    "T21": {"batch-norm": "Group norm"},
    "T22": {"map": "56/101"},
    "T23": {"voc": "SegmentationObject"},
    "T24": {"own-data": "data check"},
    "T25": {"weights": "weights info"},
    "T26": {"rgb": "103.5"},
    "T27": {"versions": ".h5"},
    "T28": {"memory": "65,536"},
    "T29": {"same-bits": "the same seed write the same bytes"},
    "T30": {"nms": "an overlap equal to the threshold does not suppress"},
    "T31": {"validation-loss": "model.losses"},
    "T32": {"batch-size": "make_batch"},
    "T33": {"step-by-step": "end to end"},
    "T34": {"initialisation": "before the first step"},
}
SLUGS = {slug: phrase for rows in THEMES.values() for slug, phrase in rows.items()}
#: what is not, or not wholly, answered says so
OPEN = ("map", "voc", "weights", "initialisation")
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


def rows() -> dict[str, list[str]]:
    """Return question, answer, where and tests of each row by its anchor."""
    found = {}
    for line in PAGE.read_text().splitlines():
        row = re.fullmatch(r'\| <a id="([\w-]+)"></a>(.+?) \| (.+?) \| (.+?) \| (.+?) \|', line)
        if row:
            assert row[1] not in found, f"{row[1]} occurs twice"
            found[row[1]] = list(row.groups()[1:])
    return found


ROWS = rows()


def section(label: str, link: str) -> str:
    """Return the text that a link leads to: a notebook's section, a page's section, or a file."""
    target, _, anchor = link.partition("#")
    path = (PAGE.parent / target).resolve()
    assert path.is_file(), f"{link} does not exist"
    if path.suffix == ".ipynb":
        heading = re.fullmatch(r"chapter (\d+): (.+)", label)
        assert heading, f"{label!r} does not say which chapter and section"
        assert path.name.startswith(f"{int(heading[1]):02}_"), f"{label} leads to {path.name}"
        text, wanted = notebook(path), heading[2]
    else:
        text, wanted = path.read_text(), anchor
    if not wanted:
        return text
    parts = re.split(r"^(#+ .+)$", text, flags=re.MULTILINE)  # before, heading, body, heading, body, ...
    named = dict(zip((h.lstrip("# ") for h in parts[1::2]), parts[2::2]))
    if path.suffix == ".md":
        named = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-"): body for h, body in named.items()}
    assert wanted in named, f"{path.name} has no section {wanted!r}; it has {', '.join(named)}"
    return wanted + named[wanted]


def notebook(path: Path) -> str:
    """Return the words of a notebook and what its cells print; comments of code are no headings."""
    text = []
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "markdown":
            text.append("".join(cell["source"]))
        text += ["".join(output.get("text", [])) for output in cell.get("outputs", [])]
    return "\n".join(text)


def test_every_theme_has_its_rows() -> None:
    assert list(THEMES) == [f"T{n}" for n in range(1, 35)]
    assert set(ROWS) == set(SLUGS)
    assert not re.search(r"\bT\d+\b", PAGE.read_text())


@pytest.mark.parametrize("slug", SLUGS)
def test_the_answer_stands_where_the_row_says(slug: str) -> None:
    _, answer, where, _ = ROWS[slug]
    links = LINK.findall(where)
    assert links
    texts = [" ".join(section(label, link).split()) for label, link in links]
    assert SLUGS[slug] in answer
    assert any(SLUGS[slug] in text for text in texts), f"{SLUGS[slug]!r} does not stand in {where}"


@pytest.mark.parametrize("slug", SLUGS)
def test_the_tests_of_a_row_exist(slug: str) -> None:
    links = LINK.findall(ROWS[slug][3])
    assert links
    for name, link in links:
        path = (PAGE.parent / link).resolve()
        assert path.is_file(), f"{link} does not exist"
        assert re.search(rf"^ *def test_{name}\(", path.read_text(), flags=re.MULTILINE), f"{link} has no test {name}"


def test_what_is_open_says_so() -> None:
    for slug in OPEN:
        answer = ROWS[slug][1]
        assert re.search(r"\byet\b|still to come|not written|not built", answer), f"{slug} does not say what is missing"
