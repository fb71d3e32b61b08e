"""Lesson 10: from head outputs to detections, and from 28 x 28 to masks in the image.

At inference every proposal stands for its best class (the documents), or for every class that scores above a threshold
(torchvision and detectron2); the class's own deltas correct its box. Weak candidates are dropped, and overlapping ones
of one class suppressed. Only then the mask head runs, on the final boxes. Its 28 x 28 probabilities are stretched to
the box and cut at one half.

Open beside this: mrcnn_np/model.py (detect_molded) and mrcnn_np/detections.py.

Questions
1. Why does the mask head wait for the final boxes, when in training it reads the proposals?
2. A mask of 28 x 28 ones is pasted into a box of 28 x 28 pixels. How many rows does it cover?
3. Two detections of different classes lie on one object. Does NMS remove one?
"""

import numpy as np
from common import PALETTE, add_box, grid, heat, say, show_image, start, table

from mrcnn_np import presets
from mrcnn_np.backbone import backbone
from mrcnn_np.boxes import decode_boxes, iou
from mrcnn_np.detections import Detections, paste_masks, refine
from mrcnn_np.evaluate.matching import mask_iou
from mrcnn_np.fpn import fpn
from mrcnn_np.heads import box_head, mask_head
from mrcnn_np.ops.activation import sigmoid, softmax
from mrcnn_np.pictures.instances import save_comparison
from mrcnn_np.proposals import propose
from mrcnn_np.rpn import rpn_head

lesson = start(__doc__)
model, batch, sample, config = lesson.model, lesson.batch, lesson.sample, lesson.config
molding, gt_boxes, params = batch.moldings[0], batch.gt_boxes[0], model.params


def read(boxes: np.ndarray, size: int) -> np.ndarray:
    """Read size x size features of every box from its level."""
    return model.roi_features(pyramid, boxes, np.zeros(len(boxes), int), size, batch.images.shape)[0]


# model.detect_molded, one step after the other
pyramid, _ = fpn(backbone(batch.images, params, config)[0], params, config)
logits, deltas, _ = rpn_head(pyramid, params, config)
proposals, _ = propose(logits[0], deltas[0], lesson.anchors, molding.window, config, training=False)
class_logits, box_deltas, _ = box_head(read(proposals, config.box_pool_size), params, config)
say(f"\n{len(proposals)} proposals go in; the box head says {class_logits.shape} logits and {box_deltas.shape} deltas.")

probabilities = softmax(class_logits)[0]
best = probabilities.argmax(axis=1)
rows = np.arange(len(proposals))
score = probabilities[rows, best]
say("Best class of each proposal:")
table(
    ["class", "proposals", f"score > {config.detection_score_threshold:g}", "score > 0.5", "score > 0.9"],
    [
        [name, *((score[best == k] > t).sum() for t in (0, config.detection_score_threshold, 0.5, 0.9))]
        for k, name in enumerate(lesson.class_names)
    ],
)
moved = decode_boxes(box_deltas[rows, best], proposals, std=config.head_box_std)
if len(gt_boxes) and (best > 0).any():
    before, after = (iou(b[best > 0], gt_boxes).max(axis=1) for b in (proposals, moved))
    say(f"The deltas raise the mean IoU of object proposals from {before.mean():.3f} to {after.mean():.3f}.")

boxes, class_ids, scores = refine(proposals, class_logits, box_deltas, molding.window, config)
kind = "its best class" if config.detection_classes == "argmax" else "every class above the threshold"
say(f"\nEach proposal stands for {kind}; refine() leaves {len(boxes)} detections. The mask head runs on them alone.")
mask_logits, _ = mask_head(read(boxes, config.mask_pool_size), params, config)
masks = sigmoid(mask_logits[np.arange(len(boxes)), :, :, class_ids])[0]
say(f"Mask logits {mask_logits.shape}; the mask of each detection's class: {masks.shape}.")
image_boxes = molding.unmold_boxes(boxes)
pasted = paste_masks(masks, image_boxes, molding.original_shape, config)
found = model.detect([sample.image])[0]
say(f"Pasted: {pasted.shape}, {pasted.dtype}. model.detect gives the same: {np.array_equal(found.masks, pasted)}.")
overlap = mask_iou(pasted, sample.gt_masks) if len(sample.gt_masks) else np.zeros((len(pasted), 1))
rows = []
for name, s, box, mask, o in list(
    zip([lesson.class_names[k] for k in class_ids], scores, image_boxes, pasted, overlap)
)[:8]:
    rows.append([name, f"{s:.2f}", np.round(box).astype(int).tolist(), mask.sum(), f"{o.max():.2f}"])
table(["best detections", "score", "box", "mask pixels", "best mask IoU"], rows)

say("\nA mask of ones in the box (10, 20, 38, 48), by three conventions:")
rows = []
for name in ("detectron2", "matterport", "torchvision"):
    c = presets.PRESETS[name]()
    ones = paste_masks(np.ones((1, 28, 28)), np.array([[10.0, 20, 38, 48]]), (64, 64), c)[0]
    y, x = np.nonzero(ones)
    rows.append([name, c.mask_paste, f"{y.min()} .. {y.max()}", f"{len(set(y))} x {len(set(x))}"])
table(["", "mask_paste", "rows", "pixels"], rows)

# --- pictures -------------------------------------------------------------------------------------------------------

keep = found.scores >= 0.5
shown = Detections(found.boxes[keep], found.class_ids[keep], found.scores[keep], found.masks[keep])
save_comparison(lesson.path("detections"), sample, shown, lesson.class_names)

count = min(len(boxes), 5)
if count:
    figure, axes = grid(3, count, size=2.3, title="Masks of the best detections: crop, 28 x 28 probabilities, pasted")
    for i in range(count):
        y1, x1, y2, x2 = image_boxes[i]
        margin = 0.15 * max(y2 - y1, x2 - x1)
        for ax in (axes[0, i], axes[2, i]):
            canvas = sample.image.copy()
            if ax is axes[2, i]:
                canvas[pasted[i]] = canvas[pasted[i]] // 3 + np.array([153, 106, 0], np.uint8)  # two thirds orange
            show_image(ax, canvas)
            ax.set(xlim=(x1 - margin, x2 + margin), ylim=(y2 + margin, y1 - margin))
            add_box(ax, image_boxes[i], PALETTE[1])
        axes[0, i].set_title(f"{lesson.class_names[class_ids[i]]} {scores[i]:.2f}", fontsize=9)
        heat(axes[1, i], masks[i], f"{masks[i].min():.2f} .. {masks[i].max():.2f}", limits=(0, 1))
        axes[1, i].contour(masks[i], levels=[config.mask_threshold], colors="white", linewidths=1)
        axes[2, i].set_title(f"{pasted[i].sum()} pixels", fontsize=9)
    lesson.save(figure, "masks")

lesson.finish(
    "The final boxes fit better and are fewer, so the masks are better and cheaper. In training they are not used, "
    "because reading the sampled proposals keeps the heads independent and gives more regions to learn from.",
    "28, as it should. torchvision paints 29: it counts the box's last pixel as well (+1).",
    "No: suppression works class by class. Both stay, unless the score threshold drops one.",
)
