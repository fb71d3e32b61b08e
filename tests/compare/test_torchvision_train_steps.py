"""Twenty steps of SGD with momentum and weight decay beside torchvision's; see ``training_steps.py``.

With ResNet-18 and a narrow pyramid: a third of the parameters to move. The gradients of ResNet-50 are compared in
``test_training.py``, its twenty steps by ``mrcnn-np compare --train-steps 20``.
"""

import json

import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

import kernels  # noqa: E402
from mrcnn_np import presets  # noqa: E402
from mrcnn_np.compare.fixed_relus import params_with_fixed_relus  # noqa: E402
from mrcnn_np.compare.torchvision import their_training, training_steps  # noqa: E402
from mrcnn_np.molding import make_batch  # noqa: E402
from mrcnn_np.objective import LOSSES  # noqa: E402
from mrcnn_np.params import trainable  # noqa: E402
from mrcnn_np.synthetic import params_that_detect, picture, sample_from  # noqa: E402

torch.set_num_threads(1)
CONFIG = presets.torchvision(
    num_classes=4, backbone="resnet18", fpn_channels=64, rpn_channels=64, image_min_size=48, image_max_size=64,
    rois_per_image=8,
    proposals_pre_nms_train=200, proposals_post_nms_train=100, learning_rate=2e-4, warmup_steps=0, weight_decay=1e-2,
)  # fmt: skip


@pytest.fixture(scope="module")
def samples():
    """One wide and one tall: both are padded to a common canvas."""
    return [sample_from(picture(size, i), CONFIG, seed=i) for i, size in enumerate(((48, 60), (60, 48)))]


def run(samples, dtype, steps, config=CONFIG):
    if dtype == "float32":
        params = params_with_fixed_relus(config, make_batch(samples, config).images)
    else:
        params = params_that_detect(config)
    params = {name: p.astype(dtype) for name, p in params.items()}
    result = training_steps.compare_training(params, config, samples, steps=steps)
    assert len(result.ours) == len(result.theirs) == steps
    assert {row.name for row in result.gradients} == {name for name in params if trainable(name)}
    assert {row.name for row in result.parameters} == set(params)
    assert sum(row.within is not None for row in result.gradients) >= 0.99 * len(result.gradients)
    assert all(value > 1e-3 for losses in result.ours for value in losses.values())
    return params, result


def check(result, losses, gradients):
    assert result.worst_loss[0] <= losses and result.worst_gradient.relative <= gradients, result
    assert result.agree


def test_twenty_steps_in_float64(samples):
    """Measured: losses 4e-14, gradients 1e-14, parameters 2e-13."""
    _, result = run(samples, "float64", 20)
    check(result, 1e-8, 1e-9)
    assert result.worst_parameter.relative <= 1e-8
    totals = [sum(losses.values()) for losses in result.ours]
    assert min(totals[15:]) < 0.9 * totals[0]  # something was learnt, so something was compared


def test_twenty_steps_in_float32(samples):
    """Measured: losses 1e-6, gradients 1e-4, parameters 1e-6."""
    _, result = run(samples, "float32", 20)
    check(result, 1e-3, 1e-3)
    assert result.ours[-1] != result.ours[0]


def test_steps_on_the_numpy_backend(samples):
    with kernels.use("numpy"):
        _, result = run(samples, "float32", 3)
    check(result, 1e-3, 1e-3)


def test_statistics_of_the_batch(samples):
    """Batch norm in training mode: the running statistics move alike, too."""
    _, result = run(samples, "float64", 3, CONFIG.replace(bn_mode="train"))
    check(result, 1e-8, 1e-9)
    rows = {row.name: row for row in result.parameters}
    assert rows["backbone.stem.bn.mean"].relative <= 1e-12 and rows["backbone.c5.1.bn2.var"].relative <= 1e-10


@pytest.mark.parametrize("wrong, loss", [
    ({"rpn_smooth_l1_beta": 1.0}, "rpn_box"), ({"head_smooth_l1_beta": 0.0}, "head_box"),
    ({"mask_target_rounded": True}, "head_mask"),
])  # fmt: skip
def test_a_broken_loss_is_found(samples, wrong, loss):
    """Our side alone: exactly this loss differs in the first step."""
    _, result = run(samples, "float64", 1, CONFIG.replace(**wrong))
    assert not result.agree
    assert [name for name in LOSSES if result.relative(0, name) > 1e-10] == [loss]
    assert loss in result.verdict


@pytest.mark.parametrize("wrong", [{"momentum": 0.8}, {"weight_decay": 0.0}, {"no_decay": ()}])
def test_a_broken_optimiser_is_found(samples, wrong, monkeypatch):
    """The first gradients still agree, what comes of them does not."""
    right = their_training.optimiser
    monkeypatch.setattr(their_training, "optimiser", lambda model, config: right(model, CONFIG))
    _, result = run(samples, "float64", 3, CONFIG.replace(**wrong))
    assert all(row.within is not False for row in result.gradients)
    assert result.worst_parameter.relative > 1e-8


def test_report(samples, tmp_path):
    _, result = run(samples, "float32", 2)
    markdown, page, facts = (path.read_text() for path in result.report().write(tmp_path, "training"))
    assert json.loads(facts)["verdict"] == result.verdict
    assert result.verdict in markdown and markdown.count("| head_mask |") == 2
    assert page.count("<tr") == 2 * 5 + len(result.gradients) + 2 and result.verdict in str(result)
    assert "<html" not in result._repr_html_()
