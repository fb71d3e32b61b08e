"""Check a data set before hours of training are spent on it: read every image and collect what is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DataError, DataWarning, printable, some_of
from ..tables import text_table
from .copies import Copies
from .edge_levels import EdgeLevels
from .findings import Finding, Inspection
from .percent import Percent
from .photographs import Photographs, name_of
from .sample import Dataset
from .splits import Overview

#: a class that is seen in fewer images is not learned from random weights (27 photographs of VOC's classes)
FEW = 20
#: classes that are named
_NAMED = 5
#: images without objects are worth a word from so many and such a share on
_EMPTY, _EMPTY_SHARE = 2, 0.1


@dataclass
class Report:
    """What `check_dataset` found.

    Attributes
    ----------
    class_names : tuple of str
    images : int
        Images that could be read.
    empty : int
        Of these, images without instance: they train as background.
    image_sizes : ndarray of shape (images, 2)
        Height and width.
    instances : ndarray of shape (num_classes,), int64
        Per class.
    difficult, crowd : int
        Instances with these flags.
    box_sizes : ndarray of shape (instances, 2), float64
        Height and width of the boxes in pixels.
    problems : list of str
        One message per image that cannot be used.
    bad_ids : list of str
        Their ids.
    spare_ids : list of str
        Ids of images that are an earlier one, pixel for pixel and with the same objects.
    findings : list of Finding
        What is wrong with the annotations of images that can be read.
    advice : list of Finding
        What is not wrong, but a reason why results may be bad.
    remarks : list of str
        What was left out, or read by a rule that one may not expect.
    overview : Overview
        What `compare_splits` compares with other splits.
    names : list of str
        Of each image that could be read, its id and file.
    image_of : ndarray of shape (instances,), int64
        The place in ``names`` and ``image_sizes`` of each instance's image.
    pictures : ndarray of shape (classes,), int64
        In how many images each class is seen.
    """

    class_names: tuple[str, ...]
    images: int = 0
    empty: int = 0
    image_sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    instances: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    difficult: int = 0
    crowd: int = 0
    box_sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    problems: list[str] = field(default_factory=list)
    bad_ids: list[str] = field(default_factory=list)
    spare_ids: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    advice: list[Finding] = field(default_factory=list)
    overview: Overview = field(default_factory=Overview)
    names: list[str] = field(default_factory=list)
    image_of: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    remarks: list[str] = field(default_factory=list)
    pictures: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def ok(self) -> bool:
        """Say whether every image can be used and nothing is wrong with the annotations."""
        return not self.problems and not self.findings

    @property
    def names_all(self) -> bool:
        """Say whether ``describe`` names all that findings and advice concern."""
        return all(one.names_all for one in (*self.findings, *self.advice))

    def as_dict(self) -> dict[str, Any]:
        """Return what ``describe`` says, and all that each finding concerns, as JSON can hold it."""
        counts = zip(self.class_names[1:], self.instances[1:].tolist(), self.pictures[1:].tolist())
        return {
            "images": self.images,
            "empty": self.empty,
            "classes": {name: {"instances": objects, "pictures": seen} for name, objects, seen in counts},
            "unusable": [{"id": name, "reason": why} for name, why in zip(self.bad_ids, self.problems)],
            "findings": [one.as_dict() for one in self.findings],
            "advice": [one.as_dict() for one in self.advice],
            "remarks": self.remarks,
        }


def check_dataset(
    dataset: Dataset, *, progress: Callable[[Sequence[int]], Iterable[int]] = lambda indices: indices
) -> Report:
    """Read every sample of a data set; a problem is noted and does not stop the check.

    Parameters
    ----------
    dataset : Dataset
        Where it has a method ``check_classes(index)``, as VOC has, that is called too, and where it has ``findings()``,
        as COCO has; where it has ``notes``, these become the remarks.
    progress : callable, optional
        Wraps the sequence of indices, as tqdm does.

    Returns
    -------
    report : Report
    """
    report = Report(tuple(dataset.class_names))
    sizes, boxes = [], [np.zeros((0, 4))]
    report.instances = np.zeros(len(dataset.class_names), dtype=np.int64)
    report.pictures = np.zeros_like(report.instances)
    inspection, photographs, percent, levels = Inspection(), Photographs(), Percent(), EdgeLevels()
    image_of, read_ids = [], []
    report.overview = Overview.of(dataset, getattr(dataset, "split", ""))
    notes = getattr(dataset, "notes", None)
    for index in progress(range(len(dataset))):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # they are counted
                sample = dataset.load(index)
                if hasattr(dataset, "check_classes"):
                    dataset.check_classes(index)
        except DataError as error:
            report.problems.append(str(error))
            report.bad_ids.append(dataset.ids[index])
            continue
        report.images += 1
        read_ids.append(dataset.ids[index])
        inspection.add(sample)
        photographs.add(sample, notes)
        percent.add(sample)
        levels.add(sample)
        report.overview.add(sample)
        report.names.append(name_of(sample))
        image_of += [len(report.names) - 1] * len(sample.gt_boxes)
        report.empty += len(sample.gt_class_ids) == 0
        report.difficult += int(sample.gt_difficult.sum())
        report.crowd += int(sample.gt_crowd.sum())
        report.instances += np.bincount(sample.gt_class_ids, minlength=len(report.instances))
        report.pictures[np.unique(sample.gt_class_ids)] += 1
        sizes.append(sample.image.shape[:2])
        boxes.append(sample.gt_boxes.astype(np.float64))
    report.image_sizes = np.array(sizes, dtype=np.int64).reshape(-1, 2)
    corners = np.concatenate(boxes)
    report.box_sizes = corners[:, 2:] - corners[:, :2]
    report.image_of = np.array(image_of, dtype=np.int64)
    copies = Copies(report.overview.seen, report.class_names)
    report.spare_ids = [read_ids[place] for place in copies.spare]
    of_file: list[Finding] = dataset.findings() if hasattr(dataset, "findings") else []
    report.findings = inspection.findings() + of_file + copies.wrong
    report.advice = (
        _without_objects(report)
        + inspection.advice()
        + percent.findings()
        + photographs.findings()
        + levels.findings()
        + copies.advice
    )
    report.remarks = [] if notes is None else notes.lines()
    return report


def _without_objects(report: Report) -> list[Finding]:
    """Say that images have no object, if that is many of them and not all: nobody may have annotated them yet."""
    if not report.empty < report.images or report.empty < max(_EMPTY, _EMPTY_SHARE * report.images):
        return []
    names = tuple(report.names[place] for place in np.setdiff1d(np.arange(report.images), report.image_of))
    text = (
        "have no object and train as background. If nobody has annotated them yet, the network learns to find nothing "
        "in them: annotate them, or leave them out (--ids)"
    )
    return [Finding(text, len(names), report.images, names[0], unit="images", concerns=names)]


def few_pictures(report: Report) -> list[Finding]:
    """Say which classes are seen in too few images to be learned without weights that know pictures already.

    Parameters
    ----------
    report : Report
        Of all images of a split that is trained on.

    Returns
    -------
    list of Finding
        One, or none.
    """
    seen = np.flatnonzero(report.instances[1:]) + 1
    few = [k for k in seen if report.pictures[k] < FEW]
    if not few:
        return []
    text = (
        f"are seen in fewer than {FEW} images: from random weights such a class is hardly found in new pictures, "
        "however long it is trained; more pictures, fewer classes, or pretrained weights (--weights)"
    )
    names = tuple(f"{report.class_names[k]}: {report.pictures[k]}" for k in few)
    return [Finding(text, len(names), len(seen), some_of(names, _NAMED), unit="classes", concerns=names)]


def describe(report: Report) -> str:
    """Return a report as text for the command line.

    Parameters
    ----------
    report : Report

    Returns
    -------
    text : str
        Several lines: images, instances per class, sizes, remarks, advice, and each problem.
    """
    lines = [f"images     {report.images}" + (f" ({report.empty} without instance)" if report.empty else "")]
    if report.images:
        (h1, w1), (h2, w2) = report.image_sizes.min(axis=0), report.image_sizes.max(axis=0)
        lines.append(f"sizes      height {h1} .. {h2}, width {w1} .. {w2} pixels")
    total = int(report.instances.sum())
    flags = [f"{n} {name}" for n, name in ((report.difficult, "difficult"), (report.crowd, "crowd")) if n]
    lines.append(f"instances  {total}" + (f" ({', '.join(flags)})" if flags else ""))
    names = [printable(name) for name in report.class_names]
    width = min(max(len(name) for name in names), 60)
    rows = [(name, str(n)) for name, n in zip(names[1:], report.instances[1:])]
    lines += text_table((), rows, align="<>", least=(width, 6), indent="  ").splitlines()
    if total:
        # The side of a square of the box's area: what anchor sizes are compared with.
        sides = np.sqrt(report.box_sizes.prod(axis=1))
        low, q1, median, q3, high = np.percentile(sides, [0, 25, 50, 75, 100])
        quartiles = f"quartiles {q1:.0f}, {median:.0f}, {q3:.0f}"
        lines.append(f"box side   {low:.0f} .. {high:.0f} pixels ({quartiles}; square root of the area)")
    if report.remarks:
        lines.append(f"remarks    {len(report.remarks)}")
        lines += [f"  {remark}" for remark in report.remarks]
    if report.advice:
        lines.append(f"advice     {len(report.advice)}")
        lines += [f"  {advice}" for advice in report.advice]
    problems = [*report.problems, *map(str, report.findings)]
    lines.append(f"problems   {len(problems) or 'none'}")
    lines += [f"  {problem}" for problem in problems]
    if report.problems:
        lines.append(
            f"{len(report.problems)} of {report.images + len(report.problems)} images cannot be used as they are; mend "
            "them, or leave them out: --good-ids FILE writes the ids of the others, for `train --ids FILE`, and "
            "`train --skip-bad` leaves out images that cannot be read, and of the others their broken objects alone"
        )
    return "\n".join(lines)
