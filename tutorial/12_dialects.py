"""Lesson 12: dialects. One paper, three programs, three different functions.

torchvision, detectron2 and the Keras implementation (matterport's) answer some sixty small questions differently: how
an image is resized, what a ratio is, where a level ends, what a loss is divided by. Here each answer is a field of the
configuration, and a preset is one complete set of answers. This lesson puts side by side what the lessons before passed
over, and then changes one answer under a trained network.

Open beside this: docs/conventions.md (all fields, and what each is worth) and mrcnn_np/config/presets.py.

Questions
1. A network was trained with one answer and is run with another. Boxes lie half a pixel off, up and to the left. Which
   fields would you suspect?
2. The Keras implementation draws 200 regions of which 33 % may be positive, and keeps that share when there are fewer
   positive ones. How many negative ones go with 66, 33 and 10?
3. matterport chooses levels with round(), the papers with floor(). A region of 320 x 320?
"""

import numpy as np
from common import add_box, grid, say, show_image, start, table

from mrcnn_np import presets
from mrcnn_np.anchors import pyramid_anchors
from mrcnn_np.detections import paste_masks
from mrcnn_np.model import MaskRCNN
from mrcnn_np.molding import compose_meta, mold_image, plan
from mrcnn_np.network import spec
from mrcnn_np.params import count
from mrcnn_np.pictures.canvas import add_text
from mrcnn_np.pyramid import roi_level
from mrcnn_np.targets import negative_count

lesson = start(__doc__)
sample, config = lesson.sample, lesson.config
FRAMEWORKS = ("matterport", "torchvision", "detectron2")
answers = {name: presets.PRESETS[name]() for name in FRAMEWORKS}

say("Molding (lesson 1): a picture of 375 x 500 pixels.")
rows = []
for name in ("tiny", *FRAMEWORKS):
    m = plan((375, 500), presets.PRESETS[name]())
    rows.append([name, m.resized_shape, m.molded_shape, m.window, f"{m.scale[0]:.4f}"])
table(["preset", "resized", "canvas", "window", "scale"], rows)
wide = plan((375, 500), answers["matterport"])
numbers = [f"{k} classes: {len(compose_meta(7, wide, np.ones(k)))} numbers" for k in (81, 21)]
say(
    "The Keras implementation packs id, shapes, window, scale and classes into one vector for each image, image_meta, "
    f"1 + 3 + 3 + 4 + 1 numbers and one per class: {'; '.join(numbers)}."
)

say("\nAnchors (lesson 4): size 128, as height x width.")
rows = []
for name, c in answers.items():
    level = pyramid_anchors(
        (64, 64), sizes=(128,), strides=(64,), ratio_meaning=c.anchor_ratio_meaning, rounding=c.anchor_rounding
    )[0]
    rows.append([name, *(f"{h:.1f} x {w:.1f}" for h, w in level[:, 2:] - level[:, :2]), level[1].tolist()])
table(["", "ratio 0.5", "ratio 1", "ratio 2", "first box of ratio 1"], rows)
say("Their first anchor is centred on the corner of the image (offset 0), ours on the centre of the cell (offset 0.5).")

say("\nThe proposal head (lesson 6):")
rows = []
for name, c in answers.items():
    rows.append([name, c.rpn_channels, c.rpn_objectness, c.rpn_box_std[0], f"{count(spec(c), 'rpn.'):,}"])
table(["", "channels", "objectness by", "deltas divided by", "parameters"], rows)

say("\nThe level of a square region (lesson 7), canonical size 224:")
sides = np.array([56, 111.9, 112, 224, 320, 447, 448])
regions = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
rows = [[kind, *(f"P{k}" for k in roi_level(regions, rounding=kind))] for kind in ("floor", "round")]
table(["rounding", *(f"{s:g}" for s in sides)], rows)

say("\nRegions for the heads (lesson 8):")
rows = []
for name, c in answers.items():
    allowed = int(c.rois_per_image * c.roi_positive_fraction)
    rows.append([name, c.rois_per_image, allowed, *(negative_count(p, c) for p in (allowed, 33, 10))])
table(["", "drawn", "positive at most", "negative with all of these", "with 33", "with 10"], rows)
keras = answers["matterport"]
names = ("box_head.conv1", "box_head.conv2", "box_head.class", "box_head.deltas", "mask_head.conv1", "mask_head.deconv")
say(
    "Parameters of matterport's heads with 81 classes: "
    + ", ".join(f"{name} {count(spec(keras), name):,}" for name in names)
    + "."
)

say("\nPasting (lesson 10): a mask of ones in the box (10, 20, 38, 48).")
rows = []
for name, c in answers.items():
    ones = paste_masks(np.ones((1, 28, 28)), np.array([[10.0, 20, 38, 48]]), (64, 64), c)[0]
    y, x = np.nonzero(ones)
    rows.append([name, c.mask_paste, f"{y.min()} .. {y.max()}", f"{len(set(y))} x {len(set(x))}"])
table(["", "mask_paste", "rows", "pixels"], rows)

# --- one answer changed under a trained network ---------------------------------------------------------------------

FLIPS = {
    "roi_aligned": {"roi_aligned": not config.roi_aligned},
    "anchor_offset": {"anchor_offset": 0.5 - config.anchor_offset},
    "channel_order": {"channel_order": "bgr" if config.channel_order == "rgb" else "rgb"},
    "bn_eps": {"bn_eps": 1e-3 if config.bn_eps < 1e-3 else 1e-5},
    "mask_paste": {"mask_paste": "plus_one" if config.mask_paste != "plus_one" else "grid_sample"},
}
model = lesson.model
(before,) = model.detect([sample.image])
strong = before.above(0.5)
say(f"\nThe same weights and image with one answer changed; {len(strong.boxes)} detections above 0.5 before:")
rows, pictures = [], {}
for name, changes in FLIPS.items():
    (after,) = MaskRCNN(config.replace(**changes), model.params).detect([sample.image])
    pictures[name] = after
    shifts = []
    for box, k in zip(strong.boxes, strong.class_ids):
        same = after.boxes[after.class_ids == k]
        if len(same):
            shifts.append(same[np.abs(same - box).max(axis=1).argmin()] - box)
    moved = np.array(shifts).reshape(-1, 4)
    value = next(iter(changes.values()))
    largest = f"{np.abs(moved).max():.2f}" if len(moved) else "-"
    mean = " ".join(f"{v:+.2f}" for v in moved.mean(axis=0)) if len(moved) else "-"
    rows.append([f"{name} = {value}", (after.scores >= 0.5).sum(), largest, mean])
table(["changed", "above 0.5 now", "largest move, px", "mean move of y1 x1 y2 x2"], rows)
say("mrcnn-np conventions measures this for every field; docs/conventions.md has the result.")

# --- pictures -------------------------------------------------------------------------------------------------------

# The upper three quarters of the image, so that there is something to pad
height = sample.image.shape[0] * 3 // 4
crop = sample.image[:height]
inside = sample.gt_boxes[sample.gt_boxes[:, 2] <= height]
figure, axes = grid(1, 4, title="The upper three quarters of the image, molded by four conventions (white: window)")
for ax, name in zip(axes[0], ("tiny", *FRAMEWORKS)):
    settings = presets.PRESETS[name]()
    canvas, m = mold_image(crop, settings)
    show_image(ax, np.clip((canvas - canvas.min()) / (canvas.max() - canvas.min()), 0, 1))  # what the network sees
    add_box(ax, m.window, "white", dash="dashed")
    for box in m.mold_boxes(inside):
        add_box(ax, box, "#F0E442", width=1.2)
    ax.set_title(f"{name}: {m.molded_shape[0]} x {m.molded_shape[1]}", fontsize=9)
    numbers = f"{canvas.min():.1f} .. {canvas.max():.1f}, {settings.channel_order.upper()}"
    add_text(ax, 0.5, -0.03, numbers, transform=ax.transAxes, ha="center", va="top")
lesson.save(figure, "molding")

figure, axes = grid(1, len(FLIPS), size=2.8, title="One answer changed (white, dashed: boxes before; orange: after)")
for ax, (name, after) in zip(axes[0], pictures.items()):
    show_image(ax, sample.image)
    for box in strong.boxes:
        add_box(ax, box, "white", dash="dashed", width=1.2)
    for box in after.above(0.5).boxes:
        add_box(ax, box, "#E69F00", width=1.4)
    ax.set_title(name, fontsize=9)
lesson.save(figure, "flips")

lesson.finish(
    "roi_aligned (half a cell of the level that a region is read from), anchor_offset (half a stride), box_frame and "
    "detection_rounded (up to a pixel). Whether all boxes are off alike, or each by its level's stride, tells which.",
    f"{negative_count(66, keras)}, {negative_count(33, keras)} and {negative_count(10, keras)}: int(66 / .33) - 66, "
    "and so on. The other two fill up to the full number.",
    f"floor: 4 + log2(320 / 224) = 4.51, P{roi_level(regions[4:5])[0]}. round: the nearest, "
    f"P{roi_level(regions[4:5], rounding='round')[0]}.",
)
