"""Lesson 3: the feature pyramid, P2 to P6.

C5 knows what there is but not exactly where; C2 knows where but not what. The pyramid sends what C5 knows down to the
finer maps: each is brought to one width (lateral 1x1 convolution), the coarser one is enlarged twofold and added, and
a 3x3 convolution smooths the sum.

Open beside this: mrcnn_np/fpn.py.

Questions
1. One cell of C2 is changed. Which of P2 .. P6 change? And if it is a cell of C5?
2. P6 has no parameters. What is it?
3. Why do all levels have the same number of channels, when C2 .. C5 have not?
"""

import numpy as np
from common import grid, heat, say, start, table

from mrcnn_np import presets
from mrcnn_np.backbone import backbone
from mrcnn_np.fpn import fpn
from mrcnn_np.network import spec
from mrcnn_np.params import count

lesson = start(__doc__)
model, images = lesson.model, lesson.batch.images
features, _ = backbone(images, model.params, model.config)
pyramid, _ = fpn(features, model.params, model.config)

say("\nC2 .. C5 go in, P2 .. P6 come out, each of one width:")
rows = []
for k, p in zip((2, 3, 4, 5, 6), pyramid):
    source = features[k - 2].shape if k < 6 else "every 2nd cell of P5"
    parameters = count(model.params, f"fpn.lateral{k}") + count(model.params, f"fpn.output{k}")
    rows.append([f"P{k}", source, p.shape, images.shape[1] // p.shape[1], parameters])
table(["level", "from", "shape (N, H, W, C)", "stride", "parameters"], rows)
say(f"P6 equals P5[:, ::2, ::2]: {np.array_equal(pyramid[4], pyramid[3][:, ::2, ::2])}.")
full = spec(presets.torchvision())
say(f"The pyramid over a ResNet-50, 256 channels wide, has {count(full, 'fpn.'):,} parameters.")

# Change one cell of one input and see which outputs notice.
say("\nA cell in the middle of one input is changed. Cells that change in each level:")
changes, rows = {}, []
for k, c in zip((2, 3, 4, 5), features):
    touched = [f.copy() for f in features]
    touched[k - 2][0, c.shape[1] // 2, c.shape[2] // 2] += 1
    moved, _ = fpn(touched, model.params, model.config)
    changes[k] = [np.abs(after - before)[0].sum(axis=-1) for before, after in zip(pyramid, moved)]
    rows.append([f"one cell of C{k}", *(f"{(d > 0).sum()} of {d.size}" for d in changes[k])])
table(["changed", "P2", "P3", "P4", "P5", "P6"], rows)

# --- picture --------------------------------------------------------------------------------------------------------

figure, axes = grid(3, 5, title="Feature pyramid: every level knows what (from above) and where (from its own C)")
for i, ax in enumerate(axes[0]):
    if i < 4:
        c = features[i][0]
        heat(ax, c.mean(axis=-1), f"C{i + 2}: {c.shape[0]} x {c.shape[1]} x {c.shape[2]}, mean channel")
    else:
        ax.axis("off")
for ax, k, p in zip(axes[1], (2, 3, 4, 5, 6), pyramid):
    strength = np.sqrt((p[0] ** 2).mean(axis=-1))
    heat(ax, strength, f"P{k}: {p.shape[1]} x {p.shape[2]} x {p.shape[3]}, RMS of channels")
for ax, k, change in zip(axes[2], (2, 3, 4, 5, 6), changes[5]):
    heat(ax, change, f"change of P{k} by one cell of C5")
lesson.save(figure, "pyramid")

lesson.finish(
    "A cell of C2 changes P2 only: nothing flows from fine to coarse. A cell of C5 changes every level, and in P2 a "
    "whole block of 8 x 8 cells and the rim that the 3x3 convolution adds, because it was enlarged twofold three "
    "times. P6 changes only if the cell, or its neighbour by the 3x3 convolution, is one of those that it keeps.",
    "Every second row and column of P5 (the frameworks write it as a max pool of size 1 and stride 2). It serves the "
    "proposal network, which puts its largest anchors there; no region of interest is read from it.",
    "So that one head, with one set of weights, can read every level: the proposal network in lesson 6, and the class, "
    "box and mask heads in lesson 8.",
)
