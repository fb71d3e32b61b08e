"""Lesson 4: anchors, the boxes that the proposal network starts from.

At every cell of every level lie a few fixed boxes: one size per level, three shapes of the same area. They do not
depend on the image. Objects are found by correcting the anchor that lies closest, so there must be one close enough.

Open beside this: mrcnn_np/anchors.py.

Questions
1. How many anchors has an image of 1024 x 1024 with levels of stride 4, 8, 16, 32 and 64 and 3 shapes per cell?
2. An anchor of size 128 and ratio 0.5: how high and how wide?
3. Which level has the best anchor for an object of 20 x 20 pixels, with the sizes 12, 20, 32, 52, 84?
"""

import numpy as np
from common import LINE_PALETTE, PALETTE, add_box, grid, heat, say, show_image, start, table

from mrcnn_np import presets
from mrcnn_np.anchors import pyramid_anchors
from mrcnn_np.boxes import iou

lesson = start(__doc__)
config, batch = lesson.config, lesson.batch
shape = batch.images.shape[1:3]
anchors = lesson.anchors  # pyramid_anchors with the sizes, strides and ratios of the configuration

say(f"A canvas of {shape[0]} x {shape[1]} with {len(config.anchor_ratios)} anchors per cell:")
rows = []
for k, level, size, stride in zip((2, 3, 4, 5, 6), anchors, config.anchor_sizes, config.anchor_strides):
    rows.append([f"P{k}", f"{-(-shape[0] // stride)} x {-(-shape[1] // stride)}", f"{size:g}", level.shape])
rows.append(["all", "", "", sum(len(level) for level in anchors)])
table(["level", "cells", "size", "anchors (A, 4)"], rows)


def number(height: int, width: int) -> int:
    """Count the anchors of the papers' pyramid."""
    levels = pyramid_anchors((height, width), sizes=(32, 64, 128, 256, 512), strides=(4, 8, 16, 32, 64))
    return sum(len(level) for level in levels)


say(
    f"\nIn the papers' setting 1024 x 1024 pixels have 3 * (256^2 + 128^2 + 64^2 + 32^2 + 16^2) = {number(1024, 1024)} "
    f"anchors, and 800 x 1344 have {number(800, 1344)}."
)
say("An anchor of size 128 as height x width, where the implementations differ:")
rows = []
for name in ("torchvision", "detectron2", "matterport"):
    c = presets.PRESETS[name]()
    level = pyramid_anchors(
        (64, 64), sizes=(128,), strides=(64,), ratio_meaning=c.anchor_ratio_meaning, rounding=c.anchor_rounding
    )[0]
    rows.append([name, *(f"{h:.1f} x {w:.1f}" for h, w in level[:, 2:] - level[:, :2]), level[1].tolist()])
table(["", "ratio 0.5", "ratio 1", "ratio 2", "first box of ratio 1"], rows)
say("Their first anchor is centred on the corner of the image (offset 0), not on the centre of the cell (offset 0.5).")

# Is there an anchor close to every object? Ask before any training.
overlaps = [iou(level, batch.gt_boxes[0]) for level in anchors]  # one (A_l, G) per level
best = np.array([o.max(axis=0, initial=0) for o in overlaps])  # (5, G)
if best.size:
    say("\nBest IoU of any anchor with each object, level by level:")
    sides = batch.gt_boxes[0][:, 2:] - batch.gt_boxes[0][:, :2]
    rows = []
    for g, (h, w) in enumerate(sides):
        marks = [f"{v:.2f}{'*' if v == best[:, g].max() else ' '}" for v in best[:, g]]
        rows.append([f"{lesson.class_names[batch.gt_class_ids[0][g]]} {h:.0f} x {w:.0f}", *marks])
    table(["object", *(f"P{k}: {s:g}" for k, s in zip((2, 3, 4, 5, 6), config.anchor_sizes))], rows)
    say("(* the object's best level)")

# --- pictures -------------------------------------------------------------------------------------------------------

figure, axes = grid(1, 5, size=3.0, title="One cell's three anchors per level (dots: centres of all cells)")
for ax, k, level, stride in zip(axes[0], (2, 3, 4, 5, 6), anchors, config.anchor_strides):
    show_image(ax, lesson.canvas // 2 + 110, margin=shape[0] * 0.2)
    cells = level.reshape(-(-shape[0] // stride), -(-shape[1] // stride), -1, 4)
    centres = (cells[:, :, 0, :2] + cells[:, :, 0, 2:]).reshape(-1, 2) / 2
    ax.scatter(centres[:, 1], centres[:, 0], s=min(3.0, stride / 4), color="black", linewidths=0)
    for r, box in enumerate(cells[cells.shape[0] // 2, cells.shape[1] // 2]):
        add_box(ax, box, PALETTE[r], width=1.8)
    ax.set_title(f"P{k}: size {config.anchor_sizes[k - 2]:g}, {len(level)} anchors", fontsize=9)
handles = [axes[0, 0].plot([], [], color=PALETTE[r], linewidth=2)[0] for r in range(len(config.anchor_ratios))]
figure.legend(handles, [f"height / width = {r:g}" for r in config.anchor_ratios], loc="outside lower center", ncols=3)
lesson.save(figure, "anchors")

if best.size:
    figure, axes = grid(1, 1, size=4.2, title="Is there a good anchor for every object?")
    names = [f"{lesson.class_names[k]} {h:.0f} x {w:.0f}" for k, (h, w) in zip(batch.gt_class_ids[0], sides)]
    bar = heat(axes[0, 0], best.T, "best IoU of a level's anchors with an object", limits=(0, 1), aspect="auto")
    axes[0, 0].set_xticks(range(5), [f"P{k}\n{s:g}" for k, s in zip((2, 3, 4, 5, 6), config.anchor_sizes)], fontsize=8)
    axes[0, 0].set_yticks(range(len(names)), names, fontsize=8)
    for (level, g), value in np.ndenumerate(best):
        tone = "black" if value > 0.55 else "white"
        axes[0, 0].text(level, g, f"{value:.2f}", ha="center", va="center", color=tone, fontsize=8)
    figure.colorbar(bar, ax=axes[0, 0], shrink=0.8).ax.axhline(config.rpn_positive_iou, color=LINE_PALETTE[1])
    lesson.save(figure, "anchor_report")

lesson.finish(
    f"{number(1024, 1024)}, of which three quarters lie on P2. Nearly all of them are background.",
    "The area stays 128^2 = 16384. With height / width = 0.5 it is 90.5 high and 181.0 wide; matterport means width / "
    "height, so its 0.5 is 181.0 high and 90.5 wide. torchvision rounds half-sides: 90 x 182.",
    "P3, whose size is 20. Where the sizes are too far from the objects' there is no anchor above the threshold "
    f"({config.rpn_positive_iou:g} here), and the object depends on the rule of lesson 5 that its best anchor counts.",
)
