"""Lesson 3: the feature pyramid, P2 to P6.

C5 knows what there is but not exactly where; C2 knows where but not what. The pyramid sends what C5 knows down to the
finer maps: each is brought to one width (lateral 1x1 convolution), the coarser one is enlarged twofold and added, and
a 3x3 convolution smooths the sum.

Open beside this: mrcnn_np/fpn.py. The loop: upsample_nearest in tests/oracles/naive.py.

Questions
1. One cell of C2 is changed. Which of P2 .. P6 change? And if it is a cell of C5?
2. P6 has no parameters. What is it?
3. Why do all levels have the same number of channels, when C2 .. C5 have not?
"""

import numpy as np
from common import code, glow, grid, heat, naive, say, show_image, start, table

import kernels
from mrcnn_np import presets
from mrcnn_np.backbone import backbone
from mrcnn_np.fpn import fpn
from mrcnn_np.network import spec
from mrcnn_np.ops.conv import conv2d
from mrcnn_np.ops.resize import upsample_nearest
from mrcnn_np.params import count

lesson = start(__doc__)
model, images = lesson.model, lesson.batch.images
params = model.params
features, _ = backbone(images, params, model.config)
pyramid, _ = fpn(features, params, model.config)

say("\nC2 .. C5 go in, P2 .. P6 come out, each of one width:")
rows = []
for k, p in zip((2, 3, 4, 5, 6), pyramid):
    source = features[k - 2].shape if k < 6 else "every 2nd cell of P5"
    parameters = count(params, f"fpn.lateral{k}") + count(params, f"fpn.output{k}")
    rows.append([f"P{k}", source, p.shape, images.shape[1] // p.shape[1], parameters])
table(["level", "from", "shape (N, H, W, C)", "stride", "parameters"], rows)
say(f"P6 equals P5[:, ::2, ::2]: {np.array_equal(pyramid[4], pyramid[3][:, ::2, ::2])}.")
full = spec(presets.torchvision())
say(f"The pyramid over a ResNet-50, 256 channels wide, has {count(full, 'fpn.'):,} parameters.")

# --- the loop, and the same in NumPy --------------------------------------------------------------------------------

say("\nEnlarging twofold: every cell becomes a block of 2 x 2 equal ones.")
code(naive.upsample_nearest)
say("The same in NumPy is x.repeat(2, axis=1).repeat(2, axis=2). With it the pyramid is a few lines:")


def top_down(features: list[np.ndarray], params: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return P2 .. P5 of a pyramid without batch norm."""
    merged, levels = None, []
    for k, c in zip((5, 4, 3, 2), reversed(features)):
        lateral, _ = conv2d(c, params[f"fpn.lateral{k}.w"], params[f"fpn.lateral{k}.b"])
        merged = lateral if merged is None else lateral + merged.repeat(2, axis=1).repeat(2, axis=2)
        level, _ = conv2d(merged, params[f"fpn.output{k}.w"], params[f"fpn.output{k}.b"], padding=1)
        levels.append(level)
    return levels[::-1]


code(top_down)
if "fpn.lateral2.w" in params:
    apart = max(np.abs(a - b).max() for a, b in zip(top_down(features, params), pyramid))
    say(f"Largest difference from mrcnn_np/fpn.py: {apart:.0e} (float32).")
small = np.arange(6.0).reshape(1, 2, 3, 1)
loop = naive.upsample_nearest(small, 2)
same = np.array_equal(loop, upsample_nearest(small)[0])
same &= np.array_equal(loop, small.repeat(2, axis=1).repeat(2, axis=2))
say(f"The loop, the two repeats and mrcnn_np/ops/resize.py enlarge alike: {same}.")

# Change one cell of one input and see which outputs notice. On the NumPy backend, where what is equal is equal to the
# last bit: the compiled convolution computes in tiles, and a tile that holds the cell is rounded anew as a whole.
say("\nA cell in the middle of one input is changed. Cells that change in each level:")
changes, rows = {}, []
for k, c in zip((2, 3, 4, 5), features):
    touched = [f.copy() for f in features]
    touched[k - 2][0, c.shape[1] // 2, c.shape[2] // 2] += 1
    with kernels.use("numpy"):
        before, after = fpn(features, params, model.config)[0], fpn(touched, params, model.config)[0]
    changes[k] = [np.abs(a - b)[0].sum(axis=-1) for a, b in zip(after, before)]
    rows.append([f"one cell of C{k}", *(f"{(d > 0).sum()} of {d.size}" for d in changes[k])])
table(["changed", "P2", "P3", "P4", "P5", "P6"], rows)

# --- pictures -------------------------------------------------------------------------------------------------------

# Maps of 4 x 4 cells cannot be read, so the network looks at the image twice as large here
large, config = lesson.enlarged(2)
large_features, _ = backbone(large.images, params, config)
with_way_down, _ = fpn(large_features, params, config)
shown = np.asarray(large.images[0], np.float64)
shown = 255 * (shown - shown.min()) / (shown.max() - shown.min() or 1)


def without_way_down(features: list[np.ndarray]) -> list[np.ndarray]:
    """Return P2 .. P5 as they would be with nothing from above: every level is asked with the coarser C set to zero."""
    levels = []
    for i in range(len(features)):
        alone = [c if j == i else np.zeros_like(c) for j, c in enumerate(features)]
        silent = [np.zeros_like(c) for c in features]
        from_below, from_nothing = fpn(alone, params, config)[0][i], fpn(silent, params, config)[0][i]
        levels.append(from_below - from_nothing)  # what the biases alone make of it says nothing about the image
    return levels


alone = without_way_down(large_features)
figure, axes = grid(
    3,
    5,
    size=2.9,
    title=f"The pyramid over an image of {shown.shape[0]} x {shown.shape[1]} pixels: strength of all channels",
)
show_image(axes[0, 0], shown.astype(np.uint8))
axes[0, 0].set_title("image", fontsize=9)
for ax in axes[1:, 0]:
    ax.axis("off")
for ax, text in ((axes[1, 0], "each level\nfrom its own C alone"), (axes[2, 0], "with what comes\nfrom above")):
    ax.text(0.95, 0.5, text, ha="right", va="center", fontsize=11)
for column, k, c, own, level in zip((1, 2, 3, 4), (2, 3, 4, 5), large_features, alone, with_way_down):
    glow(axes[0, column], shown, np.sqrt((c[0] ** 2).mean(axis=-1)), f"C{k}: {c.shape[1]} x {c.shape[2]}")
    glow(axes[1, column], shown, np.sqrt((own[0] ** 2).mean(axis=-1)), f"P{k} without the way down")
    glow(axes[2, column], shown, np.sqrt((level[0] ** 2).mean(axis=-1)), f"P{k}: {level.shape[1]} x {level.shape[2]}")
lesson.save(figure, "pyramid")

figure, axes = grid(
    1,
    5,
    size=2.5,
    title=f"Change of each level by one cell of C5 (the image has {images.shape[1]} x {images.shape[2]} pixels)",
)
for ax, k, change in zip(axes[0], (2, 3, 4, 5, 6), changes[5]):
    heat(ax, change, f"P{k}: {(change > 0).sum()} of {change.size} cells")
lesson.save(figure, "one_cell")

lesson.finish(
    "A cell of C2 changes P2 only: nothing flows from fine to coarse. A cell of C5 changes every level, and in P2 a "
    "whole block of 8 x 8 cells and the rim that the 3x3 convolution adds, because it was enlarged twofold three "
    "times. P6 changes only if the cell, or its neighbour by the 3x3 convolution, is one of those that it keeps.",
    "Every second row and column of P5 (the frameworks write it as a max pool of size 1 and stride 2). It serves the "
    "proposal network, which puts its largest anchors there; no region of interest is read from it.",
    "So that one head, with one set of weights, can read every level: the proposal network in lesson 6, and the class, "
    "box and mask heads in lesson 8.",
)
