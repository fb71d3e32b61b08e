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
# *Mirrors:* the slides' "resnet: identity_block" and "resnet: conv_block", the walk's sentence on deep residual networks,
# the article's five stages C1 to C5, and the notes on ResNeXt.

# %%
from unittest.mock import patch

import naive
import numpy as np
from gradcheck import check_gradients
from helpers import COLOURS, Ledger, _shapes, check, close, network, open_dataset, scene, show, source
from matplotlib.figure import Figure

import kernels
import mrcnn_np.backbone as package
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.backbone import Architecture, backbone, residual_block, residual_block_backward
from mrcnn_np.layers import conv_bn, conv_bn_backward
from mrcnn_np.molding import make_batch
from mrcnn_np.network import spec
from mrcnn_np.ops.conv import conv2d
from mrcnn_np.params import conv_spec, count, draw, linear_spec, norm_spec
from mrcnn_np.training.optim import clip_gradients, update, zero_velocity

ledger, rng = Ledger(), np.random.default_rng(0)
model = network()
config, params = model.config.replace(bn_mode="frozen"), model.params
images = ledger.expect("the molded image", make_batch([scene()], config).images, (1, 128, 128, 3))
arch = package.architecture(config)

# %% [markdown]
# ## Learn the difference
#
# A deep network should be no worse than a shallow one: its further layers could copy what they get. Trained, it was
# worse, on the training set too. Copying is hard for a layer of random weights and a ReLU.
#
# This is not overfitting, for the deep network fails on the images that it was trained on. Nor can it be a lack of
# numbers to set: the shallow network is contained in the deep one, as the case in which the further layers copy. It is a
# solution that exists and that gradient descent does not find.
#
# So make copying the default. Let the layers compute a *difference* $F(x)$ and add the input to it:
#
# $$y = \mathrm{relu}\bigl(F(x) + x\bigr).$$
#
# With $F = 0$ the block copies what is positive. The way on which $x$ travels unchanged is the *shortcut*, $F$ is the
# *branch*. Backward, the sum hands its gradient to both:
#
# $$dx = ds + F'(x)^\top ds, \qquad ds = dy \cdot [y > 0].$$
#
# The first term needs no weight. However small $F'$ is, the gradient arrives.
#
# Follow it through two blocks, and leave the ReLU out for a moment. With $y = x + F(x)$ and $z = y + G(y)$ the chain rule
# gives $dx = (1 + F')^\top (1 + G')^\top dz$. Multiply out: $dz$, plus what came through $G$ alone, plus what came through
# $F$ alone, plus what came through both. Two blocks make four ways, sixteen blocks make 65,536, most
# through about half of the branches. A plain chain has one way, the longest.
#
# **On paper first.** Shrink a layer to one number: it multiplies by ½. What is left of a gradient behind 16 such layers?
# What if each has a shortcut? Which trouble does the shortcut bring along?

# %%
plain, with_shortcut = 0.5**16, 1.5**16
assert 2**2 == 4 and 2**16 == 65_536  # each block: through the branch or past it
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
# With shortcuts nothing vanishes, but things grow: each block adds to the sum. Batch norm at the end of the branch keeps
# what is added at a known size. The two belong together.
#
# The last ReLU stands behind the sum. Put it in front, into the branch, and a block can only ever add: $F(x)$ would never
# be negative, and no later block could take back what an earlier one has written. With the ReLU behind, what travels on is
# never negative either, but the branch may subtract from it.
#
# **Exercise 3.2.** A block on rows `(R, C)`: a weight matrix, ReLU, a second matrix, the sum, ReLU.


# %% tags=["exercise-3.2"]
def small_block(x, w1, w2):
    raise NotImplementedError


check("3.2", small_block)

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
# **Exercise 3.3.** Derive its `dx`. Two gradients meet at `x`: add them.


# %% tags=["exercise-3.3"]
def small_block_backward(dy, x, w1, w2):
    raise NotImplementedError


check("3.3", small_block_backward)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def small_block_backward(dy, x, w1, w2):
#     hidden = np.maximum(x @ w1, 0)
#     dsum = dy * (hidden @ w2 + x > 0)
#     dhidden = dsum @ w2.T * (hidden > 0)
#     return dsum + dhidden @ w1.T
# ```
# </details>
#
# ## Identity and projection
#
# The sum needs equal shapes. Within a stage that holds, and the shortcut is $x$ itself: the slides' `identity_block`. At
# the start of a stage the channels change, and from C3 on the map is halved. There a 1 × 1 convolution with a norm brings $x$
# into shape: the `conv_block`. We call this shortcut a *projection*. It has no ReLU; the sum is rectified, not its parts.
#
# The *basic* block of ResNet-18, ResNet-34 and this book's network has two 3 × 3 convolutions in its branch. Here it is
# three times: as loops, from the package in NumPy, and compiled. The norm is a scale and a shift (chapter 2).
#
# What is learned bears names: `backbone.c3.0.conv1.w` is the weight of the first convolution in the first block of C3, and
# `backbone.c3.0.shortcut.conv.w` that of its projection. The code asks nothing but whether that name exists: if it does,
# the shortcut is a projection, else it is `x`. So one function serves every network, and a file of weights decides.
#
# **On paper first.** `backbone.c3.0` gets a map of 4 × 4 cells and 24 channels and has a stride of 2. What shape comes out?
# How many weights has its projection, if 48 channels come out?

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
        close(f"{name}, NumPy", residual_block(x, wide, name, arch, config, stride=stride)[0], want)
    with kernels.use("cpu"):
        compiled = residual_block(x.astype(np.float32), params, name, arch, config, stride=stride)[0]
    close(f"{name}, compiled, float32", compiled, want, tolerance=1e-5)
    ledger.expect(name, want, (1, 4 // stride, 4 // stride, 24 * stride))

# %%
source(residual_block_backward)

# %% [markdown]
# `plus` is where the two gradients meet: what comes down the shortcut is added to what the first convolution of the
# branch sends back. Read the function from the top. The last layer of the branch holds the sum and the ReLU, so its
# backward pass returns two gradients, one for the branch and one for the shortcut. The middle layers follow in reverse.
# A projection is walked back like any layer. The first layer comes last.
#
# The *cache* of a block is the list of its layers' caches. Each holds what its layer read, and its output where a ReLU
# needs the sign. No layer keeps a copy: the output of one is the input of the next, the same array.
#
# **Exercise 3.1.** Predict the plan of a network: for each block `(stride, does it project)`, from the blocks of the four
# stages, their output channels, and the channels of the stem.


# %% tags=["exercise-3.1"]
def plan(blocks, channels, stem):
    raise NotImplementedError


check("3.1", plan)

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
# In ResNet-18 the first block of C2 projects nothing: 64 channels go in and 64 come out.
# </details>
#
# ## The bottleneck
#
# ResNet-50 and larger use another branch: 1 × 1 to few channels, 3 × 3 there, 1 × 1 back to four times as many. The
# expensive 3 × 3 works on the narrow middle.
#
# **On paper first.** How many weights has a basic block of 256 channels? A bottleneck 256 → 64 → 64 → 256? Where does the
# 50 come from, with 3, 4, 6 and 3 blocks?

# %%
basic, bottleneck = 2 * 9 * 256 * 256, 256 * 64 + 9 * 64 * 64 + 64 * 256
assert basic == 1_179_648 and bottleneck == 69_632
assert 1 + 3 * (3 + 4 + 6 + 3) + 1 == 50  # the stem, three layers per block, and the classifier that is cut off
assert 1 + 3 * (3 + 4 + 23 + 3) + 1 == 101
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
ax.barh(names, [basic, bottleneck, grouped], color=COLOURS[:3])
ax.set(xlabel="weights of the convolutions, 256 channels in and out")
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
# whole block nearly as many as before. A grouped convolution is a dense one most of whose weights are zero.
#
# **Exercise 3.4.** Write the dense kernel of a grouped one.


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

# %%
x, w = rng.normal(size=(1, 5, 5, 6)), rng.normal(size=(3, 3, 2, 6))
dense = np.zeros((3, 3, 6, 6))
for g in range(3):
    dense[:, :, 2 * g : 2 * g + 2, 2 * g : 2 * g + 2] = w[..., 2 * g : 2 * g + 2]
close("three groups and one dense kernel", conv2d(x, w, padding=1, groups=3)[0], conv2d(x, dense, padding=1)[0])

# %% [markdown]
# ## Where is the stride?
#
# A bottleneck that halves the map has three places for the stride. The first paper, the Keras code and detectron2's older
# weights put it into the first 1 × 1; torchvision puts it into the 3 × 3. The weights have the same shapes, so they load
# without a word under the wrong rule (`stride_in_1x1`).
#
# **On paper first.** Which part of the input pixels can the block see under either rule?

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


# %% [markdown]
# Four kinds of block, each with frozen statistics and with those of the batch: eight gradient checks in float64. They walk
# through every line of `residual_block_backward`, and on the way the gradient that arrives at each pixel is kept.

# %%
x, gradients = rng.normal(size=(2, 8, 8, 8)), {}
for name, (kind, stride, in_1x1) in kinds.items():
    for mode in ("frozen", "train"):
        weights = block_params(kind.kind, stride, kind.groups)
        settings = config.replace(bn_mode=mode, stride_in_1x1=in_1x1)

        def block(x, weights=weights, kind=kind, settings=settings, stride=stride):
            y, kept = residual_block(x, weights, "b", kind, settings, stride=stride, training=True)
            return y, lambda d: residual_block_backward(d, kept, {})

        with kernels.use("numpy"):
            check_gradients(block, x, rng=rng, tol=1e-6)
            y, backward = block(x)
            gradients[name, mode] = np.abs(backward(np.ones_like(y))).sum(axis=(0, 3))
seen = {name: float((gradients[name, "frozen"] > 0).mean()) for name in kinds}
assert seen["stride in the 3 x 3"] == 1 and seen["stride in the 1 x 1"] == 0.25
print("gradients of four kinds of block agree with finite differences;", seen)

# %% mystnb={"image": {"alt": "Which pixels of an 8 by 8 map receive a gradient: all with the stride in the 3 by 3, every second of every second row with it in the 1 by 1."}}
figure = Figure(figsize=(6, 3), layout="constrained")
for ax, name in zip(figure.subplots(1, 2), ("stride in the 3 x 3", "stride in the 1 x 1")):
    ax.imshow(gradients[name, "frozen"] > 0, cmap="Blues", vmin=0, vmax=1.5)
    ax.set(title=name, xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 3.3. Dark pixels are read. On the right branch and shortcut both skip the same three quarters.*
#
# The stride in the 1 × 1 saves work, because the 1 × 1 runs on a quarter of the pixels. It also throws three quarters of
# the map away unread. What they held is not lost altogether: the last block of the stage before has a 3 × 3, and each pixel
# that is read has seen its neighbours there. The projection has this fault under either rule, for its kernel is always 1 × 1;
# with the stride in the 3 × 3 the branch makes up for it.
#
# Who compares two frameworks finds this at C3, the first stage with a stride: C2 agrees to the last digits, C3 does not.
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
# ## The whole backbone
#
# A stem, then four rows of blocks. Each stage halves the map and has more channels: less *where*, more *what*. The
# documents name C1 at a quarter of the image, which is behind the pool; here C1 is the stem before it, at a half.

# %% mystnb={"image": {"alt": "The strongest channel of C2, C3, C4 and C5 on the scene; the cells grow from 4 to 32 pixels."}}
watched = {}
features, _ = backbone(images, params, config, observe=lambda name, tensor: watched.update({name: tensor}))
for name, c, side, channels in zip(("C2", "C3", "C4", "C5"), features, (32, 16, 8, 4), (24, 48, 64, 96)):
    ledger.expect(name, c, (1, side, side, channels))
assert watched["c1"].shape == (1, 64, 64, 16)
figure = Figure(figsize=(8, 2.3), layout="constrained")
for ax, name, c in zip(figure.subplots(1, 4), ("C2", "C3", "C4", "C5"), features):
    ax.imshow(c[0, :, :, c.std(axis=(0, 1, 2)).argmax()], cmap="viridis")
    ax.set(title=name, xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 3.4. The channel that varies most, stage by stage.*
#
# ## Why batch norm is frozen
#
# Detection needs large images, so a batch holds one or two. Statistics of so few are noise: what the network says about
# an image depends on its neighbour in the batch. And inference uses running averages that no batch ever had. So the
# frameworks take networks whose statistics were learned on large batches and freeze them.
#
# There are other ways out. Group norm takes its statistics within one image, over groups of channels, and needs no batch.
# Synchronised batch norm adds the sums of all machines first. The first costs time in inference, because its
# statistics are never constants and cannot be folded into the convolution; the second costs time in training.
#
# We train both. The task is small so that it takes seconds: crops of the objects, 16 × 16 pixels, three classes; a stem,
# two residual blocks, a mean over the map, a matrix. First 400 steps with batches of 16 and statistics of the batch.


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


def classify(x, weights, settings):
    x, kept = conv_bn(x, weights, "in.conv", "in.bn", settings, stride=2, padding=1, training=True)
    caches = [kept]
    for i in range(2):
        x, kept = residual_block(x, weights, f"b{i}", kinds["basic"][0], settings, training=True)
        caches.append(kept)
    mean = x.mean(axis=(1, 2))
    return mean @ weights["out.w"] + weights["out.b"], (x.shape, mean, caches)


# %% [markdown]
# The loss is the cross-entropy of chapter 11; its gradient is the probabilities minus 1 at the true class.


# %%
def train(weights, settings, steps, size):
    order, velocity, losses = np.random.default_rng(1), zero_velocity(weights, settings), []
    for _ in range(steps):
        chosen = order.choice(len(labels), size, replace=False)
        logits, (shape, mean, caches) = classify(objects[chosen], weights, settings)
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
objects, labels = crops()
tensors = conv_spec("in.conv", 3, 3, 12, bias=False) | norm_spec("in.bn", 12) | linear_spec("out", 12, 3)
for name in ("b0", "b1"):
    for j in (1, 2):
        tensors |= conv_spec(f"{name}.conv{j}", 3, 12, 12, bias=False) | norm_spec(f"{name}.bn{j}", 12)
first = draw(tensors, np.random.default_rng(1))
with kernels.use("numpy"):
    train(first, config.replace(bn_mode="train", learning_rate=0.05), 400, 16)
    curves, together = {}, {}
    for mode in ("train", "frozen"):
        settings = config.replace(bn_mode=mode, learning_rate=0.003)
        one, two = (classify(objects[i], {**first}, settings)[0][0] for i in ([0, 1], [0, 2]))
        together[mode] = float(np.abs(one - two).max())
        curves[mode] = train({name: p.copy() for name, p in first.items()}, settings, 100, 1)
assert together["frozen"] < 1e-5 and together["train"] > 0.01
late = {mode: curve[-40:].mean() for mode, curve in curves.items()}
assert late["train"] > late["frozen"]
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
# *Figure 3.5. The same weights, trained on with one crop at a time.*
#
# Two things happen at once. In training the network sees each crop normalised by itself: how bright it is, or how much
# contrast it has, is taken away before anybody can use it. And the gradient loses its mean and its part along the
# normalised values (chapter 2), over the few numbers of one small map.
#
# Statistics of one crop bring the loss back to where guessing is, though nothing else has changed. Frozen ones go on
# learning. With eight images of 128 pixels, as the network of this book was trained, batch statistics work; that is
# why `tiny` has `bn_mode="train"`. And note what freezing means: the *statistics* are constants, while $\gamma$ and
# $\beta$ may learn on. torchvision's version 1 fixes these, too.
#
# ## Break it
#
# Take the trained network and one identity block, the second of C3. Cut its branch, so that it only copies. Or cut its
# shortcut, so that it only computes. Everything else stays.


# %% tags=["break-it"]
def without(part, name="backbone.c3.1"):
    def block(x, weights, which, *rest, **how):
        if which != name:
            return residual_block(x, weights, which, *rest, **how)
        for i in (1, 2) if part == "shortcut" else ():
            x, _ = conv_bn(x, weights, f"{name}.conv{i}", f"{name}.bn{i}", config, padding=1)
        return x, None

    with patch.object(package, "residual_block", block):
        again = MaskRCNN(config, params).losses(batch, np.random.default_rng(0), targets=kept.targets)[0]
    return sum(again.values())


batch = make_batch([scene()], config)
losses, kept = MaskRCNN(config, params).losses(batch, np.random.default_rng(0))
whole, no_branch, no_shortcut = sum(losses.values()), without("branch"), without("shortcut")
assert no_shortcut > 1.2 * whole and no_shortcut > 1.2 * no_branch
print("without its shortcut the loss grows by more than a fifth; without its branch it is smaller than that")

# %% mystnb={"image": {"alt": "Bars of the sum of the losses: the whole network, without the branch of one block, without its shortcut; the last is by far the largest."}}
figure = Figure(figsize=(6, 2), layout="constrained")
ax = figure.subplots()
ax.barh(["whole", "no branch", "no shortcut"], np.array([whole, no_branch, no_shortcut]) / whole, color=COLOURS[:3])
ax.set(xlabel="sum of the five losses, 1 = the whole network")
ax.invert_yaxis()
show(figure)

# %% [markdown]
# *Figure 3.6. What this block adds is a small correction; what it passes on is what everybody behind it needs.*
#
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | residual networks *guarantee* that more layers do not make the network worse | they make copying the default; nothing is guaranteed, and without norms the sums grow |
# | the five stages C1 to C5 are the five scales of the pyramid | C1 is not used; the pyramid is built from C2 to C5, and its fifth map P6 from P5 |
# | a `conv_block` halves the map | not the one of C2: the stem has halved twice already |
# | the block's chain, without a place for its stride | first 1 × 1 in the Keras code, 3 × 3 in torchvision: the same weights, another function |
#
# ## Do you remember?
#
# <details><summary>Q1. What does a block compute with a branch of zeros?</summary>relu(x): it copies what is positive.</details>
# <details><summary>Q2. Why does the gradient not vanish?</summary>The sum passes it on to x unchanged, whatever the branch does.</details>
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
