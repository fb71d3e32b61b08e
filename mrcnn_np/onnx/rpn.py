"""The proposal head over all levels, as ``mrcnn_np/rpn.py``: of a pyramid the same weights serve five times."""

from __future__ import annotations

from ..config import Config
from ..rpn import conv_names, logits_per_anchor
from .graph import Graph, Tensor
from .layers import conv_bn, to_nhwc


def rpn_head(g: Graph, pyramid: list[Tensor], config: Config) -> tuple[list[Tensor], list[Tensor]]:
    """Add the head.

    Parameters
    ----------
    g : Graph
    pyramid : list of str
        ``[p2, ..., p6]``, or the one map, (N, C, H_l, W_l).
    config : Config

    Returns
    -------
    logits : list of str
        A tensor for each level: (N, A_l) for sigmoid, (N, A_l, 2) for softmax.
    deltas : list of str
        (N, A_l, 4), still divided by ``rpn_box_std``.
    """
    shape = [0, -1] if logits_per_anchor(config) == 1 else [0, -1, 2]  # 0: as many as there are
    logits, deltas = [], []
    for map_name, hidden in zip(config.levels, pyramid):
        level = f".{map_name}"
        for name in conv_names(config):
            hidden = conv_bn(g, hidden, name, None, config, padding=1, level=level)
        objectness = conv_bn(g, hidden, "rpn.objectness", None, config, activate=False, level=level)
        box = conv_bn(g, hidden, "rpn.deltas", None, config, activate=False, level=level)
        # The last axis holds one anchor after the other, so a reshape turns cells into anchors
        logits.append(g.Reshape(to_nhwc(g, objectness), shape, name=f"rpn_logits{level}"))
        deltas.append(g.Reshape(to_nhwc(g, box), [0, -1, 4], name=f"rpn_deltas{level}"))
    return logits, deltas
