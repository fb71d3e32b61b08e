"""``tutorial/your_own_run.ipynb`` on a reader's own run: as plain Python, and as Jupyter runs it."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "tutorial" / "your_own_run.ipynb"


@pytest.fixture
def notebook(trained):
    """The notebook, with the two names at its top as a reader would change them."""
    document = json.loads(NOTEBOOK.read_text())
    changed = 0
    for cell in document["cells"]:
        text = "".join(cell["source"])
        for old, new in (
            ('RUN = "../runs/shapes-tiny"', f"RUN = {str(trained)!r}"),
            ("SCORE = 0.5", "SCORE = 0.0"),
        ):
            changed += text.count(old)
            text = text.replace(old, new)
        cell["source"] = text
    assert changed == 2
    return document


def shown(value):
    """Show what the last line of a cell is worth, as Jupyter does."""
    if hasattr(value, "_repr_html_"):
        return value._repr_html_()
    return value._repr_png_() if hasattr(value, "_repr_png_") else repr(value)


def test_every_cell_runs(notebook, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names, answers = {}, []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        body = ast.parse(cell["source"]).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        if last is not None:
            answers.append(shown(eval(compile(ast.Expression(last.value), "cell", "eval"), names)))
    said = capsys.readouterr().out
    assert not list(tmp_path.iterdir())  # it cleans up
    assert len(names["found"]) == 5 and "5 objects become" in said and "p2 " in said
    assert any(isinstance(answer, str) and "<table" in answer for answer in answers)
    assert any(isinstance(answer, bytes) for answer in answers) and any("MaskRCNN(" in str(a) for a in answers)
    for needed in ("load", "detect", "trace", "with_config", "boxes_from_xyxy", "plot", "to_coco", "names"):
        assert needed in NOTEBOOK.read_text()


def test_it_is_kept_without_outputs():
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_jupyter_runs_it(notebook, tmp_path):
    pytest.importorskip("ipykernel", reason="the extra book, which brings a kernel")
    nbclient = pytest.importorskip("nbclient", reason="the extra book, which runs notebooks")
    nbformat = pytest.importorskip("nbformat")
    done = nbclient.NotebookClient(
        nbformat.reads(json.dumps(notebook), 4), timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    kinds = {
        kind for cell in done.cells for output in cell.get("outputs", ()) for kind in output.get("data", {})
    }  # all that is shown
    assert {"text/html", "image/png", "text/plain"} <= kinds
