"""Which parts of a network stay as they are while the rest is fine-tuned.

A part is a name for patterns of ``config.frozen``. What the frameworks call it:

=============================================== ======================== =====================
torchvision, ``trainable_backbone_layers``      detectron2, FREEZE_AT    parts here
=============================================== ======================== =====================
5                                               0                        norm
4                                               1                        stem,norm
3, the default for pre-trained weights          2, the default           stem,c2,norm
2                                               3                        stem,c2,c3,norm
1                                               4                        stem,c2,c3,c4,norm
0                                               5                        backbone
=============================================== ======================== =====================

Both never train the batch norm of a pre-trained backbone (*frozen* batch norm), hence ``norm``. matterport's
``layers="heads"`` is ``backbone``, ``"3+"`` is ``stem,c2``, ``"4+"`` is ``stem,c2,c3``, ``"5+"`` is ``stem,c2,c3,c4``
and ``"all"`` is nothing: it keeps the running statistics, but trains scale and shift.

A VGG has the parts ``conv1`` .. ``conv5``; Faster R-CNN trains none of ``conv1,conv2``.

A frozen tensor has no velocity: it gets neither gradient nor weight decay. A batch norm whose running statistics match
a pattern uses them as they are, also under ``bn_mode="train"``. Stages that are frozen from the stem on are computed
as in inference, and the backward pass ends above them.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..config import Config
from ..errors import UserError

#: patterns of ``config.frozen`` by the name of the part, in the order of the data flow
PARTS = {
    "stem": "backbone.stem.*",
    "c2": "backbone.c2.*",
    "c3": "backbone.c3.*",
    "c4": "backbone.c4.*",
    "c5": "backbone.c5.*",
    "conv1": "backbone.conv1_*",
    "conv2": "backbone.conv2_*",
    "conv3": "backbone.conv3_*",
    "conv4": "backbone.conv4_*",
    "conv5": "backbone.conv5_*",
    "norm": "backbone.*.bn*",
    "backbone": "backbone.*",
    "fpn": "fpn.*",
    "rpn": "rpn.*",
    "box_head": "box_head.*",
    "mask_head": "mask_head.*",
    "keypoint_head": "keypoint_head.*",
}
#: of a ResNet, and of a VGG: what the names of their tensors begin with
STAGES = tuple(f"backbone.{stage}." for stage in ("stem", "c2", "c3", "c4", "c5"))
VGG_STAGES = tuple(f"backbone.conv{stage}_" for stage in (1, 2, 3, 4, 5))


def frozen_patterns(parts: str) -> tuple[str, ...]:
    """Return the patterns that freeze the parts of a list such as ``"stem,c2,norm"``.

    Raises
    ------
    UserError
        There is no such part.
    """
    names = [name.strip() for name in parts.split(",") if name.strip()]
    for name in names:
        if name not in PARTS:
            raise UserError(f"there is no part {name!r} to freeze; expected some of {', '.join(PARTS)}")
    return tuple(PARTS[name] for name in dict.fromkeys(names))


def frozen_stages(names: Mapping[str, object], config: Config) -> int:
    """Count the stages of the backbone, from the stem on, of which nothing changes in training.

    Parameters
    ----------
    names : mapping of str to anything
        The network's parameters.
    config : Config

    Returns
    -------
    int
        0: none; 1: the stem; 2: stem and C2; ... 5: the whole backbone, as detectron2 counts. Of a VGG 1: conv1; 2:
        conv1 and conv2 ...
    """
    from ..params import matches  # here, because the command line lists the parts before it imports NumPy

    if not config.frozen:
        return 0
    stages = VGG_STAGES if any(name.startswith(VGG_STAGES) for name in names) else STAGES
    for count, stage in enumerate(stages):
        if not all(matches(name, config.frozen) for name in names if name.startswith(stage)):
            return count
    return len(STAGES)
