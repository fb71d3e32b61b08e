"""``mrcnn-np detect``: objects in image files, as pictures, numbers and masks."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..data.images import read_image
from ..data.notes import Notes
from ..detections import Detections
from ..errors import DataError, UserError
from ..evaluate.split import DetectionLimit
from ..files import atomic_write, prepare, write_json
from ..model import MaskRCNN
from ..pictures.instances import draw_instances
from .network import checkpoint_path, load_model, of_weights, refuse_options_of_weights
from .results_file import ResultsFile

#: what --score is by default; evaluation uses the configuration's own, which is lower
DEFAULT_SCORE = 0.5
DETECT_WRITES = ("detections.png", "detections.json", "instances.png")


def run_detect(args: argparse.Namespace) -> int:
    """Detect objects in image files; a bad file is reported, and the others are done all the same."""
    model, class_names = _detector(args)
    out = Path(args.out)
    prepare(out)
    bad: list[str] = []
    notes = Notes()
    names = _unique_names([Path(p) for p in args.images])
    written = {(out / f"{name}_{kind}").resolve() for name in names.values() for kind in DETECT_WRITES}
    results = None
    if args.coco_results is not None:
        written.add(Path(args.coco_results).resolve())
        results = ResultsFile.of_files(args.coco_results, names, class_names, args.ground_truth)
    elif args.ground_truth is not None:
        raise UserError("--ground-truth numbers the images of --coco-results; expected that option, too")
    for path in names:
        if path.resolve() in written:
            raise UserError(f"{path} would be overwritten by what is written into {out}; choose another --out")
    limit = DetectionLimit(model.config.detections_per_image)
    for path, name in tqdm(list(names.items()), unit="image", disable=args.quiet or len(names) == 1):
        try:
            image = read_image(path, notes=notes)
        except DataError as error:
            bad.append(str(error))
            continue
        found = model.detect([image])[0]
        limit.add(len(found.scores))
        _write_detections(out, name, path, image, found, class_names)
        if results is not None:
            results.add(name, found)
        tqdm.write(f"{path}: {_in_words(found, class_names)} -> {out / name}_detections.png")
    if results is not None:
        results.write()
    for line in notes.repeated():
        print(f"warning: {line}", file=sys.stderr)
    for line in limit.describe():
        print(line)
    for message in bad:
        print(f"error: {message}", file=sys.stderr)
    return 2 if bad else 0


def _detector(args: argparse.Namespace) -> tuple[MaskRCNN, tuple[str, ...]]:
    """Load the network that --run, --checkpoint or --weights names, and the names of its classes."""
    changes = {}
    if args.score is not None or not any(text.startswith("detection_score_threshold=") for text in args.config or ()):
        changes["detection_score_threshold"] = DEFAULT_SCORE if args.score is None else args.score
    if args.weights is not None:
        model = of_weights(args, **changes)
        return model, model.class_names or ("background", *(f"class {i}" for i in range(1, model.config.num_classes)))
    refuse_options_of_weights(args)
    model, checkpoint = load_model(checkpoint_path(args), args.config or (), **changes)
    return model, checkpoint.class_names


def _unique_names(paths: list[Path]) -> dict[Path, str]:
    """Name the output of each image after its file; equal names in different folders get a number."""
    names: dict[Path, str] = {}
    for path in dict.fromkeys(paths):
        name, number = path.stem, 2
        while name in names.values():
            name, number = f"{path.stem}-{number}", number + 1
        names[path] = name
    return names


def _in_words(found: Detections, class_names: tuple[str, ...]) -> str:
    ids, counts = np.unique(found.class_ids, return_counts=True)
    return ", ".join(f"{n} {class_names[i]}" for i, n in zip(ids, counts)) or "nothing found"


def _write_detections(
    out: Path, name: str, path: Path, image: np.ndarray, found: Detections, class_names: tuple[str, ...]
) -> None:
    """Write the picture, the numbers, and the masks as a PNG of instance numbers."""
    draw_instances(
        image,
        found.boxes,
        found.class_ids,
        found.masks,
        class_names,
        scores=found.scores,
        path=out / f"{name}_detections.png",
    )
    instances = np.zeros(image.shape[:2], np.uint16)
    for number in range(len(found.scores), 0, -1):  # best last, so that it lies on top
        instances[found.masks[number - 1]] = number
    mask_file = f"{name}_instances.png"
    png = io.BytesIO()
    Image.fromarray(instances.astype(np.uint8) if len(found.scores) < 256 else instances).save(png, format="png")
    atomic_write(out / mask_file, png.getvalue())
    record = {
        "image": str(path),
        "height": image.shape[0],
        "width": image.shape[1],
        "box": "y1, x1, y2, x2 in pixels, half-open: pixels y1 .. y2 - 1",
        "masks": f"{mask_file}: 0 is background, n is detection n; where masks overlap, the better score is on top",
        "detections": [
            {
                "n": n + 1,
                "class": class_names[int(found.class_ids[n])],
                "class_id": int(found.class_ids[n]),
                "score": round(float(found.scores[n]), 5),
                "box": [round(float(v), 2) for v in found.boxes[n]],
                "pixels": int(found.masks[n].sum()),
            }
            for n in range(len(found.scores))
        ],
    }
    write_json(out / f"{name}_detections.json", record)
