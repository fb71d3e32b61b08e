"""One training step and one detection of a small network on the GPU, for compute-sanitizer."""

import numpy as np

import kernels
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.synthetic import batch, picture
from mrcnn_np.training.loop import train_step
from mrcnn_np.training.optim import zero_velocity

SIDE = 64
config = presets.tiny(num_classes=4).replace(
    image_min_size=SIDE, image_max_size=SIDE, batch_size=1, rois_per_image=16, detection_score_threshold=0.0,
    proposals_post_nms_train=40, proposals_post_nms_test=20, detections_per_image=5,
)  # fmt: skip
with kernels.use("numpy"):
    ready, image = batch((SIDE, SIDE), config), picture((SIDE, SIDE))
model = MaskRCNN(config)
with kernels.use("cuda"):
    velocity = zero_velocity(model.params, config)
    record = train_step(model, ready, velocity, step=0, rng=np.random.default_rng(0))
    (found,) = model.detect(image)
print(record["loss"], len(found.scores))
