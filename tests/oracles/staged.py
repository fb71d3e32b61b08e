"""A network whose heads say what a test wants, on rectangles, so that every object's fate can be staged.

Only what the three heads put out is replaced; proposals, NMS, refinement and pasting are the network's own.
"""

from __future__ import annotations

import numpy as np
from scenes import boxes_of, sample_of

from mrcnn_np import heads, presets
from mrcnn_np.boxes import encode_boxes, iou
from mrcnn_np.model import MaskRCNN

NAMES = ("background", "circle", "square", "triangle")
SIDE = 128


class Stage:
    """Objects on a canvas of 128 pixels, each of them found, until something is spoilt.

    Parameters
    ----------
    boxes : sequence of (y1, x1, y2, x2)
        One object each, filling its box.
    class_ids : sequence of int, optional
    **config
        Fields of the tiny preset.
    """

    def __init__(self, boxes, class_ids=None, **config):
        self.config = presets.tiny(**config)
        self.sample = sample_of(boxes, class_ids, shape=(SIDE, SIDE), name="staged")
        self.objects = boxes_of(*boxes, dtype=np.float32)
        self.classes = self.sample.gt_class_ids
        self.proposed = self.objects.copy()  # where the anchor of each object is moved to
        self.logits = np.linspace(6, 5, len(boxes))  # the first object's anchor ranks first
        self.extra = []  # (box, logit) of proposals that belong to no object
        self.named = self.classes.copy()  # under which class each object is recognised
        self.certain = np.linspace(4, 3, len(boxes))  # logit of that class; the background has 0
        self.moved = self.objects.copy()  # where the box head brings the proposals of each object
        self.masked = np.ones(len(boxes), bool)  # else its mask is a corner
        self.model = _Staged(self)

    def anchors(self):
        return self.model.anchors((SIDE, SIDE), [np.zeros((1, SIDE // s, SIDE // s, 1)) for s in (4, 8, 16, 32, 64)])

    def owner(self, boxes):
        """The object of each box, and whether it is on it at all."""
        if not len(self.proposed):
            return np.zeros(len(boxes), int), np.zeros(len(boxes), bool)
        overlaps = iou(boxes.astype(np.float32), self.proposed)
        return overlaps.argmax(axis=1), overlaps.max(axis=1) > 0.9


class _Staged(MaskRCNN):
    def __init__(self, stage):
        super().__init__(stage.config, class_names=NAMES)
        self.stage = stage

    def detect_molded(self, images, molding, *, observe=None):
        boxes = {}

        def act(name, x):
            said = getattr(self, f"_{name}", lambda x, boxes: x)(x, boxes)
            boxes[name] = said
            seen = None if observe is None else observe(name, said)
            return said if seen is None else seen

        return super().detect_molded(images, molding, observe=act)

    def roi_features(self, pyramid, boxes, *rest):
        self.read = boxes  # what the next head is asked about
        return super().roi_features(pyramid, boxes, *rest)

    def box_head(self, features, params, config):
        """Do what the network's box head does in ``detect_molded``, for whoever calls it by itself."""
        logits, deltas, cache = heads.box_head(features, params, config)
        seen = {"proposals": self.read}
        return self._class_logits(logits, seen), self._box_deltas(deltas, seen), cache

    def mask_head(self, features, params, config):
        """Do what the network's mask head does there."""
        logits, cache = heads.mask_head(features, params, config)
        return self._mask_logits(logits, {"detection_boxes": self.read}), cache

    def _rpn_logits(self, x, _):
        logits = np.full(x.shape, -9.0, x.dtype)
        stage = self.stage
        self.used = []
        anchors = np.concatenate(stage.anchors())
        wanted = [*zip(stage.proposed, stage.logits), *((np.array(b, np.float32), v) for b, v in stage.extra)]
        for box, logit in wanted:
            overlaps = iou(anchors, box[None])[:, 0]
            overlaps[[a for a, _ in self.used]] = -1
            a = int(overlaps.argmax())
            self.used.append((a, box))
            logits[0, a] = logit
        return logits

    def _rpn_deltas(self, x, _):
        deltas = np.zeros_like(x)
        deltas[..., 2:] = -20  # all other anchors shrink to points
        anchors = np.concatenate(self.stage.anchors())
        for a, box in self.used:
            if not np.isnan(box).any():
                deltas[0, a] = encode_boxes(box, anchors[a], std=self.config.rpn_box_std)
        return deltas

    def _class_logits(self, x, seen):
        stage, logits = self.stage, np.full(x.shape, -9.0, x.dtype)
        owner, on = stage.owner(seen["proposals"])
        logits[:, 0] = np.where(on, 0, 9)
        rows = np.flatnonzero(on)
        logits[rows, stage.named[owner[on]]] = stage.certain[owner[on]]
        return logits

    def _box_deltas(self, x, seen):
        stage, deltas = self.stage, np.zeros_like(x)
        owner, on = stage.owner(seen["proposals"])
        std = self.config.head_box_std
        deltas[on] = encode_boxes(stage.moved[owner[on]], seen["proposals"][on], std=std)[:, None]
        return deltas

    def _mask_logits(self, x, seen):
        logits = np.full_like(x, -9)
        overlaps = iou(seen["detection_boxes"].astype(np.float32), self.stage.moved)
        for d, row in enumerate(overlaps):
            whole = self.stage.masked[row.argmax()] if len(row) else True
            logits[d, : None if whole else 8, : None if whole else 8] = 9
        return logits
