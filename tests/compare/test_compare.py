"""Comparing two traces, which needs no framework: ours against ours, spoiled by hand."""

import numpy as np
import pytest
from nets import make_sample, small_config

from mrcnn_np import MaskRCNN
from mrcnn_np.cli.main import main
from mrcnn_np.compare import run
from mrcnn_np.compare.comparison import SETTLED_BY, compare, settled_by
from mrcnn_np.compare.fixed_relus import params_with_fixed_relus
from mrcnn_np.compare.pictures import side_by_side
from mrcnn_np.compare.rounding import pair_boxes
from mrcnn_np.compare.rows import errors
from mrcnn_np.compare.trace import PER_PROPOSAL, trace_ours
from mrcnn_np.config import presets
from mrcnn_np.errors import UserError
from mrcnn_np.molding import make_batch
from mrcnn_np.synthetic import params_that_detect


@pytest.fixture(scope="module")
def image():
    return make_sample(np.random.default_rng(1), size=(64, 48)).image


@pytest.fixture(scope="module")
def trace(image):
    config = small_config(detection_score_threshold=0.05, detections_per_image=6)
    return trace_ours(MaskRCNN(config, params_that_detect(config)), image)


def spoiled(trace, **changes):
    return {name: changes.get(name, x).copy() for name, x in trace.items()}


# --- pairs and errors ---


def test_errors_by_hand():
    a, b = np.array([1.0, 2.0, -3.5]), np.array([1.0, 2.5, -4.0])
    assert errors(a, b) == (0.5, 0.125)
    assert errors(b, b) == (0, 0) and errors(np.zeros(0), np.zeros(0)) == (0, 0)
    assert errors(np.array([np.nan]), np.array([1.0])) == (np.inf, np.inf)
    assert errors(np.array([1.0]), np.array([0.0])) == (1, np.inf)


def test_pairs_by_overlap_score_and_class():
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [80, 80, 90, 90]])
    ours = {"b": boxes, "s": np.array([0.9, 0.8, 0.7, 0.6]), "c": np.array([1, 2, 1, 1])}
    order = [2, 1, 0]  # theirs: another order, the last box missing, and one of its own
    theirs = {"b": np.concatenate([boxes[order], [[20.0, 0, 30, 5]]]), "s": np.append(ours["s"][order], 0.6)}
    theirs["c"] = np.append(ours["c"][order], 1)
    mine, their = pair_boxes(ours, theirs, "b", "s", "c")
    assert mine.tolist() == [2, 1, 0] and their.tolist() == [0, 1, 2]
    # the same box twice: the score decides
    twins = {"b": boxes[[0, 0]], "s": np.array([0.3, 0.9])}
    assert pair_boxes(twins, {"b": boxes[[0, 0]], "s": np.array([0.9, 0.3])}, "b", "s", None)[0].tolist() == [1, 0]
    nothing = {"b": np.zeros((0, 4)), "s": np.zeros(0)}
    assert all(len(pair_boxes(nothing, other, "b", "s", None)[0]) == 0 for other in (twins, nothing))


# --- comparisons ---


def test_a_trace_agrees_with_itself(trace):
    result = compare(trace, trace)
    assert result.agree and [row.name for row in result.rows] == list(trace)
    assert all(row.max_abs == 0 and row.within and not row.note for row in result.rows)
    assert result.verdict == f"all {len(trace)} tensors agree within 1e-04"


@pytest.mark.parametrize("name", ["molded", "c3.0", "p4", "rpn_logits.p6", "class_logits", "mask_logits", "boxes"])
def test_the_first_difference_is_named(trace, name):
    changed = trace[name].copy()
    changed.reshape(-1)[0] += 1e-3 * np.abs(changed).max()
    result = compare(spoiled(trace, **{name: changed}), trace)
    assert result.first.name == name and not result.agree
    assert result.first.relative == pytest.approx(1e-3, rel=1e-2)
    assert result.verdict.startswith(f"first to differ: {name}, relative error 1.0e-03")
    assert compare(spoiled(trace, **{name: changed}), trace, 0.01).agree


def test_another_order_is_no_difference(trace):
    """Detections may trade places, with everything that belongs to them."""
    order = np.array([1, 0, *range(2, len(trace["boxes"]))])
    names = [n for n in trace if n.startswith(("detection_", "mask")) or n == "boxes"]
    result = compare(spoiled(trace, **{n: trace[n][order] for n in names}), trace)
    assert result.agree
    assert {row.name for row in result.rows if "2 in another order" in row.note} == set(names)


def test_a_missing_detection_is_a_difference(trace):
    names = [n for n in trace if n.startswith(("detection_", "mask")) or n == "boxes"]
    result = compare(spoiled(trace, **{n: trace[n][1:] for n in names}), trace)
    assert result.first.name == "detection_boxes" and "5 of 5 and 6 paired" in result.verdict
    assert all(row.within for row in result.rows if row.name in ("mask_logits", "masks"))  # of those that are there


def test_a_lost_proposal_may_explain_a_missing_detection(trace):
    """One of 200 proposals on one side only is no difference in float32, but what comes of it shows."""
    many = {name: np.concatenate([trace[name]] * 10) for name in PER_PROPOSAL}
    many["proposals"] = many["proposals"] + 500 * np.repeat(np.arange(10), len(trace["proposals"]))[:, None]
    found = [n for n in trace if n.startswith(("detection_", "mask")) or n == "boxes"]
    both = {name: many.get(name, x) for name, x in trace.items()}
    result = compare(spoiled(both, **{n: both[n][1:] for n in (*PER_PROPOSAL, *found)}), both)
    assert result.first.name == "detection_boxes"
    assert "or by the proposals that stand on one side only (199 of 199 and 200 paired" in result.verdict
    assert "on one side only" not in compare(spoiled(both, **{n: both[n][1:] for n in found}), both).verdict


def test_nothing_in_common(trace):
    far = trace["detection_boxes"] + 1000
    result = compare(spoiled(trace, detection_boxes=far), trace)
    rows = {row.name: row for row in result.rows}
    assert rows["detection_boxes"].within is False and rows["masks"].within is None
    assert "not compared" in str(result)


def test_classes_masks_and_shapes(trace):
    classes = trace["detection_classes"].copy()
    classes[0] = classes[0] % 3 + 1
    rows = {row.name: row for row in compare(spoiled(trace, detection_classes=classes), trace).rows}
    assert (rows["detection_classes"].max_abs, rows["detection_classes"].within) == (1, False)
    masks = trace["masks"].copy()
    masks[0, :2, :3] ^= True
    row = compare(spoiled(trace, masks=masks), trace).first
    assert row.name == "masks" and row.note == "6 pixels of 1 of 6 masks differ"
    left_to_rounding = np.zeros_like(masks)
    left_to_rounding[0, :2, :3] = True
    result = compare(spoiled(trace, masks=masks), trace, left_to_rounding={"masks": left_to_rounding})
    assert result.agree and result.verdict.endswith("6 pixels of 1 of 6 masks differ, 6 of them by rounding")
    masks[0] ^= True
    row = compare(spoiled(trace, masks=masks), trace, left_to_rounding={"masks": left_to_rounding}).first
    assert row.name == "masks" and row.max_abs > 0.9 and "0 of them by rounding" in row.note
    result = compare(spoiled(trace, p3=trace["p3"][:, 1:]), trace)
    assert result.first.name == "p3" and "shape" in result.first.note


def test_what_one_side_does_not_trace_is_said(trace):
    theirs = {name: x for name, x in trace.items() if name != "c1"}
    result = compare(trace, theirs | {"extra": np.zeros(2)}, names=("we", "they"))
    rows = {row.name: row for row in result.rows}
    assert rows["c1"].note == "not traced by they" and rows["extra"].note == "not traced by we"
    assert result.agree and rows["c1"].within is None


def test_every_tensor_has_a_hint(trace):
    for name in trace:
        assert settled_by(name) in SETTLED_BY.values(), name
    assert "stride_in_1x1" in settled_by("c4.3") and "mask_paste" in settled_by("masks")


# --- reports ---


def test_reports(trace, image, tmp_path):
    result = compare(trace, spoiled(trace, p2=trace["p2"] * 2), names=("we", "<they>"))
    result.image, result.info = image, {"a fact": "with a | and a <"}
    report = result.report()
    assert "| p2 |" in report.markdown() and "p2" in str(result) and "DIFFERS" in str(result)
    page = report.html()
    assert "&lt;they&gt;" in page and "<they>" not in page and "with a | and a &lt;" in page
    assert {path.name for path in report.write(tmp_path, "compare")} == {
        "compare.md", "compare.html", "compare.json", "side_by_side.png", "errors.png",
    }  # fmt: skip
    assert side_by_side(image, {"we": trace, "<they>": trace}).shape[2] == 3
    result.image = None
    page = result.report().html()
    assert "side_by_side" not in page and page.startswith("<!doctype html>")


# --- weights ---


def test_weights_with_fixed_relus():
    """Every ReLU of the network has channels that are on everywhere or off everywhere."""
    config = presets.torchvision(num_classes=3, backbone="resnet18", image_min_size=64, image_max_size=64)
    sample = make_sample(np.random.default_rng(0))
    images = make_batch([sample], config).images
    params = params_with_fixed_relus(config, images)
    seen = trace_ours(MaskRCNN(config.replace(detection_score_threshold=0.0), params), sample.image)
    for name in ("c1", "c2.0", "c2", "c3.0", "c5"):
        share = (seen[name] > 0).mean(axis=(0, 1, 2))
        assert set(np.unique(share)) <= {0.0, 1.0} and 0.2 < share.mean() < 0.8, name
    # what the heads say depends on where they look, if only a little
    assert np.ptp(seen["class_logits"], axis=0).min() > 1e-3 and np.ptp(seen["rpn_logits.p2"]) > 1e-2


# --- what users get wrong ---


def test_a_framework_that_is_not_installed(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    for framework, extra in (("torchvision", "compare"), ("keras", "compare-tf")):
        with pytest.raises(UserError, match=rf"not installed; pip install 'mrcnn-np\[{extra}\]'"):
            run.require(framework)
        assert main(["compare", "--with", framework, "--out", str(tmp_path)]) == 2
        assert f"mrcnn-np[{extra}]" in capsys.readouterr().err
    with pytest.raises(UserError, match="no framework 'jax'"):
        run.require("jax")


@pytest.mark.parametrize("arguments, message", [
    (["--random", "12"], "is no size"), (["--tolerance", "0"], "not a number above 0"),
    (["--tolerance", "x"], "not a number above 0"), (["--seed", "-1"], "not a whole number"),
    (["--train-steps", "0"], "at least 1"), (["a.png", "--random", "8x8"], "not allowed with"),
    (["--with", "jax"], "invalid choice"), (["--dtype", "float16"], "invalid choice"),
])  # fmt: skip
def test_options_that_make_no_sense(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", *arguments])
    assert stop.value.code == 2 and message in capsys.readouterr().err
