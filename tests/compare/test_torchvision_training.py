"""One training step against torchvision: from the anchors and RoIs that it sampled, the same losses and gradients.

Which anchors and RoIs are drawn is left to chance, in both. So their draw is recorded and handed to us as ``targets``;
from there on everything is deterministic. How each draws, and what it wants of a RoI, is compared by itself.
"""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

from agrees_with_torch import error  # noqa: E402
from torchvision.models.detection import roi_heads  # noqa: E402
from torchvision_params import our_params  # noqa: E402
from torchvision_that_detects import torchvision_that_detects  # noqa: E402

from mrcnn_np import MaskRCNN, presets  # noqa: E402
from mrcnn_np.compare.torchvision.model import as_tensor  # noqa: E402
from mrcnn_np.molding import make_batch  # noqa: E402
from mrcnn_np.params import trainable  # noqa: E402
from mrcnn_np.synthetic import picture, sample_from  # noqa: E402
from mrcnn_np.targets import Targets, match_anchors, roi_targets  # noqa: E402
from mrcnn_np.weights.torchvision import ORDER  # noqa: E402

SIZES = ((64, 96), (96, 64))  # two images on a canvas of 96 x 96
THEIR_SETTINGS = {
    "min_size": 64, "max_size": 96, "box_batch_size_per_image": 16, "rpn_pre_nms_top_n_train": 300,
    "rpn_post_nms_top_n_train": 200, "rpn_post_nms_top_n_test": 100, "box_detections_per_img": 10,
}  # fmt: skip
CONFIG = presets.torchvision(
    num_classes=5, image_min_size=64, image_max_size=96, rois_per_image=16, proposals_pre_nms_train=300,
    proposals_post_nms_train=200,
)  # fmt: skip
LOSSES = {
    "rpn_class": "loss_objectness", "rpn_box": "loss_rpn_box_reg", "head_class": "loss_classifier",
    "head_box": "loss_box_reg", "head_mask": "loss_mask",
}  # fmt: skip


@pytest.fixture(scope="module")
def samples():
    return [sample_from(picture(shape, i), CONFIG, image_id=str(i), seed=i) for i, shape in enumerate(SIZES)]


@pytest.fixture(scope="module")
def torchvision_model(samples):
    return torchvision_that_detects(as_tensor(samples[0].image, torch.float64), num_classes=5, **THEIR_SETTINGS)


class Recorder:
    """Call a function and keep what went in and what came out."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def __call__(self, *args):
        result = self.function(*args)
        # Lists are copied: some are changed in place later
        kept = tuple(list(r) if isinstance(r, list) else r for r in result) if isinstance(result, tuple) else result
        self.calls.append((args, kept))
        return result


def step_theirs(theirs, samples, monkeypatch):
    """Run forward and backward; return the losses and what was recorded on the way."""
    rpn, heads = theirs.rpn, theirs.roi_heads
    recorders = {}
    for owner, name in (
        (rpn, "fg_bg_sampler"),
        (rpn, "assign_targets_to_anchors"),
        (rpn.box_coder, "encode"),
        (rpn, "filter_proposals"),
        (heads, "select_training_samples"),
        (heads, "assign_targets_to_proposals"),
        (roi_heads, "project_masks_on_boxes"),
    ):
        recorders[name] = Recorder(getattr(owner, name))
        monkeypatch.setattr(owner, name, recorders[name])

    def in_double(*args):
        """Their labels are float32, and with them the whole objectness loss and its gradient would be."""
        labels, boxes = recorders["assign_targets_to_anchors"](*args)
        return [x.double() for x in labels], boxes

    monkeypatch.setattr(rpn, "assign_targets_to_anchors", in_double)
    targets = [
        {
            "boxes": torch.from_numpy(s.gt_boxes[:, ORDER]).double(),
            "labels": torch.from_numpy(s.gt_class_ids),
            "masks": torch.from_numpy(s.gt_masks.astype(np.uint8)),
        }
        for s in samples
    ]
    torch.manual_seed(1)
    losses = theirs([as_tensor(s.image, torch.float64) for s in samples], targets)
    theirs.zero_grad()
    sum(losses.values()).backward()
    return {name: float(losses[LOSSES[name]].detach()) for name in LOSSES}, {n: r.calls for n, r in recorders.items()}


def recorded_targets(calls):
    """What torchvision sampled, as our ``Targets``."""
    ((_, (positive, negative)),) = calls["fg_bg_sampler"]
    ((_, rpn_deltas),) = calls["encode"]
    ((_, (rois, _, labels, deltas)),) = calls["select_training_samples"]
    masks = [result for _, result in calls["project_masks_on_boxes"]]
    return Targets(
        rpn_labels=np.stack(
            [p.numpy().astype(np.int8) - n.numpy().astype(np.int8) for p, n in zip(positive, negative)]
        ),
        rpn_deltas=np.stack([d.numpy()[:, ORDER] for d in rpn_deltas]),
        rois=torch.cat(rois).numpy()[:, ORDER],
        image_index=np.repeat(np.arange(len(rois)), [len(r) for r in rois]),
        class_ids=torch.cat(labels).numpy(),
        deltas=torch.cat(deltas).numpy()[:, ORDER],
        masks=torch.cat(masks).numpy(),
    )


@pytest.mark.parametrize("mode", ["frozen", "train"])
def test_losses_and_gradients(torchvision_model, samples, mode, monkeypatch):
    """Every loss and the gradient of every tensor, with frozen batch norm and with the statistics of the batch."""
    theirs = copy.deepcopy(torchvision_model)
    ours = MaskRCNN(CONFIG.replace(bn_mode=mode), our_params(theirs.state_dict()))
    theirs.train()
    if mode == "frozen":
        theirs.backbone.eval()  # a batch norm in this state uses its running statistics
    expected, calls = step_theirs(theirs, samples, monkeypatch)

    targets = recorded_targets(calls)
    batch = make_batch(samples, ours.config, np.float64)
    losses, cache = ours.losses(batch, np.random.default_rng(0), targets=targets)
    grads = ours.backward(cache)
    assert (targets.rpn_labels == 1).sum() >= 6 and (targets.class_ids > 0).sum() >= 6 and len(targets.rois) == 32
    for name in LOSSES:
        assert expected[name] > 0.01
        assert abs(losses[name] - expected[name]) <= 1e-12 * expected[name], name  # measured: 1e-15, train 3e-14

    expected_grads = our_params({name: p.grad for name, p in theirs.named_parameters()})
    assert set(grads) == set(expected_grads) == {name for name in ours.params if trainable(name)}
    errors = {name: error(g, expected_grads[name]) for name, g in grads.items()}
    worst = max(errors, key=errors.get)
    assert errors[worst] <= 1e-11, (worst, errors[worst])  # measured: 2e-14 frozen, 2e-13 train
    for name, p in our_params(theirs.state_dict()).items():  # running statistics; all else is untouched
        assert error(ours.params[name], p) <= (1e-12 if mode == "train" else 0), name


def test_what_is_wanted_of_anchors_and_regions(torchvision_model, samples, monkeypatch):
    """Matching, before anything is drawn: labels of anchors, classes and deltas of RoIs, masks."""
    theirs = copy.deepcopy(torchvision_model).train()
    theirs.backbone.eval()
    _, calls = step_theirs(theirs, samples, monkeypatch)
    batch = make_batch(samples, CONFIG, np.float64)
    ((args, (labels, _)),) = calls["assign_targets_to_anchors"]
    ((_, (proposals, _)),) = calls["filter_proposals"]
    ((_, (matched, classes)),) = calls["assign_targets_to_proposals"]
    for n, anchors in enumerate(args[0]):
        anchors = anchors.numpy()[:, ORDER]
        found, _ = match_anchors(anchors, batch.gt_boxes[n], batch.gt_crowd[n], CONFIG)
        # theirs: 1 positive, 0 negative, -1 neutral
        np.testing.assert_array_equal(found, np.array([-1, 1, 0])[labels[n].numpy().astype(int)])

        # With room for all, every proposal is kept: the positives first
        everything = CONFIG.replace(rois_per_image=10**6, roi_positive_fraction=1.0)
        t = roi_targets(
            proposals[n].numpy()[:, ORDER], batch.gt_boxes[n], batch.gt_class_ids[n], batch.gt_masks[n],
            batch.gt_crowd[n], everything, np.random.default_rng(0),
        )  # fmt: skip
        gt_boxes = torch.from_numpy(batch.gt_boxes[n][:, ORDER])
        rois, wanted, owner = torch.cat([gt_boxes, proposals[n]]), classes[n].roll(3), matched[n].roll(3)
        by_class = np.concatenate([np.flatnonzero(wanted > 0), np.flatnonzero(wanted == 0)])
        positive = by_class[: int((wanted > 0).sum())]
        np.testing.assert_array_equal(t.rois, rois.numpy()[by_class][:, ORDER])
        np.testing.assert_array_equal(t.class_ids, wanted.numpy()[by_class])
        deltas = theirs.roi_heads.box_coder.encode([gt_boxes[owner[positive]]], [rois[positive]])[0].numpy()[:, ORDER]
        assert error(t.deltas[: len(positive)], deltas) <= 1e-12
        masks = torch.from_numpy(batch.gt_masks[n].astype(np.uint8))
        targets = roi_heads.project_masks_on_boxes(masks, rois[positive], owner[positive], 28)
        assert len(targets) > 3 and error(t.masks, targets.numpy()) <= 1e-12
