"""Lesson 11: how good are the detections? Average precision, by hand.

All detections of a class, over all images, are ranked by score. Each is right if its mask overlaps an object of its
class enough that no better detection has taken already; else it is wrong. Going down the ranking, precision (how many
are right) is drawn over recall (how many objects are found), and average precision is the area under that curve.

Open beside this: mrcnn_np/evaluate/matching.py, mrcnn_np/evaluate/ranking.py and mrcnn_np/evaluate/__init__.py.
The loop: average_precision in tests/oracles/naive_metrics.py.

Questions
1. Three objects, three detections, best first: right, wrong, right. What is the average precision?
2. Two detections cover the same object well. Are both right?
3. Does it help to leave out detections with low scores?
"""

import numpy as np
from common import LINE_PALETTE, code, grid, naive_metrics, say, start, table

from mrcnn_np.data import Sample
from mrcnn_np.detections import Detections
from mrcnn_np.evaluate import average_precision, evaluate_coco, evaluate_detections
from mrcnn_np.evaluate.matching import FALSE_POSITIVE, TRUE_POSITIVE, mask_iou, match_detections
from mrcnn_np.evaluate.ranking import precision_envelope, precision_recall
from mrcnn_np.pictures.instances import plot_precision_recall

lesson = start(__doc__)

say("A ranking by hand: three objects; the detections are right, wrong, right.")
outcome = np.array([TRUE_POSITIVE, FALSE_POSITIVE, TRUE_POSITIVE])
recall, precision = precision_recall(np.array([0.9, 0.8, 0.7]), outcome, objects=3)
envelope = precision_envelope(precision)
rows = [[i + 1, f"{r:.3f}", f"{p:.3f}", f"{e:.3f}"] for i, (r, p, e) in enumerate(zip(recall, precision, envelope))]
table(["detection", "recall", "precision", "best precision from here on"], rows)
exact = {"voc10": "5/9, all points", "voc07": "6/11, 11 points", "coco": "56/101, 101 points"}
values = {method: average_precision(recall, precision, method=method) for method in exact}
table(["rule", "average precision", ""], [[m, f"{v:.4f}", exact[m]] for m, v in values.items()])

say("The loop, and the two functions that are the same in NumPy:")
code(naive_metrics.average_precision)
code(precision_recall)
code(precision_envelope)
curve = list(zip(recall.tolist(), precision.tolist()))
loops = {method: naive_metrics.average_precision(curve, method) for method in exact}
say("The loop gives " + ", ".join(f"{v:.4f} ({method})" for method, v in loops.items()) + ".")

say("\nOne object, two detections of it, and a second object that nothing overlaps (IoU, best score first):")
ious = np.array([[0.8, 0.0], [0.7, 0.0]])
result, matched = match_detections(ious, iou_threshold=0.5)
say(f"{ious.tolist()}: outcome {result.tolist()}, matched with object {matched.tolist()}. The duplicate is wrong.")

# The image of all lessons, and a few more held-out ones where there is a data set
sample = lesson.sample
found = lesson.model.detect([sample.image])[0]
if len(sample.gt_masks):
    say(f"\nThe image {sample.image_id}: its best detections, each against the object of its class it overlaps most.")
    taken: set[int] = set()
    rows = []
    for k, score, overlap in list(zip(found.class_ids, found.scores, mask_iou(found.masks, sample.gt_masks)))[:10]:
        overlap = np.where(sample.gt_class_ids == k, overlap, 0.0)
        g = int(overlap.argmax())
        good = overlap[g] >= 0.5
        verdict = "duplicate" if good and g in taken else "right" if good else "wrong"
        taken |= {g} if good else set()
        rows.append([lesson.class_names[k], f"{score:.2f}", g + 1 if overlap[g] else "-", f"{overlap[g]:.2f}", verdict])
    table(["detection", "score", "object", "mask IoU", "at 0.5"], rows)

indices = range(min(len(lesson.dataset), 20)) if lesson.dataset is not None else []
samples: list[Sample] = [lesson.dataset.load(i) for i in indices] or [sample]
detections: list[Detections] = [found] if samples == [sample] else lesson.model.detect([s.image for s in samples])
say(f"\nOver {len(samples)} held-out images:")
names = lesson.class_names
for kind in ("mask", "box"):
    evaluation = evaluate_detections(detections, samples, class_names=names, iou_type=kind)
    print(evaluation.table())
    if kind == "mask":
        plot_precision_recall(lesson.path("precision_recall"), evaluation)
strict = [evaluate_detections(detections, samples, class_names=names, iou_threshold=t) for t in np.arange(10, 20) / 20]
say(
    "\nThe stricter the overlap, the lower the mask AP: "
    + ", ".join(f"{e.mean_ap:.2f} at {e.iou_threshold:.2f}" for e in strict)
)
coco = evaluate_coco(detections, samples, class_names=names)
print(coco.table())

# --- picture --------------------------------------------------------------------------------------------------------

figure, axes = grid(1, 2, size=4.2, title="Average precision")
ax = axes[0, 0]
x = np.concatenate([[0], recall, recall[-1:], [1]])
y = np.concatenate([envelope[:1], envelope, [0, 0]])
ax.fill_between(x, y, step="pre", color=LINE_PALETTE[5], alpha=0.3)
ax.plot(x, y, drawstyle="steps-pre", color=LINE_PALETTE[0], label="best precision from here on")
ax.plot(recall, precision, "o--", color=LINE_PALETTE[1], label="precision")
ticks = np.arange(11) / 10
read = [envelope[recall >= r].max(initial=0) for r in ticks]
ax.plot(ticks, read, "k|", markersize=12, label="VOC 2007 reads here")
ax.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.4), xlabel="recall", ylabel="precision")
ax.set_title(f"right, wrong, right of 3 objects: area {values['voc10']:.4f}", fontsize=9)
ax.legend(fontsize=8, loc="upper right")
axes[0, 1].plot([e.iou_threshold for e in strict], [e.mean_ap for e in strict], "o-", color=LINE_PALETTE[0])
axes[0, 1].set(ylim=(0, 1), xlabel="mask IoU that counts as right", ylabel="mean AP")
axes[0, 1].set_title(f"{len(samples)} images: COCO averages these ten", fontsize=9)
axes[0, 1].grid(color="#E0E0E0")
lesson.save(figure, "average_precision")

lesson.finish(
    f"{values['voc10']:.4f} by VOC 2010's rule, {values['voc07']:.4f} by that of 2007, {values['coco']:.4f} by COCO's.",
    "No. An object can be found once; the detection with the lower score is wrong, however well it fits.",
    "Never by these rules: what stands at the end of the ranking cannot lower the curve before it, and may add recall. "
    "For a picture to look at it does.",
)
