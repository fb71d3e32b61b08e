"""Lesson 4: anchors, the boxes that the proposal network starts from, and IoU, by which boxes are compared.

At every cell of every level lie a few fixed boxes: one size per level, three shapes of the same area. They do not
depend on the image. Objects are found by correcting the anchor that lies closest, so there must be one close enough.
How close two boxes are is their IoU, intersection over union: the area that they share, divided by the area that
they cover together. Equal boxes have 1, boxes apart have 0.

Open beside this: mrcnn_np/boxes.py (iou) and mrcnn_np/anchors.py.
The loops: iou and anchors in tests/oracles/naive_boxes.py.

Questions
1. How many anchors has an image of 1024 x 1024 with levels of stride 4, 8, 16, 32 and 64 and 3 shapes per cell?
2. An anchor of size 128 and ratio 0.5: how high and how wide?
3. Which level has the best anchor for an object of 20 x 20 pixels, with the sizes 12, 20, 32, 52, 84?
4. Two boxes of 4 x 4 pixels, one 2 pixels below and 2 to the right of the other. Their IoU?
"""

import numpy as np
from common import LINE_PALETTE, PALETTE, add_box, code, grid, heat, naive_boxes, say, show_image, start, table
from matplotlib.patches import Rectangle

from mrcnn_np.anchors import pyramid_anchors
from mrcnn_np.boxes import iou
from mrcnn_np.pyramid import roi_level

lesson = start(__doc__)
config, batch = lesson.config, lesson.batch
shape = batch.images.shape[1:3]
anchors = lesson.anchors  # pyramid_anchors with the sizes, strides and ratios of the configuration

# --- IoU ------------------------------------------------------------------------------------------------------------

say(
    "IoU of two boxes, by hand: (1, 1, 5, 5) and (3, 3, 7, 7) share 2 x 2 = 4 pixels and cover 16 + 16 - 4 = 28: 1 / 7."
)
code(naive_boxes.iou)


def iou_in_numpy(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU of every box of a (A, 4) with every box of b (B, 4), all with an area."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])  # (A, B, 2)
    shared = np.maximum(sides, 0).prod(axis=2)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b))
    return shared / (area_a[:, None] + area_b[None, :] - shared)


say("The same for all pairs in four lines of NumPy. The largest top and left, the smallest bottom and right:")
code(iou_in_numpy)
pair = np.array([[1.0, 1, 5, 5], [3, 3, 7, 7]])
by_hand, loop, whole = 1 / 7, naive_boxes.iou(*pair), iou(pair, pair)
say(f"By hand {by_hand:.6f}, by the loop {loop:.6f}; mrcnn_np.boxes.iou of both with both: {whole.round(4).tolist()}.")

# --- anchors --------------------------------------------------------------------------------------------------------

say(f"\nA canvas of {shape[0]} x {shape[1]} with {len(config.anchor_ratios)} anchors per cell:")
rows = []
for k, level, size, stride in zip((2, 3, 4, 5, 6), anchors, config.anchor_sizes, config.anchor_strides):
    rows.append([f"P{k}", f"{-(-shape[0] // stride)} x {-(-shape[1] // stride)}", f"{size:g}", level.shape])
rows.append(["all", "", "", sum(len(level) for level in anchors)])
table(["level", "cells", "size", "anchors (A, 4)"], rows)

say("\nOne anchor at a time. The area stays size^2 whatever the ratio:")
code(naive_boxes.anchors)
levels = pyramid_anchors((64, 64), sizes=(16,), strides=(8,), aspect_ratios=(0.5, 1, 2), offset=0.5)
loop = np.array(naive_boxes.anchors(8, 8, 16, 8, 8, (0.5, 1, 2), 0.5))
say(f"Largest difference from mrcnn_np/anchors.py, which adds all centres to one cell's anchors at once: "
    f"{np.abs(loop - levels[0]).max():.0e} (float32).")  # fmt: skip


def number(height: int, width: int) -> int:
    """Count the anchors of the papers' pyramid."""
    levels = pyramid_anchors((height, width), sizes=(32, 64, 128, 256, 512), strides=(4, 8, 16, 32, 64))
    return sum(len(level) for level in levels)


say(
    f"\nIn the papers' setting 1024 x 1024 pixels have 3 * (256^2 + 128^2 + 64^2 + 32^2 + 16^2) = {number(1024, 1024)} "
    f"anchors, and 800 x 1344 have {number(800, 1344)}."
)
((wide, *_),) = pyramid_anchors((64, 64), sizes=(128,), strides=(64,))
say(f"The anchor of size 128 and ratio (height over width) 0.5 is {wide[2] - wide[0]:.1f} x {wide[3] - wide[1]:.1f}.")

# Is there an anchor close to every object? Ask before any training.
overlaps = [iou(level, batch.gt_boxes[0]) for level in anchors]  # one (A_l, G) per level
best = np.array([o.max(axis=0, initial=0) for o in overlaps])  # (5, G)
if best.size:
    say("\nBest IoU of any anchor with each object, level by level:")
    sides = batch.gt_boxes[0][:, 2:] - batch.gt_boxes[0][:, :2]
    read_from = roi_level(batch.gt_boxes[0], canonical_size=config.roi_canonical_size)
    rows = []
    for g, (h, w) in enumerate(sides):
        marks = [f"{v:.2f}{'*' if v == best[:, g].max() else ' '}" for v in best[:, g]]
        name = f"{lesson.class_names[batch.gt_class_ids[0][g]]} {h:.0f} x {w:.0f}"
        rows.append([name, *marks, f"P{read_from[g]}"])
    heads = [f"P{k}: {s:g}" for k, s in zip((2, 3, 4, 5, 6), config.anchor_sizes)]
    table(["object", *heads, "read from"], rows)
    say(
        "(* the object's best level.) The last column is another rule: once a region is found, lesson 7 reads its "
        "features from the level that suits the region's size. The two rules know nothing of each other, and need not "
        "agree: a small object may be found by an anchor of one level and read from another."
    )

# --- pictures -------------------------------------------------------------------------------------------------------

figure, axes = grid(1, 3, size=3.0, title="IoU = shared area / area covered together")
for ax, b in zip(axes[0], ([3, 3, 7, 7], [2, 1, 6, 5], [1, 6, 5, 8])):
    a, b = np.array([1, 1, 5, 5]), np.array(b)
    top, bottom = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    if (bottom > top).all():
        ax.add_patch(Rectangle(top[::-1], *(bottom - top)[::-1], color=PALETTE[4], alpha=0.6))
    add_box(ax, a, PALETTE[5], width=2)
    add_box(ax, b, PALETTE[2], width=2, dash="dashed")
    shared = np.maximum(bottom - top, 0).prod()
    area = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared
    ax.set(xlim=(0, 9), ylim=(8, 0), xticks=range(10), yticks=range(9), aspect="equal")
    ax.grid(color="#E0E0E0", linewidth=0.6)
    ax.set_title(f"{shared} / {area} = {shared / area:.2f}", fontsize=10)
lesson.save(figure, "iou")

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
    "The area stays 128^2 = 16384. With height / width = 0.5 it is 90.5 high and 181.0 wide. (Not everybody divides "
    "the same way round, and some round: lesson 12.)",
    "P3, whose size is 20. Where the sizes are too far from the objects' there is no anchor above the threshold "
    f"({config.rpn_positive_iou:g} here), and the object depends on the rule of lesson 5 that its best anchor counts.",
    "1 / 7 = 0.14. IoU falls quickly: shifted by half a side in both directions, only a seventh is left.",
)
