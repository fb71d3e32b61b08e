# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. The feature pyramid
#
# After this chapter you can write the pyramid and its backward pass yourself, say for every cell of every level where its
# number comes from and where its gradient goes, and count the parameters in your head.
#
# *Mirrors* ([five texts](00_map.ipynb), which you need not know): the notes' section on feature pyramid networks with
# its four pyramids (a) to (d), and the slides' `top_down_layer`. What is wrong in them stands at the end.
#
# The backbone of chapter 3 ends in four maps, C2 to C5. Each is half as wide and half as high as the one before; a cell
# of them stands for 4, 8, 16 and 32 pixels. This number is the **stride**. Fine maps come early. A cell of C2 has looked at
# a small piece of the image through few layers: it knows *where* an edge is and little about *what* it belongs to. Coarse
# maps come late. A cell of C5 has looked at most of the image through many layers: it knows what, but where only to
# 32 pixels.
#
# A detector needs both at once, for small objects above all. That is the problem of this chapter.

# %%
from unittest.mock import patch

import naive
import numpy as np
from gradcheck import adjoint_error, check_gradients
from helpers import COLOURS, DATA, Ledger, check, close, kernel_source, network, on_both, scene, show, source
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import kernels
import mrcnn_np.fpn as package
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.backbone import backbone
from mrcnn_np.boxes import iou
from mrcnn_np.compare.trace import trace_ours
from mrcnn_np.data import open_dataset
from mrcnn_np.fpn import fpn, fpn_backward, fpn_spec
from mrcnn_np.molding import make_batch
from mrcnn_np.network import spec
from mrcnn_np.ops.conv import conv2d
from mrcnn_np.ops.resize import upsample_nearest, upsample_nearest_backward
from mrcnn_np.params import draw

# %%
ledger, model, sample = Ledger(), network(), scene()
config, params = model.config, model.params
batch = make_batch([sample], config)
features, _ = backbone(batch.images, params, config)
for k, map_, width in zip((2, 3, 4, 5), features, (24, 48, 64, 96)):
    ledger.expect(f"c{k}", map_, (1, 128 // 2**k, 128 // 2**k, width))

# %% [markdown]
# **On paper first.** The image has 128 × 128 pixels, its smallest object is 19 pixels wide. How many cells wide is the
# object on C2? On C5?

# %%
sides = sample.gt_boxes[:, 2:] - sample.gt_boxes[:, :2]
assert sides.min() == 19 and 19 / 4 == 4.75 and 19 / 32 < 0.6
print(f"{19 / 4} cells of C2, {19 / 32:.2f} of a cell of C5")

# %% mystnb={"image": {"alt": "The image of the book twice, under a grid of 4 pixels and under one of 32 pixels; the small objects fill several fine cells but only part of a coarse one."}}
figure = Figure(figsize=(6.4, 3.4), layout="constrained")
for ax, stride, k in zip(figure.subplots(1, 2), (4, 32), (2, 5)):
    ax.imshow(sample.image, extent=(0, 128, 128, 0))
    ax.set(title=f"C{k}: stride {stride}", xticks=range(0, 129, stride), yticks=range(0, 129, stride))
    ax.tick_params(labelbottom=False, labelleft=False, length=0)
    ax.grid(color="white", lw=0.6)
show(figure)

# %% [markdown]
# *Figure 4.1. What one cell has to stand for. Only the left grid can say where the small circle ends.*
#
# ## Four pyramids
#
# The notes show four answers to the problem.
#
# - **(a) Image pyramid.** Shrink the image several times and run the whole network on each. Right, and slow.
# - **(b) One map.** Use C5 alone, as Faster R-CNN first did. Fast, and blind for small things.
# - **(c) The hierarchy as it is.** Predict from C2, C3, C4, C5. Costs nothing, but C2 does not know what it sees.
# - **(d) Feature pyramid.** Send what C5 knows down to the finer maps, then predict from each.
#
# **On paper first.** A convolution's cost is proportional to the area. If (a) uses sides of 1, 1/2, 1/4 and 1/8, how many
# times the cost of (b) is it? And if small objects ask for one image with sides of 2 in addition?

# %%
areas = [1, 1 / 4, 1 / 16, 1 / 64]
assert sum(areas) == 1.328125 and sum(areas) + 4 == 5.328125
print(f"shrinking only: {sum(areas):.2f} times; with the enlarged one: {sum(areas) + 4:.2f} times")

# %% mystnb={"image": {"alt": "Four diagrams. a: four images of falling size, each with its own map and prediction. b: a pyramid of maps, only the top one predicts. c: every map predicts. d: a second pyramid from the top down, joined by lateral arrows, every level predicts."}}
figure = Figure(figsize=(8.4, 2.9), layout="constrained")
for ax, name in zip(figure.subplots(1, 4), "abcd"):
    for i, width in enumerate((3.2, 2.4, 1.6, 0.8)):
        ax.plot([2.5 - width / 2, 2.5 + width / 2], [i, i], color=COLOURS[0], lw=6, solid_capstyle="butt")
        predicts = name != "b" or i == 3
        if i and name != "a":
            ax.annotate("", (2.5, i - 0.12), (2.5, i - 0.88), arrowprops={"arrowstyle": "->", "color": "0.4"})
        if name == "d":
            ax.plot([7 - width / 2, 7 + width / 2], [i, i], color=COLOURS[1], lw=6, solid_capstyle="butt")
            ax.annotate("", (6.9 - width / 2, i), (2.6 + width / 2, i), arrowprops={"arrowstyle": "->", "color": "0.4"})
            if i:
                ax.annotate("", (7, i - 0.88), (7, i - 0.12), arrowprops={"arrowstyle": "->", "color": "0.4"})
        end = 7 + width / 2 if name == "d" else 2.5 + width / 2
        if predicts:
            ax.annotate("", (end + 1, i), (end + 0.1, i), arrowprops={"arrowstyle": "-|>", "color": COLOURS[2]})
    titles = {"a": "(a) image pyramid", "b": "(b) one map", "c": "(c) hierarchy", "d": "(d) feature pyramid"}
    ax.set(title=titles[name], xlim=(0, 10.5), ylim=(-0.6, 3.6))
    ax.title.set_fontsize(10)
    ax.axis("off")
show(figure)

# %% [markdown]
# *Figure 4.2. Bars are maps, fine below, coarse above; green arrows are predictions. In (a) the bars are images, and each goes
# through the whole network by itself.*
#
# "As fast as (b) and (c)", say the notes of (d). We shall count that, too, when (d) is complete.
#
# ## The way down
#
# Take C5 and C4. They differ in two respects: C4 has twice the sides, and another number of channels. Each gets its own
# remedy.
#
# - **Channels:** a 1 × 1 convolution, the *lateral* one, brings every C to one common number of channels. It mixes channels
#   within a cell and looks at no neighbour.
# - **Sides:** every cell of the coarser map becomes a block of 2 × 2 equal cells. This is *nearest upsampling*.
#
# Then the two are added. With $L_k$ for the lateral convolution and $U$ for upsampling,
#
# $$\begin{aligned} M_5 &= L_5 C_5, \\ M_k &= L_k C_k + U M_{k+1}, \\ P_k &= O_k M_k . \end{aligned}$$
#
# $M$ is the merged map, and $O_k$ a 3 × 3 convolution, the *output* one. Each level has an $L$ and an $O$ of its own. There
# is no ReLU anywhere: the pyramid is linear in its inputs, up to the biases. Keep that in mind for the way back.
#
# **On paper first.** One channel. C5 is the single number 1, C4 is [[1, 2], [3, 4]]. The lateral of C5 doubles, that of C4
# multiplies by ten. What is $M_4$?

# %%
m5 = 2 * np.array([[1.0]])
m4 = 10 * np.array([[1.0, 2], [3, 4]]) + m5.repeat(2, axis=0).repeat(2, axis=1)
assert m4.tolist() == [[12, 22], [32, 42]]
wide = np.array([[1.0, 2], [3, 4]]).reshape(1, 2, 2, 1)
big, big_cache = upsample_nearest(wide)
assert big[0, :, :, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
print("merged:", m4.tolist())

# %% [markdown]
# The loop says it in one line: cell $(p, q)$ of the large map reads cell $(\lfloor p/2 \rfloor, \lfloor q/2 \rfloor)$ of
# the small one.

# %%
source(naive.upsample_nearest)

# %% [markdown]
# And here is the same for a graphics card, in CUDA (chapter 1). This text is one thread's. Its place in the block
# and the block's place in the grid tell it which cell of the small map is its own, and which `width` channels of it (`load`
# and `store` move that many numbers at once). It reads them once and writes all copies. No two threads write to one
# place, so none has to wait. A thread beyond the edge of the map, because blocks are not cut to size, goes home.

# %%
kernel_source("repeat_4")

# %% [markdown]
# The four programs on two maps of 3 × 5 cells. Copying rounds nothing, so the two kernels must agree to the last bit:

# %%
rng = np.random.default_rng(0)
x = rng.normal(size=(2, 3, 5, 4))
with kernels.use("numpy"):
    in_numpy, up_cache = upsample_nearest(x)
ledger.expect("an enlarged map", in_numpy, (2, 6, 10, 4))
close("loop and NumPy, float64", in_numpy, naive.upsample_nearest(x, 2))
(compiled, _), (on_card, _) = on_both(upsample_nearest, x)
close("NumPy and the compiled kernel, float32", compiled, in_numpy, tolerance=1e-6)
close("the compiled kernel and CUDA's, simulated", on_card, compiled, tolerance=0)

# %% [markdown]
# **Exercise 4.1.** Write it for any whole scale, for maps of shape (N, H, W, C).


# %% tags=["exercise-4.1"]
def enlarge(x, scale):
    raise NotImplementedError


check("4.1", enlarge)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def enlarge(x, scale):
#     return x.repeat(scale, axis=1).repeat(scale, axis=2)
# ```
#
# `repeat` gives 1 1 2 2; `np.tile` would give 1 2 1 2, four small copies of the map.
# </details>
#
# ## Why add, and not stack?
#
# Adding seems to lose something. Would it not be safer to *stack* the fine map $c$ and the enlarged coarse one $u$, and let
# a 1 × 1 convolution choose from both? In a cell, $c$ and $u$ are vectors of channels. The convolution is a matrix, and a
# matrix that reads a stacked vector falls into two parts:
#
# $$\begin{pmatrix} A & B \end{pmatrix} \begin{pmatrix} c \\ u \end{pmatrix} = A c + B u .$$
#
# So stacking and choosing is adding after two laterals. Nothing is lost: the choice was made before the sum, by $A$ and
# $B$. In the pyramid $A$ is $L_k$, and $B$ is the identity.
#
# Nor does it matter whether a lateral comes before or behind the upsampling. It looks at one cell at a time, and an
# enlarged map has the same cells four times over: $L\,U = U L$. Before is cheaper.
#
# **On paper first.** By which factor is it cheaper? And is the same true of a 3 × 3 convolution: does $O\,U$ equal $U O$?

# %%
fine, coarse, a_, b_ = (rng.normal(size=s) for s in ((1, 4, 6, 3), (1, 2, 3, 5), (1, 1, 3, 2), (1, 1, 5, 2)))
large = upsample_nearest(coarse)[0]
stacked = conv2d(np.concatenate([fine, large], axis=-1), np.concatenate([a_, b_], axis=2))[0]
close("stacked and chosen, or added", conv2d(fine, a_)[0] + conv2d(large, b_)[0], stacked)
close("lateral first, or upsampling first", upsample_nearest(conv2d(coarse, b_)[0])[0], conv2d(large, b_)[0])
assert large.size == 4 * coarse.size
three = rng.normal(size=(3, 3, 5, 2))  # reads over the edge of a block: the order matters
assert not np.allclose(upsample_nearest(conv2d(coarse, three, padding=1)[0])[0], conv2d(large, three, padding=1)[0])

# %% [markdown]
# Four times. For a 3 × 3 convolution it is not true, and that is just what we want from it next.
#
# ## Why a 3 × 3 behind the sum
#
# A copied block is a staircase. Where the coarse map changes from 0 to 4, the enlarged one jumps at a place that is a
# multiple of two cells, wherever the true edge lies. This false pattern is called *aliasing*. A 3 × 3 convolution can
# smooth it, since each output sees over the edge of its block.
#
# **On paper first.** The row 0, 4 is enlarged to 0, 0, 4, 4. Then each inner cell is replaced by the mean of itself and its
# two neighbours. What are the two inner cells?

# %%
row = np.array([0.0, 4]).repeat(2)
inner = np.convolve(row, np.ones(3) / 3, mode="valid")
assert np.allclose(inner, [4 / 3, 8 / 3])
print("0, 0, 4, 4 becomes 0, " + "".join(f"{v:.2f}, " for v in inner) + "4: a ramp")

# %% [markdown]
# A mean is one 3 × 3 convolution among many; the network learns which. It also mixes what the lateral and the coarse map
# said about neighbouring cells.
#
# ## P6
#
# The proposal network (chapter 6) wants one more level, for the largest objects. P6 is every second row and column of P5:
# no weights, nothing to learn. The frameworks write it as a max pool of size 1 and stride 2, which says the same. No region
# is ever *read* from P6; chapter 8 reads from P2 to P5.
#
# Now you have all parts, and the pyramid fits into ten lines. It goes from coarse to fine and keeps the merged map for the
# next level. `way_down` is for an experiment at the end.
#
# **On paper first.** An image of 1024 × 1024: which sides have P2 to P6? How many levels are that?

# %%
assert [1024 // 2**k for k in (2, 3, 4, 5, 6)] == [256, 128, 64, 32, 16]


def top_down(features, params, way_down=True):
    """Return P2 .. P6 from C2 .. C5: the chapter in ten lines."""
    merged, levels = None, []
    for k, c in zip((5, 4, 3, 2), reversed(features)):
        lateral, _ = conv2d(c, params[f"fpn.lateral{k}.w"], params[f"fpn.lateral{k}.b"])
        joins = way_down and merged is not None
        merged = lateral + merged.repeat(2, axis=1).repeat(2, axis=2) if joins else lateral
        level, _ = conv2d(merged, params[f"fpn.output{k}.w"], params[f"fpn.output{k}.b"], padding=1)
        levels.insert(0, level)
    return [*levels, levels[-1][:, ::2, ::2]]


def in_row(maps):
    return np.concatenate([np.ravel(m) for m in maps])


pyramid, _ = fpn(features, params, config)
for k, p in zip((2, 3, 4, 5, 6), pyramid):
    ledger.expect(f"p{k}", p, (1, 128 // 2**k, 128 // 2**k, 48))
close("P2 to P6, this chapter and the package", in_row(top_down(features, params)), in_row(pyramid), tolerance=1e-4)
print("1024 pixels: five levels with sides of 256, 128, 64, 32 and 16")

# %% [markdown]
# The package does the same. It makes the sum inside the lateral convolution, `residual=above`, and `activate=False` leaves
# the ReLU out (chapter 3). A list goes through the levels from coarse to fine; `insert(0, …)` turns the result around. In
# training the three caches of each level are kept for the way back.

# %%
source(fpn)

# %% [markdown]
# All levels have one *width*, as the number of channels is called: here 48. This is what lets *one* head, with one set of
# weights, read every level.
#
# **On paper first.** Over a ResNet-50, C2 to C5 have 256, 512, 1024 and 2048 channels and the pyramid has 256. Count: four
# laterals, four outputs, all with biases.

# %%
laterals = (256 + 512 + 1024 + 2048) * 256 + 4 * 256
outputs = 4 * (3 * 3 * 256 * 256 + 256)
assert (laterals, outputs, laterals + outputs) == (984_064, 2_360_320, 3_344_384)
full = sum(int(np.prod(t.shape)) for t in fpn_spec(presets.torchvision()).values())
assert full == 3_344_384
print(f"laterals {laterals:,}, outputs {outputs:,}, together {full:,}: torchvision's number")

# %% [markdown]
# **Exercise 4.2.** Write the count for any pyramid: `widths` are the channels of C2 to C5, `channels` those of the pyramid.


# %% tags=["exercise-4.2"]
def parameters(widths, channels):
    raise NotImplementedError


check("4.2", parameters)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def parameters(widths, channels):
#     laterals = sum(widths) * channels + len(widths) * channels
#     outputs = len(widths) * (9 * channels * channels + channels)
#     return laterals + outputs
# ```
#
# P6 adds nothing: it is a choice of cells.
# </details>
#
# ## Is (d) as fast as (b)?
#
# Weights are one price, multiplications another. A weight of a convolution is used once for each cell of the result. So
# multiply each layer's weights by its cells. The 589,824 weights of an output convolution are used 1,024 times on P5, which
# is little, and 65,536 times on P2, which is not.
#
# **On paper first.** The four output convolutions over 1024 × 1024: how many multiplications, in thousand millions?
# Guess first which share of the backbone's that is.

# %%
cells = {k: (1024 // 2**k) ** 2 for k in (1, 2, 3, 4, 5)}
fifty = {
    name: int(np.prod(tensor.shape)) for name, tensor in spec(presets.torchvision()).items() if name.endswith(".w")
}
work = {"backbone": fifty["backbone.stem.conv.w"] * cells[1], "laterals": 0, "outputs": 0}
for name, weights in fifty.items():
    part, _, rest = name.partition(".")
    if part == "fpn":
        work[f"{rest[:-3]}s"] += weights * cells[int(rest[-3])]  # lateral5.w
    elif part == "backbone" and rest != "stem.conv.w":
        first_1x1 = rest[1] != "2" and rest[2:] == ".0.conv1.w"  # it still works on the map of the stage before
        work["backbone"] += weights * cells[int(rest[1]) - first_1x1]
assert work["outputs"] == 9 * 256**2 * (256**2 + 128**2 + 64**2 + 32**2) and fifty["fpn.output2.w"] == 589_824
giga = {part: round(count / 1e9, 1) for part, count in work.items()}
assert giga == {"backbone": 85.4, "laterals": 8.1, "outputs": 51.3}
assert 0.69 < (work["laterals"] + work["outputs"]) / work["backbone"] < 0.7
assert 0.6 < 9 * 256**2 * 256**2 / (work["laterals"] + work["outputs"]) < 0.7
print("thousand millions of multiplications:", giga)

# %% [markdown]
# The pyramid adds 70 percent to a ResNet-50, two thirds of it in the 3 × 3 on P2. That is far from the more than fivefold
# price of (a), but it is not free. What the notes say holds for the passes through the backbone: one.
#
# ## Sides that do not fit
#
# Twice a coarse map must be exactly a fine one, or the sum has no meaning. A stride of 2 rounds up: 25 cells become 13, and
# twice 13 is 26. So the image is padded before it enters, to a multiple of the largest stride of a C, which is 32. This is
# the reason for `pad_multiple` in the configuration. P6 may round, for nothing is enlarged from it.
#
# **On paper first.** An image of 100 × 100: what are the sides of C2 to C5, and where does the sum fail? To what would
# torchvision pad 800 × 1333, and which sides has P6 then?

# %%
unpadded = [-(-100 // 2**k) for k in (2, 3, 4, 5)]
assert unpadded == [25, 13, 7, 4] and [2 * n for n in unpadded[1:]] == [26, 14, 8]  # each one too many
assert -(-1333 // 32) * 32 == 1344 and 800 % 32 == 0 and (800 // 32, 1344 // 32) == (25, 42)
assert (-(-800 // 64), -(-1344 // 64)) == (13, 21)  # P5 has 25 x 42
print("100 pixels:", unpadded, "and twice the coarser ones:", [2 * n for n in unpadded[1:]])
print("800 x 1333 is padded to 800 x 1344; P5 has 25 x 42 cells and P6 13 x 21")

# %% [markdown]
# ## Who hears whom
#
# The pyramid is linear, so what a level says is a plain sum of what each C contributes. For the finest level, with the
# biases left out,
#
# $$P_2 = O_2 \bigl( L_2 C_2 + U L_3 C_3 + U^2 L_4 C_4 + U^3 L_5 C_5 \bigr).$$
#
# No level multiplies another, and none chooses. If a channel of $M_5$ says "here is a circle", the same channel of $M_2$ says
# so, too, on all 64 cells below; and where C2 adds an edge, both can be read from the sum. ($U^3$ is three enlargements, and
# only $O_2$ mixes the channels again.) We check the sum: the contributions of the four maps, each with the others at zero,
# must add up.

# %%
doubles = {name: value.astype(float) for name, value in params.items() if name.startswith("fpn.")}
maps = [f.astype(float) for f in features]
zero = top_down([0 * f for f in maps], doubles)[0]  # what the biases say
single = [top_down([f if i == j else 0 * f for j, f in enumerate(maps)], doubles)[0] - zero for i in range(4)]
close("P2 as a sum of four contributions, float64", sum(single) + zero, top_down(maps, doubles)[0])

# %% [markdown]
# Now to single cells. Change one cell of one C and see which cells of P2 to P6 notice. Flow goes from coarse to fine
# only, so a cell of C2 changes P2 alone. A cell of C5 becomes a block of $2^{5-k}$ cells on level $k$, and the output
# convolution adds a rim of one cell.
#
# **On paper first.** How many cells of P5, P4, P3 and P2 hear one inner cell of C5? (Inner: so far from the border that
# nothing is cut off.)

# %%
changed = {}
with kernels.use("numpy"):  # there, what is equal is equal to the last bit
    before = fpn(features, params, config)[0]
    for k in (2, 5):
        touched = [f.copy() for f in features]
        middle = touched[k - 2].shape[1] // 2
        touched[k - 2][0, middle, middle] += 1
        after = fpn(touched, params, config)[0]
        changed[k] = [np.abs(a - b)[0].max(axis=-1) > 0 for a, b in zip(after, before)]
assert [int(c.sum()) for c in changed[5][:4]] == [100, 36, 16, 9] == [(2**n + 2) ** 2 for n in (3, 2, 1, 0)]
assert [int(c.sum()) for c in changed[2]] == [9, 0, 0, 0, 0]
print("cells of P2 .. P5 that hear a cell of C5:", [int(c.sum()) for c in changed[5][:4]])

# %% mystnb={"image": {"alt": "Four maps P2 to P5 with the cells that change when one cell of C5 changes: a block of 10 by 10, 6 by 6, 4 by 4 and 3 by 3."}}
figure = Figure(figsize=(8, 2.4), layout="constrained")
for ax, k, where in zip(figure.subplots(1, 4), (2, 3, 4, 5), changed[5]):
    ax.imshow(where, cmap="Greys", vmin=0, vmax=1.6)
    block = 2 ** (5 - k)
    ax.add_patch(Rectangle((2 * block - 0.5, 2 * block - 0.5), block, block, fill=False, color=COLOURS[1], lw=2))
    ax.set(title=f"P{k}: {int(where.sum())} of {where.size}", xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 4.3. One cell of C5, heard on four levels. Orange: the copied block; the rim is the output convolution's.*
#
# **Exercise 4.3.** Predict: how many cells of P*k* hear one inner cell of C*source*? (A level that does not hear it: 0.)


# %% tags=["exercise-4.3"]
def listeners(source_level, k):
    raise NotImplementedError


check("4.3", listeners)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def listeners(source_level, k):
#     if k > source_level:
#         return 0
#     return (2 ** (source_level - k) + 2) ** 2
# ```
#
# The rim is one cell on each side, whatever the block: every level has its own output convolution.
# </details>
#
# ## The way back
#
# Besides the convolutions, whose backward pass is chapter 2's, there are three pieces. Each is linear, and each has a
# transpose that you can say in a sentence.
#
# *A sum* hands its gradient to both summands, unchanged: if $z = a + b$, both derivatives of $z$ are 1.
#
# *Copying.* $y_{pq} = x_{\lfloor p/2 \rfloor \lfloor q/2 \rfloor}$: a cell went into four places, so it collects from
# four: $dx_{ij} = \sum_{a,b \in \{0,1\}} dy_{2i+a,\,2j+b}$. (Not their mean. Copying is not averaging.)
#
# *Choosing.* P6 took every second cell of P5. Its gradient goes back to these cells; the others get zero from it.
#
# **On paper first.** The gradient of an enlarged 2 × 4 map is 0 1 2 3 above and 4 5 6 7 below. What do the two cells of
# the small map receive?

# %%
_, flat_cache = upsample_nearest(np.zeros((1, 1, 2, 1)))
collected = upsample_nearest_backward(np.arange(8.0).reshape(1, 2, 4, 1), flat_cache)
assert collected.ravel().tolist() == [0 + 1 + 4 + 5, 2 + 3 + 6 + 7] == [10, 18]
error = adjoint_error(
    lambda a: upsample_nearest(a)[0], lambda b: upsample_nearest_backward(b, up_cache), x.shape, in_numpy.shape, rng
)
assert error < 1e-12
print(f"collected: {collected.ravel().tolist()}; the adjoint identity (chapter 2) holds")

# %% [markdown]
# The same by all four programs:

# %%
dy = rng.normal(size=in_numpy.shape)
by_loop = [
    [[dy[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].sum(axis=(0, 1)) for j in range(5)] for i in range(3)] for n in (0, 1)
]
in_numpy, compiled, on_card = upsample_nearest_backward(dy, up_cache), *on_both(upsample_nearest_backward, dy, up_cache)
close("loop and NumPy, float64", in_numpy, by_loop)
close("NumPy and the compiled kernel, float32", compiled, in_numpy, tolerance=1e-6)
close("the compiled kernel and CUDA's, simulated", on_card, compiled, tolerance=1e-6)

# %% [markdown]
# **Exercise 4.4.** Write the backward pass of 4.1, for any scale.


# %% tags=["exercise-4.4"]
def enlarge_backward(dy, scale):
    raise NotImplementedError


check("4.4", enlarge_backward)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def enlarge_backward(dy, scale):
#     n, height, width, channels = dy.shape
#     blocks = dy.reshape(n, height // scale, scale, width // scale, scale, channels)
#     return blocks.sum(axis=(2, 4))
# ```
#
# The reshape splits each axis into "which block" and "where in it"; the sum runs over the latter.
# </details>
#
# Now put them together. $M_k$ went to two places: through $O_k$ to $P_k$, and through $U$ to $M_{k-1}$. It collects from
# both:
#
# $$\begin{aligned} dM_k &= O_k^\top dP_k + U^\top dM_{k-1}, \\ dC_k &= L_k^\top dM_k . \end{aligned}$$
#
# Here $dP_5$ already holds what P6 sent back: that step comes first. $M_2$ has nobody below it, so the way back goes on with
# the finest level and climbs. Forward went down, backward goes up. Gradients of different origin meet: what an object on P2
# wants, what the proposal network wants on each level, what the heads want, all arrive in $M_5$ and from there in C5.
#
# The weights are simpler. Each $L_k$ and each $O_k$ is used once, so its gradient is that of one convolution. (Chapter 6
# has a head whose weights are used five times.)
#
# **On paper first.** Let every cell of $P_2$ send back exactly 1 to $M_2$, and the other levels nothing. What arrives in
# each cell of $M_5$?

# %%
climbing = np.ones((1, 32, 32, 1))
meeting = [climbing]
for _ in range(3):
    climbing = upsample_nearest_backward(climbing, big_cache)
    meeting.append(climbing)
assert [m.max() for m in meeting] == [m.min() for m in meeting] == [1, 4, 16, 64]
ledger.expect("what M5 collects from M2", climbing, (1, 4, 4, 1))
assert all(m.sum() == 1024 for m in meeting)  # nothing is lost on the way
print("one cell of M2, M3, M4, M5 collects:", [int(m.max()) for m in meeting])

# %% [markdown]
# Sixty-four cells of M2 lie under one of M5. A coarse cell answers for all of them.

# %%
source(fpn_backward)

# %% [markdown]
# Read it beside the formula. P6 gives its gradient to P5. Then, level by level, `plus=from_finer` is the second term of
# $dM_k$. The lateral's backward pass returns two gradients: `dc` for the backbone, and `dabove` for the map that was added.
# If the first stages of the backbone are frozen, nobody reads their `dc`, and `need_dx` spares the work.
#
# The whole pyramid against finite differences, in float64, at small sizes: with respect to all four inputs, and to one
# weight of each kind.

# %%
small = config.replace(fpn_channels=5)
weights = draw(fpn_spec(small), rng, np.float64)
inputs = [rng.normal(size=(1, 2**n, 2**n, c)) for n, c in zip((4, 3, 2, 1), (24, 48, 64, 96))]
NAMES = ("fpn.lateral5.w", "fpn.output2.w", "fpn.output5.w", "fpn.lateral3.b")


def whole(*arguments):
    maps, changed_weights = arguments[:4], dict(zip(NAMES, arguments[4:]))
    y, cache = fpn(list(maps), weights | changed_weights, small, training=True)

    def back(dy):
        grads = {}
        dmaps = fpn_backward(list(dy), cache, grads)
        return [*dmaps, *(grads[name] for name in NAMES)]

    return y, back


check_gradients(whole, *inputs, *(weights[name] for name in NAMES), rng=rng, tol=1e-6)
for k, level in zip((2, 3, 4, 5, 6), whole(*inputs, *(weights[name] for name in NAMES))[0]):
    ledger.expect(f"p{k} of the check", level, (1, 2 ** max(6 - k, 0), 2 ** max(6 - k, 0), 5))
print("gradients of four maps and four weights: right to 1e-6")

# %% [markdown]
# The way back on the kernels, for the same small pyramid:

# %%
maps, cache = fpn(inputs, weights, small, training=True)
dy = [rng.normal(size=level.shape) for level in maps]
ours, compiled, on_card = fpn_backward(dy, cache, {}), *on_both(fpn_backward, dy, cache, {})
close("dC2 to dC5: NumPy and the compiled kernels, float32", in_row(compiled), in_row(ours), tolerance=1e-5)
close("dC2 to dC5: the compiled kernels and CUDA's, simulated", in_row(on_card), in_row(compiled), tolerance=1e-5)

# %% [markdown]
# **Exercise 4.5.** Derive: one channel, the laterals and outputs are the identity (so $P_k = M_k$), no P6. Given the
# gradients `dp` of [P2, P3, P4, P5], each (H, W), return those of [C2, C3, C4, C5].


# %% tags=["exercise-4.5"]
def meet(dp):
    raise NotImplementedError


check("4.5", meet)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def meet(dp):
#     found = [dp[0]]
#     for own in dp[1:]:
#         finer = found[-1]
#         collected = finer[::2, ::2] + finer[1::2, ::2] + finer[::2, 1::2] + finer[1::2, 1::2]
#         found.append(own + collected)
#     return found
# ```
#
# Each level adds its own to what it collects from the finer one, which already holds all below.
# </details>

# %% mystnb={"image": {"alt": "Two rows of four maps over the image, P2 to P5: above each level from its own C alone, below with what comes from above. P2 alone shows outlines, among them the thin stick; with the way down it gains broad patches, and the outlines fade."}}
alone = top_down(features, params, way_down=False)
figure = Figure(figsize=(8, 4.1), layout="constrained")
axes = figure.subplots(2, 4)
for column, k in enumerate((2, 3, 4, 5)):
    for ax, level, text in zip(axes[:, column], (alone[column], pyramid[column]), ("alone", "with the way down")):
        ax.imshow(np.sqrt((level[0] ** 2).mean(axis=-1)), extent=(0, 128, 128, 0), cmap="cividis")
        for y1, x1, y2, x2 in sample.gt_boxes:
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color="white", lw=0.8, ls=":"))
        ax.set(title=f"P{k} {text}", xticks=[], yticks=[])
        ax.title.set_fontsize(9)
show(figure)

# %% [markdown]
# *Figure 4.4. The strength of a cell of the book's network: the root of the mean square of its channels. Above: each level
# from its own C alone. Below: as it is. Dotted: the true boxes.*
#
# Look at P2. Alone, it shows what C2 sees: outlines, those of the large circle and the large triangle and also the stick,
# which is no object. With the way down the outlines fade, and broad patches come in: what $M_4$ and $M_5$ say of whole
# neighbourhoods. P5 gains nothing, for nothing is above it.
#
# ## Break it
#
# Turn (d) into (c): the same weights, the same laterals and outputs, but $M_k = L_k C_k$ and nothing from above. Then
# make one block of 4 × 4 pixels in the middle of the image brighter. Which of the 32 × 32 cells of P2 notice?

# %% tags=["break-it"]
brighter = batch.images.copy()
brighter[0, 62:66, 62:66] += 1


def noticed(way_down):
    """Return by how much each cell of P2 changes, in parts of the largest change."""
    before, after = (top_down(backbone(x, params, config)[0], params, way_down)[0][0] for x in (batch.images, brighter))
    change = np.abs(after - before).max(axis=-1)
    return change / change.max()


whole_way, cut = noticed(True), noticed(False)
assert np.sum(cut > 1e-4) <= 13 * 13 and np.sum(whole_way > 1e-4) > 0.9 * 32 * 32
print("with the way down: more than nine tenths of P2; without it: at most 13 x 13 of 32 x 32 cells")

# %% mystnb={"image": {"alt": "Two maps of P2. With the way down nearly every cell changes a little; without it only a square of 13 cells around the changed pixels."}}
figure = Figure(figsize=(6.4, 3), layout="constrained")
for ax, change, text in zip(figure.subplots(1, 2), (whole_way, cut), ("(d) as it is", "(c) nothing from above")):
    drawn = ax.imshow(np.log10(change + 1e-6), vmin=-5, vmax=0, extent=(0, 128, 128, 0), cmap="cividis")
    ax.add_patch(Rectangle((62, 62), 4, 4, fill=False, color="white", lw=0.8))
    ax.set(title=text, xticks=(0, 64, 128), yticks=(0, 64, 128))
figure.colorbar(drawn, ax=figure.axes, label="change, powers of ten")
show(figure)

# %% [markdown]
# *Figure 4.5. The change of every cell of P2 when the white block becomes brighter, in parts of the largest change.*
#
# Without the way down a cell of P2 sees what C2 sees: 13 cells of 4 pixels. It cannot know whether the edge it lies on
# belongs to a circle of 60 pixels or to a stick. What comes from C5 has seen the whole image.
#
# Does the network of the book suffer from the cut? We ask the 26 held-out images, with the same weights. Of their 84
# objects, which does one of ten proposals overlap by half? Which does a detection of the right class, with a score of at
# least 0.5? And which of the five losses grows most?


# %%
def judge(network):
    """Return which objects ten proposals and the detections find, and the mean losses."""
    met, found, losses, held_out = [], [], [], open_dataset("shapes", DATA / "shapes", "val")
    for one in (held_out.load(i) for i in range(len(held_out))):
        seen = trace_ours(network, one.image)
        met.append(iou(seen["proposals"][:10], one.gt_boxes).max(axis=0) >= 0.5)
        sure = (seen["detection_classes"][:, None] == one.gt_class_ids) & (seen["detection_scores"][:, None] >= 0.5)
        found.append((sure & (iou(seen["detection_boxes"], one.gt_boxes) >= 0.5)).any(axis=0))
        losses.append(list(network.losses(make_batch([one], config), 0)[0].values()))
    return np.concatenate(met), np.concatenate(found), np.mean(losses, axis=0)


# %%
def severed(x, scale):
    y, cache = upsample_nearest(x, scale=scale)
    return np.zeros_like(y), cache


one_by_one = MaskRCNN(config.replace(bn_mode="frozen"), params)
met, found, losses = judge(one_by_one)
with patch.object(package, "upsample_nearest", severed):
    met_cut, found_cut, losses_cut = judge(one_by_one)
assert len(met) == 84 and met.mean() > 0.9 and abs(met.mean() - met_cut.mean()) < 0.04
assert found.mean() > 0.85 and 0.06 < found.mean() - found_cut.mean() < 0.13
assert 1.3 < losses_cut.sum() / losses.sum() < 1.5 and 2 < losses_cut[4] / losses[4] < 2.3
assert (losses_cut - losses).argmax() == (losses_cut / losses).argmax() == 4  # that of the masks
print(f"ten proposals: {met.mean():.2f} of the objects, cut {met_cut.mean():.2f}")
print(f"detections: {found.mean():.2f} of the objects, cut {found_cut.mean():.2f}")
print("the sum of the losses grows by more than three tenths, and that of the masks more than doubles")

# %% [markdown]
# The proposals hardly notice. The detections lose about a tenth of the objects, and the masks suffer most. To say that
# something is there, what each C sees by itself is nearly enough. To say which pixels belong to it, the view from above
# helps.
#
# But these weights were trained *with* the way down. Another network might learn to do without. So the question is one of
# training: two networks, each trained from the start.
#
# For (b), a single map, it was asked: the presets `tiny` and `tiny_c4` have the same backbone, and each was trained from
# random weights for 600 steps on 600 generated images of 128 pixels. COCO's mask AP on a hundred others:
#
# | | all objects | small, below 32 × 32 pixels | larger | seconds of a core |
# |---|---|---|---|---|
# | (d), `tiny` | 0.460 | 0.457 | 0.489 | 124 |
# | (b), `tiny_c4` | 0.226 | 0.203 | 0.330 | 180 |
#
# The small objects lose most without the pyramid: a cell of the single map is 16 pixels wide.
#
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | the pyramid has "6 scales", followed by a list of five | five: 1/4, 1/8, 1/16, 1/32, 1/64, that is P2 to P6 |
# | regions are read from "5 feature layers of ResNet" | from four of the *pyramid*, P2 to P5; P6 serves the proposal network |
# | C2 to C5 correspond to P2 to P5, and that is all | P6 is missing: every second cell of P5, without weights |
# | the coarse map is "sampled" | it is enlarged: every cell becomes 2 × 2 equal ones |
# | (d) is "as fast as (b) and (c)" | it has one pass through the backbone, as they have; over a ResNet-50 the pyramid then adds 70 percent of multiplications |
#
# ## Do you remember?
#
# <details><summary>Q1. What does C2 know that C5 does not, and the other way round?</summary>C2 knows where, to 4 pixels; C5 knows what, from a large surrounding.</details>
# <details><summary>Q2. What are the four pyramids?</summary>Of images, one map only, the hierarchy as it is, and the hierarchy with a way down.</details>
# <details><summary>Q3. Why is (a) slow?</summary>The whole network runs once for each size, and an image enlarged twofold costs four times as much.</details>
# <details><summary>Q4. What does a lateral convolution do?</summary>It brings a C to the common width; it is 1 × 1 and sees no neighbours.</details>
# <details><summary>Q5. How is a coarse map enlarged?</summary>Every cell is copied to a block of 2 × 2.</details>
# <details><summary>Q6. Does adding lose what stacking would keep?</summary>No: a 1 × 1 convolution of the stacked maps is a sum of two laterals.</details>
# <details><summary>Q7. Which part of the pyramid costs most?</summary>The 3 × 3 convolution of P2: it has the most cells.</details>
# <details><summary>Q8. Why a 3 × 3 convolution behind the sum?</summary>Copied blocks have false edges; it smooths them and mixes the two sources.</details>
# <details><summary>Q9. Why have all levels the same width?</summary>So that one head with one set of weights can read them all.</details>
# <details><summary>Q10. What is P6, and who reads it?</summary>Every second cell of P5; only the proposal network.</details>
# <details><summary>Q11. Does a cell of C3 change P4?</summary>No. Nothing flows from fine to coarse.</details>
# <details><summary>Q12. How many cells of P2 hear one inner cell of C4?</summary>(4 + 2)² = 36.</details>
# <details><summary>Q13. What is the backward pass of copying?</summary>The sum over the copies, not the mean.</details>
# <details><summary>Q14. In which order does the way back run?</summary>From P2 up to P5: each merged map needs what the finer one collected.</details>
# <details><summary>Q15. Where do the gradients of all levels meet?</summary>In M5, and so in C5; on the way each lateral takes its share.</details>
