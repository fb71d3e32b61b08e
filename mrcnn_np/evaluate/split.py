"""How good a model is on a split of a data set: it detects in every image, and the detections are evaluated."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from ..config import Config
from ..data.masks import in_runs
from ..data.sample import Dataset, Sample
from ..detections import Detections
from ..errors import ConfigError, DataError
from ..keypoints.pose import COCO_PERSON, Pose
from ..model import MaskRCNN
from ..parallel.ranks import ALONE, Ranks
from .coco import CocoEvaluation, CocoEvaluator
from .counting import Counts, count_from_scores
from .oks import OksEvaluator
from .voc import Evaluation, Evaluator

#: a gallery shows detections above this score; evaluation counts all of them
SHOWN_SCORE = 0.5
#: images in a gallery
SHOWN = 12


@dataclass
class SplitReport:
    """How good a model is on one split.

    Attributes
    ----------
    evaluations : dict of str to Evaluation or CocoEvaluation
        By ``"box"`` and ``"mask"``.
    samples, detections : list
        Some images to look at, and what was found in them.
    skipped : dict of str to str
        Images that could not be read, and why.
    notes : list of str
        What has to be known to read the numbers, a sentence each: limits that were reached.
    counts : Counts or None
        What is found from a score on: of masks, where they were measured, else of boxes; None if neither was.
    seconds : float
    coco : CocoEvaluation or None
        COCO's numbers of masks, or else boxes, if they were asked for.
    """

    evaluations: dict[str, Evaluation | CocoEvaluation] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    detections: list[Detections] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    counts: Counts | None = None
    seconds: float = 0.0
    coco: CocoEvaluation | None = None

    def table(self, kind: str) -> str:
        """Return the table of one kind, of classes by VOC's rules with COCO's AP beside, where it was asked for."""
        evaluation = self.evaluations[kind]
        if isinstance(evaluation, CocoEvaluation):
            return evaluation.table()
        return evaluation.table(self.coco if self.coco is not None and self.coco.iou_type == kind else None)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        numbers = {kind: evaluation.as_dict() for kind, evaluation in self.evaluations.items()}
        counts = None if self.counts is None else self.counts.as_dict()
        return {
            **numbers,
            **({} if self.coco is None else {"coco": self.coco.as_dict()}),
            "counts": counts,
            "seconds": round(self.seconds, 2),
            "skipped": self.skipped,
            "notes": self.notes,
        }


class DetectionLimit:
    """Count the images that ``detections_per_image`` cuts off.

    Parameters
    ----------
    limit : int
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.images, self.reached, self.exceeded = limit, 0, 0, 0

    def add(self, detections: int, objects: int = 0) -> None:
        """Count one image: what was found, and what there is, if that is known."""
        self.images += 1
        self.reached += detections >= self.limit
        self.exceeded += objects > self.limit

    def describe(self) -> list[str]:
        """Return a sentence if there is anything to say."""
        if not (self.reached or self.exceeded):
            return []
        counts = [f"{self.reached} of {self.images} images reached that number of detections, which scored best"]
        if self.exceeded:
            counts.append(f"{self.exceeded} have more objects, of which the rest cannot be found")
        advice = "--config detections_per_image=N allows more"
        return [f"detections_per_image is {self.limit}: {'; '.join(counts)} ({advice})"]


def shared_images(a: Dataset, b: Dataset) -> int:
    """Count the images that two data sets have in common: files, not ids, which may begin with 1 in both."""
    places = [{str(image_place(d, image_id)) for image_id in d.ids} for d in (a, b)]
    return len(places[0] & places[1])


def image_place(dataset: Any, image_id: str) -> object:
    """Return what tells an image of a data set from all others: its file, where the data set says which that is."""
    instances = getattr(dataset, "instances", None)
    if instances is not None:
        return dataset.image_folder.resolve() / instances.images[int(image_id)].file_name
    return image_id


def require_readable(dataset: Dataset, what: str, *, progress: bool) -> None:
    """Read every image that will be evaluated, so that hours of training do not end in a message about a file.

    Parameters
    ----------
    dataset : Dataset
    what : str
        What the progress bar says.
    progress : bool
        Show the bar.

    Raises
    ------
    DataError
        Names the first that cannot be read.
    """
    for index in tqdm(range(len(dataset)), desc=what, unit="image", disable=not progress):
        try:
            dataset.load(index)
        except DataError as error:
            raise _advising(error, dataset.ids[index]) from error


def _advising(error: DataError, image_id: str) -> DataError:
    return DataError(f"{error} (mend it, or leave such images out with --skip-bad)", image_id=image_id)


def _to_be_sent(sample: Sample) -> Sample:
    """Leave out the picture, which is most of a sample; an evaluation asks for its height and width only."""
    return sample.replace(image=sample.image[:, :, :0])


def never_taught(report: SplitReport, untaught: Sequence[str]) -> list[str]:
    """Say which objects of a split cannot be found, as nothing taught their class, and what AP is without them.

    Parameters
    ----------
    report : SplitReport
        With ``Evaluation``s; of COCO's nothing is said.
    untaught : sequence of str
        Classes that no picture of the training set taught.

    Returns
    -------
    list of str
        A sentence, or none.
    """
    counted = {kind: e for kind, e in report.evaluations.items() if isinstance(e, Evaluation)}
    if not counted:
        return []
    some = next(iter(counted.values()))
    lost = [k for k, name in enumerate(some.class_names) if name in untaught and some.gt[k]]
    if not lost:
        return []
    objects = ", ".join(f"{some.class_names[k]} ({some.gt[k]} object{'' if some.gt[k] == 1 else 's'})" for k in lost)
    rest = {kind: np.delete(e.ap, lost) for kind, e in counted.items()}
    without = [f"{kind} AP {np.nanmean(ap):.3f}" for kind, ap in rest.items() if not np.isnan(ap).all()]
    mean = f" Without it the mean is: {', '.join(without)}" if without else ""
    return [
        f"never taught: {objects}. No picture that the network was trained on shows this, so nothing of it can be "
        f"found, and its AP of 0 is part of the mean.{mean}"
    ]


def kinds_of(config: Config) -> tuple[str, ...]:
    """Name what of a network's output is compared with the truth."""
    return ("box", *(["mask"] if config.mask_branch else []), *(["keypoints"] if config.keypoints else []))


def ap50_of(evaluation: Evaluation | CocoEvaluation) -> float | None:
    """Return the average precision at an overlap of 0.5; None if there are no objects.

    Parameters
    ----------
    evaluation : Evaluation or CocoEvaluation
    """
    ap = float(evaluation.mean_ap if isinstance(evaluation, Evaluation) else evaluation.numbers["AP50"])
    return ap if ap >= 0 else None  # NaN, and COCO's -1, where there are none


def pose_in(dataset: Any) -> Pose | None:
    """Return what the keypoints of a data set are called, also of one that is wrapped; None if it has none."""
    while not hasattr(dataset, "pose") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    pose: Pose | None = getattr(dataset, "pose", None)
    return pose


def require_pose(dataset: Dataset, config: Config, what: str = "the data set") -> None:
    """Raise ``ConfigError`` if a network has keypoints and a data set has none, or others.

    Parameters
    ----------
    dataset : Dataset
    config : Config
    what : str
        The data set, for the message.
    """
    pose, kinds = pose_in(dataset), config.keypoints
    if kinds and pose is None:
        raise ConfigError(
            f"keypoints is {kinds}, but {what} has none; expected a JSON in COCO's format whose categories have "
            "keypoints, such as person_keypoints_train2017.json"
        )
    if kinds and pose is not None and len(pose) != kinds:
        raise ConfigError(f"keypoints is {kinds}, but {what} has {len(pose)}: {', '.join(pose.names[:20])}")


def evaluate_split(
    model: MaskRCNN,
    dataset: Dataset,
    *,
    method: str = "voc10",
    iou_types: tuple[str, ...] | None = None,
    class_ids: np.ndarray | None = None,
    skip_bad: bool = False,
    progress: bool = True,
    label: str = "evaluate",
    learned_from: bool = False,
    with_coco: bool = False,
    on_image: Callable[[str, Detections], None] | None = None,
    ranks: Ranks = ALONE,
) -> SplitReport:
    """Detect the objects of every image and compare them with the ground truth, one image in memory at a time.

    Parameters
    ----------
    model : MaskRCNN
    dataset : Dataset
    method : {"voc07", "voc10", "coco"}
    iou_types : tuple of {"box", "mask", "keypoints"}, optional
        By default what the network predicts. Keypoints are measured by COCO's rules, whatever the method.
    class_ids : ndarray of shape (num_classes,), optional
        The data set's class for each class of the model, 0 where it has none; if not given, they are the same.
    skip_bad : bool
        Leave out images that cannot be read, instead of stopping.
    progress : bool
        Show a progress bar.
    label : str
        What the bar says.
    learned_from : bool
        The network was trained on these images, so that no score is proposed by them.
    with_coco : bool
        Say in ``coco`` what the same detections are by COCO's rules, too: of masks, where those are measured, else of
        boxes.
    on_image : callable, optional
        Called with the id and the detections of every image.
    ranks : Ranks
        If there are several, they share the images. The first one receives what all found, in the order of the images,
        and does with it what one process would; the others' reports are empty.

    Returns
    -------
    SplitReport
    """
    evaluators: dict[str, Evaluator | CocoEvaluator] = {}
    for kind in kinds_of(model.config) if iou_types is None else iou_types:
        if kind == "keypoints":
            require_pose(dataset, model.config)
            evaluators[kind] = OksEvaluator(dataset.class_names, pose_in(dataset) or COCO_PERSON)
        elif method == "coco":
            evaluators[kind] = CocoEvaluator(dataset.class_names, iou_type=kind)
        else:
            evaluators[kind] = Evaluator(dataset.class_names, method=method, iou_type=kind)
    report, began = SplitReport(), time.perf_counter()
    best = next((kind for kind in ("mask", "box") if kind in evaluators), None)
    coco = CocoEvaluator(dataset.class_names, iou_type=best) if with_coco and best is not None else None
    limit = DetectionLimit(model.config.detections_per_image)

    def look(index: int) -> tuple[Sample, Detections] | DataError:
        try:
            sample = dataset.load(index)
        except DataError as error:
            return error
        found = model.detect([sample.image])[0]
        # run lengths: a hundred masks of a large photograph are gigabytes as arrays, and some are kept for the gallery
        runs: Any = in_runs(found.masks)
        found = replace(found, masks=runs)
        return (sample, found) if ranks.first else (_to_be_sent(sample), replace(found, image=None))

    seen = tqdm(ranks.spread(look, range(len(dataset))), label, len(dataset), unit="image", disable=not progress)
    for index, looked in enumerate(seen):
        if isinstance(looked, DataError):
            if not skip_bad:
                raise _advising(looked, dataset.ids[index]) from looked
            report.skipped[dataset.ids[index]] = str(looked)
            continue
        sample, found = looked
        limit.add(len(found.scores), int((~sample.gt_crowd).sum()))
        if class_ids is not None:
            found = found.of_classes(class_ids)
        for evaluator in (*evaluators.values(), *([] if coco is None else [coco])):
            evaluator.add(found, sample)
        if on_image is not None:
            on_image(sample.image_id, found)
        if len(report.samples) < SHOWN:
            if found.image is None:
                sample = dataset.load(index)
                found = replace(found, image=sample.image)
            report.samples.append(sample)
            report.detections.append(found.above(SHOWN_SCORE))
    if report.skipped and len(report.skipped) == len(dataset):
        raise DataError(
            f"none of the {len(dataset)} images can be read; the last error: {[*report.skipped.values()][-1]}"
        )
    report.evaluations = {kind: evaluator.result() for kind, evaluator in evaluators.items()}
    report.coco = None if coco is None else coco.result()
    report.counts = _counts(evaluators, model.config, learned_from)
    report.notes += limit.describe()
    report.seconds = time.perf_counter() - began
    return report


def _counts(evaluators: Mapping[str, Evaluator | CocoEvaluator], config: Config, learned_from: bool) -> Counts | None:
    """Count what is found from a score on, of masks if they are measured, else of boxes."""
    evaluator = evaluators.get("mask") or evaluators.get("box")
    if evaluator is None or not evaluator.images:
        return None
    counts = count_from_scores(
        evaluator.matches(),
        threshold=config.detection_score_threshold,
        inclusive=config.detection_score_inclusive,
    )
    why = "the network has learnt these images; held-out ones are asked for that"
    return counts.not_proposing(why) if learned_from else counts
