# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6. The region proposal network and its targets
#
# After this chapter you can write the proposal head and its backward pass, encode a box as four deltas and decode it again,
# label anchors, and say where the numbers (0.1, 0.1, 0.2, 0.2) come from.
#
# *Mirrors* ([five texts](00_map.ipynb), which you need not know): the slides' "RPN" and `build_rpn_targets`, the
# walkthrough's chapters on the RPN and its labels, the notes' list of thresholds. What is wrong in them stands at the
# end.
#
# Chapter 5 laid 4,092 boxes over the image. Now somebody has to look through them. The *region proposal network*, RPN,
# answers two questions for each anchor. Is there an object? One number, the *objectness* logit. How must the anchor move and
# stretch to fit it? Four numbers, the *deltas*. A *logit* is a score before the sigmoid turns it into a probability.
#
# The first half of the chapter is the network, which is small. The second half says what it should have answered: the
# *targets*. They need no network, only anchors and true boxes.

# %%
import naive
import naive_boxes
import numpy as np
from gradcheck import check_gradients
from helpers import COLOURS, DATA, Ledger, check, close, network, on_both, open_dataset, scene, show, source
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import kernels
from mrcnn_np import presets
from mrcnn_np.boxes import decode_boxes, encode_boxes, iou
from mrcnn_np.molding import make_batch
from mrcnn_np.objective import rpn_box_loss, rpn_box_loss_backward, rpn_class_loss, rpn_class_loss_backward
from mrcnn_np.ops.activation import sigmoid, softmax
from mrcnn_np.params import draw
from mrcnn_np.proposals import propose
from mrcnn_np.rpn import rpn_head, rpn_head_backward, rpn_spec
from mrcnn_np.targets import is_positive, label_anchors, match_anchors, rpn_targets, subsample
from mrcnn_np.training.optim import clip_gradients, update, zero_velocity

# %%
model, ledger, rng = network(), Ledger(), np.random.default_rng(0)
config, batch = model.config, make_batch([scene()], model.config)
pyramid, logits, deltas, _ = model.first_stage(batch.images)
levels = model.anchors(batch.images.shape[1:3], pyramid)
anchors, gt_boxes = np.concatenate(levels), batch.gt_boxes[0]


def outline(ax, box, colour, **style):
    y1, x1, y2, x2 = box
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **{"fill": False, "color": colour, "lw": 2} | style))


# %% [markdown]
# ## One head for five maps
#
# The head is three convolutions. A 3 × 3 one with a ReLU looks at a cell and its neighbours. Two 1 × 1 ones read the
# result: one gives the logits of the cell's three anchors, the other their $3 \cdot 4$ deltas. Nothing else.
#
# The same weights run over P2, P3, P4, P5 and P6. That is sensible: a level's anchors are eight cells wide on each
# level (in the papers' sizes), so "an object that fills eight cells" looks alike everywhere. It also means that a rare
# large object teaches the same weights as the many small ones. (The port that goes with the slides does not share: its
# layer names end in the level.)
#
# One thing surprises: the 3 × 3 window covers far less than the anchor that it judges. That is no mistake. A cell of the
# pyramid has looked at a large part of the image already, through all layers below it. The head only has to read what
# they have written down.
#
# **On paper first.** The pyramid has 256 channels, the head 512, three anchors per cell, two logits each (object and
# background, as matterport has it). How many parameters? And with 256 channels and one logit, as in torchvision?


# %%
def parameters(config):
    return {name: int(np.prod(spec.shape)) for name, spec in rpn_spec(config).items()}


matterport, torchvision = parameters(presets.matterport()), parameters(presets.torchvision())
assert matterport["rpn.conv.w"] + matterport["rpn.conv.b"] == 3 * 3 * 256 * 512 + 512 == 1180160
assert matterport["rpn.objectness.w"] + matterport["rpn.objectness.b"] == 512 * 6 + 6 == 3078
assert matterport["rpn.deltas.w"] + matterport["rpn.deltas.b"] == 512 * 12 + 12 == 6156
assert sum(matterport.values()) == 1189394 and sum(torchvision.values()) == 593935
print(f"matterport {sum(matterport.values()):,}; torchvision {sum(torchvision.values()):,}; no more for five levels")

# %% [markdown]
# Two logits or one? Let $a$ be the logit of "background" and $b$ that of "object". The softmax of the two says $e^b / (e^a +
# e^b)$. Divide above and below by $e^b$: $1 / (1 + e^{-(b-a)})$, the sigmoid of $b - a$. Only the difference counts. So one
# logit with a sigmoid says the same, with half the weights.
#
# **On paper first.** $a = 0.3$ and $b = 1.7$. Which sigmoid is it?

# %%
pair = np.array([[0.3, 1.7]])
assert np.isclose(softmax(pair)[0][0, 1], sigmoid(pair[:, 1] - pair[:, 0])[0].item())
ledger.expect("logits", logits, (1, 4092))
ledger.expect("deltas", deltas, (1, 4092, 4))
print(f"sigmoid(1.7 - 0.3) = {sigmoid(np.array([1.4]))[0].item():.4f}")

# %% [markdown]
# A map of shape (N, H, W, 12) has to become rows of four numbers, one for each anchor. Channels 0 to 3 are the deltas of
# the cell's first anchor, 4 to 7 those of the second. Row, column, ratio: the anchors of chapter 5 have this order.
#
# **Exercise 6.1.** Write the change of shape for any count of numbers per anchor.


# %% tags=["exercise-6.1"]
def to_rows(level, numbers):
    raise NotImplementedError


check("6.1", to_rows)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def to_rows(level, numbers):
#     return level.reshape(len(level), -1, numbers)
# ```
#
# Channels last in memory make this free. A framework with channels first has to move them to the end before.
# </details>
#
# In the package's function the loop runs over the levels, and the same three layers are used in each turn.

# %%
source(rpn_head)

# %% [markdown]
# `conv_names` is one name here: a network may have several 3 × 3 convolutions. `k` is 1 or 2, the logits per anchor. At the end
# all levels stand behind one another: 4,092 rows, in the order of chapter 5.
#
# The four programs of chapter 1, on one small map:

# %%
params = {name: value.astype(np.float64) for name, value in model.params.items() if name.startswith("rpn.")}
p2, p3 = rng.normal(size=(1, 3, 4, 48)), rng.normal(size=(1, 2, 2, 48))
hidden = naive.conv2d(p2, params["rpn.conv.w"], params["rpn.conv.b"], padding=((1, 1), (1, 1)))
hidden = np.maximum(hidden, 0)
loop = [naive.conv2d(hidden, params[f"{n}.w"], params[f"{n}.b"]) for n in ("rpn.objectness", "rpn.deltas")]
with kernels.use("numpy"):
    in_numpy = rpn_head([p2], params, config)[:2]
for name, one, two, compiled, on_card in zip(
    ("logits", "deltas"), loop, in_numpy, *on_both(rpn_head, [p2], params, config)
):
    close(f"{name}: loop and NumPy, float64", two, one.reshape(two.shape))
    close(f"{name}: NumPy and the compiled kernels, float32", compiled, two, tolerance=1e-5)
    close(f"{name}: the compiled kernels and CUDA's, simulated", on_card, compiled, tolerance=1e-5)

# %% mystnb={"image": {"alt": "Objectness of the trained network on the five levels, the highest of each cell's three anchors, beside the image: bright cells sit on objects or on pieces of the large triangle, on P5 and P6 also beside them; all else is dark."}}
figure = Figure(figsize=(10, 2.3), layout="constrained")
axes = figure.subplots(1, 6)
axes[0].imshow(scene().image, extent=(0, 128, 128, 0))
start, unsure = 0, []
for ax, k, level, stride in zip(axes[1:], range(2, 7), levels, config.anchor_strides):
    score = sigmoid(logits[0, start : start + len(level)])[0]
    highest = score.reshape(128 // stride, 128 // stride, 3).max(axis=2)
    ax.imshow(highest, cmap="cividis", vmin=0, vmax=1)
    ax.set(title=f"P{k}")
    start += len(level)
    unsure.append((np.mean((score > 0.1) & (score < 0.9)), score.mean()))
    assert highest[64 // stride : -(-96 // stride), 96 // stride :].max() < 0.1  # the lower end of the stick
assert (np.diff(unsure, axis=0)[:3] > 0).all() and unsure[0][0] < 0.01 and unsure[3][0] < unsure[4][0] == 0.5
for ax in axes:
    ax.set(xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 6.1. Objectness of the book's network, the largest of a cell's three anchors; dark is 0, bright 1. The small
# triangle and the small circle light up on P3, the square on P4, the large circle on P4 and P5. Pieces of the large
# triangle do so from P2 to P4. The stick, which is no object, stays dark. P6 is the least sure: half of its scores lie
# between 0.1 and 0.9, on P2 not one in a hundred. The section on sampling says why.*
#
# ## The way back: shared weights add up
#
# Each convolution's backward pass is that of chapter 2. What is new is the sharing. Let $w$ be used on five levels, $y_l =
# f(w, P_l)$. Move $w$ a little: all five outputs change, and the loss changes by the sum of the five effects. So
#
# $$\frac{\partial L}{\partial w} = \sum_{l=2}^{6} \frac{\partial L}{\partial y_l}\frac{\partial y_l}{\partial w}.$$
#
# That is all: run the backward pass on each level, and *add* the weights' gradients. The maps' gradients stay apart. For a 1 ×
# 1 convolution a cell's share is the outer product of its input and its output's gradient.
#
# A sum hides within a level, too. The map behind the ReLU, `hidden`, goes to two convolutions, the one for logits and the one
# for deltas. So its gradient is the sum of what the two send back, as at every place where something is used twice.
#
# **Exercise 6.2.** Write the weight gradient of a 1 × 1 convolution shared by several levels: `xs` are maps (H, W, C), `dys`
# the gradients (H, W, K) of its outputs; return (C, K).


# %% tags=["exercise-6.2"]
def shared_gradient(xs, dys):
    raise NotImplementedError


check("6.2", shared_gradient)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def shared_gradient(xs, dys):
#     total = np.zeros((xs[0].shape[-1], dys[0].shape[-1]))
#     for x, dy in zip(xs, dys):
#         total += x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
#     return total
# ```
# </details>

# %%
source(rpn_head_backward)

# %% [markdown]
# `plus=box.dx` is the sum at `hidden`; `accumulate` is the sum over the levels. Two proofs, with maps of 3 × 4 and 2 × 2
# cells: the joint gradient of the 3 × 3 weights is the sum of the two levels' gradients, and finite differences agree with
# the gradients of both maps and of all three weights. The kernels must give the same gradients of the maps.


# %%
def head(p2, p3, w, objectness, box):
    given = params | {"rpn.conv.w": w, "rpn.objectness.w": objectness, "rpn.deltas.w": box}
    out_logits, out_deltas, cache = rpn_head([p2, p3], given, config, training=True)

    def back(dy):
        grads = {}
        dmaps = rpn_head_backward(*dy, cache, grads)
        return [*dmaps, grads["rpn.conv.w"], grads["rpn.objectness.w"], grads["rpn.deltas.w"]]

    return (out_logits, out_deltas), back


# %%
def weight_gradient(maps, dlogits, ddeltas):
    grads = {}
    rpn_head_backward(dlogits, ddeltas, rpn_head(maps, params, config, training=True)[2], grads)
    return grads["rpn.conv.w"]


# 36 anchors of the first map, 12 of the second
dlogits, ddeltas = rng.normal(size=(1, 48)), rng.normal(size=(1, 48, 4))
joint = weight_gradient([p2, p3], dlogits, ddeltas)
apart = [
    weight_gradient([p2], dlogits[:, :36], ddeltas[:, :36]),
    weight_gradient([p3], dlogits[:, 36:], ddeltas[:, 36:]),
]
close("one pass over two levels, and the sum of two passes", joint, sum(apart))
back = dlogits, ddeltas, rpn_head([p2, p3], params, config, training=True)[2], {}
for name, mine, compiled, on_card in zip(("dP2", "dP3"), rpn_head_backward(*back), *on_both(rpn_head_backward, *back)):
    close(f"{name}: NumPy and the compiled kernels, float32", compiled, mine, tolerance=1e-5)
    close(f"{name}: the compiled kernels and CUDA's, simulated", on_card, compiled, tolerance=1e-5)
check_gradients(
    head, p2, p3, *(params[f"{n}.w"] for n in ("rpn.conv", "rpn.objectness", "rpn.deltas")), rng=rng, tol=1e-6
)
ledger.expect("gradient of the shared 3 x 3 weights", joint, (3, 3, 48, 48))
print("finite differences agree")

# %% [markdown]
# ## Four numbers that move a box
#
# The anchor has centre $(c_y, c_x)$ and sides $(h_a, w_a)$, the object centre $(g_y, g_x)$ and sides $(h, w)$. Why not
# let the network say "12 pixels down"? Because the same head works on anchors of 32 and of 512 pixels. What it
# sees is measured in cells, so it can only know shares of the anchor. Hence divide by its sides:
#
# $$d_y = \frac{g_y - c_y}{h_a}, \quad d_x = \frac{g_x - c_x}{w_a}, \quad d_h = \ln\frac{h}{h_a}, \quad d_w = \ln\frac{w}{w_a}.$$
#
# The logarithm makes twice as high and half as high equally far from 0, and no output can ask for a negative height.
#
# **On paper first.** Anchor (0, 0, 100, 200), object (10, 20, 110, 220), in the order top, left, bottom, right. The four
# deltas? And after division by (0.1, 0.1, 0.2, 0.2)?

# %%
anchor, box = np.array([0.0, 0, 100, 200]), np.array([10.0, 20, 110, 220])
std = (0.1, 0.1, 0.2, 0.2)
assert np.allclose(encode_boxes(box, anchor), [0.1, 0.1, 0, 0])
assert np.allclose(encode_boxes(box, anchor, std=std), [1, 1, 0, 0])
assert np.allclose(encode_boxes(3 * box, 3 * anchor), encode_boxes(box, anchor))  # three times as large: the same
doubled = encode_boxes(np.array([-50.0, 0, 150, 200]), anchor)
assert np.allclose(doubled, [0, 0, np.log(2), 0]) and np.isclose(np.log(2), 0.693, atol=5e-4)
print("moved:", encode_boxes(box, anchor).round(3).tolist(), " twice as high:", doubled.round(3).tolist())

# %% [markdown]
# **Exercise 6.3.** Write it for one box and one anchor, with the division by `std`.


# %% tags=["exercise-6.3"]
def encode(box, anchor, std):
    raise NotImplementedError


check("6.3", encode)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def encode(box, anchor, std):
#     side_b, side_a = box[2:] - box[:2], anchor[2:] - anchor[:2]
#     move = ((box[:2] + box[2:]) / 2 - (anchor[:2] + anchor[2:]) / 2) / side_a
#     return np.concatenate([move, np.log(side_b / side_a)]) / np.asarray(std)
# ```
#
# The order is (dy, dx, dh, dw). torchvision and the papers write x first.
# </details>
#
# A true box without height has no logarithm. In other programs that is a loss that becomes NaN after some hours, when the
# one bad annotation comes up; "nan rpn bbox loss" is an issue with many comments. The package refuses such a box and
# names it.

# %%
try:
    encode_boxes(np.array([[5.0, 5, 5, 9]]), anchor[None])
except ValueError as error:
    refused = str(error)
assert refused == "boxes row 0 is (5, 5, 5, 9); expected y2 > y1 and x2 > x1"
print(refused)

# %% [markdown]
# Decoding is what the network needs: it has an anchor and four deltas and wants a box. Multiply by `std`, and solve the four
# equations for the object:
#
# $$g_y = c_y + d_y\,h_a, \quad g_x = c_x + d_x\,w_a, \quad h = h_a\,e^{d_h}, \quad w = w_a\,e^{d_w}.$$
#
# The corners lie half a side from the centre. The four programs, on the network's own deltas:

# %%
with kernels.use("numpy"):
    decoded = decode_boxes(deltas[0], anchors, std=config.rpn_box_std)
fast, on_card = on_both(decode_boxes, deltas[0], anchors, std=config.rpn_box_std)
by_loop = [naive_boxes.decode(a, d, config.rpn_box_std) for a, d in zip(anchors.astype(float), deltas[0].astype(float))]
close("decoding, loop and NumPy, float32", decoded, by_loop, tolerance=1e-5)
close("decoding, NumPy and the compiled kernel", fast, decoded, tolerance=1e-5)
close("decoding, the compiled kernel and CUDA's, simulated", on_card, fast, tolerance=1e-5)
again = encode_boxes(decoded, anchors, std=config.rpn_box_std)
close("encoded again", again, deltas[0], tolerance=1e-4)

# %% [markdown]
# ## Why 0.1, 0.1, 0.2, 0.2?
#
# "BBOX_STD_DEV for what?" asks one of the best-read issues of matterport's repository. The loss adds four numbers; they
# should have about the same size, or the larger ones get all the attention. So each is divided by its spread.
#
# How wide do they spread? A positive anchor has an IoU of at least 0.7, and that bounds its deltas. Take one delta at a time.
# Moved in one direction only, a box keeps 0.7 up to a shift of 0.176 sides (chapter 5). Stretched along one side only, it
# keeps 0.7 up to a factor of $1/0.7$: the smaller box lies within the larger one, and the IoU is the quotient of the sides.
#
# Now suppose that a delta is spread evenly over $[-m, m]$. Its variance is the mean of $x^2$ there, $\frac{1}{2m} \int_{-m}^{m}
# x^2\,dx = m^2/3$, and its standard deviation $m/\sqrt3$.
#
# **On paper first.** What is it for the shift? For the logarithm of the factor?

# %%
of_shift, of_log = 0.3 / 1.7 / np.sqrt(3), -np.log(0.7) / np.sqrt(3)
assert np.isclose(0.3 / 1.7, 0.176, atol=5e-4) and np.isclose(-np.log(0.7), 0.357, atol=5e-4)
assert np.isclose(of_shift, 0.102, atol=5e-4) and np.isclose(of_log, 0.206, atol=5e-4)
dataset, found = open_dataset("shapes", DATA / "shapes", "train"), []
truth = [make_batch([dataset.load(i)], config).gt_boxes[0] for i in range(len(dataset))]
for boxes in truth:
    labels, owner = match_anchors(anchors, boxes, np.zeros(len(boxes), bool), config)
    found.append(encode_boxes(boxes[owner[labels == 1]], anchors[labels == 1]))
found = np.concatenate(found)
measured = found.std(axis=0)
assert np.allclose(measured, [0.14, 0.14, 0.22, 0.22], atol=0.02)
print(f"derived {of_shift:.3f} and {of_log:.3f}; measured on {len(truth)} images:", *measured.round(2))

# %% mystnb={"image": {"alt": "Histograms of the four deltas of all positive anchors of 96 images: dy and dx are narrow, log dh and log dw about one and a half times as wide."}}
figure = Figure(figsize=(8, 2.3), layout="constrained")
for ax, column, name, colour in zip(
    figure.subplots(1, 4, sharey=True), found.T, ("dy", "dx", "log dh", "log dw"), COLOURS
):
    ax.hist(column, bins=np.linspace(-0.8, 0.8, 33), color=colour)
    ax.set(title=f"{name}: {column.std():.2f}", xlim=(-0.8, 0.8))
show(figure)

# %% [markdown]
# *Figure 6.2. Deltas of the positive anchors before division. Our threshold is 0.6 and some anchors are positive with
# less, so the spread is a little wider than derived.*
#
# Two errors of the estimate work against each other: with two deltas at once each has less room, and the best anchor of an
# object may have more. Dividing by (0.1, 0.1, 0.2, 0.2) brings all four near 1. torchvision divides by 1 in the RPN, and by
# these in the box head. Read one's weights with the other's numbers and every box jumps ten times too far, or a tenth as
# far as it should; its sides grow by the fifth power, or by the fifth root.
#
# ## Who is positive?
#
# Now the targets. Each anchor receives a *label*: 1 positive, −1 negative, 0 neutral. Three rules:
#
# - IoU of at least 0.7 with some object: positive.
# - The best anchor of an object is positive, whatever its IoU.
# - Of the others: below 0.3 with every object, negative; else neutral. A neutral anchor has no loss. It is neither right nor wrong.
#
# The second rule is stronger than the third: an object's best anchor is positive even with an IoU of 0.1. The bounds are
# the papers'; in the book's network an anchor is positive from 0.6 on.
#
# The gap between 0.3 and 0.7 is deliberate. An anchor that covers half a circle is no good answer to "is there an object?",
# and it would be unfair to call it background. The second rule is a safety net: chapter 5 counted how many objects have no
# anchor at 0.7. Without the net they would be missing from training.
#
# A positive anchor also gets deltas to learn: those that lead to the object with which its IoU is largest. An anchor can
# be the best one of object A and still overlap B more. Then its label comes from A and its deltas lead to B. It
# happens where objects lie on top of each other; all frameworks do it.
#
# **On paper first.** Objects $A = (0, 0, 10, 10)$ and $B = (20, 20, 30, 40)$. Label the five anchors
# (0, 0, 10, 8), (0, 5, 10, 15), (0, 8, 10, 18), (20, 30, 30, 50), (25, 0, 35, 20).

# %%
two = np.array([[0.0, 0, 10, 10], [20, 20, 30, 40]])
five = np.array([[0.0, 0, 10, 8], [0, 5, 10, 15], [0, 8, 10, 18], [20, 30, 30, 50], [25, 0, 35, 20]])
table = iou(five, two)
assert np.allclose(table[:, 0], [0.8, 1 / 3, 1 / 9, 0, 0]) and np.allclose(table[:, 1], [0, 0, 0, 1 / 3, 0])
rules = {"negative_iou": 0.3, "positive_iou": 0.7}
labels, owner = label_anchors(five, two, match_best=True, **rules)
assert labels.tolist() == [1, 0, -1, 1, -1]
assert naive_boxes.match(five.tolist(), two.tolist(), [False, False], 0.3, 0.7) == labels.tolist()
assert label_anchors(five, two, match_best=False, **rules)[0].tolist() == [1, 0, -1, 0, -1]
for row, label in zip(table, labels):
    print(f"with A {row[0]:.2f}, with B {row[1]:.2f}: {int(label):2d}")

# %% mystnb={"image": {"alt": "Two objects filled grey and five numbered anchors: the first and fourth are positive, the second neutral, the third and fifth negative."}}
figure = Figure(figsize=(5.5, 3.4), layout="constrained")
ax = figure.subplots()
for name, box in zip("AB", two):
    outline(ax, box, "0.8", fill=True)
    ax.text(box[1] + 1, box[2] - 1, name, fontsize=12)
for number, (box, label) in enumerate(zip(five, labels), start=1):
    colour = {1: COLOURS[2], 0: "0.4", -1: COLOURS[1]}[int(label)]
    outline(ax, box, colour, ls={1: "-", 0: ":", -1: "--"}[int(label)])
    ax.text(box[3] - 1.6, box[0] + 2.5, str(number), color=colour)
ax.set(xlim=(-1, 52), ylim=(37, -2), aspect="equal", xlabel="solid: positive; dotted: neutral; dashed: negative")
show(figure)

# %% [markdown]
# *Figure 6.3. The fourth anchor is no better than the second. It is positive because B has nothing better.*
#
# In NumPy the first and third rule look along the rows of the table of overlaps, the second along its columns.
#
# **Exercise 6.4.** Write the three rules for a table (anchors, objects). An object that no anchor touches has no best one.


# %% tags=["exercise-6.4"]
def label(overlaps, low, high):
    raise NotImplementedError


check("6.4", label)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def label(overlaps, low, high):
#     best = overlaps.max(axis=0)
#     is_best = ((overlaps == best) & (best > 0)).any(axis=1)
#     highest = overlaps.max(axis=1)
#     labels = np.where(highest < low, -1, 0)
#     labels[(highest >= high) | is_best] = 1
#     return labels
# ```
#
# `best > 0`, or an object without any overlap would make *every* anchor its best: all have 0.
# </details>

# %%
source(label_anchors)

# %%
source(is_positive)

# %% [markdown]
# The `tie` is there because anchors that all contain a small object overlap it equally on paper, but not to the last bit.
# Which of them is "the best" then depends on float32 or float64.
#
# On the book's image, with 4,092 anchors and five objects:

# %%
with kernels.use("numpy"):
    labels, owner = match_anchors(anchors, gt_boxes, batch.gt_crowd[0], config)
for name, found in zip(("compiled", "CUDA's"), on_both(match_anchors, anchors, gt_boxes, batch.gt_crowd[0], config)):
    close(f"labels and owners, NumPy and {name} kernel", found, (labels, owner), tolerance=0)
coarse = anchors[3840:].astype(np.float64)  # P4, P5 and P6: the loop is slow
by_loop = naive_boxes.match(coarse.tolist(), gt_boxes.tolist(), [False] * 5, 0.3, 0.6)
rules |= {"positive_iou": 0.6, "match_best": True, "tie": 0.0}
assert label_anchors(coarse, gt_boxes.astype(np.float64), **rules)[0].tolist() == by_loop
ledger.expect("labels", labels, (4092,))
assert np.bincount(owner[labels == 1]).tolist() == [1, 1, 1, 1, 2]
assert [(labels == v).sum() for v in (1, 0, -1)] == [6, 120, 3966]
print("positive, neutral, negative:", [int((labels == v).sum()) for v in (1, 0, -1)])
ends = np.cumsum([len(level) for level in levels])
per_level = np.zeros(5, int)
for boxes in truth:
    positive = match_anchors(anchors, boxes, np.zeros(len(boxes), bool), config)[0] == 1
    per_level += np.bincount(np.searchsorted(ends, np.flatnonzero(positive), side="right"), minlength=5)
assert per_level.sum() == 322 and per_level.tolist() == [53, 109, 87, 68, 5]
print("positives on P2 to P6, all 96 images:", per_level.tolist())

# %% [markdown]
# Six positive anchors for five objects. The square at the upper edge has two: it is 32 pixels high, its middle lies at row
# 16, and the centres of P4's cells at rows 8 and 24. Both anchors are equally good, so both count.
#
# In all 96 images 322 anchors are positive, 53 of them on P2 and 5 on P6: on average three or four per image.
#
# Counts like these explain many a complaint that "the loss of the RPN does not fall". If the sizes do not fit the data, each
# object has one poor anchor, its deltas are large, and the objectness of its neighbours is pulled both ways. Print the
# number of positives per image and their IoU before you turn to the learning rate.
#
# ## Crowds
#
# Some data sets outline a *crowd*: one region for many objects that nobody separated. It is no target. But an anchor on it must not
# be called background either, for there is probably an object. matterport makes such anchors neutral: an IoU of 0.001 with
# the crowd suffices, for a crowd may be large and an anchor in its middle small. torchvision drops crowds before training:
# it calls those anchors negative. So does the network of this book, whose `crowd_iou` is `None`.
#
# **On paper first.** Let $B$ of the five anchors be a crowd. Which labels change, under either rule?

# %%
crowd = np.array([False, True])  # B is a crowd now
careful, _ = match_anchors(five, two, crowd, presets.matterport())
careless, _ = match_anchors(five, two, crowd, presets.torchvision())
assert careful.tolist() == [1, 0, -1, 0, -1] and careless.tolist() == [1, 0, -1, -1, -1]
print("matterport", careful.tolist(), " torchvision", careless.tolist())

# %% [markdown]
# ## Six against four thousand
#
# The image has 6 positive anchors and 3,966 negative ones. A network that always says "background" is right in 99.8
# percent of the cases and useless. So only a few are drawn for the loss: 256 per image in the papers, 128 here; at most half
# of them positive; negatives fill up.
#
# **Exercise 6.5.** Predict how many positives and negatives stay.


# %% tags=["exercise-6.5"]
def stay(positives, negatives, count, share):
    raise NotImplementedError


check("6.5", stay)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def stay(positives, negatives, count, share):
#     kept = min(positives, int(count * share))
#     return kept, min(negatives, count - kept)
# ```
#
# "One to one" is the upper limit, not the rule: with 6 positives there are 122 negatives.
# </details>
#
# **On paper first.** 122 negatives are drawn evenly from 3,966. How many fall on the 48 anchors of P5, on average? On the 12
# of P6?

# %%
assert 0.998 < 3966 / (3966 + 6) < 0.999
assert (config.rpn_anchors_per_image, presets.matterport().rpn_anchors_per_image) == (128, 256)
sampled = subsample(labels, config.rpn_anchors_per_image, config.rpn_positive_fraction, np.random.default_rng(0))
assert [(sampled == v).sum() for v in (1, -1)] == [6, 122]
on_p5, on_p6 = (122 * n / 3966 for n in (48, 12))
print(f"negatives per image: {on_p5:.1f} on P5, {on_p6:.1f} on P6")
assert (round(on_p5, 1), round(on_p6, 1)) == (1.5, 0.4) and round(68 / 96, 1) == 0.7
assert 0.3 < (68 / 96) / (68 / 96 + on_p5) < 0.36
final, targets = rpn_targets(anchors, gt_boxes, batch.gt_crowd[0], config, np.random.default_rng(0))
assert np.array_equal(final, sampled)
ledger.expect("deltas to learn", targets, (4092, 4))
assert (targets[final != 1] == 0).all()
scores = sigmoid(logits[0])[0][final == 1]
assert round(float(scores.min()), 2) == 0.19 and owner[final == 1][scores.argmin()] == 3 and (scores > 0.6).sum() == 5
close("positives, decoded", decode_boxes(targets, anchors, std=config.rpn_box_std)[final == 1], gt_boxes[owner[final == 1]],
      tolerance=1e-6)  # fmt: skip

# %% mystnb={"image": {"alt": "The image with its five objects; left all six positive anchors, right a part of the sampled negatives, spread over the whole image."}}
figure = Figure(figsize=(7, 3.5), layout="constrained")
for ax, value, colour, title in zip(
    figure.subplots(1, 2), (1, -1), (COLOURS[2], COLOURS[1]), ("positive", "negative, every third")
):
    ax.imshow(scene().image // 2 + 120, extent=(0, 128, 128, 0))
    for box in anchors[sampled == value][:: 1 if value == 1 else 3]:
        outline(ax, box, colour, lw=2 if value == 1 else 0.8)
    ax.set(title=title, xticks=[], yticks=[], xlim=(-25, 153), ylim=(153, -25))
show(figure)

# %% [markdown]
# *Figure 6.4. What carries loss. Each object has at least one positive anchor; most negatives are small, for most anchors
# are.*
#
# The draw is made anew in each step, so that in time all negatives are seen. Within a step the image's own random generator
# makes it: what is drawn for an image does not depend on its neighbours in the batch.
#
# Now figure 6.1 can be explained. The draw is even over all negatives, so of 122 about 1.5 fall on the 48 anchors of P5 and
# 0.4 on the 12 of P6. P6 is hardly ever asked, and has learned least. P5 has 68 positives in 96 images, 0.7 per image: a
# third of what it is asked is positive. So it is quick to say "object": from P2 to P5 the mean score grows from level to
# level. And the large triangle? Its only positive anchor has a score of 0.19; the other five have more than 0.6.
#
# The losses (chapter 11 derives them): cross-entropy over the sampled anchors, smooth L1 over the positive ones. Let $p$ be
# the sigmoid of a logit and $t$ what it should be: 1 for a positive anchor, 0 for a negative one. The gradient of the logit
# is $(p - t)/n$ for the $n$ sampled anchors and 0 for all others: 3,964 of 4,092 logits learn nothing in this step. Of the
# deltas only those of six anchors learn.
#
# **On paper first.** All logits are 0. Which $p$ is that, and which loss is $-\ln p$?

# %%
logits64, deltas64, both = logits.astype(np.float64), deltas.astype(np.float64), final[None]


def class_loss(z):
    value, cache = rpn_class_loss(z, both)
    return np.asarray(value), lambda d: rpn_class_loss_backward(float(d), cache)


def box_loss(z):
    value, cache = rpn_box_loss(z, both, targets[None].astype(np.float64), config)
    return np.asarray(value), lambda d: rpn_box_loss_backward(float(d), cache)


dz = class_loss(logits64)[1](1.0)
by_hand = np.where(both != 0, (sigmoid(logits64)[0] - (both == 1)) / 128, 0)
close("gradient of the logits, by hand", by_hand, dz)
assert (dz == 0).sum() >= 3964 and np.isclose(class_loss(0 * logits64)[0], np.log(2))
check_gradients(class_loss, logits64, rng=rng, tol=1e-6)
check_gradients(box_loss, deltas64, rng=rng, tol=1e-6)
assert (box_loss(deltas64)[1](1.0) != 0).any(axis=-1).sum() == 6
print("finite differences agree; a loss of ln 2 = 0.6931 means: nothing learned yet")

# %% [markdown]
# ## Break it
#
# Drop the second rule, and ask the 96 images again: how many objects make no anchor positive? Such an object sends no
# box gradient, and its anchors are called neutral or even background.
#
# **On paper first.** Look up in chapter 5 which share of the objects has an anchor at 0.5, 0.6 and 0.7.


# %%
def left_out(threshold, match_best):
    none = []
    for boxes in truth:
        overlaps = iou(anchors, boxes)
        for g in range(len(boxes)):
            none.append(not is_positive(overlaps[:, [g]], threshold, match_best=match_best).any())
    return float(np.mean(none))


price = {threshold: (left_out(threshold, False), left_out(threshold, True)) for threshold in (0.5, 0.6, 0.7)}
assert all(with_rule == 0 for _, with_rule in price.values())
assert 0.45 < price[0.6][0] < 0.58 and abs(1 - price[0.7][0] - 1 / 8) < 0.02
for threshold, (without, with_rule) in price.items():
    print(f"positive from {threshold}: {without:.0%} of the objects left out; with the rule {with_rule:.0%}")

# %% [markdown]
# What does that do to a training? We take the pyramids of the book's network as they are and train *new* heads on them, from
# the same random weights, with the same draws: one with the rule and one without, at the papers' 0.7. The steps are those of chapter
# 13: losses, backward pass, a small step down. A head is small, so 200 steps take seconds.


# %% tags=["break-it"]
maps = [model.first_stage(make_batch([dataset.load(i)], config).images)[0] for i in range(len(dataset))]
maps = [np.concatenate(level) for level in zip(*maps)]  # P2 .. P6 of all images


def train_head(match_best, steps=200):
    asked = config.replace(rpn_match_best=match_best, rpn_positive_iou=0.7, learning_rate=0.02)
    weights, draw_from = draw(rpn_spec(asked), np.random.default_rng(0)), np.random.default_rng(1)
    velocity = zero_velocity(weights, asked)
    for _ in range(steps):
        chosen, grads = draw_from.choice(len(truth), 8, replace=False), {}
        z, d, cache = rpn_head([level[chosen] for level in maps], weights, asked, training=True)
        given = [rpn_targets(anchors, truth[i], np.zeros(len(truth[i]), bool), asked, draw_from) for i in chosen]
        marks, goals = (np.stack(column) for column in zip(*given))
        dz = rpn_class_loss_backward(1.0, rpn_class_loss(z, marks)[1])
        dd = rpn_box_loss_backward(1.0, rpn_box_loss(d, marks, goals, asked)[1])
        rpn_head_backward(dz, dd, cache, grads)
        clip_gradients(grads, asked.clip_norm)
        update(weights, grads, velocity, learning_rate=asked.learning_rate, config=asked)
    return weights


# %% [markdown]
# Judge both by what the network is for. Of each of the 26 held-out images take the best proposals (chapter 7) and ask how
# well they fit: the largest IoU of each object with one of them.


# %%
def best_fit(weights, budget):
    held_out, reached = open_dataset("shapes", DATA / "shapes", "val"), []
    asked = config.replace(proposals_post_nms_test=budget)
    for i in range(len(held_out)):
        one = make_batch([held_out.load(i)], config)
        z, d, _ = rpn_head(model.first_stage(one.images)[0], weights, config)
        boxes, _ = propose(z[0], d[0], levels, one.moldings[0].window, asked, training=False)
        reached.append(iou(boxes, one.gt_boxes[0]).max(axis=0))
    return np.concatenate(reached)


budgets = (10, 20, 50, 100, 200)
heads = {"with the rule": train_head(True), "without": train_head(False)}
fits = {name: np.array([best_fit(weights, budget) for budget in budgets]) for name, weights in heads.items()}
recall = {u: {name: (fit >= u).mean(axis=1) for name, fit in fits.items()} for u in (0.5, 0.7)}
at_half, at_70 = (values["with the rule"] - values["without"] for values in recall.values())
assert at_half[0] > 0.2 and abs(at_half[4]) < 0.03 and at_70.min() > 0.25 and recall[0.5]["without"][4] > 0.95
print("without the rule it finds fewer: at an IoU of 0.5 with 10 proposals, at 0.7 with any number of them")

# %% mystnb={"image": {"alt": "Left: bars of the share of objects without a positive anchor at three thresholds. Right: share of objects found over the number of proposals, at two bounds of IoU, by a head trained with the rule and one trained without. At 0.5 the two meet at 200 proposals, at 0.7 they stay apart."}}
figure = Figure(figsize=(8, 2.6), layout="constrained")
left, right = figure.subplots(1, 2)
left.barh([f"from {t}" for t in price], [without for without, _ in price.values()], color=COLOURS[1])
left.set(xlabel="objects without a positive anchor", xlim=(0, 1))
for u, line in ((0.5, "-"), (0.7, "--")):
    for (name, values), colour, mark in zip(recall[u].items(), COLOURS, "os"):
        right.plot(budgets, values, mark + line, color=colour, label=f"{name}, IoU {u}")
right.set(xscale="log", xticks=budgets, xticklabels=budgets, xlabel="proposals", ylabel="objects found", ylim=(0, 1.05))
right.minorticks_off()
right.legend(fontsize=8)
show(figure)

# %% [markdown]
# *Figure 6.5. The price of one line: what is left out, and what a head has learned after 200 steps without it.*
#
# The head without the rule sees an eighth of the objects, those that happen to lie on an anchor. The others do not only go
# unlearned: their anchors from 0.3 up are left out, and those below are taught to be background. Asked for an IoU of 0.5,
# its best ten proposals find fewer objects, by more than a fifth of all. With 200 of them on so small an image both heads
# find nearly all. But the boxes fit worse. Asked for 0.7, it stays behind with any number, by more than a quarter of all
# objects: it has never seen how far an anchor must move whose IoU is below 0.7. The pyramid was not trained here. It comes
# from a network that had the rule, so the price measured is that of the head alone.
#
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | `rpn_match` is 0 or 1 | 1, −1 and 0; 0 is neutral and has no loss |
# | positive above 0.7, negative below 0.3, and that is all | also the best anchor of each object; the first bound is "at least" |
# | negative up to and with 0.3 | below 0.3: 0.3 itself is neutral |
# | the shared convolution is linear (the slides' snippet) | a ReLU follows it |
# | `rpn_bbox` holds 256 numbers | 256 rows of four, filled up with zeros |
# | the formula of the deltas is all | matterport also divides by (0.1, 0.1, 0.2, 0.2), in the RPN and in the head |
# | the deltas are (dx, dy, dw, dh) | in torchvision; in the slides and in the Keras code (dy, dx, dh, dw) |
# | the labels are "trained separately" | the *targets* are separate; all five losses are summed and trained together |
#
# ## Do you remember?
#
# <details><summary>Q1. What does the head say about an anchor?</summary>One objectness logit (or two) and four deltas.</details>
# <details><summary>Q2. How many sets of weights has it for five levels?</summary>One.</details>
# <details><summary>Q3. What is the gradient of a shared weight?</summary>The sum of its gradients over all places where it was used.</details>
# <details><summary>Q4. How does one logit replace two?</summary>It is their difference: softmax of two is the sigmoid of the difference.</details>
# <details><summary>Q5. Why are shifts divided by the anchor's sides?</summary>The head sees cells, not pixels; shares mean the same on every level.</details>
# <details><summary>Q6. Why the logarithm of the sides?</summary>Twice and half are equally far from 0, and a side stays positive.</details>
# <details><summary>Q7. Where do 0.1 and 0.2 come from?</summary>They are the spread of the deltas that an IoU of 0.7 allows: 0.176 / √3 and 0.357 / √3.</details>
# <details><summary>Q8. What do the labels 1, −1 and 0 mean?</summary>Positive, negative, neutral.</details>
# <details><summary>Q9. An object's best anchor has an IoU of 0.33. Its label?</summary>1, by the second rule.</details>
# <details><summary>Q10. Why is there a gap between 0.3 and 0.7?</summary>Such anchors see part of an object; neither answer would be fair.</details>
# <details><summary>Q11. What happens to anchors on a crowd?</summary>Never positive for it; neutral in matterport, negative in torchvision.</details>
# <details><summary>Q12. 20 positive anchors and 256 to draw: how many negatives?</summary>236.</details>
# <details><summary>Q13. The objectness loss stays at 0.6931. What has been learned?</summary>Nothing: ln 2 is the loss of "50 percent" everywhere.</details>
