"""Everything about the images of a data set: what was missed and why, what is false and of what kind, and the cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from ..config import Config
from ..data.masks import in_runs
from ..data.photographs import file_name, with_file
from ..data.sample import Dataset, Sample
from ..detections import Detections
from ..errors import DataError
from ..evaluate.coco import CocoEvaluator
from ..evaluate.voc import Evaluator
from ..model import MaskRCNN
from ..tables import text_table
from .costs import MENDED, Costs, Ledger
from .deaths import STAGES, Miss, find_deaths
from .judge import KINDS, Rules, judge
from .mistakes import Mistake, find_mistakes
from .oracles import ORACLES, oracle_detections
from .outlines import area_ratios
from .trail import follow

#: what is measured under each oracle: by the rules that are asked for, and COCO's mean over IoU 0.5 .. 0.95
ORACLE_COLUMNS = {"box": "box AP", "mask": "mask AP", "coco_box": "COCO box AP", "coco_mask": "COCO mask AP"}


@dataclass
class Explanation:
    """Why average precision is what it is.

    Attributes
    ----------
    class_names : tuple of str
    rules : Rules
    score_threshold : float
        Detections below it are not there (``detection_score_threshold``).
    images, objects : int
        How many there were, objects without crowds and difficult ones.
    mean_ap : float
        NaN without objects.
    misses : list of Miss
        Dearest first.
    mistakes : list of Mistake
        Dearest first.
    stages, kinds : dict of str to (int, float)
        How many objects were lost at each stage, and detections are false in each way; the AP gained if all of them are
        set right.
    all_missed, all_false : float
        AP gained if no missed object had been asked for, and if no false detection were there.
    oracles : dict of str to dict
        Under each oracle the AP of ``ORACLE_COLUMNS``; empty if they were not asked for.
    skipped : dict of str to str
        Images that could not be read, and why.
    scores : list of float
        Of all detections, right and false ones.
    lost_classes : dict of str to int
        Classes of which no object is found, and how many were to be found.
    areas : dict of str to list of float
        For each image the areas of its right detections' masks, as shares of their objects'; empty if boxes are
        compared.
    files : dict of str to str
        For each image that was looked at the name of its file, empty where it has none.
    config : Config or None
        Of the network, from whose values advice starts; None if it is not known.
    untaught : tuple of str
        Classes that no picture that the network learned from shows, as far as that is known.
    """

    class_names: tuple[str, ...]
    rules: Rules
    score_threshold: float
    images: int = 0
    objects: int = 0
    mean_ap: float = float("nan")
    misses: list[Miss] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    stages: dict[str, tuple[int, float]] = field(default_factory=dict)
    kinds: dict[str, tuple[int, float]] = field(default_factory=dict)
    all_missed: float = float("nan")
    all_false: float = float("nan")
    oracles: dict[str, dict[str, float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    lost_classes: dict[str, int] = field(default_factory=dict)
    areas: dict[str, list[float]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    config: Config | None = None
    untaught: tuple[str, ...] = ()

    def named(self, image_id: str) -> str:
        """Return the id of an image, and its file's name where the id does not tell it."""
        return with_file(image_id, self.files.get(image_id, ""))

    def costs_of_images(self) -> dict[str, float]:
        """Return what the mistakes in each image cost together, dearest first, without images that have none."""
        costs: dict[str, float] = {}
        both: list[Miss | Mistake] = [*self.misses, *self.mistakes]
        for one in both:
            costs[one.image_id] = costs.get(one.image_id, 0.0) + one.cost
        return dict(sorted(costs.items(), key=lambda item: -item[1]))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, NaN as None.

        Detections count from 1, as ``n`` does in the JSON of ``detect``; objects, too, in the order of the annotation.
        """

        def kinds(table: dict[str, tuple[int, float]]) -> dict[str, Any]:
            return {name: {"count": count, "ap_cost": _plain(cost)} for name, (count, cost) in table.items()}

        both: list[Miss | Mistake] = [*self.misses, *self.mistakes]
        named = [self._of_one(one) for one in both]
        oracles = {n: {kind: _plain(ap) for kind, ap in row.items()} for n, row in self.oracles.items()}
        return {
            **asdict(self.rules), "score_threshold": self.score_threshold, "images": self.images,
            "objects": self.objects, "mean_ap": _plain(self.mean_ap), "stages": kinds(self.stages),
            "kinds": kinds(self.kinds), "all_missed_ap_cost": _plain(self.all_missed),
            "all_false_ap_cost": _plain(self.all_false), "oracles": oracles, "missed": named[: len(self.misses)],
            "false": named[len(self.misses) :], "skipped": self.skipped, "lost_classes": self.lost_classes,
            "mask_areas": {name: [round(ratio, 3) for ratio in ratios] for name, ratios in self.areas.items()},
        }  # fmt: skip

    def _of_one(self, one: Miss | Mistake) -> dict[str, Any]:
        more = {"class": self.class_names[one.class_id], "file": self.files.get(one.image_id, "")}
        return {**asdict(one), **more, "cost": _plain(one.cost)}

    def table(self) -> str:
        """Return the counts and costs as text."""
        head = [
            f"AP {_cell(self.mean_ap)} ({self.rules.method}, {self.rules.iou_type} IoU >= "
            f"{self.rules.iou_threshold:g}, scores above {self.score_threshold:g}, {self.images} images)",
            "AP cost: by how much AP would rise if mistakes of this kind were set right; one mistake hides another, so "
            "costs do not add up",
        ]
        missed = f"{len(self.misses)} of {self.objects} objects missed"
        mended = [kind for kind in MENDED if self.kinds.get(kind, (0, 0.0))[0]]
        left_out = "left out"
        if mended:  # each of them may gain more than all of them together
            are = "is" if len(mended) == 1 else "are"
            left_out += f"; above, {' and '.join(mended)} {are} set right where the object is free, which may gain more"
        parts = [
            (missed, self.stages, self.all_missed, STAGES, "none of them asked for"),
            (f"{len(self.mistakes)} detections false", self.kinds, self.all_false, KINDS, left_out),
        ]
        nothing = {missed: f"none of {self.objects} objects is missed"}
        for title, counts, total, meaning, all_mean in parts:
            rows = [(name, str(n), _cost(cost), meaning[name]) for name, (n, cost) in counts.items() if n]
            if not rows:
                head += ["", nothing.get(title, "no detection is false")]
                continue
            rows.append(("all of them", str(sum(n for n, _ in counts.values())), _cost(total), all_mean))
            head += ["", text_table((title, "count", "AP cost", ""), rows, align="<>><")]
        if self.oracles:
            reached = [
                (name, *(_cell(row[kind]) for kind in ORACLE_COLUMNS), ORACLES.get(name, ""))
                for name, row in self.oracles.items()
            ]
            head += [
                "",
                "oracle: one part of the network replaced by the truth, the rest as it is; its AP says what a perfect "
                "part would bring",
                text_table(("oracle", *ORACLE_COLUMNS.values(), ""), reached, align="<>>>><"),
            ]
        return "\n".join(head)


def explain_split(
    model: MaskRCNN,
    dataset: Dataset,
    *,
    rules: Rules | None = None,
    oracles: bool = True,
    skip_bad: bool = False,
    progress: bool = True,
) -> Explanation:
    """Detect the objects of every image, and say of each missed one and of each false detection why.

    Parameters
    ----------
    model : MaskRCNN
        Its ``detection_score_threshold`` decides what counts as a detection.
    dataset : Dataset
        With the class numbers of the network.
    rules : Rules, optional
        What counts as found; by default masks, IoU 0.5, VOC 2010.
    oracles : bool
        Measure what perfect parts would give, too: about one more detection for each image.
    skip_bad : bool
        Leave out images that cannot be read, instead of stopping.
    progress : bool
        Show a progress bar.

    Raises
    ------
    DataError
        An image cannot be read; with ``skip_bad``, none can.
    """
    rules = rules or Rules()
    config, names = model.config, dataset.class_names
    report = Explanation(names, rules, config.detection_score_threshold, config=config)
    ledger = Ledger(len(names), rules.method)
    rows: list[tuple[int, Miss | Mistake]] = []
    measured = {name: _Measured(names, rules) for name in ("as it is", *ORACLES)} if oracles else {}
    for index in tqdm(range(len(dataset)), desc="explain", unit="image", disable=not progress):
        try:
            sample = dataset.load(index)
        except DataError as error:
            if not skip_bad:
                raise
            report.skipped[dataset.ids[index]] = str(error)
            continue
        report.files[sample.image_id] = file_name(sample.path)
        trail = follow(model, sample.image)
        found = trail.detections
        runs: Any = in_runs(found.masks)
        found = replace(found, masks=runs)
        trail = replace(trail, detections=found)
        judged = judge(found, sample, len(names), rules)
        if rules.iou_type == "mask":
            report.areas[sample.image_id] = area_ratios(found, sample, judged)
        first, objects = ledger.add(found.class_ids, found.scores, sample.gt_class_ids, judged)
        deaths = find_deaths(trail, sample, judged, rules, config, names)
        wrong = find_mistakes(found, sample, judged, names, rules)
        rows += [(objects + miss.number - 1, miss) for miss in deaths]
        rows += [(first + one.number - 1, one) for one in wrong]
        report.images += 1
        if oracles:
            for name, other in ({"as it is": found} | oracle_detections(model, trail, sample)).items():
                measured[name].add(other, sample)
    if report.skipped and not report.images:
        raise DataError(
            f"none of the {len(dataset)} images can be read; the last error: {[*report.skipped.values()][-1]}"
        )
    _settle(report, Costs(ledger), rows)
    report.oracles = {name: one.result() for name, one in measured.items()}
    return report


class _One:
    """A data set of one sample."""

    def __init__(self, sample: Sample, class_names: tuple[str, ...]) -> None:
        self.sample, self.class_names = sample, class_names
        self.ids: tuple[str, ...] = (sample.image_id,)

    def __len__(self) -> int:
        return 1

    def load(self, index: int) -> Sample:
        return (self.sample,)[index]


def explain_image(
    model: MaskRCNN, sample: Sample, *, class_names: Sequence[str] = (), rules: Rules | None = None
) -> Explanation:
    """Say of each missed object and each false detection in one image why; costs are those within this image.

    Parameters
    ----------
    model : MaskRCNN
    sample : Sample
        The image and its objects, with the class numbers of the network.
    class_names : sequence of str, optional
        The background first; those of the model by default, else numbers.
    rules : Rules, optional
        What counts as found; by default masks, IoU 0.5, VOC 2010.
    """
    numbers = ("background", *(f"class {k}" for k in range(1, model.config.num_classes)))
    names = tuple(class_names) or model.class_names or numbers
    return explain_split(model, _One(sample, names), rules=rules, oracles=False, progress=False)


def _settle(report: Explanation, costs: Costs, rows: list[tuple[int, Miss | Mistake]]) -> None:
    """Give each mistake and each kind its cost, and order them."""
    report.mean_ap, report.objects, report.scores = costs.mean_ap, int(costs.demanded.sum()), costs.scores.tolist()
    report.lost_classes = {report.class_names[k]: int(costs.objects[k]) for k in costs.lost_classes()}
    stages: dict[str, list[int]] = {name: [] for name in STAGES}
    for row, one in rows:
        if isinstance(one, Miss):
            one.cost = costs.of_missed(np.array([row]))
            stages[one.stage].append(row)
            report.misses.append(one)
        else:
            one.cost = costs.of_detection(row)
            report.mistakes.append(one)
    report.misses.sort(key=lambda one: -one.cost)
    report.mistakes.sort(key=lambda one: -one.cost)
    report.stages = {name: (len(of), costs.of_missed(np.array(of, np.int64))) for name, of in stages.items()}
    report.kinds = {kind: (sum(one.kind == kind for one in report.mistakes), costs.of_kind(kind)) for kind in KINDS}
    report.all_missed, report.all_false = costs.of_missed(costs.missed()), costs.of_false()


class _Measured:
    """The evaluations of one oracle.

    Parameters
    ----------
    names : tuple of str
    rules : Rules
    """

    def __init__(self, names: tuple[str, ...], rules: Rules) -> None:
        method, threshold = rules.method, rules.iou_threshold
        self.one = {k: Evaluator(names, method=method, iou_type=k, iou_threshold=threshold) for k in ("box", "mask")}
        self.coco = {k: CocoEvaluator(names, iou_type=k) for k in ("box", "mask")}

    def add(self, found: Detections, sample: Sample) -> None:
        """Evaluate one image."""
        for kind in ("box", "mask"):
            self.one[kind].add(found, sample)
            self.coco[kind].add(found, sample)

    def result(self) -> dict[str, float]:
        """Return the AP of each of ``ORACLE_COLUMNS``, NaN without objects."""
        single = {kind: float(e.result().mean_ap) for kind, e in self.one.items()}
        means = {f"coco_{kind}": e.result().numbers["AP"] for kind, e in self.coco.items()}
        return single | {kind: float("nan") if ap == -1 else ap for kind, ap in means.items()}


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _cost(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:+.4f}"
