# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8. From RoIPool to RoIAlign
#
# After this chapter you can write `roi_align` and its backward pass yourself, say to the half pixel where it reads, and
# recognise in any framework which of its conventions is in force.
#
# *Mirrors* ([five texts](00_map.ipynb), which you need not know): the slides' "RoIAlign (roi level)" and "RoIAlign
# (crop resize)", the notes' paragraph on quantisation, and the articles' 8 × 8 example. What is wrong in them stands at
# the end.
#
# A proposal is a box with fractional corners, of any size, anywhere in the image. (As something to be read from a map it
# is called a *region of interest*, RoI.) The heads behind it are ordinary layers that want a grid of fixed size: 7 × 7
# numbers per channel for the class and the box, 14 × 14 for the mask. So a piece of any size must be cut out of the
# feature map and handed on as a fixed grid. It takes a whole chapter because the piece does not begin where a cell
# begins, and because a mask that is read half a cell off is drawn half a cell off.
#
# Two words. A *cell* is one place of a feature map; a map of stride 32 has one cell for every 32 × 32 pixels of the
# image. A *bin* is one place of the fixed grid. A box comes in pixels of the image. Times the *scale*, 1 / stride, it is
# in cells.

# %%
import naive_roi
import numpy as np
from gradcheck import check_gradients
from helpers import COLOURS, DATA, Ledger, check, close, explorable, network, on_both, scene, show, source
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import kernels
from mrcnn_np import presets
from mrcnn_np.data import open_dataset
from mrcnn_np.heads import mask_head
from mrcnn_np.molding import make_batch
from mrcnn_np.objective import head_mask_loss
from mrcnn_np.ops.crop_and_resize import crop_and_resize
from mrcnn_np.ops.roi_align import bilinear_interpolate, roi_align, roi_align_backward
from mrcnn_np.ops.roi_pool import roi_pool, roi_pool_backward
from mrcnn_np.pyramid import normalise_boxes, roi_level
from mrcnn_np.targets import mask_targets

ledger, one = Ledger(), np.zeros(1, int)  # every box below lies in image 0

# %% [markdown]
# ## Two roundings
#
# RoIPool, of Fast R-CNN, does the obvious thing: round the box to whole cells, cut it into bins of whole cells, keep the
# largest number of each bin. It rounds twice.
#
# **On paper first.** A box is 665 pixels wide and the map has one cell for every 32 pixels. How wide is the box on the
# map? How wide if we keep whole cells only? With 7 bins of whole cells, how many cells of the box are read? The other
# example of the documents: a box 15 pixels wide, an image of 128 pixels, a map of 25 cells. How wide is it there?

# %%
width = 665 / 32
assert width == 20.78125 and int(width) == 20
assert int(20 / 7) == 2 and 7 * 2 == 14  # six of the twenty cells are never read
assert 665 - 20 * 32 == 25  # pixels lost by the first rounding alone
assert 15 * 25 / 128 == 2.9296875
print(f"{width} cells, cut to 20; 20 / 7 = {20 / 7:.3f}, cut to 2: 14 of 20 cells are read, {6 * 32} pixels are not")
print(f"the other box: {15 * 25 / 128:.2f} cells, cut to 2")

# %% [markdown]
# Twenty-five pixels are lost by the first rounding and 192 by the second.
#
# That arithmetic follows the slides, which cut off. The libraries (Caffe, torchvision) *round* the corners to the nearest
# cell, count first and last cell in, and let neighbouring bins share a cell, so that no cell is lost. On the 8 × 8 map
# that half the web copies, both rules can be seen at once. The box covers rows 3 to 7 and columns 0 to 6, and has 2 × 2
# bins.
#
# **On paper first.** Cut the 5 rows as 2 + 3 and the 7 columns as 3 + 4 (the map is figure 8.1), and take the largest
# number of each of the four bins. Then let the bins share the middle row and the middle column.

# %%
numbers = """.88 .44 .14 .16 .37 .77 .96 .27  .19 .45 .57 .16 .63 .29 .71 .70  .66 .26 .82 .64 .54 .73 .59 .26
.85 .34 .76 .84 .29 .75 .62 .25  .32 .74 .21 .39 .34 .03 .33 .48  .20 .14 .16 .13 .73 .65 .96 .32
.19 .69 .09 .86 .88 .07 .01 .48  .83 .24 .97 .04 .24 .35 .50 .91"""
eight = np.array(numbers.split(), float).reshape(1, 8, 8, 1)
disjoint, _ = roi_pool(eight, np.array([[3.0, 0, 8, 7]]), one, output_size=2, spatial_scale=1.0, split="disjoint")
caffe, _ = roi_pool(eight, np.array([[3.0, 0, 7, 6]]), one, output_size=2, spatial_scale=1.0, split="caffe")
assert np.array_equal(disjoint[0, :, :, 0], [[0.85, 0.84], [0.97, 0.96]])
assert np.array_equal(caffe[0, :, :, 0], [[0.85, 0.96], [0.97, 0.96]])
print("bins that share nothing:", disjoint[0, :, :, 0].tolist())
print("bins as libraries cut: ", caffe[0, :, :, 0].tolist())


# %% mystnb={"image": {"alt": "Two 8 by 8 maps. Left: the box cut into four bins without overlap. Right: the bins of the libraries share a row and a column."}}
def bins_on(ax, title, rows, columns):
    ax.imshow(eight[0, :, :, 0], cmap="Greys", vmin=0, vmax=2)
    for y, x in np.ndindex(8, 8):
        ax.text(x, y, f"{eight[0, y, x, 0]:.2f}", ha="center", va="center", fontsize=6)
    for p, (top, bottom) in enumerate(rows):
        for q, (left, right) in enumerate(columns):
            shift, colour = 0.06 * (2 * p + q), COLOURS[2 * p + q]
            corner = (left - 0.5 + shift, top - 0.5 + shift)
            ax.add_patch(Rectangle(corner, right - left - 0.1, bottom - top - 0.1, fill=False, color=colour, lw=2.5))
    ax.set(title=title, xticks=[], yticks=[], xlim=(-0.6, 7.6), ylim=(7.7, -0.6))


figure = Figure(figsize=(8, 4), layout="constrained")
axes = figure.subplots(1, 2)
bins_on(axes[0], "disjoint: 2 + 3 rows, 3 + 4 columns", [(3, 5), (5, 8)], [(0, 3), (3, 7)])
bins_on(axes[1], "the libraries: bins share a row and a column", [(3, 6), (5, 8)], [(0, 4), (3, 7)])
show(figure)

# %% [markdown]
# *Figure 8.1. The same box under two rules. Left, the upper bins are rows 3 and 4, the lower ones 5, 6, 7. Right, the
# upper bins are rows 3, 4, 5: row 5 is read twice, and with it the 0.96.*
#
# Where the rule differs, the answer differs: 0.84 or 0.96. Whoever compares two frameworks begins here.
#
# **Exercise 8.1.** Write the libraries' rule for one axis: from the rounded first and last cell, both counted in, return
# `(first, end)` of each bin. Bin $p$ of $n$ begins at $\lfloor p\,s/n \rfloor$ and ends before $\lceil (p+1)\,s/n \rceil$,
# where $s$ is the number of cells.


# %% tags=["exercise-8.1"]
def bin_edges(first, last, bins):
    raise NotImplementedError


check("8.1", bin_edges)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def bin_edges(first, last, bins):
#     side = max(last - first + 1, 1)
#     return [(first + p * side // bins, first + -(-(p + 1) * side // bins)) for p in range(bins)]
# ```
#
# The double minus rounds up: `//` always rounds down.
# </details>
#
# ## A number between the numbers
#
# RoIAlign rounds nothing. So it needs the value of a map where there is none: between its pixels. Interpolation along
# one axis is a weighted mean of two neighbours; the nearer one counts more. *Bi*linear means: first along x, in the row
# above and in the row below, then along y.
#
# The point is $(y, x)$; $l_y$ is how far it lies below the row above it, $y = \lfloor y \rfloor + l_y$, and $l_x$ how far
# right of the column left of it. The four pixels around it hold $Q_{11}$ (above, left), $Q_{12}$ (above, right),
# $Q_{21}$ (below, left) and $Q_{22}$. Then
#
# $$f(y, x) = (1-l_y)\bigl[(1-l_x)\,Q_{11} + l_x\,Q_{12}\bigr] + l_y\bigl[(1-l_x)\,Q_{21} + l_x\,Q_{22}\bigr].$$
#
# **On paper first.** Row 1 holds 100 and 105 in columns 1 and 2, row 2 holds 110 and 112. What is the value at
# $x = 1.4$, $y = 1.7$?

# %%
corners = np.zeros((4, 5))
corners[1:3, 1:3] = [[100, 105], [110, 112]]
upper, lower = 0.6 * 100 + 0.4 * 105, 0.6 * 110 + 0.4 * 112
assert np.allclose([upper, lower], [102, 110.8])
value = 0.3 * upper + 0.7 * lower
assert np.isclose(value, 108.16)
assert np.isclose(bilinear_interpolate(corners, 1.7, 1.4), 108.16)
weights = np.outer([0.3, 0.7], [0.6, 0.4])
assert np.allclose(weights, [[0.18, 0.12], [0.42, 0.28]]) and np.isclose(weights.sum(), 1)
print(f"above {upper:g}, below {lower:g}, together {value:.2f}")

# %% [markdown]
# Multiplied out, the four pixels have the weights 0.18, 0.12, 0.42 and 0.28. They are areas: the 0.18 of the pixel above
# left is the rectangle between the point and the *opposite* pixel, below right. The backward pass needs these weights
# and nothing else.
#
# **Exercise 8.2.** Write it for points inside the map, without looking at the formula.


# %% tags=["exercise-8.2"]
def value_at(plane, y, x):
    raise NotImplementedError


check("8.2", value_at)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def value_at(plane, y, x):
#     top, left = int(np.floor(y)), int(np.floor(x))
#     ly, lx = y - top, x - left
#     bottom, right = min(top + 1, plane.shape[0] - 1), min(left + 1, plane.shape[1] - 1)
#     above = (1 - lx) * plane[top, left] + lx * plane[top, right]
#     below = (1 - lx) * plane[bottom, left] + lx * plane[bottom, right]
#     return (1 - ly) * above + ly * below
# ```
#
# On the last row and column there is no further neighbour; its weight is 0 there, but its index must exist.
# </details>
#
# And outside? A box at the border of the image has points that lie beyond the first or the last pixel. All RoIAligns
# share a rule. Up to one cell outside, from $-1$ to 0 and from $H - 1$ to $H$, the point is moved onto the border: it
# reads the border pixel. Further out the value is 0.
#
# **On paper first.** A map of one row holds 4 and 8. What is its value at $x = -0.4$, $1.7$, $-1.2$ and $2.1$?

# %%
at_border = bilinear_interpolate(np.array([[4.0, 8.0]]), 0.0, np.array([-0.4, 1.7, -1.2, 2.1]))
assert at_border.tolist() == [4, 8, 0, 0]
print("at the border:", at_border.tolist())

# %% [markdown]
# ## Sixteen points
#
# Now the box. Cut it into bins, without rounding. Put $g \times g$ points, *samples*, into each bin, at the centres of
# its $g \times g$ equal parts. Read each point, take the mean. That is RoIAlign. With $g = 2$ (the frameworks call it
# `sampling_ratio`) a bin is the mean of four numbers, each of which is the weighted mean of four pixels. With a ratio
# of 0 each box has its own $g$: as many samples as a bin has cells, rounded up.
#
# Sample $i$ of bin $p$ lies at
#
# $$s + p\,b + \frac{(i + \tfrac12)\,b}{g},$$
#
# where $s$ is where the box begins and $b$ how large a bin is, both in cells.
#
# **On paper first.** The slides' box goes from 1.4 to 3.25 in x and from 0.95 to 4.15 in y, in cells, with 2 × 2 bins.
# Where are the four columns and four rows of samples? Is the point (1.4, 1.7) of above among them? Let the map hold
# $5y + x$. Such a map rises evenly, so the mean of samples is the value at the middle of the bin: what are the four bins?

# %%
parts = (np.arange(4) + 0.5) / 4  # two bins of two samples: four equal parts
columns, rows = 1.4 + parts * (3.25 - 1.4), 0.95 + parts * (4.15 - 0.95)
assert np.allclose(columns, [1.63125, 2.09375, 2.55625, 3.01875])
assert np.allclose(rows, [1.35, 2.15, 2.95, 3.75])
assert not np.isclose(columns, 1.4).any() and not np.isclose(rows, 1.7).any()  # it lies on the box's left edge

ramp = np.arange(30.0).reshape(1, 6, 5, 1)  # value 5 y + x: a sample reads where it lies
box = np.array([[0.95, 1.4, 4.15, 3.25]])  # (y1, x1, y2, x2)
pooled, _ = roi_align(ramp, box, one, output_size=2, spatial_scale=1.0, aligned=False)
ledger.expect("four bins of the ramp", pooled, (1, 2, 2, 1))
assert np.allclose(pooled[0, :, :, 0], [[10.6125, 11.5375], [18.6125, 19.5375]])
assert np.isclose(pooled[0, 0, 0, 0], 5 * (0.95 + 0.8) + 1.4 + 0.4625)  # the middle of the first bin
print("columns", columns.round(5).tolist(), "rows", rows.round(5).tolist())
print("bins of the ramp:", pooled[0, :, :, 0].round(4).tolist())

# %% mystnb={"image": {"alt": "A map of 6 by 5 pixels with the box of the slides, its four bins and sixteen sample points; lines join one sample to the four pixels it reads."}}
figure = Figure(figsize=(5, 4.9), layout="constrained")
ax = figure.subplots()
ax.imshow(ramp[0, :, :, 0], cmap="Greys", vmin=-20, vmax=60)
ax.add_patch(Rectangle((1.4, 0.95), 1.85, 3.2, fill=False, color=COLOURS[0], lw=2))
ax.plot([1.4, 3.25], [2.55, 2.55], [2.325, 2.325], [0.95, 4.15], color=COLOURS[0])
ax.scatter(*np.meshgrid(np.arange(5), np.arange(6)), s=12, color="white", edgecolor="black", label="where values sit")
ax.scatter(*np.meshgrid(columns, rows), s=30, color=COLOURS[1], edgecolor="black", label="where RoIAlign reads")
for y, x in ((1, 1), (1, 2), (2, 1), (2, 2)):
    ax.plot([columns[0], x], [rows[0], y], color=COLOURS[1], lw=1)
ax.set(title="a bin reads four points, a point reads four pixels", xlabel="x", ylabel="y")
figure.legend(loc="outside lower center", ncols=2, fontsize=8)
show(figure)

# %% [markdown]
# *Figure 8.2. The slides' box, with values drawn at whole coordinates, as they draw it.*
#
# Four texts of the same operation. First the loop, one number at a time, as it stands in the tests. `bilinear` is
# exercise 8.2 with the rule for the border; `aligned` is explained below under "Half a pixel".

# %%
source(naive_roi.roi_align)

# %% [markdown]
# Then the package. Its body looks different for a reason: the mean of bilinear samples is *linear* in the map. Let $F$
# be all maps of a batch with one row per pixel and one column per channel. Then the whole operation is one sparse matrix
# $W$, with a row for each bin of each box and a column for each pixel, and $y = W F$. A row of $W$ holds the weights of
# the 16 pixels that a bin reads, divided by four: `mean_matrix`. (`axis_means` does the same for boxes with very many
# samples, and the second branch takes the largest sample in place of the mean.)

# %%
source(roi_align)

# %% [markdown]
# Third, the compiled kernel: it never builds $W$, takes one bin after the other, and adds the rows of four pixels, all
# channels at once. Last, CUDA's, in the simulator (chapter 2): there a thread owns a few channels of one bin. All four
# must agree.

# %%
rng = np.random.default_rng(0)
features = rng.normal(size=(2, 9, 11, 3))
rois = np.array([[4.0, 3, 50, 61], [-3, 10, 9, 13], [20, 20, 90, 44], [0, 0, 72, 88]])
index = np.array([0, 1, 0, 1])
options = {"output_size": 3, "spatial_scale": 1 / 8, "sampling_ratio": 2, "aligned": True}
with kernels.use("numpy"):
    in_numpy, cache = roi_align(features, rois, index, **options)
ledger.expect("RoIs of the test", in_numpy, (4, 3, 3, 3))
loop = naive_roi.roi_align(features, rois, index, (3, 3), 1 / 8, 2, True, "mean")
close("loop and NumPy, float64", in_numpy, loop)
(compiled, _), (on_card, _) = on_both(roi_align, features, rois, index, **options)
close("NumPy and the compiled kernel, float32", compiled, in_numpy, tolerance=1e-6)
close("the compiled kernel and CUDA's, simulated", on_card, compiled, tolerance=1e-6)

# %% [markdown]
# ## The largest or the mean?
#
# The slides and articles take the *largest* of a bin's samples, the frameworks their mean; the paper tried both and got
# 30.2 and 30.3 (mask AP, a score of masks: larger is better; table 2c). But "largest" hides a second question: the largest
# of the four interpolated values, or the largest of the *weighted pixels*? ONNX's operator says the latter.
#
# **On paper first.** Take the point of above, weights 0.18, 0.12, 0.42, 0.28 and pixels 100, 105, 110, 112. Which
# weighted pixel is the largest? Can such a number be a value of the map?

# %%
at_the_point = np.array([[1.2, 0.9, 2.2, 1.9]])  # (y1, x1, y2, x2); its middle is the point y = 1.7, x = 1.4
plane, single = corners[None, :, :, None], {"output_size": 1, "spatial_scale": 1.0, "sampling_ratio": 1}
largest, _ = roi_align(plane, at_the_point, one, aligned=False, reduce="max", **single)
of_weighted = max(w * q for w, q in zip(weights.ravel(), (100, 105, 110, 112)))
assert np.isclose(largest.item(), 108.16) and np.isclose(of_weighted, 46.2)
print(
    f"interpolate, then the largest: {largest.item():.2f}; the largest weighted pixel: {of_weighted:.1f}, below all four"
)

# %% [markdown]
# ## Half a pixel
#
# Here is the dispute that fills the issue trackers. Where does pixel $i$ sit? Its *index* is $i$. But a pixel is an area
# from $i$ to $i + 1$, and its middle is at $i + \tfrac12$. A box of an object is measured in areas: "from 2 to 10" covers
# pixels 2 to 9. Interpolation is written in indices. To go from the one to the other, subtract one half. The first
# RoIAlign did not; `aligned=True` does.
#
# A map that holds the truth settles it: let each pixel say where its middle lies. A box from 2 to 10 with 4 bins should
# then answer 3, 5, 7, 9, the middles of the bins.
#
# The Keras code reads with TensorFlow's `crop_and_resize`, another rule. It knows one sample per bin; the first of $n$
# lies on the box's first corner and the last on its last corner: at index $u_1 + i\,(u_2 - u_1)/(n - 1)$. Corners come
# as fractions of the way from the first pixel's middle to the last one's, so of 15 steps in a map of 16. One may divide
# the box by 16, or, as matterport's code does, take its first and last *pixel*, 2 and 9, as the corners.
#
# **On paper first.** What does RoIAlign answer without the half pixel? And what does matterport's rule answer, which
# reads indices from 2 to 9 with 4 samples? (Index 2 holds 2.5.)

# %%
middles = np.tile(np.arange(16) + 0.5, (16, 1))[None, :, :, None]
ten = np.array([[2.0, 2, 10, 10]])
answers = {
    "RoIAlign, aligned = True": roi_align(middles, ten, one, output_size=4, spatial_scale=1.0, aligned=True)[0],
    "RoIAlign, aligned = False": roi_align(middles, ten, one, output_size=4, spatial_scale=1.0, aligned=False)[0],
    "crop_and_resize, box / 16": crop_and_resize(middles, ten / 16, one, output_size=4)[0],
    "crop_and_resize, matterport": crop_and_resize(middles, normalise_boxes(ten, (16, 16)), one, output_size=4)[0],
}
answers = {name: values[0, 0, :, 0] for name, values in answers.items()}
assert np.allclose(answers["RoIAlign, aligned = True"], [3, 5, 7, 9])
assert np.allclose(answers["RoIAlign, aligned = False"], [3.5, 5.5, 7.5, 9.5])
assert np.allclose(answers["crop_and_resize, box / 16"], [2.375, 4.875, 7.375, 9.875])
assert np.allclose(answers["crop_and_resize, matterport"], [2.5, 2.5 + 7 / 3, 2.5 + 14 / 3, 9.5])
assert [answers[name].mean() for name in list(answers)[2:]] == [6.125, 6]
for name, row in answers.items():
    print(f"{name:<28}", "  ".join(f"{v:6.3f}" for v in row))

# %% mystnb={"image": {"alt": "Four rows of points on a line from 0 to 16: only aligned RoIAlign hits the middles of the four bins; crop and resize reads the corners of the box."}}
figure = Figure(figsize=(7.5, 2.8), layout="constrained")
ax = figure.subplots()
for edge in (2, 4, 6, 8, 10):
    ax.axvline(edge, color="0.7", lw=1)
for height, row in enumerate(reversed(answers.values())):
    ax.plot(row, [height] * 4, "o", color=COLOURS[3 - height])
ax.plot([3, 5, 7, 9], [4] * 4, "k|", markersize=14)
names = [*reversed(answers), "middles of the bins"]
ax.set(yticks=range(5), yticklabels=names, xlim=(0, 12), xlabel="x in pixels, as areas")
show(figure)

# %% [markdown]
# *Figure 8.3. What a box from 2 to 10 reads of a map that tells the truth.*
#
# Read the figure row by row. The first row hits every mark. The second has the right distances, 2 cells, and the wrong
# place. The third has neither: its middle is 6.125, not 6. The fourth has the right middle and the wrong distances:
# $7/3$ cells, not 2.
#
# Without the half pixel everything is read half a cell too far down and to the right. At stride 32 that is 16 pixels of
# the image. `crop_and_resize` spreads its points too wide, and no shift can mend that. It is not RoIAlign, whatever the
# layer is called. Who does what:
#
# | | half pixel | samples of a bin | a bin is |
# |---|---|---|---|
# | torchvision's models | no | 2 × 2 | their mean |
# | detectron2 | yes | as many as cells | their mean |
# | the Keras code | `crop_and_resize` | one | that sample |
# | this book's network | yes | 2 × 2 | their mean |
#
# The same trap in the example of 108.16: the box that hits the point without the half pixel misses it with it.
#
# **On paper first.** With the half pixel the point (1.4, 1.7) moves to (0.9, 1.2). Columns 0 and 1 of row 1 hold 0 and
# 100, those of row 2 hold 0 and 110. What is read there?

# %%
with_it, _ = roi_align(plane, at_the_point, one, aligned=True, **single)
without, _ = roi_align(plane, at_the_point, one, aligned=False, **single)
moved, _ = roi_align(plane, at_the_point + 0.5, one, aligned=True, **single)
used = [presets.torchvision(), presets.detectron2(), network().config]
assert [(c.roi_aligned, c.roi_sampling_ratio) for c in used] == [(False, 2), (True, 0), (True, 2)]
assert presets.matterport().roi_method == "crop_and_resize" and {c.roi_reduce for c in used} == {"mean"}
assert np.isclose(with_it.item(), 0.8 * 0.9 * 100 + 0.2 * 0.9 * 110)
print(f"aligned=False {without.item():.2f}; aligned=True {with_it.item():.2f}; moved by a half {moved.item():.2f}")
assert np.allclose([without.item(), moved.item()], 108.16) and not np.isclose(with_it.item(), 108.16)

# %% [markdown]
# **Exercise 8.3.** Write where the samples of one axis lie, in cells: all `bins * g` of them, in order. `low` and `high`
# are pixels of the image. With `aligned` half a cell is subtracted. Without it there is a rule more: the first RoIAlign
# took every box to be at least one cell wide.


# %% tags=["exercise-8.3"]
def sample_places(low, high, bins, g, scale, aligned):
    raise NotImplementedError


check("8.3", sample_places)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def sample_places(low, high, bins, g, scale, aligned):
#     start = low * scale - (0.5 if aligned else 0.0)
#     side = (high - low) * scale
#     if not aligned:
#         side = max(side, 1.0)
#     return start + (np.arange(bins * g) + 0.5) * side / (bins * g)
# ```
#
# The samples are the middles of `bins * g` equal parts: no loop over bins is needed.
# </details>
#
# **Exercise 8.4.** Now all of it, for one box and one channel: `bins` × `bins` numbers, each the mean of `g` × `g`
# samples, half pixel included, with the rule for the border.


# %% tags=["exercise-8.4"]
def align(plane, box, bins, g, scale):
    raise NotImplementedError


check("8.4", align)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def align(plane, box, bins, g, scale):
#     size = np.array(plane.shape)
#     start, end = np.array(box[:2]) * scale - 0.5, np.array(box[2:]) * scale - 0.5
#     out = np.zeros((bins, bins))
#     for p, q, i, j in np.ndindex(bins, bins, g, g):
#         at = start + (np.array([p, q]) + (np.array([i, j]) + 0.5) / g) * (end - start) / bins
#         if (at < -1).any() or (at > size).any():
#             continue  # far outside: 0
#         y, x = np.clip(at, 0, size - 1)
#         top, left = int(y), int(x)
#         bottom, right = min(top + 1, size[0] - 1), min(left + 1, size[1] - 1)
#         ly, lx = y - top, x - left
#         above = (1 - lx) * plane[top, left] + lx * plane[top, right]
#         below = (1 - lx) * plane[bottom, left] + lx * plane[bottom, right]
#         out[p, q] += ((1 - ly) * above + ly * below) / (g * g)
#     return out
# ```
#
# Both axes have the same formula, so `at` holds both. A sample far outside adds 0, but the mean still counts it.
# </details>
#
# ## Which map?
#
# A pyramid has four maps to read from, P2 to P5. An object should cover about as many cells whether it is large or small;
# so a large box is read from a coarse map. For a box of $h \times w$ pixels of the image as the network sees it, the
# level is
#
# $$k = \Bigl\lfloor 4 + \log_2 \frac{\sqrt{wh}}{224} \Bigr\rfloor, \quad 2 \le k \le 5.$$
#
# A box of 224 pixels, the size of ImageNet's pictures, belongs to P4: 14 cells of stride 16. Half the side is one level
# finer. The Keras code rounds instead of cutting off. (It also writes the formula for boxes in fractions of the image,
# with the square root of the image's area; that only changes the unit.)
#
# Our images have 128 pixels, so with 224 all objects would be read from P2 and P3. This book's network therefore has 56
# in place of 224. Which anchor finds an object, and from which map it is read, are two rules that know nothing of each
# other.
#
# **On paper first.** Boxes of 112, 224, 320 and 447 pixels, cut off and rounded? And a box of 56 pixels, once with 224
# and once with 56 in the formula?

# %%
sides = np.array([56, 111.9, 112, 224, 320, 447, 448])
boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
floor, rounded = roi_level(boxes), roi_level(boxes, rounding="round")
assert floor.tolist() == [2, 2, 3, 4, 4, 4, 5] and rounded.tolist() == [2, 3, 3, 4, 5, 5, 5]
assert 4 + np.log2(0.25 / (224 / 448)) == 3  # the slides' example: a quarter of 448 pixels is 112
config = network().config
own_level = roi_level(scene().gt_boxes.astype(float), canonical_size=config.roi_canonical_size)
assert config.roi_canonical_size == 56 and roi_level(boxes[:1], canonical_size=56) == [4]
assert 224 / 16 == 14 and own_level.tolist() == [2, 2, 3, 4, 3]  # the five objects of the book's image
print("side     " + "".join(f"{s:>8g}" for s in sides))
print("cut off  " + "".join(f"{'P' + str(k):>8}" for k in floor))
print("rounded  " + "".join(f"{'P' + str(k):>8}" for k in rounded))
print("a side of 56 pixels with 56 in place of 224: P4; the five objects of our image:", [f"P{k}" for k in own_level])

# %% mystnb={"image": {"alt": "The white circle of the book's image: its box on the image, the samples on a map of P3, the 7 by 7 bins of RoIAlign, smooth, and those of RoIPool, blocky and shifted."}}
model, picture = network(), make_batch([scene()], config).images
p3 = model.first_stage(picture)[0][1][0]  # (16, 16, 48): stride 8
p3 = p3[..., p3.var(axis=(0, 1)).argmax()][None, :, :, None].astype(float)
circle = scene().gt_boxes[2:3].astype(float)
smooth, _ = roi_align(p3, circle, one, output_size=7, spatial_scale=1 / 8)
blocky, _ = roi_pool(p3, circle, one, output_size=7, spatial_scale=1 / 8)
_ = ledger.expect("the circle, 7 x 7", smooth, (1, 7, 7, 1))
assert 5.5 < (circle[0, 3] - circle[0, 1]) / 8 < 6 and circle[0, 3] == 69 < 8 * np.floor(69 / 8 + 0.5) == 72
figure = Figure(figsize=(8.4, 2.5), layout="constrained")
axes = figure.subplots(1, 4)
axes[0].imshow(scene().image)
axes[1].imshow(p3[0, :, :, 0], cmap="Greys")
for ax, unit in zip(axes, (1, 8)):  # pixel i is drawn from i - 0.5 to i + 0.5
    y1, x1, y2, x2 = circle[0] / unit - 0.5
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=COLOURS[1], lw=2))
y, x = (low + (np.arange(14) + 0.5) * (high - low) / 14 for low, high in ((y1, y2), (x1, x2)))
axes[1].scatter(*np.meshgrid(x, y), s=2, color=COLOURS[1])
low, high = min(smooth.min(), blocky.min()), max(smooth.max(), blocky.max())
axes[2].imshow(smooth[0, :, :, 0], cmap="Greys", vmin=low, vmax=high)
axes[3].imshow(blocky[0, :, :, 0], cmap="Greys", vmin=low, vmax=high)
for ax, title in zip(axes, ("the box", "P3 and the samples", "RoIAlign, 7 × 7", "RoIPool, 7 × 7")):
    ax.set(title=title, xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 8.4. The white circle of the book's image, read from one channel of P3, whose cells have 8 pixels. The box is just
# under 6 cells wide, fewer than its 7 bins. RoIPool must give whole cells to each bin, so neighbouring bins share
# cells; and as it rounds 69 / 8 to 9 and counts cell 9 in, its last column reaches to pixel 80, though the box ends at
# 69. RoIAlign reads between the cells and ends where the box ends.*
#
# ## The way back
#
# Forward, bin $b$ is $y_b = \sum_i W_{bi} F_i$ over the pixels $i$ that it reads. So $\partial y_b/\partial F_i = W_{bi}$.
# A pixel may be read by several bins, and by the chain rule it receives the sum over all of them,
#
# $$dF_i = \sum_b \frac{\partial y_b}{\partial F_i}\,dy_b = \sum_b W_{bi}\,dy_b, \qquad\text{that is,}\qquad dF = W^\top dy.$$
#
# In words: every bin hands its gradient to the pixels it has read, in proportion to the same weights. Written as a loop
# it is the forward loop with the assignment turned around: where forward says `value += w * F[pixel]`, backward says
# `dF[pixel] += w * dy`.
#
# RoIPool is simpler: a bin is one of its cells, so that cell gets the whole gradient and the others nothing.
#
# **On paper first.** The point (1.4, 1.7) of above receives the gradient 10. What do its four pixels get? What do they
# get together?

# %%
_, kept = roi_align(plane, at_the_point, one, aligned=False, **single)
sent = roi_align_backward(np.full((1, 1, 1, 1), 10.0), kept)[0, :, :, 0]
assert np.allclose(sent[1:3, 1:3], [[1.8, 1.2], [4.2, 2.8]]) and np.isclose(sent.sum(), 10)
print("the four pixels get", sent[1:3, 1:3].round(6).tolist(), "together 10")

# %% [markdown]
# **Exercise 8.5.** Write the backward pass of one bilinear reading inside the map: add to `dplane`, in place, what the
# point `(y, x)` sends back when its gradient is `dy`.


# %% tags=["exercise-8.5"]
def value_at_backward(dy, dplane, y, x):
    raise NotImplementedError


check("8.5", value_at_backward)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def value_at_backward(dy, dplane, y, x):
#     top, left = int(np.floor(y)), int(np.floor(x))
#     ly, lx = y - top, x - left
#     bottom, right = min(top + 1, dplane.shape[0] - 1), min(left + 1, dplane.shape[1] - 1)
#     dplane[top, left] += (1 - ly) * (1 - lx) * dy
#     dplane[top, right] += (1 - ly) * lx * dy
#     dplane[bottom, left] += ly * (1 - lx) * dy
#     dplane[bottom, right] += ly * lx * dy
# ```
#
# `+=`, four times: on the last column `left` and `right` are one pixel, and it must receive both.
# </details>

# %%
source(roi_align_backward)

# %% [markdown]
# The two lines behind `winner is None` are the mean: $W^\top dy$, and the same for boxes with very many samples. The rest
# serves the largest sample, where only the winner gets a gradient.
#
# Two proofs. A linear operation and its transpose satisfy $\langle Wx, dy\rangle = \langle x, W^\top dy\rangle$ to the
# last digits, whatever the numbers are. And central differences along random directions, as in every chapter.

# %%
dy = rng.normal(size=in_numpy.shape)
with kernels.use("numpy"):
    dfeatures = roi_align_backward(dy, cache)
ledger.expect("their gradient", dfeatures, features.shape)
assert np.isclose((in_numpy * dy).sum(), (features * dfeatures).sum(), rtol=1e-12)
compiled, on_card = on_both(roi_align_backward, dy, cache)
close("NumPy and the compiled kernel, float32", compiled, dfeatures, tolerance=1e-5)
close("the compiled kernel and CUDA's, simulated", on_card, compiled, tolerance=1e-5)


def aligned_bins(f):
    y, kept = roi_align(f, rois, index, **options)
    return y, lambda d: roi_align_backward(d, kept)


def pooled_cells(f):
    y, kept = roi_pool(f, rois, index, output_size=3, spatial_scale=1 / 8)
    return y, lambda d: roi_pool_backward(d, kept)


check_gradients(aligned_bins, features, rng=rng, tol=1e-6)
check_gradients(pooled_cells, features, rng=rng, tol=1e-6)
print("adjoint and finite differences agree")

# %% [markdown]
# RoIPool's four texts, forward and backward. Both kernels go back with the cache of the compiled forward pass: the cache
# has one form, whichever text made it.

# %%
by_loop, _ = naive_roi.roi_pool(features, rois, index, (3, 3), 1 / 8, "caffe")
close("RoIPool, loop and package", pooled_cells(features)[0], by_loop)
(compiled, kept), (on_card, _) = on_both(roi_pool, features, rois, index, output_size=3, spatial_scale=1 / 8)
back, back_card = on_both(roi_pool_backward, dy, kept)
close("RoIPool, loop and compiled, float32", compiled, by_loop, tolerance=1e-6)
close("RoIPool, the compiled kernel and CUDA's, simulated", on_card, compiled, tolerance=1e-6)
close("RoIPool backward, package and compiled, float32", back, pooled_cells(features)[1](dy), tolerance=1e-6)
close("RoIPool backward, the compiled kernel and CUDA's, simulated", back_card, back, tolerance=1e-6)

# %% [markdown]
# No gradient goes to the *box*. It exists, for the samples move with the box, but the proposals are constants here: the
# region proposal network has its own loss, and letting the heads pull on the boxes as well is not what the paper trains.
# This is the "stop gradient" of the Keras code.
#
# ## Trace every number
#
# Drag the box, or focus it and use the arrow keys (with Shift ten steps at once); the round handle changes its size, the
# square one chooses a pixel. Every number can be followed in both directions:
#
# - *Forward.* The first table is one bin: its samples, the four pixels that each of them reads with weight and value,
#   and the mean. Choose "weights of the traced bin": the numbers are one row of $W$, and they add up to 1.
# - *Three results.* Below, the four bins by each of the three rules, and what each rule sends back.
# - *Backward.* The last table is one pixel: which samples have read it, with which weight, and what they send. Their sum
#   is the pixel's number in the map of gradients. If every bin has the gradient 1, it is a column sum of $W$.
#
# Switch the half pixel off and watch all points move. Make the box as small as a cell, or push it to the border.
#
# **On paper first.** Each of the four bins has the gradient 1. What do all pixels together receive under each of the
# three rules? How many pixels receive something from RoIPool, at most?

# %%
small = np.array([[3, 8, 2, 0, 1, 4, 7], [1, 9, 6, 2, 0, 3, 5], [0, 4, 12, 10, 3, 1, 2],
                  [2, 1, 11, 15, 8, 2, 0], [5, 0, 3, 9, 13, 6, 1], [7, 2, 0, 4, 7, 9, 3]], float)  # fmt: skip
start, flat, plain = np.array([[1.3, 1.7, 4.6, 5.2]]), small[None, :, :, None], {"output_size": 2, "spatial_scale": 1.0}
results = {
    "aligned = True": (*roi_align(flat, start, one, aligned=True, **plain), roi_align_backward),
    "aligned = False": (*roi_align(flat, start, one, aligned=False, **plain), roi_align_backward),
    "RoIPool": (*roi_pool(flat, start, one, **plain), roi_pool_backward),
}
_ = ledger.expect("bins of the live picture", results["aligned = True"][0], (1, 2, 2, 1))
panels = {"the map and the samples": small}
for name, (bins, kept, backward) in results.items():
    panels[f"{name}\n" + "  ".join(f"{v:.2f}" for v in bins.ravel())] = backward(np.ones_like(bins), kept)[0, :, :, 0]
back = list(panels.values())[1:]
assert np.allclose([b.sum() for b in back], 4) and (back[2] > 0).sum() <= 4 < (back[0] > 0).sum()

# %% mystnb={"image": {"alt": "The start of the live picture: a map with a box and sixteen samples, and three maps of gradients: RoIAlign with and without the half pixel spreads them over many pixels, RoIPool gives them to at most four."}}
figure = Figure(figsize=(8.4, 5.6), layout="constrained")
y1, x1, y2, x2 = start[0] - 0.5  # pixel i is drawn from i - 0.5 to i + 0.5
for ax, (title, values) in zip(figure.subplots(2, 2).ravel(), panels.items()):
    ax.imshow(values, cmap="Greys", vmin=0, vmax=values.max() * 1.6)
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=COLOURS[0], lw=2))
    for y, x in np.ndindex(6, 7):
        shown = f"{values[y, x]:.2f}".removesuffix(".00") if values[y, x] else ""
        ax.text(x, y, shown, ha="center", va="center", fontsize=8)
    ax.set_title(title, fontsize=10)
    ax.set(xticks=[], yticks=[])
places = ((np.arange(4) + 0.5) / 4 * (end - begin) + begin for begin, end in ((x1, x2), (y1, y2)))
figure.axes[0].scatter(*np.meshgrid(*places), s=14, color=COLOURS[1])
show(figure)

# %% [markdown]
# *Figure 8.5. The start of the live picture below: the map, and three times the gradient that it receives if every bin has
# the gradient 1. Above each, its four bins.*

# %%
explorable("roi_align", map=small, box=start[0])

# %% [markdown]
# ## Break it
#
# How much does rounding cost? Take the trained network of this book and the held-out images, and give its mask head the
# true boxes: once as they are, and three times rounded to cells of the map that they are read from. *Nearest*: each edge
# to the nearest edge of a cell. *Cut off*: each edge down, as the slides do. *Libraries*: corners to the nearest cell,
# the last cell counted in, which is RoIPool's first rounding. Compare the loss of the masks (chapter 11; smaller is
# better). Nothing else changes: the targets are those of the true boxes, and batch norm uses the statistics it has
# learned, as in inference, so nothing in the network moves.
#
# **On paper first.** An object reaches from pixel 9 to 29 and is read from P2, stride 4. Which pixels does each of the
# three rules read? How wide is that?

# %% tags=["break-it"]
held_out = open_dataset("shapes", DATA / "shapes", "val")
batch = make_batch([held_out.load(i) for i in range(len(held_out))], config)
before = {name: value.copy() for name, value in model.params.items()}
maps = model.first_stage(batch.images)[0]
boxes, classes = np.concatenate(batch.gt_boxes), np.concatenate(batch.gt_class_ids)
where = np.repeat(np.arange(len(batch.gt_boxes)), [len(b) for b in batch.gt_boxes])
goals = [mask_targets(b, np.arange(len(b)), b, m, config) for b, m in zip(batch.gt_boxes, batch.gt_masks)]


def mask_loss(read_from):
    features, _ = model.roi_features(maps, read_from, where, config.mask_pool_size, batch.images.shape)
    logits, _ = mask_head(features, model.params, config)
    painted = logits[np.arange(len(classes)), :, :, classes] > 0  # a probability of more than one half
    truth = np.concatenate(goals)
    return head_mask_loss(logits, classes, truth)[0], painted.mean() / (truth >= 0.5).mean()


def rounded(boxes, stride):
    nearest, cut = np.floor(boxes / stride + 0.5), np.floor(boxes / stride)
    read = {"exact": boxes / stride, "nearest": nearest, "cut off": cut, "libraries": np.add(nearest, [0, 0, 1, 1])}
    return {name: (cells * stride).astype(np.float32) for name, cells in read.items()}


# %%
paper = rounded(np.array([[9, 9, 29, 29]]), 4)
assert [b[0, 1:4:2].tolist() for b in paper.values()] == [[9, 29], [8, 28], [8, 28], [8, 32]]  # 24 wide, not 20
stride = 2.0 ** roi_level(boxes, canonical_size=56)[:, None]
both = {name: mask_loss(read) for name, read in rounded(boxes, stride).items()}
losses, painted = ({name: pair[i] for name, pair in both.items()} for i in (0, 1))
assert len(boxes) == 84 and losses["nearest"] > 1.5 * losses["exact"] and losses["libraries"] > 4 * losses["exact"]
assert abs(painted["libraries"] - 2 / 3) < 0.05 and abs(painted["exact"] - 1) < 0.1
assert all(np.array_equal(before[name], model.params[name]) for name in before)
print(
    "8 to 28, 8 to 28, and 8 to 32: four pixels too wide; by the libraries' rule the loss is more than four times as high"
)

# %% mystnb={"image": {"alt": "Bars: the mask loss of the trained network with exact boxes, boxes rounded to the nearest edge, cut off, and by the rule of the libraries, which is the largest."}}
figure = Figure(figsize=(6, 2.6), layout="constrained")
ax = figure.subplots()
ax.barh(list(losses)[::-1], [v / losses["exact"] for v in losses.values()][::-1], color=[COLOURS[1]] * 3 + [COLOURS[0]])
ax.set(xlabel="loss of the masks, 1 = that of exact boxes")
show(figure)

# %% [markdown]
# *Figure 8.6. The price of the first rounding, for 84 objects. Even the nearest edge costs half of the loss more. The
# rule of the libraries makes every box about a cell larger than it is, and the mask is drawn too small: with about
# two thirds of the cells that it should have. The loss is more than four times as high, for this network is sure of
# its cells and pays much for each that is wrong. It has never seen rounded boxes; one trained with them would learn
# to live with the blur, and the paper measured what is left then: 26.9 mask AP with RoIPool against 30.3 with
# RoIAlign at stride 16.*
#
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | RoIAlign reads "5 feature scales" | four, P2 to P5; P6 serves the proposal network only |
# | a bin is the largest of its four samples | the mean, in every framework; the paper found them equal |
# | "interpolate to 14 × 14, then pool to 7 × 7" | a shortcut of one repository, not the operation |
# | 0.8 of a cell is "nearly 30 pixels" | 25.6 at stride 32, and the remainder of the example is 25 |
# | the level formula with the square root of the image's area is the paper's | it is the Keras code's, for boxes in fractions of the image |
# | the point (1.4, 1.7) is a sample of the box | it lies on the box's left edge and is none of the sixteen |
# | `crop_and_resize` is RoIAlign | one sample per bin, spread from corner to corner |
#
# ## Do you remember?
#
# <details><summary>Q1. Why do the heads need a fixed number of bins?</summary>Their weights are fixed: a fully connected layer has one row for each input number, and regions of a batch are computed together.</details>
# <details><summary>Q2. Which two things does RoIPool round?</summary>The corners of the box, and the edges of the bins.</details>
# <details><summary>Q3. Are cells lost when bins are cut by floor and ceiling?</summary>No; neighbouring bins share cells instead.</details>
# <details><summary>Q4. What are the four weights of a point, as areas?</summary>Each is the rectangle between the point and the opposite pixel.</details>
# <details><summary>Q5. How many pixels does a bin read with a sampling ratio of 2?</summary>At most 16; fewer if its samples share pixels.</details>
# <details><summary>Q6. What does aligned=True subtract, and why?</summary>Half a cell: boxes are measured in areas, interpolation in indices.</details>
# <details><summary>Q7. How far off is a map of stride 16 without it?</summary>8 image pixels.</details>
# <details><summary>Q8. Why is crop_and_resize no RoIAlign?</summary>Its outer samples lie on the corners of the box, and it takes one sample per bin.</details>
# <details><summary>Q9. What is the backward pass of a linear operation?</summary>Its transpose: each input receives the gradients of the outputs it went into, with the same weights.</details>
# <details><summary>Q10. Why is it `+=` in the backward pass?</summary>Several bins, and several samples of a bin, read the same pixel.</details>
# <details><summary>Q11. Why does no gradient reach the box?</summary>Proposals are constants by decision; the proposal network has a loss of its own.</details>
# <details><summary>Q12. From which level is a box of 320 pixels read?</summary>P4 by the paper's formula, P5 if the logarithm is rounded.</details>
# <details><summary>Q13. What does a sample 0.3 cells outside of the map read, and one 1.3 cells outside?</summary>The border pixel; 0.</details>
