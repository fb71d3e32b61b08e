"""Lesson 2: the backbone turns pixels into features, C2 to C5.

Five times the map is halved (stem, pool, and the first block of C3, C4 and C5) while the number of channels grows: less
"where", more "what". A stage is a row of residual blocks, relu(F(x) + x).

Open beside this: mrcnn_np/backbone.py, and mrcnn_np/ops/conv.py for the operation it is made of.

Questions
1. The image is 128 x 128. How large are C2, C3, C4 and C5?
2. How many pixels of the image can one cell of C5 see?
3. Why does the first block of a stage need a convolution on its shortcut, and the others none?
"""

import numpy as np
from common import add_box, grid, heat, say, show_image, start, table

from mrcnn_np import presets
from mrcnn_np.backbone import architecture, backbone, backbone_backward
from mrcnn_np.network import spec
from mrcnn_np.params import count

lesson = start(__doc__)
model, images = lesson.model, lesson.batch.images
height, width = images.shape[1:3]

# training=True keeps the cache for the backward pass below; frozen statistics leave the parameters as they are
features, cache = backbone(images, model.params, model.config.replace(bn_mode="frozen"), training=True)
say(f"\nThe batch has shape {images.shape}: (N, H, W, colours). The backbone {model.config.backbone!r} makes of it:")
table(
    ["stage", "shape (N, H, W, C)", "stride", "zeros after ReLU", "parameters"],
    [
        [f"C{k}", c.shape, height // c.shape[1], f"{(c == 0).mean():.0%}", count(model.params, f"backbone.c{k}")]
        for k, c in zip((2, 3, 4, 5), features)
    ],
)

say("\nThe same counts for the networks of the papers (nothing is allocated: network.spec lists the shapes):")
rows = []
for name in ("resnet50", "resnet101", "resnext101_32x8d"):
    settings = presets.torchvision(backbone=name)
    arch = architecture(settings)
    rows.append([name, arch.kind, arch.blocks, arch.out_channels, f"{count(spec(settings), 'backbone.'):,}"])
table(["network", "block", "blocks in C2..C5", "channels of C2..C5", "parameters"], rows)

# What one cell sees: ask the backward pass. A gradient of 1 in the middle cell of one stage, 0 elsewhere, arrives at
# exactly those pixels that the cell depends on.
say("\nWhich pixels does the middle cell of a stage depend on? Its gradient with respect to the image tells:")
seen, rows = [], []
for k, c in zip((2, 3, 4, 5), features):
    dfeatures = [np.zeros_like(f) for f in features]
    dfeatures[k - 2][0, c.shape[1] // 2, c.shape[2] // 2] = 1
    dimage = np.abs(backbone_backward(dfeatures, cache, {})[0]).sum(axis=-1)  # (H, W)
    y, x = np.nonzero(dimage)
    box = np.array([y.min(), x.min(), y.max() + 1, x.max() + 1]) if len(y) else np.zeros(4, int)
    ranked = np.sort(dimage, axis=None)[::-1]
    half = np.searchsorted(ranked.cumsum(), ranked.sum() / 2) + 1
    seen.append((dimage, box))
    rows.append([f"C{k}", f"{box[2] - box[0]} x {box[3] - box[1]}", half])
table(["cell of", "pixels it sees (rows x columns)", "pixels that make half of its gradient"], rows)

# --- picture --------------------------------------------------------------------------------------------------------

figure, axes = grid(2, 5, title="Backbone: the image becomes smaller and deeper (bright: large)")
show_image(axes[0, 0], lesson.canvas)
axes[0, 0].set_title(f"image {height} x {width} x 3", fontsize=9)
for ax, k, c in zip(axes[0, 1:], (2, 3, 4, 5), features):
    heat(ax, c[0].mean(axis=-1), f"C{k}: {c.shape[1]} x {c.shape[2]} x {c.shape[3]}, mean channel")
show_image(axes[1, 0], lesson.canvas // 2 + 100)
axes[1, 0].set_title("what the middle cell may see", fontsize=9)
for ax, k, (dimage, box) in zip(axes[1, 1:], (2, 3, 4, 5), seen):
    heat(ax, np.sqrt(dimage), f"|d C{k}[middle] / d image|", extent=(0, width, height, 0))
    for where in (ax, axes[1, 0]):
        add_box(where, box, "#F0E442", width=1.2, dash=("solid", "dashed", "dotted", "dashdot")[k - 2])
lesson.save(figure, "backbone")

sides = [c.shape[1] for c in features]
lesson.finish(
    f"{', '.join(f'C{k}: {s}' for k, s in zip((2, 3, 4, 5), sides))} rows: the image divided by 4, 8, 16 and 32.",
    f"A square of {rows[-1][1]} pixels in this network, cut off where the image ends. But the gradient is concentrated "
    f"in the middle: {rows[-1][2]} of the {height * width} pixels make half of it.",
    "It changes the number of channels, and from C3 on the size of the map, so x has another shape than F(x) and "
    "cannot be added. A 1x1 convolution with the same stride brings it there. The other blocks keep the shape.",
)
