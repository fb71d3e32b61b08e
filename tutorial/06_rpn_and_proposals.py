"""Lesson 6: the region proposal network, and how its output becomes proposals.

One small head reads every level and says for each anchor whether it holds an object and how to move it. The best
anchors are moved, clipped to the image and thinned: of boxes that overlap, only the best stays (non-maximum
suppression). What is left are the regions that the second stage looks at. No gradient flows through any of this.

Open beside this: mrcnn_np/rpn.py, mrcnn_np/proposals.py and mrcnn_np/nms.py.
The loop: nms in tests/oracles/naive_boxes.py.

Questions
1. The head has A logits per cell. Some implementations have 2A, one for "object" and one for "nothing". How can both
   say the same?
2. Two boxes overlap with an IoU of exactly 0.5 and the threshold is 0.5. Do both stay?
3. The head is used on five levels. How many sets of weights has it?
"""

from itertools import pairwise

import numpy as np
from common import PALETTE, add_box, code, grid, heat, listed, naive_boxes, say, show_image, start, table

from mrcnn_np.backbone import backbone
from mrcnn_np.boxes import clip_boxes, decode_boxes, iou
from mrcnn_np.fpn import fpn
from mrcnn_np.nms import batched_nms, nms
from mrcnn_np.ops.activation import sigmoid, softmax
from mrcnn_np.pictures.instances import save_proposals
from mrcnn_np.proposals import objectness_scores, propose, top_k
from mrcnn_np.rpn import rpn_head

lesson = start(__doc__)
model, batch, config = lesson.model, lesson.batch, lesson.config
window, gt_boxes = batch.moldings[0].window, batch.gt_boxes[0]

features, _ = backbone(batch.images, model.params, config)
pyramid, _ = fpn(features, model.params, model.config)
logits, deltas, _ = rpn_head(pyramid, model.params, config)
anchors = lesson.anchors
say(f"\nThe head turns five maps into logits {logits.shape} and deltas {deltas.shape}: one row per anchor.")
pair = np.array([0.3, 1.7])
two, one = softmax(pair)[0][1], sigmoid(pair[1] - pair[0])[0]
say(f"softmax{listed(pair, 1)}[1] = {two:.6f} = sigmoid(1.7 - 0.3) = {one:.6f}")

# propose(), one step after the other
say("\nFrom anchors to proposals, as at inference:")
starts = np.cumsum([0, *(len(level) for level in anchors)])
scores = objectness_scores(logits[0], config)
level = np.repeat(np.arange(5), [len(a) for a in anchors])
kept = np.concatenate([a + top_k(logits[0][a:b], config.proposals_pre_nms_test) for a, b in pairwise(starts)])
everything = np.concatenate(anchors)
steps = [("all anchors", everything), (f"best {config.proposals_pre_nms_test} of each level", everything[kept])]
boxes = decode_boxes(deltas[0][kept], everything[kept], std=config.rpn_box_std, max_log_scale=config.max_log_scale)
steps.append(("moved by their deltas", boxes))
boxes = clip_boxes(boxes, window)
large = ((boxes[:, 2:] - boxes[:, :2]) >= config.proposals_min_size).all(axis=1)
boxes, kept = boxes[large], kept[large]
steps.append(("clipped, empty ones dropped", boxes))
chosen = batched_nms(boxes, logits[0][kept], level[kept], config.proposals_nms_iou)
steps.append((f"after NMS at {config.proposals_nms_iou:g} per level", boxes[chosen]))
chosen = chosen[: config.proposals_post_nms_test]
steps.append((f"best {config.proposals_post_nms_test} of all levels", boxes[chosen]))
rows = []
for name, b in steps:
    best = iou(b, gt_boxes).max(axis=0, initial=0)
    rows.append([name, len(b), *(f"{(best >= t).sum()} of {len(best)}" for t in (0.5, 0.7))])
table(["step", "boxes", "objects with IoU >= .5", "with IoU >= .7"], rows)

proposals, proposal_scores = propose(logits[0], deltas[0], anchors, window, config, training=False)
say(f"propose() does all of it and gives the same boxes: {np.array_equal(proposals, boxes[chosen])}.")

# --- non-maximum suppression: the loop, and the same in NumPy -------------------------------------------------------

say("\nNMS keeps the best box, throws out what overlaps it too much, and goes on with the best of the rest:")
code(naive_boxes.nms)
say("In NumPy the inner loop is one row of the table of IoUs, and only the rows of boxes that stay are computed:")
code(nms)
pair = np.array([[0.0, 0, 2, 1], [0, 0, 1, 1]])
say(
    f"NMS of {pair.tolist()}, whose IoU is {iou(pair, pair)[0, 1]:g}: at the threshold 0.5 it keeps "
    f"{nms(pair, np.array([0.9, 0.8]), 0.5).tolist()}, at 0.49 {nms(pair, np.array([0.9, 0.8]), 0.49).tolist()}."
)
some = boxes[:60].astype(np.float64)
same = naive_boxes.nms(some.tolist(), scores[kept[:60]], 0.5) == nms(some, scores[kept[:60]], 0.5).tolist()
say(f"The first 60 moved anchors: loop and NumPy keep the same, {same}.")

# --- pictures -------------------------------------------------------------------------------------------------------

figure, axes = grid(
    2,
    5,
    size=2.5,
    title="Objectness of every cell (highest of its three anchors), and how the best anchors of a level move",
)
for i, p in enumerate(pyramid):
    part = slice(starts[i], starts[i + 1])
    cells = scores[part].reshape(p.shape[1], p.shape[2], -1).max(axis=2)
    drawn = heat(axes[0, i], cells, f"P{i + 2}: {p.shape[1]} x {p.shape[2]} cells", limits=(0, 1))
    show_image(axes[1, i], lesson.canvas // 2 + 100, margin=batch.images.shape[1] * 0.1)
    best = starts[i] + top_k(scores[part], 3)
    for a, b in zip(everything[best], decode_boxes(deltas[0][best], everything[best], std=config.rpn_box_std)):
        add_box(axes[1, i], a, "#56B4E9", width=1.2, dash="dashed")
        add_box(axes[1, i], b, "#D55E00", width=1.4)
    axes[1, i].set_title(f"best 3, scores {scores[best[-1]]:.2f} to {scores[best[0]]:.2f}", fontsize=9)
figure.colorbar(drawn, ax=axes[0, 4], shrink=0.8)
figure.supxlabel("blue, dashed: anchor; red, solid: the same anchor moved by its deltas", fontsize=9)
lesson.save(figure, "objectness")

# Box by box: up to twelve boxes of one place, each step the best that is left and what it throws out
centre = np.argsort(-scores[kept], kind="stable")[:1]  # around the best of all
near = np.flatnonzero(iou(boxes, boxes[centre])[:, 0] > 0.1)
near = near[np.argsort(-scores[kept[near]], kind="stable")][:12]
crowd, crowd_scores, left = boxes[near], scores[kept[near]], list(range(len(near)))
figure, axes = grid(1, 4, size=3.2, title="NMS box by box at 0.5 (thick: kept; dashed: thrown out; thin: to come)")
frame = np.concatenate([crowd[:, :2].min(axis=0) - 6, crowd[:, 2:].max(axis=0) + 6])
stayed: list[int] = []
for step, ax in enumerate(axes[0]):
    show_image(ax, lesson.canvas // 2 + 110)
    ax.set(xlim=(frame[1], frame[3]), ylim=(frame[2], frame[0]))
    ax.set_title(f"{len(near)} boxes of one place" if step == 0 else "nothing is left", fontsize=9)
    out: list[int] = []
    if step and left:
        best = left.pop(0)
        stayed.append(best)
        out = [i for i in left if naive_boxes.iou(crowd[best], crowd[i]) > 0.5]
        left = [i for i in left if i not in out]
        ax.set_title(f"step {step}: keep {crowd_scores[best]:.2f}, drop {len(out)}, {len(left)} left", fontsize=9)
    for i in left:
        add_box(ax, crowd[i], "#666666", width=0.8)
    for i in out:
        add_box(ax, crowd[i], PALETTE[2], width=1.2, dash="dashed")
    for i in stayed:
        add_box(ax, crowd[i], PALETTE[1], width=2.4)
lesson.save(figure, "nms")
save_proposals(lesson.path("proposals"), lesson.canvas, proposals, proposal_scores, gt_boxes, top=25)

lesson.finish(
    "softmax(a, b)[1] = sigmoid(b - a): only the difference of the two logits counts.",
    "Yes: an IoU has to be greater than the threshold to suppress.",
    "One. Its gradient is the sum over the levels (rpn_head_backward adds five times to the same entries).",
)
