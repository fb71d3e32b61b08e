"""The compiled layers against their NumPy bodies: random shapes, either direction on either backend, the same bits."""

import importlib
import inspect
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from kernel_cases import INTERPRETED, check_pair, draw, error, scattered, threads, to_float64

import kernels
import kernels.cpu as cpu
from kernels import coverage
from kernels.cpu import activation as fast_activation
from kernels.cpu import group_norm as fast_group_norm
from kernels.cpu import linear as fast_linear
from kernels.cpu import losses as fast_losses
from kernels.cpu import norm as fast_norm
from kernels.cpu import optim as fast_optim
from kernels.cpu import pool as fast_pool
from kernels.cpu import resize as fast_resize
from kernels.cpu.machine.exponential import exp_negative, log_one_plus
from mrcnn_np.ops import activation, group_norm, linear, losses, norm, pool, resize
from mrcnn_np.training.optim import clip_gradients, global_norm, momentum_step

ACCELERATED = """
batch_norm batch_norm_backward batched_nms channel_sum clip_gradients conv2d conv2d_backward conv2d_fused
conv2d_fused_backward conv2d_transpose conv2d_transpose_backward crop_and_resize crop_and_resize_backward crop_masks
decode_boxes global_norm group_norm group_norm_backward iou label_anchors linear linear_backward max_pool2d
max_pool2d_backward momentum_step nms paste_into_boxes relu relu_backward resize_bilinear resize_bilinear_backward
resize_nearest roi_align roi_align_backward roi_pool roi_pool_backward sigmoid sigmoid_cross_entropy
sigmoid_cross_entropy_backward smooth_l1 smooth_l1_backward softmax softmax_cross_entropy softmax_cross_entropy_backward
upsample_nearest upsample_nearest_backward
""".split()  # noqa: SIM905  (a literal would take forty lines)
FEW_NUMBERS = "a few hundred boxes or labels: NumPy is done before the threads have started"
WITHOUT_CPU = {
    "clip_gradients": "its norm has a kernel, and gradients are rarely scaled",
    "resize_bilinear_backward": "no network that is trained resizes maps: it is there for gradient checks",
    "smooth_l1": FEW_NUMBERS,
    "smooth_l1_backward": FEW_NUMBERS,
    "softmax_cross_entropy_backward": FEW_NUMBERS,
}
LARGE = (1, 20, 20, 24) if INTERPRETED else (1, 64, 40, 24)  # more than one block
MAPS = [(2, 5, 7, 3), (1, 1, 1, 1), (1, 33, 18, 16), (3, 4, 4, 70), (2, 1, 9, 1), LARGE]
GROUPED = [(shape, groups) for shape in MAPS for groups in (1, shape[-1])]
GROUPED += [(LARGE, 8), ((40, 3, 3, 12), 4), ((300, 6), 2), ((3, 50, 8), 2)]


@pytest.fixture(autouse=True)
def no_size_is_too_small(monkeypatch):
    """Tests use small arrays, which the kernels otherwise leave to NumPy."""
    for module in (fast_activation, fast_group_norm, fast_linear, fast_losses, fast_norm, fast_pool, fast_resize):
        monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setattr(fast_linear, "SMALL_SUM", 0)
    monkeypatch.setattr(fast_activation, "SMALL_EXPONENTIAL", 0)


def test_coverage_is_complete():
    for module in ("model", "ops.roi_pool"):  # which import all that is accelerated
        importlib.import_module(f"mrcnn_np.{module}")
    table = coverage()
    assert sorted(table) == sorted(ACCELERATED)
    assert sorted([*cpu.KERNELS, *WITHOUT_CPU]) == sorted(ACCELERATED)
    assert all(backends["numpy"] for backends in table.values())
    assert {name for name, backends in table.items() if not backends["cpu"]} == set(WITHOUT_CPU)
    assert {name for name, backends in table.items() if not backends["cuda"]} == set()


def watched(run):
    """Return what ``watch`` reports of a function's calls."""
    seen = []
    with kernels.watch(lambda *call: seen.append(call)):
        run()
    return seen


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_watch_reports_outermost_calls(backend):
    grads = {"a": np.full(3, 2.0, np.float32)}
    x = draw(np.random.default_rng(0), 1, 4, 4, 2)

    def run():
        with kernels.use(backend):
            clip_gradients(grads, max_norm=1.0)  # calls global_norm
            results.append(activation.relu(x=x))

    results = []
    began = time.perf_counter()
    norm_call, relu_call = watched(run)
    assert norm_call[:3] == ("clip_gradients", (grads,), {"max_norm": 1.0})
    assert norm_call[3] == pytest.approx(12**0.5)
    name, args, kwargs, result, *_ = relu_call
    assert (name, args, list(kwargs)) == ("relu", (), ["x"]) and kwargs["x"] is x and result is results[0]
    times = [began, *norm_call[4:], *relu_call[4:], time.perf_counter()]
    assert times == sorted(times)


def test_watch_reports_a_call_whose_kernel_declines():
    wide = to_float64(draw(np.random.default_rng(0), 2, 3, 3, 4))
    assert fast_activation.relu(wide) is NotImplemented
    ((name, (x,), _, (y, _), *_),) = watched(lambda: activation.relu(wide))
    assert name == "relu" and x is wide and y.dtype == np.float64


def test_watch_ends_with_its_block():
    x, seen, other = draw(np.random.default_rng(0), 2, 3), [], []
    with pytest.raises(ValueError, match="columns"), kernels.watch(lambda *call: seen.append(call[0])):
        activation.relu(x)
        linear.linear(x, draw(np.random.default_rng(1), 4, 5))  # raises, and is not reported
    activation.relu(x)
    assert seen == ["relu"]
    with kernels.watch(lambda *call: seen.append(call[0])):
        with kernels.watch(lambda *call: other.append(call[0])):
            activation.relu(x)
        activation.sigmoid(x)
        worker = threading.Thread(target=activation.relu, args=(x,))  # another thread is not watched
        worker.start()
        worker.join()
    assert (seen, other) == (["relu", "sigmoid"], ["relu"])


def test_what_a_watcher_calls_is_not_watched():
    x, seen = draw(np.random.default_rng(0), 2, 3), []

    def record(name, *_):
        seen.append(name)
        activation.sigmoid(x)

    with kernels.watch(record):
        activation.relu(x)
        activation.relu(x)
    assert seen == ["relu", "relu"]


def test_a_kernel_stands_in_the_file_of_the_same_name():
    """``mrcnn_np/ops/pool.py`` has its kernels in ``kernels/cpu/pool.py``; no file there is without its module."""
    files = set()
    for name, kernel in cpu.KERNELS.items():
        module = kernels._registry[name].reference.__module__.split(".")[-1]
        assert kernel.__module__ == f"kernels.cpu.{module}", name
        assert kernel.__name__ == name
        files.add(module)
    assert files == {path.stem for path in Path(cpu.__file__).parent.glob("*.py")} - {"__init__"}


def test_operations_and_kernels_take_what_they_need_and_no_configuration():
    for name, kernel in cpu.KERNELS.items():
        mine, its = (inspect.signature(f).parameters for f in (kernel, kernels._registry[name].reference))
        assert [(p.name, p.kind, p.default) for p in mine.values()] == [
            (p.name, p.kind, p.default) for p in its.values()
        ], name
        assert "config" not in mine, name


def test_an_edited_helper_never_runs_stale(tmp_path, monkeypatch):
    # Compiled code is kept in a folder named after all sources: change any of them and it is another folder
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    copy = tmp_path / "kernels"
    shutil.copytree(Path(kernels.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cpu, "__file__", str(copy / "cpu" / "__init__.py"))
    seen = {cpu._cache_folder()}
    assert cpu._cache_folder() in seen
    files = sorted(copy.rglob("*.py"))
    assert {"contract.py", "cpu/linear.py", "cpu/machine/simd.py", "cpu/convolution/stem.py"} <= {
        path.relative_to(copy).as_posix() for path in files
    }
    for path in files:
        with path.open("a") as file:
            file.write("# changed\n")
        seen.add(cpu._cache_folder())
    assert len(seen) == 1 + len(files)
    (copy / "cpu" / "machine" / "new.py").write_text("x = 1\n")
    assert cpu._cache_folder() not in seen


@pytest.mark.parametrize("shape", MAPS)
def test_relu(shape):
    rng = np.random.default_rng(0)
    kernels = (fast_activation.relu, fast_activation.relu_backward)
    check_pair(activation.relu, activation.relu_backward, kernels, (draw(rng, *shape),), {}, rng)


def test_relu_keeps_nan():
    x = np.array([np.nan, -1, 2, -0.0, np.inf, -np.inf], np.float32)
    y, cache = fast_activation.relu(x)
    np.testing.assert_array_equal(y, [np.nan, 0, 2, 0, np.inf, 0])
    dx = fast_activation.relu_backward(np.ones(6, np.float32), cache)
    np.testing.assert_array_equal(dx, activation.relu_backward.reference(np.ones(6, np.float32), cache))


def test_exponential_functions():
    x = np.concatenate([np.linspace(-86.9, 0, 4001), [-1e-8, -np.inf, -100, np.nan]]).astype(np.float32)
    found = np.array([exp_negative(v) for v in x])
    np.testing.assert_allclose(found[:-3], np.exp(x[:-3].astype(np.float64)), rtol=2e-7)  # measured: 1.3e-7
    np.testing.assert_array_equal(found[-3:], [0, 0, np.nan])
    e = np.append(np.linspace(0, 1, 4001) ** 3, [1e-30, np.nan]).astype(np.float32)
    found = np.array([log_one_plus(v) for v in e])
    np.testing.assert_allclose(found, np.log1p(e.astype(np.float64)), rtol=3e-7)  # measured: 2.0e-7


EXTREME = np.array([[0, -0.0, 1e-30, 30, -30, 88, -88, 1e30, -1e30, np.inf, -np.inf, np.nan]], np.float32)


def check_forward(function, kernel, args, slack=8 * 1.2e-7):
    """Hold the results against float64's; with NaN and infinities where the reference has them."""
    with np.errstate(all="ignore"):
        exact, body = function.reference(*to_float64(args))[0], function.reference(*args)[0]
        results = [kernel(*args)[0], kernel(*(scattered(a) for a in args))[0]]
        for count in (1, 2):
            with threads(count):
                results.append(kernel(*args)[0])
    for y in results:
        assert y.dtype == np.float32 and y.shape == body.shape
        np.testing.assert_array_equal(y, results[0])
    np.testing.assert_array_equal(np.isfinite(results[0]), np.isfinite(body))
    np.testing.assert_array_equal(np.isnan(results[0]), np.isnan(body))
    finite = np.isfinite(body)
    if finite.any():
        assert error(results[0][finite], exact[finite]) <= 4 * error(body[finite], exact[finite]) + slack
    assert kernel(*to_float64(args)) is NotImplemented


@pytest.mark.parametrize("shape", [*MAPS, (1, 1), (7, 91), (300, 2), (5000,)])
def test_sigmoid_and_softmax(shape):
    x = 8 * draw(np.random.default_rng(10), *shape)
    for function, kernel in (
        (activation.sigmoid, fast_activation.sigmoid),
        (activation.softmax, fast_activation.softmax),
    ):
        for values in (x, EXTREME.copy(), np.repeat(EXTREME, 2, axis=0)[:, :6]):  # copies are watched
            check_forward(function, kernel, (values,))
            y, (kept,) = kernel(values)
            assert kept is y
    assert fast_activation.sigmoid(x[:0])[0].shape == (0, *shape[1:])
    assert fast_activation.softmax(np.zeros((3, 0), np.float32)) is NotImplemented


@pytest.mark.parametrize("shape", [(1, 1), (7, 91), (300, 2), (130, 17)])
def test_softmax_cross_entropy(shape):
    rng = np.random.default_rng(11)
    logits, labels = 8 * draw(rng, *shape), rng.integers(0, shape[1], shape[0])
    check_forward(losses.softmax_cross_entropy, fast_losses.softmax_cross_entropy, (logits, labels))
    _, (probabilities, kept) = fast_losses.softmax_cross_entropy(logits, labels)
    np.testing.assert_array_equal(probabilities, fast_activation.softmax(logits)[0])
    np.testing.assert_array_equal(kept, labels)
    for wrong in (labels - shape[1], labels + shape[1], labels.astype(np.float32), labels[:-1]):
        assert fast_losses.softmax_cross_entropy(logits, wrong) is NotImplemented
    assert fast_losses.softmax_cross_entropy(logits[:0], labels[:0]) is NotImplemented


@pytest.mark.parametrize("shape", [(1,), (7, 91), (3, 28, 28), (5000,)])
def test_sigmoid_cross_entropy(shape):
    rng = np.random.default_rng(12)
    x, t = 8 * draw(rng, *shape), np.round(rng.random(shape, np.float32), 1)
    check_forward(losses.sigmoid_cross_entropy, fast_losses.sigmoid_cross_entropy, (x, t))
    check_forward(losses.sigmoid_cross_entropy, fast_losses.sigmoid_cross_entropy, (EXTREME, np.full_like(EXTREME, 1)))
    kernels = (fast_losses.sigmoid_cross_entropy, fast_losses.sigmoid_cross_entropy_backward)
    check_pair(losses.sigmoid_cross_entropy, losses.sigmoid_cross_entropy_backward, kernels, (x, t), {}, rng)
    t.flat[-1] = 1.5
    assert kernels[0](x, t) is NotImplemented
    assert kernels[0](x, t > 0.5) is NotImplemented  # the reference converts
    assert kernels[1](x, (EXTREME, EXTREME)) is NotImplemented


@pytest.mark.parametrize("shape", [*MAPS, (300, 5), (1000, 2)])
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm(shape, training):
    rng = np.random.default_rng(1)
    x, c = draw(rng, *shape) * 3 + 2, shape[-1]
    gamma, beta, mean, var = draw(rng, c), draw(rng, c), draw(rng, c), rng.uniform(0.5, 2, c).astype(np.float32)
    kernels = (fast_norm.batch_norm, fast_norm.batch_norm_backward)

    def with_own_statistics(function):
        return lambda x, gamma, beta, mean, var, **options: function(x, gamma, beta, mean.copy(), var.copy(), **options)

    forward = with_own_statistics(norm.batch_norm)
    forward.reference = with_own_statistics(norm.batch_norm.reference)
    fast = (with_own_statistics(kernels[0]), kernels[1])
    # One pixel normalised by its own statistics has no gradient but that of rounding: leave it out
    if not training or x.size > 2 * c:
        args = (x, gamma, beta, mean, var)
        # slack: sums that cancel; measured 2e-6
        options = {"training": training, "eps": 1e-3}
        check_pair(forward, norm.batch_norm_backward, fast, args, options, rng, slack=4e-6)
    means = [(mean.copy(), var.copy()) for _ in range(2)]
    for function, (m, v) in zip((norm.batch_norm.reference, kernels[0]), means):
        function(x, gamma, beta, m, v, training=training)
    for mine, its in zip(means[1], means[0]):
        np.testing.assert_allclose(mine, its, rtol=2e-6, atol=2e-6)


def test_batch_statistics_far_from_zero():
    # Mean 1000 and deviation 1: a sum of squares would lose the variance to rounding
    rng = np.random.default_rng(2)
    x = draw(rng, 40, 50, 50, 4) + 1000
    mu, sigma2 = fast_norm._statistics(x.reshape(-1, 4), fast_norm.block_rows(4))
    np.testing.assert_allclose(mu, x.astype(np.float64).mean((0, 1, 2)), rtol=1e-7)
    np.testing.assert_allclose(sigma2, x.astype(np.float64).var((0, 1, 2)), rtol=2e-5)


@pytest.mark.parametrize(("shape", "groups"), GROUPED)
def test_group_norm(shape, groups):
    rng = np.random.default_rng(14)
    x, c = draw(rng, *shape) * 3 + 2, shape[-1]
    args, options = (x, draw(rng, c), draw(rng, c)), {"groups": groups, "eps": 1e-3}
    kernels = (fast_group_norm.group_norm, fast_group_norm.group_norm_backward)
    if x[0].size > 2 * groups:  # one or two numbers have no gradient but that of rounding
        pair = group_norm.group_norm, group_norm.group_norm_backward
        check_pair(*pair, kernels, args, options, rng, slack=4e-6)  # sums that cancel, as above
    exact = group_norm.group_norm.reference(*to_float64(args), **options)[1]
    _, cache = kernels[0](*args, **options)
    np.testing.assert_allclose(cache.mu, exact.mu, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(cache.inverse_std, exact.inverse_std, rtol=4e-6)
    assert cache.groups == groups and cache.x is x and cache.gamma is args[1]
    for wrong in (0, -1, c + 1, 1.5):
        assert kernels[0](*args, groups=wrong) is NotImplemented
    assert kernels[0](x, args[1][:-1], args[2], groups=groups) is NotImplemented
    assert kernels[0](x[:0], *args[1:], groups=groups) is NotImplemented


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_statistics_far_from_zero(groups):
    # Each map and each channel has a mean of its own, up to a thousand deviations away
    rng = np.random.default_rng(15)
    x = draw(rng, 3, 50, 50, 4) + np.float32([0, 1, 1, 2]) + np.float32([1000, 10, -1000])[:, None, None, None]
    _, cache = fast_group_norm.group_norm(x, np.ones(4, np.float32), np.zeros(4, np.float32), groups=groups, eps=0.0)
    cut = x.astype(np.float64).reshape(3, 2500, groups, -1)
    np.testing.assert_allclose(cache.mu[:, :: 4 // groups], cut.mean((1, 3)), rtol=2e-7)
    np.testing.assert_allclose(cache.inverse_std[:, :: 4 // groups], 1 / cut.std((1, 3)), rtol=2e-5)


@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 33, 18, 16), (1, 3, 3, 70), (2, 12, 9, 1)])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 2},
        {"kernel_size": (3, 2), "stride": (1, 3), "padding": ((0, 2), (1, 0))},
    ],
)
def test_max_pool(shape, options):
    rng = np.random.default_rng(3)
    kernels = (fast_pool.max_pool2d, fast_pool.max_pool2d_backward)
    x = np.round(draw(rng, *shape))  # with ties
    check_pair(pool.max_pool2d, pool.max_pool2d_backward, kernels, (x,), options, rng)
    x[0, 1, 1, 0], x[0, 2, 2, 0] = np.nan, -np.inf
    (y, (winner, *rest)), (want, (want_winner, *want_rest)) = (
        f(x, **options) for f in (fast_pool.max_pool2d, pool.max_pool2d.reference)
    )
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(winner, want_winner)
    assert winner.dtype == want_winner.dtype and rest == want_rest


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_upsample(shape, scale):
    rng = np.random.default_rng(4)
    kernels = (fast_resize.upsample_nearest, fast_resize.upsample_nearest_backward)
    args = (draw(rng, *shape),)
    check_pair(resize.upsample_nearest, resize.upsample_nearest_backward, kernels, args, {"scale": scale}, rng)


@pytest.mark.parametrize("size", [(1, 1), (13, 4), (7, 30), (5, 9)])
def test_resize(size):
    rng = np.random.default_rng(5)
    for image in (draw(rng, 5, 9, 3), draw(rng, 2, 5, 9, 1)):
        y, cache = fast_resize.resize_bilinear(image, size)
        want, want_cache = resize.resize_bilinear.reference(image, size)
        np.testing.assert_array_equal(y, want)  # rounded in the same places
        assert cache == want_cache
        assert fast_resize.resize_bilinear(image.astype(np.float64), size) is NotImplemented
    masks = rng.random((3, 5, 9)) > 0.5
    np.testing.assert_array_equal(fast_resize.resize_nearest(masks, size), resize.resize_nearest.reference(masks, size))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 2), (100, 70, 33), (7, 400, 130), (200, 5, 1100)])
def test_linear(shape):
    rng = np.random.default_rng(6)
    rows, c_in, c_out = shape
    kernels = (fast_linear.linear, fast_linear.linear_backward)
    args = (draw(rng, rows, c_in), draw(rng, c_in, c_out), draw(rng, c_out))
    check_pair(linear.linear, linear.linear_backward, kernels, args, {}, rng)
    check_pair(linear.linear, linear.linear_backward, kernels, args[:2], {}, rng)


def test_linear_adds_long_rows_exactly_enough():
    # The box head's first layer adds 12,544 products; one running sum would be off by ten times as much
    rng = np.random.default_rng(7)
    x, w = draw(rng, 20, 12544), draw(rng, 12544, 40)
    exact = x.astype(np.float64) @ w
    assert error(fast_linear.linear(x, w)[0], exact) <= 3 * error(x @ w, exact)


@pytest.mark.parametrize("shape", MAPS)
def test_channel_sum(shape):
    x = draw(np.random.default_rng(8), *shape)
    exact = x.astype(np.float64).sum((0, 1, 2))
    added = np.abs(x).sum((0, 1, 2)).max()
    assert np.abs(fast_linear.channel_sum(x) - exact).max() <= 1e-6 * added  # measured: 1e-7
    assert fast_linear.channel_sum(to_float64(x)) is NotImplemented


def test_optimiser_step_has_the_bits_of_the_reference():
    rng = np.random.default_rng(9)
    shapes = {"a.w": (3, 3, 70, 40), "a.b": (40,), "bn.gamma": (5,)}
    start = {name: draw(rng, *shape) for name, shape in shapes.items()}
    grads = {name: draw(rng, *shape) for name, shape in shapes.items()}
    how = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": {"a.w": 0.1, "a.b": 0.0, "bn.gamma": 0.02}}
    states = []
    apart = {name: scattered(g) for name, g in grads.items()}
    for step, g in ((momentum_step.reference, grads), *((fast_optim.momentum_step, g) for g in (grads, apart))):
        p, v = ({k: a.copy() for k, a in tensors.items()} for tensors in (start, grads))
        for _ in range(3):
            assert step(p, g, v, **how) is None
        states.append((p, v))
    for name in shapes:
        for mine, other, its in zip(states[1], states[2], states[0]):
            np.testing.assert_array_equal(mine[name], its[name])
            np.testing.assert_array_equal(other[name], its[name])
    wide, velocity = to_float64(start["a.b"]), to_float64(grads["a.b"])
    assert fast_optim.momentum_step({"a.b": wide}, grads, {"a.b": velocity}, **how) is NotImplemented
    assert fast_optim.global_norm(grads) == pytest.approx(global_norm.reference(grads), rel=1e-14)
    assert fast_optim.global_norm({"a": np.full(3, 1e30, np.float32)}) == pytest.approx(3**0.5 * 1e30, rel=1e-6)
    assert fast_optim.global_norm({}) == 0
