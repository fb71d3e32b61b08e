"""What the comparisons with torchvision's small networks share: their sizes, a picture, and a weight that is wrong."""

import numpy as np

from mrcnn_np.compare import run
from mrcnn_np.synthetic import picture

SMALL = {
    "num_classes": 5, "image_min_size": 96, "image_max_size": 160, "proposals_pre_nms_test": 300,
    "proposals_post_nms_test": 150, "detections_per_image": 30,
}  # fmt: skip
IMAGE = picture((90, 130))


def spoil(monkeypatch, name, where):
    """Let one tensor of ours, alone, be off by a twentieth of its largest number, in some of its places."""

    def spoiled(weights):
        copied = {n: p.copy() for n, p in weights.items()}
        copied[name].reshape(-1)[where] += 0.05 * np.abs(copied[name]).max()
        return copied

    monkeypatch.setattr(run, "_copied", spoiled)
