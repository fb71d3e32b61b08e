# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 9. Three heads: class, box, mask
#
# After this chapter you can write the heads and their backward passes yourself, count their parameters by hand, and say
# why there is a mask for every class, why each pixel is judged by a sigmoid, and why a mask has 28 × 28 cells.
#
# *Mirrors* ([five texts](00_map.ipynb), which you need not know): the slides' "classifier head" and "mask head", the
# notes' table of layers, and their open question why a mask is not as large as its region. What is wrong in them stands
# at the end.
#
# A *head* is a small network that reads one region and answers one question. Chapter 8 gave it a region of fixed size.
# Three questions remain: what is it, where exactly is its box, and which of its pixels belong to it. The first two are
# answered from 7 × 7 features by one head with two outputs, the third from 14 × 14 features by another. The reason for
# the two sizes: a class is one word about the whole region, a mask is one answer for each place in it.

# %%
import naive
import numpy as np
from gradcheck import adjoint_error, check_gradients
from helpers import COLOURS, DATA, Ledger, check, close, explorable, network, on_both, scene, show, source
from matplotlib.figure import Figure

import kernels
from mrcnn_np import presets
from mrcnn_np.data import SHAPES_CLASSES, open_dataset
from mrcnn_np.detections import own_masks, paste_into_boxes
from mrcnn_np.heads import box_head, box_head_backward, box_head_spec, mask_head, mask_head_backward, mask_head_spec
from mrcnn_np.molding import make_batch
from mrcnn_np.objective import head_mask_loss, head_mask_loss_backward
from mrcnn_np.ops.activation import sigmoid, softmax
from mrcnn_np.ops.conv import conv2d, conv2d_transpose, conv2d_transpose_backward
from mrcnn_np.ops.linear import linear, linear_backward
from mrcnn_np.ops.losses import softmax_cross_entropy, softmax_cross_entropy_backward
from mrcnn_np.params import draw
from mrcnn_np.targets import crop_masks, mask_targets

ledger, rng = Ledger(), np.random.default_rng(0)

# %% [markdown]
# ## The layer that sees everything
#
# A *fully connected* layer, `linear` here, lets every input number vote on every output number: $y = xW + b$. One region
# is one row of $x$. The 7 × 7 × 256 features of a region, written as one row, are 12,544 numbers.
#
# **On paper first.** The Keras code gives this row to 1,024 units, and those to another 1,024. How many weights and
# biases has each of the two layers? Then come the outputs: how many for the classes of COCO (80 and the background), and
# how many for the boxes, four numbers for each class? The same for VOC's 21 classes?

# %%
assert 7 * 7 * 256 == 12_544
assert 12_544 * 1024 + 1024 == 12_846_080 and 1024 * 1024 + 1024 == 1_049_600
spec = {k: box_head_spec(presets.matterport(k)) for k in (81, 21)}


def numbers(tensors, name):
    return sum(int(np.prod(t.shape)) for key, t in tensors.items() if key in (f"{name}.w", f"{name}.b"))


assert numbers(spec[81], "box_head.conv1") == 12_846_080 and numbers(spec[81], "box_head.conv2") == 1_049_600
assert [numbers(spec[k], "box_head.class") for k in (81, 21)] == [83_025, 21_525]
assert [numbers(spec[k], "box_head.deltas") for k in (81, 21)] == [332_100, 86_100]
assert 12_846_080 / 44_454_513 > 0.25  # all of torchvision's maskrcnn_resnet50_fpn
print("hidden layers 12,846,080 and 1,049,600")
print("classes 83,025 or 21,525; boxes four times as many: 332,100 or 86,100")

# %% [markdown]
# Nearly thirteen million in one layer: more than a quarter of torchvision's whole network of 44 million. The Keras code
# writes this layer as a *convolution* with a 7 × 7 kernel and no padding. On a map of 7 × 7 there is only one place for
# such a kernel. So it is the same layer under another name.
#
# The cell shows it, and compares four texts of `linear`: a loop, NumPy, the compiled kernel and the one for graphics cards
# in CUDA, which a simulator runs (chapter 2).

# %%
x, w, b = rng.normal(size=(5, 7, 7, 6)), rng.normal(size=(7, 7, 6, 8)), rng.normal(size=8)
as_convolution = conv2d(x, w, b)[0][:, 0, 0]
with kernels.use("numpy"):
    as_linear, cache = linear(x.reshape(5, -1), w.reshape(-1, 8), b)
ledger.expect("rows of the linear layer", as_linear, (5, 8))
close("a 7 x 7 convolution and a linear layer", as_convolution, as_linear)
close("loop and NumPy, float64", naive.linear(x.reshape(5, -1), w.reshape(-1, 8), b), as_linear)
(fast, _), (on_card, _) = on_both(linear, x.reshape(5, -1), w.reshape(-1, 8), b)
close("NumPy and the compiled kernel, float32", fast, as_linear, tolerance=1e-5)
close("the compiled kernel and CUDA's, simulated", on_card, fast, tolerance=1e-5)

# %% [markdown]
# Its way back, one number at a time: $y_{ro} = \sum_c x_{rc} w_{co} + b_o$. The input $x_{rc}$ went into every output of
# row $r$, each time with weight $w_{co}$; the weight $w_{co}$ was used by every row $r$, each time with $x_{rc}$. Follow
# them back and add up:
#
# $$dx_{rc} = \sum_o dy_{ro}\,w_{co}, \qquad dw_{co} = \sum_r x_{rc}\,dy_{ro}, \qquad db_o = \sum_r dy_{ro}.$$
#
# **On paper first.** $x$ has shape (R, C), $dy$ (R, O). Only one order of factors gives a matrix of the shape of $w$,
# (C, O). Which? Shapes nearly write the backward pass for you.
#
# **Exercise 9.1.** Write it: return `dx, dw, db`.


# %% tags=["exercise-9.1"]
def linear_back(dy, x, w):
    raise NotImplementedError


check("9.1", linear_back)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def linear_back(dy, x, w):
#     return dy @ w.T, x.T @ dy, dy.sum(axis=0)
# ```
#
# (R, O)(O, C), (C, R)(R, O), and a sum over the regions.
# </details>

# %%
rows, matrix = rng.normal(size=(4, 6)), rng.normal(size=(6, 3))
y, kept = linear(rows, matrix, np.zeros(3))
in_numpy = dx, dw, db = linear_backward(np.ones_like(y), kept)  # float64: no kernel takes it, NumPy answers
assert dx.shape == (4, 6) and dw.shape == (6, 3) and np.allclose(db, 4)
assert np.allclose(dw, rows.T @ np.ones_like(y))
for name, mine, compiled, card in zip(("dx", "dw", "db"), in_numpy, *on_both(linear_backward, np.ones_like(y), kept)):
    close(f"{name}: NumPy and the compiled kernel, float32", compiled, mine, tolerance=1e-5)
    close(f"{name}: the compiled kernel and CUDA's, simulated", card, compiled, tolerance=1e-5)


def fully_connected(x, w, b):
    y, kept = linear(x, w, b)
    return y, lambda dy: linear_backward(dy, kept)


check_gradients(fully_connected, rows, matrix, np.zeros(3), rng=rng, tol=1e-6)
print("finite differences agree")

# %% [markdown]
# ## Class and box
#
# The head of this book's network: the region as one row, two hidden layers with a ReLU behind each, then two outputs side
# by side. In the package's source, `conv_bn` is convolution and batch norm (chapter 3) for heads that have some
# (`box_head` is `"fc"` here, so there is none), `shown` lets somebody watch a tensor and changes nothing, and a *cache* is
# what the backward pass will need.

# %%
source(box_head)

# %% [markdown]
# A *logit* is a number before softmax or sigmoid. The class logits $z$ of a region compete. Softmax makes of them
# probabilities that add up to 1, background included:
#
# $$p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}.$$
#
# The box output does not compete. It holds four *deltas* for each class, $(d_y, d_x, d_h, d_w)$ as in chapter 7: how far
# to move the region, in its own sides, and the logarithms of the factors that stretch it. There is a set for each class
# because a region looks different when it is half a bus and when it is half a person. Only one set is ever used: in
# training that of the true class, in inference that of the class that is being proposed.
#
# **On paper first.** Softmax of the logits $(0, \ln 2, \ln 5)$? And for 12 regions and the 4 classes of our shapes: which
# shapes have class logits and deltas?

# %%
model, config = network(), network().config
batch = make_batch([scene()], config)
boxes, classes = batch.gt_boxes[0], batch.gt_class_ids[0]
pyramid = model.first_stage(batch.images)[0]
where = np.zeros(len(boxes), int)
seven, _ = model.roi_features(pyramid, boxes, where, config.box_pool_size, batch.images.shape)
ledger.expect("features for class and box", seven, (5, 7, 7, 48))
class_logits, deltas, _ = box_head(seven, model.params, config)
ledger.expect("class logits", class_logits, (5, 4))
ledger.expect("deltas", deltas, (5, 4, 4))
probabilities = softmax(class_logits)[0]
assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
ledger.expect("deltas that are used", deltas[np.arange(5), classes], (5, 4))
assert np.allclose(softmax(np.array([[0, np.log(2), np.log(5)]]))[0], [[1 / 8, 2 / 8, 5 / 8]])
twelve = box_head(np.repeat(seven, 3, axis=0)[:12], model.params, config)
assert [part.shape for part in twelve[:2]] == [(12, 4), (12, 4, 4)]
assert config.box_head == "fc"
print("softmax 1/8, 2/8, 5/8; 12 regions have logits (12, 4) and deltas (12, 4, 4)")


# %%
held_out = open_dataset("shapes", DATA / "shapes", "val")
many = make_batch([held_out.load(i) for i in range(26)], config)
at = np.repeat(np.arange(26), [len(b) for b in many.gt_boxes])
everything, maps = np.concatenate(many.gt_boxes), model.first_stage(many.images)[0]
crops, _ = model.roi_features(maps, everything, at, config.box_pool_size, many.images.shape)
named = box_head(crops, model.params, config)[0].argmax(axis=1) == np.concatenate(many.gt_class_ids)
assert len(named) == 84 and abs(named.mean() - 5 / 6) < 0.05
assert (probabilities.argmax(axis=1) == [*classes[:3], 0, classes[4]]).all() and probabilities.max(axis=1).min() > 0.8

# %% mystnb={"image": {"alt": "Left: bars with the class probabilities of the five objects of the scene: four have one high bar at their own class, the large triangle at background. Right: the scene with its five true boxes, numbered."}}
figure = Figure(figsize=(8, 3.4), layout="constrained")
left, right = figure.subplots(1, 2)
for k, name in enumerate(SHAPES_CLASSES):
    left.bar(np.arange(5) + 0.2 * (k - 1.5), probabilities[:, k], 0.2, color=COLOURS[k], label=name)
names = [f"{i}: {SHAPES_CLASSES[c]}" for i, c in enumerate(classes)]
left.set(ylim=(0, 1), title="what the head says of the five true boxes")
left.set_xticks(range(5), names, fontsize=7)
left.legend(fontsize=7, ncols=4, loc="lower center", bbox_to_anchor=(0.5, -0.25))
right.imshow(scene().image)
for i, (y1, x1, y2, x2) in enumerate(boxes):
    right.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="black", lw=1.5)
    right.text(x1 + 1, y2 - 2, str(i), fontsize=10, backgroundcolor="white")
right.set(xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 9.1. The true boxes given to the class head; the highest bar is its answer. Four of five are right. The large
# triangle, on which a square lies, is taken for background. The head gives each of its five answers more than 0.8, also
# the wrong one: a high probability is no proof. Of all 84 objects of 26 held-out images it names about five in six.
# Chapter 7 had a proposal for nearly every one of them: to find a place is easier than to say what is there.*
#
# ### The way back through two outputs
#
# Both outputs read the same hidden row $h$. A number that goes two ways receives a gradient from each, and they add:
#
# $$dh = dz\,W_{class}^\top + dd\,W_{deltas}^\top.$$
#
# Behind that sum the way back is a chain, read from the end: ReLU, `linear`, ReLU, `linear`, and the row becomes a map
# again.
#
# **On paper first.** Let $h$ be one number, 3, the class weight 2 and the delta weight −5. The loss is the sum of both
# outputs. What is $dh$?

# %%
shared_class, shared_deltas = (linear(np.array([[3.0]]), np.array([[v]]), np.zeros(1))[1] for v in (2.0, -5.0))
both = [linear_backward(np.ones((1, 1)), kept)[0].item() for kept in (shared_class, shared_deltas)]
assert both == [2, -5] and sum(both) == -3
source(box_head_backward)

# %% [markdown]
# The check covers the features and a weight before the fork; a wrong sum would show in both. (`grads` collects the
# gradients of the parameters by name.)

# %%
double = {name: value.astype(np.float64) for name, value in model.params.items() if "head" in name}


def class_and_box(features, w):
    z, d, kept = box_head(features, double | {"box_head.fc2.w": w}, config, training=True)

    def back(dys):
        grads = {}
        return box_head_backward(*dys, kept, grads), grads["box_head.fc2.w"]

    return [z, d], back


check_gradients(class_and_box, seven.astype(np.float64), double["box_head.fc2.w"], rng=rng, eps=1e-7, tol=1e-6)
print("class and box head: dh is -3 on paper, and finite differences agree")

# %% [markdown]
# **Exercise 9.2.** From the deltas of all classes `(R, K, 4)`, regions `(R, 4)` and class ids `(R,)`, return the moved
# boxes `(R, 4)`. The deltas are divided by `std` (0.1, 0.1, 0.2, 0.2); undo that. The centre moves by $d_y$ and $d_x$ times
# the *old* sides; the sides are multiplied by $e^{d_h}$ and $e^{d_w}$.


# %% tags=["exercise-9.2"]
def moved_boxes(deltas, regions, class_ids, std):
    raise NotImplementedError


check("9.2", moved_boxes)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def moved_boxes(deltas, regions, class_ids, std):
#     own = deltas[np.arange(len(class_ids)), class_ids] * np.asarray(std)
#     sides = regions[:, 2:] - regions[:, :2]
#     centres = regions[:, :2] + sides / 2 + own[:, :2] * sides
#     sides = sides * np.exp(own[:, 2:])
#     return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
# ```
#
# `deltas[:, class_ids]` would be (R, R, 4): every region with every other's class.
# </details>
#
# ## The layer that enlarges
#
# The mask head is a row of 3 × 3 convolutions on 14 × 14 cells, each with a ReLU (the Keras code has batch norm between),
# then a layer that doubles the sides, with a ReLU, then a 1 × 1 convolution to one number per class. The enlarging layer
# is the *transposed convolution* of chapter 2, often, wrongly, called a deconvolution. Here you write it, for the one
# kernel that the head needs.
#
# A convolution gathers: an output cell is a weighted sum of a window of input. Turn all arrows round, and an input cell
# *stamps* the kernel, times its value, onto a window of output:
#
# $$y_{2p+i,\,2q+j,\,o} = \sum_c x_{p,q,c}\; w_{i,j,c,o} + b_o, \qquad i, j \in \{0, 1\}.$$
#
# With a 2 × 2 kernel and stride 2 the stamps lie side by side and never overlap: each output cell has exactly one parent.
#
# **On paper first.** One channel, $x = \begin{pmatrix}1 & 2\\ 3 & 4\end{pmatrix}$, kernel
# $\begin{pmatrix}1 & 10\\ 0 & -1\end{pmatrix}$. Write down the 4 × 4 output. (The second half of the cell compares the four
# texts again, on random numbers.)

# %%
parents, stamp = np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 10], [0, -1]])
stamped, _ = conv2d_transpose(parents[None, :, :, None], stamp[:, :, None, None])
by_hand = [[1, 10, 2, 20], [0, -1, 0, -2], [3, 30, 4, 40], [0, -3, 0, -4]]
assert np.array_equal(stamped[0, :, :, 0], by_hand)
assert np.array_equal(stamped[0, :, :, 0], np.kron(parents, stamp))

x, w, b = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 2, 5, 3)), rng.normal(size=3)
with kernels.use("numpy"):
    enlarged, cache = conv2d_transpose(x, w, b)
ledger.expect("enlarged", enlarged, (2, 6, 8, 3))
close("loop and NumPy, float64", naive.conv2d_transpose(x, w, b), enlarged)
(fast, _), (on_card, _) = on_both(conv2d_transpose, x, w, b)
close("NumPy and the compiled kernel, float32", fast, enlarged, tolerance=1e-5)
close("the compiled kernel and CUDA's, simulated", on_card, fast, tolerance=1e-5)

# %% mystnb={"image": {"alt": "Left: a 2 by 2 map. Right: the 4 by 4 map that it stamps; each block of four cells has the colour of its parent."}}
figure = Figure(figsize=(7, 3.1), layout="constrained")
for ax, picture, block in zip(figure.subplots(1, 2), (parents, stamped[0, :, :, 0]), (1, 2)):
    for y, x0 in np.ndindex(picture.shape):
        colour = COLOURS[(y // block) * 2 + x0 // block]
        ax.fill([x0, x0 + 1, x0 + 1, x0], [y, y, y + 1, y + 1], color=colour, alpha=0.35, ec="black")
        ax.text(x0 + 0.5, y + 0.5, f"{picture[y, x0]:g}", ha="center", va="center", fontsize=13)
    ax.set(xticks=[], yticks=[], xlim=(0, len(picture)), ylim=(len(picture), 0), aspect="equal")
show(figure)

# %% [markdown]
# *Figure 9.2. Four cells stamp the kernel (1, 10 above 0, −1), each times its own value, side by side.*
#
# **Exercise 9.3.** Write it for one map `x` of shape (H, W, C) and `w` of shape (2, 2, C, O), stride 2, no bias.


# %% tags=["exercise-9.3"]
def enlarge(x, w):
    raise NotImplementedError


check("9.3", enlarge)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def enlarge(x, w):
#     y = np.zeros((2 * x.shape[0], 2 * x.shape[1], w.shape[3]))
#     for i in range(2):
#         for j in range(2):
#             y[i::2, j::2] = x @ w[i, j]
#     return y
# ```
#
# Four matrix products, one for each place within a stamp.
# </details>
#
# The way back gathers what was stamped. Each $x_{p,q,c}$ went into four cells and all $O$ channels, so
# $dx_{p,q,c} = \sum_{i,j,o} dy_{2p+i,\,2q+j,\,o}\,w_{i,j,c,o}$: an ordinary convolution with stride 2. Each weight was
# used once at every place: $dw_{i,j,c,o} = \sum_{p,q} x_{p,q,c}\,dy_{2p+i,\,2q+j,\,o}$.
#
# **Exercise 9.4.** Write both: return `dx, dw`.


# %% tags=["exercise-9.4"]
def enlarge_back(dy, x, w):
    raise NotImplementedError


check("9.4", enlarge_back)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def enlarge_back(dy, x, w):
#     dx, dw = np.zeros(x.shape), np.zeros(w.shape)
#     for i in range(2):
#         for j in range(2):
#             part = dy[i::2, j::2]
#             dx += part @ w[i, j].T
#             dw[i, j] = np.tensordot(x, part, axes=([0, 1], [0, 1]))
#     return dx, dw
# ```
#
# `part` is what one place of all stamps receives; it has the rows and columns of `x`.
# </details>
#
# The package says it with the two sums of a convolution (chapter 2): `_gather` is the convolution itself, and
# `_weight_gradient` is that of its weights. Input and output have changed places, so the kernel's last two axes change
# places, too.

# %%
source(conv2d_transpose_backward)


# %%
def transposed(x, w, b):
    y, kept = conv2d_transpose(x, w, b)
    return y, lambda dy: conv2d_transpose_backward(dy, kept)


x = rng.normal(size=(2, 3, 4, 5))
check_gradients(transposed, x, w, b, rng=rng, tol=1e-6)
turned = w.swapaxes(2, 3)  # the same kernel as a convolution: channels exchanged
both_ways = lambda u: conv2d_transpose(u, w)[0], lambda v: conv2d(v, turned, stride=2)[0]
assert adjoint_error(*both_ways, (2, 3, 4, 5), (2, 6, 8, 3), rng) < 1e-14
print("finite differences agree, and a convolution of stride 2 is its adjoint")

# %% [markdown]
# *Transposed* is meant literally: as matrices the two layers are $W$ and $W^\top$. The one is not the inverse of the
# other; nothing is un-done, hence not "deconvolution".
#
# ## The mask head
#
# **On paper first.** Four 3 × 3 convolutions of 256 channels with bias, one transposed 2 × 2 convolution of 256 channels,
# one 1 × 1 convolution to 81 or 21 classes. How many parameters has each? How many numbers come out for one region?

# %%
masks_of = {k: mask_head_spec(presets.matterport(k)) for k in (81, 21)}
assert 3 * 3 * 256 * 256 + 256 == 590_080 == numbers(masks_of[81], "mask_head.conv1")
assert 2 * 2 * 256 * 256 + 256 == 262_400 == numbers(masks_of[81], "mask_head.deconv")
assert [numbers(masks_of[k], "mask_head.logits") for k in (81, 21)] == [20_817, 5_397]
assert [k * 28 * 28 for k in (81, 21)] == [63_504, 16_464]
fourteen, _ = model.roi_features(pyramid, boxes, where, config.mask_pool_size, batch.images.shape)
ledger.expect("features for masks", fourteen, (5, 14, 14, 48))
mask_logits, _ = mask_head(fourteen, model.params, config)
ledger.expect("mask logits", mask_logits, (5, 28, 28, 4))
ledger.expect("masks of the true classes", own_masks(mask_logits, classes), (5, 28, 28))
assert np.allclose(own_masks(mask_logits, classes)[2], sigmoid(mask_logits[2, :, :, classes[2]])[0])
print("590,080 for each 3 x 3, 262,400, and 20,817 or 5,397; 63,504 or 16,464 numbers for one region")

# %%
source(mask_head)

# %% [markdown]
# `activate=True` is the ReLU behind the enlarging layer. The whole head is a chain, so its backward pass is the chain read
# from the end:

# %%
source(mask_head_backward)


# %%
def whole_head(features, w):
    y, kept = mask_head(features, double | {"mask_head.deconv.w": w}, config, training=True)

    def back(dy):
        grads = {}
        return mask_head_backward(dy, kept, grads), grads["mask_head.deconv.w"]

    return y, back


two = fourteen[:2].astype(np.float64)
check_gradients(whole_head, two, double["mask_head.deconv.w"], rng=rng, eps=1e-7, tol=1e-6)
assert (config.rois_per_image, config.roi_positive_fraction) == (48, 0.25)
assert (config.proposals_post_nms_test, config.detections_per_image) == (200, 50)
print("mask head: the gradients of the features and of the enlarging layer agree with finite differences")

# %% [markdown]
# What the heads read is not the same in training and in inference. For one image of our network:
#
# | | class and box head reads | mask head reads |
# |---|---|---|
# | training | 48 sampled regions (chapter 10) | the positive ones among them, at most 12: only they have a mask to learn |
# | inference | the 200 proposals | the final detections, at most 50, after they were moved and suppressed |
#
# In training the two heads stand beside each other. In inference the mask head comes after the other one: the
# detections are fewer than the proposals, and they sit better.
#
# ## Why a mask for each class, and why a sigmoid?
#
# A pixel could be judged in three ways. **Softmax over the classes**, as in semantic segmentation: each pixel says which
# class it is, background among them, and classes compete. **A sigmoid for each class**: each class has its own mask, and
# answers yes or no as if the others did not exist. **One sigmoid for all**: a mask without a class.
#
# Each has a loss that is small where the answer is right; chapter 11 derives them. For softmax, each pixel's label is the
# region's class or the background. For a sigmoid per class only the mask of the true class $k_r$ of region $r$ is looked
# at, a mean over the $P$ positive regions and their cells:
#
# $$L = \frac{1}{28^2 P} \sum_{r} \sum_{i,j} \text{cross entropy}\bigl(\sigma(z_{r,i,j,k_r}),\; t_{r,i,j}\bigr).$$
#
# The paper reports a mask AP (a score of masks, larger is better) of 24.8 with softmax, 30.3 with a sigmoid per class,
# and 29.7 with one for all. The argument: the class head has looked at the whole region already. To ask each pixel again
# doubles the work, and a pixel that gets the class wrong leaves a hole.
#
# **On paper first.** A pixel of a triangle gets 0.1 for background, 0.3 for circle, 0.2 for square, 0.4 for triangle. Is
# it painted if its class needs half of the probability? And if it only has to beat the background?
#
# Arguments are cheap; train all three. Same features of the frozen backbone, same fresh weights, same 120 steps of 24
# regions each, taken from 96 training images; only the loss differs.


# %%
def regions(split, count, draws):
    dataset = open_dataset("shapes", DATA / "shapes", split)
    held = make_batch([dataset.load(i) for i in range(count)], config)
    levels, parts = model.first_stage(held.images)[0], []
    for n, truth in enumerate(held.gt_boxes):
        owner = np.repeat(np.arange(len(truth)), 2)  # two regions about each object, a little off
        sides = np.tile(truth[owner, 2:] - truth[owner, :2], 2)
        rois = np.clip(truth[owner] + draws.normal(0, 0.12, (len(owner), 4)) * sides, 0, 128).astype(np.float32)
        goal = mask_targets(rois, owner, truth, held.gt_masks[n], config)
        parts.append((rois, np.full(len(owner), n), held.gt_class_ids[n][owner], goal))
    rois, index, ids, goals = (np.concatenate(column) for column in zip(*parts))
    return model.roi_features(levels, rois, index, 14, held.images.shape)[0], ids, goals


train, held_out = regions("train", 96, np.random.default_rng(1)), regions("val", 26, np.random.default_rng(2))


# %%
def softmax_loss(logits, ids, goals):
    labels = np.where(goals >= 0.5, ids[:, None, None], 0).ravel()
    terms, kept = softmax_cross_entropy(logits.reshape(-1, 4), labels)
    back = softmax_cross_entropy_backward(np.full(len(terms), 1 / len(terms), np.float32), kept)
    return back.reshape(logits.shape)


def trained(kind, steps=120):
    p, draws = draw(mask_head_spec(config), np.random.default_rng(0), np.float32), np.random.default_rng(0)
    velocity = {name: 0 * value for name, value in p.items()}
    for _ in range(steps):
        chosen = draws.choice(len(train[0]), 24, replace=False)
        features, ids, goals = (part[chosen] for part in train)
        ids = np.ones_like(ids) if kind == "one" else ids
        logits, kept = mask_head(features, p, config, training=True)
        if kind == "softmax":
            dlogits = softmax_loss(logits, ids, goals)
        else:
            dlogits = head_mask_loss_backward(1.0, head_mask_loss(logits, ids, goals)[1])
        grads = {}
        mask_head_backward(dlogits, kept, grads)
        for name, gradient in grads.items():
            velocity[name] = 0.9 * velocity[name] + gradient
            p[name] = p[name] - 0.05 * velocity[name]
    return p


# %% [markdown]
# ## Break it
#
# Softmax in place of the sigmoid is the experiment that breaks it. To be fair to softmax it is read in two ways: as
# trained, a pixel belongs to the mask if its class has half of the probability; and, more kindly, if its class merely
# beats the background. The pixel above, 0.4 for triangle and 0.1 for background, is a hole by the first and painted by the
# second.


# %% tags=["break-it"]
def overlap(probability, goals):
    ours, theirs = probability >= 0.5, goals >= 0.5
    return ((ours & theirs).sum((1, 2)) / np.maximum((ours | theirs).sum((1, 2)), 1)).mean()


assert 0.4 < 0.5 < 0.4 / (0.4 + 0.1)
features, ids, goals = held_out
rows = np.arange(len(ids))
per_class = own_masks(mask_head(features, trained("sigmoid"), config)[0], ids)
for_all = own_masks(mask_head(features, trained("one"), config)[0], np.ones_like(ids))
logits = mask_head(features, trained("softmax"), config)[0]
competing = softmax(logits.reshape(-1, 4))[0].reshape(logits.shape)
own, background = competing[rows, :, :, ids], competing[..., 0]
ious = {
    "sigmoid, a mask per class": overlap(per_class, goals),
    "sigmoid, one mask for all": overlap(for_all, goals),
    "softmax, half the probability": overlap(own, goals),
    "softmax, beats the background": overlap(own / (own + background), goals),
}
assert abs(ious["softmax, half the probability"] / ious["sigmoid, a mask per class"] - 1 / 2) < 0.1
assert abs(ious["sigmoid, a mask per class"] - ious["sigmoid, one mask for all"]) < 0.05
assert 0.02 < ious["sigmoid, a mask per class"] - ious["softmax, beats the background"] < 0.1
assert (own >= 0.5)[goals >= 0.5].mean() < 1 / 2 and abs((own < 0.5).all(axis=(1, 2)).mean() - 1 / 20) < 0.03
for name, value in ious.items():
    print(f"{name:<30} mean IoU {value:.1f}")

# %% mystnb={"image": {"alt": "Bars: mean IoU of held-out masks. The two sigmoids are about equal. Softmax has half of that where a class needs half of the probability, and comes close where it only has to beat the background."}}
figure = Figure(figsize=(7, 2.4), layout="constrained")
ax = figure.subplots()
ax.barh(list(ious)[::-1], list(ious.values())[::-1], color=[COLOURS[1], COLOURS[1], COLOURS[0], COLOURS[0]])
ax.set(xlim=(0, 1), xlabel="mean IoU of masks that were not trained on")
show(figure)

# %% [markdown]
# *Figure 9.3. Three losses, one network, regions of held-out images: for each, the IoU of the painted cells and of those
# that the object covers by half. Softmax is last, as in the paper; the distances are those of a short training. Printed is
# one digit, as the next changes with the processor: the assertions say how far apart they are.*
#
# What happened? With softmax a pixel has to know the class. The backbone's features would tell (figure 9.1), but a fresh
# mask head does not learn to read that from them in 120 steps. So at many pixels no class gets half of the probability:
# less than half of the objects' cells are painted, and about one mask in twenty stays empty. Read kindly, where the class
# only has to beat the background, softmax comes within 0.1 of the sigmoid. The sigmoid never asks for the class. After
# the paper's long training softmax is still 5.5 points behind.
#
# That *one* mask for all does about as well teaches something, too: not the number of masks matters, but that they do
# not compete. The paper says the same (29.7 against 30.3), and a mask per class costs almost nothing.
#
# ## Why 28 × 28, and not as large as the region?
#
# The documents leave this question open. Two answers. First, regions of different sizes cannot lie in one tensor, and with
# one size for all each object counts the same in the loss, however large it is. So the mask lives in the *frame of its
# region*: cell (0, 0) is the region's upper left corner, wherever and however large the region is, and at the end it is
# enlarged to the box.
#
# Second, more cells buy little. How little, an *oracle* tells: a head that knows the truth. Take the true mask; give each
# of $m \times m$ cells the share of its area that the object covers; enlarge these numbers to the box again, each pixel a
# weighted mean of the four cells around it; paint where the mean reaches one half; compare.
#
# **On paper first.** A bar 3 pixels wide stands in a region of 28 × 28 pixels, wholly within the second of $m = 4$ columns
# of cells. Which share do its cells hold? What is painted?


# %%
def oracle(masks, frames, m):
    cells = crop_masks(masks, np.arange(len(masks)), frames, output_size=m, method="roi_align", aligned=True)
    painted = paste_into_boxes(cells, frames, masks.shape[1:], method="grid_sample", threshold=0.5)
    return (painted & masks).sum((1, 2)) / (painted | masks).sum((1, 2))


bar = np.zeros((1, 28, 28), bool)
bar[:, :, 9:12] = True
whole = np.array([[0.0, 0, 28, 28]])
quarter = crop_masks(bar, np.zeros(1, int), whole, output_size=4, method="roi_align", aligned=True)
assert np.allclose(quarter[0], [[0, 3 / 7, 0, 0]] * 4) and oracle(bar, whole, 4) == 0
print("the bar: 3/7 is less than a half, so nothing is painted")

# %%
sizes, images = (4, 7, 14, 28, 56), [(m, b.astype(float)) for m, b in zip(many.gt_masks, many.gt_boxes)]
curve = np.concatenate([[oracle(*image, m) for m in sizes] for image in images], axis=1).mean(axis=1)
widths = everything[:, 3] - everything[:, 1]
assert np.median(widths) <= 28 and abs(1 - max(ious.values()) - 1 / 5) < 0.05
assert curve[0] < 0.93 and 0.94 < curve[1] < 0.97 and curve[2] > 0.98 and curve[3] > 0.998
print("m:  ", "  ".join(f"{m:>5}" for m in sizes))
print("IoU:", "  ".join(f"{v:5.3f}" for v in curve))

# %% [markdown]
# With 28 cells a perfect head would lose a thousandth; with 7, the number that one document gives for $m$, four
# hundredths. The best head of figure 9.3 loses about a fifth: the cells are not what limits it. But our objects are
# small: half of them are at most 28 pixels wide. A large object with thin parts is harder. Take a star of seven rays:


# %%
def star(n):
    angle = np.pi * np.arange(14) / 7 - np.pi / 2
    radius = 0.48 * n * np.where(np.arange(14) % 2, 0.45, 1)
    py, px = n / 2 + radius * np.sin(angle), n / 2 + radius * np.cos(angle)
    y, x = np.mgrid[:n, :n] + 0.5
    inside = np.zeros((n, n), bool)
    for i in range(14):
        y1, x1, y2, x2 = py[i - 1], px[i - 1], py[i], px[i]
        crosses = (y1 > y) != (y2 > y)
        inside ^= crosses & (x < x1 + (y - y1) / (y2 - y1 if y2 != y1 else 1) * (x2 - x1))
    ys, xs = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return inside, np.array([[ys[0], xs[0], ys[-1] + 1, xs[-1] + 1]], float)


stars = {n: [oracle(star(n)[0][None], star(n)[1], m)[0] for m in sizes] for n in (48, 400)}
assert stars[48][3] > 0.97 > stars[400][3] > 0.95 and stars[400][4] > 0.98

# %% mystnb={"image": {"alt": "Curves of IoU over the number of cells m for our shapes and for a star of 48 and of 400 pixels; all rise steeply to 28 and are nearly flat beyond."}}
figure = Figure(figsize=(6.5, 3.2), layout="constrained")
ax = figure.subplots()
ax.plot(sizes, curve, "o-", color=COLOURS[0], label="objects of our images")
ax.plot(sizes, stars[48], "s-", color=COLOURS[1], label="star of 48 pixels")
ax.plot(sizes, stars[400], "^-", color=COLOURS[2], label="star of 400 pixels")
ax.axvline(28, color="0.6", lw=1)
ax.set(xlabel="m: cells along one side", ylabel="IoU of a perfect mask", xticks=sizes, ylim=(0.5, 1.01))
ax.legend(fontsize=8)
show(figure)

# %% [markdown]
# *Figure 9.4. What $m$ cells cost a head that makes no mistakes. At 28 the curves are nearly flat.*
#
# Even the large star keeps more than 0.95. COCO's strictest threshold is 0.95; a head that makes mistakes of its own is
# limited by them long before. "Blocky" masks of large objects come from here, and twice as many cells would mend them at
# four times the price.
#
# ## Trace every number
#
# Drag the box over the star, change its size at the round handle, move the slider for $m$, and choose a pixel with the
# square one. Left, the cells of the target: each holds the share of its area that the object covers. Right, the pixels
# that they paint again: green is right, blue was lost, orange was invented. The table follows one pixel: the four cells
# around it, their weights, the sum, and whether it reaches one half. Shrink the box until it cuts off a ray: what lies
# outside of a region cannot be painted.

# %% mystnb={"image": {"alt": "The start of the live picture. Left: a star of seven rays and 7 by 7 cells with the share that it covers. Right: the pixels that these cells paint; the tips of the rays are lost."}}
truth, frame = star(40)
cells = crop_masks(truth[None], np.zeros(1, int), frame, output_size=7, method="roi_align", aligned=True)
painted = paste_into_boxes(cells, frame, truth.shape, method="grid_sample", threshold=0.5)[0]
assert cells.max() < 1 + 1e-9 and (painted & ~truth).any() and (truth & ~painted).any()
figure = Figure(figsize=(7.6, 3.8), layout="constrained")
left, right = figure.subplots(1, 2)
y1, x1, y2, x2 = frame[0]
left.imshow(cells[0], cmap="Greys", vmax=1.6, extent=(x1, x2, y2, y1))
left.contour(np.arange(40) + 0.5, np.arange(40) + 0.5, truth, [0.5], colors=[COLOURS[0]])
for i, j in np.ndindex(7, 7):
    where = x1 + (j + 0.5) * (x2 - x1) / 7, y1 + (i + 0.5) * (y2 - y1) / 7
    left.text(*where, f"{cells[0, i, j]:.2f}", ha="center", va="center", fontsize=7)
colours = np.array([[255, 255, 255], [213, 94, 0], [0, 114, 178], [128, 207, 185]], np.uint8)
right.imshow(colours[truth * 2 + painted], extent=(0, 40, 40, 0))
for ax, title in ((left, "shares of 7 × 7 cells"), (right, "right, lost, invented")):
    ax.set(title=title, xticks=[], yticks=[], xlim=(0, 40), ylim=(40, 0))
show(figure)

# %% [markdown]
# *Figure 9.5. The start of the live picture below. Green: right, blue: lost, orange: invented.*

# %%
explorable("mask_grid", truth=truth.astype(int), box=frame[0], m=7)

# %% [markdown]
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | a mask has $K\,m^2$ numbers with $m = 7$, the pooling's size | $m = 28$: 14 × 14 cells are read and doubled; 63,504 numbers for 81 classes |
# | in inference the mask head runs before the detections are chosen | after: it reads the detections |
# | it reads the 100 best proposals | the at most 100 best detections, after suppression |
# | the mask loss is the sigmoid of the class | the sigmoid is the activation; the loss is a cross entropy, its mean over the cells |
# | the mask is a semantic mask | an instance mask: it separates two circles that touch |
# | anchors enter the heads | anchors live in the proposal network only; heads read features of regions |
#
# ## Do you remember?
#
# <details><summary>Q1. Why 7 × 7 for the class and 14 × 14 for the mask?</summary>A class is one answer for the region; a mask is an answer for each place and needs more places.</details>
# <details><summary>Q2. When is a convolution a fully connected layer?</summary>When its kernel is as large as the map and there is no padding: it fits in one place only.</details>
# <details><summary>Q3. What is dw of a linear layer?</summary>The transposed input times the gradient of the output, summed over the regions.</details>
# <details><summary>Q4. Why are there four deltas for each class?</summary>How a box should move depends on what is in it. Only one class's set is used.</details>
# <details><summary>Q5. Which deltas are used in inference?</summary>Those of the class that the detection is reported as.</details>
# <details><summary>Q6. What does a transposed convolution do?</summary>Each input cell stamps the kernel, times its value, onto the output.</details>
# <details><summary>Q7. Why do the stamps not overlap here?</summary>The kernel is as wide as the stride: 2.</details>
# <details><summary>Q8. What is its backward pass?</summary>A convolution with the same kernel, channels exchanged, stride 2.</details>
# <details><summary>Q9. Why is "deconvolution" a bad name?</summary>It is the transpose of a convolution, not its inverse.</details>
# <details><summary>Q10. Why a sigmoid and no softmax?</summary>The class head has decided already. With softmax each pixel has to decide again, and classes take probability from one another.</details>
# <details><summary>Q11. Does a mask per class beat one for all?</summary>Hardly; what matters is that masks do not compete.</details>
# <details><summary>Q12. Which regions does the mask head read?</summary>The positive ones in training, the final detections in inference.</details>
# <details><summary>Q13. In which frame does a mask live?</summary>In that of its region; it is enlarged to the box at the end.</details>
# <details><summary>Q14. Two outputs read one hidden row. What gradient does the row receive?</summary>The sum of what both send back.</details>
