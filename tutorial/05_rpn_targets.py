"""Lesson 5: what the proposal network should have said about every anchor.

Each anchor is compared with the objects: a large overlap makes it positive (label 1), a small one negative (-1), and
what lies between is neutral (0) and carries no loss. Of thousands of negatives only a few are drawn. Positives also
learn how to move: four numbers that turn the anchor into its object, (dy, dx, log dh, log dw).

Open beside this: mrcnn_np/targets.py (match_anchors, subsample, rpn_targets) and mrcnn_np/boxes.py (encode_boxes).
The loops: match and decode in tests/oracles/naive_boxes.py.

Questions
1. The anchor (0, 0, 100, 200) belongs to the object (10, 20, 110, 220), boxes as (y1, x1, y2, x2). Its four numbers?
2. An object overlaps no anchor by more than 0.46. Is it lost?
3. Why are most negatives thrown away?
"""

import numpy as np
from common import PALETTE, add_box, code, grid, heat, listed, naive_boxes, say, show_image, start, table
from matplotlib.colors import ListedColormap

from mrcnn_np.boxes import decode_boxes, encode_boxes, iou
from mrcnn_np.pictures.instances import save_anchors
from mrcnn_np.targets import is_positive, label_anchors, match_anchors, rpn_targets, subsample

lesson = start(__doc__)
config, batch = lesson.config, lesson.batch
gt_boxes, gt_crowd = batch.gt_boxes[0], batch.gt_crowd[0]
levels = lesson.anchors  # one (A_l, 4) per level
shapes = [(-(-batch.images.shape[1] // s), -(-batch.images.shape[2] // s)) for s in config.anchor_strides]
anchors = np.concatenate(levels)

# --- five anchors by hand -------------------------------------------------------------------------------------------

say("Five anchors and two objects. Work out the IoUs of the first on paper: it shares 8 x 10 pixels with object A.")
objects = np.array([[0.0, 0, 10, 10], [12, 12, 18, 24]])
five = np.array([[0.0, 0, 8, 10], [3, 0, 13, 10], [5, 5, 15, 15], [8, 12, 18, 24], [20, 0, 30, 10]])
loop = naive_boxes.match(five.tolist(), objects.tolist(), [False, False], 0.3, 0.7)
reasons = {1: "positive", 0: "neutral", -1: "negative"}
rows = []
for anchor, label in zip(five, loop):
    row = [naive_boxes.iou(anchor, o) for o in objects]
    why = "IoU of at least 0.7" if max(row) >= 0.7 else "the best that object B has" if label == 1 else ""
    why = why or ("below 0.3 with both" if label == -1 else "neither near nor far")
    rows.append([listed(anchor, 0), *(f"{v:.2f}" for v in row), label, f"{reasons[label]}: {why}"])
table(["anchor (y1, x1, y2, x2)", "IoU with A", "with B", "label", ""], rows)
code(naive_boxes.match)
say("The same in NumPy (the crowds are dealt with around it): a table of all IoUs, then its rows and columns.")
code(label_anchors)
code(is_positive)
found, _ = label_anchors(five, objects, negative_iou=0.3, positive_iou=0.7, match_best=True)
say(f"Loop {loop}, NumPy {found.tolist()}.")

# --- the anchors of the image ---------------------------------------------------------------------------------------

labels, matched = match_anchors(anchors, gt_boxes, gt_crowd, config)
sampled = subsample(labels, config.rpn_anchors_per_image, config.rpn_positive_fraction, np.random.default_rng(0))
overlaps = iou(anchors, gt_boxes)  # (A, G)
say(
    f"\n{len(anchors)} anchors and {len(gt_boxes)} objects give {overlaps.shape} overlaps. Positive: IoU of at least "
    f"{config.rpn_positive_iou:g} with some object, or an object's best anchor. Negative: below "
    f"{config.rpn_negative_iou:g} with every object."
)
rows = []
for name, value in (("positive", 1), ("neutral", 0), ("negative", -1)):
    rows.append([name, value, (labels == value).sum(), (sampled == value).sum() if value else "all others"])
table(["anchors", "label", "matched", f"sampled, {config.rpn_anchors_per_image} in all"], rows)

if len(gt_boxes):
    say("\nHow each object got its positive anchors:")
    rows = []
    for g, (y1, x1, y2, x2) in enumerate(gt_boxes):
        own = (labels == 1) & (matched == g)
        over = int((overlaps[:, g] >= config.rpn_positive_iou).sum())
        name = lesson.class_names[batch.gt_class_ids[0][g]]
        rows.append([f"{name} {y2 - y1:.0f} x {x2 - x1:.0f}", f"{overlaps[:, g].max():.2f}", over, own.sum()])
    table(["object", "best IoU", f"anchors with IoU >= {config.rpn_positive_iou:g}", "its positive anchors"], rows)

say("\nThe regression targets of one anchor, by hand:")
anchor, box = np.array([0.0, 0, 100, 200]), np.array([10.0, 20, 110, 220])
deltas = encode_boxes(box, anchor)
say(f"anchor {listed(anchor, 0)} to box {listed(box, 0)}: (dy, dx, log dh, log dw) = {listed(deltas)}")
scaled = encode_boxes(box, anchor, std=(0.1, 0.1, 0.2, 0.2))
say(f"divided by the standard deviations (.1, .1, .2, .2): {listed(scaled)}")
say(f"decoded again: {listed(decode_boxes(deltas, anchor), 0)}")
code(naive_boxes.decode)
loop = naive_boxes.decode(anchor, scaled, (0.1, 0.1, 0.2, 0.2))
say(f"The loop decodes the scaled ones to {listed(np.array(loop), 0)}: it multiplies by the deviations first.")

final, targets = rpn_targets(anchors, gt_boxes, gt_crowd, config, np.random.default_rng(0))
own = targets[final == 1]
say(
    f"\nrpn_targets gives labels {final.shape} and deltas {targets.shape}; {len(own)} rows are positive. Their "
    f"standard deviation over (dy, dx, log dh, log dw) is {listed(own.std(axis=0)) if len(own) else '-'} "
    f"after division by {config.rpn_box_std}."
)

# --- pictures -------------------------------------------------------------------------------------------------------

save_anchors(lesson.path("positive_anchors"), lesson.canvas, levels, gt_boxes, positive_iou=config.rpn_positive_iou)

figure, axes = grid(1, 2, size=4.2, title="Five anchors (numbered) and two objects (thick, dashed)")
for ax, which in zip(axes[0], ("IoU", "label")):
    for o, name, colour in zip(objects, "AB", (PALETTE[5], PALETTE[3])):
        add_box(ax, o, colour, width=3, dash="dashed")
        ax.text(o[3] - 0.3, o[2] - 0.3, name, ha="right", va="bottom", fontsize=12, color=colour)
    for i, (anchor, label) in enumerate(zip(five, found)):
        tone = {1: PALETTE[0], 0: "#999999", -1: PALETTE[1]}[int(label)] if which == "label" else "#444444"
        add_box(ax, anchor, tone, width=1.5)
        ax.text(anchor[1] + 0.4, anchor[0] + 0.4, str(i + 1), va="top", fontsize=9, color=tone)
    ax.set(xlim=(-1, 26), ylim=(31, -1), aspect="equal")
axes[0, 0].set_title("to be labelled", fontsize=9)
axes[0, 1].set_title("orange: positive, grey: neutral, blue: negative", fontsize=9)
lesson.save(figure, "five_anchors")

figure, axes = grid(2, 5, size=2.6, title="Labels of the anchors, cell by cell (the highest of a cell's three)")
starts = np.cumsum([0, *(len(level) for level in levels)])
colours = ListedColormap(["#33333300", PALETTE[1], PALETTE[0]])  # what is not sampled stays clear
extent = (0, lesson.canvas.shape[1], lesson.canvas.shape[0], 0)
for i, (h, w) in enumerate(shapes):
    part = slice(starts[i], starts[i + 1])
    best = overlaps[part].max(axis=1, initial=0).reshape(h, w, -1).max(axis=2)
    heat(axes[0, i], best, f"P{i + 2}: best IoU, up to {best.max():.2f}", limits=(0, 1))
    # A sampled negative must not hide behind a neutral anchor of its cell
    cell = final[part].reshape(h, w, -1)
    kind = np.where((cell == 1).any(axis=2), 2, np.where((cell == -1).any(axis=2), 1, 0))
    count = f"{(cell == 1).sum()} positive, {(cell == -1).sum()} negative"
    show_image(axes[1, i], lesson.canvas // 2 + 110)
    drawn = heat(axes[1, i], kind, f"P{i + 2}: {count}", limits=(-0.5, 2.5), cmap=colours, extent=extent, alpha=0.75)
    for box in gt_boxes:
        add_box(axes[1, i], box, "white", width=1.0, dash="dashed")
figure.colorbar(axes[0, 4].images[0], ax=axes[0, 4], shrink=0.8)
bar = figure.colorbar(drawn, ax=axes[1, 4], shrink=0.8, ticks=[0, 1, 2])
bar.ax.set_yticklabels(["not sampled (clear)", "negative", "positive"], fontsize=8)
lesson.save(figure, "labels")

lesson.finish(
    "(0.1, 0.1, 0, 0): the centre moves by 10 of 100 pixels down and 20 of 200 to the right, and the size stays. The "
    "papers write x before y: (dx, dy, dw, dh).",
    "No: its best anchor is positive whatever its overlap, all of them if several are equally good.",
    "With all of them, the loss would hardly notice the positives: a network that calls everything background is right "
    f"in {(labels == -1).sum()} of {len(labels)} cases here.",
)
