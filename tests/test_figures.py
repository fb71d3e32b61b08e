"""docs/figures.py on copies of the pages, with made-up measurements."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MACHINE = {
    "processor": "a machine of straw", "cores": 7, "vectors": "AVX-512", "threads": 3, "date": "2031-02-03 04:05",
    "versions": {"numpy": "9.8.7"},
}  # fmt: skip


def load():
    spec = importlib.util.spec_from_file_location("docs_figures", ROOT / "docs" / "figures.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


figures = load()


@pytest.fixture
def pages(tmp_path):
    root = tmp_path / "root"
    shutil.copytree(ROOT / "docs", root / "docs")
    shutil.copy(ROOT / "README.md", root)
    return root


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_run(runs, name, mask, **changes):
    split = {"mask": {"mean_ap": mask}, "box": {"mean_ap": 0.8765}}
    summary = {
        "preset": "tiny", "backend": "cpu", "seed": 3, "steps": 1234, "batch_size": 8, "images": 11,
        "training_seconds": 98.76, "peak_memory_mib": {"training": 10.0, "with_evaluation": 654.3},
        "evaluation": {"train": split, "val": split}, "machine": MACHINE, **changes,
    }  # fmt: skip
    write(runs / name / "summary.json", summary)


def operation(group, direction, ours, theirs):
    median = {"cpu": ours, "numpy": 9.0, "torch NCHW": 2 * theirs, "torch channels_last": theirs}
    ratio = theirs / ours
    return {"group": group, "case": "", "direction": direction, "median": median, "ratio": ratio, "quiet": True}


def write_bench(runs):
    network = {
        "what": "detect", "size": [800, 1088], "ratio": 2.5, "quiet": False,
        "median": {"cpu": 0.5, "torch": 1.3, "torch channels_last": 1.25},
        "peak_mib": {"cpu": 1024.0, "torch": 2048.0, "torch channels_last": 2048.0},
    }  # fmt: skip
    cost = {"seconds": 1.5, "peak_mib": 77.0}
    preset = {"backend": "numpy", "preset": "tiny", "backbone": "tiny", "parameters": 1234567, "images": 8}
    bench = {
        "machine": MACHINE,
        "ops": {"rows": [operation("conv", "forward", 0.001, 0.002), operation("conv", "forward", 0.002, 0.016)]},
        "network": {"rows": [network]},
        "start": {
            "step": {"median": {"cpu": 0.04, "numpy": 0.16}},
            "cold_seconds": 33.3,
            "warm_seconds": [0.6, 0.8, 0.7],
        },
        "presets": {"rows": [{**preset, "train": cost, "detect": cost}]},
    }
    write(runs / "bench" / "bench.json", bench)


def test_nothing_measured_leaves_everything_and_says_so(pages, tmp_path):
    before = {path: path.read_text() for path in pages.rglob("*.md")}
    said = figures.rewrite(pages, tmp_path / "nothing")
    assert len(said) == len(figures.SECTIONS)
    assert all(line.startswith("left: ") and str(tmp_path / "nothing") in line for line in said)
    assert {path: path.read_text() for path in pages.rglob("*.md")} == before


def test_sections_are_written_and_nothing_else_moves(pages, tmp_path):
    runs = tmp_path / "runs"
    write_run(runs, "shapes-tiny", 0.4321)
    write_run(runs, "shapes-numpy", 0.3456, backend="numpy")
    write_run(runs, "voc", 0.2222, preset="small")
    write_run(runs, "nuclei", 0.1, steps=2222)
    coco = {"mask": {"images": 44, "AP50": 0.9123, "AP75": 0.7, "AP": 0.6123}}
    write(runs / "nuclei" / "coco.json", coco)
    write(runs / "nuclei" / "options.json", {"threads": 3})
    write(runs / "ablation" / "ablation.json", {"larger": {"fields": [], "steps": 321, "coco": coco}})
    write_bench(runs)
    outcome = {"title": "A beside B", "facts": {"machine": "somewhere", "largest relative error": r"1e-5 (p\2)"}}
    write(runs / "agreement" / "keras" / "compare.json", {**outcome, "verdict": "all 9 tensors agree"})
    outside = {p: _outside(p.read_text()) for p in pages.rglob("*.md")}

    said = figures.rewrite(pages, runs)
    assert [line.partition(":")[0] for line in said] == ["rewritten"] * len(figures.SECTIONS)
    assert {p: _outside(p.read_text()) for p in pages.rglob("*.md")} == outside
    readme, bench = (pages / "README.md").read_text(), (pages / "docs" / "benchmarks.md").read_text()
    assert "7 cores of a machine of straw, AVX-512, 2031-02-03 04:05, seed 3" in readme
    assert "| compiled kernels (the default) | **0.432** | 0.876 | 99 s | 654 MiB |" in readme
    assert "| conv forward, 2 sizes | 1 to 2 ms | 2 to 16 ms | 4.00 (2.00 to 8.00) |" in bench
    assert "| 0.50 s, 1.0 GiB | 1.30 s, 2.0 GiB NCHW; 1.25 s, 2.0 GiB channels_last | 2.50 † |" in bench
    assert "0.7 s; the first start, which compiles: 33 s." in bench
    assert "| numpy | tiny | tiny | 1,234,567 | 8, 1.50, 77 | 1.50, 77 |" in bench
    agreement = (pages / "docs" / "agreement.md").read_text()
    assert r"| keras | A beside B | all 9 tensors agree; largest relative error 1e-5 (p\2) | somewhere |" in agreement
    training = (pages / "docs" / "training.md").read_text()
    assert "| the same with `--backend numpy` | 1234 of 8 | 99 s | 0.346 |" in training and "0.222 (0.876)" in training

    recipes = (pages / "docs" / "recipes.md").read_text()
    assert "11 images trained on, 44 held out; 2222 steps of 8." in recipes
    assert "| 3 | 0.912 | 0.700 | 0.612 | 1.6 min, 3 threads | 654 MiB |" in recipes
    assert "| larger | 0.912 | 0.700 | 0.612 | 321 |" in recipes

    again = {p: p.read_text() for p in pages.rglob("*.md")}
    assert [line.partition(":")[0] for line in figures.rewrite(pages, runs)] == ["unchanged"] * len(figures.SECTIONS)
    assert {p: p.read_text() for p in pages.rglob("*.md")} == again


def _outside(text):
    """Return a page without its sections."""
    parts = [part.split("<!-- end -->")[-1] for part in text.split("<!-- numbers:")]
    return "<".join(parts)


@pytest.mark.parametrize("damage", ["no machine", "cut off", "no section"])
def test_half_a_measurement_is_named_and_not_used(pages, tmp_path, damage):
    runs = tmp_path / "runs"
    write_run(runs, "shapes-tiny", 0.5)
    write_bench(runs)
    train, bench = runs / "shapes-tiny" / "summary.json", runs / "bench" / "bench.json"
    if damage == "no machine":
        write(train, {k: v for k, v in json.loads(train.read_text()).items() if k != "machine"})
    elif damage == "cut off":
        train.write_text(train.read_text()[:50])
    else:
        write(bench, {k: v for k, v in json.loads(bench.read_text()).items() if k not in ("start", "presets")})
    said = {line.split()[2].rstrip(","): line for line in figures.rewrite(pages, runs)}
    broken = ["bench", "presets"] if damage == "no section" else ["train"]
    assert all(said[name].startswith("left: ") for name in broken)
    assert said["presets" if damage != "no section" else "train"].startswith("rewritten")


def test_every_section_of_a_page_has_a_writer():
    written = {(page, name) for page, name, _ in figures.SECTIONS}
    written.add(("docs/gpu.md", "gpu"))  # by mrcnn_np.bench.gpu.page, on a machine with a GPU
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    marked = {
        (str(page.relative_to(ROOT)), part.partition(" ")[0])
        for page in pages
        for part in page.read_text().split("<!-- numbers:")[1:]
        if not part.startswith(" ")
    }
    assert marked == written
