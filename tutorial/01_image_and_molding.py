"""Lesson 1: from a picture to the input of the network.

A network wants numbers around zero and sides that can be halved five times. Molding resizes the picture, places it in
a padded canvas and normalises its colours. The window is the part of the canvas that is picture; scale and window are
all that is needed to bring boxes to the canvas and back.

Open beside this: mrcnn_np/molding.py (and mrcnn_np/data/sample.py for what a data set yields).

Questions
1. A picture of 375 x 500 pixels goes into a square canvas of 1024. Its short side should become 800. Which scale is
   used, and why not 800 / 375?
2. A box says x2 = 40. Is pixel column 40 inside?
3. Why is the scale computed from the resized shape and not from 800 / 375 itself?
"""

import numpy as np
from common import add_box, grid, say, show_image, start, table

from mrcnn_np import presets
from mrcnn_np.molding import compose_meta, mold_image, plan
from mrcnn_np.pictures.canvas import add_text
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

molded, molding = mold_image(sample.image, config)
say(
    f"\nMolded with the preset {config.name!r} it has shape {molded.shape}, {molded.dtype}, values from "
    f"{molded.min():.2f} to {molded.max():.2f} with mean {molded.mean():.2f}. The window is {molding.window}."
)
back = molding.unmold_boxes(molding.mold_boxes(sample.gt_boxes))
say(f"Boxes to the canvas and back differ by at most {np.abs(back - sample.gt_boxes).max(initial=0):.1e} pixels.")

say("\nThe same picture of 375 x 500 pixels in four conventions:")
rows = []
for name in ("tiny", "matterport", "torchvision", "detectron2"):
    m = plan((375, 500), presets.PRESETS[name]())
    rows.append([name, m.resized_shape, m.molded_shape, m.window, f"{m.scale[0]:.4f}"])
table(["preset", "resized", "canvas", "window", "scale"], rows)

say("\nThe Keras implementation packs this into one vector per image, 1 + 3 + 3 + 4 + 1 numbers and one per class:")
wide = plan((375, 500), presets.matterport())
for classes in (81, 21):
    print(f"  {classes} classes: image_meta has {len(compose_meta(7, wide, np.ones(classes)))} numbers")

# --- pictures -------------------------------------------------------------------------------------------------------

draw_instances(
    sample.image, sample.gt_boxes, sample.gt_class_ids, sample.gt_masks, lesson.class_names,
    title=f"{sample.image_id}: ground truth", path=lesson.path("ground_truth"),
)  # fmt: skip

# The upper three quarters of the image, so that there is something to pad
height = sample.image.shape[0] * 3 // 4
crop = sample.image[:height]
inside = sample.gt_boxes[sample.gt_boxes[:, 2] <= height]
figure, axes = grid(1, 4, title="The upper three quarters of the image, molded by four conventions (white: window)")
for ax, name in zip(axes[0], ("tiny", "matterport", "torchvision", "detectron2")):
    settings = presets.PRESETS[name]()
    canvas, m = mold_image(crop, settings)
    shown = np.clip((canvas - canvas.min()) / (canvas.max() - canvas.min()), 0, 1)  # what the network sees
    show_image(ax, shown)
    add_box(ax, m.window, "white", dash="dashed")
    for box in m.mold_boxes(inside):
        add_box(ax, box, "#F0E442", width=1.2)
    ax.set_title(f"{name}: {m.molded_shape[0]} x {m.molded_shape[1]}", fontsize=9)
    numbers = f"{canvas.min():.1f} .. {canvas.max():.1f}, {settings.channel_order.upper()}"
    add_text(ax, 0.5, -0.03, numbers, transform=ax.transAxes, ha="center", va="top")
lesson.save(figure, "molding")

lesson.finish(
    "800 / 375 = 2.133 would make the long side 1067 pixels, more than 1024. So the scale is 1024 / 500 = 2.048, the "
    f"picture becomes {wide.resized_shape[0]} x {wide.resized_shape[1]}, and 128 rows of padding above and below make "
    f"the window {wide.window}.",
    "No. Boxes are half-open: x2 = 40 means that column 39 is the last one inside, and the width is x2 - x1.",
    "The resized sides are whole numbers. Only the ratio of whole sides, resized / original, is exactly what happened "
    "to the pixels, and only with it does the way back end where it began.",
)
