"""matterport's Mask R-CNN, put together from Keras layers, beside ours.

- ``model``: every tensor of a detection, or the losses and gradients of a batch
- ``network``: the layers with weights, by matterport's names
- ``regions``: the layers without: anchors, proposals, features of RoIs, detections
- ``losses``: the targets of the heads, and the five losses
- ``data``: what it does to images and masks in NumPy: molding, ground truth, targets of anchors, unmolding
"""
