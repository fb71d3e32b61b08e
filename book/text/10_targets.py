# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10. Detection targets: what the heads should have said
#
# After this chapter you can write the sampling of regions yourself, cut a mask target that is right to the half pixel,
# and name two mistakes in targets that no falling loss betrays.
#
# *Mirrors* ([five texts](00_map.ipynb), which you need not know): the notes' "DetectionTargetLayer" and the slides'
# steps from proposals to regions. What is wrong in them stands at the end.
#
# In inference the heads answer, and nobody corrects them. In training each answer needs a *target*: what it should have
# been. For an image that is easy, somebody annotated it. But the heads are asked about *regions*, rectangles that the
# proposal network chose, each a little beside its object, and nobody has annotated those. So this step makes annotations
# for regions: which object does each belong to, how should its box move, what does the object look like from there?
#
# It has no weights and no backward pass. It is bookkeeping. A mistake in it crashes nothing and still lets the loss fall;
# the end of the chapter measures two of them.
#
# The code is the second half of `targets.py`. The first half labels anchors: that was chapter 6. What is a *region* here
# is called *RoI*, region of interest, there.
#
# The network of this book keeps 200 proposals of an image in training, and trains its heads on 48 of them. Large networks
# have 2,000, and train on 200 or 512.

# %%
import naive_boxes
import naive_roi
import numpy as np
from helpers import COLOURS, DATA, Ledger, check, close, network, on_both, scene, show, source
from matplotlib.figure import Figure

import kernels
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.boxes import encode_boxes, iou
from mrcnn_np.data import open_dataset
from mrcnn_np.detections import own_masks
from mrcnn_np.heads import mask_head, mask_head_backward, mask_head_spec
from mrcnn_np.molding import make_batch
from mrcnn_np.objective import head_mask_loss, head_mask_loss_backward
from mrcnn_np.params import draw
from mrcnn_np.proposals import propose
from mrcnn_np.pyramid import normalise_boxes
from mrcnn_np.targets import crop_masks, mask_targets, negative_count, roi_targets

ledger, model, config = Ledger(), network(), network().config
batch = make_batch([scene()], config)
truth = (batch.gt_boxes[0], batch.gt_class_ids[0], batch.gt_masks[0], batch.gt_crowd[0])
boxes = truth[0]


# %% [markdown]
# ## Whose is it?
#
# A region belongs to the object that it overlaps most, measured by IoU: the area that both share, divided by the area
# that at least one covers. If that largest IoU is 0.5 or more, the region is *positive*, and takes the object's class. If
# not, it is *negative*: class 0, background. There is no neutral zone as for anchors, where everything from 0.3 to 0.7
# was left out. A region is one or the other, with one exception that comes later: crowds.
#
# **On paper first.** An object covers (0, 0, 10, 10), boxes as (y1, x1, y2, x2). Three regions: (0, 0, 10, 5), (0, 5, 10,
# 15) and (0, 0, 10, 20). What are their IoUs, and which are positive?

# %%
object_10 = np.array([[0.0, 0, 10, 10]])
three = np.array([[0.0, 0, 10, 5], [0, 5, 10, 15], [0, 0, 10, 20]])
assert np.allclose(iou(three, object_10)[:, 0], [0.5, 1 / 3, 0.5])
assert config.roi_positive_iou == presets.matterport().roi_positive_iou == presets.torchvision().roi_positive_iou == 0.5

# %% [markdown]
# The IoUs are ½, ⅓ and ½: 50 of 100, 50 of 150, 100 of 200. The first and the last sit exactly on the threshold, and
# are positive: the code says $\ge$, though the documents say $>$. Half of the object, or the object and as much again: both
# count as "found". A threshold of 0.5 is generous, and the heads have to live with regions like these.
#
# Now the trained network's proposals for our scene. Their IoUs are computed four times: as a loop, in NumPy, compiled, and
# by the kernel for graphics cards, in CUDA, which a simulator runs (chapter 2). The loops are those of the tests, in
# `tests/oracles/`: `naive_boxes` here, `naive_roi` below. `on_both`, of `helpers.py`, calls the two kernels.
#
# **On paper first.** There are five objects and 200 proposals. What shape has the table of IoUs? Which axis does the
# largest number go along, and can most proposals be positive?


# %%
def proposals_of(network):
    levels, logits, deltas, _ = network.first_stage(batch.images)
    anchors = network.anchors(batch.images.shape[1:3], levels)
    window = batch.moldings[0].proposal_window(network.config)
    return propose(logits[0], deltas[0], anchors, window, network.config, training=True)[0]


proposals = proposals_of(model)
with kernels.use("numpy"):
    overlaps = iou(proposals, boxes)
ledger.expect("IoU of proposals and objects", overlaps, (len(proposals), 5))
loop = [[naive_boxes.iou(p, b) for b in boxes.tolist()] for p in proposals.tolist()]
close("loop and NumPy, float32", overlaps, loop, tolerance=1e-4)
compiled, on_card = on_both(iou, proposals, boxes)
close("NumPy and the compiled kernel", compiled, overlaps, tolerance=1e-5)
close("the compiled kernel and CUDA's, simulated", on_card, compiled, tolerance=1e-5)
best = overlaps.max(axis=1)
positive = best >= 0.5
assert 0 < positive.sum() < len(proposals) / 2
print(f"{positive.sum()} of {len(proposals)} proposals are positive")

# %% mystnb={"image": {"alt": "Left: the scene with its positive proposals in colour and some negative ones in grey. Right: histogram of the best IoU of all proposals; most lie below one half."}}
figure = Figure(figsize=(8, 3.6), layout="constrained")
left, right = figure.subplots(1, 2)
left.imshow(scene().image)
for chosen, colour, width in (
    (np.flatnonzero(~positive)[:25], "0.75", 0.6),
    (np.flatnonzero(positive), COLOURS[4], 1.2),
):
    for y1, x1, y2, x2 in proposals[chosen]:
        left.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, lw=width)
left.set(xticks=[], yticks=[], title="positive (orange) and 25 negative (grey)")
left.set(xlim=(-0.5, 127.5), ylim=(127.5, -0.5))  # the image, however far a line reaches
right.hist(best, bins=np.linspace(0, 1, 21), color=COLOURS[0])
right.axvline(0.5, color=COLOURS[1], lw=2)
right.set(xlabel="best IoU of a proposal", ylabel="proposals")
show(figure)

# %% [markdown]
# *Figure 10.1. Left: the positive proposals and some of the negative ones. Right: the best IoU of each; from the line on
# they are positive.*
#
# The table is 200 × 5, and the largest number of each *row* counts: a region asks which object is its own. With five objects
# and 200 boxes all over the image most regions hit none.
#
# Now the two bars just left of the line. How much of its object does such a region hold?

# %%
near = (best >= 0.4) & (best < 0.5)
own = boxes[overlaps[near].argmax(axis=1)]
shared = np.minimum(proposals[near, 2:], own[:, 2:]) - np.maximum(proposals[near, :2], own[:, :2])
held = shared.prod(axis=1) / (own[:, 2:] - own[:, :2]).prod(axis=1)
half, whole = (held > 0.5).sum(), (held == 1).sum()
assert (near.sum(), half, whole) == (16, 10, 1)
print(
    f"{near.sum()} regions have an IoU of 0.4 to 0.5: {half} hold more than half of their object, {whole} holds all of it"
)

# %% [markdown]
# IoU is not the share of the object: background in the region lowers it, too. Ten of the sixteen hold more than half of
# their object, one holds all of it, and the target of each is "background", as if it lay in an empty corner. The class
# head has to draw a line between pictures that look alike. The line tells *well placed* from *badly placed*. That is what
# a score should say, because the scores decide later which of several boxes for one object survives. A class head that
# never sees badly placed boxes in training has no reason to give them low scores.
#
# **Exercise 10.1.** From the table of IoUs `(P, G)` of P regions and G objects return for each region the index of its
# object, or -1 for background. An IoU equal to `threshold` is enough. There may be no object at all.


# %% tags=["exercise-10.1"]
def owners(overlaps, threshold):
    raise NotImplementedError


check("10.1", owners)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def owners(overlaps, threshold):
#     if overlaps.shape[1] == 0:
#         return np.full(len(overlaps), -1)
#     return np.where(overlaps.max(axis=1) >= threshold, overlaps.argmax(axis=1), -1)
# ```
#
# An image without objects is legal, and the maximum over nothing is an error.
# </details>
#
# ## Sixty-six and one hundred and thirty-four
#
# Of 2,000 proposals only some are used, for two reasons. The heads are expensive. And negatives are so many that a head
# which always says "background" would be nearly always right. So positives may take a fixed *share* of a fixed number,
# and are drawn at random if there are more.
#
# If there are fewer, implementations differ. torchvision and detectron2 *fill*: 512 regions, at most a quarter positive,
# negatives take all that is left. The Keras code keeps the *ratio*: 200 regions, at most 0.33 positive, and for $p$
# positives $\lfloor p/0.33 \rfloor - p$ negatives, so the batch stays short.
#
# **On paper first.** By the Keras rule, how many negatives go with 66, 50, 33, 10 and 0 positives? By torchvision's, with
# 128 and 40?

# %%
keras, torch = presets.matterport(), presets.torchvision()
assert int(keras.rois_per_image * keras.roi_positive_fraction) == 66
assert [negative_count(p, keras) for p in (66, 50, 33, 10, 0)] == [134, 101, 67, 20, 0]
assert int(torch.rois_per_image * torch.roi_positive_fraction) == 128
assert [negative_count(p, torch) for p in (128, 40)] == [384, 472]
assert (keras.roi_positive_fraction, torch.roi_positive_fraction) == (0.33, 0.25)  # 1 : 2 and 1 : 3
print("ratio: 66 + 134, 50 + 101, 33 + 67, 10 + 20, 0 + 0; fill: 128 + 384, 40 + 472")

# %% [markdown]
# The notes call the ratio 1 : 2, the paper 1 : 3; both describe their own code. The difference is not cosmetic: an image
# with 10 positives trains the Keras class head on 30 regions, and torchvision's on 512, of which 502 say "background". An
# image without positives has no negatives either by the ratio, and trains no head at all. Our network fills: of its 48
# regions at most a quarter, twelve, are positive.
#
# **Exercise 10.2.** `found` proposals are positive; the batch has room for `count` regions, of which `share` may be
# positive (rounded down). Return how many positives and negatives are used. `rule` is `"ratio"` or `"fill"`; assume there
# are enough negatives.


# %% tags=["exercise-10.2"]
def how_many(found, count, share, rule):
    raise NotImplementedError


check("10.2", how_many)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def how_many(found, count, share, rule):
#     positives = min(found, int(count * share))
#     if rule == "ratio":
#         return positives, int(positives / share) - positives
#     return positives, count - positives
# ```
#
# `int` rounds towards 0, as $\lfloor\cdot\rfloor$ does for numbers that are not negative.
# </details>
#
# ## The truth joins
#
# A network with fresh weights has scores without meaning and deltas near 0. Its proposals are anchors picked by chance, and
# few of them hit an object. Without positives the box and mask heads learn nothing. torchvision and detectron2 help: they
# add the *true boxes* to the proposals before drawing. Each has IoU 1 with itself, so every object brings a positive
# region from the first step on. The Keras code does not.
#
# **On paper first.** Our scene has five objects. A fresh network's proposals hit none. How many of the 48 regions are
# positive with the true boxes, how many without?


# %%
def positives(proposals, joins):
    changed = config.replace(gt_joins_proposals=joins)
    return int((roi_targets(proposals, *truth, changed, np.random.default_rng(0)).class_ids > 0).sum())


fresh = proposals_of(MaskRCNN(config, rng=np.random.default_rng(0)))
counted = {
    (who, joins): positives(p, joins)
    for who, p in (("fresh", fresh), ("trained", proposals))
    for joins in (False, True)
}
assert int(config.rois_per_image * config.roi_positive_fraction) == 12
assert (counted["fresh", True], counted["fresh", False]) == (5, 0) and len(boxes) == 5
assert counted["trained", True] == counted["trained", False] == 12

# %% mystnb={"image": {"alt": "Bars: positive regions of a fresh and of the trained network, without and with the true boxes among the proposals; at most 12 are allowed."}}
figure = Figure(figsize=(6, 2.6), layout="constrained")
ax = figure.subplots()
names = ["fresh, without truth", "fresh, with truth", "trained, without truth", "trained, with truth"]
ax.barh(names[::-1], [counted[k] for k in counted][::-1], color=[COLOURS[0], COLOURS[4]] * 2)
ax.axvline(12, color="0.4", lw=1)
ax.set(xlabel="positive regions of 48; 12 are allowed", xlim=(0, 13))
show(figure)

# %% [markdown]
# *Figure 10.2. Positive regions of one image. The first bar has length 0. By the end of training the twelve places are
# taken without the truth, too.*
#
# Five with the true boxes, none without: the fresh network's heads have nothing to learn masks and boxes from. Its
# proposals improve, because the proposal network has its own targets, but until then the heads wait.
#
# The help has a price. A true box needs no correction, so its box target is zero: a fresh network's box loss is small for
# the wrong reason. Do not read success into it.
#
# ## How should the box move?
#
# The target of the box describes the object *relative to the region*, as chapter 6 did for anchors. Let the region have the
# centre $(c_y, c_x)$ and the sides $h, w$, and the object $(c_y^*, c_x^*)$ and $h^*, w^*$. Then
#
# $$t = \Bigl(\tfrac{c_y^* - c_y}{h},\ \tfrac{c_x^* - c_x}{w},\ \log\tfrac{h^*}{h},\ \log\tfrac{w^*}{w}\Bigr) \Big/ (0.1,\ 0.1,\ 0.2,\ 0.2).$$
#
# Why the divisors? A region with an IoU of 0.5 or more lies near its object. Typically its centre is off by about a tenth
# of a side, and its sides by about a fifth; figure 10.3 shows ours. Divided by these numbers all four targets are of the size
# of 1. The loss of chapter 11 bends at 1, so it treats them alike.
#
# **On paper first.** A region (0, 0, 10, 20) belongs to the object (1, 0, 11, 20). What are its four targets? What if the
# object were (0, 0, 10, 40)?

# %%
std = config.head_box_std
region = np.array([0.0, 0, 10, 20])
assert np.allclose(encode_boxes(np.array([1.0, 0, 11, 20]), region, std=std), [1, 0, 0, 0])
assert np.allclose(encode_boxes(np.array([0.0, 0, 10, 40]), region, std=std), [0, 5, 0, np.log(2) / 0.2])
assert np.allclose(encode_boxes(region, region, std=std), 0)  # a true box among the regions
owner = overlaps.argmax(axis=1)[positive]
plain = encode_boxes(boxes[owner], proposals[positive])
divided = encode_boxes(boxes[owner], proposals[positive], std=std)
off_by = np.sqrt((plain**2).mean(axis=0))
assert (off_by[:2] < 0.2).all() and (off_by[2:] > 0.1).all() and (off_by[2:] < 0.4).all()
assert (np.sqrt((divided**2).mean(axis=0)) > 0.5).all() and (np.sqrt((divided**2).mean(axis=0)) < 2).all()
print("shifted object: [1, 0, 0, 0]; wider object: [0, 5, 0, 3.47]; the region itself: zeros")
print("our positives are off by", ", ".join(f"{v:.2f}" for v in off_by), "(root mean square)")

# %% mystnb={"image": {"alt": "The four box targets of each positive proposal as dots: before the division close to zero, after it spread from below minus two to above two."}}
figure = Figure(figsize=(8, 2.6), layout="constrained")
for ax, values, title in zip(figure.subplots(1, 2), (plain, divided), ("plain", "divided by 0.1, 0.1, 0.2, 0.2")):
    for k in range(4):
        ax.plot(values[:, k], np.full(len(values), k), "o", color=COLOURS[k], alpha=0.5)
    ax.axvspan(-1, 1, color="0.9", zorder=0)
    ax.set(title=title, xlabel="target", xlim=(-4, 4), ylim=(3.5, -0.5))
    ax.set(yticks=range(4), yticklabels=["dy", "dx", "log dh", "log dw"])
show(figure)

# %% [markdown]
# *Figure 10.3. Box targets of the positive proposals; a dot is a region. Undivided they crowd round 0. Divided they fill
# the grey band from −1 to 1, where the loss (smooth L1, chapter 11) is a parabola, and reach beyond it.*
#
# A network trained with the divisors and read without them shifts its boxes ten times too far, and makes the logarithms of
# its sides five times too large. This happens when weights are carried from one framework to another.
#
# **Exercise 10.3.** Write it for one region and one object.


# %% tags=["exercise-10.3"]
def box_target(region, box, std):
    raise NotImplementedError


check("10.3", box_target)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def box_target(region, box, std):
#     side, new_side = region[2:] - region[:2], box[2:] - box[:2]
#     shift = (box[:2] + new_side / 2 - region[:2] - side / 2) / side
#     return np.concatenate([shift, np.log(new_side / side)]) / np.asarray(std)
# ```
#
# The centres' distance, not the corners'.
# </details>
#
# ## What does the object look like from there?
#
# The mask head answers in the frame of its region. So the target is the true mask, *cut out with the region* and brought
# to 28 × 28 cells. It is cut with the region, not with the object's own box: parts of the object that stick out of the
# region are missing in the target, and a region that is too large has background round the object.
#
# Each cell says which share of it the object covers. That is RoIAlign once more, on a map that holds 0 and 1. A cell of
# $a$ pixels takes $\lceil a \rceil$ samples in each direction, spread evenly. If cells consist of whole pixels, each sample
# hits the centre of one, and the mean is the share exactly; else it is nearly the share.
#
# **On paper first.** An object covers all columns from 2 on. Cut the region (0, 0, 4, 4) into 2 × 2 cells. Then the region
# (0, 1, 4, 5). Then the second one without the half pixel of chapter 8: a sample at $x$ is read at index $x$ in place of
# $x - ½$.

# %%
wall = np.zeros((1, 6, 8), bool)
wall[:, :, 2:] = True
two = np.array([[0.0, 0, 4, 4], [0, 1, 4, 5]])
cut = crop_masks(wall, np.zeros(2, int), two, output_size=2, method="roi_align", aligned=True)
ledger.expect("two small targets", cut, (2, 2, 2))
assert np.allclose(cut[0], [[0, 1], [0, 1]]) and np.allclose(cut[1], [[0.5, 1], [0.5, 1]])
off = crop_masks(wall, np.zeros(2, int), two, output_size=2, method="roi_align", aligned=False)
assert np.allclose(off[1], [[0.75, 1], [0.75, 1]])
print("a cell that is half covered:", cut[1, 0, 0], "and half a pixel off:", off[1, 0, 0])

# %% [markdown]
# The first cell of the second region has its samples at $x$ = 1.5 and 2.5. With the half pixel they are read at the indices
# 1 and 2, which hold 0 and 1: the mean is ½, the share. Without it they are read at 1.5 and 2.5, half way from 0 to 1 and
# inside of the object: ½ and 1, the mean is ¾. Every border moves by half a pixel.
#
# May a target be ½? torchvision keeps shares as they are: the cross-entropy of a sigmoid takes any target in [0, 1].
# detectron2 rounds halves up. The Keras code reads one point per cell and rounds halves to the even number, which is 0.
# These are three different questions to the network about the border of every object.
#
# **On paper first.** A mask is 1 from column 2 on. The region (0, 1, 56, 57) is cut into 28 × 28 cells. What stands in the
# first column in detectron2, and what in torchvision, which also leaves the half pixel out?

# %%
wide = np.zeros((1, 56, 64), bool)
wide[:, :, 2:] = True
whole = np.array([[0.0, 1, 56, 57]])
for preset, first in ((presets.detectron2(), 1.0), (presets.torchvision(), 0.75)):
    target = mask_targets(whole, np.zeros(1, int), whole, wide, preset)[0]
    assert (target[:, 0] == first).all() and (target[:, 1:] == 1).all()
assert np.round(0.5) == 0  # what the Keras code's rounding makes of a half
print("half a cell: detectron2 1, torchvision 0.75")

# %% [markdown]
# Loop, NumPy, compiled and CUDA once more, for both ways to read a cell: `roi_align` takes the mean of several samples,
# `crop_and_resize` reads one point. The masks are noise, so that no cell is easy.

# %%
rng = np.random.default_rng(0)
masks = rng.random((3, 20, 24)) < 0.5
low = rng.uniform(0, 12, (6, 2))
rois, whose = np.concatenate([low, low + rng.uniform(2, 9, (6, 2))], axis=1), np.array([0, 1, 2, 0, 1, 2])
planes = masks[..., None].astype(float)
for method in ("roi_align", "crop_and_resize"):
    options = {"output_size": 4, "method": method, "aligned": True}
    with kernels.use("numpy"):
        in_numpy = crop_masks(masks, whose, rois, **options)
    if method == "roi_align":
        loop = naive_roi.roi_align(planes, rois, whose, (4, 4), 1.0, 0, True, "mean")
    else:
        loop = naive_roi.crop_and_resize(planes, normalise_boxes(rois, (20, 24)), whose, (4, 4), 0.0)
    close(f"{method}: loop and NumPy", in_numpy, loop[..., 0])
    fast, on_card = on_both(crop_masks, masks, whose, rois, **options)
    close(f"{method}: NumPy and the compiled kernel", fast, in_numpy, tolerance=1e-4)
    close(f"{method}: the compiled kernel and CUDA's, simulated", on_card, fast, tolerance=1e-4)
_ = ledger.expect("six targets of noise", in_numpy, (6, 4, 4))

# %% mystnb={"image": {"alt": "The large circle of the scene with four regions about it, and the four 28 by 28 mask targets: whole, shifted, half, and small within a region that is too large."}}
y1, x1, y2, x2 = boxes[2]
four = np.array(
    [[y1, x1, y2, x2], [y1 - 8, x1 - 8, y2 - 8, x2 - 8], [y1, x1, y2, x1 + 24], [y1 - 8, x1 - 8, y2 + 8, x2 + 8]]
)
goals = mask_targets(four, np.full(4, 2), boxes, truth[2], config)
ledger.expect("four targets of the circle", goals, (4, 28, 28))
figure = Figure(figsize=(9, 2.4), layout="constrained")
axes = figure.subplots(1, 5)
axes[0].imshow(scene().image)
for k, (top, left, bottom, right) in enumerate(four):
    axes[0].plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=COLOURS[k], lw=1.5)
    axes[k + 1].imshow(goals[k], cmap="Greys", vmin=0, vmax=1)
    axes[k + 1].set_title(f"IoU {iou(four[k : k + 1], boxes[2:3]).item():.2f}", color=COLOURS[k])
for ax in axes:
    ax.set(xticks=[], yticks=[])
show(figure)

# %% [markdown]
# *Figure 10.4. One circle, four regions, four targets: its own box; the box 8 pixels up and to the left; its left half,
# which 28 columns stretch; the box with 8 pixels more on each side. Grey cells lie on the outline.*
#
# **Exercise 10.4.** Write it for whole pixels: the region's corners are whole numbers, and its sides are divisible by `m`.
# Then a cell's share is a plain mean.


# %% tags=["exercise-10.4"]
def cut_mask(mask, region, m):
    raise NotImplementedError


check("10.4", cut_mask)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def cut_mask(mask, region, m):
#     y1, x1, y2, x2 = region
#     part = mask[y1:y2, x1:x2].astype(float)
#     return part.reshape(m, (y2 - y1) // m, m, (x2 - x1) // m).mean(axis=(1, 3))
# ```
#
# Rows of cells, rows within a cell, columns of cells, columns within a cell.
# </details>
#
# ## A region in a crowd
#
# One kind of annotation is neither object nor background. A *crowd* is one outline round a heap of objects that nobody
# wanted to count: forty people on a stand, a basket of oranges. It is no target, for a network that learned it would draw
# heaps. What is a region on it that no object claims?
#
# In this book's network (`crowd_iou` is `None`) it is a negative like any other: the heads are taught that it is
# background, though there are people in it. torchvision does the same, for it drops crowds from its data. The Keras code
# spares such regions: with `crowd_iou` = 0.001, a region whose IoU with a crowd reaches that number is no negative, and
# the heads hear nothing of it. A region that an object claims is positive all the same.
#
# So look at what your annotation tool calls a crowd. CVAT's COCO files have the masks of its brush and of SAM as run
# lengths with `iscrowd` 1, also where each is one object. Such objects are not learned; our network is taught that they
# are background. There, set `iscrowd` to 0 in the file.
#
# **On paper first.** A crowd covers (0, 0, 20, 20), an object in it (0, 0, 10, 10). What becomes of the regions (0, 0, 10,
# 12), (10, 10, 20, 20) and (30, 30, 40, 40), with the rule and without?

# %%
outlines, is_crowd = np.array([[0.0, 0, 10, 10], [0, 0, 20, 20]]), np.array([False, True])
some = np.array([[0.0, 0, 10, 12], [10, 10, 20, 20], [30, 30, 40, 40]])
assert np.allclose(iou(some, outlines), [[100 / 120, 120 / 400], [0, 100 / 400], [0, 0]])
assert config.crowd_iou is None and presets.small(4).crowd_iou is None and keras.crowd_iou == 0.001
for limit, kept, drawn_classes in ((0.001, [0, 2], [1, 0]), (None, [0, 1, 2], [1, 0, 0])):
    rule = config.replace(crowd_iou=limit, gt_joins_proposals=False)
    empty = np.zeros((2, 48, 48), bool)
    drawn = roi_targets(some, outlines, np.array([1, 1]), empty, is_crowd, rule, np.random.default_rng(0))
    assert drawn.class_ids.tolist() == drawn_classes and np.array_equal(drawn.rois, some[kept])
print("with the rule: positive, not asked, negative; without: positive, negative, negative")

# %% [markdown]
# ## All of it
#
# The package's function: join, match, draw, encode, cut. Positives come first in its result. A few names in it are
# new. `enter_frame` measures boxes as one of the conventions does; here it changes nothing. `_choose` draws without
# replacement, or takes all if there are too few. `window` is the part of the canvas that the image fills (chapter 1).
# `_padded` adds the Keras code's rows of zeros where a batch is short.

# %%
source(roi_targets)

# %% [markdown]
# **On paper first.** More than twelve proposals are positive. Which shapes have the regions, their classes, deltas and
# masks? Which rows of the deltas are zero?

# %%
made = roi_targets(proposals, *truth, config, np.random.default_rng(0), window=batch.moldings[0].window)
ledger.expect("regions", made.rois, (48, 4))
ledger.expect("their classes", made.class_ids, (48,))
ledger.expect("their deltas", made.deltas, (48, 4))
ledger.expect("masks of the positives", made.masks, (12, 28, 28))
assert positive.sum() > 12 and (made.class_ids[:12] > 0).all()
assert (made.class_ids[12:] == 0).all() and (made.deltas[12:] == 0).all()
again = roi_targets(proposals, *truth, config, np.random.default_rng(0), window=batch.moldings[0].window)
assert np.array_equal(made.rois, again.rois)  # the draw is the seed's

# %% [markdown]
# Twelve and 36, as a quarter of 48 says. Negatives have a class target, 0, and nothing else: their deltas are zeros that
# nobody reads, and masks exist for the positives only. All of this is constant. No gradient goes into a target, and none
# through the choice of regions.
#
# Which positives are drawn, and which of many negatives, changes from step to step, so that every kind of region has its
# turn. The generator of random numbers is an argument, not a global: the same seed gives the same regions, and a run can be
# repeated to the bit.
#
# ## Break it
#
# What does a wrong target do? Train the mask head three times on the same regions of the same frozen features: with right
# targets, with x and y exchanged, and with targets shifted to the right by three of the 28 cells (what leaves at the right
# comes back at the left). Then compare with the truth on images that were not trained on.
#
# The regions are true boxes, two copies of each, whose edges are moved at random by a fifth of the side.
#
# **On paper first.** Will the loss show which targets are wrong? Where do you expect it to end in each case, compared
# with the right one?


# %%
def regions(split, count, draws):
    dataset, parts = open_dataset("shapes", DATA / "shapes", split), []
    held = make_batch([dataset.load(i) for i in range(count)], config)
    for n, true in enumerate(held.gt_boxes):
        whose = np.repeat(np.arange(len(true)), 2)
        sides = np.tile(true[whose, 2:] - true[whose, :2], 2)
        rois = np.clip(true[whose] + draws.normal(0, 0.2, (len(whose), 4)) * sides, 0, 128).astype(np.float32)
        rois[:, 2:] = np.maximum(rois[:, 2:], rois[:, :2] + 2)
        right = mask_targets(rois, whose, true, held.gt_masks[n], config)
        parts.append((rois, np.full(len(whose), n), held.gt_class_ids[n][whose], right))
    rois, index, ids, right = (np.concatenate(column) for column in zip(*parts))
    levels = model.first_stage(held.images)[0]
    return model.roi_features(levels, rois, index, 14, held.images.shape)[0], ids, right


features, ids, right = regions("train", 96, np.random.default_rng(1))
held_features, held_ids, held_right = regions("val", 26, np.random.default_rng(2))


# %%
def trained(goals, steps=150):
    p, draws = draw(mask_head_spec(config), np.random.default_rng(0), np.float32), np.random.default_rng(0)
    velocity, losses = {name: 0 * value for name, value in p.items()}, []
    for _ in range(steps):
        rows = draws.choice(len(features), 32, replace=False)
        logits, kept = mask_head(features[rows], p, config, training=True)
        loss, loss_cache = head_mask_loss(logits, ids[rows], goals[rows])
        grads = {}
        mask_head_backward(head_mask_loss_backward(1.0, loss_cache), kept, grads)
        for name, gradient in grads.items():
            velocity[name] = 0.9 * velocity[name] + gradient
            p[name] = p[name] - 0.1 * velocity[name]
        losses.append(loss)
    ours, theirs = own_masks(mask_head(held_features, p, config)[0], held_ids) >= 0.5, held_right >= 0.5
    overlap = (ours & theirs).sum((1, 2)) / np.maximum((ours | theirs).sum((1, 2)), 1)
    return np.mean(losses[:5]), np.mean(losses[-20:]), overlap.mean()


# %% tags=["break-it"]
wrong = {
    "right": right,
    "x and y exchanged": right.transpose(0, 2, 1),
    "3 cells off": np.roll(right, 3, 2),
}
results = {name: trained(goals) for name, goals in wrong.items()}
for name, (first, last, overlap) in results.items():
    assert last < first - 0.05, "every loss falls, also the wrong ones"
    assert name == "right" or overlap < results["right"][2] - 0.1
    print(f"{name:<18} loss {first:.2f}, then {last:.2f}; mean IoU {overlap:.2f}")
assert results["3 cells off"][1] < results["right"][1] + 0.1 < results["x and y exchanged"][1]

# %% mystnb={"image": {"alt": "Left: loss at the start and at the end of training for right and for two kinds of wrong targets; it falls in all cases. Right: mean IoU on new images; right targets are best."}}
figure = Figure(figsize=(8.5, 2.6), layout="constrained")
left, right_ax = figure.subplots(1, 2, sharey=True)
place = np.arange(3)
left.barh(place - 0.2, [r[0] for r in results.values()], 0.38, color="0.7", label="first steps")
left.barh(place + 0.2, [r[1] for r in results.values()], 0.38, color=COLOURS[1], label="last steps")
left.set(xlabel="loss of the masks in training", yticks=place, yticklabels=list(results))
left.set(xlim=(0, 1))
left.legend(fontsize=7, loc="center right")
left.invert_yaxis()
right_ax.barh(place, [r[2] for r in results.values()], color=COLOURS[0])
right_ax.set(xlabel="mean IoU on new images")
show(figure)

# %% [markdown]
# *Figure 10.5. The price of a wrong target. The loss compares with the target, so it cannot say that the target is wrong.*
#
# All three losses fall. The wrong ones end higher, because those masks fit the features worse, but only who has the right
# curve beside them can see that. With the shifted targets even that is hard: that loss ends less than 0.1 above the right
# one. On new images, where the masks are compared with the truth, both mistakes cost more than 0.1 of IoU. No loss says so:
# the head with the shifted targets has learned what it was told, to paint three cells beside the object.
#
# So before training, draw a dozen targets over their regions and look at them, as in figure 10.4. A shift of three cells
# is visible there at once.
#
# ## The ledger

# %%
ledger.show()

# %% [markdown]
# ## What was false in the documents
#
# | they say | in truth |
# |---|---|
# | step 3: an *anchor* with IoU over 0.5 is positive | a *region*; anchors were matched before, with 0.7 and 0.3 |
# | positive if IoU > 0.5 | $\ge$ 0.5, in the paper and in all code |
# | positives and negatives are 1 : 2 | by the Keras code (0.33); the paper and torchvision have 1 : 3 |
# | 200 regions per image | at most: by the ratio rule 10 positives make 30 regions |
# | the mask target is cut from the whole mask | from a mini mask of 56 × 56 (chapter 1) where these are in use; the resizing to it is left out in the notes |
# | targets are 0 and 1 | in torchvision shares of cells, unrounded |
# | the labels of the proposal network are trained separately from the heads | separate targets, one joint training |
#
# ## Do you remember?
#
# <details><summary>Q1. To which object does a region belong?</summary>To the one with the largest IoU, if that is at least 0.5.</details>
# <details><summary>Q2. Which regions are neutral?</summary>None, but for those on a crowd that no object claims, if the configuration says so.</details>
# <details><summary>Q3. Where do 66 and 134 come from?</summary>200 times 0.33 is 66; 66 / 0.33 is 200, less 66 leaves 134.</details>
# <details><summary>Q4. What does an image without positives train by the ratio rule?</summary>Nothing: there are no negatives either.</details>
# <details><summary>Q5. Why do true boxes join the proposals?</summary>So that each object has a positive region before the proposals are any good.</details>
# <details><summary>Q6. What is the box target of a true box?</summary>Zero, four times.</details>
# <details><summary>Q7. Why are deltas divided by 0.1 and 0.2?</summary>To bring all four to about unit size, where the loss treats them alike.</details>
# <details><summary>Q8. What is a mask target cut with?</summary>With the region, not with the object's box.</details>
# <details><summary>Q9. What does a cell of the target say?</summary>Which share of it the object covers, or that share rounded.</details>
# <details><summary>Q10. Which targets does a negative region have?</summary>Class 0, nothing else.</details>
# <details><summary>Q11. Which gradient goes through this step?</summary>None: targets and regions are constants.</details>
# <details><summary>Q12. How is a wrong mask target noticed?</summary>By looking at it. The loss falls all the same.</details>
