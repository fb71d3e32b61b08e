"""``compare_with("torchvision")``: all tensors agree, and whatever is broken is named where it breaks."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

from torchvision_case import IMAGE, SMALL, spoil  # noqa: E402

from mrcnn_np import presets  # noqa: E402
from mrcnn_np.compare.run import compare_with  # noqa: E402
from mrcnn_np.compare.torchvision.model import build, trace  # noqa: E402
from mrcnn_np.compare.trace import PER_DETECTION, PER_PROPOSAL  # noqa: E402
from mrcnn_np.errors import ConfigError  # noqa: E402
from mrcnn_np.synthetic import params_that_detect  # noqa: E402

torch.set_num_threads(1)
CONFIG = presets.torchvision(**SMALL)


@pytest.fixture(scope="module")
def params():
    return params_that_detect(CONFIG)


def compared(params, **options):
    return compare_with("torchvision", IMAGE, **{"config": CONFIG, "params": params, **options})


@pytest.mark.parametrize("teacher_forced", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_tensor_agrees(params, dtype, teacher_forced):
    """Measured: 3e-5 in float32, 6e-14 in float64."""
    result = compared(params, dtype=dtype, teacher_forced=teacher_forced)
    assert result.agree and all(row.within for row in result.rows), result
    names = [row.name for row in result.rows]
    assert names[0] == "molded" and names[-1] == "masks" and len(names) == 51
    assert {*PER_PROPOSAL, *PER_DETECTION, "c1", "c4.4", "p6", "rpn_deltas.p6", "anchors.p2"} <= set(names)
    assert len(result.ours["boxes"]) == 30


BROKEN = [
    # what our side alone does otherwise, the first tensor that must show it
    ({"pixel_mean": (0.485, 0.456, 0.416)}, "molded"),
    ({"bn_eps": 1e-3}, "c1"),
    ({"stem_pool_padding": "same"}, "c2.0"),
    ({"stride_in_1x1": True}, "c3.0"),
    ({"anchor_offset": 0.5}, "anchors.p2"),
    ({"anchor_rounding": False}, "anchors.p2"),
    ({"rpn_box_std": (0.9, 1.0, 1.0, 1.0)}, "proposals"),
    ({"proposals_nms_iou": 0.5}, "proposals"),
    ({"roi_aligned": True}, "box_features"),
    ({"head_box_std": (0.1, 0.1, 0.2, 0.25)}, "detection_boxes"),
    ({"detection_nms_iou": 0.3}, "detection_boxes"),
    ({"mask_paste": "grid_sample"}, "masks"),
]


@pytest.mark.parametrize("only_ours, first", BROKEN, ids=[next(iter(b)) for b, _ in BROKEN])
def test_a_broken_convention_is_named_where_it_breaks(params, only_ours, first):
    result = compared(params, only_ours=only_ours)
    assert not result.agree
    assert result.first.name == first, result
    (field,) = only_ours
    assert first in result.verdict and field in str(result)


@pytest.mark.parametrize("name, first", [
    ("backbone.c3.2.bn2.gamma", "c3.2"), ("backbone.c4.0.shortcut.conv.w", "c4.0"), ("fpn.output4.w", "p4"),
    ("fpn.lateral5.b", "p2"), ("rpn.objectness.b", "rpn_logits.p2"), ("rpn.deltas.w", "rpn_deltas.p2"),
    ("box_head.fc2.w", "class_logits"), ("box_head.deltas.b", "box_deltas"), ("mask_head.deconv.w", "mask_logits"),
])  # fmt: skip
def test_a_broken_weight_is_named_where_it_is_used(params, name, first, monkeypatch):
    spoil(monkeypatch, name, 0)
    result = compared(params, dtype="float64")
    assert result.first.name == first, result


def test_teacher_forcing_shows_agreement_below_a_difference(params):
    """Other proposals on our side: free, all that follows differs or cannot be paired; forced, it agrees."""
    only_ours = {"proposals_nms_iou": 0.5}
    free, forced = (compared(params, only_ours=only_ours, teacher_forced=t) for t in (False, True))
    assert free.first.name == forced.first.name == "proposals"
    rows = {row.name: row for row in forced.rows}
    after = forced.rows[forced.rows.index(rows["box_features"]) :]
    assert all(row.within for row in after) and len(after) == 11
    rows = {row.name: row for row in free.rows}
    assert "paired" in rows["box_features"].note


def test_traces_of_a_network_without_detections(params):
    config = CONFIG.replace(detection_score_threshold=1.0)
    result = compared(params, config=config)
    assert result.agree and result.ours["boxes"].shape == (0, 4) and result.theirs["masks"].shape == (0, 90, 130)
    assert "empty" in str(result)


@pytest.mark.parametrize("backbone", ["resnet18", "resnext50_32x4d"])
def test_other_backbones(backbone):
    config = CONFIG.replace(backbone=backbone)
    result = compared(None, config=config)
    assert result.agree, result
    assert ("c2.1" in result.ours) == (backbone != "resnet18")  # two blocks, or three


def test_a_network_that_torchvision_does_not_have(params):
    for changes, words in (({"backbone": "tiny"}, "backbone is 'tiny'"), ({"box_head": "conv"}, "has fc or conv_fc")):
        with pytest.raises(ConfigError, match=words):
            compared(None, config=CONFIG.replace(**changes))


def test_tracing_leaves_no_hook_behind(params):
    model = build(params, CONFIG)
    first = trace(params, CONFIG, IMAGE, model=model)
    assert not any(m._forward_hooks for m in model.modules()) and "filter_proposals" not in vars(model.rpn)
    again = trace(params, CONFIG, IMAGE, model=model)
    assert list(first) == list(again) and all(np.array_equal(first[name], again[name]) for name in first)


def test_report(params, tmp_path):
    result = compared(params, only_ours={"bn_eps": 1e-3})
    paths = {path.name: path for path in result.report().write(tmp_path, "compare")}
    assert set(paths) == {"compare.md", "compare.html", "compare.json", "side_by_side.png", "errors.png"}
    markdown = paths["compare.md"].read_text()
    assert "first to differ: c1" in markdown and "![side by side](side_by_side.png)" in markdown
    page = paths["compare.html"].read_text()
    assert page.count("data:image/png;base64,") == 2 and 'class="first"' in page
    assert "http" not in page and "<script" not in page  # it needs nothing else
    assert page.count("<tr") == len(result.rows) + 1
    part = result._repr_html_()
    assert part.startswith("<style>") and "<html" not in part and "data:image/png" in part
