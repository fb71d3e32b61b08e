"""Lesson 9: one gradient, from the loss back to the first convolution.

Every operation has its backward pass beside it. Here the mask loss alone is differentiated, and its gradient followed
station by station: logits, mask head, RoIAlign, pyramid, backbone, stem. Where two paths meet their gradients add. At
the end the result is compared with what no formula can get wrong: the loss, computed twice, a small step apart.

A forward function hands its backward pass what it will need, the cache: y, cache = op(x), then dx = op_backward(dy,
cache). dy is the gradient of the loss with respect to y, dx that with respect to x.

Open beside this: mrcnn_np/model.py (backward; losses above it), then the *_backward functions it calls.
The loops: conv2d in tests/oracles/naive.py, and its backward pass, here below.

Questions
1. The mask loss looks at a few regions of P2 .. P5. Can its gradient reach every weight of the first convolution?
2. A smaller step makes a finite difference more exact. Why not take 1e-12?
3. Which gradient does a proposal's box receive from the mask loss?
4. No region is read from P5 here. How does C5 learn from the mask loss all the same?
"""

import numpy as np
from common import LINE_PALETTE, code, grid, heat, listed, naive, say, show_image, start, table

from mrcnn_np.backbone import backbone_backward
from mrcnn_np.fpn import fpn_backward
from mrcnn_np.heads import mask_head_backward
from mrcnn_np.model import MaskRCNN
from mrcnn_np.molding import make_batch
from mrcnn_np.objective import head_mask_loss_backward
from mrcnn_np.ops.activation import relu, relu_backward
from mrcnn_np.ops.conv import conv2d, conv2d_backward
from mrcnn_np.ops.linear import linear, linear_backward
from mrcnn_np.pyramid import pyramid_roi_align_backward

lesson = start(__doc__)

# --- one block by hand ----------------------------------------------------------------------------------------------

say("Three numbers through relu(x w + b), forward, and their gradient back. Work it out on paper first.")
x, w, b = np.array([[1.0, -2.0, 3.0]]), np.array([[2.0, 1.0], [1.0, 0.0], [0.0, -1.0]]), np.array([0.5, 1.0])
y, linear_cache = linear(x, w, b)
z, relu_cache = relu(y)
dz = np.array([[1.0, 1.0]])  # the loss is the sum of both outputs
dy = relu_backward(dz, relu_cache)
dx, dw, db = linear_backward(dy, linear_cache)
say(f"x w + b = {listed(y, 1)}, relu {listed(z, 1)}. Back: relu lets {listed(dy, 0)} through, by its output.")
say(f"dx = dy w^T = {listed(dx, 0)}; dw = x^T dy = {dw.astype(int).tolist()}; db = dy = {listed(db, 0)}.")
say("x and w are in the linear layer's cache, the output in relu's. Nothing else is needed, and nothing is hidden.")

say("\nA convolution is many such products, so its backward pass is its loop once more, with every product undone:")


def conv2d_backward_loop(dy: np.ndarray, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (dx, dw) of a convolution with stride 1 and no padding: the loops of naive.conv2d."""
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for n, p, q, o in np.ndindex(*dy.shape):
        for i, j, c in np.ndindex(*w.shape[:3]):
            # forward: y[n, p, q, o] += x[n, p + i, q + j, c] * w[i, j, c, o]
            dx[n, p + i, q + j, c] += dy[n, p, q, o] * w[i, j, c, o]
            dw[i, j, c, o] += dy[n, p, q, o] * x[n, p + i, q + j, c]
    return dx, dw


code(conv2d_backward_loop)
rng = np.random.default_rng(0)
x, w = rng.standard_normal((1, 6, 5, 2)), rng.standard_normal((3, 3, 2, 3))
y, cache = conv2d(x, w)
dy = rng.standard_normal(y.shape)
loop, (dx, dw, _) = conv2d_backward_loop(dy, x, w), conv2d_backward(dy, cache)
apart = max(np.abs(loop[0] - dx).max(), np.abs(loop[1] - dw).max())
say(
    f"Largest difference from mrcnn_np/ops/conv.py: {apart:.0e}; of the forward pass "
    f"{np.abs(naive.conv2d(x, w) - y).max():.0e}."
)

# --- the mask loss --------------------------------------------------------------------------------------------------

config = lesson.config.replace(loss_weights=(0.0, 0.0, 0.0, 0.0, 1.0))  # the mask loss alone
params = {name: p.astype(np.float64) for name, p in lesson.model.params.items()}  # float32 has too few digits
model = MaskRCNN(config, params)
batch = make_batch([lesson.sample], config, np.float64)

losses, cache = model.losses(batch, np.random.default_rng(lesson.draw))
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
say(
    "The regions are read from "
    + ", ".join(f"P{2 + k} ({len(rows)})" for k, rows in enumerate(cache.mask_align[1]) if len(rows))
    + "; a level from which none is read gets no gradient from its regions."
)
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
    "By the way down of lesson 3: P2, P3 and P4 are made of C5, too, and each hands part of its gradient up to it.",
)
