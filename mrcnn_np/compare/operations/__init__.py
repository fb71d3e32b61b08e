"""Every operation beside PyTorch's, forward and backward: ``mrcnn-np compare --ops``.

- ``case``: one operation at one size, and how tensors change layouts
- ``layers``: convolutions, norms, pooling, resizing, activations, losses
- ``regions``: features of regions, boxes, masks, the optimiser
- ``run``: the errors of all cases, their bounds, and the table
"""
