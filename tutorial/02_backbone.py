"""Lesson 2: the backbone turns pixels into features, C2 to C5.

Five times the map is halved (stem, pool, and the first block of C3, C4 and C5) while the number of channels grows: less
"where", more "what". A stage is a row of residual blocks, relu(F(x) + x).

Open beside this: mrcnn_np/backbone.py, and mrcnn_np/ops/conv.py for the operation it is made of.
The loop: conv2d in tests/oracles/naive.py.

Questions
1. The image is 128 x 128. How large are C2, C3, C4 and C5?
2. How many pixels of the image can one cell of C5 see?
3. Why does the first block of a stage need a convolution on its shortcut, and the others none?
"""

import numpy as np
from common import add_box, code, glow, grid, heat, naive, say, show_image, start, table

import kernels
from mrcnn_np import presets
from mrcnn_np.backbone import Architecture, architecture, backbone, backbone_backward
from mrcnn_np.network import spec
from mrcnn_np.ops.conv import conv2d
from mrcnn_np.params import count

lesson = start(__doc__)
model, images = lesson.model, lesson.batch.images
height, width = images.shape[1:3]

# --- the loop, and the same in NumPy --------------------------------------------------------------------------------

say("\nA convolution, one product at a time. Seven loops; everything the network learns stands in w and b:")
code(naive.conv2d)
rng = np.random.default_rng(0)
x, w, b = rng.standard_normal((1, 6, 7, 3)), rng.standard_normal((3, 3, 3, 2)), rng.standard_normal(2)


def in_numpy(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Convolve with 3 x 3 weights and one ring of zeros: the two loops that are left run over the kernel."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((*x.shape[:3], w.shape[3])) + b
    for i in range(3):
        for j in range(3):
            y += padded[:, i : i + x.shape[1], j : j + x.shape[2]] @ w[i, j]  # (N, H, W, C_in) @ (C_in, C_out)
    return y


say("The same in NumPy: each weight w[i, j] meets the whole map at once, moved by (i, j).")
code(in_numpy)
loop = naive.conv2d(x, w, b, padding=((1, 1), (1, 1)))
apart = [np.abs(y - loop).max() for y in (in_numpy(x, w, b), conv2d(x, w, b, padding=1)[0])]
say(
    f"Largest difference from the loop: {apart[0]:.0e}, and {apart[1]:.0e} by mrcnn_np/ops/conv.py, which copies the "
    "windows into the rows of one matrix, so that a single product does all the work. kernels/cpu/conv.py is the same "
    "again, compiled."
)

# --- the stages -----------------------------------------------------------------------------------------------------

# training=True keeps the cache for the backward pass below; frozen statistics leave the parameters as they are
frozen = model.config.replace(bn_mode="frozen")
features, _ = backbone(images, model.params, frozen)
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


def receptive_fields(arch: Architecture, stride_in_1x1: bool) -> list[int]:
    """Return the side in pixels of what one cell of C2 .. C5 depends on, counted layer by layer."""
    size, step = arch.stem_kernel, 2  # the stem strides by 2: neighbours are 2 pixels apart from here on
    size, step = size + 2 * step, 2 * step  # the 3 x 3 pool looks one neighbour further on each side
    kernels_of_block = (3, 3) if arch.kind == "basic" else (1, 3, 1)
    striding = 0 if arch.kind == "basic" or stride_in_1x1 else 1  # which of them halves the map
    sides = []
    for stage, blocks in zip((2, 3, 4, 5), arch.blocks):
        for block in range(blocks):
            for i, kernel in enumerate(kernels_of_block):
                size += (kernel - 1) * step
                step *= 2 if stage > 2 and block == 0 and i == striding else 1
        sides.append(size)
    return sides


# What one cell sees: ask the backward pass. A gradient of 1 in the middle cell of one stage, 0 elsewhere, arrives at
# exactly those pixels that the cell depends on. On the NumPy backend, whose zeros are zeros: the compiled convolution
# computes in tiles, and rounding leaves tiny numbers on pixels of a tile that the cell does not see.
say("\nWhich pixels does the middle cell of a stage depend on? Counted layer by layer, and asked of its gradient:")
large, larger_config = lesson.enlarged(2)
large_height, large_width = large.images.shape[1:3]
fields = receptive_fields(architecture(model.config), model.config.stride_in_1x1)
with kernels.use("numpy"):
    large_features, cache = backbone(large.images, model.params, larger_config.replace(bn_mode="frozen"), training=True)
    seen, rows = [], []
    for k, c, side in zip((2, 3, 4, 5), large_features, fields):
        dfeatures = [np.zeros_like(f) for f in large_features]
        dfeatures[k - 2][0, c.shape[1] // 2, c.shape[2] // 2] = 1
        dimage = np.abs(backbone_backward(dfeatures, cache, {})[0]).sum(axis=-1)  # (H, W)
        y, x = np.nonzero(dimage)
        box = np.array([y.min(), x.min(), y.max() + 1, x.max() + 1]) if len(y) else np.zeros(4, int)
        ranked = np.sort(dimage, axis=None)[::-1]
        half = int(np.searchsorted(ranked.cumsum(), ranked.sum() / 2)) + 1
        seen.append((dimage, box, side))
        rows.append([f"C{k}", f"{side} x {side}", f"{box[2] - box[0]} x {box[3] - box[1]}", half])
table(["cell of", "counted", f"found in {large_height} x {large_width} pixels", "pixels that make half of it"], rows)

# --- pictures -------------------------------------------------------------------------------------------------------

shown = np.asarray(large.images[0], np.float64)
shown = 255 * (shown - shown.min()) / (shown.max() - shown.min() or 1)
# What a channel is compared with: where objects are, or for a picture without ground truth how bright it is
has_truth = len(large.gt_masks[0]) > 0
where, wanted = ("objects", large.gt_masks[0].any(axis=0)) if has_truth else ("brightness", shown.mean(axis=-1))


def telling_channels(c: np.ndarray) -> list[tuple[int, float]]:
    """Return the channels (H, W, C) that go along with ``wanted`` most, least, and one unlike both."""
    stride = large_height // c.shape[0]
    shares = wanted.astype(np.float64).reshape(c.shape[0], stride, c.shape[1], stride).mean(axis=(1, 3))
    alive = np.flatnonzero(c.std(axis=(0, 1)) > 0)  # what is the same everywhere goes along with nothing
    related = np.corrcoef([*np.moveaxis(c[..., alive], -1, 0).reshape(len(alive), -1), shares.ravel()])
    most, least = int(related[-1, :-1].argmax()), int(related[-1, :-1].argmin())
    unlike = int(np.abs(related[[most, least], :-1]).max(axis=0).argmin())
    return [(int(alive[i]), float(related[-1, i])) for i in (most, least, unlike)]


figure, axes = grid(
    4, 4, size=2.9, title=f"Single channels over the image, here of {large_height} x {large_width} pixels"
)
for row, k, c in zip(axes, (2, 3, 4, 5), large_features):
    show_image(row[0], shown.astype(np.uint8))
    cell = np.array([c.shape[1] // 2, c.shape[2] // 2, c.shape[1] // 2 + 1, c.shape[2] // 2 + 1])
    add_box(row[0], cell * (large_height // c.shape[1]), "#F0E442", width=1.5)
    row[0].set_title(f"C{k}: {c.shape[1]} x {c.shape[2]} cells, {c.shape[3]} channels", fontsize=9)
    for ax, (channel, related) in zip(row[1:], telling_channels(c[0])):
        glow(ax, shown, c[0, ..., channel], f"channel {channel}, {where} {related:+.2f}")
lesson.save(figure, "channels")

figure, axes = grid(
    1, 5, size=2.9, title="What the middle cell of each stage sees (yellow: counted; bright: its gradient)"
)
show_image(axes[0, 0], lesson.canvas)
axes[0, 0].set_title(f"image {height} x {width}, drawn twice as large", fontsize=9)
for ax, k, (dimage, _box, side), c in zip(axes[0, 1:], (2, 3, 4, 5), seen, large_features):
    heat(ax, np.sqrt(dimage), f"C{k}: {side} x {side} pixels", extent=(0, large_width, large_height, 0))
    stride = large_height // c.shape[1]
    middle = np.array([c.shape[1] // 2, c.shape[2] // 2] * 2) * stride
    square = middle + np.array([-(side // 2), -(side // 2), side - side // 2, side - side // 2])
    # cut off where the image ends
    add_box(ax, np.clip(square, 0, [large_height, large_width] * 2), "#F0E442", width=1.4)
lesson.save(figure, "receptive_fields")

sides = [c.shape[1] for c in features]
last = seen[-1][2]
lesson.finish(
    f"{', '.join(f'C{k}: {s}' for k, s in zip((2, 3, 4, 5), sides))} rows: the image divided by 4, 8, 16 and 32.",
    f"A square of {last} x {last} in this network, more than the image has. But the gradient is concentrated in the "
    f"middle: {rows[-1][3]} of the {large_height * large_width} pixels of the enlarged image make half of it.",
    "It changes the number of channels, and from C3 on the size of the map, so x has another shape than F(x) and "
    "cannot be added. A 1x1 convolution with the same stride brings it there. The other blocks keep the shape.",
)
