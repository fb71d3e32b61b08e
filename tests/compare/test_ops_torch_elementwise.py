"""Linear layer, activations, losses and the optimiser against PyTorch (bounds: ``agrees_with_torch.py``)."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")

import torch.nn.functional as F  # noqa: E402
from agrees_with_torch import check_float64, check_op  # noqa: E402

from mrcnn_np import presets  # noqa: E402
from mrcnn_np.ops.activation import (  # noqa: E402
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
)
from mrcnn_np.ops.linear import linear, linear_backward  # noqa: E402
from mrcnn_np.ops.losses import (  # noqa: E402
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_backward,
    smooth_l1,
    smooth_l1_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)
from mrcnn_np.training.optim import sgd_step, zero_velocity  # noqa: E402


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows, c_in, c_out", [(5, 7, 3), (1, 1, 1), (30, 1000, 20)])
def test_linear(rows, c_in, c_out, bias):
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((rows, c_in)), rng.standard_normal((c_in, c_out))]
    inputs += [rng.standard_normal(c_out)] if bias else []

    def ours(x, w, b=None):
        y, cache = linear(x, w, b)
        return y, lambda dy: linear_backward(dy, cache)[: 2 + bias]

    check_op("linear", ours, lambda x, w, b=None: F.linear(x, w.T, b), *inputs)


ACTIVATIONS = {
    "relu": (relu, relu_backward, F.relu),
    "sigmoid": (sigmoid, sigmoid_backward, torch.sigmoid),
    "softmax": (softmax, softmax_backward, lambda x: F.softmax(x, dim=-1)),
}


@pytest.mark.parametrize("spread", [1, 10, 60])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name, spread):
    forward, backward, theirs = ACTIVATIONS[name]
    x = spread * np.random.default_rng(1).standard_normal((50, 7))
    x[0], x[1] = 0, np.linspace(-100, 100, 7)  # the kink, and where exp would overflow float32

    def ours(x):
        y, cache = forward(x)
        return y, lambda dy: backward(dy, cache)

    check_op(name, ours, theirs, x)


@pytest.mark.parametrize("spread", [1, 20])
@pytest.mark.parametrize("classes", [2, 5, 91])
def test_softmax_cross_entropy(classes, spread):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, classes, 40)

    def ours(logits):
        loss, cache = softmax_cross_entropy(logits, labels)
        return loss, lambda dloss: softmax_cross_entropy_backward(dloss, cache)

    def theirs(logits):
        return F.cross_entropy(logits, torch.from_numpy(labels), reduction="none")

    check_op("softmax_cross_entropy", ours, theirs, spread * rng.standard_normal((40, classes)))


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("spread", [1, 30])
def test_sigmoid_cross_entropy(spread, soft):
    rng = np.random.default_rng(3)
    targets = rng.uniform(size=(6, 14, 14)).astype(np.float32)
    targets = targets if soft else np.round(targets)

    def ours(logits):
        loss, cache = sigmoid_cross_entropy(logits, targets)
        return loss, lambda dloss: sigmoid_cross_entropy_backward(dloss, cache)

    def theirs(logits):
        return F.binary_cross_entropy_with_logits(logits, torch.from_numpy(targets).to(logits.dtype), reduction="none")

    check_op("sigmoid_cross_entropy", ours, theirs, spread * rng.standard_normal(targets.shape))


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0, 3.0])
def test_smooth_l1(beta):
    rng = np.random.default_rng(4)
    target = rng.standard_normal((30, 4)).astype(np.float32)
    pred = target + 0.3 * rng.standard_normal((30, 4))
    pred[0] = target[0]  # the minimum, where |d| has no derivative
    pred[1] = target[1] + np.array([beta, -beta, 50, -50])  # where the parabola ends

    def ours(pred):
        loss, cache = smooth_l1(pred, target, beta=beta)
        return loss, lambda dloss: smooth_l1_backward(dloss, cache)

    def theirs(pred):
        return F.smooth_l1_loss(pred, torch.from_numpy(target).to(pred.dtype), beta=beta, reduction="none")

    check_op(f"smooth_l1 beta={beta:.2f}", ours, theirs, pred)


@pytest.mark.parametrize("no_decay", [(), ("*.b",)])
def test_five_steps_of_sgd(no_decay):
    """Momentum, weight decay (for all tensors, or not for the biases) and a rate that drops after three steps."""
    rng = np.random.default_rng(5)
    config = presets.tiny(momentum=0.9, weight_decay=0.01, no_decay=no_decay)
    params = {
        "a.w": rng.standard_normal((3, 3, 4, 5)),
        "a.b": rng.standard_normal(5),
        "a.gamma": rng.standard_normal(5),
    }
    tensors = {name: torch.from_numpy(p.copy()).requires_grad_() for name, p in params.items()}
    optimiser = torch.optim.SGD(
        [
            {"params": [t], "weight_decay": 0.0 if name.endswith(".b") and no_decay else 0.01}
            for name, t in tensors.items()
        ],
        lr=0.1,
        momentum=0.9,
    )
    velocity = zero_velocity(params, config)
    for step in range(5):
        rate = 0.1 if step < 3 else 0.01
        grads = {name: rng.standard_normal(p.shape) for name, p in params.items()}
        sgd_step(params, grads, velocity, learning_rate=rate, config=config)
        for group in optimiser.param_groups:
            group["lr"] = rate
        for name, t in tensors.items():
            t.grad = torch.from_numpy(grads[name].copy())
        optimiser.step()
        for name, t in tensors.items():
            check_float64(f"{name} after step {step + 1}", params[name], t.detach().numpy(), 1e-14)
            momentum = optimiser.state[t]["momentum_buffer"].numpy()
            check_float64(f"velocity of {name}, step {step + 1}", velocity[name], momentum, 1e-14)
