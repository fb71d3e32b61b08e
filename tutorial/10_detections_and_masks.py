"""Lesson 10: from head outputs to detections, and from 28 x 28 to masks in the image.

At inference every proposal stands for the classes that score above a threshold; the class's own deltas correct its box.
Weak candidates are dropped, and overlapping ones of one class suppressed. Only then the mask head runs, on the final
boxes. Its 28 x 28 probabilities are stretched to the box and cut at one half.

Open beside this: mrcnn_np/model.py (detect_molded) and mrcnn_np/detections.py.
The loops: decode and nms in tests/oracles/naive_boxes.py, and pasting a mask, here below.

Questions
1. Why does the mask head wait for the final boxes, when in training it reads the proposals?
2. A mask of 28 x 28 ones is pasted into a box of 28 x 28 pixels. How many rows does it cover?
3. Two detections of different classes lie on one object. Does NMS remove one?
"""

import numpy as np
from common import PALETTE, add_box, code, grid, heat, outline, say, show_image, start, table

from mrcnn_np.backbone import backbone
from mrcnn_np.boxes import decode_boxes, iou
from mrcnn_np.detections import paste_masks, refine
from mrcnn_np.evaluate.matching import mask_iou
from mrcnn_np.fpn import fpn
from mrcnn_np.heads import box_head, mask_head
from mrcnn_np.ops.activation import sigmoid, softmax
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

# --- pasting: the loop, and the same in NumPy -----------------------------------------------------------------------


def paste_loop(mask: np.ndarray, box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Ask every pixel's centre where it lies in the mask, interpolate there, and compare with one half."""
    m = len(mask)
    painted = np.zeros(shape, bool)
    for i, j in np.ndindex(*shape):
        y = (i + 0.5 - box[0]) / (box[2] - box[0]) * m - 0.5  # centre of pixel (i, j), in cells of the mask
        x = (j + 0.5 - box[1]) / (box[3] - box[1]) * m - 0.5
        total = 0.0
        for row in (int(np.floor(y)), int(np.floor(y)) + 1):
            for column in (int(np.floor(x)), int(np.floor(x)) + 1):
                if 0 <= row < m and 0 <= column < m:  # beyond the mask everything is 0
                    total += (1 - abs(y - row)) * (1 - abs(x - column)) * mask[row, column]
        painted[i, j] = total >= 0.5
    return painted


say("\nPasting, pixel by pixel:")
code(paste_loop)
say(
    "In NumPy (paste_masks) rows and columns are two matrices of weights, painted = Wy @ mask @ Wx^T: each row of Wy "
    "says how the mask's rows make up one row of the image."
)
exact = config.replace(mask_paste="grid_sample", mask_threshold=0.5)
if len(boxes):
    loop = paste_loop(masks[0].astype(np.float64), image_boxes[0].astype(np.float64), molding.original_shape)
    whole = paste_masks(masks[:1].astype(np.float64), image_boxes[:1], molding.original_shape, exact)[0]
    say(f"Pixels of the best detection about which loop and NumPy differ: {(loop != whole).sum()} of {whole.sum()}.")
ones = paste_masks(np.ones((1, 28, 28)), np.array([[10.0, 20, 38, 48]]), (64, 64), exact)[0]
y, x = np.nonzero(ones)
say(
    f"A mask of ones in the box (10, 20, 38, 48) paints the rows {y.min()} .. {y.max()}: "
    f"{len(set(y))} x {len(set(x))} pixels."
)

# --- what went wrong ------------------------------------------------------------------------------------------------

SHOWN = 0.5  # detections with a score of one half or more are looked at
is_shown = scores >= SHOWN
right, missed = np.zeros(len(boxes), bool), np.ones(len(gt_boxes), bool)
for d in np.flatnonzero(is_shown):  # best first: an object can be found once
    same = (batch.gt_class_ids[0] == class_ids[d]) & missed
    if (overlap[d] * same).max(initial=0) >= 0.5:
        right[d], missed[(overlap[d] * same).argmax()] = True, False
if len(gt_boxes):
    say(f"\nOf {len(gt_boxes)} objects {(~missed).sum()} are found with a score of at least {SHOWN:g}.")
for g in np.flatnonzero(missed):
    name = lesson.class_names[batch.gt_class_ids[0][g]]
    near = iou(proposals, gt_boxes[g : g + 1])[:, 0]
    p = int(near.argmax())
    belief = ", ".join(f"{lesson.class_names[k]} {v:.2f}" for k, v in enumerate(probabilities[p]))
    say(
        f"Missed: the {name} {np.round(gt_boxes[g]).astype(int).tolist()}. Its best proposal has an IoU of "
        f"{near[p]:.2f}, and the class head says of it: {belief}."
        + (" No proposal fits: it is lost in the first stage." if near[p] < 0.5 else "")
        + (" The region is there, the class head does not recognise it." if near[p] >= 0.5 else "")
    )
    covering = [int(o) for o in np.flatnonzero(iou(gt_boxes, gt_boxes[g : g + 1])[:, 0] > 0.2) if o != g]
    if covering:
        others = ", ".join(lesson.class_names[batch.gt_class_ids[0][o]] for o in covering)
        say(f"  It shares its box with another object ({others}): the features of the region hold both.")
for d in np.flatnonzero(is_shown & ~right):
    name = lesson.class_names[class_ids[d]]
    g = int(overlap[d].argmax())
    if not len(gt_boxes):
        break
    box_text = np.round(image_boxes[d]).astype(int).tolist()
    if overlap[d, g] >= 0.5:
        true_name = lesson.class_names[batch.gt_class_ids[0][g]]
        say(
            f"Wrong: a {name} of {scores[d]:.2f} in {box_text}. Its mask covers the {true_name} well "
            f"({overlap[d, g]:.2f}), only the class is wrong."
        )
        for rival in np.flatnonzero(right & (overlap[:, g] >= 0.5)):
            shared = iou(image_boxes[[d]], image_boxes[[rival]])[0, 0]
            say(
                f"  The {true_name} was found as well, by a box with an IoU of {shared:.2f} to this one; NMS works "
                "class by class and lets both stand."
            )
    else:
        say(f"Wrong: a {name} of {scores[d]:.2f} in {box_text}; no object lies under more than half of it.")

# --- pictures -------------------------------------------------------------------------------------------------------


def colour(k: int) -> str:
    """Return the colour of a class, the same on both sides."""
    return PALETTE[k % len(PALETTE)]


figure, axes = grid(
    1, 2, size=5.0, title=f"{sample.image_id}: colours are classes; dashed: missed (left), wrong (right)"
)
sides = (
    (axes[0, 0], sample.gt_masks, sample.gt_boxes, sample.gt_class_ids, ~missed, None),
    (axes[0, 1], found.masks, found.boxes, found.class_ids, right, found.scores),
)
for ax, some_masks, some_boxes, ids, good, some_scores in sides:
    show_image(ax, sample.image)
    for i in range(len(ids)):
        if some_scores is not None and some_scores[i] < SHOWN:
            continue
        dash = "solid" if good[i] else "dashed"
        outline(ax, some_masks[i], colour(ids[i]), dash=dash)
        add_box(ax, some_boxes[i], colour(ids[i]), width=1.0, dash=dash)
        text = lesson.class_names[ids[i]] + (f" {some_scores[i]:.2f}" if some_scores is not None else "")
        above = max(some_boxes[i][0] - 1, 0.06 * len(sample.image))  # inside the picture
        ax.text(
            some_boxes[i][1], above, text, fontsize=8, va="bottom", clip_on=True,
            bbox={"fc": colour(ids[i]), "ec": "none", "pad": 1},
        )  # fmt: skip
axes[0, 0].set_title("ground truth", fontsize=9)
axes[0, 1].set_title(f"detections with a score of {SHOWN:g} or more", fontsize=9)
lesson.save(figure, "detections")

count = min(len(boxes), 5)
if count:
    figure, axes = grid(3, count, size=2.3, title="Masks of the best detections: crop, 28 x 28 probabilities, pasted")
    for i in range(count):
        y1, x1, y2, x2 = image_boxes[i]
        margin = 0.15 * max(y2 - y1, x2 - x1)
        for ax in (axes[0, i], axes[2, i]):
            show_image(ax, sample.image)
            ax.set(xlim=(x1 - margin, x2 + margin), ylim=(y2 + margin, y1 - margin))
            add_box(ax, image_boxes[i], colour(class_ids[i]))
        outline(axes[2, i], pasted[i], colour(class_ids[i]))
        axes[0, i].set_title(f"{lesson.class_names[class_ids[i]]} {scores[i]:.2f}", fontsize=9)
        heat(axes[1, i], masks[i], f"{masks[i].min():.2f} .. {masks[i].max():.2f}", limits=(0, 1))
        axes[1, i].contour(masks[i], levels=[config.mask_threshold], colors="white", linewidths=1)
        axes[2, i].set_title(f"{pasted[i].sum()} pixels", fontsize=9)
    lesson.save(figure, "masks")

lesson.finish(
    "The final boxes fit better and are fewer, so the masks are better and cheaper. In training they are not used, "
    "because reading the sampled proposals keeps the heads independent and gives more regions to learn from.",
    "28, as it should. (One framework paints 29: lesson 12.)",
    "No: suppression works class by class. Both stay, unless the score threshold drops one.",
)
