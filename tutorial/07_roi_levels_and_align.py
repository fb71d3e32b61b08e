"""Lesson 7: which level a region is read from, and how RoIAlign reads it.

The heads want features of one size, 7 x 7 or 14 x 14, from regions of every size and at fractional places. A large
region is read from a coarse level, a small one from a fine one. RoIAlign then lays a grid over the region and
interpolates at its points; nothing is rounded. Its predecessor RoIPool rounds twice, which masks suffer from.

Open beside this: mrcnn_np/pyramid.py, mrcnn_np/ops/roi_align.py and mrcnn_np/ops/roi_pool.py.
The loops: bilinear, roi_align and roi_pool in tests/oracles/naive_roi.py.

Questions
1. Pixels (row 1, column 1) = 100, (1, 2) = 105, (2, 1) = 110, (2, 2) = 112. The value at x = 1.4, y = 1.7?
2. A region of 112 x 112 pixels in an image of 448 x 448: which level, if 224 x 224 belongs to level 4?
3. A feature map says in each cell where the cell's centre lies: 0.5, 1.5, 2.5 ... A box from 2 to 10 is read with 4
   bins. What should come out?
4. Lesson 4 found the best anchor of an object of 19 pixels on P3. Must its features be read from P3, too?
"""

import numpy as np
from common import PALETTE, add_box, code, grid, heat, listed, naive_roi, say, show_image, start, table

from mrcnn_np.ops.crop_and_resize import crop_and_resize
from mrcnn_np.ops.roi_align import bilinear_interpolate, roi_align
from mrcnn_np.ops.roi_pool import roi_pool
from mrcnn_np.pyramid import normalise_boxes, roi_level

lesson = start(__doc__)
config, batch = lesson.config, lesson.batch
one = np.zeros(1, int)  # every region below lies in image 0

# --- which level ----------------------------------------------------------------------------------------------------

say("The level of square regions, k = 4 + log2(side / canonical size), rounded down, between 2 and 5. Two scales:")
sides = np.array([14, 19, 28, 47, 56, 57, 111.9, 112, 224, 320, 448])
regions = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
rows = []
for name, size in (("224 (papers)", 224.0), (f"{config.roi_canonical_size:g} (here)", config.roi_canonical_size)):
    rows.append([name, *(f"P{k}" for k in roi_level(regions, canonical_size=size))])
table(["canonical size", *(f"{s:g}" for s in sides)], rows)
factor = 224 / config.roi_canonical_size
say(
    "The papers' networks look at images of 800 pixels and were pre-trained on 224 x 224, so a region of 224 belongs "
    f"to level 4. This one looks at {batch.images.shape[1]} pixels and finds smaller things: its field "
    f"roi_canonical_size is {config.roi_canonical_size:g}, {factor:g} times smaller, and every limit moves with it. "
    "The pictures below are by this scale."
)
say(
    "It is not the rule of lesson 4, which asks which level's anchors overlap an object most: that one depends on "
    "anchor_sizes, this one on roi_canonical_size, and neither knows of the other."
)

# --- RoIAlign: the loop, and the same in NumPy ----------------------------------------------------------------------

say("\nBilinear interpolation reads a map between its cells, first along x, then along y:")
code(naive_roi.bilinear)
corners = np.zeros((4, 5))
corners[1:3, 1:3] = [[100, 105], [110, 112]]
along_x = [float(bilinear_interpolate(corners, y, 1.4)) for y in (1, 2)]
value = float(bilinear_interpolate(corners, 1.7, 1.4))
say(f"f(R1) = {along_x[0]:g}, f(R2) = {along_x[1]:g}, f(P) = 0.3 * {along_x[0]:g} + 0.7 * {along_x[1]:g} = {value:.2f}")
say(f"The loop says {naive_roi.bilinear(corners.tolist(), 1.7, 1.4):.2f}.")
box = np.array([[1.2, 0.9, 2.2, 1.9]])
for aligned in (False, True):
    pooled, _ = roi_align(
        corners[None, :, :, None], box, one, output_size=1, spatial_scale=1.0, sampling_ratio=1, aligned=aligned
    )
    say(f"roi_align of {listed(box, 1)} with one sample and aligned={aligned}: {pooled.item():.2f}")

say("\nRoIAlign reads such samples in every bin and takes their mean:")
code(naive_roi.roi_align)


def in_numpy(feature: np.ndarray, box: np.ndarray, bins: int, samples: int) -> np.ndarray:
    """Read one box (y1, x1, y2, x2) in cells of one map (H, W, C), without the half cell of aligned=True."""
    parts = (np.arange(bins * samples) + 0.5) / (bins * samples)  # the samples' places, as fractions of the box
    y, x = box[0] + parts * (box[2] - box[0]), box[1] + parts * (box[3] - box[1])
    values = bilinear_interpolate(feature, y[:, None], x[None, :])  # (bins * samples, bins * samples, C)
    return values.reshape(bins, samples, bins, samples, -1).mean(axis=(1, 3))


say("The same in NumPy, for one box: all samples at once, and a mean over those of each bin.")
code(in_numpy)
region, parts = np.array([[0.95, 1.4, 4.15, 3.25]]), (np.arange(4) + 0.5) / 4
xs, ys = 1.4 + parts * 1.85, 0.95 + parts * 3.2
say(f"The 16 samples of x 1.4 .. 3.25, y 0.95 .. 4.15 with 2 x 2 bins of 2 x 2: x = {listed(xs, 5)}, y = {listed(ys)}")
ramp = np.arange(30.0).reshape(1, 6, 5, 1)  # value 5 y + x
pooled, _ = roi_align(ramp, region, one, output_size=2, spatial_scale=1.0, aligned=False)
say(f"On the map 5 y + x each bin is the mean of its four samples: {listed(pooled, 4)}")
loop = naive_roi.roi_align(ramp, region, one, (2, 2), 1.0, 2, False, "mean")
apart = [np.abs(v - loop).max() for v in (in_numpy(ramp[0], region[0], 2, 2), pooled)]
say(
    f"Largest difference from the loop: {apart[0]:.0e}, and {apart[1]:.0e} by mrcnn_np/ops/roi_align.py. There all "
    "boxes make one sparse matrix: a row for each bin, an entry for each cell that it reads. Then reading is a product "
    "W F, and the backward pass its transpose: each bin hands its gradient back to the cells it read, with the same "
    "weights."
)

say("\nOne box, 2 .. 10, of a map that holds the x of its cells' centres, read with 4 bins:")
ramp = np.tile(np.arange(16) + 0.5, (16, 1))[None, :, :, None]
box = np.array([[2.0, 2, 10, 10]])
read = {
    "roi_align, aligned=True": roi_align(ramp, box, one, output_size=4, spatial_scale=1.0, aligned=True)[0],
    "roi_align, aligned=False": roi_align(ramp, box, one, output_size=4, spatial_scale=1.0, aligned=False)[0],
    "crop_and_resize, box / 16": crop_and_resize(ramp, box / 16, one, output_size=4)[0],
    "crop_and_resize, matterport": crop_and_resize(ramp, normalise_boxes(box, (16, 16)), one, output_size=4)[0],
    "roi_pool (maximum)": roi_pool(ramp, box, one, output_size=4, spatial_scale=1.0)[0],
}
table(["operation", "first row of bins"], [[name, listed(bins[0, 0], 3)] for name, bins in read.items()])

# --- pictures -------------------------------------------------------------------------------------------------------

figure, axes = grid(1, 2, size=4.2, title="RoIAlign: where it reads")
heat(
    axes[0, 0],
    corners[:4, :4],
    f"f(P) = {value:.2f} between four pixels (dots: where values sit)",
    limits=(0, 160),
    cmap="Greys",
)
for (y, x), v in np.ndenumerate(corners[:4, :4]):
    axes[0, 0].plot(x, y, ".", color="white" if v else "#777777")
    axes[0, 0].text(x, y - 0.2, f"{v:g}" if v else "", ha="center", va="center", fontsize=10, color="white")
axes[0, 0].plot([1.4, 1.4], [1, 2], color=PALETTE[0], linewidth=1.5)
for x, y, name in ((1.4, 1, f"R1 = {along_x[0]:g}"), (1.4, 2, f"R2 = {along_x[1]:g}"), (1.4, 1.7, f"P = {value:.2f}")):
    axes[0, 0].plot(x, y, "o", color=PALETTE[0], markeredgecolor="black")
    axes[0, 0].annotate(
        name, (x, y), (2.62, y), fontsize=9, va="center", arrowprops={"arrowstyle": "-", "color": "#D55E00"},
        bbox={"fc": "white", "ec": "none", "pad": 1},
    )  # fmt: skip
heat(axes[0, 1], np.arange(30.0).reshape(6, 5), "16 samples of 2 x 2 bins", limits=(-30, 40), cmap="Greys")
add_box(axes[0, 1], region[0], PALETTE[0], width=2)
axes[0, 1].plot([1.4, 3.25], [2.55, 2.55], color=PALETTE[0], linewidth=1.5)
axes[0, 1].plot([2.325, 2.325], [0.95, 4.15], color=PALETTE[0], linewidth=1.5)
axes[0, 1].scatter(*np.meshgrid(xs, ys), color=PALETTE[4], edgecolors="black", s=30, zorder=4)
lesson.save(figure, "roi_align")

# The image itself as the feature map: what each operation sees of an object, through 14 x 14 bins
rois = batch.gt_boxes[0][:5] if len(batch.gt_boxes[0]) else np.array([[0, 0, *batch.images.shape[1:3]]], np.float32)
levels = roi_level(
    rois, canonical_size=config.roi_canonical_size, canonical_level=config.roi_canonical_level,
    rounding=config.roi_level_rounding,
)  # fmt: skip
index = np.zeros(len(rois), int)
height, width = batch.images.shape[1:3]
coarse = batch.images.reshape(1, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4))  # the mean of each 8 x 8 pixels
crops = {
    "RoIAlign of the image": roi_align(batch.images, rois, index, output_size=14, spatial_scale=1.0)[0],
    "RoIAlign at stride 8": roi_align(coarse, rois, index, output_size=14, spatial_scale=1 / 8)[0],
    "RoIPool at stride 8": roi_pool(coarse, rois, index, output_size=14, spatial_scale=1 / 8)[0],
}
title = "Regions read with 14 x 14 bins from the image, and from it at stride 8"
scale = f"(levels by canonical size {config.roi_canonical_size:g})"
figure, axes = grid(len(rois), 4, size=1.9, title=f"{title}\n{scale}")
for row, roi, level in zip(range(len(rois)), rois, levels):
    show_image(axes[row, 0], lesson.canvas)
    add_box(axes[row, 0], roi, PALETTE[level], width=1.8)
    axes[row, 0].set_title(f"{roi[2] - roi[0]:.0f} x {roi[3] - roi[1]:.0f} pixels: P{level}", fontsize=9)
    for ax, (name, values) in zip(axes[row, 1:], crops.items()):
        heat(ax, np.clip(values[row] / 4 + 0.5, 0, 1), name if row == 0 else "")
lesson.save(figure, "regions")

small = np.array([[0.0, 0, 19, 19]])
lesson.finish(
    f"{value:.2f}. The pixel whose index is 1 has its value at coordinate 1 here. Taken as an area, its value lies at "
    "1.5: that half pixel is what aligned=True subtracts.",
    f"k = 4 + log2(112 / 224) = {roi_level(np.array([[0.0, 0, 112, 112]]))[0]}.",
    "(3, 5, 7, 9), the centres of the bins; RoIAlign with aligned=True gives exactly that. Without it all is half a "
    "pixel off, crop_and_resize stretches, and RoIPool answers with the last cell of each of its rounded bins.",
    f"No. By its size it is read from P{roi_level(small, canonical_size=config.roi_canonical_size)[0]}. Which anchor "
    "proposed a region is forgotten as soon as it is a region.",
)
