"""The house rules of docs/architecture.md: who imports whom, where tests lie, and that documents name what is there.

Every rule has a list of exceptions with their reasons, and every list is held in both directions: what breaks the rule
and is not listed fails, and so does an entry that is needed no longer.
"""

import ast
import dataclasses
import fnmatch
import functools
import re
from pathlib import Path

import pytest
import sources
from sources import ROOT, documents, imports, modules, names_in, prose, scripts

from mrcnn_np import presets
from mrcnn_np.config import Config
from mrcnn_np.network import spec

MOST_FILES, MOST_LINES = 28, 400

# --- imports --------------------------------------------------------------------------------------------------------

# Imports that close a circle. (importer, imported): why it may
CIRCLES: dict[tuple[str, str], str] = {
    (
        "kernels.cuda.machine.device",
        "kernels.cuda.machine.compiled",
    ): "what launches kernels asks for it on a card only",
}

# Where imports of our own modules may stand in functions, and why; a name with * stands for a folder
LATE = {
    "mrcnn_np": "--help and Ctrl-C are answered before NumPy is imported",
    "mrcnn_np.__main__": "the same",
    "mrcnn_np.cli.*": "a command imports what it runs, so that --help and the others start at once",
    "mrcnn_np.data.opening": "a reader is imported when its format is asked for",
    "mrcnn_np.compare*": "the frameworks are imported only where one is compared with",
    "mrcnn_np.bench.worker": "a measured process imports one side only",
    "mrcnn_np.bench.gpu.*": "kernels for a card are declared where the packages that drive one are installed",
    "mrcnn_np.detections": "plot: matplotlib is loaded only to draw",
    "mrcnn_np.parallel.cards": "kernels for a card are imported where ranks take some",
    "mrcnn_np.model": "load, trace and with_config: files, names and conventions lie in other rooms",
    "mrcnn_np.training.checkpoint": "the package of the reader imports this module",
    "mrcnn_np.training.freezing": "the command line lists the parts before it imports NumPy",
    "mrcnn_np.weights.load": "h5py is asked for only by an .h5 file",
    "kernels": "a backend is imported when it is used",
    "kernels.cuda": "the same, file by file",
    "kernels.cuda.machine.*": "what drives a card is imported where there is one",
}

# Which room must not lean on which. A room is a folder; "network" is what lies at the top of mrcnn_np/ but for what all
# rooms share
SHARED = {"mrcnn_np", "mrcnn_np.__main__", "mrcnn_np.errors", "mrcnn_np.files", "mrcnn_np.tables"}
SHARED |= {"mrcnn_np.synthetic", "mrcnn_np.schema", "mrcnn_np.installation"}
OUTER = {"cli", "bench", "compare", "conventions", "evaluate", "explain", "fit", "onnx", "pictures", "training"}
OUTER |= {"weights"}
FORBIDDEN = {
    "parallel": OUTER | {"network", "config", "data"},
    "ops": OUTER | {"network", "config", "data"},
    "config": OUTER | {"network", "ops", "data"},
    "network": OUTER,
    "data": OUTER - {"pictures"},
    "weights": {"cli", "onnx", "bench", "compare", "conventions", "evaluate", "explain", "pictures"},
    "evaluate": {"cli", "onnx", "bench", "compare", "conventions", "explain", "training", "weights"},
    "explain": {"cli", "onnx", "bench", "compare", "conventions", "training", "weights"},
    "fit": OUTER - {"fit"},
    "onnx": OUTER - {"onnx"},
    "training": {"cli", "onnx", "bench", "compare", "conventions", "explain"},
    "pictures": {"cli", "onnx", "bench", "compare", "conventions", "explain", "weights"},
    "conventions": {"cli", "onnx", "bench", "explain"},
    "compare": {"cli", "onnx", "bench", "conventions", "explain"},
    "bench": {"cli", "onnx", "compare", "conventions", "explain"},
}
# What leans the wrong way all the same
LEANS = {
    ("mrcnn_np.backbone", "mrcnn_np.training.freezing"): "which stages the backward pass leaves out",
    ("mrcnn_np.vgg", "mrcnn_np.training.freezing"): "the same",
    ("mrcnn_np.model", "mrcnn_np.training.freezing"): "the same",
    ("mrcnn_np.evaluate.classes", "mrcnn_np.weights.class_names"): "classes are paired by the same names there",
    ("mrcnn_np.parallel.buckets", "mrcnn_np.params"): "what gradients are",
    ("mrcnn_np.model", "mrcnn_np.weights.place"): "load opens the folder of a run",
    ("mrcnn_np.model", "mrcnn_np.weights.network"): "load opens any file of weights",
    ("mrcnn_np.model", "mrcnn_np.compare.trace"): "trace returns the tensors by the names of the comparison",
    ("mrcnn_np.detections", "mrcnn_np.pictures.overlay"): "plot draws them",
    ("mrcnn_np.detections", "mrcnn_np.pictures.html"): "and a notebook shows the picture",
    ("mrcnn_np.model", "mrcnn_np.conventions.convert"): "with_config rewrites the parameters for another convention",
}

# What of one backend is used from outside
INNER = {
    ("mrcnn_np.cli.compile_ahead", "kernels.cpu"): "whether kernels are kept on disk",
    ("mrcnn_np.cli.compile_ahead", "kernels.cpu.machine.once"): "it waits for no kernel of another process",
    ("mrcnn_np.bench.gpu.dry_run", "kernels.cuda"): "it counts the launches of kernels without a card",
    ("mrcnn_np.bench.gpu.dry_run", "kernels.cuda.machine.device"): "it counts the launches of kernels without a card",
    ("mrcnn_np.bench.gpu.dry_run", "kernels.cuda.machine.groups"): "it counts the launches of kernels without a card",
    ("mrcnn_np.bench.gpu.dry_run", "kernels.cuda.machine.product"): "it counts the launches of kernels without a card",
    ("mrcnn_np.bench.gpu.dry_run", "kernels.cuda.machine.require"): "it counts the launches of kernels without a card",
    (
        "mrcnn_np.bench.gpu.dry_run",
        "kernels.cuda.machine.simulated",
    ): "it counts the launches of kernels without a card",
    ("mrcnn_np.bench.gpu.dry_run", "kernels.cuda.machine.tensors"): "it counts the launches of kernels without a card",
    ("mrcnn_np.bench.gpu.dry_run", "kernels.cuda.machine.tiles"): "it counts the launches of kernels without a card",
    (
        "mrcnn_np.bench.gpu.dry_run",
        "kernels.cuda.machine.turned_product",
    ): "it counts the launches of kernels without a card",
    ("mrcnn_np.parallel.cards", "kernels.cuda.machine.cards"): "it takes cards, and adds up from one to another",
    ("mrcnn_np.bench.gpu.measure", "kernels.cuda.machine.require"): "it says what keeps the kernels from running",
    ("mrcnn_np.bench.convolution_rows", "kernels.cpu.convolution"): "it measures what each row of the table gains",
    ("mrcnn_np.cli.surroundings", "kernels.cuda.machine.require"): "it says what keeps the kernels from running",
    ("mrcnn_np.cli.backend", "kernels.cpu.machine.simd"): "a run remembers how wide the vectors were",
    ("mrcnn_np.cli.backend", "kernels.cpu.machine.threads"): "and into how many shares work was cut",
    ("mrcnn_np.bench.roofline", "kernels.cpu.machine.simd"): "it measures how fast the register tile can be",
    ("mrcnn_np.bench.roofline", "kernels.cpu.machine.tiles"): "the same",
    ("mrcnn_np.bench.operations.op", "kernels.cpu.machine.memory"): "buffers that begin at a page, as the network's do",
}


def room(module: str) -> str:
    """Return which room a module is in."""
    parts = module.split(".")
    if parts[0] == "kernels":
        return "kernels"
    if module in SHARED:
        return "shared"
    inside = len(parts) > 2 or modules()[module].name == "__init__.py"
    return parts[1] if inside else "network"


def test_no_two_modules_need_each_other() -> None:
    edges = {(i.importer, i.imported) for i in imports()}
    assert sources.cycles(edges - set(CIRCLES)) == []
    groups = sources.cycles(edges)
    assert {edge for edge in CIRCLES if edge not in edges or not any({*edge} <= group for group in groups)} == set()


def test_imports_stand_at_the_top_of_a_file() -> None:
    late = {i.importer for i in imports() if i.late}
    fits = {(name, place) for name in late for place in LATE if fnmatch.fnmatchcase(name, place)}
    assert late == {name for name, _ in fits}
    assert set(LATE) == {place for _, place in fits}


def test_rooms_lean_in_one_direction() -> None:
    wrong = {(i.importer, i.imported) for i in imports() if room(i.imported) in FORBIDDEN.get(room(i.importer), ())}
    assert wrong == set(LEANS)


def test_kernels_do_not_know_the_package() -> None:
    paths = sorted((ROOT / "kernels").rglob("*.py"))
    assert len(paths) > 20
    for path in paths:
        names = [name for name, _ in sources.imported(path, sources.dotted(path))]
        assert not [name for name in names if name.split(".")[0] == "mrcnn_np"], path


def test_the_package_enters_the_kernels_by_their_front_door() -> None:
    """Only the dispatch and what both sides agree on are imported, never a backend: another one must do as well."""
    inner = {(i.importer, i.imported) for i in imports() if not i.importer.startswith("kernels")}
    backend = {edge for edge in inner if edge[1].startswith("kernels.") and edge[1] != "kernels.contract"}
    assert backend == set(INNER)


# --- files ----------------------------------------------------------------------------------------------------------

# files above 400 lines, and why
LONG = {
    "mrcnn_np/config/fields.py": "the list of all fields, each with its documentation",
    "mrcnn_np/cli/arguments.py": "the list of all options of all commands",
    "mrcnn_np/backbone.py": "blocks, stages and the whole, forward and backward beside each other",
    "mrcnn_np/detections.py": "what is found, and how it is refined, pasted, written and drawn",
    "mrcnn_np/model.py": "the wiring, forward and backward beside each other",
    "mrcnn_np/molding.py": "the way in and the way back, beside each other",
    "mrcnn_np/targets.py": "what anchors and what regions should have said, by one plan",
}


def test_the_top_of_the_package_is_the_paper() -> None:
    top = sorted((ROOT / "mrcnn_np").glob("*.py"))
    assert len(top) <= MOST_FILES
    text = code_map()
    missing = [path.name for path in top if f"{path.name}" not in text]
    folders = {path.parent.name for path in (ROOT / "mrcnn_np").glob("*/__init__.py")}
    missing += [name for name in sorted(folders) if f"{name}/" not in text]
    assert not missing, "\n".join(missing)
    there = {
        path.parent.name for name in (*sources.PACKAGES, "tests", "tutorial") for path in (ROOT / name).rglob("*.py")
    }
    assert set(re.findall(r"(?<![\w/])(\w+)/(?!\w)", text)) - there - {"docs"} == set()


def code_map() -> str:
    """Return the README's map of the code."""
    return (ROOT / "README.md").read_text().split("## The map")[1].split("\n## ")[0]


def test_the_readme_fits_its_reader() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert max(len(line) for line in lines) <= 120


def test_files_fit_a_sitting() -> None:
    lines = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in [*modules().values(), *scripts()]}
    assert {name for name, count in lines.items() if count > MOST_LINES} == set(LONG)


# --- tests ----------------------------------------------------------------------------------------------------------

# Modules whose tests do not bear their name: where they are, and why. A name with * stands for a folder
TESTED_IN: dict[str, tuple[str, str]] = {
    "mrcnn_np.bench.gpu*": ("tests/bench/test_gpu.py", "rows, predictions and the page of one table"),
    "mrcnn_np.bench.timeline*": ("tests/bench/test_timeline.py", "one run, from its calls to its page"),
    "mrcnn_np": ("tests/test_main.py", "only hands on names"),
    "mrcnn_np.backbone": ("tests/test_network_parts.py", "the parts of the network share their cases"),
    "mrcnn_np.cli.first_run": ("tests/cli/test_warmup.py", "what `warmup` runs"),
    "mrcnn_np.parallel.cards": ("tests/cuda/test_cards.py", "in the simulator"),
    "kernels.cuda.machine.cards": ("tests/cuda/test_cards.py", "the same"),
    "mrcnn_np.fpn": ("tests/test_network_parts.py", "the same"),
    "mrcnn_np.rpn": ("tests/test_network_parts.py", "the same"),
    "mrcnn_np.heads": ("tests/test_network_parts.py", "the same"),
    "mrcnn_np.resizing": ("tests/test_molding.py", "what molding is made of"),
    "mrcnn_np.sizes": ("tests/test_device.py", "what a GPU needs, where its absence is tested, too"),
    "mrcnn_np.errors": ("tests/cli/test_main.py", "every kind of error is one message and exit code 2"),
    "mrcnn_np.config.*": ("tests/config/test_config.py", "the fields and presets of one class"),
    "mrcnn_np.conventions.*": ("tests/conventions/test_switchboard.py", "one table, from its rows to its pages"),
    "mrcnn_np.data": ("tests/data/test_voc.py", "open_dataset"),
    "mrcnn_np.data.fractions": ("tests/data/test_findings.py", "what is said of them, for every reader"),
    "mrcnn_np.data.annotation": ("tests/data/test_voc.py", "VOC's XML"),
    "mrcnn_np.data.choice": ("tests/data/test_voc.py", "--subset"),
    "mrcnn_np.data.coco_json": ("tests/data/test_coco.py", "what coco.py reads"),
    "mrcnn_np.data.coco_results": ("tests/evaluate/test_results.py", "results files, there and back"),
    "mrcnn_np.data.coco_writing": ("tests/data/test_coco.py", "instances JSON of any data set"),
    "mrcnn_np.data.listed": ("tests/data/test_formats.py", "what every reader of a folder shares"),
    "mrcnn_np.data.opening": ("tests/data/test_formats.py", "open_dataset and recognise"),
    "mrcnn_np.data.tree": ("tests/data/test_formats.py", "folders and zips"),
    "mrcnn_np.data.json_values": ("tests/data/test_odd_files.py", "values of another type than expected"),
    "mrcnn_np.data.voc_checks": ("tests/data/test_voc.py", "boxes beside masks"),
    "mrcnn_np.data.coco_layout": ("tests/data/test_coco.py", "where files lie"),
    "mrcnn_np.data.orientation": ("tests/data/test_images.py", "EXIF"),
    "mrcnn_np.data.voc_labels": ("tests/data/test_voc_layouts.py", "the same"),
    "mrcnn_np.data.voc_layout": ("tests/data/test_voc_layouts.py", "where files lie"),
    "mrcnn_np.data.pixels": ("tests/data/test_images.py", "Pillow's modes"),
    "mrcnn_np.data.notes": ("tests/data/test_check.py", "what a reader says of a file"),
    "mrcnn_np.data.sample": ("tests/data/test_augment.py", "what every data set yields"),
    "mrcnn_np.data.scene": ("tests/data/test_shapes.py", "what shapes.py draws"),
    "mrcnn_np.data.segmentation": ("tests/data/test_rle.py", "polygons and run lengths"),
    "mrcnn_np.evaluate": ("tests/evaluate/test_voc.py", "only hands on names"),
    "mrcnn_np.fit": ("tests/fit/test_report.py", "only hands on names"),
    "mrcnn_np.onnx.*": ("tests/onnx/test_export.py", "all nodes together; images, regions and masks beside it"),
    "mrcnn_np.fit.truth": ("tests/fit/test_anchors.py", "what anchors are held against"),
    "mrcnn_np.pictures.fit": ("tests/fit/test_report.py", "the picture of a report"),
    "mrcnn_np.pictures.*": ("tests/pictures/test_pictures.py", "every picture is drawn and looked at in one place"),
    "mrcnn_np.explain": ("tests/explain/test_report.py", "only hands on names"),
    "mrcnn_np.explain.page": ("tests/cli/test_explain.py", "the page that the command writes"),
    "mrcnn_np.training.summary": ("tests/cli/test_train.py", "what train writes at its end"),
    "mrcnn_np.weights": ("tests/weights/test_load.py", "only hands on names"),
    "mrcnn_np.weights.architecture": ("tests/weights/test_load.py", "which preset a file fits"),
    "mrcnn_np.weights.class_names": ("tests/weights/test_transfer.py", "rows of a class that both sides have"),
    "mrcnn_np.weights.imagenet": ("tests/compare/test_torchvision_weights.py", "needs torchvision"),
    "mrcnn_np.weights.formats.*": ("tests/weights/test_files.py", "odd and hostile files of every format"),
    "mrcnn_np.cli.compare*": ("tests/compare/test_torchvision_command.py", "needs torchvision"),
    "mrcnn_np.cli.conventions": ("tests/conventions/test_switchboard.py", "the switchboard's command"),
    "mrcnn_np.cli.results_file": ("tests/cli/test_coco.py", "the files of --coco-results"),
    "mrcnn_np.cli.*": ("tests/cli/test_main.py", "commands are tested as they are called"),
    "mrcnn_np.bench.*": ("tests/bench/test_bench.py", "measurements; that they run, and what is written of them"),
    "mrcnn_np.compare.comparison": ("tests/compare/test_compare.py", "the table that both frameworks fill"),
    "mrcnn_np.compare.fixed_relus": ("tests/compare/test_compare.py", "the same"),
    "mrcnn_np.compare.report": ("tests/compare/test_compare.py", "the same"),
    "mrcnn_np.compare.pictures": ("tests/compare/test_compare.py", "the same"),
    "mrcnn_np.compare.rows": ("tests/compare/test_compare.py", "the same"),
    "mrcnn_np.compare.run": ("tests/compare/test_compare.py", "the same"),
    "mrcnn_np.compare.keras.*": ("tests/compare/test_keras_model.py", "needs TensorFlow"),
    "mrcnn_np.compare.operations.*": ("tests/compare/test_ops_torch_table.py", "needs PyTorch"),
    "mrcnn_np.compare.torchvision.*training*": ("tests/compare/test_torchvision_train_steps.py", "needs torchvision"),
    "mrcnn_np.compare.torchvision.*": ("tests/compare/test_torchvision_compare.py", "needs torchvision"),
    "kernels": ("tests/kernels/test_dispatch.py", "the dispatch"),
    "kernels.placement": ("tests/cuda/test_placement.py", "needs a device, or its stand-in"),
    "kernels.cuda*": ("tests/cuda/test_network.py", "all of them together; tests/cuda has a test for each file"),
    "kernels.cpu*": (
        "tests/kernels/test_dispatch.py",
        "every kernel beside its NumPy body, which has a test of its name",
    ),
}

UNTESTED = {
    "mrcnn_np.bench.team": "processes that take turns: minutes, and only with PyTorch; `make bench` runs them",
    "mrcnn_np.bench.worker": "the same",
    "mrcnn_np.cli.bench": "the same",
    "mrcnn_np.bench.convolution_rows": "what each row of the table of convolutions gains: timings",
    "mrcnn_np.bench.presets": "measures the memory of every preset, the large ones included: minutes and gigabytes",
}


@functools.cache
def reached(test: str) -> frozenset[str]:
    """Return the modules that a test imports, itself or by way of others."""
    todo = [sources.module_of(name) for name, _ in sources.imported(ROOT / test, test)]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name and name not in seen:
            seen.add(name)
            todo += [i.imported for i in imports() if i.importer == name]
            todo.append(name.rpartition(".")[0])  # a/__init__ runs before a/b
    return frozenset(seen)


def own_test(module: str, path: Path) -> Path:
    """Return where the test of a module's name would lie."""
    parts = module.split(".")
    folder = parts[1:] if parts[0] == "mrcnn_np" else parts
    folder = folder if path.name == "__init__.py" else folder[:-1]
    return ROOT.joinpath("tests", *folder, f"test_{parts[-1].strip('_')}.py")


def test_every_module_has_a_test_of_its_name_or_says_where_it_is_tested() -> None:
    covered: dict[str, set[str]] = {entry: set() for entry in TESTED_IN}
    missing, unused = [], []
    for module, path in modules().items():
        if own_test(module, path).is_file() or not sources.does_something(path):
            continue
        if module in UNTESTED:
            continue
        entries = [entry for entry in TESTED_IN if fnmatch.fnmatchcase(module, entry)]
        if not entries:
            missing.append(module)
        for entry in entries[:1]:  # the first that fits
            test = TESTED_IN[entry][0]
            said = re.search(rf"\b{module.rpartition('.')[2]}\b", (ROOT / test).read_text())
            if module not in reached(test) and not said:
                unused.append(f"{test} does not use {module}")
            covered[entry].add(module)
    assert not missing, "\n".join(missing)
    assert not unused, "\n".join(unused)
    assert {entry for entry, which in covered.items() if not which} == set()
    assert {m for m in UNTESTED if m not in modules() or own_test(m, modules()[m]).is_file()} == set()


# --- documents ------------------------------------------------------------------------------------------------------

# Dotted names that begin like a module of ours and are somebody else's
FOREIGN = {
    "anchors.p2": "a tensor's name in a trace",
    "anchors.p6": "the same",
    "model.train": "PyTorch's",
    "model.keras_model.save_weights": "matterport's",
}
ENDINGS = (".py", ".md", ".json", ".jsonl", ".png", ".html", ".txt", ".safetensors")


def readable() -> list[Path]:
    return [*documents(), *scripts(), *modules().values()]


def test_documents_name_files_that_exist() -> None:
    files = ["/" + str(p.relative_to(ROOT)) for folder in (*sources.PACKAGES, "tests", "tutorial", "docs", "recipes")
             for p in (ROOT / folder).rglob("*.py")]  # fmt: skip
    wrong = []
    for path in readable():
        for name in re.findall(r"[\w/]+\.py\b", prose(path)):
            if "NAME" not in name and not any(file.endswith("/" + name.lstrip("/")) for file in files):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert not wrong, "\n".join(wrong)


def test_documents_name_what_modules_hold() -> None:
    """``molding.make_batch`` in a page or a docstring is a name that molding.py has; a field of ``config`` is one."""
    fields = {field.name for field in dataclasses.fields(Config)}
    parameters = [name for preset in presets.PRESETS
                  for name in spec(presets.PRESETS[preset]())]  # fmt: skip
    foreign, wrong = set(), []
    for path in readable():
        text = prose(path)
        names = set(re.findall(r"`+(\w+(?:\.\w+)+)", text)) | set(re.findall(r"\b(?:mrcnn_np|kernels)(?:\.\w+)+", text))
        for name in names:
            if name.endswith(ENDINGS) or name.startswith(("torchvision.", "cuda.")):  # numba's cuda
                continue
            parts = name.split(".")
            good = exists(name) or any(p.startswith(f"{name}.") or p == name for p in parameters)
            good = good or (parts[-2] == "config" and parts[-1] in fields)
            foreign |= {name} & set(FOREIGN)
            if not good and name not in FOREIGN and begins_like_ours(parts[0]):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert not wrong, "\n".join(wrong)
    assert foreign == set(FOREIGN)


def begins_like_ours(first: str) -> bool:
    return any(first in name.split(".") for name in modules())


def exists(name: str) -> bool:
    """Say whether some module ends like the beginning of a dotted name and holds the rest."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        ending, rest = "." + ".".join(parts[:cut]), ".".join(parts[cut:])
        for module, path in modules().items():
            if f".{module}".endswith(ending) and (not rest or rest in names_in(path)):
                return True
    return False


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = link.partition("#")
        to = (page.parent / target).resolve() if target else page
        assert to.exists(), link
        assert not anchor or anchor in anchors(to), link


def test_functions_of_several_arguments_say_their_parameters() -> None:
    silent = []
    for name, path in modules().items():
        if not name.startswith("mrcnn_np"):
            continue
        bodies = [ast.parse(path.read_text()).body]
        bodies += [node.body for node in bodies[0] if isinstance(node, ast.ClassDef)]
        for node in (node for body in bodies for node in body if isinstance(node, ast.FunctionDef)):
            given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            several = len([a for a in given if a not in ("self", "cls")]) >= 3
            if several and not node.name.startswith("_") and "Parameters\n---" not in (ast.get_docstring(node) or ""):
                silent.append(f"{name}.{node.name}")
    assert silent == []
