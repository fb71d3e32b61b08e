"""Lesson 9: one gradient, from the loss back to the first convolution.

Every operation has its backward pass beside it. Here the mask loss alone is differentiated, and its gradient followed
station by station: logits, mask head, RoIAlign, pyramid, backbone, stem. Where two paths meet their gradients add. At
the end the result is compared with what no formula can get wrong: the loss, computed twice, a small step apart.

Open beside this: mrcnn_np/model.py (backward; losses above it), then the *_backward functions it calls.

Questions
1. The mask loss looks at a few regions of P2 .. P5. Can its gradient reach every weight of the first convolution?
2. A smaller step makes a finite difference more exact. Why not take 1e-12?
3. Which gradient does a proposal's box receive from the mask loss?
"""

import numpy as np
from common import LINE_PALETTE, grid, heat, say, show_image, start, table

from mrcnn_np.backbone import backbone_backward
from mrcnn_np.fpn import fpn_backward
from mrcnn_np.heads import mask_head_backward
from mrcnn_np.model import MaskRCNN
from mrcnn_np.molding import make_batch
from mrcnn_np.objective import head_mask_loss_backward
from mrcnn_np.pyramid import pyramid_roi_align_backward

lesson = start(__doc__)
config = lesson.config.replace(loss_weights=(0.0, 0.0, 0.0, 0.0, 1.0))  # the mask loss alone
params = {name: p.astype(np.float64) for name, p in lesson.model.params.items()}  # float32 has too few digits
model = MaskRCNN(config, params)
batch = make_batch([lesson.sample], config, np.float64)

losses, cache = model.losses(batch, np.random.default_rng(0))
targets = cache.targets
say(f"\nMask loss: {losses['head_mask']:.6f}, over {len(targets.masks)} positive regions.")

# model.backward, for this one loss, with a look at every station
grads: dict[str, np.ndarray] = {}
dmask_logits = head_mask_loss_backward(1.0, cache.losses["head_mask"])
dmask_features = mask_head_backward(dmask_logits, cache.mask_head, grads)
dpyramid = pyramid_roi_align_backward(dmask_features, cache.mask_align)
dp6 = np.zeros_like(dpyramid[3][:, ::2, ::2])  # no region is read from P6
dfeatures = fpn_backward([*dpyramid, dp6], cache.fpn, grads)
dimage = backbone_backward(dfeatures, cache.backbone, grads)
dstem = grads["backbone.stem.conv.w"]

stations = [("mask logits", dmask_logits), ("mask features", dmask_features)]
stations += [(f"P{k}", d) for k, d in zip((2, 3, 4, 5), dpyramid)]
stations += [(f"C{k}", d) for k, d in zip((2, 3, 4, 5), dfeatures)]
stations += [("weights of the first convolution", dstem), ("image", dimage)]
say("The gradient on its way (norm: root of the sum of squares):")
rows = [
    [name, d.shape, f"{np.linalg.norm(d):.2e}", f"{np.count_nonzero(d) / max(d.size, 1):.0%}"] for name, d in stations
]
table(["station", "shape", "norm", "not zero"], rows)
every = model.backward(cache)
say(f"model.backward gives the same for the first convolution: {np.array_equal(dstem, every['backbone.stem.conv.w'])}.")
reached = sum(bool(np.any(g)) for g in every.values())
say(f"Of {len(every)} tensors {reached} receive a gradient; the proposal network and the box head none.")


def loss_at(weights: np.ndarray) -> float:
    """Compute the mask loss with another first convolution and the same regions."""
    moved = MaskRCNN(config, {**params, "backbone.stem.conv.w": weights})
    return moved.losses(batch, np.random.default_rng(0), targets=targets)[0]["head_mask"]


say("\nThe check: (loss(w + e v) - loss(w - e v)) / 2e against <gradient, v>, e = 1e-7.")
w = params["backbone.stem.conv.w"]
rng = np.random.default_rng(1)
one_weight = np.zeros_like(w)
one_weight[np.unravel_index(np.abs(dstem).argmax(), w.shape)] = 1
directions = {"one weight": one_weight, "along the gradient": dstem / (np.linalg.norm(dstem) or 1.0)}
directions["random"] = rng.standard_normal(w.shape) / np.sqrt(w.size)
rows = []
for name, v in directions.items():
    numeric, analytic = (loss_at(w + 1e-7 * v) - loss_at(w - 1e-7 * v)) / 2e-7, float((dstem * v).sum())
    error = abs(numeric - analytic) / max(abs(numeric), abs(analytic), 1e-300)
    rows.append([name, f"{numeric:.12f}", f"{analytic:.12f}", f"{error:.0e}"])
table(["direction v", "finite difference", "backward pass", "relative error"], rows)

say(
    "An error above 1e-6 means that the step crossed a kink (a relu at 0, two equal maxima in a pool), where the loss "
    "has no derivative; here thousands of them lie about."
)

steps, v = 10.0 ** -np.arange(1, 13), directions["along the gradient"]
errors = [abs((loss_at(w + e * v) - loss_at(w - e * v)) / (2 * e) / ((dstem * v).sum() or 1.0) - 1) for e in steps]
say(f"\nThe best step is {steps[int(np.argmin(errors))]:.0e}: relative error {min(errors):.0e}.")

# --- pictures -------------------------------------------------------------------------------------------------------

figure, axes = grid(2, 5, size=2.5, title="The gradient of the mask loss on its way back (bright: large)")
show_image(axes[0, 0], lesson.canvas)
axes[0, 0].set_title("image", fontsize=9)
heat(axes[1, 0], np.sqrt(np.abs(dimage[0]).sum(axis=-1)), "|d loss / d image|, square root")
for row, letter, gradients in ((0, "P", dpyramid), (1, "C", dfeatures)):
    for ax, k, d in zip(axes[row, 1:], (2, 3, 4, 5), gradients):
        heat(ax, np.linalg.norm(d[0], axis=-1), f"|d loss / d {letter}{k}|: {d.shape[1]} x {d.shape[2]}")
lesson.save(figure, "gradients")

figure, axes = grid(1, 1, size=4.6, title="Finite difference against backward pass")
axes[0, 0].loglog(steps, np.maximum(errors, 1e-16), "o-", color=LINE_PALETTE[0])
axes[0, 0].set_xlabel("step e")
axes[0, 0].set_ylabel("relative error")
axes[0, 0].text(0.97, 0.1, "too long:\nbends and kinks", transform=axes[0, 0].transAxes, ha="right", fontsize=9)
axes[0, 0].text(0.03, 0.1, "too short:\nrounding", transform=axes[0, 0].transAxes, fontsize=9)
axes[0, 0].grid(color="#E0E0E0")
lesson.save(figure, "check")

lesson.finish(
    f"Yes: {(dstem != 0).mean():.0%} of them. Each weight is used at every position of the image, so it is reached by "
    "whatever flows back through any of them. In the picture of the image's gradient the objects stand out.",
    "The two losses then agree in all but their last digits, and the difference keeps only what rounding left there: "
    "the error is about e^2 for long steps and 1e-16 / e for short ones.",
    "None. The box says where to read and is a constant; the proposal network learns from its own two losses.",
)
