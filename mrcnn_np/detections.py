"""From head outputs to final detections: best class (or every class), threshold, deltas, clip, NMS, masks pasted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, SupportsIndex, overload

import numpy as np
from PIL.Image import Image as PillowImage
from PIL.Image import fromarray

from kernels import accelerated

from .boxes import clip_boxes, decode_boxes, enter_frame, has_sides, leave_frame, require_finite
from .config import Config
from .data.coco_writing import detection_records
from .errors import did_you_mean, some_of
from .keypoints.pose import Pose, Skeletons
from .layers import Observe, shown
from .molding import Molding
from .nms import batched_nms
from .ops.activation import sigmoid, softmax

#: a keypoint with a higher logit is drawn: Detectron's threshold
SURE = 2.0


class Detection(NamedTuple):
    """One object that was found.

    Attributes
    ----------
    box : ndarray of shape (4,)
        ``(y1, x1, y2, x2)`` in pixels of the original image, half-open.
    class_id : int
    score : float
    mask : ndarray of shape (H, W), bool
    name : str
        Of its class; "class 3" if the model knows no names.
    keypoints : ndarray of shape (K, 2), or None
        As in ``Detections``.
    """

    box: np.ndarray
    class_id: int
    score: float
    mask: np.ndarray
    name: str
    keypoints: np.ndarray | None = None

    def __repr__(self) -> str:
        """Return class, score, box and the number of pixels."""
        box = ", ".join(f"{v:.1f}" for v in self.box)
        return f"Detection({self.name} {self.score:.2f}, box ({box}), {int(self.mask.sum())} pixels)"


@dataclass(frozen=True, repr=False)
class Detections:
    """What was found in one image, best score first.

    ``len(found)`` is their number, ``found[0]`` the first as a ``Detection``; ``found[:3]``, ``found[found.scores >
    0.9]``, ``found.above(0.9)`` and ``found.only("cat")`` are ``Detections`` again.

    Attributes
    ----------
    boxes : ndarray of shape (D, 4)
        ``(y1, x1, y2, x2)`` in pixels of the original image, half-open.
    class_ids : ndarray of shape (D,), int64
        1 .. num_classes - 1.
    scores : ndarray of shape (D,)
    masks : ndarray of shape (D, H, W), bool
        At the size of the original image; without a mask branch all of each box.
    class_names : tuple of str
        The background first; empty if they are not known.
    image : ndarray of shape (H, W, 3), uint8, or None
        The picture in which they were found, for ``plot``.
    keypoints : ndarray of shape (D, K, 2), or None
        ``(y, x)`` of each, in the frame of the annotations: COCO's whole numbers name pixels, see
        ``config.keypoint_offset``. None without a keypoint branch.
    keypoint_scores : ndarray of shape (D, K), or None
        Logits: by how much the place is better than others in its map says how sure the network is.
    pose : Pose or None
        What the keypoints are called.
    has_masks : bool
        Whether the network has a mask branch.
    """

    boxes: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray
    masks: np.ndarray
    class_names: tuple[str, ...] = ()
    image: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    keypoint_scores: np.ndarray | None = None
    pose: Pose | None = None
    has_masks: bool = True

    def above(self, score: float) -> Detections:
        """Return those whose score is at least ``score``."""
        return self[self.scores >= score]

    def only(self, *names: str) -> Detections:
        """Return those of these classes: ``found.only("cat", "dog")``.

        Raises
        ------
        ValueError
            There is no class of such a name, whether it was found or not.
        """
        known = self.class_names[1:]
        for name in names:
            if known and name not in known:
                raise ValueError(
                    f"there is no class {name!r}; expected one of {some_of(known)}{did_you_mean(name, known)}"
                )
            if not known and not re.fullmatch(r"class \d+", name):
                raise ValueError(f"there is no class {name!r}, as no names are known; expected such as 'class 1'")
        return self[np.array([name in names for name in self.names], bool)]

    def of_classes(self, class_ids: np.ndarray) -> Detections:
        """Return them under other numbers: class k becomes ``class_ids[k]``, and is left out where that is 0.

        The names, which went with the old numbers, are gone. Those of some classes alone returns ``only``.
        """
        if np.asarray(class_ids).dtype.kind in "US":
            raise TypeError(
                f"class_ids is {class_ids!r}; expected the new number of each class. The detections of some classes "
                "by name returns found.only(NAME, ...)"
            )
        ids = class_ids[self.class_ids]
        return replace(self, class_ids=ids, class_names=())[ids > 0]

    def in_picture(self, image: np.ndarray, class_names: Sequence[str]) -> Detections:
        """Return them with the picture (H, W, 3) in which they were found, and the names of the classes."""
        return replace(self, image=image, class_names=tuple(class_names))

    @property
    def names(self) -> list[str]:
        """The class of each by name; "class 3" where no name is known."""
        known = self.class_names
        return [known[k] if 0 <= k < len(known) else f"class {k}" for k in map(int, self.class_ids)]

    def __len__(self) -> int:
        """Return their number."""
        return len(self.scores)

    @overload
    def __getitem__(self, key: slice | Sequence[int] | np.ndarray) -> Detections: ...

    @overload
    def __getitem__(self, key: int | np.integer) -> Detection: ...

    def __getitem__(self, key: Any) -> Detection | Detections:
        """Return one of them for a number, else those that a slice, a list of numbers or an array of flags chooses."""
        if isinstance(key, SupportsIndex) and not isinstance(key, np.ndarray):
            k = range(len(self))[key]
            keypoints = None if self.keypoints is None else self.keypoints[k]
            return Detection(
                self.boxes[k], int(self.class_ids[k]), float(self.scores[k]), self.masks[k], self.names[k], keypoints
            )
        if not isinstance(key, slice):
            key = np.asarray(key, None if len(key) else np.int64)
        chosen = replace(
            self, boxes=self.boxes[key], class_ids=self.class_ids[key], scores=self.scores[key], masks=self.masks[key]
        )
        if self.keypoints is None or self.keypoint_scores is None:
            return chosen
        return replace(chosen, keypoints=self.keypoints[key], keypoint_scores=self.keypoint_scores[key])

    def __iter__(self) -> Iterator[Detection]:
        """Yield one after the other, the best first."""
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        """Return how many there are, the first five with their scores, and the size of the image."""
        first = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names[:5], self.scores))
        more = ", ..." if len(self) > 5 else ""
        height, width = self.masks.shape[1:]
        return f"Detections({len(self)}{': ' if first else ''}{first}{more}; image {height} x {width})"

    def to_coco(self, image_id: int = 0, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Return them as records of COCO's results JSON: ``json.dump(found.to_coco(42), file)``.

        Parameters
        ----------
        image_id : int
            The image's id in the instances JSON that the results belong to.
        category_ids : sequence of int, optional
            The category id of each class id, entry 0 for the background; by default the class ids themselves.

        Returns
        -------
        list of dict
            ``image_id, category_id, bbox`` (x, y, width, height), ``score, segmentation`` (compressed run lengths; not
            of a network without masks), and ``keypoints`` (x, y, score of each; of a network that has them).

        """
        largest = int(self.class_ids.max(initial=0))
        category_ids = range(largest + 1) if category_ids is None else category_ids
        if largest >= len(category_ids):
            raise ValueError(
                f"category_ids has {len(category_ids)} entries; expected one for each class up to {largest}"
            )
        return detection_records(
            self.boxes, self.class_ids, self.scores, self.masks if self.has_masks else None, image_id=image_id,
            category_ids=category_ids, keypoints=self.keypoints, keypoint_scores=self.keypoint_scores,
        )  # fmt: skip

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, image: np.ndarray | None = None, size: int = 640
    ) -> PillowImage:
        """Draw them over their picture: masks, boxes, names and scores, and the skeletons if there are keypoints.

        Parameters
        ----------
        path : path, optional
            A PNG to write, whole or not at all.
        image : ndarray of shape (H, W, 3), uint8, optional
            In the place of the picture in which they were found; grey if there is neither.
        size : int
            Longer side of the drawn image in pixels, or less: an image that grows to twice its size or more does so by
            a whole factor, so that its pixels stay squares. Below it there may be a line on what the dashes mean.

        Returns
        -------
        PIL.Image.Image
            A notebook shows it.
        """
        from .pictures.overlay import draw_instances

        image = self.image if image is None else image
        if image is None:
            image = np.full((*self.masks.shape[1:], 3), 200, np.uint8)
        drawn = draw_instances(
            image, self.boxes, self.class_ids, self.masks if self.has_masks else None, self.class_names,
            scores=self.scores, path=path, size=size, skeletons=self.skeletons,
        )  # fmt: skip
        return fromarray(drawn)

    @property
    def skeletons(self) -> Skeletons | None:
        """Their keypoints as pictures draw them: those of which the network is sure; None if there are none."""
        if self.keypoints is None or self.keypoint_scores is None or self.pose is None:
            return None
        return Skeletons.of(self.keypoints, self.keypoint_scores > SURE, self.pose)

    def _repr_html_(self) -> str:
        """Return the picture and a table of the first twenty, for a notebook."""
        from .pictures.html import picture_and_table

        rows = [
            (str(k), found.name, f"{found.score:.3f}", *(f"{v:.1f}" for v in found.box), str(int(found.mask.sum())))
            for k, found in enumerate(self[:20])
        ]
        head = ("", "class", "score", "y1", "x1", "y2", "x2", "pixels")
        return picture_and_table(repr(self), self.plot(size=480), head, rows, left_out=len(self) - len(rows))


def refine(
    proposals: np.ndarray,
    class_logits: np.ndarray,
    deltas: np.ndarray,
    window: tuple[float, float, float, float],
    config: Config,
    *,
    observe: Observe | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn the box head's output for one image into its final boxes.

    Classify, drop what scores low, apply the deltas of the class, clip, drop what is too small, suppress (per class,
    or whatever the class), keep the best ``detections_per_image``.

    Parameters
    ----------
    proposals : ndarray of shape (P, 4)
        ``(y1, x1, y2, x2)`` in molded pixels.
    class_logits : ndarray of shape (P, K)
    deltas : ndarray of shape (P, K, 4)
    window : tuple
        ``(y1, x1, y2, x2)`` of the image within the canvas.
    config : Config
        The ``detection_*`` fields.
    observe : callable, optional
        Sees ``detection_boxes``, ``detection_classes`` and ``detection_scores``.

    Returns
    -------
    boxes : ndarray of shape (D, 4)
        In molded pixels, best score first.
    class_ids : ndarray of shape (D,), int64
    scores : ndarray of shape (D,)

    Raises
    ------
    NonFiniteError
        A box holds NaN or infinity.
    """
    probabilities = softmax(class_logits)[0]
    threshold = config.detection_score_threshold
    candidates = probabilities >= threshold if config.detection_score_inclusive else probabilities > threshold
    if config.detection_classes == "argmax":  # else every class of every proposal is a candidate of its own
        classes = np.arange(probabilities.shape[1], like=probabilities)
        candidates &= classes == probabilities.argmax(axis=1)[:, None]
    candidates[:, 0] = False
    rows, class_ids = np.nonzero(candidates)
    scores = probabilities[rows, class_ids]

    frame = config.box_frame
    boxes = decode_boxes(
        deltas[rows, class_ids],
        enter_frame(proposals[rows], frame),
        std=config.head_box_std,
        max_log_scale=config.max_log_scale,
    )
    boxes = clip_boxes(boxes, enter_frame(np.array(window, boxes.dtype), frame))
    large = np.flatnonzero(has_sides(boxes, config.detection_min_size))
    boxes, class_ids, scores = boxes[large], class_ids[large], scores[large]
    groups = class_ids if config.detection_nms_per_class else np.zeros_like(class_ids)
    kept = batched_nms(boxes, scores, groups, config.detection_nms_iou)[: config.detections_per_image]
    boxes = require_finite("a detected box", leave_frame(boxes[kept], frame))
    return (
        shown(observe, "detection_boxes", boxes),
        shown(observe, "detection_classes", class_ids[kept].astype(np.int64)),
        shown(observe, "detection_scores", scores[kept]),
    )


def own_masks(logits: np.ndarray, class_ids: np.ndarray, *, observe: Observe | None = None) -> np.ndarray:
    """Choose from the masks of all classes that of each detection's own class, as probabilities.

    Parameters
    ----------
    logits : ndarray of shape (D, m, m, K)
    class_ids : ndarray of shape (D,)
    observe : callable, optional
        Sees ``mask_probabilities``.

    Returns
    -------
    ndarray of shape (D, m, m)
    """
    own = logits[np.arange(len(class_ids), like=class_ids), :, :, class_ids]
    return shown(observe, "mask_probabilities", sigmoid(own)[0])


def unmold(boxes: np.ndarray, molding: Molding, config: Config, *, observe: Observe | None = None) -> np.ndarray:
    """Bring boxes back to the pixels of the original image.

    Parameters
    ----------
    boxes : ndarray of shape (D, 4)
        ``(y1, x1, y2, x2)`` in molded pixels.
    molding : Molding
        Where the image went.
    config : Config
        ``box_frame`` and ``detection_rounded``.
    observe : callable, optional
        Sees ``boxes``.

    Returns
    -------
    ndarray of shape (D, 4)
    """
    boxes = molding.unmold_boxes(boxes, config.box_frame)
    return shown(observe, "boxes", np.round(boxes) if config.detection_rounded else boxes)


def paste_masks(masks: np.ndarray, boxes: np.ndarray, image_shape: tuple[int, int], config: Config) -> np.ndarray:
    """Do ``paste_into_boxes`` as a configuration says.

    Parameters
    ----------
    masks, boxes, image_shape
        As in ``paste_into_boxes``.
    config : Config
        ``mask_paste`` and ``mask_threshold``.

    Returns
    -------
    ndarray of shape (D, H, W), bool
    """
    return paste_into_boxes(masks, boxes, image_shape, method=config.mask_paste, threshold=config.mask_threshold)


@accelerated
def paste_into_boxes(
    masks: np.ndarray, boxes: np.ndarray, image_shape: tuple[int, int], *, method: str, threshold: float
) -> np.ndarray:
    """Resize each m x m mask to its box, put it into the image, and threshold it.

    Bilinear interpolation is separable: the pasted patch is ``Wy @ mask @ Wx.T``, where row i of ``Wy`` holds the
    weights with which the mask's rows make up image row i. The methods differ only in where they sample (mask
    coordinate t of image pixel i for a box side from a to b) and in what lies beyond the mask:

    - ``"grid_sample"``: t = (i + 1/2 - a) / (b - a) * m - 1/2, exact for fractional boxes; outside the mask is 0.
    - ``"resize"``: the same after rounding a and b to whole pixels; nothing is painted outside, and beyond the outer
      centres the edge value continues.
    - ``"resize_zero"``: beyond the outer centres the mask falls towards 0, but not below its own smallest value, so
      that enlarged masks lose up to half a cell along the box.
    - ``"plus_one"``: the mask gets a border of one zero cell, the box grows with it, is truncated to whole pixels, and
      its last pixel is painted too, so that a box from 10 to 38 covers 29 pixels.

    Parameters
    ----------
    masks : ndarray of shape (D, m, m)
        Probabilities.
    boxes : ndarray of shape (D, 4)
        ``(y1, x1, y2, x2)`` in pixels of the image; pixel i spans [i, i + 1).
    image_shape : tuple of int
        (H, W).
    method : {"resize", "resize_zero", "plus_one", "grid_sample"}
    threshold : float
        A pixel is painted from this probability on.

    Returns
    -------
    ndarray of shape (D, H, W), bool
    """
    pasted = np.zeros((len(masks), *image_shape), bool)
    for d, (mask, box) in enumerate(zip(masks, boxes)):
        y, wy = _paste_axis(float(box[0]), float(box[2]), mask.shape[0], image_shape[0], method)
        x, wx = _paste_axis(float(box[1]), float(box[3]), mask.shape[1], image_shape[1], method)
        if method == "plus_one":
            mask = np.pad(mask, 1)
        patch = wy.astype(mask.dtype) @ mask @ wx.astype(mask.dtype).T
        if method == "resize_zero":
            patch = np.maximum(patch, mask.min())
        pasted[d, y : y + len(wy), x : x + len(wx)] = patch >= threshold
    return pasted


def _paste_axis(a: float, b: float, m: int, length: int, method: str) -> tuple[int, np.ndarray]:
    """Return the first image pixel that a mask side of m cells over [a, b) paints, and the weights, (pixels, cells)."""
    border = 0
    if method == "grid_sample":
        # One pixel more on either side: bilinear weights reach half a mask cell beyond the box, as in detectron2
        start, stop = int(np.floor(a)) - 1, int(np.ceil(b)) + 1
    elif method.startswith("resize"):
        a, b = float(np.round(a)), float(np.round(b))
        start, stop = int(a), int(b)
    else:  # plus_one
        centre, half = (a + b) / 2, (b - a) / 2 * (m + 2) / m
        a, b, border = float(int(centre - half)), float(int(centre + half)), 1
        b = max(b + 1, a + 1)
        start, stop = int(a), int(b)
    cells = m + 2 * border
    start, stop = max(start, 0), min(stop, length)
    if stop <= start or b <= a:
        return min(start, length), np.zeros((0, cells))
    t = (np.arange(start, stop) + 0.5 - a) / (b - a) * cells - 0.5
    if method in ("resize", "plus_one"):
        t = np.clip(t, 0, cells - 1)  # the edge is repeated; the others see zeros beyond it
    low = np.floor(t).astype(int)
    weights = np.zeros((len(t), cells))
    for cell, weight in ((low, 1 - (t - low)), (low + 1, t - low)):
        inside = (cell >= 0) & (cell < cells)
        weights[np.flatnonzero(inside), cell[inside]] += weight[inside]
    return start, weights
