"""The keypoint branch: for each object, where in its box its nose is, its left shoulder, its right knee.

A keypoint is predicted as a mask of one pixel: the head puts out a map of 56 x 56 cells for each kind of keypoint, and
a softmax over all cells says in which one it lies.

Points are ``(y, x)``, like the corners of boxes. In a data set they stand as they were annotated: COCO's whole numbers
name pixels. ``config.keypoint_offset`` is what is added to them to become positions, in which pixel i spans
[i, i + 1): half a pixel, if a number means the pixel's centre.

References
----------
He et al., "Mask R-CNN" (2017), section 5.
"""
