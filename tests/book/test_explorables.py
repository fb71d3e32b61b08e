"""Every live picture's arithmetic is compared with the package: by the test file of its chapter."""

from pathlib import Path

STATIC = Path(__file__).parents[2] / "book" / "_static"


def test_every_arithmetic_is_tested():
    text = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_ch*.py"))
    for path in STATIC.glob("*.math.js"):
        assert f'"{path.name}"' in text, f"{path.name} is compared with nothing"


def test_every_view_has_its_arithmetic():
    views = {path.stem for path in STATIC.glob("*.js") if not path.name.endswith(".math.js")} - {"book", "explorable"}
    assert views == {path.name.removesuffix(".math.js") for path in STATIC.glob("*.math.js")}
