# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. The input
#
# After this chapter you can read Pascal VOC's files with Python alone and a decoder for pictures, say to the pixel what a box
# covers, bring an image and its objects onto the network's canvas and back, and say what a mini mask loses.
#
# *Mirrors* ([five texts](00_map.ipynb), which you need not know): the slides' "model input" and colour table, the
# walk-through's paragraphs on loading the ground truth, on the window and on mini masks. What is wrong in them stands
# at the end.
#
# Most bugs of a detector are made before its first convolution. A box read in the wrong order, a mean subtracted from the
# wrong channel, a label picture opened as a photograph: nothing crashes, the loss goes down, the results are poor. So
# this chapter is slow where the matter looks simple.

# %%
import warnings
from xml.etree import ElementTree

import naive
import numpy as np
from helpers import COLOURS, DATA, Ledger, check, class_names, close, explorable, network, on_both, scene, show, source
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

import kernels
from mrcnn_np import presets
from mrcnn_np.boxes import boxes_from_xyxy, iou, tight_box
from mrcnn_np.data.annotation import read_annotation
from mrcnn_np.data.voc import VOID, colour_map
from mrcnn_np.molding import compose_meta, expand_masks, make_batch, minimise_masks, mold_image, parse_meta, plan
from mrcnn_np.ops.resize import resize_bilinear
from mrcnn_np.pyramid import normalise_boxes

ledger, sample, names = Ledger(), scene(), class_names()
folder = DATA / "shapes" / "VOC2012"

# %% [markdown]
# ## Four files for an image
#
# VOC keeps each kind of thing in a folder of its own. The shapes of this book are stored in the same layout, so what
# follows holds for the real data set.
#
# | folder | file | holds |
# |---|---|---|
# | `JPEGImages` | `ID.jpg` | the photograph |
# | `Annotations` | `ID.xml` | for each object its class, its box and some marks |
# | `SegmentationObject` | `ID.png` | for each pixel the *number* of its object |
# | `SegmentationClass` | `ID.png` | for each pixel the number of its *class* |
# | `ImageSets/Segmentation` | `train.txt`, `val.txt` | which images belong to which split |
#
# Two of the marks matter here. *truncated*: the box does not hold the whole object, most often because the border of the
# image cuts it off. *difficult*: so hard to see that an evaluation neither demands nor punishes it. Python's own XML
# reader is all one needs.

# %%
xml = (folder / "Annotations" / f"{sample.image_id}.xml").read_text()
print(xml[xml.index("\t<object>") : xml.index("</object>") + 9])
by_hand = []
for thing in ElementTree.fromstring(xml).iter("object"):
    corners = [int(thing.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
    by_hand.append((thing.findtext("name"), thing.findtext("truncated") == "1", corners))
assert len(by_hand) == 5 and by_hand[0] == ("triangle", False, [3, 53, 21, 71])

# %% [markdown]
# The two PNG files look like coloured pictures. They are not. Each pixel is *one* number, and the file carries a table of
# colours, the *palette*, only to please the eye. Pillow calls this mode "P". Read the numbers; if you convert such a
# picture to RGB, you get colours and have to look the numbers up again.
#
# One more number occurs: 255, *void*. Nobody said what these pixels are.
#
# **On paper first.** The image has five objects of three classes. Which numbers occur in the two files?

# %%
object_file, class_file = (
    Image.open(folder / f"Segmentation{kind}" / f"{sample.image_id}.png") for kind in ("Object", "Class")
)
objects, classes = np.asarray(object_file), np.asarray(class_file)
assert object_file.mode == class_file.mode == "P"
assert np.unique(objects).tolist() == [0, 1, 2, 3, 4, 5, 255]
assert np.unique(classes).tolist() == [0, 1, 2, 3, 255]
assert np.asarray(object_file.convert("RGB")).shape == (128, 128, 3)  # colours: three numbers, and none is the object's
print("object numbers:", np.unique(objects).tolist(), " class numbers:", np.unique(classes).tolist())

# %% [markdown]
# 0 is the background. VOC draws a line of void around every object, because at the border nobody can tell. Void is not
# background, and it is no object number 255. Here it belongs to no mask, and an evaluation leaves its pixels out.
#
# The rule that joins the files: **number $k$ in `SegmentationObject` is the $k$-th `<object>` of the XML file**, counted
# from 1. The class is not in the object's number. It stands in the XML, and again in `SegmentationClass`.

# %%
annotated = read_annotation(folder / "Annotations" / f"{sample.image_id}.xml")
assert [(thing.name, thing.truncated) for thing in annotated] == [(name, cut) for name, cut, _ in by_hand]
for k, thing in enumerate(annotated, start=1):
    inside = objects == k
    assert set(np.unique(classes[inside])) == {names.index(thing.name)}  # the two files agree
    assert np.array_equal(inside, sample.gt_masks[k - 1])  # and the package reads it so
    print(f"object {k}: {thing.name:<8} {inside.sum():>4} pixels, truncated: {thing.truncated}")
void = objects == VOID
assert void.sum() == 58 and np.array_equal(void, sample.void) and not sample.gt_masks.any(axis=0)[void].any()

# %% mystnb={"image": {"alt": "Three panels: the photograph, the object numbers 1 to 5 in VOC's colours, and the void pixels alone, a thin line where two objects meet."}}
figure = Figure(figsize=(8, 2.9), layout="constrained")
axes = figure.subplots(1, 3)
axes[0].imshow(sample.image)
axes[1].imshow(colour_map()[objects])
for k in range(1, 6):
    rows, columns = np.nonzero(objects == k)
    middle = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()  # its pixel nearest to the mean of all
    axes[1].text(columns[middle], rows[middle], str(k), color="white", ha="center", va="center", weight="bold")
axes[2].imshow(np.where(void, 0, np.where(objects > 0, 200, 255)), cmap="gray", vmin=0, vmax=255)
for ax, title in zip(axes, ("the photograph", "object numbers, in VOC's colours", "black: void")):
    ax.set_title(title, fontsize=9)
    ax.set(xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 1.1. What the photograph and the file of object numbers hold. These shapes have void only where two objects meet;
# in VOC every object has a border of it.*
#
# ## Why class 1 is dark red
#
# The slides print the 21 colours of VOC as a table. There is a rule behind it, and it is short. Write the index in
# binary. Its lowest three bits are the *highest* bits of red, green and blue, worth 128 each. The next three bits are the
# second highest, worth 64, and so on. So small indices, which are used first, get colours far apart.
#
# **On paper first.** Index 6 is 110 in binary. Which colour is it? And 255, all ones?

# %%
palette = colour_map()
assert palette[6].tolist() == [0, 128, 128]  # bit 0 is 0: no red; bits 1 and 2 are 1: half green, half blue
assert palette[1].tolist() == [128, 0, 0] and palette[20].tolist() == [0, 64, 128]
assert palette[VOID].tolist() == [224, 224, 192]  # three bits of red, three of green, and only two are left for blue
assert object_file.getpalette()[:63] == palette[:21].ravel().tolist()  # the file's own table is this one
print("6:", palette[6].tolist(), " 20:", palette[20].tolist(), " void:", palette[VOID].tolist())

# %% [markdown]
# Index 6: no red, half green, half blue. 255 has eight ones: three for red, three for green, two for blue, so 128 + 64 + 32
# twice, and 128 + 64.
#
# **Exercise 1.1.** Write the colour of one index as three numbers.


# %% tags=["exercise-1.1"]
def voc_colour(index):
    raise NotImplementedError


check("1.1", voc_colour)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def voc_colour(index):
#     colour = [0, 0, 0]
#     for place in range(8):
#         for channel in range(3):
#             bit = (index >> (3 * place + channel)) & 1
#             colour[channel] |= bit << (7 - place)
#     return colour
# ```
# </details>
#
# ## What a box covers
#
# Four numbers, and many conventions. VOC writes `xmin = 3, xmax = 21` and means: columns 3 to 21, *both included*, where
# the first column of the image has number 1. Python counts from 0 and leaves the end out. Here every box is $(y_1, x_1,
# y_2, x_2)$, counted from 0, *half-open*: rows $y_1$ to $y_2 - 1$, columns $x_1$ to $x_2 - 1$.
#
# Then height is $y_2 - y_1$, without a $+1$. Two boxes side by side share a coordinate and no pixel. And a coordinate is
# a line *between* pixels: pixel 0 reaches from 0 to 1, its middle is at 0.5.
#
# **On paper first.** VOC's `xmin = 3, ymin = 53, xmax = 21, ymax = 71`. What is our box, and how large is it?

# %%
xmin, ymin, xmax, ymax = by_hand[0][2]
box = (ymin - 1, xmin - 1, ymax, xmax)
assert box == (52, 2, 71, 21) == annotated[0].box
assert (box[2] - box[0], box[3] - box[1]) == (19, 19)
assert boxes_from_xyxy(np.array([[2, 52, 2 + 19, 52 + 19]])).tolist() == [list(box)]
assert np.array_equal(tight_box(np.asarray(sample.gt_masks[0])), box)
print(f"rows {box[0]} to {box[2] - 1}, columns {box[1]} to {box[3] - 1}: {box[2] - box[0]} x {box[3] - box[1]} pixels")

# %% [markdown]
# The first corner loses 1, since we count from 0. The last one would lose 1 too, but being half-open gives it back. The
# same object in four hands:
#
# | who | writes | for this object |
# |---|---|---|
# | VOC | xmin, ymin, xmax, ymax; from 1, ends included | 3, 53, 21, 71 |
# | COCO | x, y, width, height; from 0 | 2, 52, 19, 19 |
# | torchvision, detectron2 | x1, y1, x2, y2; from 0, half-open | 2, 52, 21, 71 |
# | the Keras code, this package | y1, x1, y2, x2; from 0, half-open | 52, 2, 71, 21 |

# %% mystnb={"image": {"alt": "A grid of 6 by 8 pixels with four rows and columns shaded. The box runs along the lines between pixels; column 6 is outside the box that ends at 6."}}
small = np.zeros((6, 8))
small[1:4, 2:6] = 1
figure = Figure(figsize=(5.2, 3.6), layout="constrained")
ax = figure.subplots()
ax.imshow(small, cmap="Greys", vmax=4, extent=(0, 8, 6, 0))
ax.set(xticks=range(9), yticks=range(7), xlabel="x", ylabel="y", title="(y1, x1, y2, x2) = (1, 2, 4, 6)")
ax.grid(color="0.7", lw=0.6)
ax.add_patch(Rectangle((2, 1), 4, 3, fill=False, color=COLOURS[0], lw=2.5))
ax.plot(2.5, 1.5, "o", color=COLOURS[1])
ax.annotate("middle of pixel (1, 2):\ny = 1.5, x = 2.5", (2.5, 1.5), (2.9, 1.75), fontsize=9)
ax.annotate("x2 = 6: column 6 is outside", (6, 3.5), (3.4, 5.2), fontsize=9, arrowprops={"arrowstyle": "->"})
assert small.sum() == (4 - 1) * (6 - 2) == 12
show(figure)

# %% [markdown]
# *Figure 1.2. Twelve pixels, and not one $+1$ in the arithmetic.*
#
# The walk-through takes the box from the mask, which is a good habit: a box that follows its mask cannot contradict it.
# But it says "lower left and upper right corner". In images $y$ grows downwards. It is the upper left corner, and one
# past the lower right.
#
# In VOC itself the box of the XML is a little larger than that of the mask, since the object's outermost pixels are void.
# This package trains with the XML's box, the Keras code with the mask's (`gt_boxes_from_masks`).
#
# **Exercise 1.2.** Write it: from a mask (H, W) with at least one pixel to its box.


# %% tags=["exercise-1.2"]
def box_of_mask(mask):
    raise NotImplementedError


check("1.2", box_of_mask)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def box_of_mask(mask):
#     rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
#     return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
# ```
# </details>
#
# ## How large?
#
# The network's maps halve five times and once more for P6, so the canvas wants sides that are multiples of 32 or 64. The
# objects want a size that the anchors have. So every image is resized first. Its shape must not change: both axes get
# the same factor, and the rest of the canvas is filled.
#
# The Keras code wants a square of 1024 pixels. Its rule: enlarge until the short side is 800, but never so far that the
# long side exceeds 1024; shrink only to fit the square. So the factor is the smaller one of $800/\text{short}$ (or 1,
# if that is larger) and $1024/\text{long}$.
#
# In the package, `plan` applies the rule of a configuration and returns a `Molding`: the old size, the new one, the canvas,
# and where on it the image lies. This part of the canvas is the *window*; the rest is padding.
#
# **On paper first.** An image of VOC has 375 rows and 500 columns. Which factor, which size, and how much is left over?

# %%
assert round(800 / 375, 3) == 2.133 and 1024 / 500 == 2.048 and 500 * 800 / 375 > 1024
molding = plan((375, 500), presets.matterport())
assert molding.resized_shape == (768, 1024) and molding.scale == (2.048, 2.048)
assert (1024 - 768) // 2 == 128 and molding.window == (128, 0, 896, 1024)
for preset, size, canvas in (
    (presets.matterport(), (768, 1024), (1024, 1024)),
    (presets.torchvision(), (800, 1066), (800, 1088)),
    (presets.detectron2(), (800, 1067), (800, 1088)),
):
    where = plan((375, 500), preset)
    assert (where.resized_shape, where.molded_shape) == (size, canvas)
    print(f"{preset.name:<12} resized to {size}, canvas {canvas}, window {where.window}")

# %% [markdown]
# The other two frameworks do not make a square. They enlarge *or shrink* until the short side is 800, unless the long one
# would exceed 1333; then that one is 1333. They fill up to the next multiple of 32, at the bottom and right. And they differ
# by a column: $500 \cdot 800/375 = 1066.67$ is cut off by the one and rounded by the other.
#
# Because sides are whole numbers, the factor that *happened* is not the factor that was asked for. In torchvision's
# case it is 2.1333 along $y$ and 2.132 along $x$. Boxes have to be moved with what happened, or they miss by the
# difference. So a molding keeps shapes, and the scale is their ratio.
#
# **On paper first.** Back to the square. Where does the box (100, 200, 110, 225) of the image lie on the canvas?

# %%
scales = plan((375, 500), presets.torchvision()).scale
assert np.allclose(scales, [800 / 375, 1066 / 500]) and scales[1] == 2.132
there = molding.mold_boxes(np.array([[100.0, 200, 110, 225]]))
assert np.allclose(there, [[332.8, 409.6, 353.28, 460.8]])  # 2.048 y + 128, 2.048 x
assert np.allclose(molding.unmold_boxes(there), [[100, 200, 110, 225]], rtol=1e-14)
print("molded:", there[0].round(2).tolist())

# %% [markdown]
# **Exercise 1.3.** Write the square rule: from height and width to the resized shape and the window. `round` rounds to
# whole pixels; of an odd rest the smaller half comes first.


# %% tags=["exercise-1.3"]
def square(height, width):
    raise NotImplementedError


check("1.3", square)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def square(height, width):
#     scale = max(1.0, 800 / min(height, width))
#     if round(max(height, width) * scale) > 1024:
#         scale = 1024 / max(height, width)
#     h, w = round(height * scale), round(width * scale)
#     top, left = (1024 - h) // 2, (1024 - w) // 2
#     return (h, w), (top, left, top + h, left + w)
# ```
#
# The `max` with 1 matters for 900 × 900: it fits already and stays as it is.
# </details>
#
# ## The colour of a pixel that was not there
#
# The resized image has pixels where the old one had none. Where does the middle of new pixel $i$ lie in the old image?
# Its middle is at $i + \tfrac12$ on the new axis of $m$ pixels, so at $(i + \tfrac12)\,n/m$ on the old one of $n$. The value
# of old pixel $j$ belongs to *its* middle, $j + \tfrac12$. So counted in old pixels, with whole numbers at their middles,
# we read at
#
# $$u = \Bigl(i + \tfrac12\Bigr)\frac{n}{m} - \tfrac12,$$
#
# kept between 0 and $n - 1$. With $j = \lfloor u \rfloor$ and $f = u - j$ the value is $(1 - f)\,x_j + f\,x_{j+1}$: the nearer
# neighbour counts more. At the last pixel there is no right neighbour, and $f$ is 0. The half pixel will come back in
# chapter 8, where forgetting it costs more.
#
# **On paper first.** Resize the line 0, 10, 20 to six pixels.

# %%
line = np.array([0.0, 10, 20])
u = np.clip((np.arange(6) + 0.5) * 3 / 6 - 0.5, 0, 2)
assert u.tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2]
longer = resize_bilinear(line.reshape(1, 3, 1), (1, 6))[0].ravel()
assert longer.tolist() == [0, 2.5, 7.5, 12.5, 17.5, 20]
print("read at", u.tolist(), "gives", longer.tolist())

# %% [markdown]
# **Exercise 1.4.** Write it for one line of numbers and any new length.


# %% tags=["exercise-1.4"]
def resize_line(line, m):
    raise NotImplementedError


check("1.4", resize_line)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def resize_line(line, m):
#     n, i = len(line), np.arange(m)
#     u = (i + 0.5) * n / m - 0.5
#     u = np.clip(u, 0, n - 1)
#     left = np.floor(u).astype(int)
#     right = np.minimum(left + 1, n - 1)
#     return (1 - (u - left)) * line[left] + (u - left) * line[right]
# ```
# </details>
#
# In two dimensions: first down, then across. As a loop:

# %%
source(naive.resize_bilinear)

# %% [markdown]
# ## One operation, four programs
#
# The package has most operations several times. All must give the same numbers.
#
# - The *loop* is the text above: one number at a time. It is slow and easy to check by eye, and the tests measure the
#   others by it.
# - *NumPy* works on whole arrays. It is what the chapters show.
# - The *compiled kernel* is a loop again, which Numba turns into machine code (`kernels/cpu`).
# - The kernel for NVIDIA's graphics cards is written in *CUDA* (`kernels/cuda`). It says what *one* thread does, and
#   thousands of threads run it at once.
#
# You may have no such card. So the book lets Numba's *simulator* run the last text on the processor, thread after
# thread. On a card the same text runs with `--backend cuda`.
#
# Wherever this book derives an operation, a cell compares the four. `kernels.use("numpy")` asks for NumPy's answer.
# `on_both` returns those of the two kernels, also where the input is so small that the package would leave it to NumPy.
# `close` prints and asserts how far two answers may lie apart, as a share of the largest number. The kernels calculate in
# float32, with about 7 digits, and add in another order: $10^{-5}$ or $10^{-6}$ is as near as they can be.
#
# Here they enlarge a piece of the image. (A backward pass is not needed: nothing learns from the gradient of an image.)

# %%
piece = sample.image[40:64, 20:52].astype(np.float64)
with kernels.use("numpy"):
    in_numpy, _ = resize_bilinear(piece, (37, 50))
ledger.expect("a piece of the image, enlarged", in_numpy, (37, 50, 3))
close("loop and NumPy, float64", naive.resize_bilinear(piece, (37, 50)), in_numpy)
(compiled, _), (on_card, _) = on_both(resize_bilinear, piece, (37, 50))
close("NumPy and the compiled kernel, float32", compiled, in_numpy, tolerance=1e-6)
close("the compiled kernel and CUDA's, simulated", on_card, compiled, tolerance=1e-6)

# %% [markdown]
# ## What shrinking skips
#
# Enlarging looks at every old pixel. Shrinking does not. When an image shrinks to a quarter, a new pixel still reads two old ones per axis.
# The other two are never looked at.
#
# **On paper first.** A line of white stripes: 255, 0, 0, 0, and again, 16 pixels. What is left of it at 4 pixels? What
# should be?

# %%
stripes = np.tile([255.0, 0, 0, 0], 4)
skipped = resize_bilinear(stripes.reshape(1, 16, 1), (1, 4))[0].ravel()
assert skipped.tolist() == [0, 0, 0, 0] and stripes.mean() == 63.75
narrow = Image.fromarray(np.tile(stripes.astype(np.uint8), (16, 1))).resize((4, 16), Image.Resampling.BILINEAR)
assert (np.abs(np.asarray(narrow)[0].astype(int) - 64) < 30).all()
print("bilinear:", skipped.tolist(), " Pillow:", np.asarray(narrow)[0].tolist(), " mean:", stripes.mean())

# %% [markdown]
# New pixel 0 reads at $\tfrac12 \cdot 4 - \tfrac12 = 1.5$, between the old pixels 1 and 2; the next ones read at 5.5, 9.5 and
# 13.5. All stripes are gone. Pillow weights all old pixels under the new one and its neighbours, so the brightness stays;
# the ends differ because a part of that window lies outside. Frameworks differ in this, too: detectron2 resizes with
# Pillow, the other two do not (`resize_filter`).

# %% mystnb={"image": {"alt": "Eight old values and the five new ones between them, drawn at the middles of their pixels on one axis, with and without the half pixel."}}
old = np.array([0, 8, 16, 4, 12, 20, 2, 10.0])
figure = Figure(figsize=(7, 2.6), layout="constrained")
ax = figure.subplots()
ax.plot(np.arange(8) + 0.5, old, "o-", color="0.6", label="old")
middles = (np.arange(5) + 0.5) * 8 / 5
new = resize_bilinear(old.reshape(1, 8, 1), (1, 5))[0].ravel()
assert np.allclose(new, np.interp(middles - 0.5, np.arange(8), old)) and np.isclose(new[0], 0.3 * 8)
ax.plot(middles, new, "s", color=COLOURS[0], label="new")
ax.plot(
    middles,
    np.interp(np.arange(5) * 8 / 5, np.arange(8), old),
    "x",
    color=COLOURS[1],
    label="new, half pixel forgotten",
)
ax.set(xlabel="x in old pixels", xlim=(0, 8))
ax.legend(fontsize=7)
show(figure)

# %% [markdown]
# *Figure 1.3. The start of the live picture below. Each new value is drawn at its own middle. Squares lie on the line.
# Crosses were read at $i\,n/m$, without the half pixels, and hang beside it.*
#
# Try it. Choose a new length. Drag the dot to trace a new pixel, or focus it and use the arrow keys. A line goes from the
# middle of the new pixel to the place where it reads, and the table holds every number. Shrink to 2 and count which old
# pixels nobody reads. Then forget the half pixel, and see in which direction everything moves when the line shrinks, and
# when it grows.

# %%
explorable("resize_line", line=old, length=5)

# %% [markdown]
# Masks have to stay masks: half an object is no object. On their way to the canvas they take the nearest pixel.
#
# ## Filling and normalising
#
# A network learns best from inputs around 0. So a mean is subtracted, per channel, and torchvision also divides by a
# deviation. These numbers belong to the weights: if the mean, its scale (1 or 255) or the order of the channels is another,
# the network sees other colours than those it was trained on.
#
# And when is the canvas filled? The Keras code fills with 0 *before* it subtracts the mean, the others after it.
#
# **On paper first.** Which value has the padding of the Keras code, whose means are 123.7, 116.8 and 103.9? What does our
# small network make of the grey levels 255, 0 and 51, with $(\text{pixel}/255 - 0.5)/0.25$?

# %%
tall = np.full((1024, 512, 3), (10, 20, 30), np.uint8)
canvas, _ = mold_image(tall, presets.matterport())
assert np.allclose(canvas[500, 0], [-123.7, -116.8, -103.9])  # as dark as black
assert np.allclose(canvas[500, 500], [10 - 123.7, 20 - 116.8, 30 - 103.9])
assert np.allclose((np.array([255, 0, 51]) / 255 - 0.5) / 0.25, [2, -2, -1.2])
config = network().config
crop, molded_crop = sample.image[:96], mold_image(sample.image[:96], config)
ledger.expect("upper three quarters, molded", molded_crop[0], (128, 128, 3))
assert molded_crop[1].window == (0, 0, 96, 128) and not molded_crop[0][96:].any()
print("padding of the Keras code:", canvas[500, 0].round(1), " ours:", molded_crop[0][100, 0])

# %% mystnb={"image": {"alt": "Three panels: the upper three quarters of the image, the same on a square canvas with the window and the boxes of four objects, and histograms of the normalised colours."}}
figure = Figure(figsize=(8, 2.8), layout="constrained")
axes = figure.subplots(1, 3)
axes[0].imshow(crop)
axes[1].imshow((molded_crop[0] + 2) / 4, extent=(0, 128, 128, 0))
axes[1].add_patch(Rectangle((0, 0), 128, 96, fill=False, color="white", lw=2, ls="--"))
for y1, x1, y2, x2 in molded_crop[1].mold_boxes(sample.gt_boxes[sample.gt_boxes[:, 2] <= 96]):
    axes[1].add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color="white", lw=2.2))
    axes[1].add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=COLOURS[0], lw=1.2))
for channel, (colour, style) in enumerate(((COLOURS[1], "-"), (COLOURS[2], "--"), (COLOURS[0], ":"))):
    values = molded_crop[0][:96, :, channel].ravel()
    axes[2].hist(values, 30, histtype="step", color=colour, ls=style, label=("red", "green", "blue")[channel])
axes[2].legend(fontsize=7)
axes[2].set_ylabel("pixels", fontsize=8)
titles = ("read: 96 x 128, levels 0 to 255", "molded: 128 x 128, the window dashed", "normalised values")
for ax, title in zip(axes, titles):
    ax.set_title(title, fontsize=9)
show(figure)

# %% [markdown]
# *Figure 1.4. Molding an image that is not square. The padding is 0, the mean colour. The second panel shows the normalised
# values, brought back to colours.*
#
# Boxes outside the window are boxes in the padding. Detections are cut to the window before they go back to the image.
#
# A remark on *normalised boxes*. The Keras code also divides boxes by the size of the image, so that they lie between 0
# and 1. It counts in pixel middles: 0 is the middle of the first pixel, 1 that of the last. So it subtracts 1 from the
# half-open end, which is then the last pixel inside, and divides by the size *minus one*.
#
# **On paper first.** Rows 10 to 20 (half-open) of an image with 101 rows?

# %%
fractions = normalise_boxes(np.array([[10.0, 10, 20, 20]]), (101, 101))
assert np.allclose(fractions, [[0.10, 0.10, 0.19, 0.19]])
print("normalised:", fractions[0].round(2).tolist())

# %% [markdown]
# ## What the network is told about the image
#
# A Keras graph takes arrays only. So everything about where an image went is packed into one vector, the *image meta*:
# id (1), original shape (3), molded shape (3), window (4), scale (1), and for each class whether the data set of the
# image has it ($K$).
#
# **On paper first.** How long is it for VOC's 21 classes and for COCO's 81?

# %%
assert 1 + 3 + 3 + 4 + 1 == 12 and (12 + 21, 12 + 81) == (33, 93)
meta = compose_meta(7, molding, np.ones(21))
ledger.expect("image meta", meta, (33,))
parts = parse_meta(meta)
assert parts["window"].tolist() == [128, 0, 896, 1024] and parts["scale"] == 2.048
assert parts["original_shape"].tolist() == [375, 500, 3] and parts["active_class_ids"].sum() == 21
for name in ("image_id", "original_shape", "molded_shape", "window", "scale"):
    print(f"{name:<14}", parts[name].tolist())

# %% [markdown]
# The last part serves mixed data sets. If a data set never labels sheep, a network that sees one there should not be
# punished. In plain Python none of this is needed: `Molding` is an object with names.
#
# Here is what the package makes of the image of the book: one batch of one image, ready for training.

# %%
batch = make_batch([sample], config)
ledger.expect("images of the batch", batch.images, (1, 128, 128, 3))
ledger.expect("boxes of its first image", batch.gt_boxes[0], (5, 4))
ledger.expect("classes of its objects", batch.gt_class_ids[0], (5,))
_ = ledger.expect("their masks", np.asarray(batch.gt_masks[0]), (5, 128, 128))

# %% [markdown]
# ## Mini masks
#
# A mask of 1024 × 1024 booleans takes a megabyte, and the Keras code keeps up to a hundred for an image. It therefore keeps of
# each mask only the part inside its box, resized to 56 × 56 cells. Here the mask *is* interpolated, as numbers 0 and 1, and a
# cell becomes true if the value exceeds one half. On the way back the cells are resized to the box and cut at one half
# again. The walk-through mentions the cutting and forgets the resizing, which is where the loss is.
#
# **On paper first.** How many bytes are a hundred masks, whole and mini?

# %%
whole_bytes, mini_bytes = 100 * 1024 * 1024, 100 * 56 * 56
assert (whole_bytes, mini_bytes) == (104_857_600, 313_600) and whole_bytes // mini_bytes == 334
print(f"{whole_bytes / 1e6:.0f} MB and {mini_bytes / 1e6:.1f} MB: a factor of {whole_bytes // mini_bytes}")

# %%
source(minimise_masks)

# %% [markdown]
# An object of at most 28 pixels a side is enlarged to at least two cells per pixel, and comes back as it was, whatever its
# form. Between 28 and 56 fine detail may go. A larger object is sampled: two old pixels per axis make a new one, and the
# rest is skipped, as with the stripes above.

# %%
noise = np.random.default_rng(0).random((1, 40, 40)) < 0.5
for side, survives in ((28, True), (40, False)):
    whole, frame = noise[:, :side, :side], np.array([[0, 0, side, side]])
    there_and_back = expand_masks(frame, minimise_masks(frame, whole, (56, 56)), (side, side))
    assert np.array_equal(there_and_back, whole) == survives
    print(f"noise of {side} x {side}: {(there_and_back != whole).sum()} pixels are wrong")

# %% [markdown]
# The objects of this book are small and smooth, and survive 56 × 56 cells. So that they meet the fate of large ones, we
# use mini masks of 14 × 14. A triangle of 58 pixels then loses what one of 232 loses to 56 cells.

# %% mystnb={"image": {"alt": "The mask of the green triangle, its 14 by 14 mini mask, the mask that comes back, and the pixels that differ, all along the edge and the tips."}}
masks = np.asarray(sample.gt_masks)
boxes = sample.gt_masks.boxes
assert boxes[3, 3] - boxes[3, 1] == 58 and (4 * 58, 4 * 14) == (232, 56)
mini = minimise_masks(boxes, sample.gt_masks, (14, 14))
back = expand_masks(boxes, mini, (128, 128))
kept = (back & masks).sum(axis=(1, 2)) / (back | masks).sum(axis=(1, 2))
ledger.expect("mini masks", mini, (5, 14, 14))
exact = expand_masks(boxes, minimise_masks(boxes, sample.gt_masks, (56, 56)), (128, 128))
assert (kept < 0.98).all() and kept.argmin() == 3 and abs(1 - kept[3] - 1 / 8) < 0.01 and np.array_equal(exact, masks)
y1, x1, y2, x2 = boxes[3]
figure = Figure(figsize=(8, 2.4), layout="constrained")
panels = (masks[3, y1:y2, x1:x2], mini[3], back[3, y1:y2, x1:x2], (back ^ masks)[3, y1:y2, x1:x2])
titles = ("the mask", "14 x 14 cells", "what comes back", "the difference")
for ax, picture, title in zip(figure.subplots(1, 4), panels, titles):
    ax.imshow(picture, cmap="Greys", vmin=0, vmax=1)
    ax.set_title(title, fontsize=9)
    ax.set(xticks=[], yticks=[])
show(figure)
print("IoU of what comes back:", kept.round(2).tolist())

# %% [markdown]
# *Figure 1.5. Object 4. The pixels that differ are an eighth of the union of both masks, all at the edge.*
#
# A mask loss that is fed with such targets teaches blunt corners. And the loss can be total.
#
# **Exercise 1.5.** Break it: return a mask of at most 600 × 600 pixels, 300 of them true or more, whose 56 × 56 mini mask
# is *empty*. The box is the whole array.


# %% tags=["exercise-1.5"]
def lost_mask():
    raise NotImplementedError


check("1.5", lost_mask)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def lost_mask():
#     mask = np.zeros((560, 560), bool)
#     mask[302] = True
#     return mask
# ```
#
# With ten pixels per cell, cell $i$ reads at $10 i + 4.5$: rows 4 and 5, 14 and 15, and so on. Row 302 is never read.
# Row 304 would be read with weight one half, which does not *exceed* one half; two rows, 304 and 305, would survive. A
# bicycle's spokes or a fence do not.
# </details>
#
# An old version had a worse flaw, and its users met it as "my squares have no masks". It resized with a function that first
# stretched the grey levels from the smallest to the largest. A mask that fills its whole box has only one level.

# %%
filled = np.ones((10, 10))
stretched = (filled - filled.min()) / max(filled.max() - filled.min(), 1) * 255
assert not (stretched >= 128).any()
assert minimise_masks(np.array([[0, 0, 10, 10]]), filled[None] > 0, (56, 56)).all()  # this package's does not stretch
print("a filled square after stretching:", int(stretched.max()))

# %% [markdown]
# ## Break it
#
# Which mistake costs most and says least? torchvision and detectron2 write boxes as $(x_1, y_1, x_2, y_2)$. Four numbers
# are four numbers; no shape is wrong, no side negative. Feed them as they are. How much of each object does its box still
# cover, and what does the trained network say to it?

# %% tags=["break-it"]
exchanged = sample.replace(gt_boxes=boxes_from_xyxy(sample.gt_boxes))  # the same numbers in the other order
overlap = np.diag(iou(exchanged.gt_boxes, sample.gt_boxes))
assert np.allclose(overlap[[0, 1, 4]], 0) and overlap.max() < 0.11
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    wrong = make_batch([exchanged], config)
assert "expected (y1, x1, y2, x2)" in str(said[0].message)  # here it is noticed, because the masks disagree
right_sum, wrong_sum = (sum(network().losses(b, 0)[0].values()) for b in (batch, wrong))
assert wrong_sum > 5 * right_sum
print("IoU with the true boxes:", *(f"{v:.2f}" for v in overlap))
print("the losses of the same network grow more than fivefold")

# %% [markdown]
# Three of five objects are missed altogether. A network trained like that would learn to look at mirrored places; on an
# image whose objects lie near the diagonal it would even seem to work. The package can warn only because it has masks to
# compare with. A data set with boxes alone gives no such chance: draw the boxes over the first images, always.
#
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | a box is the mask's "lower left and upper right" corner | upper left, and one past the lower right |
# | the colour table has 21 rows | and index 255, void, which is neither background nor object |
# | a mini mask is the part of the mask inside the box | that part, resized to 56 × 56; the resizing loses edges and thin parts |
# | mini masks are "typically 224 × 224" (a comment of the Keras code) | 56 × 56 in the same code |
# | nothing about means and the order of channels | they belong to the weights and have to be known |
#
# ## Do you remember?
#
# <details><summary>Q1. Where is the class of an object in VOC's files?</summary>In the XML file; its number in SegmentationObject says only which entry.</details>
# <details><summary>Q2. What is 255 in a label picture?</summary>Void: pixels that nobody labelled.</details>
# <details><summary>Q3. Why not convert a label picture to RGB?</summary>Its pixels are numbers; RGB gives the palette's colours instead.</details>
# <details><summary>Q4. VOC says xmin = 1, xmax = 1. Our box?</summary>x1 = 0, x2 = 1: one column.</details>
# <details><summary>Q5. Where is the middle of pixel 7?</summary>At 7.5.</details>
# <details><summary>Q6. What is the width of a half-open box?</summary>x2 - x1.</details>
# <details><summary>Q7. By which factor does the Keras code resize 375 × 500?</summary>By 2.048: the long side must not exceed 1024.</details>
# <details><summary>Q8. What is the window?</summary>The part of the canvas that is image and not padding.</details>
# <details><summary>Q9. Why is the scale the ratio of whole sides?</summary>Because that is what happened to the pixels; only then the way back is exact.</details>
# <details><summary>Q10. At which old index does new pixel i read?</summary>At (i + 1/2) n/m - 1/2.</details>
# <details><summary>Q11. Why do stripes vanish when an image shrinks?</summary>Two pixels per axis are read, whatever the factor; the rest is skipped.</details>
# <details><summary>Q12. How long is the image meta for K classes?</summary>12 + K.</details>
# <details><summary>Q13. What does the padding hold in the Keras code?</summary>Minus the mean: it is filled before the mean is subtracted.</details>
# <details><summary>Q14. Which masks does a mini mask lose?</summary>Parts thinner than the step between the pixels that its cells read.</details>
