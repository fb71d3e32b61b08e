"""``mrcnn-np detect``: objects in image files, as pictures, numbers and masks."""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..data.given import Given, GivenFile, find_given
from ..data.notes import Notes
from ..data.to_correct import FolderToCorrect, LabelImageFolder, LabelmeFolder, numbered
from ..detections import Detections
from ..errors import DataError, UserError, printable
from ..evaluate.split import DetectionLimit
from ..files import atomic_write, prepare, write_json
from ..model import MaskRCNN
from ..pictures.instances import draw_instances
from .network import checkpoint_path, load_model, of_weights, refuse_options_of_weights
from .results_file import ResultsFile

#: what --score is by default; evaluation uses the configuration's own, which is lower
DEFAULT_SCORE = 0.5
DETECT_WRITES = ("detections.png", "detections.json", "instances.png")
#: what is written of frames
_FRAME = "{}_frame{:05d}"
_OF_FRAME = re.compile(rf"(.+)_frame\d{{5,}}_({'|'.join(map(re.escape, DETECT_WRITES))})")
#: messages of files that cannot be read, until they are only counted
_MOST_MESSAGES = 20


class Picture(NamedTuple):
    """One image, or one frame: how its output is called, where it is, and its pixels (H, W, 3)."""

    name: str
    file: GivenFile
    frame: int | None
    image: np.ndarray

    def __str__(self) -> str:
        """Return where it is."""
        return f"{self.file.path}" if self.frame is None else f"{self.file.path}: frame {self.frame}"


def run_detect(args: argparse.Namespace) -> int:
    """Detect objects in image files; a bad file is reported, and the others are done all the same."""
    model, class_names = _detector(args)
    out = Path(args.out)
    prepare(out)
    given = find_given(args.images, without=[Path(p) for p in (out, args.labelme, args.label_images) if p is not None])
    names = _unique_names([file.path for file in given.files])
    results = _results(args, names, class_names)
    _refuse_overwriting(out, names, args.coco_results)
    folders = _folders_to_correct(args, class_names)
    limit, notes, count = DetectionLimit(model.config.detections_per_image), Notes(), 0
    for picture in _pictures(given, names, args, notes):
        found = model.detect([picture.image])[0]
        limit.add(len(found.scores))
        found, count = within_limits(found, args), count + 1
        written = _write_detections(out, picture, found, class_names, results, draw=not args.no_pictures)
        for folder in folders:
            folder.add(picture.name, picture.file, picture.frame, picture.image, found)
        tqdm.write(f"{picture}: {_in_words(found, class_names)} -> {written}")
    if results is not None:
        results.write()
    for folder in folders:
        print(f"{count} images written to {folder.folder}; train with: mrcnn-np train --data {folder.folder}")
        if folder.hidden:
            print(f"{folder.hidden} detections without a pixel of their own are not in it", file=sys.stderr)
    for line in limit.describe():
        print(line)
    return _report(given, notes)


def _pictures(given: Given, names: dict[Path, str], args: argparse.Namespace, notes: Notes) -> Iterator[Picture]:
    """Yield the pictures of all files with a bar; what cannot be read is added to ``given.bad``."""
    taken, count = set(names.values()), 0
    bar = tqdm(given.files, unit="file", disable=args.quiet or len(given.files) == 1)
    for file in bar:
        try:
            frames = args.ground_truth is None  # which lists files
            for frame, image in file.pictures(frames=frames, step=args.frame_step, notes=notes):
                name = names[file.path]
                if frame is not None:
                    name = _unlike(_FRAME.format(name, frame), taken)
                    taken.add(name)
                    count += 1
                    bar.set_postfix_str(f"{count} frames")
                yield Picture(name, file, frame, image)
        except DataError as error:
            given.bad.append(str(error))


def _report(given: Given, notes: Notes) -> int:
    """Say what was not done, and return the exit code."""
    for line in notes.repeated():
        print(f"warning: {line}", file=sys.stderr)
    for files, what in ((given.others, "not called like pictures"), (given.masks, "masks beside photographs")):
        if files:
            print(f"{len(files)} files are {what} and were left out (such as {printable(files[0])})", file=sys.stderr)
    for message in given.bad[:_MOST_MESSAGES]:
        print(f"error: {message}", file=sys.stderr)
    if len(given.bad) > _MOST_MESSAGES:
        print(f"error: and {len(given.bad) - _MOST_MESSAGES} more that cannot be read", file=sys.stderr)
    if given.bad and len(given.files) > 1:
        print(f"error: {len(given.bad)} could not be read; the others are done", file=sys.stderr)
    return 2 if given.bad else 0


def _results(args: argparse.Namespace, names: dict[Path, str], class_names: tuple[str, ...]) -> ResultsFile | None:
    if args.coco_results is not None:
        return ResultsFile.of_files(args.coco_results, names, class_names, args.ground_truth)
    if args.ground_truth is not None:
        raise UserError("--ground-truth numbers the images of --coco-results; expected that option, too")
    return None


def _refuse_overwriting(out: Path, names: dict[Path, str], coco_results: str | None) -> None:
    """Raise ``UserError`` where an image would be replaced by what is written of another, or of a frame of another."""
    folder, stems = out.resolve(), set(names.values())
    written = {(folder / f"{name}_{kind}") for name in stems for kind in DETECT_WRITES}
    if coco_results is not None:
        written.add(Path(coco_results).resolve())
    for path in names:
        there = path.resolve()
        frame = _OF_FRAME.fullmatch(there.name) if there.parent == folder else None
        if there in written or (frame and frame[1] in stems):
            raise UserError(f"{path} would be overwritten by what is written into {out}; choose another --out")


def _folders_to_correct(args: argparse.Namespace, class_names: tuple[str, ...]) -> list[FolderToCorrect]:
    kinds: tuple[tuple[type[FolderToCorrect], str | None], ...]
    kinds = ((LabelmeFolder, args.labelme), (LabelImageFolder, args.label_images))
    places = [Path(path).resolve() for path in (args.out, *(path for _, path in kinds)) if path is not None]
    if len(set(places)) < len(places):
        raise UserError("--out, --labelme and --label-images name one folder; expected another for each")
    return [kind(path, class_names) for kind, path in kinds if path is not None]


def _detector(args: argparse.Namespace) -> tuple[MaskRCNN, tuple[str, ...]]:
    """Load the network that --run, --checkpoint or --weights names, and the names of its classes."""
    changes: dict[str, object] = {}
    if args.score is not None or not any(text.startswith("detection_score_threshold=") for text in args.config or ()):
        changes["detection_score_threshold"] = DEFAULT_SCORE if args.score is None else args.score
    if args.every_class:
        changes["detection_classes"] = "all"
    if args.weights is not None:
        model = of_weights(args, **changes)
        return model, model.class_names or ("background", *(f"class {i}" for i in range(1, model.config.num_classes)))
    refuse_options_of_weights(args)
    model, checkpoint = load_model(checkpoint_path(args), args.config or (), **changes)
    return model, checkpoint.class_names


def within_limits(found: Detections, args: argparse.Namespace) -> Detections:
    """Return the detections whose box and mask are within --min-side, --max-side, --min-area and --max-area."""
    sides, areas = found.boxes[:, 2:] - found.boxes[:, :2], found.masks.sum(axis=(1, 2))
    kept = np.ones(len(found), bool)
    if args.min_side is not None:
        kept &= sides.min(axis=1) >= args.min_side
    if args.max_side is not None:
        kept &= sides.max(axis=1) <= args.max_side
    if args.min_area is not None:
        kept &= areas >= args.min_area
    if args.max_area is not None:
        kept &= areas <= args.max_area
    return found if kept.all() else found[kept]


def _unique_names(paths: list[Path]) -> dict[Path, str]:
    """Name the output of each image after its file; equal names in different folders get a number."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in dict.fromkeys(paths):
        names[path] = _unlike(path.stem, taken)
        taken.add(names[path])
    return names


def _unlike(stem: str, taken: set[str]) -> str:
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    return name


def _in_words(found: Detections, class_names: tuple[str, ...]) -> str:
    ids, counts = np.unique(found.class_ids, return_counts=True)
    return ", ".join(f"{n} {class_names[i]}" for i, n in zip(ids, counts)) or "nothing found"


def _write_detections(
    out: Path,
    picture: Picture,
    found: Detections,
    class_names: tuple[str, ...],
    results: ResultsFile | None,
    *,
    draw: bool,
) -> Path:
    """Write the picture, the numbers, and the masks as a PNG of instance numbers; return what to look at first."""
    name, image = picture.name, picture.image
    if draw:
        draw_instances(
            image,
            found.boxes,
            found.class_ids,
            found.masks if found.has_masks else None,
            class_names,
            scores=found.scores,
            skeletons=found.skeletons,
            path=out / f"{name}_detections.png",
        )
    mask_file = f"{name}_instances.png"
    png = io.BytesIO()
    Image.fromarray(numbered(found)).save(png, format="png")
    atomic_write(out / mask_file, png.getvalue())
    record: dict[str, object] = {"image": str(picture.file.path)}
    record |= {} if picture.frame is None else {"frame": picture.frame}
    if results is not None:
        results.add(name, found)
        record["coco_image_id"] = results.number(name)
    record |= {
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
                **_keypoints_of(found, n),
            }
            for n in range(len(found.scores))
        ],
    }
    if found.pose is not None:
        record["skeleton"] = [[found.pose.names[a], found.pose.names[b]] for a, b in found.pose.skeleton]
    write_json(out / f"{name}_detections.json", record)
    return out / f"{name}_detections.{'png' if draw else 'json'}"


def _keypoints_of(found: Detections, n: int) -> dict[str, object]:
    """Return what the JSON says of the keypoints of a detection: place and logit by name; nothing without them."""
    if found.keypoints is None or found.keypoint_scores is None or found.pose is None:
        return {}
    points = zip(found.pose.names, found.keypoints[n].tolist(), found.keypoint_scores[n].tolist())
    return {
        "keypoints": {name: {"y": round(y, 2), "x": round(x, 2), "score": round(s, 3)} for name, (y, x), s in points}
    }
