# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Convolution, batch norm, pooling
#
# After this chapter you can write the three operations that a backbone is made of, forward and backward, say which
# pixels an output has read under any padding, and fold a norm into the convolution in front of it.
#
# *Mirrors* ([five texts](00_map.ipynb), which you need not know): the slides' chain "convolution → bn → relu", the walk
# through the Keras code ("512 kernels of 3 × 3", "3 × 3, normalise, relu"), and every `padding='same'` in them. They
# use these operations and explain none.
#
# A *map* is a picture with any number of channels. Arrays here have four axes, `(N, H, W, C)`: images of the batch, rows,
# columns, channels. The molded image of this book has shape (1, 128, 128, 3).

# %%
from functools import partial

import naive
import numpy as np
from gradcheck import adjoint_error, check_gradients
from helpers import COLOURS, Ledger, check, close, explorable, network, on_both, scene, show, source
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import kernels
from mrcnn_np import MaskRCNN
from mrcnn_np.backbone import backbone
from mrcnn_np.molding import make_batch
from mrcnn_np.ops import conv
from mrcnn_np.ops.conv import conv2d, conv2d_backward, conv2d_transpose, conv2d_transpose_backward
from mrcnn_np.ops.fused import conv2d_fused
from mrcnn_np.ops.norm import batch_norm, batch_norm_backward
from mrcnn_np.ops.pool import max_pool2d, max_pool2d_backward

ledger, rng = Ledger(), np.random.default_rng(0)
model = network()
config, params = model.config.replace(bn_mode="frozen"), model.params
images = ledger.expect("the molded image", make_batch([scene()], config).images, (1, 128, 128, 3))

# %% [markdown]
# ## A window and a sum
#
# Lay a small table of weights, the *kernel*, over a part of the map. Multiply each weight with the number under it. Add
# the products. Move on and do it again, with the same weights. That is a convolution.
#
# Two things follow. An output knows only its window. And what is learned at one place holds at all places.
#
# $$y[p, q, o] = b[o] + \sum_{i, j, c} x[p\,s + i,\; q\,s + j,\; c]\; w[i, j, c, o]$$
#
# $(p, q)$ is the place of an output. $(i, j)$ is a place in the kernel, a *tap*. The *stride* $s$ is the step between
# windows; chapter 0's strides, 4 to 64, are such steps multiplied. The *bias* $b$ is one number for each output channel.
# Each output channel $o$ has a kernel of its own, and each kernel has a weight for every input channel $c$: channels are
# summed, not kept apart.
#
# **On paper first.** Four equal rows hold 1, 1, 5, 5. The kernel has the rows (−1, 0, 1), (−2, 0, 2), (−1, 0, 1). What are
# the four sums? What if the kernel is turned by 180 degrees first, as mathematicians do?

# %%
edge = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
step = np.tile([1.0, 1, 5, 5], (4, 1))
sums, _ = conv2d(step[None, :, :, None], edge[:, :, None, None])
turned, _ = conv2d(step[None, :, :, None], edge[::-1, ::-1, None, None])
assert np.array_equal(sums[0, :, :, 0], [[16, 16], [16, 16]])
assert np.array_equal(turned, -sums)
print("the sums:", sums[0, :, :, 0].tolist())

# %% [markdown]
# Each row gives 5 − 1 = 4, and the rows count 1 + 2 + 1 times: 16. Every framework leaves the kernel as it is. Strictly
# that is a cross-correlation; nobody calls it so. It matters when weights come from code that does turn the kernel, as
# `scipy.signal.convolve` does.

# %% mystnb={"image": {"alt": "The scene in grey, its vertical edges found by one kernel, and the scene blurred by another."}}
grey = scene().image.mean(axis=-1)[None, :, :, None]
edges, _ = conv2d(grey, edge[:, :, None, None], padding=1)
blurred, _ = conv2d(grey, np.full((7, 7, 1, 1), 1 / 49), padding=3)
ledger.expect("edges of the scene", edges, (1, 128, 128, 1))
figure = Figure(figsize=(6.6, 2.5), layout="constrained")
pictures = {"the scene, grey": grey, "edge kernel, 3 x 3": np.abs(edges), "mean of 7 x 7": blurred}
for ax, (title, picture) in zip(figure.subplots(1, 3), pictures.items()):
    ax.imshow(picture[0, :, :, 0], cmap=colormaps["gray"].resampled(16))
    ax.set(title=title, xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 2.1. Two kernels made by hand. In the middle the size of the sum is shown, without its sign. The network's
# kernels are learned.*
#
# ## How large, and where?
#
# A kernel of $k$ fits $H - k + 1$ times into $H$ cells. Now put $l$ zeros before the cells and $r$ behind them, the
# *padding*, and take only every $s$-th window. The output has
#
# $$\left\lfloor \frac{l + H + r - k}{s} \right\rfloor + 1$$
#
# cells. PyTorch's `padding=1` says $l = r = 1$. The documents say `padding='same'`: as many zeros as it takes for
# $\lceil H / s \rceil$ cells. Solve the formula for them: $l + r = (\lceil H / s \rceil - 1)\,s + k - H$, or 0 if that is
# negative. If the number is odd, the extra zero goes *behind*. For a kernel of 3 and stride 1 the two rules agree.
#
# **On paper first.** A side of 128, a kernel of 3, a stride of 2. How many zeros does "same" add, and where? How many cells
# come out under either rule? And for 1024 under a kernel of 7, stride 2, three zeros on each side?


# %%
def side(cells, kernel, stride, before, after):
    return (before + cells + after - kernel) // stride + 1


needed = (128 // 2 - 1) * 2 + 3 - 128
assert needed == 1 and (needed // 2, needed - needed // 2) == (0, 1)
assert side(128, 3, 2, 1, 1) == side(128, 3, 2, 0, 1) == 64
assert side(1024, 7, 2, 3, 3) == 512
# a map that says where it is: kernel 3 with a 1 in the middle, stride 2
places = np.arange(8.0).reshape(1, 1, 8, 1)
middle = np.array([0.0, 1, 0]).reshape(1, 3, 1, 1)
one_each, _ = conv2d(places, middle, stride=(1, 2), padding=((0, 0), (1, 1)))
same, _ = conv2d(places, middle, stride=(1, 2), padding=((0, 0), (0, 1)))
assert one_each.ravel().tolist() == [0, 2, 4, 6] and same.ravel().tolist() == [1, 3, 5, 7]
print("middles, one on each side:", one_each.ravel(), "same:", same.ravel())

# %% mystnb={"image": {"alt": "A row of eight cells with four windows of three. With one zero on each side the windows are centred on cells 0, 2, 4, 6; with same padding on 1, 3, 5, 7."}}
figure = Figure(figsize=(7.5, 2.9), layout="constrained")
for ax, (title, before) in zip(figure.subplots(2, 1), {"one zero on each side": 1, "same: one zero behind": 0}.items()):
    for cell in range(-1, 9):
        real = 0 <= cell < 8
        ax.add_patch(Rectangle((cell - 0.5, 0), 1, 1, fill=False, ls="-" if real else ":", color="0.5"))
        ax.text(cell, 0.5, cell if real else "", ha="center", va="center")
    for p in range(4):
        start, height = 2 * p - before - 0.5, 1.15 + 0.3 * (p % 2)
        ax.plot([start + 0.1, start + 2.9], [height] * 2, color=COLOURS[p], lw=3)
        ax.plot(start + 1.5, height, "o", color=COLOURS[p])
    ax.set(xlim=(-1.6, 8.6), ylim=(-0.1, 1.7), xticks=[], yticks=[], title=title)
show(figure)

# %% [markdown]
# *Figure 2.2. The same sizes, other places. Dots are the middles of the windows.*
#
# Both rules give 64 cells, so no shape tells them apart. Yet under "same" every output, and all that follows from it,
# looks one input cell further on. The Keras code pools its stem with "same", torchvision with one on each side; weights
# trained under one rule see a shifted image under the other (`stem_pool_padding`). Note also what one on each side means:
# output $p$ looks around cell $p \cdot s$, the *first* of the $s$ cells that it stands for, not their middle.
#
# **Exercise 2.1.** Predict how many windows read each cell of a row: return `cells` counts.


# %% tags=["exercise-2.1"]
def times_read(cells, kernel, stride, before, after):
    raise NotImplementedError


check("2.1", times_read)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def times_read(cells, kernel, stride, before, after):
#     count = np.zeros(cells, int)
#     for start in range(-before, cells + after - kernel + 1, stride):
#         count[max(start, 0) : max(start + kernel, 0)] += 1
#     return count
# ```
#
# A slice that ends behind the array stops at its end, so only the front needs care.
# </details>
#
# ## Four programs for one sum
#
# The loop first (chapter 1 has said which four). Seven `for`, one product at a time. Read `groups` as 1; groups come later
# in this chapter.

# %%
source(naive.conv2d)

# %% [markdown]
# NumPy has no fast loop, but it has a fast matrix product. So write every window as a *row*. The kernel, in the same
# order, becomes a column, one for each output channel. Then $Y = XW$: all windows at once. This is "im2col", image to
# columns (here they are rows).
#
# **Exercise 2.2.** Write it for a map of one channel without padding: one row per window, windows in reading order.


# %% tags=["exercise-2.2"]
def window_rows(plane, kernel, stride):
    raise NotImplementedError


check("2.2", window_rows)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def window_rows(plane, kernel, stride):
#     rows, columns = plane.shape
#     found = []
#     for p in range((rows - kernel) // stride + 1):
#         for q in range((columns - kernel) // stride + 1):
#             window = plane[stride * p : stride * p + kernel, stride * q : stride * q + kernel]
#             found.append(window.ravel())
#     return np.array(found)
# ```
# </details>
#
# With channels nothing changes but the length of a row: $k \cdot k \cdot C$. A `view` of the windows costs no memory; the
# copy into rows does.
#
# **On paper first.** P2 of a picture of 1024 pixels is 256 × 256 with 256 channels, in float32. How many MiB is it, and
# how many its rows for a 3 × 3 kernel? The proposal network's "512 kernels of 3 × 3" run over it: how many weights, how
# many multiplications?


# %%
def rows_of(x, kernel, stride):
    """(N, H', W', kernel * kernel * C): what each window holds."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    # (N, H', W', C, kernel, kernel): channels go last, the order of the weights
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(*windows.shape[:3], -1)


assert 256 * 256 * 256 * 4 == 64 * 2**20 and 9 * 64 == 576
assert 3 * 3 * 256 * 512 + 512 == 1_180_160
assert 256 * 256 * 9 * 256 * 512 == 77_309_411_328
print(f"P2: {256 * 256 * 256 * 4 // 2**20} MiB, its rows: {9 * 64} MiB")

# %% mystnb={"image": {"alt": "Left a map of 4 by 4 numbers with one window framed; right the matrix of its four windows as rows of nine, with the row of that window framed."}}
tiny = np.arange(16.0).reshape(1, 4, 4, 1)
as_rows = rows_of(tiny, 3, 1).reshape(4, 9)
assert as_rows[1].tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11] and (as_rows == 5).any(axis=1).all()
figure = Figure(figsize=(8, 2.7), layout="constrained")
axes = figure.subplots(1, 2, width_ratios=[4, 9])
for ax, numbers, title in zip(axes, (tiny[0, :, :, 0], as_rows), ("map", "one row for each window of 3 x 3")):
    ax.imshow(numbers, cmap="Greys", vmin=0, vmax=30)
    for i, j in np.ndindex(numbers.shape):
        ax.text(j, i, f"{numbers[i, j]:g}", ha="center", va="center")
    ax.set(title=title, xticks=[], yticks=[])
axes[0].add_patch(Rectangle((0.52, -0.48), 2.94, 2.96, fill=False, color=COLOURS[1], lw=3))
axes[1].add_patch(Rectangle((-0.48, 0.52), 8.96, 0.96, fill=False, color=COLOURS[1], lw=3))
show(figure)

# %% [markdown]
# *Figure 2.3. The second window is the second row. Number 5 stands in all four rows.*
#
# Nine times the memory is the price. So the package makes the rows block by block and throws them away:

# %%
source(conv._gather)

# %% [markdown]
# The compiled kernel makes no rows. It goes over the windows like the loop, a vector of channels at a time. (For some 3 × 3
# layers it forms the sums in another way, Winograd's, which needs fewer products: equal in real numbers, not to the last
# bit.) On a graphics card a block of threads owns a tile of the output, and each thread adds up its cells of it. The text is
# long; chapter 4 shows a short one. All of them on a small input, two maps of 7 × 8 cells:

# %%
x, w, b = rng.normal(size=(2, 7, 8, 6)), rng.normal(size=(3, 3, 6, 4)), rng.normal(size=4)
padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
ours = ledger.expect("the test's output", rows_of(padded, 3, 2) @ w.reshape(-1, 4) + b, (2, 4, 4, 4))
options = {"stride": 2, "padding": 1}
with kernels.use("numpy"):
    in_numpy, cache = conv2d(x, w, b, **options)
loop = naive.conv2d(x, w, b, stride=(2, 2), padding=((1, 1), (1, 1)))
(compiled, _), (on_card, _) = on_both(conv2d, x, w, b, **options)
close("this chapter and the package", ours, in_numpy)
close("loop and NumPy, float64", loop, in_numpy)
close("NumPy and the compiled kernel, float32", compiled, in_numpy, tolerance=1e-5)
close("the compiled kernel and CUDA's, simulated", on_card, compiled, tolerance=1e-5)

# %% [markdown]
# ## The way back
#
# A loss $L$ depends on $y$. Someone behind us hands over its derivative by every output. We write $dy$ for this array,
# short for $\partial L / \partial y$, and likewise $dx$, $dw$, $db$. These three we owe: $dx$ to whoever made the map, $dw$
# and $db$ to the optimiser. What the forward pass must remember for that is called the *cache*; here it is $x$ and $w$.
#
# By the chain rule, $dx$ at a pixel is the sum over all outputs that have read it, of $dy$ times the derivative of the
# output by the pixel. An output is a sum of products $x \cdot w$, so this derivative is $w$. For a weight it is $x$. So read
# the forward loop again and turn the assignment around, with `row = p * s + i - l` and `column` likewise:
#
# | forward | backward |
# |---|---|
# | `y[p, q, o] += x[row, column, c] * w[i, j, c, o]` | `dx[row, column, c] += dy[p, q, o] * w[i, j, c, o]` |
# | | `dw[i, j, c, o] += dy[p, q, o] * x[row, column, c]` |
# | `y[p, q, o] += b[o]` | `db[o] += dy[p, q, o]` |
#
# A pixel collects from all windows that have read it. A weight collects from all places, because it was used at all
# places. Padding would receive a gradient, too; nobody wants it, and it is left out.
#
# **On paper first.** One row, $x = (1, 2, 3)$, and one kernel, $w = (10, 20)$; no bias, no padding, stride 1. What is $y$?
# Then $dy = (1, 2)$ arrives. What are $dx$, $dw$, $db$?


# %%
def loop_backward(dy, x, w, stride, before):
    dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros(w.shape[3])
    for n, p, q, o in np.ndindex(dy.shape):
        db[o] += dy[n, p, q, o]
        for i, j, c in np.ndindex(w.shape[:3]):
            row, column = p * stride + i - before, q * stride + j - before
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                dx[n, row, column, c] += dy[n, p, q, o] * w[i, j, c, o]
                dw[i, j, c, o] += dy[n, p, q, o] * x[n, row, column, c]
    return dx, dw, db


x3, w2 = np.array([1.0, 2, 3]).reshape(1, 1, 3, 1), np.array([10.0, 20]).reshape(1, 2, 1, 1)
assert conv2d(x3, w2)[0].ravel().tolist() == [50, 80]
three = loop_backward(np.array([1.0, 2]).reshape(1, 1, 2, 1), x3, w2, 1, 0)
assert [g.ravel().tolist() for g in three] == [[10, 40, 40], [5, 8], [3]]
print("dx, dw, db:", *(g.ravel().tolist() for g in three))

# %% [markdown]
# The middle pixel went into both outputs: $1 \cdot 20 + 2 \cdot 10 = 40$. The first weight has met the pixels 1 and 2:
# $1 \cdot 1 + 2 \cdot 2 = 5$.
#
# With matrices it goes faster. From $Y_{ro} = \sum_k X_{rk} W_{ko}$ follows $dW_{ko} = \sum_r X_{rk}\, dY_{ro}$, that is $dW =
# X^\top dY$. In the same way $dX = dY\,W^\top$, which holds, row by row, what each window sends back. Adding these rows
# where they came from is "col2im". Here are the loop, this chapter's matrices, the package in NumPy, and its two kernels.
# From here on several arrays are compared at once, and a line of output speaks for all of them.


# %%
def in_row(ours, theirs):
    """All numbers of several arrays in a row, each array divided by its largest number: small ones count as much."""
    largest = [np.abs(right).max() for right in theirs]
    return [np.concatenate([np.ravel(a) / m for a, m in zip(side, largest)]) for side in (ours, theirs)]


def all_alike(names, in_numpy, compiled, on_card, tolerance=1e-5):
    close(f"{names}: NumPy and the compiled kernel, float32", *in_row(compiled, in_numpy), tolerance=tolerance)
    close(f"{names}: the compiled kernel and CUDA's, simulated", *in_row(on_card, compiled), tolerance=tolerance)


dy = rng.normal(size=in_numpy.shape)
with kernels.use("numpy"):
    in_numpy_back = conv2d_backward(dy, cache)
compiled, on_card = on_both(conv2d_backward, dy, cache)
close("dx, dw, db: loop and NumPy, float64", *in_row(loop_backward(dy, x, w, 2, 1), in_numpy_back))
all_alike("dx, dw, db", in_numpy_back, compiled, on_card)
dx, dw, _ = in_numpy_back
flat = rows_of(padded, 3, 2).reshape(-1, 3 * 3 * 6)
close("dw is X^T dY", (flat.T @ dy.reshape(-1, 4)).reshape(w.shape), dw)
ledger.expect("dx", dx, x.shape)
_ = ledger.expect("dw", dw, w.shape)

# %% [markdown]
# **On paper first.** A row of 8 cells, kernel 3, stride 2, one zero on each side. All weights and all $dy$ are 1. What
# gradient does each cell receive? (Exercise 2.1 has counted it.) In two dimensions, which three values occur? And under a
# 1 × 1 kernel with stride 2, what part of the pixels receives anything?

# %%
ones = np.ones((1, 8, 8, 1))
y, kept = conv2d(ones, np.ones((3, 3, 1, 1)), **options)
counts = conv2d_backward(np.ones_like(y), kept)[0][0, :, :, 0]
row = np.array([1, 2, 1, 2, 1, 2, 1, 1])
assert np.array_equal(counts, np.outer(row, row)) and np.unique(counts).tolist() == [1, 2, 4]
y, kept = conv2d(ones, np.ones((1, 1, 1, 1)), stride=2)
holes = conv2d_backward(np.ones_like(y), kept)[0][0, :, :, 0]
assert holes.mean() == 0.25
print("gradient of the first two rows:", *counts[:2].astype(int), sep="\n")

# %% mystnb={"image": {"alt": "Gradients of an 8 by 8 map: a checkerboard of 1, 2 and 4 under a 3 by 3 kernel with stride 2; under 1 by 1 with stride 2 three quarters of the pixels get none."}}
figure = Figure(figsize=(7, 3.3), layout="constrained")
for ax, picture, title in zip(figure.subplots(1, 2), (counts, holes), ("3 x 3, stride 2", "1 x 1, stride 2")):
    ax.imshow(picture, cmap="Oranges", vmin=0, vmax=6)
    for i, j in np.ndindex(8, 8):
        ax.text(j, i, f"{picture[i, j]:g}", ha="center", va="center")
    ax.set(title=title, xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 2.4. Where a gradient of 1 per output lands when all weights are 1.*
#
# Strides deal unevenly. The right half is what a projection of the next chapter does to its input.
#
# **Exercise 2.3.** Write $dx$ for one channel, without padding: from `dy`, the kernel `w`, the stride, and the shape of
# the map.


# %% tags=["exercise-2.3"]
def map_gradient(dy, w, stride, shape):
    raise NotImplementedError


check("2.3", map_gradient)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def map_gradient(dy, w, stride, shape):
#     dx, (k, _) = np.zeros(shape), w.shape
#     for p in range(dy.shape[0]):
#         for q in range(dy.shape[1]):
#             dx[p * stride : p * stride + k, q * stride : q * stride + k] += dy[p, q] * w
#     return dx
# ```
#
# Each output stamps the kernel, times its gradient, onto its window.
# </details>
#
# ## Stamps
#
# Read the solution as a forward pass: every number stamps a kernel, times itself, onto a larger map.
#
# $$y[p\,s + i,\; q\,s + j,\; o] \mathrel{+}= x[p, q, c]\; w[i, j, c, o]$$
#
# That is the *transposed convolution* of the mask head ("deconvolution"). It is not an inverse. It is the same matrix,
# transposed: what the backward pass of a convolution does to $dy$. So its own backward pass is a convolution. The last of
# $H$ stamps begins at $(H - 1)\,s$ and is $k$ long, so there are $(H - 1)\,s + k$ cells.
#
# **On paper first.** The mask head has 14 × 14 cells, a kernel of 2 and a stride of 2. How large is the result, and do
# stamps overlap? And with a kernel of 3?


# %%
def stamping(x, w, b):
    y, kept = conv2d_transpose(x, w, b, stride=2)
    return y, lambda d: conv2d_transpose_backward(d, kept)


for k, most in ((2, 1), (3, 4)):  # how many stamps meet in one cell
    counts, _ = conv2d_transpose(np.ones((1, 14, 14, 1)), np.ones((k, k, 1, 1)), stride=2)
    assert counts.shape[1] == 13 * 2 + k == {2: 28, 3: 29}[k] and counts.max() == most
    cells, stamp, offset = rng.normal(size=(2, 3, 4, 6)), rng.normal(size=(k, k, 6, 4)), rng.normal(size=4)
    with kernels.use("numpy"):
        stamped, back = stamping(cells, stamp, offset)
        dstamped = rng.normal(size=stamped.shape)
        gradients = back(dstamped)
        check_gradients(stamping, cells, stamp, offset, rng=rng, tol=1e-6)
    close(f"{k} x {k}: loop and NumPy, float64", naive.conv2d_transpose(cells, stamp, offset), stamped)
    close("its dx is a convolution", naive.conv2d(dstamped, stamp.swapaxes(2, 3), stride=(2, 2)), gradients[0])
    (y32, kept), (on_card, _) = on_both(conv2d_transpose, cells, stamp, offset)
    back32, back_card = on_both(conv2d_transpose_backward, dstamped, kept)
    all_alike("y, dx, dw, db", (stamped, *gradients), (y32, *back32), (on_card, *back_card))

# %% [markdown]
# (`swapaxes` exchanges the two axes of channels: what was the input is the output now.) `check_gradients` has compared
# all three gradients with finite differences, to a relative error of $10^{-6}$.
#
# ## Two checks
#
# A linear operation $A$ and its transpose, its *adjoint*, satisfy $\langle Ax, dy\rangle = \langle x, A^\top dy\rangle$ for all
# $x$ and $dy$, where $\langle a, b\rangle$ is the sum of all $a \cdot b$: both sides are the same products in another order. No
# step size is needed, and the two sides agree to the last digits.
#
# Finite differences work for any operation. Take $L = \langle y, dy\rangle$ with a random $dy$: one number. Move $x$ by a tiny
# step $\epsilon v$ in a random direction $v$. Then $L$ must change by $\epsilon\,\langle dx, v\rangle$.
#
# We include *groups*: two convolutions side by side, each with its half of the input channels and its half of the output
# channels, which ResNeXt will need.

# %%
for stride, padding, groups in ((1, 1, 1), (2, 1, 1), (2, ((0, 1), (0, 1)), 1), (2, 1, 2)):
    how = {"stride": stride, "padding": padding, "groups": groups}

    def convolution(x, w, b, how=how):
        y, kept = conv2d(x, w, b, **how)
        return y, lambda d: conv2d_backward(d, kept)

    weights = rng.normal(size=(3, 3, 6 // groups, 4))
    y, kept = conv2d(x, weights, **how)
    forward = partial(conv2d, w=weights, **how)
    error = adjoint_error(
        lambda v, f=forward: f(v)[0], lambda d, k=kept: conv2d_backward(d, k)[0], x.shape, y.shape, rng
    )
    assert error < 1e-14
    check_gradients(convolution, x, weights, b, rng=rng, tol=1e-6)
print("four conventions: adjoint and finite differences agree")

# %% [markdown]
# ## Trace every number
#
# First the start of the live picture as it stands. The loss is the sum of all outputs, so every $dy$ is 1.
#
# **On paper first.** The framed window of figure 2.5 has the rows (4, 6, 2), (7, 9, 5), (8, 9, 6). What is its output under
# the edge kernel? An inner pixel has been read by nine outputs, with each weight once. What gradient does it get? And with
# which numbers has the *middle* weight been multiplied?

# %% mystnb={"image": {"alt": "A map of 5 by 6 numbers with a window of 3 by 3, the map of the sums with the output of that window, the gradients of the pixels, which are 0 inside, and the gradients of the nine weights."}}
start = np.array([[1.0, 0, 2, 3, 1, 0], [0, 1, 4, 6, 2, 1], [2, 3, 7, 9, 5, 1], [1, 4, 8, 9, 6, 2], [0, 2, 5, 7, 4, 1]])
live, kept = conv2d(start[None, :, :, None], edge[:, :, None, None], padding=1)
back, dkernel, _ = conv2d_backward(np.ones_like(live), kept)
assert live[0, 2, 3, 0] == -8 and back[0, 2, 3, 0] == edge.sum() == 0
assert dkernel[1, 1, 0, 0] == start.sum() == 97  # each pixel once
figure = Figure(figsize=(8, 2.2), layout="constrained")
panels = {"x": start, "y": live[0, :, :, 0], "dx": back[0, :, :, 0], "dw": dkernel[:, :, 0, 0]}
axes = figure.subplots(1, 4, width_ratios=[6, 6, 6, 3])
for ax, (title, numbers) in zip(axes, panels.items()):
    ax.imshow(np.abs(numbers), cmap="Greys", vmin=0, vmax=2 * np.abs(numbers).max())
    for i, j in np.ndindex(numbers.shape):
        ax.text(j, i, f"{numbers[i, j] + 0.0:.0f}", ha="center", va="center", fontsize=8)
    ax.set(title=title, xticks=[], yticks=[])
axes[0].add_patch(Rectangle((1.5, 0.5), 3, 3, fill=False, color=COLOURS[1], lw=3))
axes[1].add_patch(Rectangle((2.5, 1.5), 1, 1, fill=False, color=COLOURS[1], lw=3))
show(figure)

# %% [markdown]
# *Figure 2.5. The edge kernel, stride 1, one ring of zeros; the loss is the sum of y. Framed: an output and its window.*
#
# Now choose *any* number: click it, or go to its array with Tab and use the arrow keys. The numbers it came from are framed.
# Their products stand at the bottom; choose one of them in the same way. Enter goes on to its first factor, Shift and
# Enter to the second, Backspace comes back. Keys + and − change a number that is given, and the picture compares what
# the loss did with what the gradient had said.
#
# - Choose a corner of `dx`, then an inner pixel. Why four products, why nine?
# - Set the loss to half the sum of squares, whose derivative is $y$ itself. Go from a number of `dx` to `dy`, to `y`, to
#   `x`: this is the chain rule, walked through.
# - Choose a border pixel of `x` and press +. Under the sum the gradient is exactly right. Under the squares it is not: why?
# - Take the kernel of ones and stride 2, and find the checkerboard of figure 2.4 in `dx`.
# - With stride 2, change the padding from "one" to "same" and watch the window move by one cell.

# %%
explorable("convolution", map=start, kernels={"edge": edge, "ones": edge * 0 + 1, "one tap": np.pad([[1]], 1)})

# %% [markdown]
# A corner has been read by four windows only; the other five would lie outside. The sum is linear in every pixel, so its
# gradient holds for a whole step, too. A square bends: its gradient holds for small steps.
#
# ## Batch norm
#
# Layers behind a convolution would like numbers of a known size. Batch norm makes them so: per channel, subtract the mean
# $\mu$, divide by the deviation $\sigma$, then let the network choose its own scale and shift.
#
# $$\sigma = \sqrt{v + \epsilon}, \quad \hat x = \frac{x - \mu}{\sigma}, \quad y = \gamma \hat x + \beta.$$
#
# $v$ is the variance; the small $\epsilon$ guards against a division by 0. The question is *whose* mean and variance. In
# training they can be those of the batch, over the $M = N \cdot H \cdot W$ numbers of a channel. For inference *running*
# averages are kept: `mean ← 0.9 mean + 0.1 µ`. PyTorch calls the new value's share, 0.1, momentum. Keras calls the old
# value's share momentum; its default is 0.99. The running variance is the unbiased one: the squares are divided by $M - 1$,
# not by $M$.
#
# **On paper first.** One channel holds 0, 0, 6, 6; $\gamma = 1$, $\beta = 0$, $\epsilon = 0$. What are $\mu$, $\sigma$,
# $\hat x$? What do the running mean 0 and variance 1 become?

# %%
four = np.array([[0.0], [0], [6], [6]])
gamma, beta, mean, var = np.ones(1), np.zeros(1), np.zeros(1), np.ones(1)
normed, kept = batch_norm(four, gamma, beta, mean, var, training=True, eps=0.0)
assert four.mean() == 3 and four.std() == 3 and normed.ravel().tolist() == [-1, -1, 1, 1]
assert np.isclose(four.var(ddof=1), 12) and np.allclose([mean[0], var[0]], [0.3, 2.1])  # 0.9 + 0.1 * 12
print("normalised", normed.ravel(), "running mean 0.3, variance 2.1")

# %% [markdown]
# Now backward. The scale and the shift are like a weight and a bias: $d\gamma = \sum dy\,\hat x$ and $d\beta = \sum dy$. If the
# statistics are *constant*, $dx = dy\,\gamma/\sigma$ and that is all.
#
# If they are the batch's, $x_m$ reaches every $\hat x_l$ in three ways: directly if $l = m$, through $\mu$, and through
# $\sigma$. Through $\mu$: $\partial \mu / \partial x_m = 1/M$. Through $\sigma$: from $v = \frac1M \sum_l (x_l - \mu)^2$
# follows $\partial v / \partial x_m = 2 (x_m - \mu)/M$; that $\mu$ moves as well adds nothing, since the sum of all $x_l - \mu$
# is 0. The root halves it: $\partial \sigma / \partial x_m = (x_m - \mu)/(M \sigma) = \hat x_m / M$. With $[l = m]$ for 1 if
# the indices are equal and 0 if not, the quotient rule gives
#
# $$\frac{\partial \hat x_l}{\partial x_m} = \frac1\sigma\Bigl([l = m] - \frac1M - \frac{\hat x_l \hat x_m}{M}\Bigr).$$
#
# Multiply by $\gamma\,dy_l$ and add over $l$. The bars are means over the channel:
#
# $$dx = \frac\gamma\sigma\Bigl(dy - \overline{dy} - \hat x\,\overline{dy\,\hat x}\Bigr).$$
#
# In words: take from $dy$ its mean and its part along $\hat x$. A gradient that would shift all elements, or stretch them,
# is removed, because normalisation would undo the step.
#
# **On paper first.** For the channel above, $dy = (1, 0, 0, 0)$. What are the two means, and what is $dx$?

# %%
dfour, dgamma, dbeta = batch_norm_backward(np.array([[1.0], [0], [0], [0]]), kept)
assert np.allclose(dfour.ravel(), np.array([1 / 2, -1 / 2, 0, 0]) / 3)  # the means are 1/4 and -1/4, sigma is 3
assert (dgamma, dbeta) == (-1, 1) and np.isclose(dfour.sum(), 0) and np.isclose((dfour * normed).sum(), 0)
print("dx", dfour.ravel().round(4))

# %% [markdown]
# **Exercise 2.4.** Write it for rows `(M, C)`.


# %% tags=["exercise-2.4"]
def norm_gradient(dy, x, gamma, eps):
    raise NotImplementedError


check("2.4", norm_gradient)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def norm_gradient(dy, x, gamma, eps):
#     sigma = np.sqrt(x.var(axis=0) + eps)
#     x_hat = (x - x.mean(axis=0)) / sigma
#     return gamma / sigma * (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0))
# ```
# </details>
#
# The four programs again, and finite differences, under both kinds of statistics:

# %%
x4, scale, shift = rng.normal(3, 2, (2, 4, 5, 3)), rng.uniform(0.5, 2, 3), rng.normal(size=3)
running = np.full(3, 2.5), np.full(3, 3.5)
for training in (True, False):

    def norm(x, gamma, beta, training=training):
        y, kept = batch_norm(x, gamma, beta, *(r.copy() for r in running), training=training)
        return y, lambda d: batch_norm_backward(d, kept)

    check_gradients(norm, x4, scale, shift, rng=rng, tol=1e-6)
    want, _, _ = naive.batch_norm(x4, scale, shift, *running, training=training, eps=1e-5, momentum=0.1)
    in_numpy, back = norm(x4, scale, shift)
    close(f"loop and package, statistics of the {'batch' if training else 'past'}", in_numpy, want)
    dy4 = rng.normal(size=x4.shape)
    (y32, kept), (on_card, _) = on_both(batch_norm, x4, scale, shift, *running, training=training)
    back32, back_card = on_both(batch_norm_backward, dy4, kept)
    all_alike("y, dx, dgamma, dbeta", (want, *back(dy4)), (y32, *back32), (on_card, *back_card))

# %% [markdown]
# If the statistics are the batch's, a bias in front of the norm is useless: the mean takes it away again, and its gradient
# is 0. If they are constant, it only repeats what $\beta$ can do. The Keras code has such biases (`conv_bias`);
# torchvision has none.
#
# With constant statistics the norm is a scale and a shift per channel. So it can be *folded* into the convolution:
# multiply the weights once, and forget the norm. Every inference engine does this.
#
# **Exercise 2.5.** Derive the folded weights and bias.


# %% tags=["exercise-2.5"]
def fold(w, b, gamma, beta, mean, var, eps):
    raise NotImplementedError


check("2.5", fold)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def fold(w, b, gamma, beta, mean, var, eps):
#     scale = gamma / np.sqrt(var + eps)
#     return w * scale, beta + (b - mean) * scale
# ```
#
# Output channels are the last axis of `w`, so the product broadcasts by itself.
# </details>

# %% mystnb={"image": {"alt": "Histograms of one channel of the stem on the scene: the bare convolution, after the norm, and after ReLU, where everything negative has moved to zero."}}
biased = rng.normal(size=4)
plain, with_bias = (conv2d(x, w, b)[0] for b in (None, biased))
stats = [np.ones(4), np.zeros(4)]
normed = [batch_norm(y, *stats, np.zeros(4), np.ones(4), training=True)[0] for y in (plain, with_bias)]
close("a bias in front of a norm", *normed, tolerance=1e-10)
_, kept = batch_norm(with_bias, *stats, np.zeros(4), np.ones(4), training=True)
dbias = batch_norm_backward(rng.normal(size=plain.shape), kept)[0].sum(axis=(0, 1, 2))
assert np.abs(dbias).max() < 1e-12

stem = [params[f"backbone.stem.bn.{s}"] for s in ("gamma", "beta", "mean", "var")]
bare, _ = conv2d(images, params["backbone.stem.conv.w"], **options)
after, _ = batch_norm(bare, *stem, eps=config.bn_eps)
c1 = ledger.expect("C1", np.maximum(after, 0), (1, 64, 64, 16))
channel = int(after.std(axis=(0, 1, 2)).argmax())
figure = Figure(figsize=(8, 2.4), layout="constrained")
for ax, values, title in zip(figure.subplots(1, 3), (bare, after, c1), ("convolution", "batch norm", "ReLU")):
    ax.hist(values[..., channel].ravel(), bins=40, color=COLOURS[0])
    ax.set(title=title, yticks=[])
show(figure)

# %% [markdown]
# *Figure 2.6. One channel of the trained stem on the scene. ReLU keeps what is positive: $\max(x, 0)$, with the gradient
# of 1 or 0.*
#
# Why a ReLU at all? Two linear layers in a row are one linear layer. A 1 × 1 convolution is a matrix $W_1$ that acts on
# the channels of each cell, so it can be multiplied into the kernel in front of it: $(XW)W_1 = X(WW_1)$.

# %%
w1 = rng.normal(size=(1, 1, 4, 5))
close("3 x 3 and then 1 x 1 is one 3 x 3", conv2d(plain, w1)[0], conv2d(x, w @ w1[0, 0])[0])
bent = conv2d(np.maximum(plain, 0), w1)[0]
assert np.abs(bent - conv2d(x, w @ w1[0, 0])[0]).max() > 1

# %% [markdown]
# ## Max pooling
#
# Keep the largest number of each window. Backward, the winner gets all of the window's gradient, the others nothing: a
# small change of a loser changes nothing. On a tie the first in reading order wins, here; another rule is as good, but
# two programs must have the same.
#
# Padding must never win. So it is minus infinity, not zero.
#
# **On paper first.** A map has the rows (1, 2, 3, 4), (5, 9, 1, 2), (3, 4, 6, 1), (0, 2, 1, 7). Kernel 3, stride 2, one ring
# of padding. What are the four maxima? All four $dy$ are 1: where do they go?

# %%
small = np.array([[1.0, 2, 3, 4], [5, 9, 1, 2], [3, 4, 6, 1], [0, 2, 1, 7]])[None, :, :, None]
pool = {"kernel_size": 3, "stride": 2, "padding": 1}
largest, kept = max_pool2d(small, **pool)
dsmall = max_pool2d_backward(np.ones_like(largest), kept)
assert np.array_equal(largest.ravel(), [9, 9, 9, 9])
assert dsmall.sum() == dsmall[0, 1, 1, 0] == 4  # the 9 has won four times
dy4 = rng.normal(size=(2, 4, 4, 6))
want, dwant = naive.max_pool2d(x, dy4, kernel=(3, 3), stride=(2, 2), padding=((1, 1), (1, 1)))
y, kept = max_pool2d(x, **pool)
close("y, dx: loop and package, float64", *in_row((y, max_pool2d_backward(dy4, kept)), (want, dwant)))
(y32, kept), (on_card, _) = on_both(max_pool2d, x, **pool)
back32, back_card = on_both(max_pool2d_backward, dy4, kept)
all_alike("y, dx", (want, dwant), (y32, back32), (on_card, back_card), tolerance=1e-6)


def pooling(x):
    y, kept = max_pool2d(x, **pool)
    return y, lambda d: max_pool2d_backward(d, kept)


check_gradients(pooling, x, rng=rng, tol=1e-6)

# %% [markdown]
# **Exercise 2.6.** Break it: return a 4 × 4 map on which zeros as padding spoil the first of these four outputs, and no
# other.


# %% tags=["exercise-2.6"]
def fools_zero_padding():
    raise NotImplementedError


check("2.6", fools_zero_padding)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def fools_zero_padding():
#     x = np.ones((4, 4))
#     x[:2, :2] = -1
#     return x
# ```
#
# The first window holds the upper left 2 × 2 and padding. Behind a ReLU it could not happen: nothing is negative there.
# </details>
#
# ## The stem
#
# Now the first layers of the network, its *stem*: convolution, norm and ReLU give C1, and the pool brings it to a quarter of
# the image's side. The package does the first three in one step, with the norm folded. It must give what we have computed
# by hand.

# %% mystnb={"image": {"alt": "Three of the sixteen channels of C1 on the scene: one is bright on the background and the square and dark on everything green, two are bright on the circles, the large triangle and the stick."}}
seen = {}
backbone(images, params, config, observe=lambda name, tensor: seen.update({name: tensor.copy()}))
close("C1 by hand and in the network", c1, seen["c1"], tolerance=1e-5)
fused, _ = conv2d_fused(images, params["backbone.stem.conv.w"], norm=(*stem, config.bn_eps), activate=True, **options)
close("in one step", fused, c1, tolerance=1e-5)
ledger.expect("C1, pooled", max_pool2d(c1, **pool)[0], (1, 32, 32, 16))
strongest = np.argsort(c1.std(axis=(0, 1, 2)))[::-1][:3]
figure = Figure(figsize=(8, 2.9), layout="constrained")
for ax, one in zip(figure.subplots(1, 3), strongest):
    ax.imshow(c1[0, :, :, one], cmap="viridis")
    ax.set(title=f"channel {one}", xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 2.7. What three learned kernels find in the scene: one answers to the background and the square, two to the
# circles, the large triangle and the stick.*
#
# ## Break it
#
# Turn all 3 × 3 kernels of the backbone by 180 degrees, as a careless import of weights would. Shapes and sums of the weights
# stay. The losses on the scene, with the same targets:

# %% tags=["break-it"]
batch = make_batch([scene()], config)
losses, kept = MaskRCNN(config, params).losses(batch, np.random.default_rng(0))
flipped = {
    name: p[::-1, ::-1].copy() if name.startswith("backbone") and p.ndim == 4 else p for name, p in params.items()
}
broken, _ = MaskRCNN(config, flipped).losses(batch, np.random.default_rng(0), targets=kept.targets)
before, after = sum(losses.values()), sum(broken.values())
assert after > 5 * before
print("kernels turned: the sum of the five losses grows more than fivefold")

# %% [markdown]
# No assertion about shapes could have seen it; only numbers compared layer by layer do.
#
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | `padding='same'`, without a word on the stride | under a 3 × 3 kernel with stride 2 and an even side it pads only behind; PyTorch's models pad both sides, and every window lies one cell further on |
# | "convolution → bn → relu", the layer's norm like any other | its statistics are constants when these networks are fine-tuned: a scale and a shift |
# | the slides' proposal network: a 3 × 3 convolution and then 1 × 1 convolutions, with nothing between | there is a ReLU between; without it both were one linear layer |
# | the mask head "upsamples" by its deconvolution | nothing is interpolated: each cell stamps a learned kernel of 2 × 2; it is the gradient of a convolution, run forward |
#
# ## Do you remember?
#
# <details><summary>Q1. Which four axes does a map have here?</summary>Images, rows, columns, channels.</details>
# <details><summary>Q2. What does an output channel do with the input channels?</summary>It has a weight for each of them and each tap, and sums all products.</details>
# <details><summary>Q3. Is the kernel turned?</summary>No; it is a cross-correlation.</details>
# <details><summary>Q4. How many cells come out?</summary>(l + H + r − k) // s + 1, with l zeros before and r behind.</details>
# <details><summary>Q5. Where does "same" put its zeros for 128 cells, kernel 3, stride 2?</summary>None before, one behind.</details>
# <details><summary>Q6. What does im2col buy, and for what price?</summary>One matrix product instead of loops; k · k times the memory of the map.</details>
# <details><summary>Q7. What must the forward pass keep for the backward pass?</summary>The map and the weights.</details>
# <details><summary>Q8. Why is a weight's gradient a sum over all places?</summary>The same weight was used at all places.</details>
# <details><summary>Q9. What is dx, as an operation?</summary>A transposed convolution of dy: each output stamps the kernel onto its window.</details>
# <details><summary>Q10. What does batch norm remove from the gradient?</summary>Its mean and its part along the normalised values.</details>
# <details><summary>Q11. And with constant statistics?</summary>Nothing: dx = dy γ / σ.</details>
# <details><summary>Q12. What would Keras' momentum of 0.99 be called in PyTorch?</summary>0.01: the share of the new value.</details>
# <details><summary>Q13. Why minus infinity around a max pool?</summary>Padding must never be the largest.</details>
# <details><summary>Q14. Which derivative has a pixel that four windows have read?</summary>The sum of four products: dy of each window times the weight that lay on the pixel.</details>
