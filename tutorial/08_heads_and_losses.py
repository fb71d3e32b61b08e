"""Lesson 8: the two heads, what they should say, and the five losses.

Some proposals are drawn for training: positive ones overlap an object by half or more, the others are background. The
class and box head reads 7 x 7 features of each, the mask head 14 x 14 features of the positive ones. Three losses
compare them with the truth, and with the two of the proposal network there are five.

Open beside this: mrcnn_np/heads.py, mrcnn_np/targets.py (roi_targets) and mrcnn_np/objective.py.
The loops: sigmoid, softmax and smooth_l1 in tests/oracles/naive.py.

Questions
1. Of 512 regions a quarter may be positive. An image has 40 proposals that overlap an object by half or more. How many
   positive and how many negative regions are drawn?
2. What is the mask loss of a network that has learned nothing?
3. The mask head predicts one mask per class. Which of them does the loss look at?
"""

import numpy as np
from common import LINE_PALETTE, PALETTE, add_box, code, grid, heat, naive, say, show_image, start, table

from mrcnn_np.backbone import backbone
from mrcnn_np.boxes import iou
from mrcnn_np.fpn import fpn
from mrcnn_np.heads import box_head, mask_head
from mrcnn_np.model import MaskRCNN
from mrcnn_np.objective import LOSSES, head_mask_loss_backward
from mrcnn_np.ops.activation import sigmoid, softmax
from mrcnn_np.ops.losses import sigmoid_cross_entropy, smooth_l1, softmax_cross_entropy, softmax_cross_entropy_backward
from mrcnn_np.pyramid import roi_level

lesson = start(__doc__)
model, batch, config = lesson.model, lesson.batch, lesson.config

# The proposals that carry losses are drawn at random. Not every draw has a region on every object; this one has.
losses, cache = model.losses(batch, np.random.default_rng(lesson.draw))
targets = cache.targets
positive = np.flatnonzero(targets.class_ids > 0)
say(
    f"\nThis image: {len(targets.rois)} regions drawn, {len(positive)} of them positive (seed {lesson.draw}: the first "
    f"draw in which every object has one). Targets: classes {targets.class_ids.shape}, deltas {targets.deltas.shape}, "
    f"masks {targets.masks.shape}."
)
levels = roi_level(targets.rois, canonical_size=config.roi_canonical_size)
table(
    ["regions", "P2", "P3", "P4", "P5"],
    [
        [name, *((levels[rows] == k).sum() for k in (2, 3, 4, 5))]
        for name, rows in (("positive", positive), ("negative", np.flatnonzero(targets.class_ids == 0)))
    ],
)
if len(batch.gt_boxes[0]):
    largest = np.sqrt((batch.gt_boxes[0][:, 2:] - batch.gt_boxes[0][:, :2]).prod(axis=1).max())
    say(
        f"P5 is read by regions of {2 * config.roi_canonical_size:g} pixels and more (lesson 7); the largest object "
        f"has {largest:.0f}."
    )

# The heads, as model.losses runs them, for the positive regions
features, _ = backbone(batch.images, model.params, config)
pyramid, _ = fpn(features, model.params, model.config)
rois, own_class = targets.rois[positive], targets.class_ids[positive]


def read(size: int) -> np.ndarray:
    """Read size x size features of every positive region from its level."""
    return model.roi_features(pyramid, rois, np.zeros(len(rois), int), size, batch.images.shape)[0]


class_logits, deltas, _ = box_head(read(config.box_pool_size), model.params, config)
mask_logits, _ = mask_head(read(config.mask_pool_size), model.params, config)
table(
    ["head", "reads", "says"],
    [
        ["class", f"(R, {config.box_pool_size}, {config.box_pool_size}, C)", f"{class_logits.shape}: logits"],
        ["box", "the same", f"{deltas.shape}: deltas, one set per class"],
        ["mask", f"(P, {config.mask_pool_size}, {config.mask_pool_size}, C)", f"{mask_logits.shape}: logits per class"],
    ],
)
say("\nThe first positive regions: their class, and what the head believes.")
probabilities = softmax(class_logits)[0]
names = [lesson.class_names[k] for k in own_class]
table(["truth", *lesson.class_names[:6]], [[n, *(f"{p:.2f}" for p in q[:6])] for n, q in zip(names[:6], probabilities)])

# --- the losses: one number at a time, and in NumPy -----------------------------------------------------------------

say("\nThe class loss of a region is -log of the probability that its true class gets:")
code(naive.softmax)
code(softmax_cross_entropy_backward)
logits, label = np.array([[2.0, 1.0, 0.0]]), np.array([1])
p = naive.softmax(logits[0].tolist())
rows = [["logits", *logits[0]], ["p = softmax", *(f"{v:.4f}" for v in p)], ["gradient p - [k is true]"]]
one_hot_loss, one_hot_cache = softmax_cross_entropy(logits, label)
rows[-1] += [f"{v:+.4f}" for v in softmax_cross_entropy_backward(np.ones(1), one_hot_cache)[0]]
table(["", "class 0", "class 1 (true)", "class 2"], rows)
say(
    f"-log {p[1]:.4f} = {-np.log(p[1]):.4f}, and softmax_cross_entropy says {one_hot_loss[0]:.4f}. The gradient pulls "
    "the true class up by what it lacks and pushes the others down by what they have; it sums to 0."
)
x, t = 0.5, 1.0
by_hand = -t * np.log(naive.sigmoid(x)) - (1 - t) * np.log(1 - naive.sigmoid(x))
say(
    f"A pixel of a mask is a question of yes or no: logit {x}, target {t:g}: loss {by_hand:.4f} by hand, "
    f"{sigmoid_cross_entropy(np.array([x]), np.array([t]))[0][0]:.4f} in NumPy, gradient sigmoid(x) - t = "
    f"{naive.sigmoid(x) - t:+.4f}."
)
say("Smooth L1 is a parabola near 0 and a line further out, so that a far-off box does not dominate:")
code(naive.smooth_l1)
x = np.array([0, 0.5, 1, 2, -3])
rows = [[f"beta = {beta:.3g}", *(f"{v:.4f}" for v in smooth_l1(x, 0 * x, beta=beta)[0])] for beta in (1.0, 1 / 9)]
table(["x", *(f"{v:g}" for v in x)], rows)

fresh, fresh_cache = MaskRCNN(config).losses(batch, np.random.default_rng(lesson.draw))
say(f"\nThe five losses. ln 2 = {np.log(2):.4f}, ln {config.num_classes} = {np.log(config.num_classes):.4f}:")
table(["loss", "fresh weights", "this network"], [[k, f"{fresh[k]:.4f}", f"{losses[k]:.4f}"] for k in LOSSES])
drawn = fresh_cache.targets.class_ids > 0
exact = (np.abs(fresh_cache.targets.deltas[drawn]).max(axis=1, initial=0) < 1e-3).sum()
say(
    "head_box of fresh weights is small for a dull reason: their proposals hit nothing, and the true boxes, which join "
    f"the proposals, need no correction ({exact} of {drawn.sum()} positive regions are such)."
)

# --- pictures -------------------------------------------------------------------------------------------------------

figure, axes = grid(1, 2, size=4.4, title="What the heads train on, and how far they are")
show_image(axes[0, 0], lesson.canvas // 2 + 100)
for roi, k in reversed(list(zip(targets.rois, targets.class_ids))):
    add_box(axes[0, 0], roi, PALETTE[0] if k else "#56B4E9", width=1.6 if k else 0.8, dash="solid" if k else "dashed")
count_text = f"{len(positive)} positive (orange), {len(targets.rois) - len(positive)} negative (blue, dashed)"
axes[0, 0].set_title(f"regions drawn: {count_text}", fontsize=9)
place = np.arange(len(LOSSES))
axes[0, 1].bar(place - 0.2, [fresh[k] for k in LOSSES], 0.38, label="fresh weights", color="#999999")
axes[0, 1].bar(place + 0.2, [losses[k] for k in LOSSES], 0.38, label="this network", color=PALETTE[0])
for value, name in ((np.log(2), "ln 2"), (np.log(config.num_classes), f"ln {config.num_classes}")):
    axes[0, 1].axhline(value, color=LINE_PALETTE[1], linewidth=1, linestyle="dashed")
    axes[0, 1].text(4.95, value + 0.01, name, ha="right", va="bottom", fontsize=9)
axes[0, 1].set(xlim=(-0.6, 5.0), ylim=(0, 1.25 * max(1.0, np.log(config.num_classes), *fresh.values())))
axes[0, 1].set_xticks(place, LOSSES, fontsize=8)
axes[0, 1].set_title("the five losses", fontsize=9)
axes[0, 1].legend(fontsize=8)
lesson.save(figure, "losses")

# The masks of all classes: of every object the region that fits it best
every_mask = sigmoid(mask_logits)[0]  # (P, 28, 28, K)
spread = every_mask[..., 1:].max(axis=-1) - every_mask[..., 1:].min(axis=-1)  # (P, 28, 28)
overlaps = iou(rois, batch.gt_boxes[0])  # (P, G)
shown = sorted({int(overlaps[:, g].argmax()) for g in range(overlaps.shape[1])})[:6] if len(rois) else []
if shown:
    dmask_logits = head_mask_loss_backward(1.0, cache.losses["head_mask"])  # (P, 28, 28, K)
    names = lesson.class_names[1 : min(config.num_classes, 5)]
    say("\nThe gradient of the mask loss with respect to the mask of each class (its norm), region by region:")
    rows = []
    for r in shown:
        norms = [f"{np.linalg.norm(dmask_logits[r, :, :, k + 1]):.1e}" for k in range(len(names))]
        disagree = (spread[r] > 0.2).mean()
        rows.append([lesson.class_names[own_class[r]], f"P{levels[positive[r]]}", *norms, f"{disagree:.0%}"])
    table(["region of a", "read from", *names, "pixels that differ by 0.2"], rows)
    say(
        "Only the mask of the true class is asked for. That the others look much the same is no wonder: all share the "
        "features of the mask head, only its last 1x1 convolution has weights for each class, and nothing in the loss "
        "asks them to differ. They outline what fills the box, whatever it is."
    )
    classes = range(1, min(config.num_classes, 5))
    title = "Mask targets, and the masks of every class (framed: the one that the loss sees)"
    figure, axes = grid(len(shown), 3 + len(classes), size=1.8, title=title)
    for row, r in zip(axes, shown):
        y1, x1, y2, x2 = rois[r]
        show_image(row[0], lesson.canvas)
        row[0].set(xlim=(x1, x2), ylim=(y2, y1))
        row[0].set_title(f"region, P{levels[positive[r]]}", fontsize=9)
        heat(row[1], targets.masks[r], f"target: {lesson.class_names[own_class[r]]}", limits=(0, 1))
        for ax, k in zip(row[2:], classes):
            heat(ax, every_mask[r, :, :, k], lesson.class_names[k], limits=(0, 1))
            ax.contour(every_mask[r, :, :, k], levels=[0.5], colors="white", linewidths=0.8)
            if k == own_class[r]:
                for spine in ax.spines.values():
                    spine.set(color=PALETTE[2], linewidth=3)
        heat(row[-1], spread[r], "largest difference", limits=(0, 1), cmap="magma")
    lesson.save(figure, "masks")

lesson.finish(
    "40 positive ones, fewer than the 128 that are allowed, and 472 negative ones to fill up.",
    "ln 2 = 0.6931: every pixel is 'one half'. A mask loss that stays there means that nothing is learned. The class "
    f"loss of a network without an opinion is ln {config.num_classes}, the logarithm of the number of classes.",
    "Only that of the true class. The others receive no gradient from this region, whatever they show. The "
    "masks do not compete, because the class head decides; a softmax over classes would make them.",
)
