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
# *Mirrors:* the slides' "RoIAlign (roi level)" and "RoIAlign (crop resize)", the notes' paragraph on quantisation, and the
# articles' 8 × 8 example. What is wrong in them stands at the end.
#
# A proposal is a box with fractional corners, of any size, anywhere in the image. The heads behind it are ordinary
# layers: they want 7 × 7 numbers per channel, always. Somebody has to cut a piece of any size out of the feature map and
# hand it on as a fixed grid. That is all this chapter is about. It takes a whole chapter because the piece does not
# begin where a cell begins, and because a mask that is read half a cell off is drawn half a cell off.

# %%
import naive_roi
import numpy as np
from gradcheck import check_gradients
from helpers import COLOURS, Ledger, check, close, explorable, network, scene, show, source
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import kernels
from mrcnn_np.molding import make_batch
from mrcnn_np.ops.crop_and_resize import crop_and_resize
from mrcnn_np.ops.roi_align import bilinear_interpolate, roi_align, roi_align_backward
from mrcnn_np.ops.roi_pool import roi_pool
from mrcnn_np.pyramid import normalise_boxes, roi_level

ledger, one = Ledger(), np.zeros(1, int)  # every box below lies in image 0

# %% [markdown]
# ## Two roundings
#
# RoIPool, of Fast R-CNN, does the obvious thing: round the box to whole cells, cut it into bins of whole cells, keep the
# largest number of each bin. It rounds twice.
#
# **On paper first.** A box is 665 pixels wide and the map has one cell for every 32 pixels. How wide is the box on the
# map? How wide if we keep whole cells only? With 7 bins of whole cells, how many cells of the box are read?

# %%
width = 665 / 32
assert width == 20.78125 and int(width) == 20
assert int(20 / 7) == 2 and 7 * 2 == 14  # six of the twenty cells are never read
assert 665 - 20 * 32 == 25  # pixels lost by the first rounding alone
assert 15 * 25 / 128 == 2.9296875  # the other example: a box of 15 pixels, an image of 128, a map of 25 cells
print(f"{width} cells, cut to 20; 20 / 7 = {20 / 7:.3f}, cut to 2: 14 of 20 cells are read, {6 * 32} pixels are not")

# %% [markdown]
# Twenty-five pixels are lost by the first rounding and 192 by the second. In a picture of a person that is an arm.
#
# That arithmetic follows the slides, which cut off. The real kernels *round* the corners, count both ends in, and let
# neighbouring bins share a cell, so that no cell is lost. On the 8 × 8 map that half the web copies, both rules can be
# seen at once. The box covers rows 3 to 7 and columns 0 to 6, and has 2 × 2 bins.
#
# **On paper first.** Cut the 5 rows as 2 + 3 and the 7 columns as 3 + 4, and take the largest number of each of the four
# bins.

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
print("bins as the kernels cut:", caffe[0, :, :, 0].tolist())


# %% mystnb={"image": {"alt": "Two 8 by 8 maps. Left: the box cut into four bins without overlap. Right: the bins of the kernels share a row and a column."}}
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
bins_on(axes[1], "the kernels: bins share a row and a column", [(3, 6), (5, 8)], [(0, 4), (3, 7)])
show(figure)

# %% [markdown]
# *Figure 8.1. The same box under two rules. Right, the upper bins are rows 3, 4, 5 and the lower ones 5, 6, 7.*
#
# Where the rule differs, the answer differs: 0.84 or 0.96. Whoever compares two frameworks begins here.
#
# **Exercise 8.1.** Write the kernels' rule for one axis: from the rounded first and last cell, both counted in, return
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
# With $y = \lfloor y \rfloor + l_y$ and $x = \lfloor x \rfloor + l_x$,
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
# The four weights are areas: 0.18 is the rectangle between the point and the *opposite* corner. They are all there is to
# know about the backward pass, too, as we shall see.
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
# ## Sixteen points
#
# Now the box. Cut it into bins, without rounding. Put $g \times g$ points into each bin, at the centres of its $g \times
# g$ equal parts. Read each point, take the mean. That is RoIAlign. With $g = 2$ (the frameworks call it
# `sampling_ratio`) a bin is the mean of four numbers, each of which is the weighted mean of four pixels.
#
# Sample $i$ of bin $p$ lies at
#
# $$s + p\,b + \frac{(i + \tfrac12)\,b}{g},$$
#
# where $s$ is where the box begins and $b$ how large a bin is, in cells.
#
# **On paper first.** The slides' box goes from 1.4 to 3.25 in x and from 0.95 to 4.15 in y, with 2 × 2 bins. Where are
# the four columns and four rows of samples?

# %%
parts = (np.arange(4) + 0.5) / 4  # two bins of two samples: four equal parts
columns, rows = 1.4 + parts * (3.25 - 1.4), 0.95 + parts * (4.15 - 0.95)
assert np.allclose(columns, [1.63125, 2.09375, 2.55625, 3.01875])
assert np.allclose(rows, [1.35, 2.15, 2.95, 3.75])

ramp = np.arange(30.0).reshape(1, 6, 5, 1)  # value 5 y + x: a sample reads where it lies
box = np.array([[0.95, 1.4, 4.15, 3.25]])  # (y1, x1, y2, x2)
pooled, _ = roi_align(ramp, box, one, output_size=2, spatial_scale=1.0, aligned=False)
ledger.expect("four bins of the ramp", pooled, (1, 2, 2, 1))
assert np.allclose(pooled[0, :, :, 0], [[10.6125, 11.5375], [18.6125, 19.5375]])
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
# Three texts of the same operation. First the loop, one number at a time, as it stands in the tests; you could have
# written it by now.

# %%
source(naive_roi.roi_align)

# %% [markdown]
# Then the package. Its body looks different for a reason: the mean of bilinear samples is *linear* in the map, so the
# whole operation is one sparse matrix $W$ with a row for each bin, and $y = W F$. Rows of $W$ hold the weights of the 16
# pixels that a bin reads, divided by four. Last, the compiled kernel, which never builds $W$ and runs along the channels.

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
with kernels.use("cpu"):
    compiled, _ = roi_align(features.astype(np.float32), rois, index, **options)
close("NumPy and the compiled kernel, float32", compiled, in_numpy, tolerance=1e-6)

# %% [markdown]
# ## The largest or the mean?
#
# The slides and articles take the *largest* of a bin's samples, the frameworks their mean; the paper tried both and found
# no difference worth a line (table 2c). But "largest" hides a second question: the largest of the four interpolated
# values, or the largest of the *weighted pixels*? ONNX's operator says the latter.

# %%
at_the_point = np.array([[0.9, 1.2, 1.9, 2.2]])  # its centre is the point (1.4, 1.7) of above
largest, _ = roi_align(
    corners[None, :, :, None], at_the_point[:, [1, 0, 3, 2]], one,
    output_size=1, spatial_scale=1.0, sampling_ratio=1, aligned=False, reduce="max",
)  # fmt: skip
of_weighted = max(w * q for w, q in zip(weights.ravel(), (100, 105, 110, 112)))
assert np.isclose(largest.item(), 108.16) and np.isclose(of_weighted, 46.2)
print(f"interpolate, then the largest: {largest.item():.2f}; the largest weighted pixel: {of_weighted:.1f}")

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
# **On paper first.** What does RoIAlign answer without the half pixel?

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
assert np.allclose(answers["crop_and_resize, matterport"], [2.5, 4.8333333, 7.1666667, 9.5])
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
# Read the figure row by row. The first row hits every mark. The second has the right distances and the wrong place. The
# lower two have the right middle and the wrong distances: their points lie further apart than the middles of the bins.
#
# Without the half pixel everything is read half a cell too far to the right. At stride 32 that is 16 image pixels.
# `crop_and_resize`, which the Keras code uses, puts its first and last sample *on* the corners of the box: its points are
# spread too wide, and no shift can mend that. It is not RoIAlign, whatever the layer is called.
#
# The same trap in the example of 108.16: the box that hits the point without the half pixel misses it with it.

# %%
same_box = at_the_point[:, [1, 0, 3, 2]]
options_1 = {"output_size": 1, "spatial_scale": 1.0, "sampling_ratio": 1}
without, _ = roi_align(corners[None, :, :, None], same_box, one, aligned=False, **options_1)
with_it, _ = roi_align(corners[None, :, :, None], same_box, one, aligned=True, **options_1)
moved, _ = roi_align(corners[None, :, :, None], same_box + 0.5, one, aligned=True, **options_1)
print(f"aligned=False {without.item():.2f}; aligned=True {with_it.item():.2f}; moved by a half {moved.item():.2f}")
assert np.allclose([without.item(), moved.item()], 108.16) and not np.isclose(with_it.item(), 108.16)

# %% [markdown]
# **Exercise 8.3.** Write where the samples of one axis lie, half pixel included: all `bins * g` of them, in order.


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
# The old operation also makes every box at least one cell wide; the new one does not.
# </details>
#
# ## Which map?
#
# A pyramid has four maps to read from. A large box is read from a coarse one:
#
# $$k = \Bigl\lfloor 4 + \log_2 \frac{\sqrt{wh}}{224} \Bigr\rfloor, \quad 2 \le k \le 5.$$
#
# A box of 224 pixels, the size of ImageNet's pictures, belongs to P4. Half the side is one level finer. The Keras code
# rounds instead of cutting off.
#
# **On paper first.** Boxes of 112, 224, 320 and 447 pixels, cut off and rounded?

# %%
sides = np.array([56, 111.9, 112, 224, 320, 447, 448])
boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
floor, rounded = roi_level(boxes), roi_level(boxes, rounding="round")
assert floor.tolist() == [2, 2, 3, 4, 4, 4, 5] and rounded.tolist() == [2, 3, 3, 4, 5, 5, 5]
assert 4 + np.log2(0.25 / (224 / 448)) == 3  # the slides' example: a quarter of 448 pixels is 112
print("side     " + "".join(f"{s:>8g}" for s in sides))
print("cut off  " + "".join(f"{'P' + str(k):>8}" for k in floor))
print("rounded  " + "".join(f"{'P' + str(k):>8}" for k in rounded))

# %% [markdown]
# ## The way back
#
# Forward, a bin is $y = \sum_i w_i F_i$ over the pixels it reads. So $\partial y/\partial F_i = w_i$: every bin hands its
# gradient to the pixels it has read, in proportion to the same weights. A pixel that several bins have read receives the
# sum. With the matrix, $dF = W^\top dy$, and that is the whole derivation.
#
# Written as a loop it is the forward loop with the assignment turned around: where forward says
# `value += w * F[pixel]`, backward says `dF[pixel] += w * dy`.
#
# **Exercise 8.4.** Write the backward pass of one bilinear reading: add to `dplane`, in place, what the point `(y, x)`
# sends back when its gradient is `dy`.


# %% tags=["exercise-8.4"]
def value_at_backward(dy, dplane, y, x):
    raise NotImplementedError


check("8.4", value_at_backward)

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
# Two proofs. A linear operation and its transpose satisfy $\langle Wx, dy\rangle = \langle x, W^\top dy\rangle$ to the
# last digits, whatever the numbers are. And central differences along random directions, as in every chapter.

# %%
dy = rng.normal(size=in_numpy.shape)
with kernels.use("numpy"):
    dfeatures = roi_align_backward(dy, cache)
ledger.expect("their gradient", dfeatures, features.shape)
assert np.isclose((in_numpy * dy).sum(), (features * dfeatures).sum(), rtol=1e-12)


def aligned_bins(f):
    y, kept = roi_align(f, rois, index, **options)
    return y, lambda d: roi_align_backward(d, kept)


check_gradients(aligned_bins, features, rng=rng, tol=1e-6)
print("adjoint and finite differences agree")

# %% [markdown]
# No gradient goes to the *box*. It exists, for the samples move with the box, but the proposals are constants here: the
# region proposal network has its own loss, and letting the heads pull on the boxes as well is not what the paper trains.
# This is the "stop gradient" of the Keras code.
#
# ## Trace every number
#
# Drag the box, or focus it and use the arrow keys (with Shift ten steps at once); the round handle changes its size. One
# bin is traced: each row of the first table is a sample, with the weight and value of the four pixels it reads. Switch
# the half pixel off and watch all points move. Let the cells show the gradient: the numbers are the column sums of $W$.

# %% mystnb={"image": {"alt": "The feature map of the live picture: a box, its samples, and the gradient that each pixel receives."}}
small = np.array([[3, 8, 2, 0, 1, 4, 7], [1, 9, 6, 2, 0, 3, 5], [0, 4, 12, 10, 3, 1, 2],
                  [2, 1, 11, 15, 8, 2, 0], [5, 0, 3, 9, 13, 6, 1], [7, 2, 0, 4, 7, 9, 3]], float)  # fmt: skip
start = np.array([[1.3, 1.6, 4.5, 5.2]])
bins, kept = roi_align(small[None, :, :, None], start, one, output_size=2, spatial_scale=1.0)
back = roi_align_backward(np.ones_like(bins), kept)[0, :, :, 0]
ledger.expect("bins of the live picture", bins, (1, 2, 2, 1))
assert np.isclose(back.sum(), 4)  # four bins, each of whose weights add up to 1
figure = Figure(figsize=(8, 3.4), layout="constrained")
for ax, picture, title in zip(figure.subplots(1, 2), (small, back), ("values", "gradient of the sum of the bins")):
    ax.imshow(picture, cmap="Greys", vmin=0, vmax=picture.max() * 1.6)
    ax.add_patch(Rectangle((1.1, 0.8), 3.6, 3.2, fill=False, color=COLOURS[0], lw=2))
    for y, x in np.ndindex(6, 7):
        ax.text(x, y, f"{picture[y, x]:.2g}" if picture[y, x] else "", ha="center", va="center", fontsize=8)
    ax.set(title=title, xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 8.4. The start of the live picture below. Each bin spreads a gradient of 1 over the pixels it reads.*

# %%
explorable("roi_align", map=small, box=start[0])

# %% [markdown]
# ## Break it
#
# How much does rounding cost? Take the trained network of this book, give its mask head the same true boxes twice, once
# as they are and once rounded to whole cells of the map they are read from, as RoIPool's first rounding does, and look
# at the loss of the masks. Nothing else changes, not even the weights.

# %% tags=["break-it"]
model, batch = network(), make_batch([scene()], network().config)
losses, cache_whole = model.losses(batch, np.random.default_rng(0))
targets = cache_whole.targets
exact = model.losses(batch, np.random.default_rng(0), targets=targets)[0]["head_mask"]


class Rounded(type(model)):
    def roi_features(self, pyramid, rois, image_index, output_size, image_shape):
        level = roi_level(rois, canonical_size=self.config.roi_canonical_size)
        stride = 2.0 ** level[:, None]
        return super().roi_features(pyramid, np.round(rois / stride) * stride, image_index, output_size, image_shape)


broken = Rounded(model.config, model.params).losses(batch, np.random.default_rng(0), targets=targets)[0]["head_mask"]
assert broken > 1.05 * exact
print("rounding the boxes to cells makes the loss of the masks larger by more than a twentieth")

# %% mystnb={"image": {"alt": "Bars: the mask loss of the trained network with exact boxes and with boxes rounded to cells; the second is larger."}}
figure = Figure(figsize=(5, 2.4), layout="constrained")
ax = figure.subplots()
ax.barh(["rounded to cells", "as they are"], [broken / exact, 1], color=[COLOURS[1], COLOURS[0]])
ax.set(xlabel="loss of the masks, 1 = that of exact boxes")
show(figure)

# %% [markdown]
# *Figure 8.5. The price of one rounding. The network has never seen rounded boxes; one trained with them would learn to
# live with the blur, and the paper measured what is left then: 26.9 mask AP with RoIPool against 30.3 with RoIAlign at
# stride 16.*
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
