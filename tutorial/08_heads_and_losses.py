"""Lesson 8: the two heads, what they should say, and the five losses.

Some proposals are drawn for training: positive ones overlap an object by half or more, the others are background. The
class and box head reads 7 x 7 features of each, the mask head 14 x 14 features of the positive ones. Three losses
compare them with the truth, and with the two of the proposal network there are five.

Open beside this: mrcnn_np/heads.py, mrcnn_np/targets.py (roi_targets) and mrcnn_np/objective.py.

Questions
1. The Keras implementation draws 200 regions of which 33 % are positive. How many positive and negative ones?
2. What is the mask loss of a network that has learned nothing?
3. The mask head predicts one mask per class. Which of them does the loss look at?
"""

import numpy as np
from common import LINE_PALETTE, PALETTE, add_box, grid, heat, say, show_image, start, table

from mrcnn_np import presets
from mrcnn_np.backbone import backbone
from mrcnn_np.fpn import fpn
from mrcnn_np.heads import box_head, mask_head
from mrcnn_np.model import LOSSES, MaskRCNN
from mrcnn_np.network import spec
from mrcnn_np.ops.activation import sigmoid, softmax
from mrcnn_np.ops.losses import smooth_l1
from mrcnn_np.params import count
from mrcnn_np.targets import negative_count

lesson = start(__doc__)
model, batch, config = lesson.model, lesson.batch, lesson.config

keras = presets.matterport()
positives = int(keras.rois_per_image * keras.roi_positive_fraction)
negatives = {p: negative_count(p, keras) for p in (positives, 33, 10)}
say(f"\nOf {keras.rois_per_image} regions {positives} may be positive. Positive: negative regions are {negatives}.")

losses, cache = model.losses(batch, np.random.default_rng(0))
targets = cache.targets
positive = np.flatnonzero(targets.class_ids > 0)
say(
    f"\nThis image: {len(targets.rois)} regions drawn, {len(positive)} of them positive. Targets: classes "
    f"{targets.class_ids.shape}, deltas {targets.deltas.shape}, masks {targets.masks.shape}."
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
names = ("box_head.conv1", "box_head.conv2", "box_head.class", "box_head.deltas", "mask_head.conv1", "mask_head.deconv")
counts = ", ".join(f"{name} {count(spec(keras), name):,}" for name in names)
say(f"Parameters in the Keras implementation with 81 classes: {counts}.")
say("\nThe first positive regions: their class, and what the head believes.")
probabilities = softmax(class_logits)[0]
names = [lesson.class_names[k] for k in own_class]
table(["truth", *lesson.class_names[:6]], [[n, *(f"{p:.2f}" for p in q[:6])] for n, q in zip(names[:6], probabilities)])

say("\nSmooth L1 is a parabola near 0 and a line further out, so that a far-off box does not dominate:")
x = np.array([0, 0.5, 1, 2, -3])
rows = [[f"beta = {beta:.3g}", *(f"{v:.4f}" for v in smooth_l1(x, 0 * x, beta=beta)[0])] for beta in (1.0, 1 / 9)]
table(["x", *(f"{v:g}" for v in x)], rows)

fresh, fresh_cache = MaskRCNN(config).losses(batch, np.random.default_rng(0))
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

# Two regions of each class: the mask that is wanted, and the masks that are predicted, one per class
shown = sorted({int(np.flatnonzero(own_class == k)[i]) for k in np.unique(own_class) for i in (0, -1)})[:5]
if shown:
    classes = range(1, min(config.num_classes, 5))
    figure, axes = grid(len(shown), 1 + len(classes), size=1.8, title="Mask targets, and the masks of every class")
    for row, r in zip(axes, shown):
        heat(row[0], targets.masks[r], f"target: {lesson.class_names[own_class[r]]}", limits=(0, 1))
        for ax, k in zip(row[1:], classes):
            name = f"{lesson.class_names[k]}{' (counts)' if k == own_class[r] else ''}"
            heat(ax, sigmoid(mask_logits[r, :, :, k])[0], name, limits=(0, 1))
    lesson.save(figure, "masks")

lesson.finish(
    f"int(200 * .33) = {positives} and int({positives} / .33) - {positives} = {negatives[positives]}.",
    "ln 2 = 0.6931: every pixel is 'one half'. A mask loss that stays there means that nothing is learned. The class "
    f"loss of a network without an opinion is ln {config.num_classes}, the logarithm of the number of classes.",
    "Only that of the true class. The others receive no gradient from this region, whatever they show. The "
    "masks do not compete, because the class head decides; a softmax over classes would make them.",
)
