# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11. Losses
#
# After this chapter you can write the five losses of Mask R-CNN and their gradients, say what each of them shows before
# any training, and find out why two implementations print different values for the same network.
#
# *Mirrors* ([five texts](00_map.ipynb), which you need not know): the slides' loss functions, the walk through the
# Keras code's five loss layers, and the articles' $L = L_{cls} + L_{box} + L_{mask}$. What is wrong in them stands at
# the end.
#
# The network says something: numbers. Somebody has written down what it should have said: *targets*. A loss
# turns the difference into one number, small if the network is right. Training only ever sees the slope of that number. So
# of every loss we ask two things: how large is it, and how does it pull?

# %%
import dataclasses

import naive
import numpy as np
from gradcheck import check_gradients
from helpers import COLOURS, Ledger, MaskRCNN, check, close, explorable, make_batch, network, on_both, scene, show
from helpers import simulated, source
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import kernels
from mrcnn_np import objective
from mrcnn_np.boxes import encode_boxes, iou
from mrcnn_np.heads import mask_head
from mrcnn_np.objective import LOSSES, head_box_loss, head_class_loss, head_mask_loss, rpn_box_loss, rpn_class_loss
from mrcnn_np.ops.losses import sigmoid_cross_entropy, sigmoid_cross_entropy_backward, smooth_l1, smooth_l1_backward
from mrcnn_np.ops.losses import softmax_cross_entropy, softmax_cross_entropy_backward
from mrcnn_np.targets import mask_targets

ledger, rng = Ledger(), np.random.default_rng(0)
config = network().config
params = {name: p.astype(np.float64) for name, p in network().params.items()}
model, batch = MaskRCNN(config, params), make_batch([scene()], config, np.float64)
losses, cache = model.losses(batch, 0)
targets = cache.targets

# %% [markdown]
# ## Five questions
#
# | loss | the question | asked of |
# |---|---|---|
# | `rpn_class` | is there an object? | the sampled anchors |
# | `rpn_box` | how must the anchor be moved to fit it? | the positive anchors |
# | `head_class` | which class is it? | the sampled regions |
# | `head_box` | how must the region be moved? | the positive regions |
# | `head_mask` | which pixels of the region belong to it? | the positive regions |
#
# The first two belong to the region proposal network, the other three to the heads. Three of the questions are choices,
# two ask for a measurement. Choices are judged by *cross-entropy*, measurements by *smooth L1*. The total is the plain
# sum: `loss_weights` are all 1 in the paper, in the Keras code, in torchvision and in detectron2.
#
# Anchors and regions of which nothing is asked get no loss: chapter 6 and chapter 10 say how they are drawn.
#
# **On paper first.** On our image 128 of 4092 anchors are asked whether they see an object, six of them are told how to
# move, and twelve regions of 48 are positive. How many numbers does each of the five losses average?

# %%
counts = {name: cache.losses[name].terms.shape for name in LOSSES}
assert counts == {
    "rpn_class": (128,),
    "rpn_box": (6, 4),
    "head_class": (48,),
    "head_box": (12, 4),
    "head_mask": (12, 28, 28),
}
ledger.expect("objectness logits", model.first_stage(batch.images)[1], (1, 4092))
for name, shape in counts.items():
    print(f"{name:<11} {losses[name]:.3f}, from {np.prod(shape)} numbers")

# %% [markdown]
# A box is four numbers, so 6 × 4 and 12 × 4; a mask 28 × 28, so 12 × 784 = 9408.
#
# ## The price of a surprise
#
# A class head gives one number per class, the *logits* $x_k$. They become probabilities by the *softmax*,
# $p_k = e^{x_k} / \sum_l e^{x_l}$. What should it cost if the true class $t$ got the probability $p_t$? Nothing, if $p_t = 1$.
# Without limit, if $p_t \to 0$: the network was sure, and wrong. And the costs of two independent answers should add, while
# their probabilities multiply. What turns products into sums is the logarithm:
#
# $$L = -\log p_t = -\log \frac{e^{x_t}}{\sum_l e^{x_l}} = \log \sum_l e^{x_l} - x_t.$$
#
# **On paper first.** The logits are 2, 1, 0 and class 1 is true. What is $p$, what is the loss? ($e = 2.718$, $e^2 = 7.389$.)

# %%
logits, label = np.array([[2.0, 1.0, 0.0]]), np.array([1])
p = np.exp(logits) / np.exp(logits).sum()
assert np.allclose(p, [[0.6652, 0.2447, 0.0900]], atol=5e-5)
assert np.isclose(-np.log(p[0, 1]), 1.4076, atol=5e-5)
loss, kept = softmax_cross_entropy(logits, label)
assert np.isclose(loss.item(), -np.log(p[0, 1]))
print("p =", p[0].round(4).tolist(), " loss", loss.round(4).item())

# %% [markdown]
# Now the slope. Differentiate the last form. The derivative of $\log \sum_l e^{x_l}$ with respect to $x_k$ is
# $e^{x_k} / \sum_l e^{x_l} = p_k$; that of $-x_t$ is $-1$ at the true class and 0 elsewhere. So
#
# $$\frac{\partial L}{\partial x_k} = p_k - [k = t],$$
#
# where the bracket is 1 if what stands in it is true, and 0 if not.
#
# What the network said, minus what it should have said. The true class is pulled up by what it lacks, each other class
# is pushed down by what it has. Nothing saturates: a network that is sure and wrong gets the full pull of nearly 1.
#
# **On paper first.** The gradient of the example, and the sum of its three numbers?

# %%
gradient = softmax_cross_entropy_backward(np.ones(1), kept)
assert np.allclose(gradient, [[0.6652, -0.7553, 0.0900]], atol=5e-5)
assert np.isclose(gradient.sum(), 0)
print("gradient", gradient[0].round(4).tolist())

# %% mystnb={"image": {"alt": "Left: minus the logarithm of the true class's probability, steep near zero. Right: bars of the three probabilities and of the gradient p minus one-hot."}}
figure = Figure(figsize=(8, 3), layout="constrained")
left, right = figure.subplots(1, 2)
q = np.linspace(0.005, 1, 200)
left.plot(q, -np.log(q), color=COLOURS[0])
left.plot(p[0, 1], loss[0], "o", color=COLOURS[1])
left.set(xlabel="probability of the true class", ylabel="loss")
right.bar(np.arange(3) - 0.2, p[0], 0.38, color=COLOURS[0], label="p")
right.bar(np.arange(3) + 0.2, gradient[0], 0.38, color=COLOURS[1], label="gradient, p − [true]")
right.axhline(0, color="0.3", lw=0.8)
right.set(xticks=range(3), xticklabels=["class 0", "class 1 (true)", "class 2"])
right.legend()
show(figure)

# %% [markdown]
# *Figure 11.1. Loss and gradient of the example.*
#
# The three numbers add up to 0, as they must: adding the same number to all logits changes no probability, so in that
# direction the loss has no slope.
#
# ## The same without overflow
#
# The formula is right and the obvious program is wrong. $e^{89}$ is too large for float32. But a constant may be
# subtracted from all logits: it cancels in $p$. Subtract the largest; then no exponent is positive, and the sum is at
# least 1, so its logarithm is harmless, too. This is the *log-sum-exp* trick, and the reason why all losses here take
# logits and never probabilities.
#
# **On paper first.** The logits are 90 and 0, class 1 is true. What is the loss, with 90 subtracted from both?

# %%
with np.errstate(all="ignore"):
    huge = np.array([90.0, 0.0], np.float32)
    naive_loss = -np.log(np.exp(huge) / np.exp(huge).sum())[1]
assert not np.isfinite(naive_loss)
assert softmax_cross_entropy(huge[None], np.array([1]))[0].item() == 90
assert (
    np.isclose(-np.log(2.0**-24), 16.6, atol=0.05)
    and np.isfinite(np.exp(np.float32(88)))
    and np.log(np.finfo(np.float32).max) < 89
)
print("logits 90 and 0, class 1 is true: the obvious program says", naive_loss, "and the package 90")

# %% [markdown]
# **Exercise 11.1.** Write loss and gradient of one row of logits, so that it survives logits of ±1000. Return both.


# %% tags=["exercise-11.1"]
def softmax_loss(logits, label):
    raise NotImplementedError


check("11.1", softmax_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def softmax_loss(logits, label):
#     shifted = logits - logits.max()
#     total = np.exp(shifted).sum()
#     gradient = np.exp(shifted) / total
#     gradient[label] -= 1
#     return np.log(total) - shifted[label], gradient
# ```
# </details>
#
# ## Yes or no
#
# Objectness and each pixel of a mask are questions of yes or no. One logit $x$ is enough: $\sigma(x) = 1 / (1 + e^{-x})$ is
# the probability of yes. With the target $t$, 1 or 0,
#
# $$L = -t \log \sigma(x) - (1 - t) \log (1 - \sigma(x)), \qquad \frac{\partial L}{\partial x} = \sigma(x) - t.$$
#
# It is the softmax of two classes in disguise. With logits $x_0$ for no and $x_1$ for yes, divide above and below by
# $e^{x_1}$: $p_1 = e^{x_1} / (e^{x_0} + e^{x_1}) = 1 / (1 + e^{x_0 - x_1}) = \sigma(x_1 - x_0)$. The Keras code has two logits
# for each anchor, torchvision has one; they can express the same.
#
# **On paper first.** $x = 0$: what is the loss, whatever the target? What is the gradient if the target is 1?

# %%
zero, zero_kept = sigmoid_cross_entropy(np.zeros(2), np.array([0.0, 1.0]))
assert np.allclose(zero, np.log(2)) and np.isclose(np.log(2), 0.6931, atol=5e-5)
assert sigmoid_cross_entropy_backward(np.ones(2), zero_kept).tolist() == [0.5, -0.5]
pair = rng.normal(size=(5, 2))
two, _ = softmax_cross_entropy(pair, np.ones(5, int))
one, _ = sigmoid_cross_entropy(pair[:, 1] - pair[:, 0], np.ones(5))
close("one logit and the difference of two", one, two)
share = np.array([0.3])
at_share, share_kept = sigmoid_cross_entropy(np.log(share / (1 - share)), share)
assert at_share > 0.6 and np.isclose(sigmoid_cross_entropy_backward(np.ones(1), share_kept), 0)
print("at logit 0 the loss is 0.6931, the gradient 0.5 for no and -0.5 for yes")

# %% [markdown]
# The target may be a fraction: torchvision's mask targets are, where the outline crosses a cell. Then the loss
# cannot become 0, but its gradient does, at $\sigma(x) = t$.
#
# $-\log \sigma(x) = \log(1 + e^{-x})$ overflows for large negative $x$. Then factor $e^{-x}$ out:
# $\log(1 + e^{-x}) = -x + \log(1 + e^{x})$. Both cases in one are $\max(-x, 0) + \log(1 + e^{-\lvert x\rvert})$, and the loss
# becomes
#
# $$L = \max(x, 0) - x\,t + \log\bigl(1 + e^{-\lvert x \rvert}\bigr).$$
#
# **Exercise 11.2.** Derive it, then write loss and gradient for arrays of logits and targets. The gradient must not
# overflow either.


# %% tags=["exercise-11.2"]
def sigmoid_loss(x, t):
    raise NotImplementedError


check("11.2", sigmoid_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def sigmoid_loss(x, t):
#     small = np.exp(-np.abs(x))
#     loss = np.maximum(x, 0) - x * t + np.log1p(small)
#     sigma = np.where(x >= 0, 1, small) / (1 + small)
#     return loss, sigma - t
# ```
#
# $-t\log\sigma(x) - (1-t)\log\sigma(-x)$, since $1 - \sigma(x) = \sigma(-x)$. Insert the line above twice: the logarithm
# appears with $t + (1 - t) = 1$, and $t \max(-x, 0) + (1 - t)\max(x, 0) = \max(x, 0) - x t$.
# </details>
#
# **Exercise 11.3.** Break the obvious program. In float32, `-np.log(1 - 1 / (1 + np.exp(-x)))` is the loss of the target
# 0. Return a logit below 20 at which it is infinite. The true loss there is nearly $x$ itself. (The number that follows 1
# in float32 is $1 + 2^{-23}$; what lies less than half way to it is rounded to 1.)


# %% tags=["exercise-11.3"]
def bad_logit():
    raise NotImplementedError


check("11.3", bad_logit)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def bad_logit():
#     return 18.0
# ```
#
# From about 16.6 on $e^{-x}$ is less than half of the distance from 1 to the next float32, so $\sigma(x)$ is exactly 1.
# </details>
#
# ## Measurements
#
# A box is described relative to where we started, an anchor or a region (superscript $a$), by four *deltas*:
#
# $$\delta_y = \frac{c_y - c_y^a}{h^a}, \quad \delta_x = \frac{c_x - c_x^a}{w^a}, \quad
# \delta_h = \log\frac{h}{h^a}, \quad \delta_w = \log\frac{w}{w^a},$$
#
# with the centres $c$ and the sides $h$, $w$. The division makes a shift count by the size of the object: ten
# pixels are much for a cup and little for a bus. The logarithm makes "twice as tall" and "half as tall" equally far from 0.
# Then each is divided by what it usually measures, `std`, 0.1 for shifts and 0.2 for sizes, so that all four are of
# the size of 1.
#
# **On paper first.** The anchor reaches from (0, 0) to (100, 200), given as $(y, x)$, the true box from (10, 20) to (110,
# 220). What are the deltas, before and after the division? And the third for a box that is twice as tall as its anchor?

# %%
anchor, truth = np.array([[0.0, 0, 100, 200]]), np.array([[10.0, 20, 110, 220]])
std = (0.1, 0.1, 0.2, 0.2)
assert np.allclose(encode_boxes(truth, anchor), [[0.1, 0.1, 0, 0]])
assert np.allclose(encode_boxes(truth, anchor, std=std), [[1, 1, 0, 0]])
tall = encode_boxes(np.array([[-50.0, 0, 150, 200]]), anchor, std=std)
assert np.allclose(tall, [[0, 0, np.log(2) / 0.2, 0]]) and np.isclose(tall[0, 2], 3.466, atol=5e-4)
assert config.rpn_box_std == config.head_box_std == std
print("deltas of the shifted box:", encode_boxes(truth, anchor, std=std)[0].round(3).tolist())

# %% [markdown]
# How should a difference $d$ between predicted and true delta be judged? The square pulls with $d$: a single box that is
# far off pulls harder than all others together. The absolute value pulls with ±1, however small $d$ is, so that the
# prediction never comes to rest. *Smooth L1* takes the good half of each:
#
# $$L(d) = \begin{cases} d^2 / 2\beta & \lvert d\rvert < \beta \\ \lvert d\rvert - \beta/2 & \text{else} \end{cases}
# \qquad \frac{dL}{dd} = \begin{cases} d/\beta & \lvert d\rvert < \beta \\ \pm 1 & \text{else.} \end{cases}$$
#
# The $-\beta/2$ makes the two pieces meet at $\beta$, where both are $\beta/2$; the slopes meet by themselves, both are 1.
# $\beta = 0$ stands for the absolute value.
#
# **On paper first.** $\beta = 1$, as in the slides, and $d = 0, ½, 1, 2, -3$. Then $\beta = 1/9$, as in torchvision, for ½
# and 1.

# %%
d = np.array([0, 0.5, 1, 2, -3])
values, l1_kept = smooth_l1(d, 0 * d, beta=1.0)
assert values.tolist() == [0, 0.125, 0.5, 1.5, 2.5]
assert smooth_l1_backward(np.ones(5), l1_kept).tolist() == [0, 0.5, 1, 1, -1]
assert np.allclose(smooth_l1(d, 0 * d, beta=1 / 9)[0][1:3], [0.4444, 0.9444], atol=5e-5)
assert smooth_l1(d, 0 * d, beta=0)[0].tolist() == [0, 0.5, 1, 2, 3]
print("beta 1:  ", values.tolist(), " slopes", smooth_l1_backward(np.ones(5), l1_kept).tolist())
print("beta 1/9:", smooth_l1(d, 0 * d, beta=1 / 9)[0][1:3].round(4).tolist(), "for ½ and 1")

# %% mystnb={"image": {"alt": "Left: smooth L1 for three values of beta beside the square. Right: their slopes; those of smooth L1 end at plus and minus one, that of the square grows."}}
figure = Figure(figsize=(8, 3), layout="constrained")
left, right = figure.subplots(1, 2)
line = np.linspace(-3, 3, 301)
for beta, style, colour in ((1.0, "-", COLOURS[0]), (1 / 9, "--", COLOURS[1]), (0.0, ":", COLOURS[2])):
    values, l1_kept = smooth_l1(line, 0 * line, beta=beta)
    left.plot(line, values, style, color=colour, label=f"beta = {beta:.2g}")
    right.plot(line, smooth_l1_backward(np.ones(301), l1_kept), style, color=colour)
left.plot(line, line**2 / 2, "-.", color="0.5", label="half the square")
right.plot(line, line, "-.", color="0.5")
left.set(title="loss", xlabel="difference", ylim=(-0.1, 3.2))
right.set(title="slope", xlabel="difference", ylim=(-2, 2))
left.legend(fontsize=8)
show(figure)

# %% [markdown]
# *Figure 11.2. torchvision's 1/9 is nearly the absolute value, detectron2's 0 is exactly that.*
#
# **Exercise 11.4.** Write loss and slope for an array of differences; `beta` may be 0.


# %% tags=["exercise-11.4"]
def smooth_loss(d, beta):
    raise NotImplementedError


check("11.4", smooth_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def smooth_loss(d, beta):
#     size = np.abs(d)
#     if beta == 0:
#         return size, np.sign(d)
#     near = size < beta
#     loss = np.where(near, d**2 / (2 * beta), size - beta / 2)
#     return loss, np.where(near, d / beta, np.sign(d))
# ```
# </details>
#
# ## Trace every number
#
# Drag the blue box, or focus it and use the arrow keys (with Shift ten steps at once); the round handle changes its
# size. The table holds its four deltas beside those of the truth. Move the box far away: the loss grows, the gradient
# stops at ¼, since the loss is the mean of four numbers with slopes of at most 1. Set `beta` to 0 and move the box over
# the truth: the gradient jumps from one sign to the other. Undo the division by `std`: all differences become small, the
# loss hardly sees them.

# %% mystnb={"image": {"alt": "Left: an anchor, the true box and a predicted box. Right: bars of the loss and of the gradient of each of the four deltas."}}
anchor, truth, predicted = np.array([[40.0, 60, 180, 220], [30, 100, 190, 230], [60, 70, 170, 240]])
p, t = encode_boxes(predicted, anchor, std=std), encode_boxes(truth, anchor, std=std)
terms, l1_kept = smooth_l1(p, t)
slopes = smooth_l1_backward(np.full(4, 0.25), l1_kept)
ledger.expect("deltas of the live picture", p, (4,))
assert (np.abs(slopes) <= 0.25).all() and iou(predicted[None], truth[None]).item() > 0.5
figure = Figure(figsize=(8, 3.2), layout="constrained")
left, right = figure.subplots(1, 2)
for box, colour, name in zip(
    (anchor, truth, predicted), ("0.5", COLOURS[2], COLOURS[0]), ("anchor", "truth", "prediction")
):
    left.add_patch(Rectangle(box[[1, 0]], box[3] - box[1], box[2] - box[0], fill=False, color=colour, lw=2, label=name))
left.set(xlim=(0, 320), ylim=(230, 0))
left.legend(fontsize=8)
right.bar(np.arange(4) - 0.2, terms, 0.38, color=COLOURS[0], label="loss")
right.bar(np.arange(4) + 0.2, slopes, 0.38, color=COLOURS[1], label="gradient")
right.axhline(0, color="0.3", lw=0.8)
right.set(xticks=range(4), xticklabels=["dy", "dx", "log dh", "log dw"])
right.legend(fontsize=8)
show(figure)

# %% [markdown]
# *Figure 11.3. The start of the live picture below: the boxes, and loss and gradient of each delta.*

# %%
explorable("losses", anchor=anchor, truth=truth, predicted=predicted, std=std)

# %% [markdown]
# ## Loop, NumPy, compiled, on a card
#
# Each of the three functions exists four times: as a loop, as the tests have it; in NumPy; compiled; and in CUDA, for
# graphics cards, run by a simulator here (chapter 2). On a card a thread takes an element, and some threads together a row
# of the softmax. Smooth L1 and the gradient of the softmax have no compiled kernel, since they see a few thousand numbers at
# most; in CUDA they have one, because a network that runs on a card has all its arrays there.
#
# First loop and NumPy, then NumPy and the kernels.

# %%
x, t, row_labels = rng.normal(size=(40, 4)) * 3, rng.random((40, 4)), rng.integers(0, 4, 40)
with kernels.use("numpy"):
    (rows, row_kept), (bits, bit_kept) = softmax_cross_entropy(x, row_labels), sigmoid_cross_entropy(x, t)
ledger.expect("class loss of each row", rows, (40,))
ledger.expect("mask loss of each element", bits, (40, 4))
row_loop = [-np.log(naive.softmax(r.tolist())[k]) for r, k in zip(x, row_labels)]
bit_loop = [-b * np.log(naive.sigmoid(a)) - (1 - b) * np.log(naive.sigmoid(-a)) for a, b in zip(x.ravel(), t.ravel())]
close("softmax cross-entropy: loop and NumPy", rows, row_loop)
close("sigmoid cross-entropy: loop and NumPy", bits.ravel(), bit_loop)
close("smooth L1: loop and NumPy", smooth_l1(x, t)[0].ravel(), [naive.smooth_l1(v, 1.0) for v in (x - t).ravel()])

# %%
sigmoid_back = sigmoid_cross_entropy_backward
dbits, (l1, l1_seen) = rng.normal(size=(40, 4)), smooth_l1(x, t)
for name, mine, compiled, on_card in (
    ("softmax", rows, *(y for y, _ in on_both(softmax_cross_entropy, x, row_labels))),
    ("sigmoid", bits, *(y for y, _ in on_both(sigmoid_cross_entropy, x, t))),
    ("gradient of sigmoid", sigmoid_back(dbits, bit_kept), *on_both(sigmoid_back, dbits, bit_kept)),
):
    close(f"{name}: NumPy and the compiled kernel, float32", compiled, mine, tolerance=1e-5)
    close(f"{name}: the compiled kernel and CUDA's, simulated", on_card, compiled, tolerance=1e-5)
close("smooth L1: NumPy and CUDA's kernel, simulated, float32", simulated(smooth_l1, x, t)[0], l1, tolerance=1e-5)
for name, back, *given in (
    ("softmax", softmax_cross_entropy_backward, dbits[:, 0], row_kept),
    ("smooth L1", smooth_l1_backward, dbits, l1_seen),
):
    close(f"gradient of {name}: NumPy and CUDA's kernel", simulated(back, *given), back(*given), tolerance=1e-5)

# %% [markdown]
# ## Divided by what?
#
# So far a loss is a number for each anchor, region or pixel. What trains is their sum, divided by something. Here the
# implementations part.
#
# - Both class losses and the mask loss: divided by how many numbers there are.
# - Box losses, Keras: the mean over the positives' deltas, $1 / 4P$ each, with $P$ positives.
# - Box losses, torchvision and detectron2: the sum divided by *all sampled* anchors or regions, $1 / N$ each, though only
#   the positives enter the sum.
#
# `box_loss_denominator` chooses: `"positives"` or `"sampled"`.
#
# **On paper first.** On our image the proposal network has 6 positive of 128 sampled anchors, the head 12 of 48 regions.
# By which factor do the two conventions differ in `rpn_box`, and by which in `head_box`?

# %%
sampled = MaskRCNN(config.replace(box_loss_denominator="sampled"), params).losses(batch, 0, targets=targets)[0]
assert config.box_loss_denominator == "positives"
assert np.isclose(losses["rpn_box"] / sampled["rpn_box"], 128 / 24) and round(128 / 24, 2) == 5.33
assert np.isclose(losses["head_box"], sampled["head_box"]) and 4 * 12 == 48
for beta in (1.0, 1 / 9, 0.0):
    other = MaskRCNN(config.replace(rpn_smooth_l1_beta=beta, box_loss_denominator="sampled"), params)
    print(f"beta {beta:.2f}, sampled: rpn_box {other.losses(batch, 0, targets=targets)[0]['rpn_box']:.3f}")
print(f"beta 1.00, positives: rpn_box {losses['rpn_box']:.3f}")

# %% [markdown]
# In `rpn_box` it is a factor of 5.33, in `head_box` none: with a quarter of the regions positive, $4P$ happens to
# be $N$. The same network, the same image, the same targets; four values of the same loss. That is why loss values
# of two implementations never compare, unless both state denominator and $\beta$.
#
# Does it matter for training? The direction of one loss's gradient is the same, its weight against the other four is not.
# With `"positives"` a batch with a single positive anchor pulls as hard as one with a hundred, so each positive of a poor
# batch counts more. With `"sampled"` every positive counts alike.

# %% mystnb={"image": {"alt": "The weight of one positive anchor's delta against the number of positives: with the denominator positives it falls, with sampled it is constant."}}
positives = np.arange(1, 65)
per_delta = {"positives": 1 / (4 * positives), "sampled": np.full(64, 1 / 128)}
assert per_delta["positives"][31] == per_delta["sampled"][31]  # 32 positives of 128: a quarter
figure = Figure(figsize=(6.5, 2.8), layout="constrained")
ax = figure.subplots()
for (name, weight), style, colour in zip(per_delta.items(), ("-", "--"), COLOURS):
    ax.semilogy(positives, weight, style, color=colour, label=name)
ax.set(xlabel="positive anchors among 128 sampled ones", ylabel="weight of one delta")
ax.legend()
show(figure)

# %% [markdown]
# *Figure 11.4. The lines cross where a quarter is positive.*
#
# One more rule belongs here. A data set may not know all classes: COCO pictures and your own in one batch. The
# Keras code keeps a list of *active* classes for each image; a region that is predicted as an inactive class carries no
# class loss, because its data set cannot say that this is wrong. The denominator counts only the rest.
#
# **On paper first.** Three regions, background (class 0) is true for all. The largest logit of the second is that of class
# 2, which is inactive. What is the mean over, and which gradients are zero?

# %%
three = np.array([[2.0, 0, 0], [0, 0, 2], [0, 1, 0]])
active = np.tile([True, True, False], (3, 1))
keras = config.replace(class_loss_active_only=True)
value, class_kept = head_class_loss(three, np.zeros(3, int), active, keras)
each = softmax_cross_entropy(three, np.zeros(3, int))[0]
assert np.isclose(value, (each[0] + each[2]) / 2)
assert objective.head_class_loss_backward(1.0, class_kept).any(axis=1).tolist() == [True, False, True]
print(f"mean over two of three: {value:.3f}; the second region has no gradient")

# %% [markdown]
# ## Only the true class's mask learns
#
# The mask head draws one mask for each class, whatever the region shows. Which of them should the loss judge? Let the
# region hold a circle. What a square's mask should look like here nobody knows, so nothing is asked of it. The loss picks
# the channel of the true class; the other $K - 1$ receive no gradient.

# %%
source(head_mask_loss)

# %% [markdown]
# `own` is the whole idea: for every region its own class's channel.
#
# **On paper first.** The logits are 12 × 28 × 28 × 4. How many of these numbers does the loss look at, and how large is
# the gradient of one of them at most? What does channel 0, the background's, learn?

# %%
dmask = objective.head_mask_loss_backward(1.0, cache.losses["head_mask"])
ledger.expect("gradient of the mask logits", dmask, (12, 28, 28, 4))
asked = dmask.any(axis=(1, 2))
own_class = targets.class_ids[targets.class_ids > 0]
assert np.array_equal(asked, np.eye(4, dtype=bool)[own_class])
assert np.count_nonzero(dmask) <= 12 * 28 * 28 == 9408 and np.abs(dmask).max() <= 1 / 9408
assert not model.backward(cache)["mask_head.logits.w"][..., 0].any()
print("channels with a gradient:", asked.sum(axis=0).tolist(), "regions for classes 0 to 3")

# %% [markdown]
# To see it, give the mask head the five true boxes of the image as regions, so that every object has one.

# %%
boxes, classes = batch.gt_boxes[0], batch.gt_class_ids[0]
regions, _ = model.roi_features(model.first_stage(batch.images)[0], boxes, np.zeros(5, int), 14, batch.images.shape)
goals = mask_targets(boxes, np.arange(5), boxes, batch.gt_masks[0], config)
_, mask_kept = head_mask_loss(mask_head(regions, params, config)[0], classes, goals)
pull = objective.head_mask_loss_backward(5 * 28 * 28, mask_kept)  # times the denominator: sigmoid less target
assert classes[[2, 3]].tolist() == [1, 3]
assert (np.abs(pull[2, :, :, 1]) < 0.1).mean() > 0.8 and (pull[3, :, :, 3][goals[3] == 1] < -0.5).mean() > 0.95

# %% mystnb={"image": {"alt": "For the white circle and the large triangle the mask target and the gradient of the four mask channels: only the channel of the true class is not empty. The circle's has some colour along the outline, the triangle's is dark orange all over the inside."}}
figure = Figure(figsize=(8, 3.4), layout="constrained")
for axes, r in zip(figure.subplots(2, 5), (2, 3)):
    axes[0].imshow(goals[r], cmap="Greys", vmax=1.5)
    axes[0].set(title=f"target, class {classes[r]}", xticks=[], yticks=[])
    for k, ax in enumerate(axes[1:]):
        ax.imshow(pull[r, :, :, k], cmap="PuOr", vmin=-1, vmax=1)
        ax.set(title=f"channel {k}", xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 11.5. A circle (class 1) and a triangle (class 3, with a notch where a square lies on it), and the gradient of
# their four channels. Orange is negative: there the logit should grow; purple is positive, there it should shrink.*
#
# Three of four channels are empty. Nearly all of the circle is white: the network is sure of it, and what is left to
# learn lies at the outline. With the notched triangle it is wrong nearly everywhere: it would paint hardly a cell of it,
# and the gradient pulls all of them. It is the same object whose class it did not know in chapter 9.
#
# So the masks do not compete. "Is this pixel part of the triangle, *if* it is a triangle?" Which class it is has been
# decided by the class head. A softmax over the channels would ask both questions at once; the paper measures what that
# costs, chapter 9 trains both. The article's formula, a sigmoid of the class's output, is the activation; the loss is the
# mean cross-entropy of its 28 × 28 pixels. Without positive regions it is 0, not NaN, and the head learns nothing from
# that image.
#
# **Exercise 11.5.** Write the gradient of the mask loss for logits `(P, m, m, K)`, `class_ids` `(P,)` and targets
# `(P, m, m)`: zero where nothing is asked.


# %% tags=["exercise-11.5"]
def mask_gradient(logits, class_ids, masks):
    raise NotImplementedError


check("11.5", mask_gradient)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def mask_gradient(logits, class_ids, masks):
#     gradient = np.zeros(logits.shape)
#     for r, k in enumerate(class_ids):
#         gradient[r, :, :, k] = 1 / (1 + np.exp(-logits[r, :, :, k])) - masks[r]
#     return gradient / max(masks.size, 1)
# ```
# </details>
#
# ## What a network without an opinion says
#
# Fresh weights give logits near 0. So each loss of a choice has a value that you can predict before the first step, and
# look for in the first line of a log.
#
# **Exercise 11.6.** Predict: the starting values of `rpn_class`, `head_class` and `head_mask`, for `classes` classes, the
# background included.


# %% tags=["exercise-11.6"]
def starting_losses(classes):
    raise NotImplementedError


check("11.6", starting_losses)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def starting_losses(classes):
#     return np.log(2), np.log(classes), np.log(2)
# ```
#
# Yes or no: $\ln 2$. One of $K$: $\ln K$, which is 3.0445 for VOC's 21 and 4.3944 for COCO's 81.
# </details>

# %%
fresh_params = {n: p.astype(float) for n, p in MaskRCNN(config, rng=np.random.default_rng(0)).params.items()}
fresh, fresh_cache = MaskRCNN(config, fresh_params).losses(batch, 0)
assert abs(fresh["rpn_class"] - np.log(2)) < 0.05 and abs(fresh["head_mask"] - np.log(2)) < 0.05
assert abs(fresh["head_class"] - np.log(4)) < 0.2 and fresh["head_box"] < 0.01
assert np.allclose([np.log(4), np.log(21), np.log(81)], [1.3863, 3.0445, 4.3944], atol=5e-5)
drawn = fresh_cache.targets.deltas[fresh_cache.targets.class_ids > 0]
assert (np.abs(drawn).max(axis=1) < 1e-3).mean() >= 0.5
for name in LOSSES:
    print(f"{name:<11} fresh {fresh[name]:.2f}, trained {losses[name]:.2f}")

# %% mystnb={"image": {"alt": "Bars of the five losses for fresh weights and for the trained network, with lines at ln 2 and ln 4."}}
figure = Figure(figsize=(7, 3), layout="constrained")
ax = figure.subplots()
ax.bar(np.arange(5) - 0.2, [fresh[k] for k in LOSSES], 0.38, color="0.6", label="fresh weights")
ax.bar(np.arange(5) + 0.2, [losses[k] for k in LOSSES], 0.38, color=COLOURS[0], label="the network of the book")
for height, name in ((np.log(2), "ln 2"), (np.log(4), "ln 4")):
    ax.axhline(height, color=COLOURS[1], lw=1, ls="--")
    ax.text(4.95, height, name, ha="right", va="bottom")
ax.set(xticks=range(5), xticklabels=LOSSES, xlim=(-0.6, 5))
ax.legend(fontsize=8)
show(figure)

# %% [markdown]
# *Figure 11.6. The five losses on the image of the book.*
#
# `head_class` begins a little above $\ln 4$ = 1.386: fresh logits are small, not zero. The two box losses start where the
# targets say: a prediction of 0 costs the smooth L1 of the target itself.
#
# A mask loss that stays at 0.69 means that the mask head learns nothing. A `head_box` near 0 at the start is no
# success either: the fresh proposals hit nothing, most positive regions are the true boxes themselves, which join the
# proposals (chapter 10), and they need no correction. It rises when the proposals get better. A loss that rises can be good
# news. The trained network's is small for the right reason.
#
# Now the proof of all five backward passes, in float64. It checks six: objectness with one logit, and with two.


# %%
def proved(loss, *rest):
    def f(output):
        value, kept = loss(output, *rest)
        backward = getattr(objective, f"{loss.__name__}_backward")
        return np.array([value]), lambda d: backward(d.item(), kept)

    return f


anchor_labels, ids = np.array([[1, -1, 0, 1, -1]]), np.array([2, 0, 1, 3])
box_targets, every = rng.normal(size=(1, 5, 4)), np.ones((4, 4), bool)
check_gradients(proved(rpn_class_loss, anchor_labels), rng.normal(size=(1, 5)), rng=rng, tol=1e-6)
check_gradients(proved(rpn_class_loss, anchor_labels), rng.normal(size=(1, 5, 2)), rng=rng, tol=1e-6)
check_gradients(proved(rpn_box_loss, anchor_labels, box_targets, config), rng.normal(size=(1, 5, 4)), rng=rng, tol=1e-6)
check_gradients(proved(head_class_loss, ids, every, config), rng.normal(size=(4, 4)), rng=rng, tol=1e-6)
check_gradients(
    proved(head_box_loss, ids, rng.normal(size=(4, 4)), config), rng.normal(size=(4, 4, 4)), rng=rng, tol=1e-6
)
check_gradients(proved(head_mask_loss, ids, rng.random((4, 6, 6))), rng.normal(size=(4, 6, 6, 4)), rng=rng, tol=1e-6)
print("five losses, six gradients: right")

# %% [markdown]
# ## Break it
#
# What is smooth L1 good for? Give one of the twelve positive regions a wrong target, 20 units off, as a wrong
# annotation would. Then compare the gradient of the box head's last layer with the one from the right targets: the
# *cosine* between them is 1 if they point the same way, 0 if they have nothing in common. Do so for each of the twelve in
# its turn, once with smooth L1, once with the square. A $\beta$ of 1000 makes everything a parabola.
#
# **On paper first.** This network's boxes sit well: the slopes of the other eleven regions are mostly below ½. How large is
# the slope of the wrong one with each of the two losses?


# %% tags=["break-it"]
def direction(network, deltas):
    kept = network.losses(batch, 0, targets=dataclasses.replace(targets, deltas=deltas))[1]
    gradient = network.backward(kept)["box_head.deltas.w"].ravel()
    return gradient / np.linalg.norm(gradient)


cosine = {}
for name, beta in (("smooth L1", 1.0), ("square", 1000.0)):
    own = MaskRCNN(config.replace(head_smooth_l1_beta=beta, loss_weights=(0.0, 0.0, 0.0, 1.0, 0.0)), params)
    spoilt = [targets.deltas + 20 * (np.arange(48) == r)[:, None] for r in range(12)]
    cosine[name] = [direction(own, targets.deltas) @ direction(own, deltas) for deltas in spoilt]
print(", ".join(f"{name}: mean cosine {np.mean(values):.2f}" for name, values in cosine.items()))
off = np.sqrt(2 * cache.losses["head_box"].terms)  # d, where the loss is d²/2
assert (off < 0.5).mean() > 0.7
assert np.mean(cosine["smooth L1"]) > 0.6 and abs(np.mean(cosine["square"])) < 0.15
assert all(smooth > square for smooth, square in zip(*cosine.values()))

# %% mystnb={"image": {"alt": "Twelve dots for each loss, one for each region with a wrong target. With smooth L1 the cosines lie between 0.3 and 0.9, with the square round 0."}}
figure = Figure(figsize=(5.5, 2), layout="constrained")
ax = figure.subplots()
for height, (values, colour) in enumerate(zip(cosine.values(), COLOURS)):
    ax.plot(values, [height] * 12, "o", color=colour, alpha=0.6)
ax.axvline(0, color="0.6", lw=1)
ax.set(yticks=(0, 1), yticklabels=list(cosine), ylim=(1.5, -0.5), xlim=(-0.4, 1))
ax.set(xlabel="cosine with the gradient of the right targets")
show(figure)

# %% [markdown]
# *Figure 11.7. One wrong target among twelve; a dot for each of the twelve.*
#
# With the square the wrong region takes over: its slope is about 20, those of the others are mostly below ½. The step
# follows the mistake, and nothing of the right direction is left. Smooth L1 gives the mistake a slope of 1. That is still
# the loudest voice among twelve, since the other boxes sit well, but the sum of the others is heard: the direction bends
# and holds. The price is that a box which is really far off is not moved faster than one that is one unit off.
#
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | $L = L_{cls} + L_{box} + L_{mask}$ is the loss | three terms for each region; with the proposal network's two there are five, each with weight 1 |
# | the box losses are taken "over positives only" | the sum is; the Keras code divides it by the positives' numbers, torchvision by all that were sampled |
# | smooth L1 turns at 1 | in the Keras code; at 1/9 in torchvision, at 0 in detectron2 |
# | $L_{mask}$ = sigmoid of the class's output | the sigmoid is the activation, the loss is the mean cross-entropy of the true class's pixels |
# | the mask is a "semantic mask" | an instance mask: one for each region, and only of its own object |
#
# ## Do you remember?
#
# <details><summary>Q1. Which five questions do the losses ask?</summary>Is there an object, how must the anchor move, which class, how must the region move, which pixels.</details>
# <details><summary>Q2. Why the logarithm?</summary>Certainty costs nothing, a sure mistake costs without limit, and independent mistakes add.</details>
# <details><summary>Q3. What is the gradient of softmax cross-entropy?</summary>p minus 1 at the true class, p elsewhere; a row sums to 0.</details>
# <details><summary>Q4. Why do losses take logits?</summary>The probability is rounded to 0 or 1 long before the loss is large; the logarithm of the sum can be computed without overflow.</details>
# <details><summary>Q5. How are two objectness logits and one related?</summary>The one is the difference of the two.</details>
# <details><summary>Q6. Why are shifts divided by the anchor's side?</summary>So that a shift counts relative to the size of the object.</details>
# <details><summary>Q7. What is std for?</summary>It brings all four deltas to about unit size, so that they weigh alike, and lie where smooth L1 bends.</details>
# <details><summary>Q8. What is the largest slope of smooth L1?</summary>1, for every beta.</details>
# <details><summary>Q9. Which two denominators do box losses have?</summary>The positives' numbers, 4P, or all sampled anchors or regions, N.</details>
# <details><summary>Q10. When do they agree?</summary>When a quarter of the sampled ones is positive.</details>
# <details><summary>Q11. Which mask channels learn from a region?</summary>That of its true class only; the background's never learns.</details>
# <details><summary>Q12. What does a mask loss of 0.69 for many steps mean?</summary>Every pixel is still "one half": nothing is learned.</details>
# <details><summary>Q13. Why can head_box rise at the beginning of training?</summary>At first only true boxes are positive regions and need no correction; then proposals hit, and need some.</details>
