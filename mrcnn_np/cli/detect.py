"""``mrcnn-np detect``: objects in image files, as pictures, numbers and masks."""

from __future__ import annotations

import argparse
import io
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..data.given import Given, GivenFile, find_given
from ..data.masks import in_runs
from ..data.notes import Notes
from ..data.photographs import DARK, is_dark
from ..data.to_correct import FolderToCorrect, LabelImageFolder, LabelmeFolder, numbered
from ..detections import Detections
from ..errors import DataError, UserError, printable, some_of
from ..evaluate.counting import DEFAULT_SCORE
from ..evaluate.split import DetectionLimit
from ..files import atomic_write, prepare, write_json
from ..model import MaskRCNN
from ..molding import at_size
from ..parallel.ranks import Ranks
from ..pictures.instances import draw_instances
from ..tables import counted, of_each_class
from ..weights.place import of_run
from .looking_size import Scales, scale_in_training
from .network import checkpoint_path, load_model, of_weights, refuse_options_of_weights
from .object_table import Measured, ObjectTable, measured
from .results_file import ResultsFile

DETECT_WRITES = ("detections.png", "detections.json", "instances.png")
#: what is written of frames
_FRAME = "{}_frame{:05d}"
_OF_FRAME = re.compile(rf"(.+)_frame\d{{5,}}_({'|'.join(map(re.escape, DETECT_WRITES))})")
#: messages of files that cannot be read, until they are only counted
_MOST_MESSAGES = 20
#: pictures named in one line
_MOST_NAMED = 10


class Picture(NamedTuple):
    """One image, or one frame: how its output is called, where it is, and its pixels (H, W, 3).

    A picture that another process looked at has lost its pixels on the way, (H, W, 0), unless they are needed again.
    """

    name: str
    file: GivenFile
    frame: int | None
    image: np.ndarray

    def __str__(self) -> str:
        """Return where it is."""
        return f"{self.file.path}" if self.frame is None else f"{self.file.path}: frame {self.frame}"


class Looked(NamedTuple):
    """What was found in a picture: how many objects, those within the limits of the options, its record, its rows."""

    picture: Picture
    objects: int
    found: Detections
    record: dict[str, object]
    rows: list[Measured]


class Job(NamedTuple):
    """A command that can begin: everything that could be wrong with it has been looked at."""

    model: MaskRCNN
    class_names: tuple[str, ...]
    out: Path
    given: Given
    names: dict[Path, str]
    results: ResultsFile | None
    table: ObjectTable | None
    folders: list[FolderToCorrect]


def run_detect(args: argparse.Namespace) -> int:
    """Detect objects in image files; a bad file is reported, and the others are done all the same."""
    ranks: Ranks = args.ranks
    job = ranks.after_first(lambda: _prepared(args))
    model, class_names, out, given, _, results, table, folders = job
    limit, notes, count = DetectionLimit(model.config.detections_per_image), Notes(), 0
    network = checkpoint_path(args) if args.weights is None else of_run(args.weights)
    scales = Scales(model.config, scale_in_training(network.parent) if ranks.first else None)
    for looked in _looked_at(job, args, notes):
        if isinstance(looked, str):
            given.bad.append(looked)
            continue
        picture, found, count = looked.picture, looked.found, count + 1
        limit.add(looked.objects)
        size = picture.image.shape[0], picture.image.shape[1]
        scales.add(str(picture), size)
        written = _write_record(out, looked, results, drawn=not args.no_pictures)
        if table is not None:
            full = looked.objects >= limit.limit
            table.add(picture.file.path, picture.name, looked.rows, size=size, frame=picture.frame, limit_reached=full)
        for folder in folders:
            folder.add(picture.name, picture.file, picture.frame, picture.image, found)
        tqdm.write(f"{picture}: {_in_words(found, class_names)} -> {written}")
    for others in ranks.gather(notes)[1:]:
        notes.take_over(others)
    if not ranks.first:
        return 0
    if count == 0:
        return _report(given, notes, "nothing is written")
    for file in (results, table):
        if file is not None:
            file.write()
    weights = "" if args.weights else f" --weights {shlex.quote(str(checkpoint_path(args)))}"
    for folder in folders:
        where = folder.folder
        train = f"mrcnn-np train --data {shlex.quote(str(where))}{weights}"
        print(f"{counted(count, 'image')} written to {where}; correct them in {folder.program} first, then: {train}")
        if folder.earlier:
            print(f"{where} holds what an earlier detection wrote of other pictures ({len(folder.earlier)}), too")
        if folder.beside:
            print(f"if you have {folder.beside} already, copy these beside them and train on that folder instead")
        if folder.hidden:
            print(_hidden_in(folder), file=sys.stderr)
    for line in limit.describe():
        print(line)
    for line in scales.describe():
        print(f"warning: {line}", file=sys.stderr)
    return _report(given, notes, "the others are done")


def _prepared(args: argparse.Namespace) -> Job:
    """Find everything that can be wrong before anything is written; what is written to is the first rank's alone."""
    model, class_names = _detector(args)
    out = Path(args.out)
    given = find_given(args.images, without=[Path(p) for p in (out, args.labelme, args.label_images) if p is not None])
    names = _unique_names([file.path for file in given.files])
    if not args.ranks.first:
        return Job(model, class_names, out, given, names, None, None, [])
    prepare(out)
    results = _results(args, names, class_names)
    table = _table(args)
    _refuse_overwriting(out, names, args.coco_results)
    return Job(model, class_names, out, given, names, results, table, _folders_to_correct(args, class_names))


def _looked_at(job: Job, args: argparse.Namespace, notes: Notes) -> Iterator[Looked | str]:
    """Yield what is found in the pictures of all files, with a bar; of what cannot be read, why.

    One process does so picture by picture. Several share the files, and the first one receives what the others found.
    """
    ranks: Ranks = args.ranks
    keep_pixels = bool(args.labelme or args.label_images)  # the pictures themselves are written there
    quiet = args.quiet or len(job.given.files) == 1

    def of_file(file: GivenFile) -> list[Looked | str]:
        return [_to_be_sent(looked, pixels=keep_pixels) for looked in _looks(file, job, args, notes)]

    if ranks.several:
        files = tqdm(ranks.spread(of_file, job.given.files), total=len(job.given.files), unit="file", disable=quiet)
        for file, every in zip(job.given.files, files):
            yield from (x if isinstance(x, str) else x._replace(picture=x.picture._replace(file=file)) for x in every)
        return
    bar, count = tqdm(job.given.files, unit="file", disable=quiet), 0
    for file in bar:
        for looked in _looks(file, job, args, notes):
            if isinstance(looked, Looked) and looked.picture.frame is not None:
                count += 1
                bar.set_postfix_str(f"{count} frames")
            yield looked


def _looks(file: GivenFile, job: Job, args: argparse.Namespace, notes: Notes) -> Iterator[Looked | str]:
    """Yield what is found in the pictures of a file, of which pictures and masks are written; or why it is not read."""
    taken, how = set(job.names.values()), "" if args.no_pictures else "outlines" if args.outlines else "all"
    try:
        frames = args.ground_truth is None  # which lists files
        for frame, image in file.pictures(frames=frames, step=args.frame_step, notes=notes):
            name = job.names[file.path]
            if frame is not None:
                name = _unlike(_FRAME.format(name, frame), taken)
                taken.add(name)
            if is_dark(image, file.path, notes):
                notes.add(DARK, file.path)
            picture = Picture(name, file, frame, image)
            found = job.model.detect([image])[0]
            objects, found = len(found.scores), within_limits(found, args)
            _draw(job.out, picture, found, job.class_names, pictures=how)
            rows = [] if args.table is None else measured(found, image, job.class_names)
            yield Looked(picture, objects, found, _record(picture, found, job.class_names), rows)
    except DataError as error:
        yield str(error)


def _to_be_sent(looked: Looked | str, *, pixels: bool) -> Looked | str:
    """Return what another process is sent: no open file, and if pixels are not needed masks as run lengths."""
    if isinstance(looked, str):
        return looked
    picture, found = looked.picture._replace(file=GivenFile(looked.picture.file.path)), looked.found
    if not pixels:
        runs: Any = in_runs(found.masks)
        picture, found = picture._replace(image=picture.image[:, :, :0]), replace(found, masks=runs, image=None)
    return looked._replace(picture=picture, found=found)


def _report(given: Given, notes: Notes, rest: str) -> int:
    """Say what was not done, and of the ``rest`` what was; return the exit code."""
    for line in notes.repeated():
        print(f"warning: {line}", file=sys.stderr)
    for files, what in ((given.others, "not called like pictures"), (given.masks, "masks beside photographs")):
        if files:
            print(f"left out: {counted(len(files), 'file')}, {what} (such as {printable(files[0])})", file=sys.stderr)
    for message in given.bad[:_MOST_MESSAGES]:
        print(f"error: {message}", file=sys.stderr)
    if len(given.bad) > _MOST_MESSAGES:
        print(f"error: and {len(given.bad) - _MOST_MESSAGES} more that cannot be read", file=sys.stderr)
    if given.bad and len(given.files) > 1:
        print(f"error: {len(given.bad)} could not be read; {rest}", file=sys.stderr)
    return 2 if given.bad else 0


def _hidden_in(folder: FolderToCorrect) -> str:
    """Say which detections are missing in a folder, and why."""
    some = [f"{name} ({count})" for name, count in folder.hidden_in.items()]
    what = "1 detection has" if folder.hidden == 1 else f"{folder.hidden} detections have"
    return (
        f"{what} no pixel in {folder.folder}, because {folder.why_hidden}; they are in the JSON of --out, in these "
        f"pictures: {printable(some_of(some, _MOST_NAMED))}"
    )


def _results(args: argparse.Namespace, names: dict[Path, str], class_names: tuple[str, ...]) -> ResultsFile | None:
    if args.coco_results is not None:
        return ResultsFile.of_files(args.coco_results, names, class_names, args.ground_truth)
    if args.ground_truth is not None:
        raise UserError("--ground-truth numbers the images of --coco-results; expected that option, too")
    return None


def _table(args: argparse.Namespace) -> ObjectTable | None:
    if args.table is not None:
        return ObjectTable(args.table, pixel_size=args.pixel_size)
    if args.pixel_size is not None:
        raise UserError("--pixel-size is for the areas of --table; expected that option, too")
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
        model = _sized(of_weights(args, **changes), args)
        return model, model.class_names or ("background", *(f"class {i}" for i in range(1, model.config.num_classes)))
    refuse_options_of_weights(args)
    model, checkpoint = load_model(checkpoint_path(args), args.config or (), **changes)
    return _sized(model, args), checkpoint.class_names


def _sized(model: MaskRCNN, args: argparse.Namespace) -> MaskRCNN:
    """Let a network look at pictures at --size."""
    if args.size is None:
        return model
    given = tuple(text.partition("=")[0].strip() for text in args.config or ())
    return MaskRCNN(at_size(model.config, args.size, given), model.params, class_names=model.class_names)


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
    return ", ".join(of_each_class(found.class_ids, class_names)) or "nothing found"


def _draw(out: Path, picture: Picture, found: Detections, class_names: tuple[str, ...], *, pictures: str) -> None:
    """Write the picture, if one is wanted ("", "all" or "outlines"), and the masks as a PNG of instance numbers."""
    name, image = picture.name, picture.image
    if pictures:
        masks = found.masks if found.has_masks else None
        draw_instances(
            image, found.boxes, found.class_ids, masks, class_names, scores=found.scores, skeletons=found.skeletons,
            path=out / f"{name}_detections.png", outlines=pictures == "outlines",
        )  # fmt: skip
    png = io.BytesIO()
    Image.fromarray(numbered(found)).save(png, format="png")
    atomic_write(out / f"{name}_instances.png", png.getvalue())


def _record(picture: Picture, found: Detections, class_names: tuple[str, ...]) -> dict[str, object]:
    """Return the numbers of a picture."""
    record: dict[str, object] = {
        "height": picture.image.shape[0],
        "width": picture.image.shape[1],
        "box": "y1, x1, y2, x2 in pixels, half-open: pixels y1 .. y2 - 1",
        "masks": f"{picture.name}_instances.png: 0 is background, n is detection n; where masks overlap, the better "
        "score is on top",
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
    return record


def _keypoints_of(found: Detections, n: int) -> dict[str, object]:
    """Return what the JSON says of the keypoints of a detection: place and logit by name; nothing without them."""
    if found.keypoints is None or found.keypoint_scores is None or found.pose is None:
        return {}
    points = zip(found.pose.names, found.keypoints[n].tolist(), found.keypoint_scores[n].tolist())
    return {
        "keypoints": {name: {"y": round(y, 2), "x": round(x, 2), "score": round(s, 3)} for name, (y, x), s in points}
    }


def _write_record(out: Path, looked: Looked, results: ResultsFile | None, *, drawn: bool) -> Path:
    """Write the numbers of a picture, and add it to the results; return what to look at first."""
    picture, name = looked.picture, looked.picture.name
    record: dict[str, object] = {"image": str(picture.file.path)}
    record |= {} if picture.frame is None else {"frame": picture.frame}
    if results is not None:
        results.add(name, looked.found)
        record["coco_image_id"] = results.number(name)
    write_json(out / f"{name}_detections.json", record | looked.record)
    return out / f"{name}_detections.{'png' if drawn else 'json'}"
