"""Lesson 1: from a picture to the input of the network.

A network wants numbers around zero and sides that can be halved five times. Molding resizes the picture, places it in
a padded canvas and normalises its colours. The window is the part of the canvas that is picture; scale and window are
all that is needed to bring boxes to the canvas and back.

Open beside this: mrcnn_np/molding.py and mrcnn_np/ops/resize.py (mrcnn_np/data/sample.py for what a data set yields).
The loop: resize_bilinear in tests/oracles/naive.py.

Questions
1. A picture of 375 x 500 pixels goes into a square canvas of 1024. Its short side should become 800. Which scale is
   used, and why not 800 / 375?
2. A box says x2 = 40. Is pixel column 40 inside?
3. Why is the scale computed from the resized shape and not from 800 / 375 itself?
"""

import numpy as np
from common import PALETTE, add_box, code, grid, heat, listed, naive, say, show_image, start, table

from mrcnn_np import presets
from mrcnn_np.molding import mold_image, plan
from mrcnn_np.ops import resize
from mrcnn_np.pictures.instances import draw_instances

lesson = start(__doc__)
sample, config = lesson.sample, lesson.config

say(f"The sample {sample.image_id} is an image of shape {sample.image.shape}, {sample.image.dtype}, with objects:")
sides = sample.gt_boxes[:, 2:] - sample.gt_boxes[:, :2]
table(
    ["class", "box (y1, x1, y2, x2)", "height x width", "mask pixels"],
    [
        [lesson.class_names[k], np.round(box).astype(int).tolist(), f"{h:.0f} x {w:.0f}", mask.sum()]
        for k, box, (h, w), mask in zip(sample.gt_class_ids, sample.gt_boxes, sides, sample.gt_masks)
    ],
)
say(
    "A box is half-open, in pixels: (y1, x1, y2, x2) covers the rows y1 .. y2 - 1. Many programs write (x1, y1, x2, "
    "y2); boxes[:, [1, 0, 3, 2]] turns either order into the other. The first picture of this lesson draws one."
)

molded, molding = mold_image(sample.image, config)
say(
    f"\nMolded with the preset {config.name!r} it has shape {molded.shape}, {molded.dtype}, values from "
    f"{molded.min():.2f} to {molded.max():.2f} with mean {molded.mean():.2f}. The window is {molding.window}."
)
back = molding.unmold_boxes(molding.mold_boxes(sample.gt_boxes))
say(f"Boxes to the canvas and back differ by at most {np.abs(back - sample.gt_boxes).max(initial=0):.1e} pixels.")

# A picture that does not fit: the numbers of question 1
square = presets.matterport()
wide = plan((375, 500), square)
say(
    f"\n375 x 500 pixels in a square canvas of {square.image_max_size}: resized to {wide.resized_shape}, scale "
    f"{wide.scale[0]:.4f}, window {wide.window} of {wide.molded_shape}."
)

# --- the loop, and the same in NumPy --------------------------------------------------------------------------------

say("\nResizing, one pixel at a time. The centre of pixel i lies at i + 0.5, in both images:")
code(naive.resize_bilinear)
say("The same in NumPy: one axis after the other, all pixels at once. A row of weights is used for all columns.")
code(resize.neighbours)
code(resize._interpolate)
tiny = np.array([[0.0, 10, 20], [30, 40, 50]])[..., None]  # (2, 3, 1)
loop, whole = naive.resize_bilinear(tiny, (2, 6)), resize.resize_bilinear(tiny, (2, 6))[0]
say(f"{tiny[..., 0].tolist()} on 2 x 6 cells: {listed(whole[0, :, 0], 1)} and {listed(whole[1, :, 0], 1)}.")
say(f"Largest difference between loop and NumPy: {np.abs(loop - whole).max():.0e}.")

# --- pictures -------------------------------------------------------------------------------------------------------

figure, axes = grid(1, 2, size=4.2, title="A box lies on the edges between pixels")
inside = np.zeros((6, 8))
inside[1:4, 2:6] = 1
heat(
    axes[0, 0],
    inside,
    "(y1, x1, y2, x2) = (1, 2, 4, 6): 3 rows, 4 columns",
    extent=(0, 8, 6, 0),
    cmap="Greys",
    limits=(0, 4),
)
axes[0, 0].set(xticks=range(9), yticks=range(7))
axes[0, 0].grid(color="#999999", linewidth=0.6)
add_box(axes[0, 0], np.array([1, 2, 4, 6]), PALETTE[2], width=2.5)
axes[0, 0].plot(2.5, 1.5, "o", color=PALETTE[5])
axes[0, 0].annotate("centre of pixel (1, 2):\ny = 1.5, x = 2.5", (2.5, 1.5), (2.8, 1.55), fontsize=9, va="center")
axes[0, 0].annotate("x2 = 6: column 6 is outside", (6, 3.5), (4.2, 5.0), fontsize=9, arrowprops={"arrowstyle": "->"})
show_image(axes[0, 1], sample.image)
for box in sample.gt_boxes:
    add_box(axes[0, 1], box, "#F0E442")
axes[0, 1].set_title("the boxes of the sample", fontsize=9)
lesson.save(figure, "boxes")

draw_instances(
    sample.image, sample.gt_boxes, sample.gt_class_ids, sample.gt_masks, lesson.class_names,
    title=f"{sample.image_id}: ground truth", path=lesson.path("ground_truth"),
)  # fmt: skip

# The upper three quarters of the image, so that there is something to pad
height = sample.image.shape[0] * 3 // 4
crop = sample.image[:height]
inside = sample.gt_boxes[sample.gt_boxes[:, 2] <= height]
canvas, m = mold_image(crop, config)
figure, axes = grid(1, 3, size=3.2, title="Molding the upper three quarters of the image")
show_image(axes[0, 0], crop)
axes[0, 0].set_title(f"read: {crop.shape[0]} x {crop.shape[1]}, 0 .. 255", fontsize=9)
show_image(axes[0, 1], np.clip((canvas - canvas.min()) / (canvas.max() - canvas.min()), 0, 1))
add_box(axes[0, 1], m.window, "white", dash="dashed")
for box in m.mold_boxes(inside):
    add_box(axes[0, 1], box, "#F0E442", width=1.2)
axes[0, 1].set_title(f"molded: {m.molded_shape[0]} x {m.molded_shape[1]} (white: window)", fontsize=9)
for channel, colour in enumerate(("#D55E00", "#009E73", "#0072B2")):
    values = canvas[m.window[0] : m.window[2], m.window[1] : m.window[3], channel]
    axes[0, 2].hist(values.ravel(), 40, histtype="step", color=colour, label="RGB"[channel])
axes[0, 2].set_title(f"values: {canvas.min():.1f} .. {canvas.max():.1f}", fontsize=9)
axes[0, 2].legend(fontsize=8)
lesson.save(figure, "molding")

lesson.finish(
    "800 / 375 = 2.133 would make the long side 1067 pixels, more than 1024. So the scale is 1024 / 500 = 2.048, the "
    f"picture becomes {wide.resized_shape[0]} x {wide.resized_shape[1]}, and 128 rows of padding above and below make "
    f"the window {wide.window}.",
    "No. Boxes are half-open: x2 = 40 means that column 39 is the last one inside, and the width is x2 - x1.",
    "The resized sides are whole numbers. Only the ratio of whole sides, resized / original, is exactly what happened "
    "to the pixels, and only with it does the way back end where it began.",
)
