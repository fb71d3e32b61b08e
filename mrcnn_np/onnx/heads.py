"""The class and box head, the mask head, and C5 before both, as ``mrcnn_np/heads.py``."""

from __future__ import annotations

from ..config import Config
from .backbone import stage
from .graph import Graph, Tensor
from .layers import TRANSPOSED, conv_bn, to_nhwc


def c5_head(g: Graph, features: Tensor, config: Config, *, level: str) -> Tensor:
    """Run the stage C5 on each RoI (``box_head="c5"``); for every other box head nothing happens.

    Parameters
    ----------
    g : Graph
    features : str
        (R, C, 14, 14).
    config : Config
    level : str
        As in ``conv_bn``: the same weights serve both heads.
    """
    return stage(g, features, 5, config, level=level) if config.box_head == "c5" else features


def box_head(g: Graph, features: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Classify each RoI and refine its box, once per class.

    Parameters
    ----------
    g : Graph
    features : str
        (R, C, 7, 7).
    config : Config

    Returns
    -------
    class_logits : str
        (R, K).
    box_deltas : str
        (R, K, 4), still divided by ``head_box_std``.
    """
    convs, padding, fcs = {
        "fc": (0, 0, 2), "conv": (2, 0, 0), "conv_fc": (config.box_head_convs, 1, 1), "c5": (0, 0, 0),
    }[config.box_head]  # fmt: skip
    x = features
    for i in range(1, convs + 1):
        x = conv_bn(g, x, f"box_head.conv{i}", f"box_head.bn{i}", config, padding=padding)
    if config.box_head == "c5":
        hidden = g.ReduceMean(x, axes=[2, 3], keepdims=0)
    else:
        hidden = g.Flatten(to_nhwc(g, x))  # the first matrix reads rows, then columns, then channels
    for i in range(1, fcs + 1):
        hidden = g.Relu(_linear(g, hidden, f"box_head.fc{i}"))
    logits = g.named(_linear(g, hidden, "box_head.class"), "class_logits")
    deltas = g.Reshape(_linear(g, hidden, "box_head.deltas"), [-1, config.num_classes, 4], name="box_deltas")
    return logits, deltas


def _linear(g: Graph, x: Tensor, name: str) -> Tensor:
    """Add ``x w + b``."""
    y: Tensor = g.Gemm(x, g.parameter(f"{name}.w"), g.parameter(f"{name}.b"), name=name)
    return y


def mask_head(g: Graph, features: Tensor, config: Config) -> Tensor:
    """Predict one mask per class for each RoI: ``mask_logits``, (R, 28, 28, K).

    Parameters
    ----------
    g : Graph
    features : str
        (R, C, 14, 14).
    config : Config
    """
    x = features
    for i in range(1, config.mask_head_convs + 1):
        bn = f"mask_head.bn{i}" if config.mask_head_norm else None
        x = conv_bn(g, x, f"mask_head.conv{i}", bn, config, padding=1)
    weights = g.parameter("mask_head.deconv.w", TRANSPOSED), g.parameter("mask_head.deconv.b")
    x = g.Relu(g.ConvTranspose(x, *weights, name="mask_head.deconv", strides=[2, 2]))
    x = conv_bn(g, x, "mask_head.logits", None, config, activate=False)
    return to_nhwc(g, x, name="mask_logits")
