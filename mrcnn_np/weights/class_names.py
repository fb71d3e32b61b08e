"""Names of the 80 COCO classes. Weights do not hold them; a network with 81 or 91 classes is presumed to know COCO."""

from __future__ import annotations

#: in the order of COCO's ids
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
#: ids between 1 and 90 that COCO announced and never used
UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def coco_names(num_classes: int | None) -> tuple[str, ...]:
    """Return names for 81 classes (numbered without gaps) or 91 (COCO's own ids, as in torchvision), else nothing."""
    if num_classes == 81:
        return ("background", *COCO)
    if num_classes == 91:
        rest = iter(COCO)
        return ("background", *("unused" if i in UNUSED else next(rest) for i in range(1, 91)))
    return ()
