# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Residual blocks
#
# After this chapter you can write the block that ResNet repeats, forward and backward, count its weights, say where a
# framework puts the stride, and decide whether to train batch norm or to freeze it.
#
# *Mirrors* ([five texts](00_map.ipynb), which you need not know): the slides' "resnet: identity_block" and "resnet:
# conv_block", the walk's sentence on deep residual networks, the article's five stages C1 to C5, and the notes on
# ResNeXt.

# %%
from math import comb
from unittest.mock import patch

import naive
import numpy as np
from gradcheck import check_gradients
from helpers import COLOURS, Ledger, _shapes, check, close, network, on_both, open_dataset, scene, show, source
from matplotlib.figure import Figure

import kernels
import mrcnn_np.backbone as package
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.backbone import Architecture, backbone, residual_block, residual_block_backward
from mrcnn_np.layers import conv_bn, conv_bn_backward
from mrcnn_np.molding import make_batch
from mrcnn_np.network import spec
from mrcnn_np.ops.conv import conv2d
from mrcnn_np.ops.group_norm import group_norm, group_norm_backward
from mrcnn_np.params import conv_spec, count, draw, linear_spec, norm_spec
from mrcnn_np.training.optim import clip_gradients, update, zero_velocity

ledger, rng, model = Ledger(), np.random.default_rng(0), network()
config, params = model.config.replace(bn_mode="frozen"), model.params
images = ledger.expect("the molded image", make_batch([scene()], config).images, (1, 128, 128, 3))
arch = package.architecture(config)

# %% [markdown]
# ## Learn the difference
#
# A deep network should be no worse than a shallow one: its further layers could copy what they get. Trained, it was
# worse, on the training set too. (The end of this chapter trains one of each kind and measures it.)
#
# This is not overfitting, for the deep network fails on the images that it was trained on. Nor can it be a lack of
# numbers to set: the shallow network is contained in the deep one, as the case in which the further layers copy. It is a
# solution that exists and that gradient descent does not find.
#
# Why not? To copy, a 3 × 3 convolution needs one particular kernel: a 1 in the middle of its own channel, 0 everywhere
# else. Weights are drawn at random around 0, which is far from that kernel, and nothing in the loss says "copy". Around 0
# lies another function, the one that answers 0. So make *that* one mean "copy". Let the layers compute a *difference*
# $F(x)$ and add the input to it:
#
# $$s = F(x) + x, \qquad y = \mathrm{relu}(s).$$
#
# The way on which $x$ travels unchanged is the *shortcut*, $F$ is the *branch*. With $F = 0$ the block gives
# $\mathrm{relu}(x)$. And $x$ left the ReLU of the block before, so it is nowhere negative: the copy is whole.
#
# Backward, the ReLU lets the gradient pass where $s > 0$; write $[s > 0]$ for 1 there and 0 elsewhere. The sum hands what
# passes to both of its summands, and what they send back is added:
#
# $$\begin{aligned} ds &= dy \cdot [s > 0], \\ dx &= ds + F'(x)^\top ds. \end{aligned}$$
#
# Here $F'(x)$ is the matrix of derivatives of $F$, and multiplying by its transpose is what the backward pass of the branch
# does (chapter 2). The first term needs no weight. However small $F'$ is, the gradient arrives.
#
# Follow it through two blocks, and leave the ReLU out for a moment. Let $y = x + F(x)$ and $z = y + G(y)$, and $I$ be the
# identity matrix. The chain rule gives $dx = (I + F')^\top (I + G')^\top dz$. Multiply out: $dz$ itself, plus what came
# through $G$ alone, plus what came through $F$ alone, plus what came through both. Two blocks make four ways. ResNet-50 has
# sixteen blocks and $2^{16} = 65{,}536$ ways; those through exactly $k$ branches are "16 choose $k$", so four of five ways
# lead through six to ten branches. A plain chain has one way, the longest.
#
# **On paper first.** Shrink a layer to one number: it multiplies by ½. What is left of a gradient behind 16 such layers?
# And if each has a shortcut, so that a layer multiplies by 1 + ½? Which trouble does the shortcut bring along?

# %%
plain, with_shortcut = 0.5**16, 1.5**16
assert 2**2 == 4 and 2**16 == 65_536 and sum((3, 4, 6, 3)) == 16  # each block: through the branch or past it
assert 0.78 < sum(comb(16, k) for k in range(6, 11)) / 2**16 < 0.8
assert f"{plain:.1e}" == "1.5e-05" and round(with_shortcut) == 657
print(f"without {plain:.1e}, with {with_shortcut:.0f}")

# %% mystnb={"image": {"alt": "The gradient after up to sixteen layers on a logarithmic scale: halved by each layer without shortcuts, times one and a half with them."}}
figure = Figure(figsize=(6, 2.6), layout="constrained")
ax = figure.subplots()
depth = np.arange(17)
ax.semilogy(depth, 0.5**depth, "o-", color=COLOURS[1], label="without shortcuts")
ax.semilogy(depth, 1.5**depth, "s-", color=COLOURS[0], label="with shortcuts")
ax.set(xlabel="layers", ylabel="gradient")
ax.legend()
show(figure)

# %% [markdown]
# *Figure 3.1. One number instead of a layer.*
#
# With shortcuts nothing vanishes, but things grow: each block *multiplies*, here by 1.5. The cure is batch norm at the end
# of the branch. Whatever the size of $x$, the branch then adds numbers of variance 1 (as long as $\gamma = 1$). Sixteen
# blocks add 16 to the variance instead of multiplying it sixteen times.
#
# **On paper first.** A sum starts with variance 1. Sixteen blocks add a branch of variance 1 each, independent of the sum.
# How large is its standard deviation at the end?

# %%
walk = np.random.default_rng(0).normal(size=(17, 20_000)).sum(axis=0)  # the start and sixteen branches
assert np.isclose(np.sqrt(17), 4.12, atol=5e-3) and np.isclose(walk.std(), np.sqrt(17), rtol=0.02)
print(f"{np.sqrt(17):.2f}, and not {1.5**16:.0f}")

# %% [markdown]
# The last ReLU stands behind the sum. Put it in front, into the branch, and a block can only ever add: $F(x)$ would never
# be negative, and no later block could take back what an earlier one has written. With the ReLU behind, what travels on is
# never negative either, but the branch may subtract from it.
#
# Before the convolutions, write the block in its smallest form. The rows of `x` are cells, so a product with a matrix is a 1 ×
# 1 convolution.
#
# **Exercise 3.1.** A block on rows `(R, C)`: a weight matrix `w1`, ReLU, a second matrix `w2`, the sum, ReLU.


# %% tags=["exercise-3.1"]
def small_block(x, w1, w2):
    raise NotImplementedError


check("3.1", small_block)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def small_block(x, w1, w2):
#     return np.maximum(np.maximum(x @ w1, 0) @ w2 + x, 0)
# ```
#
# The sum comes before the last ReLU.
# </details>
#
# **Exercise 3.2.** Derive its backward pass and return `dx`, `dw1`, `dw2`. For $y = xw$ chapter 2 found $dx = dy\,w^\top$
# and $dw = x^\top dy$. Go through the forward pass from its last step to its first; at `x` two gradients meet, so add them.


# %% tags=["exercise-3.2"]
def small_block_backward(dy, x, w1, w2):
    raise NotImplementedError


check("3.2", small_block_backward)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def small_block_backward(dy, x, w1, w2):
#     hidden = np.maximum(x @ w1, 0)
#     dsum = dy * (hidden @ w2 + x > 0)
#     dhidden = dsum @ w2.T * (hidden > 0)
#     return dsum + dhidden @ w1.T, x.T @ dhidden, hidden.T @ dsum
# ```
#
# The weights know nothing of the shortcut: only `dx` has two summands.
# </details>
#
# ## Identity and projection
#
# A ResNet is a *stem* (a convolution with a stride of 2 and a pool) and behind it four rows of blocks, the *stages*. Their
# results are C2, C3, C4 and C5; the stem's is C1. Within a stage all maps have one shape. From stage to stage the channels
# grow, and at the beginning of C3, C4 and C5 the map is halved, by a stride of 2 in the first block.
#
# The sum needs equal shapes. Within a stage it has them, and the shortcut is $x$ itself: the slides' `identity_block`. In the
# first block of a stage a 1 × 1 convolution with a norm brings $x$ into shape, with the same stride as the branch: the
# `conv_block`. We call this shortcut a *projection*. It has no ReLU; the sum is rectified, not its parts.
#
# A projection $P$ costs something. Its backward pass is $dx = P^\top ds + F'(x)^\top ds$: the free term is gone, a
# weight stands on both ways. That is why only four of ResNet-50's sixteen blocks have one.
#
# The *basic* block of ResNet-18, ResNet-34 and this book's network has two 3 × 3 convolutions in its branch, each with a
# norm, and a ReLU between them. The first has the stride. The norm is a scale and a shift (chapter 2).
#
# What is learned bears names: `backbone.c3.0.conv1.w` is the weight of the first convolution in the first block of C3, and
# `backbone.c3.0.shortcut.conv.w` that of its projection. The code asks nothing but whether that name exists: if it does,
# the shortcut is a projection, else it is `x`. So one function serves every network, and a file of weights decides.
#
# **On paper first.** `backbone.c3.0` gets a map of 4 × 4 cells and 24 channels and has a stride of 2. What shape comes out?
# How many weights has its projection, if 48 channels come out? (The cell then compares the four programs of chapter 1, for this
# block and for one that copies. `looped` is a convolution and its norm, by the loops of chapter 2.)

# %%
assert params["backbone.c3.0.shortcut.conv.w"].size == 24 * 48 == 1_152
assert "backbone.c2.1.shortcut.conv.w" not in params
blocks = {"backbone.c2.1": ((1, 16, 16, 24), 1), "backbone.c3.0": ((1, 8, 8, 24), 2)}
wide = {name: p.astype(np.float64) for name, p in params.items()}


def looped(x, name, conv, bn, stride, padding):
    y = naive.conv2d(x, wide[f"{name}.{conv}.w"], stride=(stride, stride), padding=((padding,) * 2,) * 2)
    stats = [wide[f"{name}.{bn}.{s}"] for s in ("gamma", "beta", "mean", "var")]
    return naive.batch_norm(y, *stats, training=False, eps=config.bn_eps, momentum=0.1)[0]


for name, (shape, stride) in blocks.items():
    x = rng.normal(size=shape)[:, :4, :4]
    shortcut = looped(x, f"{name}.shortcut", "conv", "bn", stride, 0) if stride == 2 else x
    hidden = np.maximum(looped(x, name, "conv1", "bn1", stride, 1), 0)
    want = np.maximum(looped(hidden, name, "conv2", "bn2", 1, 1) + shortcut, 0)
    with kernels.use("numpy"):
        in_numpy, _ = residual_block(x, wide, name, arch, config, stride=stride)
    (compiled, _), (on_card, _) = on_both(residual_block, x, params, name, arch, config, stride=stride)
    close(f"{name[9:]}: loop and NumPy, float64", in_numpy, want)
    close(f"{name[9:]}: NumPy and the compiled kernels, float32", compiled, in_numpy, tolerance=1e-5)
    close(f"{name[9:]}: the compiled kernels and CUDA's, simulated", on_card, compiled, tolerance=1e-5)
    ledger.expect(name, want, (1, 4 // stride, 4 // stride, 24 * stride))
print("c3.0 gives 2 x 2 cells of 48 channels; its projection has 24 x 48 = 1,152 weights")

# %% [markdown]
# **Exercise 3.3.** Predict the plan of a network: for each block a pair, its stride and whether it projects. Given are the
# number of blocks of the four stages, the channels that leave each stage, and the channels of the stem. A block projects
# where size or channels change.


# %% tags=["exercise-3.3"]
def plan(blocks, channels, stem):
    raise NotImplementedError


check("3.3", plan)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def plan(blocks, channels, stem):
#     found, before = [], stem
#     for stage in range(4):
#         after = channels[stage]
#         for i in range(blocks[stage]):
#             stride = 2 if stage > 0 and i == 0 else 1
#             found.append((stride, stride == 2 or before != after))
#             before = after
#     return found
# ```
#
# In ResNet-18 the first block of C2 projects nothing: 64 channels go in and 64 come out, and the stem has halved already.
# </details>
#
# ## The bottleneck
#
# ResNet-50 and larger use another branch, the *bottleneck*: 1 × 1 to few channels, 3 × 3 there, 1 × 1 back to four times as
# many. A 3 × 3 convolution costs nine times what a 1 × 1 does between the same channels. So the expensive one works in the
# narrow middle.
#
# A network is named for the layers on its longest way that have weights. ResNet-18 is the stem, eight blocks of two, and a
# classifier: 1 + 16 + 1.
#
# **On paper first.** How many weights has a basic block of 256 channels? A bottleneck 256 → 64 → 64 → 256? Where does the
# 50 come from, with 3, 4, 6 and 3 blocks?

# %%
basic, bottleneck = 2 * 9 * 256 * 256, 256 * 64 + 9 * 64 * 64 + 64 * 256
assert basic == 1_179_648 and bottleneck == 69_632
assert 1 + 3 * (3 + 4 + 6 + 3) + 1 == 50  # the stem, three layers per block, and the classifier that is cut off
assert 1 + 3 * (3 + 4 + 23 + 3) + 1 == 101 and 1 + 2 * (2 + 2 + 2 + 2) + 1 == 18
fifty = spec(presets.torchvision())
assert count(fifty, "backbone.") == 23_508_032
print(f"basic {basic:,}, bottleneck {bottleneck:,}, ResNet-50 without its classifier {count(fifty, 'backbone.'):,}")

# %% mystnb={"image": {"alt": "Bars of the weights of three blocks of 256 channels: basic, bottleneck, and the bottleneck of ResNeXt with 32 groups."}}
grouped = 256 * 128 + 9 * 4 * 128 + 128 * 256
assert 2 * 9 * 2048**2 == 75_497_472 and 2 * 2048 * 512 + 9 * 512**2 == 4_456_448
assert grouped == 70_144 and 9 * 4 * 128 == 4_608 and 9 * 128 * 128 == 147_456
figure = Figure(figsize=(6.5, 2.2), layout="constrained")
ax = figure.subplots()
names = ["basic", "bottleneck, 64 wide", "ResNeXt, 32 groups of 4"]
bars = ax.barh(names, [basic, bottleneck, grouped], color=COLOURS[:3])
ax.bar_label(bars, [f"{n:,}" for n in (basic, bottleneck, grouped)], padding=4, fontsize=8)
ax.set(xlabel="weights of the convolutions, 256 channels in and out", xticks=[], xlim=(0, 1.45e6))
ax.invert_yaxis()
show(figure)

# %% [markdown]
# *Figure 3.2. The bottleneck has a seventeenth of the weights.*
#
# The same numbers say why the basic block was given up in deep networks. Its two 3 × 3 convolutions see all channels on
# both sides, and their weights grow with the square of the channels: in C5, with 2,048 of them, one basic block alone would
# have 75,497,472. The bottleneck there has 512 in its middle and 4,456,448.
#
# **ResNeXt** makes the middle wider, 128 channels, and cuts it into 32 *groups* of 4. Each group is a convolution of its
# own: an output sees the 4 channels of its group, not all 128. So the 3 × 3 has 4,608 weights instead of 147,456, and the
# whole block 70,144, nearly as many as before. A grouped convolution is a dense one most of whose weights are zero.
#
# Its kernel has the shape `(k, k, channels of one group, all outputs)`. With 2 groups of 3 inputs and 2 outputs each, it is
# `(k, k, 3, 4)`. Outputs 0 and 1 read the inputs 0 to 2, outputs 2 and 3 the inputs 3 to 5.
#
# **Exercise 3.4.** Write the dense kernel, `(k, k, all inputs, all outputs)`, that does the same as a grouped one.


# %% tags=["exercise-3.4"]
def dense_kernel(w, groups):
    raise NotImplementedError


check("3.4", dense_kernel)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def dense_kernel(w, groups):
#     each, out = w.shape[2], w.shape[3] // groups
#     dense = np.zeros((*w.shape[:2], each * groups, w.shape[3]))
#     for g in range(groups):
#         mine = slice(g * out, (g + 1) * out)
#         dense[:, :, g * each : (g + 1) * each, mine] = w[..., mine]
#     return dense
# ```
# </details>
#
# **On paper first.** Which share of a dense kernel is zero that stands for three groups? For 32?

# %%
x, w = rng.normal(size=(1, 5, 5, 6)), rng.normal(size=(3, 3, 2, 6))
dense = np.zeros((3, 3, 6, 6))
for g in range(3):
    dense[:, :, 2 * g : 2 * g + 2, 2 * g : 2 * g + 2] = w[..., 2 * g : 2 * g + 2]
assert np.isclose((dense == 0).mean(), 2 / 3) and 1 - 4_608 / 147_456 == 31 / 32
close("three groups and one dense kernel", conv2d(x, w, padding=1, groups=3)[0], conv2d(x, dense, padding=1)[0])

# %% [markdown]
# ## Where is the stride?
#
# A bottleneck that halves the map has three places for the stride. The first paper, the Keras code and detectron2's older
# weights put it into the first 1 × 1; torchvision puts it into the 3 × 3. (Nobody takes the last 1 × 1: the whole branch
# would be computed at full size, and three quarters of the result thrown away.) The weights have the same shapes, so they
# load without a word under the wrong rule (`stride_in_1x1`).
#
# Now the block is complete, and you can read it as the package has it.

# %%
source(residual_block)

# %% [markdown]
# `plan` has a row for each convolution: stride, padding, groups. A 3 × 3 is padded by one, a 1 × 1 not at all. `conv_bn` is
# a convolution, its norm and a ReLU. Two arguments change it. `activate=False` leaves the ReLU out, for the projection.
# `residual=` is added behind the norm and before the ReLU: only the last convolution of the branch gets one.
#
# The *cache* of a block is the list of its layers' caches. Each holds what its layer read, and its output where a ReLU
# needs the sign. No layer keeps a copy: the output of one is the input of the next, the same array.

# %%
source(residual_block_backward)

# %% [markdown]
# Read it beside the formula. `last` holds the sum and the ReLU. So its backward pass masks $dy$ to $ds$ and returns two
# gradients, one for the branch and one for the shortcut, which is $ds$ itself. The convolutions in the middle follow in
# reverse; a basic block has none. A projection is walked back like any layer. The first layer comes last, and `plus` is
# where the two gradients meet: what came down the shortcut is added to what the branch sends back.
#
# The gradients of the weights are not returned. Each layer adds its own to `grads`, under its name.
#
# Four kinds of block, each with frozen statistics and with those of the batch: eight checks against finite differences in
# float64, of $dx$ and of the weight that lies deepest, the first convolution's. On the way we keep the gradient that arrives
# at each pixel of an 8 × 8 map. A pixel without one was not read.
#
# **On paper first.** Which share of the pixels does a block with a stride of 2 read, if the stride is in the 3 × 3? If it
# is in the first 1 × 1? Remember the projection.

# %%
kinds = {
    "basic": (Architecture("basic", (1, 1, 1, 1)), 1, False),
    "stride in the 3 x 3": (Architecture("bottleneck", (1, 1, 1, 1)), 2, False),
    "stride in the 1 x 1": (Architecture("bottleneck", (1, 1, 1, 1)), 2, True),
    "ResNeXt": (Architecture("bottleneck", (1, 1, 1, 1), groups=2), 2, False),
}


def block_params(kind, stride, groups):
    shapes = [(3, 8, 8), (3, 8, 8)] if kind == "basic" else [(1, 8, 4), (3, 4 // groups, 4), (1, 4, 8)]
    tensors = {}
    for j, (k, a, b) in enumerate(shapes, start=1):
        tensors |= conv_spec(f"b.conv{j}", k, a, b, bias=False) | norm_spec(f"b.bn{j}", b)
    if stride == 2:
        tensors |= conv_spec("b.shortcut.conv", 1, 8, 8, bias=False) | norm_spec("b.shortcut.bn", 8)
    return draw(tensors, np.random.default_rng(3), np.float64)


# %%
x, gradients = rng.normal(size=(6, 8, 8, 8)), {}
for name, (kind, stride, in_1x1) in kinds.items():
    for mode in ("frozen", "train"):
        weights = block_params(kind.kind, stride, kind.groups)
        settings = config.replace(bn_mode=mode, stride_in_1x1=in_1x1)

        def block(x, w, weights=weights, kind=kind, settings=settings, stride=stride):
            y, kept = residual_block(x, weights | {"b.conv1.w": w}, "b", kind, settings, stride=stride, training=True)
            grads = {}
            return y, lambda d: (residual_block_backward(d, kept, grads), grads["b.conv1.w"])

        with kernels.use("numpy"):
            check_gradients(block, x, weights["b.conv1.w"], rng=rng, tol=1e-6)
            y, backward = block(x, weights["b.conv1.w"])
            gradients[name, mode] = np.abs(backward(np.ones_like(y))[0]).sum(axis=(0, 3))
seen = {name: float((gradients[name, "frozen"] > 0).mean()) for name in kinds}
assert seen["stride in the 3 x 3"] == 1 and seen["stride in the 1 x 1"] == 0.25
print("gradients of four kinds of block agree with finite differences; share of the pixels that are read:")
print(", ".join(f"{name} {share:.0%}" for name, share in seen.items()))

# %% mystnb={"image": {"alt": "Which pixels of an 8 by 8 map receive a gradient: all with the stride in the 3 by 3, every second of every second row with it in the 1 by 1."}}
figure = Figure(figsize=(6, 3), layout="constrained")
for ax, name in zip(figure.subplots(1, 2), ("stride in the 3 x 3", "stride in the 1 x 1")):
    ax.imshow(gradients[name, "frozen"] > 0, cmap="Blues", vmin=0, vmax=1.5)
    ax.set(title=name, xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 3.3. Dark pixels are read. On the right, branch and shortcut both skip the same three quarters.*
#
# The stride in the 1 × 1 saves work, because the 1 × 1 runs on a quarter of the pixels. It also throws three quarters of
# the map away unread. What they held is not lost altogether: the last block of the stage before has a 3 × 3, and each pixel
# that is read has seen its neighbours there. The projection has this fault under either rule, for its kernel is always 1 × 1;
# with the stride in the 3 × 3 the branch makes up for it.
#
# If you compare two frameworks you find this at C3, the first stage with a stride: C2 agrees to the last digits, C3 does
# not.
#
# **Exercise 3.5.** Break it: return a copy of a map `(H, W, C)` in which as many pixels as possible are different, and
# which a block with its stride in the 1 × 1 cannot tell from the first.


# %% tags=["exercise-3.5"]
def unseen_change(x):
    raise NotImplementedError


check("3.5", unseen_change)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def unseen_change(x):
#     y = x + 1.0
#     y[::2, ::2] = x[::2, ::2]
#     return y
# ```
# </details>
#
# The kernels must give the same gradients as NumPy. Two blocks, one with $x$ as its shortcut and one with a projection:

# %%
x = rng.normal(size=(1, 4, 4, 8))
for name, kind_of in (("identity", "basic"), ("projection", "stride in the 3 x 3")):
    kind, stride, _ = kinds[kind_of]
    weights, settings = block_params(kind.kind, stride, kind.groups), config.replace(bn_mode="train")
    y, kept = residual_block(x, weights, "b", kind, settings, stride=stride, training=True)
    dy = rng.normal(size=y.shape)
    compiled, on_card = on_both(residual_block_backward, dy, kept, {})
    with kernels.use("numpy"):
        in_numpy = residual_block_backward(dy, kept, {})
    close(f"{name}, dx: NumPy and the compiled kernels, float32", compiled, in_numpy, tolerance=1e-5)
    close(f"{name}, dx: the compiled kernels and CUDA's, simulated", on_card, compiled, tolerance=1e-5)

# %% [markdown]
# ## The whole backbone
#
# Stem, pool, and four stages. Each has fewer cells than the one before, and more channels: less *where*, more *what*. The
# documents name C1 at a quarter of the image, which is behind the pool; here C1 is the stem before it, at a half.
#
# **On paper first.** Which shapes have C1 to C5 for 128 × 128 pixels, if the stem has 16 channels and the stages 24, 48, 64
# and 96?

# %% mystnb={"image": {"alt": "The image, and beside it one channel of C2, C3, C4 and C5 at the same scale; the cells grow from 4 to 32 pixels."}}
watched = {}
features, _ = backbone(images, params, config, observe=lambda name, tensor: watched.update({name: tensor}))
for name, c, side, channels in zip(("C2", "C3", "C4", "C5"), features, (32, 16, 8, 4), (24, 48, 64, 96)):
    ledger.expect(name, c, (1, side, side, channels))
ledger.expect("C1", watched["c1"], (1, 64, 64, 16))
figure = Figure(figsize=(8.5, 2), layout="constrained")
axes = figure.subplots(1, 5)
axes[0].imshow(scene().image, extent=(0, 128, 128, 0))
axes[0].set(title="the image", xticks=[], yticks=[])
for ax, name, c in zip(axes[1:], ("C2", "C3", "C4", "C5"), features):
    ax.imshow(c[0, :, :, c.std(axis=(0, 1, 2)).argmax()], cmap="viridis", extent=(0, 128, 128, 0))
    ax.set(title=f"{name}: {c.shape[1]} x {c.shape[2]}", xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 3.4. Of each stage the channel that varies most. On C2 you can see outlines, that of the stick among them; a cell
# of C5 stands for 32 × 32 pixels, and only the other channels could tell what its brightness means.*
#
# ## Why batch norm is frozen
#
# Chapter 2 had two kinds of batch norm. In training it takes mean and variance from the batch. In inference it takes
# *running averages*, collected during training. Detection makes trouble with both.
#
# Detection needs large images, so a batch holds one or two. Statistics of so few are noise, and what the network says
# about an image depends on its neighbour in the batch. The running averages are smooth; but no batch in training was ever
# normalised with them, so the network is measured with numbers that it was not trained with. So the frameworks take networks
# whose statistics were learned on large batches of small images, and *freeze* them: in training, too, mean and variance are
# these constants.
#
# There are other ways out. Group norm takes its statistics within one image and needs no batch; we come to it below.
# Synchronised batch norm adds up the sums of all machines; it costs time in training.
#
# We train both. The task is small so that it takes seconds: crops of the objects, 16 × 16 pixels, three classes; a stem,
# two residual blocks, a mean over the map, a matrix. First 400 steps with batches of 16 and statistics of the batch. From
# there twice 100 steps with *one* crop at a time: once with the crop's own statistics, once with frozen ones.
#
# **On paper first.** Behind a stem with a stride of 2, how large is the map of a crop? From how many numbers does the mean of a
# channel come, with 16 crops and with one?


# %%
def crops():
    data, found, labels = open_dataset("shapes", _shapes(), "train"), [], []
    for sample in (data.load(i) for i in range(len(data))):
        for (y1, x1, y2, x2), label in zip(sample.gt_boxes, sample.gt_class_ids):
            parts = (np.arange(16) + 0.5) / 16
            rows, columns = (y1 + parts * (y2 - y1)).astype(int), (x1 + parts * (x2 - x1)).astype(int)
            found.append(sample.image[np.ix_(rows.clip(0, 127), columns.clip(0, 127))] / 64 - 2)
            labels.append(label - 1)
    return np.array(found, np.float32), np.array(labels)


def classify(x, weights, settings, block=residual_block):
    x, kept = conv_bn(x, weights, "in.conv", "in.bn", settings, stride=2, padding=1, training=True)
    caches = [kept]
    while f"b{len(caches)}.conv1.w" in weights:
        x, kept = block(x, weights, f"b{len(caches)}", kinds["basic"][0], settings, training=True)
        caches.append(kept)
    mean = x.mean(axis=(1, 2))
    return mean @ weights["out.w"] + weights["out.b"], (x.shape, mean, caches)


# %% [markdown]
# The loss is the cross-entropy of chapter 11; its gradient is the probabilities minus 1 at the true class.


# %%
def train(weights, settings, steps, size, block=residual_block):
    order, velocity, losses = np.random.default_rng(1), zero_velocity(weights, settings), []
    for _ in range(steps):
        chosen = order.choice(len(labels), size, replace=False)
        logits, (shape, mean, caches) = classify(objects[chosen], weights, settings, block)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        truth = np.eye(3, dtype=np.float32)[labels[chosen]]
        losses.append(-np.log((p * truth).sum(axis=1)).mean())
        dlogits = (p - truth) / size
        grads = {"out.w": mean.T @ dlogits, "out.b": dlogits.sum(axis=0)}
        dmean = (dlogits @ weights["out.w"].T)[:, None, None] / (shape[1] * shape[2])
        dx = np.ascontiguousarray(np.broadcast_to(dmean, shape))
        for kept in reversed(caches[1:]):
            dx = residual_block_backward(dx, kept, grads)
        conv_bn_backward(dx, caches[0], grads)
        clip_gradients(grads, 5.0)
        update(weights, grads, velocity, learning_rate=settings.learning_rate, config=settings)
    return np.array(losses)


# %%
def new_weights(blocks):
    tensors = conv_spec("in.conv", 3, 3, 12, bias=False) | norm_spec("in.bn", 12) | linear_spec("out", 12, 3)
    for name, j in np.ndindex(blocks, 2):
        tensors |= conv_spec(f"b{name + 1}.conv{j + 1}", 3, 12, 12, bias=False) | norm_spec(
            f"b{name + 1}.bn{j + 1}", 12
        )
    return draw(tensors, np.random.default_rng(1))


def copied(weights):
    return {name: p.copy() for name, p in weights.items()}


# %%
objects, labels = crops()
first, curves, together = new_weights(2), {}, {}
with kernels.use("numpy"):
    before = train(first, config.replace(bn_mode="train", learning_rate=0.05), 400, 16)
    for mode in ("train", "frozen"):
        settings = config.replace(bn_mode=mode, learning_rate=0.003)
        one, two = (classify(objects[pair], copied(first), settings)[0][0] for pair in ([0, 1], [0, 2]))
        together[mode] = float(np.abs(one - two).max())
        curves[mode] = train(copied(first), settings, 100, 1)
assert together["frozen"] < 1e-5 and together["train"] > 0.01
late = {mode: curve[-40:].mean() for mode, curve in curves.items()}
assert late["frozen"] < late["train"] and 0.9 * np.log(3) < late["train"] and before[-40:].mean() < 0.8 * np.log(3)
assert curves["train"][:30].mean() > np.log(3) > curves["frozen"][:30].mean()
assert classify(objects[:1], first, config)[1][0] == (1, 8, 8, 12) and (16 * 8 * 8, 8 * 8) == (1024, 64)
assert config.batch_size == 8 and model.config.bn_mode == "train"
print("with one image per batch the loss of frozen statistics is lower; a neighbour in the batch changes nothing")

# %% mystnb={"image": {"alt": "Two loss curves of fine-tuning with one image per batch: with frozen statistics the loss is lower than with those of the batch."}}
figure = Figure(figsize=(6, 2.6), layout="constrained")
ax = figure.subplots()
for (mode, curve), colour in zip(curves.items(), (COLOURS[1], COLOURS[0])):
    ax.plot(np.convolve(curve, np.ones(30) / 30, "valid"), color=colour, label=f'bn_mode = "{mode}"')
ax.axhline(np.log(3), color="0.6", ls=":", label="guessing: ln 3")
ax.set(xlabel="step", ylabel="loss, mean of 30 steps")
ax.legend(fontsize=8)
show(figure)

# %% [markdown]
# *Figure 3.5. The same weights, trained on with one crop at a time. The loss is that of the training step itself.*
#
# The orange curve begins above the dotted line, and ends at it. These weights were right a moment ago, with batches of 16;
# only the statistics changed under them. The frozen network goes on where the 400 steps left off.
#
# Two things happen at once. The network sees each crop normalised by itself: how bright it is, or how much contrast it
# has, is taken away before anybody can use it. And the gradient loses its mean and its part along the normalised values
# (chapter 2), over the few numbers of one small map.
#
# With eight images of 128 pixels, as the network of this book was trained, batch statistics work; that is
# why `tiny` has `bn_mode="train"`. And note what freezing means: the *statistics* are constants, while $\gamma$ and
# $\beta$ may learn on. torchvision's version 1 fixes these, too.
#
# ## A norm that needs no batch
#
# Frozen statistics need somebody who has learned them. From random weights there is nobody. *Group norm*, made for small
# batches, needs nobody: it takes mean and variance of one map by itself, over a group of neighbouring channels. 32 groups are usual. With one
# channel to a group it is *instance norm*, with one group for all channels *layer norm*. $\gamma$ and $\beta$ belong to
# single channels, as before.
#
# $$\hat x = \frac{x - \mu_{n,g}}{\sqrt{\sigma^2_{n,g} + \epsilon}}, \qquad y = \gamma \hat x + \beta$$
#
# The gradient is chapter 2's, with sums over one group of one map; because the channels of a group differ in $\gamma$, it
# begins with $g = \gamma\, dy$. There are no running averages, so training and inference compute the same. The price is
# paid in inference: constants can be multiplied into the weights of the convolution before, and then the norm is gone;
# these statistics are never constants.
#
# **On paper first.** Behind the stem a crop has a map of 8 × 8 with 12 channels. From how many numbers does a mean come in
# 4 groups, and in 12? What changes if the crop has half its contrast?


# %%
def norm_of_each(x, gamma, beta, groups=4, eps=1e-5):
    y, kept = group_norm(x, gamma, beta, groups=groups, eps=eps)
    return y, lambda dy: group_norm_backward(dy, kept)


maps = conv2d(objects[:3], first["in.conv.w"], stride=2, padding=1)[0].astype(np.float64)
scale, shift = rng.uniform(0.5, 2, 12), rng.normal(size=12)
assert maps.shape == (3, 8, 8, 12) and (8 * 8 * 12 // 4, 8 * 8 * 12 // 12) == (192, 64)
expected = naive.group_norm(maps, scale, shift, groups=4, eps=1e-5)
close("group norm and plain loops", norm_of_each(maps, scale, shift)[0], expected)
check_gradients(norm_of_each, maps[:2, :3], scale, shift, rng=rng, tol=1e-6)

dull, with_others, alone = (norm_of_each(x, scale, shift, eps=0.0)[0] for x in (maps / 2, maps, maps[:1]))
assert np.array_equal(with_others[:1], alone) and np.abs(dull - with_others).max() < 1e-12
print("a neighbour changes nothing, and half the contrast changes nothing")

# %% [markdown]
# The task of figure 3.5 again, from random weights: 400 steps with 16 crops, then 100 with one at a time.

# %%
ours = config.replace(norm="instance", learning_rate=0.05)
with kernels.use("numpy"):
    fresh = new_weights(2)
    again = train(fresh, ours, 400, 16)
    singly = train(fresh, ours.replace(learning_rate=0.003), 100, 1)
assert again[-40:].mean() < 0.5 * before[-40:].mean() and singly[-40:].mean() < 0.5 * late["frozen"]
print("the loss is below half of batch norm's, and a batch of one is as good as any other")

# %% [markdown]
# With a single image in the batch, statistics of the batch *are* instance norm: the orange curve above computed the same
# function. What failed there was to take weights that had been trained under another norm. And batch norm pays here for what
# it draws with every batch: a crop's features depend on fifteen others.
#
# A loss in training is not yet a network that finds more. How bright a map is, and how much contrast it has, is taken away
# before anybody can use it, and detection may need it: on the nuclei of `docs/recipes.md` instance norm found
# more in dark, blurred pictures and less in the mean of the others. And padding is a part of a map: an image that is
# padded to its neighbour's size gives other numbers than without.
#
# `norm="group"` and `norm="instance"` choose it, also for pyramid and heads that have a norm; the groups have to divide the
# channels, so `tiny` wants `norm_groups=8`. Of detectron2's models that were trained from random weights most have group
# norm in backbone, pyramid and heads.
#
# ## Break it
#
# Back to the first claim: deep and plain is worse than shallow and plain, in training. We build the same small network three
# times: with 2 blocks and no shortcuts, with 8 blocks and no shortcuts, with 8 blocks as they should be. Norms are
# everywhere. A block without `residual` and without a projection is a plain chain, forward and backward.
#
# **On paper first.** How many convolutions lie one behind the other in the deep networks? In which order will the three
# losses end?


# %%
def plain_block(x, weights, name, arch, settings, *, stride=1, training=False):
    caches = []
    for i in (1, 2):
        x, kept = conv_bn(x, weights, f"{name}.conv{i}", f"{name}.bn{i}", settings, padding=1, training=training)
        caches.append(kept)
    return x, package.BlockCache(caches, None)


# %% tags=["break-it"]
contest = {
    "2 blocks, plain": (2, plain_block),
    "8 blocks, plain": (8, plain_block),
    "8 blocks, shortcuts": (8, residual_block),
}
settings = config.replace(bn_mode="train", learning_rate=0.02)
with kernels.use("numpy"):
    deep = {name: train(new_weights(n), settings, 300, 16, block) for name, (n, block) in contest.items()}
assert sum(".conv" in name for name in new_weights(8)) == 1 + 2 * 8  # the stem's and two per block
end = {name: curve[-60:].mean() for name, curve in deep.items()}
assert (
    end["8 blocks, plain"] > 1.1 * end["2 blocks, plain"] and end["2 blocks, plain"] > 1.1 * end["8 blocks, shortcuts"]
)
print("the loss of 8 plain blocks is more than a tenth above that of 2, and that of 8 with shortcuts a tenth below it")

# %% mystnb={"image": {"alt": "Three loss curves over 300 steps: eight plain blocks end highest, two plain blocks below them, eight blocks with shortcuts lowest."}}
figure = Figure(figsize=(6, 2.6), layout="constrained")
ax = figure.subplots()
for (name, curve), colour, dash in zip(deep.items(), COLOURS, ("--", "-", "-.")):
    ax.plot(np.convolve(curve, np.ones(30) / 30, "valid"), dash, color=colour, label=name)
ax.axhline(np.log(3), color="0.6", ls=":", label="guessing: ln 3")
ax.set(xlabel="step", ylabel="loss, mean of 30 steps")
ax.legend(fontsize=8)
show(figure)

# %% [markdown]
# *Figure 3.6. The loss on the training set, from scratch.*
#
# Six further blocks make the plain network worse, and the one with shortcuts better. The norms are the same, the data are the
# same, and the number of weights is the same in both deep ones.
#
# And in a network that is trained already? Take the book's and one identity block, the second of C3. Cut its branch, so that
# it only copies. Or cut its shortcut, so that it only computes. Everything else stays. Eight held-out images, the sum of
# the five losses.


# %%
def without(part, name="backbone.c3.1"):
    def block(x, weights, which, *rest, **how):
        if which != name:
            return residual_block(x, weights, which, *rest, **how)
        return plain_block(x, weights, which, *rest, **how) if part == "shortcut" else (x, None)

    with patch.object(package, "residual_block", block):
        again = MaskRCNN(config, params).losses(batch, np.random.default_rng(0), targets=kept.targets)[0]
    return sum(again.values())


held_out = open_dataset("shapes", _shapes(), "val")
batch = make_batch([held_out.load(i) for i in range(8)], config)
losses, kept = MaskRCNN(config, params).losses(batch, np.random.default_rng(0))
whole, no_branch, no_shortcut = sum(losses.values()), without("branch"), without("shortcut")
assert no_shortcut > 2 * whole and 1.2 * whole < no_branch < 1.5 * whole
print("without its branch the loss grows by less than a half, without its shortcut it more than doubles")

# %% mystnb={"image": {"alt": "Bars of the sum of the losses: the whole network, without the branch of one block, without its shortcut; the last is the largest."}}
figure = Figure(figsize=(6, 1.9), layout="constrained")
ax = figure.subplots()
ax.barh(["whole", "no branch", "no shortcut"], np.array([whole, no_branch, no_shortcut]) / whole, color=COLOURS[:3])
ax.set(xlabel="sum of the five losses, 1 = the whole network")
ax.invert_yaxis()
show(figure)

# %% [markdown]
# *Figure 3.7. What this block adds is a correction; what it passes on is what everybody behind it needs.*
#
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | residual networks *guarantee* that more layers do not make the network worse | they make copying the default; nothing is guaranteed, and without norms the numbers grow |
# | the five stages C1 to C5 are the five scales of the pyramid | C1 is not used; the pyramid is built from C2 to C5, and its fifth map P6 from P5 |
# | a `conv_block` halves the map | not the one of C2: the stem has halved twice already |
# | the block's chain, without a place for its stride | first 1 × 1 in the Keras code, 3 × 3 in torchvision: the same weights, another function |
#
# ## Do you remember?
#
# <details><summary>Q1. What does a block compute with a branch of zeros?</summary>relu(x). x comes from a ReLU and is nowhere negative, so this is a copy.</details>
# <details><summary>Q2. Why does the gradient not vanish?</summary>The sum passes it on to x unchanged, whatever the branch does; a projection is the exception.</details>
# <details><summary>Q3. What is the price of adding?</summary>Sums grow from block to block; the norm of the branch bounds what is added.</details>
# <details><summary>Q4. When does a block project?</summary>When channels or size change: the first block of a stage.</details>
# <details><summary>Q5. Which first block does not?</summary>C2's in ResNet-18 and -34.</details>
# <details><summary>Q6. Does a projection have a ReLU?</summary>No; the sum is rectified.</details>
# <details><summary>Q7. What are the three convolutions of a bottleneck?</summary>1 × 1 down, 3 × 3 in the narrow middle, 1 × 1 up to four times the width.</details>
# <details><summary>Q8. What does ResNeXt change?</summary>The middle is wider and cut into groups that do not see each other.</details>
# <details><summary>Q9. What does a stride in the 1 × 1 throw away?</summary>Three quarters of the pixels, unread.</details>
# <details><summary>Q10. How would you notice weights loaded under the wrong rule?</summary>Not by shapes: compare C3 with the framework's, number by number.</details>
# <details><summary>Q11. Why freeze the statistics?</summary>One or two images give noisy ones, and inference uses others.</details>
# <details><summary>Q12. Where do the two gradients of a block meet?</summary>At its input, where they are added.</details>
