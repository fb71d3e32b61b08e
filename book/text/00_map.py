# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 0. A map
#
# After this chapter you can draw the whole network from memory, say which array passes where and how large it is, tell
# the graph of training from that of inference, and predict what the five losses are before anything has been learned.
#
# *Mirrors:* the slides' overview of the code with its two graphs, and the walk-through's summaries of training and
# inference. What is wrong in them stands at the end. (Such a line stands at the head of every chapter. It speaks of five
# texts that teach Mask R-CNN: slides, a walk-through of the Keras code, notes on a PyTorch one, and two articles. You need
# none of them.)
#
# You need NumPy, and an idea of what a convolutional network is. You need to know nothing about detection.
#
# **How to read this book.** The chapters follow the data. Each takes one step of the network, derives it, runs the
# package's own function, and asserts what it says. Where it says *on paper first*, stop and work the number out; the
# assert below is the answer. Write an exercise before you open its solution: the check tells you what is wrong. Change a
# number in a cell and predict what happens before you run it. When you are lost, come back to figure 0.4 and point at
# where you are.

# %%
from itertools import pairwise

import numpy as np
from gradcheck import check_gradients
from helpers import COLOURS, DATA, Ledger, MaskRCNN, check, class_names, network, scene, show, source
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mrcnn_np.boxes import clip_boxes, decode_boxes, iou
from mrcnn_np.compare.trace import trace_ours
from mrcnn_np.data import open_dataset
from mrcnn_np.detections import own_masks, paste_masks
from mrcnn_np.heads import mask_head
from mrcnn_np.molding import make_batch
from mrcnn_np.ops.activation import relu, relu_backward

ledger, sample, names = Ledger(), scene(), class_names()


def outline(ax, box, colour, **style):
    y1, x1, y2, x2 = box
    ax.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, color=colour, **style))


# %% [markdown]
# ## The task
#
# An image goes in. A list comes out. Each entry of the list is one object, and says four things about it: what it is
# (a *class*), how sure the network is (a *score* between 0 and 1), where it is (a *box*), and which pixels are its own
# (a *mask*). The length of the list is not known beforehand.
#
# This is *instance segmentation*. Two older tasks give less. *Object detection* gives class, score and box, but no
# pixels. *Semantic segmentation* gives each pixel a class, but does not count: two triangles that touch are one patch.
#
# The image of this book has 128 × 128 pixels. It was drawn by a program, which therefore knows the truth about it: five
# objects of three classes. The *ground truth* is what a person, or here the program, says is there.
#
# **On paper first.** Look at figure 0.1. How many different values has the map of classes, how many has the map of
# objects? Do not forget the background, which is 0 in both.

# %%
masks = np.asarray(sample.gt_masks)  # (5, 128, 128), True where the object is
class_map, object_map = (np.zeros((128, 128), int) for _ in range(2))
for k, mask in enumerate(masks):
    class_map[mask], object_map[mask] = sample.gt_class_ids[k], k + 1
assert masks.shape == (5, 128, 128) and masks.sum(axis=0).max() == 1  # no pixel belongs to two
assert len(np.unique(class_map)) == 4 and len(np.unique(object_map)) == 6
print("classes:", dict(enumerate(names)))
print("the objects:", [names[c] for c in sample.gt_class_ids])


# %% mystnb={"image": {"alt": "Four panels of the image of the book: as it is, with the boxes of its five objects, the map of classes with three colours, and the map of objects with five."}}
def paint(numbers):
    palette = np.array([[238, 238, 238], *([int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLOURS)], np.uint8)
    return palette[numbers]


figure = Figure(figsize=(8, 2.5), layout="constrained")
axes = figure.subplots(1, 4)
pictures = (sample.image, sample.image, paint(class_map), paint(object_map))
titles = ("the image", "detection", "semantic segmentation", "instance segmentation")
for ax, picture, title in zip(axes, pictures, titles):
    ax.imshow(picture)
    ax.set_title(title, fontsize=9)
    ax.set(xticks=[], yticks=[])
for box, class_id in zip(sample.gt_boxes, sample.gt_class_ids):
    outline(axes[1], box, COLOURS[class_id - 1], lw=1.8)
show(figure)

# %% [markdown]
# *Figure 0.1. The same image, and what three tasks ask for. Colour tells the class in the second and third panel, the
# object in the fourth.*
#
# **Exercise 0.1.** From the map of objects the map of classes follows; the reverse is impossible. Write the direction
# that is possible: from masks (G, H, W) and class ids (G,) to one map (H, W). Where no object is, the map is 0.


# %% tags=["exercise-0.1"]
def class_map_of(masks, class_ids):
    raise NotImplementedError


check("0.1", class_map_of)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def class_map_of(masks, class_ids):
#     result = np.zeros(masks.shape[1:], int)
#     for k, mask in enumerate(masks):
#         result[mask] = class_ids[k]
#     return result
# ```
# </details>
#
# ## The idea in four sentences
#
# A network of fixed size cannot print a list of unknown length. So Mask R-CNN proposes far too many places, judges each
# of them, and throws most away. The places are judged twice: first roughly, thousands of them, by a small network that
# asks only "is something here?"; then carefully, the best few hundred, by networks that ask "what is it, where exactly,
# and which pixels?". Both judgements read the same features, which are computed once.
#
# ## Words
#
# These words come back in every chapter. Read them once now; the parts below use them.
#
# | word | meaning |
# |---|---|
# | box | four numbers $(y_1, x_1, y_2, x_2)$ in pixels. The last row and column are *not* inside: height is $y_2 - y_1$ |
# | anchor | a box that is there before any image is seen; each is a question: "is there an object about here?" |
# | channel | one of the numbers that a map holds in each cell; an image has three |
# | logit | any real number $z$ that stands for a probability. One alone: the *sigmoid* $1/(1 + e^{-z})$; 0 means undecided. $K$ together: the *softmax* $e^{z_k} / \sum_j e^{z_j}$ |
# | objectness | the probability that an anchor holds an object, of whatever class |
# | deltas | four numbers that say how a box should change: its centre moves by $\Delta_y h$ and $\Delta_x w$, its sides become $h\,e^{\Delta_h}$ and $w\,e^{\Delta_w}$ |
# | proposal | an anchor moved by its deltas, which survived the selection |
# | RoI | region of interest: a box that the heads look at; in inference the proposals, in training a sample of them |
# | head | a small network at the end of the large one, that answers one question |
# | target | what an output should have been; a constant, no gradient flows through it |
# | IoU | area of the intersection of two boxes or masks over the area of their union: 1 if they are equal, 0 if they do not overlap |
# | NMS | non-maximum suppression: of boxes that overlap much, keep the best |
# | cache | what a forward pass keeps because its backward pass will need it |
# | stride | here: how many image pixels one cell of a map stands for, 4 on P2, 64 on P6 |
#
# **On paper first.** A box is (10, 10, 30, 50), its deltas are $(\tfrac12, 0, \ln 2, 0)$. Where does it go, and what is the
# IoU of the old box and the new one?

# %%
old = np.array([[10.0, 10, 30, 50]])  # 20 high, 40 wide, centre (20, 30)
new = decode_boxes(np.array([[0.5, 0, np.log(2), 0]]), old, std=(1, 1, 1, 1))
assert np.allclose(new, [[10, 10, 50, 50]])  # the centre moves down by half of 20, the height doubles
assert np.isclose(iou(old, new)[0, 0], (20 * 40) / (40 * 40))
print("moved to", new[0].round(6).tolist(), " IoU", iou(old, new)[0, 0].round(6))

# %% [markdown]
# The *cache* deserves an example: it is the habit of the whole package. A forward function returns its result *and*
# a cache. The backward function takes the gradient of the result and this cache, and returns the gradient of the input.
# For $y = \max(x, 0)$ the derivative is 1 where $x > 0$, so one bit per number is enough to remember.
#
# **On paper first.** $x = (-1, 2, 3)$ and the gradient of the result is $(5, 6, -7)$. What is the gradient of $x$?

# %%
y, kept = relu(np.array([-1.0, 2, 3]))
dx = relu_backward(np.array([5.0, 6, -7]), kept)
assert y.tolist() == [0, 2, 3] and dx.tolist() == [0, 6, -7]


def rectified(x):
    y, cache = relu(x)
    return y, lambda dy: relu_backward(dy, cache)


rng = np.random.default_rng(0)
check_gradients(rectified, rng.choice([-1, 1], 50) * rng.uniform(0.5, 2, 50), rng=rng, tol=1e-6)
print("the gradient of x:", dx.tolist(), "and finite differences agree")

# %% [markdown]
# The check compares the backward function with finite differences. The result $y$ has many numbers; weighted with a random
# $dy$ and added up they are one, $L = \sum y \cdot dy$. Move $x$ by a tiny step along a random direction $v$: $L$ must
# change by the step times $\sum dx \cdot v$. (The $x$ above keep away from 0, where the ReLU has a kink.) Every backward
# function of this book is checked like that, in double precision, to a relative error of $10^{-6}$.
#
# ## The parts
#
# | part | takes | gives | chapter |
# |---|---|---|---|
# | molding | an image of any size | a padded, normalised array | 1 |
# | backbone | that array | C2 to C5: four maps, each half as large as the one before | 2, 3 |
# | feature pyramid | C2 to C5 | P2 to P6: five maps with equally many channels | 4 |
# | anchors | the sizes of the maps | a fixed set of boxes | 5 |
# | region proposal network (RPN) | P2 to P6 | a logit and four deltas for each anchor | 6 |
# | proposals | logits, deltas, anchors | the best boxes, without doubles | 7 |
# | RoIAlign | a box and P2 to P5 | a grid of fixed size, 7 × 7 or 14 × 14 | 8 |
# | box head | the 7 × 7 grid | a logit and four deltas for each class | 9 |
# | mask head | the 14 × 14 grid | a 28 × 28 mask for each class | 9 |
# | targets | ground truth | what anchors and RoIs should have said; training only | 6, 10 |
# | losses | outputs and targets | five numbers; training only | 11 |
# | backward pass | the losses | a gradient for every weight; training only | 12 |
# | detections | what the box head says | the list; inference only | 7, 9 |
#
# ## One image, end to end
#
# Now the whole network, on the image above. First the arithmetic that no weight can change: sizes. The canvas has 128
# pixels a side, P2 has a stride of 4, and every further level halves the resolution. Each cell has three anchors: one
# wide, one square, one tall.
#
# **On paper first.** How many cells a side have P2 to P6? How many anchors are there? And for 1024 pixels?

# %%
cells = [128 // stride for stride in (4, 8, 16, 32, 64)]
assert cells == [32, 16, 8, 4, 2]
assert 3 * sum(c * c for c in cells) == 4092
assert 3 * sum((1024 // stride) ** 2 for stride in (4, 8, 16, 32, 64)) == 261_888
assert round(3 * 32 * 32 / 4092, 2) == 0.75
print(f"{cells} cells a side; {3 * sum(c * c for c in cells)} anchors")

# %% [markdown]
# Three quarters of all anchors are on P2, because each level has a quarter of the cells of the level below.
#
# **Exercise 0.2.** Write the number of anchors for a canvas of any height and width that are multiples of 32. Careful
# with P6: 800 / 64 is no whole number. P6 takes every second row of P5, beginning with the first, so it rounds up.


# %% tags=["exercise-0.2"]
def number_of_anchors(height, width):
    raise NotImplementedError


check("0.2", number_of_anchors)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def number_of_anchors(height, width):
#     return 3 * sum(-(-height // stride) * -(-width // stride) for stride in (4, 8, 16, 32, 64))
# ```
#
# Two minus signs round up: `//` rounds down, and the negative of a number rounded down is rounded up.
# </details>
#
# Then the run itself. `trace_ours` runs the network's `detect` and keeps every array on the way. The *ledger* asserts each
# shape and writes it down; every chapter has one. Here the weights have just been drawn, with a fixed seed, and not yet
# trained. Shapes do not depend on weights.
#
# **On paper first.** The maps of the pyramid have 48 channels, 200 proposals and 50 detections are kept, there are four classes.
# Which shapes have P4, the grids that the box head reads, its logits and deltas, and the masks?

# %%
fresh = MaskRCNN(network().config, rng=np.random.default_rng(0))
trace = trace_ours(fresh, sample.image)
for name, shape in (
    ("molded", (1, 128, 128, 3)), ("c1", (1, 64, 64, 16)), ("c2", (1, 32, 32, 24)), ("c3", (1, 16, 16, 48)),
    ("c4", (1, 8, 8, 64)), ("c5", (1, 4, 4, 96)), ("p2", (1, 32, 32, 48)), ("p3", (1, 16, 16, 48)),
    ("p4", (1, 8, 8, 48)), ("p5", (1, 4, 4, 48)), ("p6", (1, 2, 2, 48)), ("rpn_logits.p2", (3072,)),
    ("rpn_deltas.p2", (3072, 4)), ("anchors.p2", (3072, 4)), ("anchors.p6", (12, 4)), ("proposals", (200, 4)),
    ("proposal_scores", (200,)), ("box_features", (200, 7, 7, 48)), ("class_logits", (200, 4)),
    ("box_deltas", (200, 4, 4)), ("detection_boxes", (50, 4)), ("mask_features", (50, 14, 14, 48)),
    ("mask_logits", (50, 28, 28, 4)), ("masks", (50, 128, 128)),
):  # fmt: skip
    ledger.expect(name, trace[name], shape)
assert sum(len(trace[f"rpn_logits.p{level}"]) for level in range(2, 7)) == 4092

# %% [markdown]
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# Follow the first axis: 1 image, 4092 anchors (3072 of them on P2), 200 proposals, 50 detections. The list gets shorter at
# every step. Only the number of anchors grows with the image; 200 and 50 are limits that were chosen. Follow the last
# axis: 48 channels from P2 to the grids that the heads read. Behind the heads a 4 has two meanings: four classes in the
# logits and masks, four deltas at the end of `box_deltas`, which has both. Class 0 is the background; its mask is never
# used.
#
# **On paper first.** How sure is a network that has never seen a picture? Guess the lowest of its 50 scores.

# %%
scores, ids = trace["detection_scores"], trace["detection_classes"]
assert len(scores) == 50 and scores.min() > 0.9 and (ids == 3).sum() > 40
assert 5 < trace["c1"].max() < 8 and 100 < trace["c5"].max() < 140
print(f"{(ids == 3).sum()} of 50 detections are triangles; the lowest score is {scores.min():.2f}")

# %% [markdown]
# It is sure of itself, and wrong. No norm has seen data yet, so the maps grow from C1, with a largest number near 6, to
# C5 with 120; large maps give large logits, and the softmax of large logits is near 0 or 1. A score is what the network
# says. It is no measurement.
#
# The next two figures show the *trained* network of this book. It has about 1.2 million weights and was trained for three
# and a half minutes. On this image it finds four of the five objects, misses one, and says more than is there. That makes
# it worth looking at: a perfect network hides what each part does.

# %% mystnb={"image": {"alt": "One channel of the maps C2 and P2 to P4 of the trained network, drawn over the image: fine cells first, coarse ones last."}}
model = network()
seen = trace_ours(model, sample.image)
figure = Figure(figsize=(8, 2.5), layout="constrained")
for ax, name in zip(figure.subplots(1, 4), ("c2", "p2", "p3", "p4")):
    maps = seen[name][0]
    channel = maps.std(axis=(0, 1)).argmax()  # the one that varies most
    ax.imshow(sample.image)
    ax.imshow(maps[:, :, channel], cmap="Greys", alpha=0.75, extent=(-0.5, 127.5, 127.5, -0.5))
    ax.set_title(f"{name.upper()}: {maps.shape[0]} x {maps.shape[1]}", fontsize=9)
    ax.set(xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 0.2. Of each map of the trained network the channel that varies most, over the image: dark is large. A cell of P4
# stands for 16 × 16 pixels.*

# %% mystnb={"image": {"alt": "Three panels: the true boxes; the twenty best proposals, on whole objects and on pieces of the large triangle; the detections with a score of at least 0.3. Four objects have a box of their class, three of these a second box of another class; the large triangle has only a square at its left tip."}}
found = model.detect(sample.image)[0].above(0.3)
assert len(seen["proposals"]) <= 200 and len(seen["detection_boxes"]) <= 50
assert round(sum(p.size for p in model.params.values()) / 1e6, 1) == 1.2
figure = Figure(figsize=(8, 3), layout="constrained")
axes = figure.subplots(1, 3)
panels = (
    ("ground truth", sample.gt_boxes, sample.gt_class_ids),
    ("the 20 best proposals", seen["proposals"][:20], np.full(20, 6)),
    ("detections, score at least 0.3", found.boxes, found.class_ids),
)
for ax, (title, boxes, ids) in zip(axes, panels):
    ax.imshow(sample.image)
    for box, class_id in zip(boxes, ids):
        outline(ax, box, "white", lw=2.6)
        outline(ax, box, COLOURS[class_id - 1], lw=1.4)
    ax.set_title(title, fontsize=9)
    ax.set(xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 0.3. Truth, proposals, detections. Blue circles, orange squares, green triangles; proposals have no class.*

# %%
best20, on = iou(seen["proposals"][:20], sample.gt_boxes), iou(found.boxes, sample.gt_boxes)
its_class = found.class_ids[:, None] == sample.gt_class_ids
assert (best20.argmax(axis=1) == 3).sum() == 9 and best20[:, 3].max() < 0.5  # object 3: the large triangle
assert ((on > 0.75) & its_class).sum(axis=0).tolist() == [1, 1, 1, 0, 1]
assert ((on > 0.4) & ~its_class).sum(axis=0).tolist() == [0, 1, 1, 0, 1]
assert found.scores[3] > 0.95 and found.scores[4] < 0.7 and on.max(axis=1).argmin() == 7
for k in range(len(found.scores)):
    print(f"{names[found.class_ids[k]]:<8} {found.scores[k]:.2f}, IoU with the nearest object {on[k].max():.2f}")

# %% [markdown]
# Proposals crowd on objects, and on pieces of objects: nine of these twenty belong to the large triangle, and not one of
# them has an IoU of a half with it. The box head then decides. Four objects get a box of their class, with scores above
# 0.95. The large triangle, partly hidden by the square, gets none; a "square" sits on its left tip. Both circles and the
# square have a second box, of another class and with a score below 0.7. NMS has not chosen between the two: it works class
# by class.
#
# ## Two graphs
#
# Training and inference share everything up to the proposals. Then they part.
#
# In **training** the ground truth is known. It chooses which RoIs are worth looking at: a sample of the proposals, some
# that hit an object and some that do not. The box head judges all of the sample, the mask head only those that hit,
# because elsewhere there is no true mask to compare with. Both run side by side on the *same* boxes. The end is five
# losses.
#
# In **inference** there is no ground truth. The box head judges all proposals, moves them, NMS drops the doubles. Only
# then does the mask head run, on the *final* boxes. The end is the list.


# %%
def graph(ax, title, x, nodes, chains, bent):
    """Draw nodes {text: (shift, y, shared)}, chains of straight arrows, and bent ones (from, to, bend)."""
    ax.text(x, 0.7, title, ha="center", weight="bold")
    drawn = {}
    for text, (shift, y, shared) in nodes.items():
        style = {"boxstyle": "round", "facecolor": "white", "edgecolor": COLOURS[not shared], "linewidth": 2}
        drawn[text] = ax.text(x + shift, -y, text, ha="center", va="center", fontsize=9, bbox=style)
    straight = [(a, b, 0) for chain in chains for a, b in pairwise(chain)]
    for start, end, bend in straight + bent:
        a, b = drawn[start], drawn[end]
        style = {"arrowstyle": "->", "connectionstyle": f"arc3,rad={bend}", "shrinkA": 0, "shrinkB": 2}
        style |= {"patchA": a.get_bbox_patch(), "patchB": b.get_bbox_patch()}
        ax.annotate("", b.get_position(), a.get_position(), arrowprops=style)


trunk = {"molded image": (0, 0, True), "backbone and pyramid": (0, 1, True), "RPN": (0, 2, True)}
trunk |= {"anchors": (1.2, 3, True), "proposals": (0, 3, True)}
learning = {"truth": (-1.6, 4, False), "targets: sampled RoIs": (0, 4, False), "RoIAlign": (0, 5, False)}
learning |= {"box head": (-0.6, 6, False), "mask head (hits only)": (1, 6, False), "five losses": (0, 7, False)}
using = {"RoIAlign, 7 x 7": (0, 4, False), "box head": (0, 5, False), "detections: NMS": (0, 6, False)}
using |= {"RoIAlign, 14 x 14": (0, 7, False), "mask head": (0, 8, False), "list": (0, 9, False)}

# %% mystnb={"image": {"alt": "Two columns of boxes joined by arrows. Both begin with image, backbone and pyramid, RPN, proposals. Training: with the truth, targets; RoIAlign, which also reads the pyramid; box head and mask head side by side; five losses, which also read the RPN. Inference: RoIAlign, box head, detections, RoIAlign again, mask head, list, one after the other; both RoIAligns also read the pyramid."}}
figure = Figure(figsize=(8, 6), layout="constrained")
ax = figure.subplots()
down = ["molded image", "backbone and pyramid", "RPN", "proposals"]
chains = [down, ["anchors", "proposals"]]
chains_learning = [["proposals", "targets: sampled RoIs", "RoIAlign", "box head", "five losses"]]
chains_learning += [["truth", "targets: sampled RoIs"], ["RoIAlign", "mask head (hits only)", "five losses"]]
bent = [("backbone and pyramid", "RoIAlign", -1.25), ("RPN", "five losses", 1.2)]
graph(ax, "training", 3, trunk | learning, chains + chains_learning, bent)
bent = [("backbone and pyramid", f"RoIAlign, {n} x {n}", bend) for n, bend in ((7, -1.9), (14, -1.1))]
graph(ax, "inference", 8, trunk | using, [*chains, ["proposals", *using]], bent)
ax.set(xlim=(0.4, 10.6), ylim=(-9.4, 1))
ax.axis("off")
show(figure)

# %% [markdown]
# *Figure 0.4. Blue is shared, orange differs. RoIAlign reads the pyramid; that is how both stages share the features. Left
# out: the RPN has targets of its own, made from the anchors and the truth.*
#
# Read the same in the code. This is inference, as it stands in the package. Find each orange box of the right column; the
# chapters open the functions one by one.

# %%
source(MaskRCNN.detect_molded)

# %% [markdown]
# The slides' prediction graph has another order: backbone, pyramid, RPN, box head, mask head, detections. Such a slip is
# hard to see in a list of calls, and easy for a program.
#
# **Exercise 0.3.** Given steps in order and a dictionary that tells for each step the list of steps it needs, return the first
# step that comes too early, or `None`.


# %% tags=["exercise-0.3"]
def comes_too_early(order, needs):
    raise NotImplementedError


check("0.3", comes_too_early)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def comes_too_early(order, needs):
#     done = set()
#     for step in order:
#         if not done.issuperset(needs[step]):
#             return step
#         done.add(step)
#     return None
# ```
# </details>
#
# **On paper first.** Which step of the slides' order does it name? And once the proposals are in, which one next?

# %%
needs = {
    "backbone": [], "pyramid": ["backbone"], "rpn": ["pyramid"], "proposals": ["rpn"],
    "box head": ["pyramid", "proposals"], "detections": ["box head"], "mask head": ["pyramid", "detections"],
}  # fmt: skip


def missing(order):
    return [(step, need) for i, step in enumerate(order) for need in needs[step] if need not in order[:i]]


slides = ["backbone", "pyramid", "rpn", "box head", "mask head", "detections"]
mended = [*slides[:3], "proposals", *slides[3:]]
assert missing(slides) == [("box head", "proposals"), ("mask head", "detections")]
assert missing(mended) == [("mask head", "detections")] and missing(list(needs)) == []
print("first:", missing(slides)[0], " then:", missing(mended)[0])

# %% [markdown]
# ## What the losses are before anything is learned
#
# Five losses are added up. Three of them are *cross-entropies*: $-\ln p$, where $p$ is the probability that the network gave
# to the right answer. With logits of 0 every answer has the same probability.
#
# - The RPN decides between object and background. Not all anchors are asked, since nearly all are background; a sample is
#   drawn (chapter 6). $p = \tfrac12$, loss $\ln 2$.
# - The box head decides between $K$ classes, the background among them: $p = 1/K$, loss $\ln K$.
# - The mask head decides for each pixel of the true class's mask: $\ln 2$ again.
#
# **On paper first.** $\ln 2$, and $\ln K$ for the 4 classes of this book, VOC's 21 and COCO's 81?

# %%
assert np.allclose(np.log([2, 4, 21, 81]), [0.6931, 1.3863, 3.0445, 4.3944], atol=5e-5)
batch = make_batch([sample], fresh.config)
start, cache = fresh.losses(batch, 0)
for name, expected in (("rpn_class", 2), ("head_class", 4), ("head_mask", 2)):
    print(f"{name:<11} {start[name]:.2f}   ln {expected} = {np.log(expected):.2f}")
    assert abs(start[name] - np.log(expected)) < 0.15
print(f"rpn_box     {start['rpn_box']:.2f}\nhead_box    {start['head_box']:.2f}")

# %% [markdown]
# Near, not equal: the logits are small, not 0. But did the same network not have logits up to 9 in the ledger? That was
# inference, with norms that had seen no data. In training a norm takes the statistics of the batch itself (chapter 2) and
# keeps the maps small. Without that, the first loss is another:

# %%
unseen = MaskRCNN(fresh.config.replace(bn_mode="frozen"), rng=np.random.default_rng(0))
frozen_start, _ = unseen.losses(batch, 0)
assert frozen_start["head_class"] > 3 * np.log(4)
print(f"head_class with norms that have seen nothing: {frozen_start['head_class']:.1f}")

# %% [markdown]
# So if a first step says 5, or 20, or 0, look at the input, the targets and the statistics of the norms, not at the learning
# rate. And a loss of the class or mask head that *stays* at $\ln K$ or 0.693 means that nothing is learned at all.
#
# The two box losses have no such value. They are *smooth L1* of the difference $d$ of delta and target (chapter 11):
# $\tfrac12 d^2$ where $|d|$ is below 1, and $|d| - \tfrac12$ elsewhere. The network predicts deltas near 0, so the loss is the
# size of the targets themselves. For the RPN that is a mean over the positive anchors. For the head it is almost 0 here,
# which looks like success and is none: no fresh proposal hits an object, so the only positives are the ground-truth boxes
# themselves, which join the proposals, and their deltas *are* 0.
#
# **On paper first.** What do differences of 0.5 and of 3 cost?


# %%
def smooth_l1(d):
    return np.where(np.abs(d) < 1, 0.5 * d**2, np.abs(d) - 0.5)


targets = cache.targets
assert smooth_l1(np.array([0.5, 3])).tolist() == [0.125, 2.5]
wanted = np.abs(targets.rpn_deltas[targets.rpn_labels == 1])
by_hand = smooth_l1(wanted).mean()  # of a prediction of 0
assert abs(by_hand - start["rpn_box"]) < 0.05 * by_hand
positive = targets.class_ids > 0
assert len(targets.rois) == 48 and positive.sum() == 5 and not targets.deltas[positive].any()
assert start["head_box"] < 0.01
print(f"deltas of 0 would cost the RPN {by_hand:.2f}; {positive.sum()} of {len(positive)} RoIs are positive")

# %% [markdown]
# There is a lower mark that means little as well. Of the RPN's 128 sampled anchors only 6 are positive. A network that has
# learned nothing but this share, and answers every anchor with one constant logit, is already far below $\ln 2$.
#
# **Exercise 0.4.** Derive it. A share $s$ of the anchors is positive, the logit $z$ is the same for all, the loss is
# $L(z) = -s \ln \sigma(z) - (1 - s) \ln(1 - \sigma(z))$ with $\sigma(z) = 1/(1 + e^{-z})$. Which $z$ makes it smallest, and
# what is it then? Return both.


# %% tags=["exercise-0.4"]
def best_constant(share):
    raise NotImplementedError


check("0.4", best_constant)

# %% [markdown]
# <details><summary>Solution</summary>
#
# $\sigma' = \sigma(1 - \sigma)$, so $(-\ln \sigma)' = -(1 - \sigma)$ and $(-\ln(1 - \sigma))' = \sigma$. Together $L'(z) =
# -s(1 - \sigma) + (1 - s)\sigma = \sigma(z) - s$. It is 0 where $\sigma(z) = s$, so $z = \ln \frac{s}{1-s}$, and the loss is
# the entropy of the share.
#
# ```python
# def best_constant(share):
#     logit = np.log(share / (1 - share))
#     loss = -share * np.log(share) - (1 - share) * np.log(1 - share)
#     return logit, loss
# ```
# </details>

# %% mystnb={"image": {"alt": "Loss over a constant logit for two shares of positives: for one half the lowest point is ln 2 at 0, for 6 of 128 it is 0.19 at minus 3."}}
share = (targets.rpn_labels == 1).sum() / (targets.rpn_labels != 0).sum()
assert share == 6 / 128
z = np.linspace(-6, 6, 241)
figure = Figure(figsize=(6, 2.8), layout="constrained")
ax = figure.subplots()
for s, colour, label in ((0.5, COLOURS[0], "half are positive"), (share, COLOURS[1], "6 of 128 are positive")):
    curve = s * np.log1p(np.exp(-z)) + (1 - s) * np.log1p(np.exp(z))
    ax.plot(z, curve, color=colour, label=label, ls="-" if s == share else "--")
    ax.plot(z[curve.argmin()], curve.min(), "o", color=colour)
assert np.isclose(curve.min(), 0.189, atol=0.002) and np.isclose(z[curve.argmin()], -3, atol=0.06)
ax.set(xlabel="the constant logit", ylabel="loss", ylim=(0, 2))
ax.legend(fontsize=8)
show(figure)

# %% [markdown]
# *Figure 0.5. What a network reaches that never looks at the image: 0.19 instead of 0.69.*
#
# Only below 0.19 has this RPN begun to see.
#
# ## Break it
#
# What would it cost to keep the slides' order, with the mask head on the proposals? Take the held-out images of the
# book's data set. For every proposal that hits an object with an IoU of at least a half, let the trained mask head draw
# the object twice: from the proposal's box, and from the same box after the box head has moved it. Compare both with the
# true mask. The class is the true one in both cases, so only the box differs.
#
# **On paper first.** Which is better? And the mask head runs for up to 200 proposals of an image, or for what NMS leaves: guess
# the ratio.


# %% tags=["break-it"]
def masks_from(boxes, ids, tensors, config):
    pyramid = [tensors[f"p{level}"] for level in range(2, 7)]
    features, _ = model.roi_features(pyramid, boxes, np.zeros(len(boxes), int), config.mask_pool_size, (1, 128, 128, 3))
    logits, _ = mask_head(features, model.params, config)
    return np.asarray(paste_masks(own_masks(logits, ids), boxes, (128, 128), config))


def both_masks(truth):
    """IoU with the true masks, drawn from proposals and from moved boxes; how many of each kind there were."""
    t = trace_ours(model, truth.image)
    overlap = iou(t["proposals"], truth.gt_boxes)
    hit = overlap.max(axis=1) >= 0.5
    which = overlap[hit].argmax(axis=1)
    ids, true_masks = truth.gt_class_ids[which], np.asarray(truth.gt_masks)[which]
    deltas = t["box_deltas"][hit][np.arange(hit.sum()), ids]
    moved = decode_boxes(deltas, t["proposals"][hit], std=model.config.head_box_std)
    quality = []
    for boxes in (t["proposals"][hit], clip_boxes(moved, (0, 0, 128, 128)).astype(np.float32)):
        drawn = masks_from(boxes, ids, t, model.config)
        quality.append((drawn & true_masks).sum(axis=(1, 2)) / (drawn | true_masks).sum(axis=(1, 2)))
    return np.array(quality), (len(t["proposals"]), len(t["detection_boxes"]))


# %%
held_out = open_dataset("shapes", DATA / "shapes", "val")
results = [both_masks(held_out.load(i)) for i in range(len(held_out))]
on_proposals, on_detections = np.concatenate([quality for quality, _ in results], axis=1).mean(axis=1)
runs = np.sum([counts for _, counts in results], axis=0)
assert len(held_out) == 26 and runs[0] == 26 * 200
assert on_detections > on_proposals + 0.05 and runs[0] > 20 * runs[1]
print(f"mean mask IoU: {on_proposals:.2f} on proposals, {on_detections:.2f} on moved boxes")
print("and the mask head would have run more than twenty times as often")

# %% [markdown]
# The right order is better and cheaper. Better, because a mask lives inside its box: what the box cuts off, no mask can
# bring back. Cheaper, because the mask head is run on hundreds of proposals in the one case and on what is left after NMS
# in the other.
#
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | in prediction: box head, mask head, then detections | proposals, box head, detections, and the mask head on the final boxes |
# | the prediction graph goes from the RPN to the heads | the proposals lie between: top scores, decoding, clipping, NMS |
# | the mask branch runs on the 100 best *proposals* | on the best *detections*, after NMS |
# | targets of the RPN are built inside the graph | in the Keras code the data generator builds them, in NumPy |
# | the loss has three terms | three for each RoI; the RPN adds two |
# | the backbone gives "6 scale features" | five levels, P2 to P6, and the last serves the RPN only |
# | "semantic mask" | an instance mask: it belongs to one object |
# | "tens of thousands" of anchors | 261,888 for the usual 1024 pixels |
#
# ## Do you remember?
#
# <details><summary>Q1. Which four things does the network say about each object?</summary>Class, score, box, mask.</details>
# <details><summary>Q2. What does instance segmentation know that semantic segmentation does not?</summary>Which pixels of one class belong to which object, and so how many objects there are.</details>
# <details><summary>Q3. How does a network of fixed size give a list of any length?</summary>It judges a fixed set of places and drops most of them.</details>
# <details><summary>Q4. Which maps do the heads read, and which the RPN?</summary>The heads P2 to P5, the RPN also P6.</details>
# <details><summary>Q5. What is a logit of 0?</summary>Undecided: a probability of one half after the sigmoid.</details>
# <details><summary>Q6. How many anchors has a canvas of 128 pixels, and of 1024?</summary>4,092 and 261,888.</details>
# <details><summary>Q7. Which RoIs does the mask head see in training?</summary>The positive ones of the sample, which hit an object.</details>
# <details><summary>Q8. And in inference?</summary>The final detections.</details>
# <details><summary>Q9. What should the class loss of the box head be at first, for VOC?</summary>About ln 21 = 3.04.</details>
# <details><summary>Q10. A loss stays at 0.693. What does it mean?</summary>Every answer is still a coin's toss: nothing is learned.</details>
# <details><summary>Q11. An untrained network says "triangle, 0.97". What does that tell?</summary>Nothing about the image: its maps, and so its logits, are large because no norm has seen data.</details>
# <details><summary>Q12. Why can the head's box loss be almost 0 before training?</summary>The only positives are the ground-truth boxes that joined the proposals; their deltas are 0.</details>
# <details><summary>Q13. What is a cache?</summary>What the forward pass keeps for its backward pass.</details>
# <details><summary>Q14. Why is an RPN loss of 0.3 no proof that the RPN sees anything?</summary>With few positives a constant logit reaches less than that.</details>
