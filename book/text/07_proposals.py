# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. Proposals
#
# After this chapter you can turn the output of a proposal network into boxes yourself: rank, decode, clip, drop, suppress,
# cut. You can write non-maximum suppression without looking, say what happens at the threshold and at ties, and say why
# no gradient comes back through any of it.
#
# *Mirrors* ([five texts](00_map.ipynb), which you need not know): the slides' "ProposalLayer", the notes' section on it
# (6000, 0.7, 2000 or 1000), and the article that lets suppression "combine" boxes. What is wrong in them stands at the
# end.
#
# Chapter 6 left two tensors. For each **anchor**, a fixed box of chapter 5, there is one **logit**: a number that is
# large where the network believes in an object. (The probability made from it is the *objectness*.) And there are four
# **deltas**: how to move and stretch the anchor so that it fits. The second stage wants something else: a short list of
# boxes, good ones, few of them twice. A **proposal** is a box on that list.
#
# From the one to the other there are six steps:
#
# 1. *rank* the anchors by logit and keep the best;
# 2. *decode*: move and stretch each of these by its deltas;
# 3. *clip* the boxes to the image;
# 4. *drop* those without sides;
# 5. *suppress* near-copies;
# 6. *cut* the list to the length that the second stage can pay for.
#
# Nothing here is learned. It is sorting and geometry, and every step can be done on paper.

# %%
from itertools import pairwise

import naive_boxes
import numpy as np
from helpers import COLOURS, DATA, Ledger, check, close, explorable, network, on_both, scene, show, source
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import kernels
from mrcnn_np import presets
from mrcnn_np.boxes import clip_boxes, decode_boxes, has_sides, iou
from mrcnn_np.data import open_dataset
from mrcnn_np.molding import make_batch
from mrcnn_np.nms import batched_nms, nms
from mrcnn_np.ops.activation import sigmoid
from mrcnn_np.proposals import propose, top_k

# %%
ledger, model, sample = Ledger(), network(), scene()
config, batch = model.config, make_batch([sample], model.config)
pyramid, all_logits, all_deltas, _ = model.first_stage(batch.images)
levels = model.anchors(batch.images.shape[1:], pyramid)  # one array for each of P2 .. P6
anchors, logits, deltas = np.concatenate(levels), all_logits[0], all_deltas[0]
ledger.expect("anchors", anchors, (4092, 4))
ledger.expect("logits", logits, (4092,))
ledger.expect("deltas", deltas, (4092, 4))
assert len(levels) == 5

# %% [markdown]
# ## Rank
#
# Most anchors lie on nothing. Only the best go on. How many is a matter of cost. The anchors stand on five maps, P2 to
# P6, the *levels* of chapter 4. The Keras code keeps the best 6000 of all, torchvision and detectron2 keep 2000 of *each
# level* in training and 1000 in inference. This book's small network keeps 400 of each level in inference.
#
# **On paper first.** The image has 128 × 128 pixels, the levels have strides of 4, 8, 16, 32, 64, and each cell has 3
# anchors. How many anchors are there on each level? With at most 400 of each level, how many go on?

# %%
counts = [3 * (128 // stride) ** 2 for stride in (4, 8, 16, 32, 64)]
assert counts == [3072, 768, 192, 48, 12] == [len(level) for level in levels]
assert sum(counts) == 4092 and sum(min(count, 400) for count in counts) == 1052
print(f"{counts} anchors; {[min(count, 400) for count in counts]} go on")

# %% [markdown]
# Rank by logit or by probability? The probability is the sigmoid of the logit, $\sigma(x) = 1/(1 + e^{-x})$. It rises
# everywhere, so on paper the order is the same. In float32 it is not.
#
# **On paper first.** $\sigma(20) = 1/(1 + e^{-20})$ and $e^{-20} \approx 2 \cdot 10^{-9}$. The next number below 1 in
# float32 is $1 - 6 \cdot 10^{-8}$. What are $\sigma(20)$ and $\sigma(25)$ there?

# %%
high = sigmoid(np.array([20, 25], np.float32))[0]
assert high[0] == high[1] == 1 and np.nextafter(np.float32(1), np.float32(0)) == 1 - 2.0**-24
assert np.argmax(high) == 0  # the tie goes to the first: the better anchor has lost
assert np.isclose(np.exp(1.7) / (np.exp(0.3) + np.exp(1.7)), sigmoid(np.array(1.7 - 0.3))[0])  # two logits, see below
print("two logits, one probability:", high.tolist())

# %% [markdown]
# A network that is sure of itself makes ties, and ties are broken by index, not by merit. So the package ranks by logit.
#
# The Keras code has two logits per anchor, $a$ for "nothing" and $b$ for "object", and a softmax. Divide above and below
# by $e^b$:
#
# $$\frac{e^b}{e^a + e^b} = \frac{1}{1 + e^{-(b-a)}} = \sigma(b - a).$$
#
# Only the difference counts; it is the one logit of the others.
#
# The best $k$ need no full sort: find the k-th best, keep what is as good, sort only that.

# %%
source(top_k)

# %% [markdown]
# **Exercise 7.1.** Write it the slow way: indices of the `k` best scores, best first, of equal ones the lower index first.
# Careful: reversing a sorted list reverses the ties, too.


# %% tags=["exercise-7.1"]
def best(scores, k):
    raise NotImplementedError


check("7.1", best)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def best(scores, k):
#     return np.argsort(-np.asarray(scores), kind="stable")[:k]
# ```
#
# Sorting the negated scores keeps the order of equals; sorting the scores and reading backwards does not.
# </details>
#
# ## Decode
#
# An anchor $(y_1, x_1, y_2, x_2)$ has a centre, $c_y = (y_1 + y_2)/2$, and sides, $h = y_2 - y_1$; likewise $c_x$ and
# $w$. Its deltas say by which part of its own sides the centre moves, and by which factor, as a logarithm, the sides
# grow. Chapter 6 divided the targets by four deviations $s$, so that all four have about the same size; here they are
# multiplied back:
#
# $$c_y' = c_y + s_1 d_y\,h, \quad c_x' = c_x + s_2 d_x\,w, \quad h' = h\,e^{s_3 d_h}, \quad w' = w\,e^{s_4 d_w}.$$
#
# From the centre back to corners: $y_1' = c_y' - h'/2$ and $y_2' = c_y' + h'/2$, likewise $x$.
#
# The same deltas move a large anchor far and a small one little. That is why one head can serve all levels.
#
# **On paper first.** The anchor (40, 40, 50, 60) has deltas $(1, -1, \ln 2, 0)$. Where does it go with all $s = 1$, as
# torchvision has them? And with $s = (0.1, 0.1, 0.2, 0.2)$, as the Keras code and our network have them, where is the
# centre?

# %%
anchor, delta = np.array([[40.0, 40, 50, 60]]), np.array([[1.0, -1, np.log(2), 0]])
moved = decode_boxes(delta, anchor)
assert np.allclose(moved, [[45, 20, 65, 40]])  # centre (45, 50) + (10, -20), height doubled
keras = decode_boxes(delta, anchor, std=(0.1, 0.1, 0.2, 0.2))[0]
assert np.allclose([(keras[0] + keras[2]) / 2, (keras[1] + keras[3]) / 2], [46, 48])
assert np.isclose(keras[2] - keras[0], 10 * 2**0.2)
assert presets.torchvision().rpn_box_std == (1, 1, 1, 1) and config.rpn_box_std == (0.1, 0.1, 0.2, 0.2)
print("moved to", moved[0].round(6).tolist(), "or, with deviations, to the centre (46, 48)")

# %% [markdown]
# $e^x$ grows without end. An untrained network can say $d_h = 100$, and $e^{100}$ overflows float32. torchvision and
# detectron2 therefore cut the logarithm off at $\ln(1000/16)$.
#
# **On paper first.** How many times its anchor's height can a box have then?

# %%
runaway = decode_boxes(np.array([[0.0, 0, 100, 0]]), anchor)[0]
assert np.isclose((runaway[2] - runaway[0]) / 10, 62.5)
assert np.log(np.finfo(np.float32).max) < 100  # the exponential would be infinite
print("at most 62.5 times as high")

# %% [markdown]
# Now all 4092 anchors, by four texts of the same formula: a loop over single boxes; NumPy, a whole column at a time; the
# compiled kernel, over all boxes on both cores; and a kernel for graphics cards, where each box has a thread of its own.
# That one is written in CUDA, and a simulator runs it here, so no card is needed (chapter 2). They must agree, to the
# digits that their numbers have.

# %%
with kernels.use("numpy"):
    in_numpy = decode_boxes(deltas.astype(float), anchors.astype(float), std=config.rpn_box_std)
loop = [naive_boxes.decode(a, d, config.rpn_box_std) for a, d in zip(anchors.tolist(), deltas.tolist())]
close("decoding, loop and NumPy, float64", in_numpy, loop)
compiled, on_card = on_both(decode_boxes, deltas, anchors, std=config.rpn_box_std)
close("decoding, NumPy and compiled, float32", compiled, in_numpy, tolerance=1e-5)
close("decoding, the compiled kernel and CUDA's, simulated", on_card, compiled, tolerance=1e-5)

# %% [markdown]
# **Exercise 7.2.** Write `decode` for one anchor: four corners in, four out. `std` is $s$; no logarithm $s_3 d_h$ or
# $s_4 d_w$ may exceed `most`.


# %% tags=["exercise-7.2"]
def decode(anchor, delta, std, most):
    raise NotImplementedError


check("7.2", decode)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def decode(anchor, delta, std, most):
#     y1, x1, y2, x2 = anchor
#     dy, dx, dh, dw = np.asarray(delta) * np.asarray(std)
#     h, w = y2 - y1, x2 - x1
#     cy, cx = y1 + h / 2 + dy * h, x1 + w / 2 + dx * w
#     h, w = h * np.exp(min(dh, most)), w * np.exp(min(dw, most))
#     return [cy - h / 2, cx - w / 2, cy + h / 2, cx + w / 2]
# ```
#
# First the deviations, then the limit: the limit is one of the logarithm itself.
# </details>

# %%
starts = np.cumsum([0, *counts])
kept = np.concatenate([a + top_k(logits[a:b], config.proposals_pre_nms_test) for a, b in pairwise(starts)])
decoded = decode_boxes(deltas[kept], anchors[kept], std=config.rpn_box_std, max_log_scale=config.max_log_scale)
ledger.expect("decoded", decoded, (1052, 4))
assert 0 < (decoded.min(axis=1) < 0).sum() < 1052  # some reach beyond the image, most do not


# %% mystnb={"image": {"alt": "The image of the book twice. Left: the thirty anchors with the highest logits, in rigid rows. Right: the same after decoding, most of them drawn together in bundles on the objects."}}
def boxes_on(ax, boxes, colour, **style):
    for y1, x1, y2, x2 in np.asarray(boxes, float):
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=colour, **style))


def picture(ax, title):
    ax.imshow(sample.image // 2 + 127)
    ax.set(title=title, xticks=[], yticks=[], xlim=(-20, 148), ylim=(148, -20))


strongest = top_k(logits[kept], 30)
figure = Figure(figsize=(7.4, 3.9), layout="constrained")
for ax, boxes, title in zip(figure.subplots(1, 2), (anchors[kept], decoded), ("30 best anchors", "decoded")):
    picture(ax, title)
    boxes_on(ax, sample.gt_boxes, "black", ls=":", lw=1.5)
    boxes_on(ax, boxes[strongest], COLOURS[0], lw=1)
show(figure)
fit = [
    (iou(b[strongest], sample.gt_boxes.astype(np.float32)).max(axis=1) >= 0.5).mean() for b in (anchors[kept], decoded)
]
assert abs(fit[0] - 1 / 4) < 0.1 and abs(fit[1] - 2 / 3) < 0.1

# %% [markdown]
# *Figure 7.1. Dotted: the true boxes. Left, anchors stand in rows and columns; about a quarter of them overlap an object
# by half or more. Right, the deltas have moved them: now it is about two thirds, many in nearly the same place. That is
# what suppression is for. The others hold a piece of an object or lie between two; to see that is the task of the head of
# chapter 9.*
#
# ## Clip, and drop what has no sides
#
# A box may reach beyond the image. Move every corner into the window: $y \leftarrow \min(\max(y, \text{top}),
# \text{bottom})$. A box that lay wholly outside becomes a line on the border. It has no area, the heads cannot read it,
# so it is dropped. torchvision drops sides below 0.001 pixels, detectron2 sides of 0, the Keras code nothing.
#
# The *window* is the part of the canvas that holds the image; padding is the rest (chapter 1). Our image fills its canvas.
# The Keras code clips to the canvas, so its boxes may reach into the padding.
#
# **On paper first.** What becomes of (−10, −10, 20, 30), (−20, 10, −5, 20) and (99, 99, 140, 140) in a window of
# 100 × 100? Which of the three is dropped?

# %%
window = (0, 0, *batch.images.shape[1:3])
three = np.array([[-10.0, -10, 20, 30], [-20, 10, -5, 20], [99, 99, 140, 140]])
inside = clip_boxes(three, (0, 0, 100, 100))
assert inside.tolist() == [[0, 0, 20, 30], [0, 10, 0, 20], [99, 99, 100, 100]]
assert has_sides(inside, 1e-3).tolist() == [True, False, True]
print("clipped:", inside.astype(int).tolist(), "- the second has no height")
clipped = clip_boxes(decoded, window)
large = has_sides(clipped, config.proposals_min_size)
clipped, kept = clipped[large], kept[large]
assert clipped.min() >= 0 and clipped.max() <= 128

# %% [markdown]
# ## Suppress
#
# Now the list is full of near-copies. Non-maximum suppression, NMS, thins it:
#
# 1. Take the best box that is left. Keep it.
# 2. Throw out every other whose overlap with it is *greater* than the threshold.
# 3. Begin again.
#
# Overlap is intersection over union, IoU (chapter 5): the area that two boxes share, divided by the area that they cover
# together. The shared rectangle begins at the larger of the two starts and ends at the smaller of the two ends. Where it
# would end before it begins, the boxes share nothing. Covered together is the sum of both areas less the shared one.
#
# That is all, and it is greedy: nothing is ever reconsidered. Two consequences surprise people, so work them out.
#
# **On paper first.** Three boxes, 10 high, from $x$ = 0 to 10, 4 to 14 and 8 to 18, with scores 0.9, 0.8, 0.7. Compute
# the three IoUs. Which boxes stay at a threshold of 0.4? What if the second had the best score?

# %%
chain = np.array([[0.0, 0, 10, 10], [0, 4, 10, 14], [0, 8, 10, 18]])
overlap = iou(chain, chain)
assert np.allclose(overlap[0], [1, 6 / 14, 2 / 18]) and np.isclose(overlap[1, 2], 6 / 14)
assert nms(chain, np.array([0.9, 0.8, 0.7]), 0.4).tolist() == [0, 2]
assert nms(chain, np.array([0.8, 0.9, 0.7]), 0.4).tolist() == [1]
print("IoU of the first with all:", overlap[0].round(3).tolist(), "of the second with the third: 0.429")

# %% [markdown]
# First consequence: *a suppressed box suppresses nobody*. The third box overlaps the second by 0.43, but when its turn
# comes the second is gone. Second: *the order decides*. The same boxes give two survivors or one.
#
# **On paper first.** The boxes (0, 0, 2, 1) and (0, 0, 1, 1) have an IoU of 1/2. Do both stay at a threshold of 0.5?

# %%
half = np.array([[0.0, 0, 2, 1], [0, 0, 1, 1]])
assert iou(half, half)[0, 1] == 0.5
assert nms(half, np.array([0.9, 0.8]), 0.5).tolist() == [0, 1]  # greater, not "greater or equal"
assert nms(half, np.array([0.9, 0.8]), 0.4999).tolist() == [0]
assert nms(half[[0, 0]], np.array([0.9, 0.9]), 0.5).tolist() == [0]  # equal scores: the lower index wins
print("an overlap equal to the threshold does not suppress")

# %% [markdown]
# The loop, one pair of boxes at a time:

# %%
source(naive_boxes.nms)

# %% [markdown]
# The package does the same with one row of the IoU table at a time, and only for boxes that stay. `_ranking` checks the
# input and sorts as `top_k` does; `suppressed` is the list of the dead.
#
# **On paper first.** How large is the whole table for 6000 boxes, in float32?

# %%
assert 6000 * 6000 * 4 == 144_000_000  # bytes, and most of it would never be looked at
print("144 MB for the whole table")
source(nms)

# %% [markdown]
# Loop, NumPy, compiled and CUDA once more, on 300 boxes: the simulator takes its time. All must keep the same boxes in the
# same order. And what has survived once survives again.

# %%
ranks, level = logits[kept], np.searchsorted(starts, kept, side="right") - 1
some = clipped[:300].astype(float), ranks[:300].astype(float)
with kernels.use("numpy"):
    stay = nms(*some, 0.5)
close("which boxes stay, loop and NumPy", stay, naive_boxes.nms(some[0].tolist(), some[1], 0.5), tolerance=0)
compiled, on_card = on_both(nms, *some, 0.5)
close("NumPy and the compiled kernel", compiled, stay, tolerance=0)
close("the compiled kernel and CUDA's, simulated", on_card, compiled, tolerance=0)
assert np.array_equal(nms(some[0][stay], some[1][stay], 0.5), np.arange(len(stay)))

# %% [markdown]
# **Exercise 7.3.** Write NMS, with the code above out of sight. Return the indices of the boxes that stay, best score
# first, of equal scores the lower index first. The overlap is yours to write, too.


# %% tags=["exercise-7.3"]
def suppress(boxes, scores, threshold):
    raise NotImplementedError


check("7.3", suppress)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def suppress(boxes, scores, threshold):
#     boxes, kept = np.asarray(boxes, float), []
#     area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
#     left = np.argsort(-np.asarray(scores), kind="stable")
#     while len(left):
#         top, left = left[0], left[1:]
#         kept.append(int(top))
#         h = np.minimum(boxes[top, 2], boxes[left, 2]) - np.maximum(boxes[top, 0], boxes[left, 0])
#         w = np.minimum(boxes[top, 3], boxes[left, 3]) - np.maximum(boxes[top, 1], boxes[left, 1])
#         shared = np.maximum(h, 0) * np.maximum(w, 0)
#         left = left[shared <= threshold * (area[top] + area[left] - shared)]
#     return kept
# ```
#
# Both `maximum` are needed: boxes apart in y *and* x would have a positive product of two negative sides.
# </details>

# %% mystnb={"image": {"alt": "Four panels around one object: all boxes of one place, then the first three steps of suppression with the kept box thick and the dropped ones dashed."}}
target = sample.gt_boxes[2].astype(np.float32)
near = np.flatnonzero(iou(clipped, target[None])[:, 0] > 0.3)
near = near[top_k(ranks[near], 14)]
crowd, left, stayed = clipped[near], list(range(len(near))), []
figure, dropped = Figure(figsize=(8.4, 2.5), layout="constrained"), []
for step, ax in enumerate(figure.subplots(1, 4)):
    picture(ax, f"{len(near)} boxes of one place" if step == 0 else f"step {step}")
    out = []
    if step and left:
        stayed.append(left.pop(0))
        out = [i for i in left if naive_boxes.iou(crowd[stayed[-1]], crowd[i]) > 0.5]
        left = [i for i in left if i not in out]
        ax.set(title=f"step {step}: drops {len(out)}, {len(left)} left")
        dropped.append(len(out))
    boxes_on(ax, crowd[left], "0.35", lw=0.8)
    boxes_on(ax, crowd[out], COLOURS[1], lw=1, ls="--")
    boxes_on(ax, crowd[stayed], COLOURS[0], lw=2.5)
    ax.set(xlim=(target[1] - 30, target[3] + 30), ylim=(target[2] + 30, target[0] - 30))
    ax.title.set_fontsize(9)
show(figure)
assert dropped[0] > len(near) / 2

# %% [markdown]
# *Figure 7.2. NMS at 0.5 among boxes that overlap the white circle. Grey: undecided. Blue: kept. Orange, dashed: thrown
# out in this step, by the box that was kept in it. The first step throws out more than half of all.*
#
# How far apart must two boxes be to live side by side? Take two squares of side $a$, one shifted by $d$ along x. The
# shared area is $(a-d)\,a$. Together they cover $2a^2 - (a-d)\,a = (a+d)\,a$. So IoU $= (a-d)/(a+d)$.
#
# **On paper first.** Set it to a threshold $t$ and solve for $d$. How many pixels is that for $a = 34$ and $t = 0.7$?

# %%
assert np.isclose(34 * (1 - 0.7) / (1 + 0.7), 6)
shifted = np.array([[0.0, 0, 34, 34], [0, 5.9, 34, 39.9], [0, 6.1, 34, 40.1]])
assert (iou(shifted, shifted)[0] > 0.7).tolist() == [True, True, False]
print("d = a (1 - t) / (1 + t) = 6; shifted by 5.9 and by 6.1:", iou(shifted, shifted)[0, 1:].round(3).tolist())

# %% [markdown]
# **Exercise 7.4.** Derive it for a shift by $d$ in *both* directions. Write the least $d$ at which both squares stay.


# %% tags=["exercise-7.4"]
def least_shift(side, threshold):
    raise NotImplementedError


check("7.4", least_shift)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def least_shift(side, threshold):
#     return side * (1 - np.sqrt(2 * threshold / (1 + threshold)))
# ```
#
# The shared square has side $s - d$. IoU $= q / (2 s^2 - q)$ with $q = (s-d)^2$; set it to $t$: $q = 2 s^2 t / (1+t)$.
# </details>
#
# ## Suppress, not combine
#
# One of the documents says that NMS *combines* overlapping proposals. It does not: every survivor is one of the inputs,
# to the last bit. Does the difference matter? Let the first two boxes of the chain above be two true objects, one behind
# the other, and let somebody average each winner with what it throws out.
#
# **On paper first.** What is the average of the first two boxes? How much of each true box does it cover, as IoU?

# %%
winner = nms(chain[:2], np.array([0.9, 0.8]), 0.4)
mean = chain[:2].mean(axis=0, keepdims=True)
assert np.array_equal(chain[winner[0]], chain[0])  # unchanged
assert mean.tolist() == [[0, 2, 10, 12]] and np.allclose(iou(mean, chain[:2]), 8 / 12)
print(f"suppression: IoU 1 and {6 / 14:.3f}; the average: IoU {8 / 12:.3f} with both")

# %% mystnb={"image": {"alt": "Two overlapping squares. Left: suppression keeps the first as it is. Right: the average lies between the two and fits neither."}}
figure = Figure(figsize=(6.4, 2.4), layout="constrained")
for ax, box, title in zip(figure.subplots(1, 2), (chain[winner[0]], mean[0]), ("suppressed", "combined")):
    boxes_on(ax, chain[:2], "0.5", ls="--", lw=1.5)
    boxes_on(ax, [box], COLOURS[0], lw=3)
    ax.set(title=title, xlim=(-1, 15), ylim=(11, -1), aspect="equal", xticks=[0, 4, 10, 14], yticks=[0, 10])
show(figure)

# %% [markdown]
# *Figure 7.3. Dashed: two objects. Suppression loses one and has the other exactly; averaging has a box that neither
# object has.*
#
# Averaging is a method of its own ("box voting"), and where all boxes mean one object it can even sharpen the result. But
# it is another method, and its output is a box that the network has never scored.
#
# ## Levels apart
#
# Should a box of P2 suppress one of P3? torchvision and detectron2 say no: top-k and NMS run level by level, and so does
# our configuration. The Keras code throws all levels into one pool. The labels that keep boxes apart are called groups;
# the same function serves the detections at the end, where the groups are classes.
#
# For short lists (up to 1000 boxes on a CPU) torchvision runs all groups in *one* NMS. It shifts every box of group $g$
# by $g$ times the largest coordinate plus one, so that groups cannot meet. It is neat, and in float32 it costs digits.
#
# **On paper first.** Class 80 in an image of 1000 pixels is shifted by $80 \cdot 1001 = 80{,}080$, which lies between
# $2^{16}$ and $2^{17}$. A float32 has 24 binary digits. How far apart are two neighbours there?

# %%
pair = np.array([[0, 0, 0.75, 0.507], [0, 0, 0.75, 0.2535]], np.float32)
shifted = pair + np.float32(80 * 1001)  # class 80 in an image of 1000 pixels
assert np.spacing(np.float32(80 * 1001)) == 1 / 128
assert np.isclose(iou(pair[:1], pair[1:]).item(), 1 / 2) and np.isclose(iou(shifted[:1], shifted[1:]).item(), 32 / 65)
both, scores2 = np.concatenate([pair, [[0, 0, 1000, 1000]]]).astype(np.float32), np.array([3, 2, 1], np.float32)
assert batched_nms(both, scores2, np.array([80, 80, 0]), 0.495).tolist() == [0, 2]
assert nms(shifted, scores2[:2], 0.495).tolist() == [0, 1]  # the shifted pair no longer suppresses
print("neighbours are 1/128 apart; an IoU of 1/2 has become", round(32 / 65, 4))

# %% [markdown]
# ## All of it
#
# After the suppression the boxes of all levels are sorted by logit once more, and the best 200 go on: that is the second
# cut. The steps of this chapter in a row, against the package:

# %%
chosen = batched_nms(clipped, ranks, level, config.proposals_nms_iou)[: config.proposals_post_nms_test]
ours, scores = clipped[chosen], sigmoid(ranks[chosen])[0]
theirs, their_scores = propose(logits, deltas, levels, window, config, training=False)
ledger.expect("proposals", ours, (200, 4))
ledger.expect("their scores", scores, (200,))
close("boxes of this chapter and of propose()", ours, theirs)
close("scores", scores, their_scores)
assert np.all(np.diff(ranks[chosen]) <= 0)  # best first
assert config.proposals_post_nms_test == 200
print(f"{len(anchors)} anchors, {len(decoded)} of them ranked and decoded, {len(chosen)} proposals")

# %% [markdown]
# ## No gradient
#
# Look for a derivative. *Who* survives depends on the logits only through comparisons. Move each of them by less than
# half of the smallest gap, and no comparison changes. A function that is constant in pieces has the derivative 0, or none
# where it jumps.
#
# *Where* a survivor lies does depend on its deltas, smoothly: by the formula above its centre moves with $d_y$ at the
# rate $s_1 h$. That path is cut *by decision*. The boxes go into the second stage as constants, and the proposal network
# learns from targets of its own (chapter 6). The literature calls this approximate joint training, the Keras code writes
# `stop_gradient`.
#
# **On paper first.** The anchor of above is 10 high. With $s_1 = 0.1$, how far does its upper edge move if $d_y$ grows
# by 0.01?

# %%
strongest = top_k(ranks, 40)
few, few_ranks = clipped[strongest], ranks[strongest].astype(np.float64)
gap = -np.diff(few_ranks).max()
assert gap > 0  # no ties among these
trembling = few_ranks + np.random.default_rng(0).uniform(-0.49, 0.49, 40) * gap
assert np.array_equal(nms(few, few_ranks, 0.7), nms(few, trembling, 0.7))
step = np.array([[0.01, 0, 0, 0]])
edge = decode_boxes(delta + step, anchor, std=config.rpn_box_std) - decode_boxes(delta, anchor, std=config.rpn_box_std)
assert np.allclose(edge, [[0.01, 0, 0.01, 0]])  # 0.1 * 10 * 0.01, both edges
print("logits may tremble: the same boxes stay; the edge moves by 0.01")

# %% [markdown]
# ## Step by step
#
# Move the threshold; go through the steps. The table computes every IoU with the box kept now: shared area, divided by
# what both cover. Drag a box, or focus it and use the arrow keys (with Shift ten steps). At 0.3 box G vanishes: the
# square in it is an object of its own, but it overlaps the triangle of box E. At 0.8 all nine boxes stay. Try to build
# a chain: a box that lives because its enemy died.
#
# **On paper first.** A is (49, 22, 96, 69) and B is (54, 23, 94, 63). B lies within A. What is their IoU, and at which
# thresholds does B stay?

# %% mystnb={"image": {"alt": "Nine boxes, A to I, with scores on the image: A to D around the large circle, E and F around a triangle, G around the square inside it, H and I around the small circle."}}
places = np.array([[49, 22, 96, 69], [54, 23, 94, 63], [48, 16, 98, 65], [54, 34, 102, 84], [0, 31, 56, 89],
                   [1, 28, 52, 83], [2, 36, 34, 68], [104, 27, 123, 46], [100, 22, 126, 47]], float)  # fmt: skip
certain = np.array([0.92, 0.88, 0.61, 0.57, 0.84, 0.79, 0.66, 0.81, 0.74])
assert nms(places, certain, 0.5).tolist() == [0, 4, 7, 6, 3]
assert nms(places, certain, 0.3).tolist() == [0, 4, 7]  # the square inside the triangle is lost
assert len(nms(places, certain, 0.8)) == 9
assert np.isclose(iou(places[:1], places[1:2]).item(), 1600 / 2209) and round(1600 / 2209, 2) == 0.72
figure = Figure(figsize=(4.6, 4.4), layout="constrained")
ax = figure.subplots()
picture(ax, "nine boxes, before")
boxes_on(ax, places, COLOURS[0], lw=1.5)
heights = (49, 59, 92, 102, 4, 8, 30, 113, 126)
for i, ((_, x1, _, x2), side, y) in enumerate(zip(places, "lllrlrlrl", heights)):
    x, towards = (x1, "right") if side == "l" else (x2, "left")
    look = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    ax.text(x, y, f"{'ABCDEFGHI'[i]} {certain[i]:.2f}", ha=towards, va="center", fontsize=8, bbox=look)
show(figure)

# %% [markdown]
# *Figure 7.4. The start of the live picture below. B lies within A: their IoU is 1600 / 2209 = 0.72.*


# %%
def outline(mask):
    """Return the left and right ends of the rows of a mask as one polygon of (x, y)."""
    rows = np.flatnonzero(mask.any(axis=1))
    left, right = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    return [*zip(left, rows), *zip(right[::-1], rows[::-1] + 1)]


explorable("nms", boxes=places, scores=certain, objects=[outline(mask) for mask in np.asarray(sample.gt_masks)])

# %% [markdown]
# **Exercise 7.5.** Break it: write the method that combines. Group as NMS does, then return for each winner the plain mean
# of the winner and what it threw out.


# %% tags=["exercise-7.5"]
def combine(boxes, scores, threshold):
    raise NotImplementedError


check("7.5", combine)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def combine(boxes, scores, threshold):
#     def overlap(a, b):
#         h, w = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
#         shared = max(h, 0) * max(w, 0)
#         return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
#
#     left, means = list(np.argsort(-np.asarray(scores), kind="stable")), []
#     while left:
#         group = [left[0]] + [i for i in left[1:] if overlap(boxes[left[0]], boxes[i]) > threshold]
#         left = [i for i in left if i not in group]
#         means.append(np.mean([boxes[i] for i in group], axis=0))
#     return means
# ```
#
# The winner alone decides who belongs to its group: overlaps are measured with it, not with the mean.
# </details>
#
# ## Break it
#
# There are two suppressions in the network: this one at 0.7, and one of the detections at the end, at 0.4 (torchvision
# 0.5, the Keras code 0.3). What if somebody uses the Keras code's low threshold here already? Twenty-six held-out images
# of shapes, 84 objects: for each object we ask whether some proposal *fits*, with an IoU of 0.7 or more. Then we ask for
# half only. An object without even that is lost: the heads have learned that such a region is background (chapter 10).
#
# **On paper first.** Two objects overlap by 0.43, as the first two boxes of the chain. Each has a proposal that fits
# exactly. How many of the two still have one after suppression at 0.7, and how many at 0.3?

# %% tags=["break-it"]
held_out = open_dataset("shapes", DATA / "shapes", "val")
samples = [held_out.load(i) for i in range(len(held_out))]
_, many_logits, many_deltas, _ = model.first_stage(make_batch(samples, config).images)


def found(threshold, budget, fit=0.7, **other):
    """Return the share of objects that one of the first `budget` proposals overlaps by `fit`."""
    changed = config.replace(proposals_nms_iou=threshold, proposals_post_nms_test=budget, **other)
    overlaps = []
    for truth, own_logits, own_deltas in zip(samples, many_logits, many_deltas):
        boxes, _ = propose(own_logits, own_deltas, levels, window, changed, training=False)
        overlaps += list(iou(boxes, truth.gt_boxes.astype(np.float32)).max(axis=0))
    assert len(overlaps) == 84
    return np.mean(np.array(overlaps) >= fit)


assert nms(chain[:2], np.array([0.9, 0.8]), 0.7).size == 2 and nms(chain[:2], np.array([0.9, 0.8]), 0.3).size == 1
assert [c.detection_nms_iou for c in (config, presets.torchvision(), presets.matterport())] == [0.4, 0.5, 0.3]
one_pool = {"proposals_per_level": False}
as_it_is, broken, worst = found(0.7, 200), found(0.3, 200), found(0.3, 200, **one_pool)
assert as_it_is > 0.85 and abs(as_it_is - broken - 1 / 20) < 0.02 and abs(as_it_is - worst - 1 / 5) < 0.05
assert found(0.7, 200, 0.5) > 0.98 and found(0.3, 200, 0.5) > 0.96 and 0.9 < found(0.3, 200, 0.5, **one_pool) < 0.95
print("0.3 costs a twentieth of all objects their good proposal; with all levels in one pool, a fifth")

# %% mystnb={"image": {"alt": "Curves: share of objects with a fitting proposal against the number of proposals, for thresholds 0.3, 0.5, 0.7 and without suppression. With short lists the curve without suppression is the lowest, with long ones the highest; there 0.3 lies below the others, and far below with all levels in one pool."}}
budgets = (5, 10, 20, 50, 100, 200)
figure = Figure(figsize=(6, 3), layout="constrained")
ax = figure.subplots()
for colour, mark, threshold in zip(COLOURS, "osD^", (0.7, 0.5, 0.3, 1.0)):
    label = f"NMS at {threshold}" if threshold < 1 else "no NMS"
    ax.plot(budgets, [found(threshold, k) for k in budgets], color=colour, marker=mark, label=label)
pool = [found(0.3, k, **one_pool) for k in budgets]
ax.plot(budgets, pool, color=COLOURS[4], marker="x", label="NMS at 0.3, one pool")
ax.set(xscale="log", xticks=budgets, xticklabels=budgets, xlabel="proposals", ylabel="objects found", ylim=(0.4, 1))
ax.legend(fontsize=8, loc="lower right")
ax.minorticks_off()
show(figure)
assert all(found(1.0, k) < found(0.7, k) for k in (5, 10, 20)) and found(1.0, 200) > as_it_is

# %% [markdown]
# *Figure 7.5. The price, for proposals that fit by 0.7. The axis begins at 0.4. At 0.3 more than twenty proposals hardly
# help: neighbours are gone, and with them boxes that fitted better than the one with the best logit.*
#
# On paper: at 0.7 both objects keep their proposal, at 0.3 one of them loses it. If half is enough, nearly all 84 objects
# are found at either threshold; only with all levels in one pool more than one in twenty is lost for good.
#
# The best logit is not the best fit. The proposal network is trained to say "object", not "this box fits to the pixel".
# So keep the alternatives and let the box head choose. That is why 0.7, and why the strict threshold comes later, behind
# the head. In one pool even levels suppress each other, and less is left.
#
# Why suppress at all? Look at the short lists. Without NMS copies take the first places, and fewer objects have a box
# that fits. With 200 places for a handful of objects there is room for every copy, and nothing is gained by throwing any
# out. The large network has no such room: of 260,000 anchors thousands overlap one large object, and their copies can
# fill all 1000 places.
#
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | NMS "combines" overlapping proposals | it suppresses: the best stays unchanged, the others go |
# | the ProposalLayer ranks, then decodes, and is done (slides) | it clips and suppresses, too |
# | "crop the boxes to 0–1" | true of normalised coordinates; in pixels it is the window |
# | the graph of prediction has no ProposalLayer (slides) | it has: the same layer, with other counts |
# | masks come from the best 100 *proposals* | from the best detections, after the second suppression |
# | torchvision's `pre_nms_top_n`, `post_nms_top_n`, `nms_thresh` (steps 1, 6, 5) belong to the anchor generator | they belong to the proposal network; the first counts *each level* |
# | 6000, 2000, 1000 are the numbers of the method | of the Keras code; others have 2000 or 1000 of each level first |
#
# ## Do you remember?
#
# <details><summary>Q1. What are the six steps from logits to proposals, in order?</summary>Rank and cut, decode, clip, drop what has no sides, suppress, cut again.</details>
# <details><summary>Q2. Why rank by logit and not by probability?</summary>The sigmoid saturates: different logits become the same float32, and a tie is broken by index.</details>
# <details><summary>Q3. Why are deltas relative to the anchor's sides?</summary>The same numbers then serve small and large anchors, so one head can serve all levels.</details>
# <details><summary>Q4. Why is the logarithm of the sides cut off?</summary>The exponential of an untrained output overflows; at ln(1000/16) a side is at most 62.5 times its anchor's.</details>
# <details><summary>Q5. What becomes of a box wholly outside the image?</summary>Clipping makes it a line on the border, without area, and it is dropped.</details>
# <details><summary>Q6. IoU equals the threshold: who stays?</summary>Both. Only a greater overlap suppresses.</details>
# <details><summary>Q7. Can a suppressed box suppress another?</summary>No. It has left the list before its turn.</details>
# <details><summary>Q8. Does the result depend on the order of equal scores?</summary>Yes, so a rule is needed: the lower index first.</details>
# <details><summary>Q9. How far must two squares of side s be shifted along one axis to survive at t?</summary>By s (1 − t) / (1 + t).</details>
# <details><summary>Q10. Why is the IoU table never built as a whole?</summary>Only rows of survivors are needed; for 6000 boxes the whole takes 144 MB.</details>
# <details><summary>Q11. What are the groups of the batched version?</summary>Levels for proposals, classes for detections; boxes of different groups never suppress each other.</details>
# <details><summary>Q12. Why does no gradient flow back?</summary>Choosing is constant in pieces; the corners could carry one, and are made constants by decision.</details>
# <details><summary>Q13. Why 0.7 here and less at the end?</summary>The best logit is not the best fit; the box head should see the alternatives.</details>
